//! HTTP messages: requests with a redirect policy, and responses whose bodies are read within limits of size and time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use snafu::IntoError;
use url::Url;

use super::body::Body;
use super::error::{Error, IdleSnafu, ReadResponseSnafu, ResponseTooLargeSnafu};
use super::origin::{Origin, Peer};
use super::stalls::Stalls;
use super::transfer_rate::{IDLE_TIMEOUT, ReceiveRate};
use crate::redact::{RedactedUrl, Secrets};

/// Timeout for a document that is read into memory.
const DOCUMENT_TIMEOUT: Duration = Duration::from_mins(10);

/// HTTP request. Its body can be opened again, so the request can be sent again.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// `Authorization` value, and the only origin to which it is sent.
    pub(crate) authorization: Option<(Origin, HeaderValue)>,
    /// Whether the request may be sent again after a failure with an unknown outcome.
    pub(crate) is_repeatable: bool,
    pub(super) redirects: RedirectPolicy,
    /// Whether another origin chose the URL. If so, the request is sent without credentials, even if the URL is on the
    /// origin of the credentials.
    pub(crate) is_untrusted: bool,
    pub(super) stalls: Stalls,
}

/// Restrictions on the redirects of a request, and on the use of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RedirectPolicy {
    /// A redirect may lead to another origin.
    AnyOrigin,
    /// A redirect must not lead to another origin.
    SameOrigin,
    /// A redirect is an error.
    Forbidden,
    /// Like [`RedirectPolicy::SameOrigin`]. The response contains a secret, so none of its text is reported.
    Secret,
}

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        let (headers, body) = (HeaderMap::new(), Body::Empty);
        Self {
            method,
            url,
            headers,
            body,
            authorization: None,
            is_repeatable: true,
            redirects: RedirectPolicy::AnyOrigin,
            is_untrusted: false,
            stalls: Stalls::default(),
        }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    #[must_use]
    pub(crate) fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Refuses redirects to another origin.
    #[must_use]
    pub(crate) fn within_origin(mut self) -> Self {
        self.redirects = RedirectPolicy::SameOrigin;
        self
    }

    /// Refuses all redirects.
    #[must_use]
    pub(crate) fn without_redirects(mut self) -> Self {
        self.redirects = RedirectPolicy::Forbidden;
        self
    }

    /// Sends the request without credentials if another origin chose its URL.
    #[must_use]
    pub(crate) fn untrusted(mut self, is_untrusted: bool) -> Self {
        self.is_untrusted = is_untrusted;
        self
    }

    /// Marks the response as a secret: redirects to another origin are refused, and nothing in the response is
    /// reported.
    #[must_use]
    pub(crate) fn with_secret_response(mut self) -> Self {
        self.redirects = RedirectPolicy::Secret;
        self
    }

    /// Counts the idle timeouts of the request together with those of an operation.
    #[must_use]
    pub(crate) fn with_stalls(mut self, stalls: &Stalls) -> Self {
        self.stalls = stalls.clone();
        self
    }

    /// Disables retries. The caller handles a failure with an unknown outcome.
    #[must_use]
    pub(crate) fn without_retries(mut self) -> Self {
        self.is_repeatable = false;
        self
    }
}

/// HTTP response: status, header, and a body that has not been read yet.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Server that sent the response, after redirects.
    pub(crate) peer: Peer,
    /// Origin of the original request.
    pub(crate) requested_origin: Origin,
    /// Whether a server other than the requested server chose the URL of the response, even if the URL is on the
    /// requested server.
    pub(crate) is_untrusted: bool,
    /// Whether the whole request had been sent when the response arrived.
    pub(crate) is_sent: bool,
    /// Idle timeouts of the operation to which the request belongs.
    pub(super) stalls: Stalls,
    pub(super) inner: reqwest::Response,
    pub(super) statistics: Arc<Statistics>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("peer", &self.redacted_url())
            .finish_non_exhaustive()
    }
}

impl Response {
    /// Returns the URL of the response for display.
    pub(crate) fn redacted_url(&self) -> RedactedUrl {
        RedactedUrl::new(&self.peer.url, &self.peer.secrets)
    }

    /// Returns the secrets to redact in text from servers.
    pub(crate) fn secrets(&self) -> Secrets {
        self.peer.secrets.clone()
    }

    /// Returns the value of a header, or `None` if the header is missing, empty or not text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)?
            .to_str()
            .ok()
            .map(str::trim)
            .filter(|value| !value.is_empty())
    }

    /// Reads the body into memory. Fails if it has more than `limit` bytes.
    pub(crate) async fn bytes(self, limit: usize) -> Result<Bytes, Error> {
        let url = self.redacted_url();
        let (bytes, is_complete) = self.read(limit).await?;
        snafu::ensure!(is_complete, ResponseTooLargeSnafu { url, limit });
        Ok(bytes)
    }

    /// Reads at most the first `limit` bytes of the body, for display.
    pub(crate) async fn read_prefix(self, limit: usize) -> Result<Bytes, Error> {
        Ok(self.read(limit).await?.0)
    }

    /// Reads at most `limit` bytes of the body within [`DOCUMENT_TIMEOUT`]. The returned flag is true if the body has
    /// no further bytes.
    async fn read(self, limit: usize) -> Result<(Bytes, bool), Error> {
        let (url, method) = (self.redacted_url(), Method::GET);
        let read = tokio::time::timeout(DOCUMENT_TIMEOUT, self.read_all(limit)).await;
        read.unwrap_or_else(|_| {
            let after = DOCUMENT_TIMEOUT;
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

    /// Streams the body. After an idle timeout, the stream ends with an error.
    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<Bytes, Error>> {
        let url = self.redacted_url();
        let stream = self.inner.bytes_stream();
        let (statistics, stalls) = (self.statistics, self.stalls);
        let state = (Box::pin(stream), url, ReceiveRate::default());
        futures_util::stream::try_unfold(state, move |(mut stream, url, mut rate)| {
            let (statistics, stalls) = (statistics.clone(), stalls.clone());
            async move {
                let size = |piece: &Option<reqwest::Result<Bytes>>| match piece {
                    Some(Ok(piece)) => piece.len(),
                    _ => 0,
                };
                match rate.wait(stream.next(), size).await {
                    None => Err(stalls.record_timeout(Method::GET, url, IDLE_TIMEOUT)),
                    Some(None) => Ok(None),
                    Some(Some(Err(error))) => {
                        stalls.reset();
                        Err(ReadResponseSnafu { url }.into_error(error.into()))
                    }
                    Some(Some(Ok(piece))) => {
                        stalls.reset();
                        statistics
                            .received
                            .fetch_add(piece.len() as u64, Ordering::Relaxed);
                        Ok(Some((piece, (stream, url, rate))))
                    }
                }
            }
        })
        .boxed()
    }
}

/// Numbers of requests and bytes of an exchange.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    /// Number of requests, each attempt and each redirect included.
    pub(crate) requests: AtomicU64,
    /// Bytes of request bodies.
    pub(crate) sent: AtomicU64,
    /// Bytes of response bodies.
    pub(crate) received: AtomicU64,
}
