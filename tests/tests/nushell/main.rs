//! The plugin in a real Nushell, against a real registry.

mod examples;
mod patience;
mod questions;
mod reading;
mod writing;
