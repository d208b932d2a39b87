//! Stored content of an archive, and the names of its entries.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use super::index::{Section, Span};
use crate::digest::Digest;
use crate::file::open_regular;

/// Size of the read buffer, in bytes.
pub(super) const BUFFER_SIZE: usize = 256 << 10;

/// Content of a blob or manifest: in the archive, in a temporary file or in memory.
#[derive(Debug, Clone)]
pub(super) enum StoredContent {
    /// Section of the archive file.
    Archive(Arc<File>, Span),
    /// Temporary file and its size in bytes. The file is deleted when the last clone is dropped.
    TemporaryFile(Arc<tempfile::TempPath>, u64),
    /// Bytes in memory, for manifests and generated files.
    Memory(Bytes),
}

impl StoredContent {
    /// Returns the size of the content, in bytes.
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

/// Returns the digest in the name of an entry, or `None` if the entry is not a blob.
pub(super) fn digest_of(name: &str) -> Option<Digest> {
    let (algorithm, encoded) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{encoded}").parse().ok()
}
