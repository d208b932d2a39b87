//! How large the graph of one artifact may be.
//!
//! A graph is as large as its registry says, and whoever goes through it holds what is still to be done. So it is counted
//! when it is announced, before any of it is asked for: a few small documents cannot make a reader fetch or hold a
//! thousand times as much.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::manifest::Manifest;

/// Indexes within indexes deeper than this are refused.
pub(crate) const MAX_DEPTH: usize = 4;

/// Graphs of more manifests than this are refused.
pub(crate) const MAX_MANIFESTS: usize = 10_000;

/// Graphs of more blobs than this are refused, each counted for each manifest that names it.
const MAX_BLOBS: u64 = 200_000;

/// Graphs whose manifests have more bytes together are refused.
const MAX_BYTES: u64 = 128 << 20;

/// What a graph has announced so far.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    manifests: AtomicU64,
    blobs: AtomicU64,
    bytes: AtomicU64,
}

/// What a graph has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    Manifests,
    Blobs,
    Bytes,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifests => write!(f, "more than {MAX_MANIFESTS} manifests"),
            Self::Blobs => write!(f, "more than {MAX_BLOBS} blobs"),
            Self::Bytes => write!(f, "more than {} MiB of manifests", MAX_BYTES >> 20),
        }
    }
}

impl Budget {
    /// Counts what a manifest names.
    pub(crate) fn announce(&self, manifest: &Manifest) -> Result<(), Excess> {
        let successors = manifest.successors();
        let count = successors.len() as u64;
        let take = |counter: &AtomicU64, amount: u64, limit: u64| {
            let before = counter.fetch_add(amount.min(limit + 1), Ordering::Relaxed);
            before.saturating_add(amount) <= limit
        };
        if manifest.as_index().is_none() {
            let fits = take(&self.blobs, count, MAX_BLOBS);
            return fits.then_some(()).ok_or(Excess::Blobs);
        }
        let bytes = successors
            .iter()
            .fold(0_u64, |sum, entry| sum.saturating_add(entry.size));
        // The root is a manifest, too.
        if !take(&self.manifests, count, MAX_MANIFESTS as u64 - 1) {
            return Err(Excess::Manifests);
        }
        if !take(&self.bytes, bytes, MAX_BYTES) {
            return Err(Excess::Bytes);
        }
        Ok(())
    }
}
