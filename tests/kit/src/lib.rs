//! Test doubles for the tests of all crates in the workspace.
//!
//! The kit handles bytes, JSON and HTTP. It depends on no crate of the workspace: if client and test double shared
//! code, a test could pass although both have the same mistake.
//!
//! | module | contents |
//! | --- | --- |
//! | [`server`] | [`server::Server`], a scripted HTTP/1.1 or HTTP/2 server, optionally with TLS |
//! | [`registry`] | [`registry::FakeRegistry`], one repository in memory behind a scripted server, with switches for
//! quirks |
//! | [`certificates`] | certificate authorities and certificates that they sign |
//! | [`failures`] | a fake registry whose repositories each fail in a different way |
//! | [`loopback`] | single HTTP/1.1 requests, and ports that refuse connections, for tests that have no async runtime |
//! | [`proxy`] | [`proxy::Proxy`], an HTTP/1.1 proxy with an asynchronous handler |
//! | [`recorder`] | [`recorder::Recorder`], a proxy that records every request |
//! | [`tcp`] | [`tcp::TcpServer`], a plain TCP server, for connections that are interrupted before HTTP |
//!
//! Servers and tasks stop when the value that started them is dropped, even if the test panics.

// If a test double cannot be set up, it panics, and the panic fails the test as intended.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used)]

pub mod certificates;
pub mod failures;
pub mod loopback;
pub mod proxy;
pub mod recorder;
pub mod registry;
pub mod server;
pub mod tcp;

use sha2::Digest as _;

/// Returns the SHA-256 digest of the bytes, as `sha256:HEX`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let hash = bytes::Bytes::copy_from_slice(&sha2::Sha256::digest(bytes));
    format!("sha256:{hash:x}")
}
