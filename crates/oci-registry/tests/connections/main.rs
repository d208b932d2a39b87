//! How registries are reached: by way of whom, trusting whom, as whom.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certificates;
mod proxies;
#[allow(dead_code, reason = "shared: no suite needs all of it")]
#[path = "../scripted/mod.rs"]
mod scripted;
