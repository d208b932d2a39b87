//! Blob downloads that are resumed after an interruption (distribution-spec, "Pulling blobs"; RFC 9110, 14).
//!
//! Each byte is yielded once. After an interruption the client requests the rest. If the registry sends the whole blob
//! instead, the client skips the bytes that it has already yielded. If the registry sends another range, the client
//! requests the whole blob, once. The digest of the whole blob is verified at the end.

use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use snafu::{ResultExt, Snafu};
use tokio::time::Instant;

use super::ranges::{self, RangeResponse};
use super::requests::RepositoryRequests;
use super::response;
use crate::blob::{BlobStream, PartialBlob};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure};
use crate::event::Retry;
use crate::exchange::{self, Request, Response};
use crate::manifest::Descriptor;

/// Maximum number of consecutive attempts without progress.
const MAX_ATTEMPTS: u32 = 6;

/// Minimum number of bytes that must arrive between two failures to reset the count of failures.
const MIN_PROGRESS: u64 = 1 << 20;

/// Minimum time between two failures after which a single received byte resets the count of failures.
const PROGRESS_INTERVAL: Duration = Duration::from_mins(1);

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to fetch the blob {digest}"))]
    Fetch {
        digest: Digest,
        source: crate::Error,
    },
    #[snafu(display("failed to fetch the rest of the blob {digest} after {offset} bytes"))]
    FetchRest {
        digest: Digest,
        offset: u64,
        source: crate::Error,
    },
    #[snafu(display(
        "failed to resume the blob {digest} after {offset} bytes: the registry sent the range `{range}`"
    ))]
    WrongRange {
        digest: Digest,
        offset: u64,
        range: String,
    },
    #[snafu(display("the connection ended after {offset} of {size} bytes of the blob {digest}"))]
    Interrupted {
        digest: Digest,
        offset: u64,
        size: u64,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fetch { source, .. } | Self::FetchRest { source, .. } => source.kind(),
            Self::WrongRange { .. } => ErrorKind::Protocol,
            Self::Interrupted { .. } => ErrorKind::Network,
        }
    }
}

struct Download {
    requests: RepositoryRequests,
    connections: usize,
    digest: Digest,
    size: u64,
    /// Number of bytes that were already yielded.
    offset: u64,
    /// Number of bytes still to skip, because the registry sends the blob from its beginning again.
    skip: u64,
    etag: Option<HeaderValue>,
    body: BoxStream<'static, crate::Result<Bytes>>,
    /// Whether the body arrives over several connections. In this case, the module `ranges` handles network failures.
    is_segmented: bool,
    /// Whether a response has arrived.
    has_response: bool,
    /// Whether the whole blob was requested because the registry sent a range other than the requested one.
    is_restarted: bool,
    failures: u32,
    /// Number of bytes since the last failure.
    progress: u64,
    /// Time of the last failure.
    failed_at: Option<Instant>,
    /// Total number of skipped bytes. It limits the traffic if a registry always sends the blob from its beginning.
    skipped: u64,
}

/// Opens a blob. Returns after the first response has arrived.
pub(super) async fn open(
    requests: &RepositoryRequests,
    connections: usize,
    descriptor: &Descriptor,
) -> crate::Result<BlobStream> {
    let mut download = Download::new(requests, connections, descriptor, 0);
    download.open_segments().await?;
    if !download.has_response {
        let response = request(&download.requests, &descriptor.digest, None).await;
        download.use_response(response.with_context(|_| FetchSnafu {
            digest: descriptor.digest.clone(),
        })?);
    }
    BlobStream::new(descriptor, download.into_stream())
}

/// Opens the rest of a blob after its first bytes. Sends no request if nothing is missing.
pub(super) async fn open_after(
    requests: &RepositoryRequests,
    connections: usize,
    descriptor: &Descriptor,
    partial: PartialBlob,
) -> crate::Result<BlobStream> {
    let mut download = Download::new(requests, connections, descriptor, partial.size());
    download.open_segments().await?;
    if !download.has_response && download.offset < download.size {
        download.resume().await?;
    }
    BlobStream::from_partial(descriptor, partial, download.into_stream())
}

/// Returns the `ETag` of a response if it is strong. A weak `ETag` must not be sent in `If-Range` (RFC 9110, 13.1.5).
fn strong_etag(response: &Response) -> Option<HeaderValue> {
    response
        .headers
        .get(header::ETAG)
        .filter(|etag| etag.as_bytes().starts_with(b"\""))
        .cloned()
}

async fn request(
    requests: &RepositoryRequests,
    digest: &Digest,
    from: Option<(u64, Option<&HeaderValue>)>,
) -> crate::Result<Response> {
    let mut request = Request::new(Method::GET, requests.url(&format!("blobs/{digest}"))).header(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    if let Some((offset, etag)) = from {
        let range =
            HeaderValue::try_from(format!("bytes={offset}-")).expect("digits are a header value");
        request = request.header(header::RANGE, range);
        if let Some(etag) = etag {
            request = request.header(header::IF_RANGE, etag.clone());
        }
    }
    let authorized = requests.send(request).await?;
    let has_range = from.is_some();
    let status = authorized.response.status;
    // If the range is rejected, the caller requests the whole blob.
    if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT)
        || has_range && status == StatusCode::RANGE_NOT_SATISFIABLE
    {
        return Ok(authorized.response);
    }
    Err(response::into_error(requests.registry(), authorized).await)
}

impl Download {
    /// Creates a download that continues at `offset`. No request is sent yet.
    fn new(
        requests: &RepositoryRequests,
        connections: usize,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Self {
        Self {
            requests: requests.for_one_operation(),
            connections,
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            offset,
            skip: 0,
            etag: None,
            body: futures_util::stream::empty().boxed(),
            is_segmented: false,
            has_response: false,
            is_restarted: false,
            failures: 0,
            progress: 0,
            failed_at: None,
            skipped: 0,
        }
    }

    /// Opens the blob over several connections if the options allow it, the blob is large enough, and the registry
    /// supports ranges.
    async fn open_segments(&mut self) -> crate::Result<()> {
        let connections = self.connections;
        if connections < 2 || self.size.saturating_sub(self.offset) < 2 * ranges::SEGMENT_SIZE {
            return Ok(());
        }
        let (requests, digest) = (&self.requests, &self.digest);
        let opened = ranges::open(requests, digest, self.size, self.offset, connections).await;
        match opened.with_context(|_| FetchSnafu {
            digest: digest.clone(),
        })? {
            RangeResponse::Segments(segments) => {
                (self.has_response, self.is_segmented) = (true, true);
                self.body = segments;
            }
            RangeResponse::Whole(response) => {
                self.skip = self.offset;
                self.use_response(*response);
            }
            RangeResponse::OtherRange => {}
        }
        Ok(())
    }

    /// Continues with the body of this response.
    fn use_response(&mut self, response: Response) {
        (self.has_response, self.is_segmented) = (true, false);
        // If the first bytes of the blob come from an earlier process, their `ETag` is unknown.
        self.etag = self.etag.take().or_else(|| strong_etag(&response));
        self.body = response.into_stream().map_err(Into::into).boxed();
    }

    fn into_stream(self) -> BoxStream<'static, crate::Result<Bytes>> {
        let pieces = futures_util::stream::try_unfold(self, |mut download| async move {
            let piece = download.next().await?;
            Ok(piece.map(|piece| (piece, download)))
        });
        pieces.boxed()
    }

    async fn next(&mut self) -> crate::Result<Option<Bytes>> {
        loop {
            let failure: crate::Error = match self.body.next().await {
                Some(Ok(mut piece)) => {
                    let drop = usize::try_from(self.skip)
                        .unwrap_or(usize::MAX)
                        .min(piece.len());
                    piece.advance(drop);
                    self.skip -= drop as u64;
                    self.skipped += drop as u64;
                    if piece.is_empty() {
                        continue;
                    }
                    self.offset += piece.len() as u64;
                    self.progress += piece.len() as u64;
                    return Ok(Some(piece));
                }
                None if self.offset >= self.size => return Ok(None),
                None => {
                    let (digest, offset, size) = (self.digest.clone(), self.offset, self.size);
                    InterruptedSnafu {
                        digest,
                        offset,
                        size,
                    }
                    .build()
                    .into()
                }
                // All bytes have arrived. Only the end of the response is missing.
                Some(Err(_)) if self.offset == self.size => return Ok(None),
                Some(Err(error)) if self.is_segmented && error.kind() != ErrorKind::Protocol => {
                    return Err(error);
                }
                Some(Err(error)) => error,
            };
            // A connection that fails soon after its first bytes does not count as progress.
            let is_progress = self.progress >= MIN_PROGRESS
                || self.progress > 0
                    && self
                        .failed_at
                        .is_none_or(|failed_at| failed_at.elapsed() >= PROGRESS_INTERVAL);
            if is_progress {
                self.failures = 0;
            }
            (self.progress, self.failed_at) = (0, Some(Instant::now()));
            self.failures += 1;
            let is_over = self.failures >= MAX_ATTEMPTS || self.skipped > self.size;
            if is_over || self.requests.is_stalled() {
                return Err(failure);
            }
            let retry = Retry {
                operation: format!("download of the blob {}", self.digest),
                attempt: self.failures + 1,
                attempts: MAX_ATTEMPTS,
                delay: exchange::backoff(self.failures),
                cause: exchange::retry_cause(&failure, self.requests.secrets()),
            };
            retry.wait(self.requests.observer()).await;
            self.resume().await?;
        }
    }

    /// Requests the missing bytes.
    async fn resume(&mut self) -> crate::Result<()> {
        let is_ranged = self.offset > 0;
        let (offset, last, size) = (self.offset, self.size.saturating_sub(1), self.size);
        let is_rest = |response: &Response| ranges::is_range(response, offset, last, size);
        let mut response = self.request_rest(is_ranged).await?;
        let is_other =
            is_ranged && response.status == StatusCode::PARTIAL_CONTENT && !is_rest(&response);
        snafu::ensure!(
            !(is_other && self.is_restarted),
            WrongRangeSnafu {
                digest: self.digest.clone(),
                offset,
                range: ranges::display_range(&response),
            }
        );
        if is_other || response.status == StatusCode::RANGE_NOT_SATISFIABLE {
            response = self.request_rest(false).await?;
        }
        self.is_restarted |= is_other;
        self.skip = if is_rest(&response) { 0 } else { offset };
        self.use_response(response);
        Ok(())
    }

    /// Requests the rest of the blob by range if `is_ranged` is set, otherwise the whole blob.
    async fn request_rest(&mut self, is_ranged: bool) -> crate::Result<Response> {
        let from = is_ranged.then_some((self.offset, self.etag.as_ref()));
        let response = request(&self.requests, &self.digest, from).await;
        Ok(response.with_context(|_| FetchRestSnafu {
            digest: self.digest.clone(),
            offset: self.offset,
        })?)
    }
}
