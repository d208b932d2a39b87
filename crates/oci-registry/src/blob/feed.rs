//! Content on its way out, in one piece or in parts.
//!
//! A request that is sent again opens its content again. Content that goes out in several requests is read once: each
//! part goes on where the one before it ended, as long as nothing went wrong. After that it is opened anew, and read up to
//! where the part begins, so that what checks or hashes it has seen all of it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};

use super::Blob;
use super::file::{PIECE, Unhashed};

/// Content that goes out. Its digest is checked, or found, by the time its last byte has left.
#[derive(Debug)]
pub(crate) struct Feed {
    content: Content,
    /// Where the last part ended.
    place: Mutex<Option<Place>>,
}

#[derive(Debug)]
enum Content {
    Known(Box<Blob>),
    Unhashed(Arc<Unhashed>),
}

/// A place in opened content.
struct Place {
    at: u64,
    pieces: BoxStream<'static, crate::Result<Bytes>>,
    /// What was read beyond the place.
    held: Bytes,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Feed {
    /// A blob, checked against its digest as it leaves.
    pub(crate) fn of_blob(blob: Blob) -> Arc<Self> {
        Self::new(Content::Known(Box::new(blob)))
    }

    /// A file whose digest is found as it leaves.
    pub(crate) fn of_file(file: Arc<Unhashed>) -> Arc<Self> {
        Self::new(Content::Unhashed(file))
    }

    fn new(content: Content) -> Arc<Self> {
        Arc::new(Self {
            content,
            place: Mutex::default(),
        })
    }

    /// How many bytes there are in all.
    pub(crate) fn size(&self) -> u64 {
        match &self.content {
            Content::Known(blob) => blob.size(),
            Content::Unhashed(file) => file.size(),
        }
    }

    /// A part of it; what lies beyond the end is not part of it.
    pub(crate) fn part(self: &Arc<Self>, from: u64, length: u64) -> Part {
        Part {
            length: length.min(self.size().saturating_sub(from)),
            feed: Arc::clone(self),
            from,
        }
    }

    async fn place(&self, from: u64) -> crate::Result<Place> {
        let kept = self
            .place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(place) = kept.filter(|place| place.at == from) {
            return Ok(place);
        }
        let mut place = Place {
            at: 0,
            pieces: match &self.content {
                Content::Known(blob) => blob.open().await?.boxed(),
                Content::Unhashed(file) => file.open().await?,
            },
            held: Bytes::new(),
        };
        while place.at < from {
            if place.next(from - place.at).await?.is_none() {
                break;
            }
        }
        Ok(place)
    }

    fn leave(&self, place: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }
}

impl Place {
    /// The next bytes, at most this many.
    async fn next(&mut self, limit: u64) -> crate::Result<Option<Bytes>> {
        while self.held.is_empty() {
            match self.pieces.next().await {
                Some(piece) => self.held = piece?,
                None => return Ok(None),
            }
        }
        // Content in memory arrives as one piece, which would count as sent as soon as its first byte is.
        let limit = usize::try_from(limit).unwrap_or(PIECE).min(PIECE);
        let piece = self.held.split_to(limit.min(self.held.len()));
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }
}

/// A part of some content: the body of one request. It can be opened again.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    feed: Arc<Feed>,
    from: u64,
    length: u64,
}

impl Part {
    /// How many bytes it has.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Opens it from its first byte. The last part ends well only when all of the content was what it should be.
    pub(crate) async fn open(&self) -> crate::Result<BoxStream<'static, crate::Result<Bytes>>> {
        let place = self.feed.place(self.from).await?;
        let (feed, end) = (Arc::clone(&self.feed), self.from + self.length);
        let pieces =
            futures_util::stream::try_unfold((feed, place), move |(feed, mut place)| async move {
                if place.at >= end && end < feed.size() {
                    feed.leave(place);
                    return Ok(None);
                }
                // At the very end there is nothing more, or an error, or more than there should be.
                let limit = if place.at < end {
                    end - place.at
                } else {
                    u64::MAX
                };
                let piece = place.next(limit).await?;
                Ok(piece.map(|piece| (piece, (feed, place))))
            });
        Ok(pieces.boxed())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use futures_util::future::BoxFuture;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::blob::{BlobStream, Content as Opens};
    use crate::digest::Digest;
    use crate::error::ErrorKind;
    use crate::manifest::{Descriptor, MediaType};

    /// Ten bytes in pieces of three, which counts how often it is opened.
    #[derive(Debug)]
    struct Ten {
        descriptor: Descriptor,
        opened: AtomicU32,
    }

    impl Ten {
        fn feed(names: &[u8]) -> (Arc<Self>, Arc<Feed>) {
            let descriptor = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(names), 10);
            let ten = Arc::new(Self {
                descriptor: descriptor.clone(),
                opened: AtomicU32::new(0),
            });
            let content: Arc<dyn Opens> = ten.clone();
            (ten, Feed::of_blob(Blob::from_content(descriptor, content)))
        }
    }

    impl Opens for Ten {
        fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            let pieces = b"0123456789".chunks(3).map(|piece| Ok(Bytes::from(piece)));
            let pieces = futures_util::stream::iter(pieces.collect::<Vec<_>>()).boxed();
            Box::pin(async move { BlobStream::new(&self.descriptor, pieces) })
        }
    }

    async fn read(feed: &Arc<Feed>, from: u64, length: u64) -> crate::Result<String> {
        let pieces: Vec<Bytes> = feed.part(from, length).open().await?.try_collect().await?;
        Ok(String::from_utf8(pieces.concat()).unwrap())
    }

    #[tokio::test]
    async fn parts_in_order_read_the_content_once() {
        let (ten, feed) = Ten::feed(b"0123456789");
        assert_eq!(read(&feed, 0, 4).await.unwrap(), "0123");
        assert_eq!(read(&feed, 4, 4).await.unwrap(), "4567");
        assert_eq!(read(&feed, 8, 4).await.unwrap(), "89");
        assert_eq!(ten.opened.load(Ordering::Relaxed), 1);
        assert_eq!(read(&feed, 5, 100).await.unwrap(), "56789");
        assert_eq!(read(&feed, 0, 10).await.unwrap(), "0123456789");
        assert_eq!(ten.opened.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_part_that_was_given_up_is_opened_anew() {
        let (ten, feed) = Ten::feed(b"0123456789");
        let mut half = feed.part(0, 6).open().await.unwrap();
        assert_eq!(half.try_next().await.unwrap().unwrap(), "012");
        drop(half);
        assert_eq!(read(&feed, 6, 4).await.unwrap(), "6789");
        assert_eq!(ten.opened.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn the_last_part_ends_well_only_when_all_was_right() {
        let (_, feed) = Ten::feed(b"something else");
        assert_eq!(read(&feed, 0, 5).await.unwrap(), "01234");
        let error = read(&feed, 5, 5).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
    }
}
