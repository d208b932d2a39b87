//! Progress of a transfer.
//!
//! A [`Meter`] is a counter that a transfer and a progress display share: the transfer advances it, and the display
//! reads it. The transfer calls no code of the display and never waits for it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{BoxStream, Stream, StreamExt};

use super::content::{Blob, Content};
use super::stream::BlobStream;

/// Counter of the transferred bytes of one blob. Clones share the counter. The count restarts at zero when the content
/// is opened again.
///
/// ```
/// # use oci_registry::{Blob, Meter};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let meter = Meter::default();
/// let blob = Blob::empty().metered(&meter);
/// blob.open().await?.read_to_end(10).await?;
/// assert_eq!(meter.transferred_bytes(), 2);
/// # Ok::<(), oci_registry::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// Returns the number of bytes that were transferred since the content was last opened.
    pub fn transferred_bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts the bytes of newly opened content with this meter.
    pub(crate) fn count_bytes<E: Send + 'static>(
        &self,
        pieces: BoxStream<'static, Result<Bytes, E>>,
    ) -> BoxStream<'static, Result<Bytes, E>> {
        self.count_bytes_after(0, pieces)
    }

    /// Counts the bytes of content that continues after the first `passed` bytes.
    fn count_bytes_after<E: Send + 'static>(
        &self,
        passed: u64,
        pieces: BoxStream<'static, Result<Bytes, E>>,
    ) -> BoxStream<'static, Result<Bytes, E>> {
        self.0.store(passed, Ordering::Relaxed);
        let meter = self.clone();
        MeteredStream { pieces, meter }.boxed()
    }
}

struct MeteredStream<E> {
    pieces: BoxStream<'static, Result<Bytes, E>>,
    meter: Meter,
}

impl<E> Stream for MeteredStream<E> {
    type Item = Result<Bytes, E>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = std::task::ready!(self.pieces.poll_next_unpin(context));
        if let Some(Ok(bytes)) = &piece {
            self.meter
                .0
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(piece)
    }
}

impl Blob {
    /// Counts the bytes of this blob with the meter whenever the blob is opened.
    #[must_use]
    pub fn metered(mut self, meter: &Meter) -> Self {
        self.content = Arc::new(MeteredContent {
            content: self.content,
            meter: meter.clone(),
        });
        self
    }
}

#[derive(Debug)]
struct MeteredContent {
    content: Arc<dyn Content>,
    meter: Meter,
}

impl Content for MeteredContent {
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
        async { Ok(self.content.open().await?.metered(&self.meter)) }.boxed()
    }
}

impl BlobStream {
    /// Counts the bytes of this stream with the meter.
    #[must_use]
    pub fn metered(mut self, meter: &Meter) -> Self {
        self.inner = meter.count_bytes_after(self.verification.offset(), self.inner);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::MediaType;
    use crate::memory::Memory;
    use crate::storage::{Delivery, Target};

    #[tokio::test]
    async fn meter_of_reopened_blob_starts_at_zero() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("large");
        std::fs::write(&path, vec![7; 600 << 10]).unwrap();
        let meter = Meter::default();
        let blob = Blob::from_file(MediaType::OCTET_STREAM, &path)
            .await
            .unwrap();
        let blob = blob.metered(&meter);
        assert_eq!(meter.transferred_bytes(), 0);
        let mut stream = blob.open().await.unwrap();
        let first = stream.next().await.unwrap().unwrap().len() as u64;
        assert!(0 < first && first < blob.size());
        assert_eq!(meter.transferred_bytes(), first);
        let pushed = Memory::new().push_blob(&blob).await.unwrap();
        assert_eq!(pushed, Delivery::Uploaded);
        assert_eq!(meter.transferred_bytes(), 600 << 10);
    }
}
