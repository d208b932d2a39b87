//! Protocol tests of the client with scripted servers, a registry in memory, and local targets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod cache;
mod certificates;
mod copies;
mod credentials;
mod deletion;
mod digests;
mod downloads;
mod fixtures;
mod http2;
mod lists;
mod manifests;
mod names;
mod origins;
mod proxies;
mod quirks;
mod referrers;
mod retries;
mod stalls;
mod tokens;
mod uploads;
