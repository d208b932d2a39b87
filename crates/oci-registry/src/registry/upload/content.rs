//! Content of an upload, in one request or several.
//!
//! Each attempt of a request opens the content again. If the content is sent in several requests, it is read once: each
//! part continues at the end of the previous part, unless the previous part failed. After a failure the content is
//! opened again and read up to the start of the part, because the digest is computed over the whole content.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};

use crate::blob::Blob;
use crate::blob::file::{CHUNK_SIZE, UnhashedFile};
use crate::exchange::body::RequestBody;

/// Content of an upload. Its digest is verified or computed before its last byte is sent.
#[derive(Debug)]
pub(super) struct UploadContent {
    source: UploadSource,
    /// Position at the end of the last part, where the next part continues.
    position: Mutex<Option<ReadPosition>>,
}

#[derive(Debug)]
enum UploadSource {
    Known(Box<Blob>),
    Unhashed(Arc<UnhashedFile>),
}

/// Position in opened content.
struct ReadPosition {
    at: u64,
    pieces: BoxStream<'static, crate::Result<Bytes>>,
    /// Bytes that were read beyond the position.
    read_ahead: Bytes,
}

impl fmt::Debug for ReadPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadPosition")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl UploadContent {
    /// Returns the content of a blob, verified while it is sent.
    pub(super) fn from_blob(blob: Blob) -> Arc<Self> {
        Self::new(UploadSource::Known(Box::new(blob)))
    }

    /// Returns the content of a file, whose digest is computed while it is sent.
    pub(super) fn from_file(file: Arc<UnhashedFile>) -> Arc<Self> {
        Self::new(UploadSource::Unhashed(file))
    }

    fn new(source: UploadSource) -> Arc<Self> {
        Arc::new(Self {
            source,
            position: Mutex::default(),
        })
    }

    /// Returns the size in bytes.
    pub(super) fn size(&self) -> u64 {
        match &self.source {
            UploadSource::Known(blob) => blob.size(),
            UploadSource::Unhashed(file) => file.size(),
        }
    }

    /// Returns the part of the content that begins at `from`. The part has `length` bytes, or fewer at the end of the
    /// content.
    pub(super) fn part(self: &Arc<Self>, from: u64, length: u64) -> UploadPart {
        UploadPart {
            length: length.min(self.size().saturating_sub(from)),
            content: Arc::clone(self),
            from,
        }
    }

    /// Returns the content from an offset on. If the last part ended at this offset, reading continues there; otherwise
    /// the content is opened again.
    async fn open_at(&self, from: u64) -> crate::Result<ReadPosition> {
        let left = self
            .position
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(position) = left.filter(|position| position.at == from) {
            return Ok(position);
        }
        let mut position = ReadPosition {
            at: 0,
            pieces: match &self.source {
                UploadSource::Known(blob) => blob.open().await?.boxed(),
                UploadSource::Unhashed(file) => file.open().await?,
            },
            read_ahead: Bytes::new(),
        };
        while position.at < from {
            if position.next(from - position.at).await?.is_none() {
                break;
            }
        }
        Ok(position)
    }

    fn store_position(&self, position: ReadPosition) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
    }
}

impl ReadPosition {
    /// Reads the next bytes, at most `limit`.
    async fn next(&mut self, limit: u64) -> crate::Result<Option<Bytes>> {
        while self.read_ahead.is_empty() {
            match self.pieces.next().await {
                Some(piece) => self.read_ahead = piece?,
                None => return Ok(None),
            }
        }
        // Content in memory arrives as one chunk. If chunks were not limited, all of it would count as sent with its
        // first byte.
        let limit = usize::try_from(limit).unwrap_or(CHUNK_SIZE).min(CHUNK_SIZE);
        let piece = self.read_ahead.split_to(limit.min(self.read_ahead.len()));
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }
}

/// Part of the content of an upload: the body of one request.
#[derive(Debug, Clone)]
pub(super) struct UploadPart {
    content: Arc<UploadContent>,
    from: u64,
    length: u64,
}

#[async_trait]
impl RequestBody for UploadPart {
    fn length(&self) -> u64 {
        self.length
    }

    /// Opens the part at its first byte. The stream of the last part fails if the size or digest of the content does
    /// not match.
    async fn open(&self) -> crate::Result<BoxStream<'static, crate::Result<Bytes>>> {
        let position = self.content.open_at(self.from).await?;
        let (content, end) = (Arc::clone(&self.content), self.from + self.length);
        let pieces = futures_util::stream::try_unfold(
            (content, position),
            move |(content, mut position)| async move {
                if position.at >= end && end < content.size() {
                    content.store_position(position);
                    return Ok(None);
                }
                // After the expected length, reading continues without a limit to detect an error or excess bytes.
                let limit = if position.at < end {
                    end - position.at
                } else {
                    u64::MAX
                };
                let piece = position.next(limit).await?;
                Ok(piece.map(|piece| (piece, (content, position))))
            },
        );
        Ok(pieces.boxed())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use futures_util::future::BoxFuture;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::blob::{BlobStream, Content as BlobContent};
    use crate::digest::Digest;
    use crate::error::ErrorKind;
    use crate::manifest::{Descriptor, MediaType};

    /// Content of ten bytes, in chunks of three. Counts how often it is opened.
    #[derive(Debug)]
    struct Ten {
        descriptor: Descriptor,
        opened: AtomicU32,
    }

    impl Ten {
        fn content(names: &[u8]) -> (Arc<Self>, Arc<UploadContent>) {
            let descriptor = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(names), 10);
            let ten = Arc::new(Self {
                descriptor: descriptor.clone(),
                opened: AtomicU32::new(0),
            });
            let content: Arc<dyn BlobContent> = ten.clone();
            (
                ten,
                UploadContent::from_blob(Blob::from_content(descriptor, content)),
            )
        }
    }

    impl BlobContent for Ten {
        fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            let pieces = b"0123456789".chunks(3).map(|piece| Ok(Bytes::from(piece)));
            let pieces = futures_util::stream::iter(pieces.collect::<Vec<_>>()).boxed();
            Box::pin(async move { BlobStream::new(&self.descriptor, pieces) })
        }
    }

    async fn read(content: &Arc<UploadContent>, from: u64, length: u64) -> crate::Result<String> {
        let pieces: Vec<Bytes> = content
            .part(from, length)
            .open()
            .await?
            .try_collect()
            .await?;
        Ok(String::from_utf8(pieces.concat()).unwrap())
    }

    #[tokio::test]
    async fn chunks_in_order_open_the_content_once() {
        let (ten, content) = Ten::content(b"0123456789");
        assert_eq!(read(&content, 0, 4).await.unwrap(), "0123");
        assert_eq!(read(&content, 4, 4).await.unwrap(), "4567");
        assert_eq!(read(&content, 8, 4).await.unwrap(), "89");
        assert_eq!(ten.opened.load(Ordering::Relaxed), 1);
        assert_eq!(read(&content, 5, 100).await.unwrap(), "56789");
        assert_eq!(read(&content, 0, 10).await.unwrap(), "0123456789");
        assert_eq!(ten.opened.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn content_is_reopened_after_a_dropped_chunk_stream() {
        let (ten, content) = Ten::content(b"0123456789");
        let mut half = content.part(0, 6).open().await.unwrap();
        assert_eq!(half.try_next().await.unwrap().unwrap(), "012");
        drop(half);
        assert_eq!(read(&content, 6, 4).await.unwrap(), "6789");
        assert_eq!(ten.opened.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn last_chunk_of_wrong_content_fails() {
        let (_, content) = Ten::content(b"something else");
        assert_eq!(read(&content, 0, 5).await.unwrap(), "01234");
        let error = read(&content, 5, 5).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
    }
}
