//! Blobs that can be opened more than once.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::StreamExt;

use super::stream::BlobStream;
use super::verification::Verification;
use crate::digest::Digest;
use crate::manifest::{Descriptor, MediaType};
use crate::reference::Reference;

/// Content of a [`Blob`] that can be opened any number of times.
pub trait Content: fmt::Debug + Send + Sync {
    /// Opens the content from its first byte.
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>>;
}

/// Descriptor and content of a blob. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blob {
    descriptor: Descriptor,
    pub(super) content: Arc<dyn Content>,
    origin: Option<Reference>,
}

impl Blob {
    /// Creates a blob from bytes in memory.
    pub fn from_bytes(media_type: MediaType, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let descriptor = Descriptor::new(media_type, Digest::sha256(&bytes), bytes.len() as u64);
        let content = Arc::new(BytesContent {
            descriptor: descriptor.clone(),
            bytes,
        });
        Self {
            descriptor,
            content,
            origin: None,
        }
    }

    /// Returns the empty JSON object `{}`, for required descriptors without content (image-spec, `manifest.md`,
    /// "Guidance for an Empty Descriptor").
    pub fn empty() -> Self {
        Self::from_bytes(MediaType::EMPTY, Bytes::from_static(b"{}"))
    }

    /// Creates a blob from any content, for example content that a copy reads from its source.
    pub fn from_content(descriptor: Descriptor, content: Arc<dyn Content>) -> Self {
        Self {
            descriptor,
            content,
            origin: None,
        }
    }

    /// Sets a repository that also has the blob. A target on the same registry can mount the blob from that repository.
    #[must_use]
    pub fn with_origin(self, origin: Option<Reference>) -> Self {
        Self { origin, ..self }
    }

    /// Returns a repository that also has the blob, or `None` if no such repository is known.
    pub fn origin(&self) -> Option<&Reference> {
        self.origin.as_ref()
    }

    /// Returns the descriptor.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Returns the descriptor for modification, to add annotations.
    pub fn descriptor_mut(&mut self) -> &mut Descriptor {
        &mut self.descriptor
    }

    /// Returns the digest.
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// Opens the content from its first byte.
    ///
    /// # Errors
    ///
    /// The error of the content if it cannot be opened. The stream itself ends with
    /// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) if the content no longer matches the digest.
    pub async fn open(&self) -> crate::Result<BlobStream> {
        self.content.open().await
    }
}

#[derive(Debug)]
struct BytesContent {
    descriptor: Descriptor,
    bytes: Bytes,
}

impl Content for BytesContent {
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
        let bytes = self.bytes.clone();
        let pieces = futures_util::stream::once(async { Ok(bytes) });
        // The digest was computed from these bytes, which cannot change.
        let stream =
            BlobStream::with_verification(&self.descriptor, pieces.boxed(), Verification::Done);
        Box::pin(async { Ok(stream) })
    }
}
