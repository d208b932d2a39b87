//! Limits on the size of the graph of one artifact.
//!
//! A traversal keeps all pending descriptors in memory, and a small document can list thousands of them. The successors
//! of a manifest are therefore counted as soon as the manifest is read, before any of them is fetched.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::manifest::Manifest;

/// Maximum depth of nested indexes.
pub(crate) const MAX_DEPTH: usize = 4;

/// Maximum number of manifests in a graph.
pub(crate) const MAX_MANIFESTS: usize = 10_000;

/// Maximum number of blobs in a graph. A blob counts once for each manifest that refers to it.
const MAX_BLOBS: u64 = 200_000;

/// Maximum total size of the manifests in a graph, in bytes.
const MAX_BYTES: u64 = 128 << 20;

/// Numbers of manifests, blobs and bytes in a graph, counted while its manifests are read.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    manifests: AtomicU64,
    blobs: AtomicU64,
    bytes: AtomicU64,
}

/// Limit that a graph exceeds.
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
    /// Counts the successors of a manifest. Fails if the graph exceeds a limit.
    pub(crate) fn count_successors(&self, manifest: &Manifest) -> Result<(), Excess> {
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
        // The root also counts as a manifest, but is not a successor.
        if !take(&self.manifests, count, MAX_MANIFESTS as u64 - 1) {
            return Err(Excess::Manifests);
        }
        if !take(&self.bytes, bytes, MAX_BYTES) {
            return Err(Excess::Bytes);
        }
        Ok(())
    }
}
