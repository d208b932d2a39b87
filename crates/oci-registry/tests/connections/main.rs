//! How registries are reached: by way of whom, trusting whom, as whom.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certificates;
mod h2_faults;
mod proxies;
#[path = "../scripted/mod.rs"]
mod scripted;
