//! Test doubles for the tests of every crate of the workspace.
//!
//! The kit handles bytes, JSON and HTTP. It depends on no crate of the workspace, so a test cannot pass because the
//! client and the test double share a mistake.
//!
//! | module | contents |
//! | --- | --- |
//! | [`server`] | [`server::Server`], a scripted server: HTTP/1.1 or HTTP/2, with or without TLS |
//! | [`registry`] | [`registry::FakeRegistry`], one repository in memory behind such a server, with switches for quirks |
//! | [`certificates`] | certificate authorities and the certificates that they sign |
//! | [`failures`] | a fake registry whose repositories each fail in a different way |
//! | [`loopback`] | single HTTP/1.1 requests and ports without a listener, for tests without a runtime |
//! | [`proxy`] | [`proxy::Proxy`], an HTTP/1.1 proxy with an asynchronous handler |
//! | [`recorder`] | [`recorder::Recorder`], a proxy that records the requests that pass through it |
//! | [`tcp`] | [`tcp::TcpServer`], a server without a protocol, for connections that are interrupted before HTTP |
//!
//! Servers and tasks end when the value that started them is dropped, also when the test panics.

// A panic fails the test, which is intended when a test double cannot be set up.
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

/// Returns the SHA-256 digest of some bytes, as `sha256:HEX`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let hash = bytes::Bytes::copy_from_slice(&sha2::Sha256::digest(bytes));
    format!("sha256:{hash:x}")
}
