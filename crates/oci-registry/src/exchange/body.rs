//! Request bodies, and the progress of sending them.
//!
//! A [`Body`] can be opened again for another attempt. [`Progress`] counts the bytes that are sent. An upload has no
//! time limit while it makes progress. If it makes no progress, it fails after an idle timeout.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use tokio::time::Instant;

use super::transfer_rate::SendRate;

/// Minimum interval between two checks of the idle time.
const MIN_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Request content that is read while it is sent. It can be opened again for another attempt.
#[async_trait]
pub(crate) trait RequestBody: fmt::Debug + Send + Sync {
    /// Returns the number of bytes.
    fn length(&self) -> u64;

    /// Opens the content at its first byte.
    async fn open(&self) -> crate::Result<BoxStream<'static, crate::Result<Bytes>>>;
}

/// Body of a request.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Empty,
    Bytes(Bytes),
    Stream(Arc<dyn RequestBody>),
}

impl Body {
    /// Returns the number of bytes to send.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stream(content) => content.length(),
        }
    }

    /// Whether the content is read while it is sent.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Opens the body for sending, and reports the sent bytes to `progress`.
    pub(super) async fn open(&self, progress: &Progress) -> crate::Result<Option<reqwest::Body>> {
        match self {
            Self::Empty => {
                progress.finish();
                Ok(None)
            }
            Self::Bytes(bytes) => {
                progress.record_sent(bytes.len());
                progress.finish();
                Ok(Some(bytes.clone().into()))
            }
            Self::Stream(content) => {
                let pieces = content.open().await?;
                Ok(Some(report_progress(pieces, content.length(), progress)))
            }
        }
    }
}

/// Returns an HTTP body that reports each piece to `progress` when the piece is sent.
///
/// The last piece is held back until the content has ended without an error. The HTTP client does not poll the body
/// again after the announced number of bytes, so it would not detect an error at the end of the content, such as a
/// digest mismatch.
fn report_progress(
    pieces: impl Stream<Item = crate::Result<Bytes>> + Send + 'static,
    size: u64,
    progress: &Progress,
) -> reqwest::Body {
    let progress = progress.clone();
    if size == 0 {
        progress.finish();
    }
    let state = (Box::pin(pieces), Bytes::new(), progress);
    reqwest::Body::wrap_stream(futures_util::stream::try_unfold(
        state,
        move |state| async move {
            let (mut pieces, mut held, progress) = state;
            loop {
                progress.start_wait_for_content();
                let next = pieces.next().await;
                progress.end_wait_for_content();
                let next = match next {
                    Some(Ok(piece)) => piece,
                    Some(Err(error)) => return Err(progress.fail(error)),
                    None if held.is_empty() => return Ok(None),
                    None => Bytes::new(),
                };
                let is_last = next.is_empty();
                let leaving = std::mem::replace(&mut held, next);
                if leaving.is_empty() && !is_last {
                    continue;
                }
                if progress.record_sent(leaving.len()) >= size {
                    progress.finish();
                }
                return Ok(Some((leaving, (pieces, held, progress))));
            }
        },
    ))
}

/// Progress of sending a body.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<Mutex<ProgressState>>);

#[derive(Debug)]
struct ProgressState {
    rate: SendRate,
    /// Start of the current wait for content; `None` while the client does not wait for content.
    waiting_since: Option<Instant>,
    sent: u64,
    finished: bool,
    failure: Option<crate::Error>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(ProgressState {
            rate: SendRate::new(),
            waiting_since: None,
            sent: 0,
            finished: false,
            failure: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the start of a wait for content. The wait does not count as idle time of the server.
    fn start_wait_for_content(&self) {
        self.state().waiting_since = Some(Instant::now());
    }

    fn end_wait_for_content(&self) {
        let mut state = self.state();
        if let Some(waiting) = state.waiting_since.take() {
            state.rate.postpone(waiting.elapsed());
        }
    }

    fn record_sent(&self, bytes: usize) -> u64 {
        let mut state = self.state();
        state.rate.record(bytes);
        state.sent += bytes as u64;
        state.sent
    }

    fn finish(&self) {
        let mut state = self.state();
        state.finished = true;
        state.rate.restart();
    }

    /// Stores an error for [`Progress::take_failure`], and returns an error with the same message for the HTTP client.
    fn fail(&self, error: crate::Error) -> std::io::Error {
        let message = error.to_string();
        self.state().failure = Some(error);
        std::io::Error::other(message)
    }

    pub(super) fn take_failure(&self) -> Option<crate::Error> {
        self.state().failure.take()
    }

    /// Whether the whole body was sent.
    pub(super) fn is_finished(&self) -> bool {
        self.state().finished
    }

    /// Whether any bytes were sent in the current measurement. Each measurement ends at the minimum number of bytes.
    pub(super) fn has_sent_bytes(&self) -> bool {
        self.state().rate.has_sent_bytes()
    }

    pub(super) fn sent(&self) -> u64 {
        self.state().sent
    }

    /// Waits until the server has been idle for a timeout, and returns this timeout: `idle` while the body is sent,
    /// `finalise` afterwards. Time spent waiting for content does not count, because reading content has a separate
    /// timeout.
    pub(super) async fn wait_for_idle_timeout(
        &self,
        idle: Duration,
        finalise: Duration,
    ) -> Duration {
        loop {
            let (idled, limit, is_waiting) = {
                let state = self.state();
                let limit = if state.finished { finalise } else { idle };
                let until = state.waiting_since.unwrap_or_else(Instant::now);
                let idled = until.saturating_duration_since(state.rate.since());
                (idled, limit, state.waiting_since.is_some())
            };
            if idled >= limit && !is_waiting {
                return limit;
            }
            // No signal reports that a wait for content has ended, so the loop checks the limit again after an
            // interval.
            let rest = limit.saturating_sub(idled).max(MIN_CHECK_INTERVAL);
            tokio::time::sleep(rest).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sending_with_progress_is_not_idle() {
        let progress = Progress::new();
        let start = tokio::time::Instant::now();
        let watch = tokio::spawn({
            let progress = progress.clone();
            async move {
                progress
                    .wait_for_idle_timeout(Duration::from_secs(10), Duration::from_secs(100))
                    .await
            }
        });
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            progress.record_sent(1000);
        }
        progress.finish();
        assert_eq!(watch.await.unwrap(), Duration::from_secs(100));
        assert_eq!(start.elapsed().as_secs(), 145);
        assert_eq!(progress.sent(), 5000);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_slow_content_is_not_idle() {
        let progress = Progress::new();
        let start = tokio::time::Instant::now();
        let slow = async {
            // The source needs longer for each piece than the idle timeout, which applies to the server only.
            for _ in 0..3 {
                progress.start_wait_for_content();
                tokio::time::sleep(Duration::from_secs(50)).await;
                progress.end_wait_for_content();
                tokio::time::sleep(Duration::from_secs(4)).await;
                progress.record_sent(1);
            }
            std::future::pending::<()>().await;
        };
        let idle = progress.wait_for_idle_timeout(Duration::from_secs(20), Duration::from_secs(20));
        let idled = tokio::select! {
            idled = idle => idled,
            () = slow => unreachable!("the content does not end"),
        };
        assert_eq!(idled, Duration::from_secs(20));
        // The server was idle for 12 of the first 162 seconds, and reaches the timeout of 20 seconds 8 seconds later.
        assert_eq!(start.elapsed().as_secs(), 170);
    }
}
