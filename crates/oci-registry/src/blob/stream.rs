//! Stream of a blob, verified while it is read.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, Stream, StreamExt, TryStreamExt};
use snafu::Snafu;

use super::verification::{Verification, Verifier};
use crate::digest::{Digest, Hasher};
use crate::error::{ErrorKind, Failure};
use crate::manifest::Descriptor;

/// Error for content that is larger than the caller's limit.
#[derive(Debug, Snafu)]
#[snafu(display(
    "failed to read {digest}: its size of {size} bytes exceeds the maximum of {limit} bytes"
))]
struct SizeLimitExceeded {
    digest: Digest,
    size: u64,
    limit: usize,
}

impl Failure for SizeLimitExceeded {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Protocol
    }
}

/// Stream of a blob's bytes that is verified while it is read.
///
/// The stream yields at most as many bytes as the descriptor states. If there are fewer or more bytes, or if their
/// digest differs, the last item is an error, so every caller that reads to the end receives it. The stream buffers at
/// most one chunk.
pub struct BlobStream {
    pub(super) inner: BoxStream<'static, crate::Result<Bytes>>,
    pub(super) digest: Digest,
    size: u64,
    pub(super) verification: Verification,
}

/// First bytes of a blob from an interrupted download. The download resumes after these bytes.
#[derive(Debug, Clone)]
pub struct PartialBlob {
    pub(super) hasher: Hasher,
    pub(super) size: u64,
}

impl PartialBlob {
    /// Returns the digest of these bytes, computed with the algorithm of the expected digest.
    pub fn digest(self) -> Digest {
        self.hasher.finish()
    }

    /// Returns the number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl BlobStream {
    /// Creates a stream that verifies `inner` against the descriptor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the algorithm of the digest is unknown.
    pub fn new(
        descriptor: &Descriptor,
        inner: BoxStream<'static, crate::Result<Bytes>>,
    ) -> crate::Result<Self> {
        let verification = Verification::InStream(Box::new(Verifier::new(descriptor)?));
        Ok(Self::with_verification(descriptor, inner, verification))
    }

    pub(super) fn with_verification(
        descriptor: &Descriptor,
        inner: BoxStream<'static, crate::Result<Bytes>>,
        verification: Verification,
    ) -> Self {
        Self {
            inner,
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            verification,
        }
    }

    /// Creates a stream of the rest of a blob, after the bytes of `partial`. The first bytes and the rest are verified
    /// together.
    ///
    /// # Errors
    ///
    /// The errors of [`BlobStream::new`].
    pub fn from_partial(
        descriptor: &Descriptor,
        partial: PartialBlob,
        rest: BoxStream<'static, crate::Result<Bytes>>,
    ) -> crate::Result<Self> {
        let verifier = Verifier::from_partial(descriptor, partial.hasher, partial.size)?;
        let verification = Verification::InStream(Box::new(verifier));
        Ok(Self::with_verification(descriptor, rest, verification))
    }

    /// Maps errors that occur while the bytes are read. Errors of the verification are not changed.
    pub(crate) fn map_read_errors(
        mut self,
        change: impl Fn(crate::Error) -> crate::Error + Send + 'static,
    ) -> Self {
        self.inner = self.inner.map_err(change).boxed();
        self
    }

    /// Returns the stream without its first `count` bytes.
    pub(crate) fn skip_bytes(mut self, mut count: u64) -> BoxStream<'static, crate::Result<Bytes>> {
        let pieces = futures_util::stream::poll_fn(move |context| {
            loop {
                let piece = std::task::ready!(self.poll_next_unpin(context));
                let Some(Ok(mut bytes)) = piece else {
                    return Poll::Ready(piece);
                };
                let dropped = usize::try_from(count)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let rest = bytes.split_off(dropped);
                count -= dropped as u64;
                if !rest.is_empty() {
                    return Poll::Ready(Some(Ok(rest)));
                }
            }
        });
        pieces.boxed()
    }

    /// Returns the size of the whole blob in bytes, as stated by the descriptor.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the whole stream into memory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] if the descriptor states more than `limit` bytes; otherwise the error of the stream.
    pub async fn read_to_end(mut self, limit: usize) -> crate::Result<Bytes> {
        if self.size > limit as u64 {
            return Err(SizeLimitExceeded {
                digest: self.digest,
                size: self.size,
                limit,
            }
            .into());
        }
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes.freeze())
    }
}

impl Stream for BlobStream {
    type Item = crate::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if matches!(this.verification, Verification::Ended) {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(this.inner.poll_next_unpin(context));
        let checked = match piece {
            Some(Ok(bytes)) => match this.verification.update(&bytes, &this.digest, this.size) {
                Ok(()) => return Poll::Ready(Some(Ok(bytes))),
                Err(error) => Err(error.into()),
            },
            Some(Err(error)) => Err(error),
            None => this
                .verification
                .finish(&this.digest, this.size)
                .map_err(crate::Error::from),
        };
        this.verification = Verification::Ended;
        Poll::Ready(checked.err().map(Err))
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::blob::content::Blob;
    use crate::manifest::MediaType;

    pub(in crate::blob) fn stream(expected: &[u8], pieces: &[&'static [u8]]) -> BlobStream {
        let descriptor = Descriptor::new(
            MediaType::OCTET_STREAM,
            Digest::sha256(expected),
            expected.len() as u64,
        );
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok(Bytes::from_static(piece)))
            .collect();
        BlobStream::new(&descriptor, futures_util::stream::iter(pieces).boxed()).unwrap()
    }

    pub(in crate::blob) async fn read_all(stream: BlobStream) -> Result<Bytes, String> {
        stream.read_to_end(1000).await.map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::Mismatch);
            error.to_string()
        })
    }

    #[tokio::test]
    async fn stream_of_wrong_content_ends_with_mismatch() {
        assert_eq!(
            read_all(stream(b"abc", &[b"a", b"", b"bc"])).await.unwrap(),
            "abc"
        );
        assert_eq!(read_all(stream(b"", &[])).await.unwrap(), "");
        assert!(
            read_all(stream(b"abc", &[b"a"]))
                .await
                .unwrap_err()
                .contains("ended after 1 of 3 bytes")
        );
        assert!(
            read_all(stream(b"abc", &[b"abc", b"d"]))
                .await
                .unwrap_err()
                .contains("is longer than 3 bytes")
        );
        assert!(
            read_all(stream(b"abc", &[b"abd"]))
                .await
                .unwrap_err()
                .contains("received sha256:")
        );
    }

    #[tokio::test]
    async fn blob_over_limit_is_rejected() {
        let error = stream(b"abc", &[b"abc"]).read_to_end(2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }

    #[tokio::test]
    async fn blob_from_directory_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let error = Blob::from_file(MediaType::OCTET_STREAM, directory.path())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
