//! End-to-end tests of the plugin in a real Nushell with a real registry.

mod examples;
mod patience;
mod questions;
mod reading;
mod writing;
