//! One answer: its head, and its body read within bounds of size and time.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::{HeaderMap, Method, StatusCode};
use snafu::IntoError;

use super::display::ShownUrl;
use super::error::{AnswerTooLargeSnafu, Error, IdleSnafu, ReadAnswerSnafu};
use super::origin::{Origin, Peer};
use super::pace::{IDLE, Receiving};
use super::secrets::Secrets;
use super::stalls::Stalls;
use super::statistics::Statistics;

/// How long a document that is held in memory may take to arrive.
const DOCUMENT: Duration = Duration::from_mins(10);

/// An answer: its head, and a body that is still to be read, within bounds.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Where the answer came from, after redirects.
    pub(crate) peer: Peer,
    /// Where the request went first.
    pub(crate) asked: Origin,
    /// Whether someone else than the server that was asked chose where it came from, even if that is the same server.
    pub(crate) is_untrusted: bool,
    /// Whether all of the request had left when the answer came.
    pub(crate) is_sent: bool,
    /// Idle timeouts of the operation that the request belongs to.
    pub(super) stalls: Stalls,
    pub(super) inner: reqwest::Response,
    pub(super) statistics: std::sync::Arc<Statistics>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("peer", &self.shown())
            .finish_non_exhaustive()
    }
}

impl Response {
    /// The URL the answer came from, as it may be shown.
    pub(crate) fn shown(&self) -> ShownUrl {
        ShownUrl::new(&self.peer.url, &self.peer.secrets)
    }

    /// What has been sent and must not be shown, whoever repeats it.
    pub(crate) fn secrets(&self) -> Secrets {
        self.peer.secrets.clone()
    }

    /// A header as text, absent when empty or no text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)?
            .to_str()
            .ok()
            .map(str::trim)
            .filter(|value| !value.is_empty())
    }

    /// Reads the body into memory.
    pub(crate) async fn bytes(self, limit: usize) -> Result<Bytes, Error> {
        let url = self.shown();
        let (bytes, whole) = self.read(limit).await?;
        snafu::ensure!(whole, AnswerTooLargeSnafu { url, limit });
        Ok(bytes)
    }

    /// Reads what fits of the body, for showing.
    pub(crate) async fn beginning(self, limit: usize) -> Result<Bytes, Error> {
        Ok(self.read(limit).await?.0)
    }

    /// Reads a document, which is small, and so takes no longer than [`DOCUMENT`].
    async fn read(self, limit: usize) -> Result<(Bytes, bool), Error> {
        let (url, method) = (self.shown(), Method::GET);
        let read = tokio::time::timeout(DOCUMENT, self.read_all(limit)).await;
        read.unwrap_or_else(|_| {
            let after = DOCUMENT;
            IdleSnafu { method, url, after }.fail()
        })
    }

    async fn read_all(self, limit: usize) -> Result<(Bytes, bool), Error> {
        let mut bytes = BytesMut::new();
        let mut stream = self.into_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            let room = limit - bytes.len();
            bytes.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() > room {
                return Ok((bytes.freeze(), false));
            }
        }
        Ok((bytes.freeze(), true))
    }

    /// The body, piece by piece. It ends with an error after an idle timeout.
    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<Bytes, Error>> {
        let url = self.shown();
        let stream = self.inner.bytes_stream();
        let (statistics, stalls) = (self.statistics, self.stalls);
        let state = (Box::pin(stream), url, Receiving::default());
        futures_util::stream::try_unfold(state, move |(mut stream, url, mut pace)| {
            let (statistics, stalls) = (statistics.clone(), stalls.clone());
            async move {
                let size = |piece: &Option<reqwest::Result<Bytes>>| match piece {
                    Some(Ok(piece)) => piece.len(),
                    _ => 0,
                };
                match pace.wait(stream.next(), size).await {
                    None => Err(stalls.count(Method::GET, url, IDLE)),
                    Some(None) => Ok(None),
                    Some(Some(Err(error))) => {
                        stalls.reset();
                        Err(ReadAnswerSnafu { url }.into_error(error.into()))
                    }
                    Some(Some(Ok(piece))) => {
                        stalls.reset();
                        statistics
                            .received
                            .fetch_add(piece.len() as u64, Ordering::Relaxed);
                        Ok(Some((piece, (stream, url, pace))))
                    }
                }
            }
        })
        .boxed()
    }
}
