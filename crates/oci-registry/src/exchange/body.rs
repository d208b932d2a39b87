//! What is sent with a request, and a watch over it.
//!
//! A [`Body`] can be opened again for another try. [`Progress`] sees each piece leave, so that an upload may take as long
//! as it likes while it moves, and is given up when it does not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};

use tokio::time::Instant;

use super::pace::Sending;
use crate::blob::feed::Part;

/// How often at most is looked whether content still does not come.
const LOOK: Duration = Duration::from_secs(1);

/// The content of a request.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Empty,
    Bytes(Bytes),
    /// Content of any size, or a part of it.
    Part(Part),
}

impl Body {
    /// How many bytes will be sent.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Part(part) => part.length(),
        }
    }

    /// Whether sending it takes a while.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Part(_))
    }

    /// Opens the content, watched by `progress`.
    pub(super) async fn open(&self, progress: &Progress) -> crate::Result<Option<reqwest::Body>> {
        match self {
            Self::Empty => {
                progress.finish();
                Ok(None)
            }
            Self::Bytes(bytes) => {
                progress.moved(bytes.len());
                progress.finish();
                Ok(Some(bytes.clone().into()))
            }
            Self::Part(part) => Ok(Some(watch(part.open().await?, part.length(), progress))),
        }
    }
}

/// Lets `progress` see each piece leave.
///
/// The last piece leaves only when the content has ended well: a client that has sent as many bytes as it announced asks
/// for no more, and would never learn that they were the wrong ones.
fn watch(
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
                progress.wait_for_content();
                let next = pieces.next().await;
                progress.has_content();
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
                if progress.moved(leaving.len()) >= size {
                    progress.finish();
                }
                return Ok(Some((leaving, (pieces, held, progress))));
            }
        },
    ))
}

/// How far the sending of a body has come.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    pace: Sending,
    /// Since when there has been nothing to send, because the content is slow itself.
    waiting: Option<Instant>,
    sent: u64,
    finished: bool,
    failure: Option<crate::Error>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            pace: Sending::new(),
            waiting: None,
            sent: 0,
            finished: false,
            failure: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What content takes to come is no fault of the one it is sent to.
    fn wait_for_content(&self) {
        self.state().waiting = Some(Instant::now());
    }

    fn has_content(&self) {
        let mut state = self.state();
        if let Some(waiting) = state.waiting.take() {
            state.pace.postpone(waiting.elapsed());
        }
    }

    fn moved(&self, bytes: usize) -> u64 {
        let mut state = self.state();
        state.pace.moved(bytes);
        state.sent += bytes as u64;
        state.sent
    }

    fn finish(&self) {
        let mut state = self.state();
        state.finished = true;
        state.pace.restart();
    }

    /// Keeps the failure for the one who asked; the HTTP client only learns that there was one.
    fn fail(&self, error: crate::Error) -> std::io::Error {
        let words = error.to_string();
        self.state().failure = Some(error);
        std::io::Error::other(words)
    }

    pub(super) fn take_failure(&self) -> Option<crate::Error> {
        self.state().failure.take()
    }

    /// Whether everything has left.
    pub(super) fn is_finished(&self) -> bool {
        self.state().finished
    }

    /// Whether something moved, though too little, since progress was last sufficient.
    pub(super) fn is_moving(&self) -> bool {
        self.state().pace.is_moving()
    }

    pub(super) fn sent(&self) -> u64 {
        self.state().sent
    }

    /// Returns when too little has moved for too long: `idle` while there is something to send, `finalise` after it. The
    /// time that content takes to come does not count: whoever reads it watches over that.
    pub(super) async fn idle(&self, idle: Duration, finalise: Duration) -> Duration {
        loop {
            let (idled, limit, is_waiting) = {
                let state = self.state();
                let limit = if state.finished { finalise } else { idle };
                let until = state.waiting.unwrap_or_else(Instant::now);
                let idled = until.saturating_duration_since(state.pace.since());
                (idled, limit, state.waiting.is_some())
            };
            if idled >= limit && !is_waiting {
                return limit;
            }
            // When the wait for content will end is not known here.
            let rest = limit.saturating_sub(idled).max(LOOK);
            tokio::time::sleep(rest).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_moves_is_not_idle() {
        let progress = Progress::new();
        let start = tokio::time::Instant::now();
        let watch = tokio::spawn({
            let progress = progress.clone();
            async move {
                progress
                    .idle(Duration::from_secs(10), Duration::from_secs(100))
                    .await
            }
        });
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            progress.moved(1000);
        }
        progress.finish();
        assert_eq!(watch.await.unwrap(), Duration::from_secs(100));
        assert_eq!(start.elapsed().as_secs(), 145);
        assert_eq!(progress.sent(), 5000);
    }

    #[tokio::test(start_paused = true)]
    async fn content_that_is_slow_itself_makes_nobody_idle() {
        let progress = Progress::new();
        let start = tokio::time::Instant::now();
        let slow = async {
            // Each piece takes longer to come than the one it is sent to may take.
            for _ in 0..3 {
                progress.wait_for_content();
                tokio::time::sleep(Duration::from_secs(50)).await;
                progress.has_content();
                tokio::time::sleep(Duration::from_secs(4)).await;
                progress.moved(1);
            }
            std::future::pending::<()>().await;
        };
        let idle = progress.idle(Duration::from_secs(20), Duration::from_secs(20));
        let idled = tokio::select! {
            idled = idle => idled,
            () = slow => unreachable!("it waits for ever"),
        };
        assert_eq!(idled, Duration::from_secs(20));
        // Twelve of 162 seconds were the other side's, and eight more are.
        assert_eq!(start.elapsed().as_secs(), 170);
    }
}
