//! placeholder

mod cargo;

fn main() {}
