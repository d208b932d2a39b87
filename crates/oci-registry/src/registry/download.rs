//! Fetching a blob, and going on where it broke off (distribution-spec, "Pulling blobs"; RFC 9110, 14).
//!
//! Bytes already passed on are never passed on again: a connection that breaks is followed by a request for the rest, and
//! a registry that sends everything instead has its beginning dropped. The digest of the whole is the judge.

use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::stream::{BoxStream, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use snafu::{ResultExt, Snafu};
use tokio::time::Instant;

use super::ranges::{self, Opened};
use super::repository::Repository;
use super::response;
use crate::blob::{Beginning, BlobStream};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, RegistryError};
use crate::exchange::{self, Request, Response};
use crate::manifest::Descriptor;

/// How often in a row a download may break off without a byte between.
const MAX_FAILURES: u32 = 5;

/// How much must have come between two breaks, in bytes, or how much time gone by, for them not to add up.
const PROGRESS: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_mins(1);

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
        "refused the rest of the blob {digest}: asked for the bytes from {offset} on, the registry sent `{range}`"
    ))]
    WrongRange {
        digest: Digest,
        offset: u64,
        range: String,
    },
    #[snafu(display("the connection ended after {offset} of {size} bytes of the blob {digest}"))]
    BrokeOff {
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
            Self::BrokeOff { .. } => ErrorKind::Network,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Fetch { source, .. } | Self::FetchRest { source, .. } => source.help(),
            _ => Vec::new(),
        }
    }

    fn registry_errors(&self) -> &[RegistryError] {
        match self {
            Self::Fetch { source, .. } | Self::FetchRest { source, .. } => source.registry_errors(),
            _ => &[],
        }
    }
}

struct Download {
    repository: Repository,
    digest: Digest,
    size: u64,
    /// How many bytes have been passed on.
    offset: u64,
    /// How many bytes are still to be dropped, from a registry that began anew.
    skip: u64,
    etag: Option<HeaderValue>,
    body: BoxStream<'static, Result<Bytes, exchange::Error>>,
    /// Whether there has been a body.
    is_answered: bool,
    failures: u32,
    /// How much has come since the last break, and when that was.
    since: u64,
    broke: Option<Instant>,
    /// How much has come in vain, from a registry that begins anew each time.
    dropped: u64,
}

/// Opens a blob. The first request is answered when this returns.
pub(super) async fn open(
    repository: &Repository,
    descriptor: &Descriptor,
) -> crate::Result<BlobStream> {
    let mut download = Download::new(repository, descriptor, 0);
    let pieces = match download.segments().await? {
        Some(segments) => segments,
        None if download.is_answered => download.into_stream(),
        None => {
            let response = request(repository, &descriptor.digest, None).await;
            download.begin(response.with_context(|_| FetchSnafu {
                digest: descriptor.digest.clone(),
            })?);
            download.into_stream()
        }
    };
    BlobStream::new(descriptor, pieces)
}

/// Opens what follows the beginning of a blob. Nothing is asked for when nothing follows.
pub(super) async fn open_after(
    repository: &Repository,
    descriptor: &Descriptor,
    beginning: Beginning,
) -> crate::Result<BlobStream> {
    let mut download = Download::new(repository, descriptor, beginning.size());
    let pieces = if let Some(segments) = download.segments().await? {
        segments
    } else {
        if !download.is_answered && download.offset < download.size {
            download.resume().await?;
        }
        download.into_stream()
    };
    BlobStream::after(descriptor, beginning, pieces)
}

/// A tag of the content that also holds for its parts.
fn strong_etag(response: &Response) -> Option<HeaderValue> {
    response
        .headers
        .get(header::ETAG)
        .filter(|etag| etag.as_bytes().starts_with(b"\""))
        .cloned()
}

async fn request(
    repository: &Repository,
    digest: &Digest,
    from: Option<(u64, Option<&HeaderValue>)>,
) -> crate::Result<Response> {
    let mut request = Request::new(Method::GET, repository.url(&format!("blobs/{digest}"))).header(
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
    let answer = repository.send(request).await?;
    let has_range = from.is_some();
    let status = answer.response.status;
    // A range that is refused may be had with everything before it.
    if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT)
        || has_range && status == StatusCode::RANGE_NOT_SATISFIABLE
    {
        return Ok(answer.response);
    }
    Err(response::refusal(repository.registry(), answer).await)
}

impl Download {
    /// A download that has passed on so much, and has asked for nothing yet.
    fn new(repository: &Repository, descriptor: &Descriptor, offset: u64) -> Self {
        Self {
            repository: repository.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            offset,
            skip: 0,
            etag: None,
            body: futures_util::stream::empty().boxed(),
            is_answered: false,
            failures: 0,
            since: 0,
            broke: None,
            dropped: 0,
        }
    }

    /// The blob over several connections, where that is wanted and worth it, and the registry knows ranges.
    async fn segments(
        &mut self,
    ) -> crate::Result<Option<BoxStream<'static, crate::Result<Bytes>>>> {
        let connections = self.repository.connections_per_blob();
        if connections < 2 || self.size.saturating_sub(self.offset) < 2 * ranges::SEGMENT {
            return Ok(None);
        }
        let (repository, digest) = (self.repository.clone(), self.digest.clone());
        let opened = ranges::open(&repository, &digest, self.size, self.offset, connections).await;
        match opened.with_context(|_| FetchSnafu { digest })? {
            Opened::Segments(segments) => Ok(Some(segments)),
            Opened::Whole(response) => {
                self.skip = self.offset;
                self.begin(*response);
                Ok(None)
            }
        }
    }

    /// Goes on with the body of this answer.
    fn begin(&mut self, response: Response) {
        self.is_answered = true;
        // What is gone on with may have been begun by another process.
        self.etag = self.etag.take().or_else(|| strong_etag(&response));
        self.body = response.into_stream();
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
                    self.dropped += drop as u64;
                    if piece.is_empty() {
                        continue;
                    }
                    self.offset += piece.len() as u64;
                    self.since += piece.len() as u64;
                    return Ok(Some(piece));
                }
                None if self.offset >= self.size => return Ok(None),
                None => {
                    let (digest, offset, size) = (self.digest.clone(), self.offset, self.size);
                    BrokeOffSnafu {
                        digest,
                        offset,
                        size,
                    }
                    .build()
                    .into()
                }
                // Everything arrived, and only its end is missing: the digest is the judge.
                Some(Err(_)) if self.offset == self.size => return Ok(None),
                Some(Err(error)) => error.into(),
            };
            // A connection that brings a byte and ends is as good as one that brings none.
            let is_progress = self.since >= PROGRESS
                || self.since > 0 && self.broke.is_none_or(|broke| broke.elapsed() >= PATIENCE);
            if is_progress {
                self.failures = 0;
            }
            (self.since, self.broke) = (0, Some(Instant::now()));
            self.failures += 1;
            if self.failures > MAX_FAILURES || self.dropped > self.size {
                return Err(failure);
            }
            tokio::time::sleep(exchange::backoff(self.failures)).await;
            self.resume().await?;
        }
    }

    async fn resume(&mut self) -> crate::Result<()> {
        let from = (self.offset > 0).then_some((self.offset, self.etag.as_ref()));
        let response = request(&self.repository, &self.digest, from).await;
        let (digest, offset) = (self.digest.clone(), self.offset);
        let context = || FetchRestSnafu {
            digest: digest.clone(),
            offset,
        };
        let mut response = response.with_context(|_| context())?;
        if response.status == StatusCode::RANGE_NOT_SATISFIABLE {
            let whole = request(&self.repository, &self.digest, None).await;
            response = whole.with_context(|_| context())?;
        }
        if response.status == StatusCode::PARTIAL_CONTENT {
            let range = response
                .header(header::CONTENT_RANGE.as_str())
                .unwrap_or_default();
            let is_rest = range
                .strip_prefix("bytes ")
                .and_then(|range| range.split('-').next())
                == Some(&offset.to_string());
            snafu::ensure!(
                is_rest,
                WrongRangeSnafu {
                    digest,
                    offset,
                    range
                }
            );
            self.skip = 0;
        } else {
            self.skip = offset;
        }
        self.begin(response);
        Ok(())
    }
}
