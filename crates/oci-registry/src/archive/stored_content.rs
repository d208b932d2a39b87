//! Storage of the content of an archive, and the names of its entries.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use super::index::{Section, Span};
use crate::digest::Digest;
use crate::file::open_regular;

/// Size of the read buffer, in bytes.
pub(super) const BUFFER_SIZE: usize = 256 << 10;

/// Storage of a blob or manifest.
#[derive(Debug, Clone)]
pub(super) enum StoredContent {
    /// In the archive file.
    Archive(Arc<File>, Span),
    /// In a temporary file, deleted with the last clone.
    TemporaryFile(Arc<tempfile::TempPath>, u64),
    /// In memory, for manifests.
    Memory(Bytes),
}

impl StoredContent {
    /// Returns the size in bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Archive(_, span) => span.size,
            Self::TemporaryFile(_, size) => *size,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Opens the content at its first byte.
    pub(super) fn open(&self) -> std::io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Archive(file, span) => Box::new(Section::new(file, *span)),
            Self::TemporaryFile(path, _) => Box::new(open_regular(path)?),
            Self::Memory(bytes) => Box::new(&bytes[..]),
        })
    }
}

/// Returns the name of a blob's entry.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm_name(), digest.encoded())
}

/// Returns the digest in the name of a blob's entry, or `None` for another entry.
pub(super) fn digest_of(name: &str) -> Option<Digest> {
    let (algorithm, encoded) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{encoded}").parse().ok()
}
