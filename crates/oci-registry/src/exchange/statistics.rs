//! Counts of requests and bytes.

use std::sync::atomic::AtomicU64;

/// Requests and bytes of an exchange so far.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    /// Number of requests, each attempt and each redirect included.
    pub(crate) requests: AtomicU64,
    /// Bytes of request bodies.
    pub(crate) sent: AtomicU64,
    /// Bytes of response bodies.
    pub(crate) received: AtomicU64,
}
