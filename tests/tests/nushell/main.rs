//! End-to-end tests of the plugin in a real Nushell, with a real registry.

mod examples;
mod queries;
mod reading;
mod timeouts;
mod writing;
