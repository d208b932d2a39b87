//! Test doubles for the tests of every crate of the workspace.
//!
//! The kit knows bytes, JSON and HTTP. It depends on no crate of the workspace, so a test cannot pass because the client
//! and the test double share a mistake.
//!
//! | module | contents |
//! | --- | --- |
//! | [`server`] | [`server::Server`], a server whose responses a closure decides: HTTP/1.1 or HTTP/2, with or without TLS |
//! | [`registry`] | [`registry::FakeRegistry`], one repository in memory behind such a server, with switches for quirks |
//! | [`certificates`] | certificate authorities and the certificates that they sign |
//! | [`failures`] | a registry whose repositories fail, each in one way |
//! | [`loopback`] | single HTTP/1.1 requests and ports without a listener, for tests without a runtime |
//! | [`proxy`] | [`proxy::Proxy`], an HTTP/1.1 proxy with an asynchronous handler |
//! | [`recorder`] | [`recorder::Recorder`], a proxy that records the requests that pass through it |
//! | [`tcp`] | [`tcp::TcpServer`], a server without a protocol, for connections that break off before HTTP |
//!
//! Everything that a value started ends when the value is dropped, also when the test panics.

// A test double that cannot be set up fails the test, and a panic is how a test fails.
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

/// Returns the SHA-256 digest of some bytes, as registries write it.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let hash = bytes::Bytes::copy_from_slice(&sha2::Sha256::digest(bytes));
    format!("sha256:{hash:x}")
}
