//! Fetching one blob over several connections (RFC 9110, 14; distribution-spec, "Pulling blobs").
//!
//! For networks that give each connection less than they have. The blob is asked for in segments, as many at a time as
//! there may be connections, and passed on in order; so many segments are held at most. A registry that answers the first
//! of them with everything is read as one that knows no ranges.

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use snafu::{ResultExt, Snafu, ensure};

use super::repository::Repository;
use super::response;
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, RegistryError};
use crate::exchange::{self, Request, Response};

/// The size of a segment, in bytes: some milliseconds of a fast connection, and little to hold.
pub(super) const SEGMENT: u64 = 2 << 20;

/// How often a segment is asked for.
const MAX_FAILURES: u32 = 5;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to fetch the bytes from {from} to {to} of the blob {digest}"))]
    Fetch {
        digest: Digest,
        from: u64,
        to: u64,
        source: crate::Error,
    },
    #[snafu(display(
        "refused the bytes from {from} to {to} of the blob {digest}: the registry sent `{range}`"
    ))]
    Other {
        digest: Digest,
        from: u64,
        to: u64,
        range: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fetch { source, .. } => source.kind(),
            // What was cut short on the way may come whole another time.
            Self::Other { .. } => ErrorKind::Network,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Fetch { source, .. } => source.help(),
            Self::Other { .. } => Vec::new(),
        }
    }

    fn registry_errors(&self) -> &[RegistryError] {
        match self {
            Self::Fetch { source, .. } => source.registry_errors(),
            Self::Other { .. } => &[],
        }
    }
}

/// What the first question came to.
pub(super) enum Opened {
    /// The rest of the blob in order.
    Segments(BoxStream<'static, crate::Result<Bytes>>),
    /// The whole blob: this registry knows no ranges.
    Whole(Box<Response>),
}

/// A part of a blob, both ends within.
#[derive(Clone, Copy)]
struct Segment {
    from: u64,
    to: u64,
}

/// Opens a blob from this byte on. The first request is answered when this returns.
pub(super) async fn open(
    repository: &Repository,
    digest: &Digest,
    size: u64,
    offset: u64,
    connections: usize,
) -> crate::Result<Opened> {
    let segments = (0..)
        .map(move |at| offset + at * SEGMENT)
        .take_while(move |from| *from < size)
        .map(move |from| Segment {
            from,
            to: (from + SEGMENT).min(size) - 1,
        });
    let mut segments = segments.peekable();
    let first = match segments.peek() {
        Some(first) => ask(repository, digest, *first).await?,
        None => return Ok(Opened::Segments(futures_util::stream::empty().boxed())),
    };
    if first.status != StatusCode::PARTIAL_CONTENT {
        return Ok(Opened::Whole(Box::new(first)));
    }
    let mut first = Some(first);
    let (repository, digest) = (repository.clone(), digest.clone());
    let pieces = futures_util::stream::iter(segments)
        .map(move |segment| fetch(repository.clone(), digest.clone(), segment, first.take()))
        .buffered(connections);
    Ok(Opened::Segments(pieces.boxed()))
}

async fn ask(
    repository: &Repository,
    digest: &Digest,
    Segment { from, to }: Segment,
) -> crate::Result<Response> {
    let range = HeaderValue::try_from(format!("bytes={from}-{to}"));
    let request = Request::new(Method::GET, repository.url(&format!("blobs/{digest}")))
        .header(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        )
        .header(header::RANGE, range.expect("digits are a header value"));
    let answer = repository.send(request).await?;
    match answer.response.status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer.response),
        _ => Err(response::refusal(repository.registry(), answer).await),
    }
}

/// Fetches a segment, as often as it takes.
async fn fetch(
    repository: Repository,
    digest: Digest,
    segment: Segment,
    mut answered: Option<Response>,
) -> crate::Result<Bytes> {
    let Segment { from, to } = segment;
    let mut failures = 0;
    loop {
        let response = match answered.take() {
            Some(response) => Ok(response),
            None => ask(&repository, &digest, segment).await,
        };
        let read = match response {
            Ok(response) => read(&digest, segment, response).await,
            Err(error) => Err(error),
        };
        match read {
            Err(error) if error.kind() == ErrorKind::Network && failures + 1 < MAX_FAILURES => {
                failures += 1;
                tokio::time::sleep(exchange::backoff(failures)).await;
            }
            read => {
                return Ok(read.with_context(|_| FetchSnafu {
                    digest: digest.clone(),
                    from,
                    to,
                })?);
            }
        }
    }
}

async fn read(
    digest: &Digest,
    Segment { from, to }: Segment,
    response: Response,
) -> crate::Result<Bytes> {
    let range = response
        .header(header::CONTENT_RANGE.as_str())
        .unwrap_or_default()
        .to_owned();
    let size = to - from + 1;
    let is_asked = range.starts_with(&format!("bytes {from}-{to}/"));
    let bytes = if is_asked {
        response
            .bytes(usize::try_from(size).unwrap_or(usize::MAX))
            .await?
    } else {
        Bytes::new()
    };
    ensure!(
        is_asked && bytes.len() as u64 == size,
        OtherSnafu {
            digest: digest.clone(),
            from,
            to,
            range
        }
    );
    Ok(bytes)
}
