//! Ranges of a blob (RFC 9110, 14; distribution-spec, "Pulling blobs"), and downloads over several connections.
//!
//! Several connections are faster on networks that limit the rate of each connection. The client requests the blob in
//! segments, one per connection at a time, and yields them in order. The client keeps at most one segment per
//! connection in memory. A registry that does not respond with the requested segment does not support ranges, and the
//! caller continues over one connection.

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use snafu::{ResultExt, Snafu, ensure};

use super::requests::RepositoryRequests;
use super::response;
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure};
use crate::event::Retry;
use crate::exchange::{self, Request, Response};

/// Size of a segment in bytes. A fast connection transfers a segment within milliseconds, and a segment needs little
/// memory.
pub(super) const SEGMENT_SIZE: u64 = 2 << 20;

/// Maximum number of attempts for a segment whose body is interrupted.
const MAX_ATTEMPTS: u32 = 5;

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
        "the registry sent the range `{range}` instead of the bytes from {from} to {to} of the blob {digest}"
    ))]
    WrongRange {
        digest: Digest,
        from: u64,
        to: u64,
        range: String,
    },
    #[snafu(display(
        "the connection closed before the bytes from {from} to {to} of the blob {digest} were received"
    ))]
    Interrupted { digest: Digest, from: u64, to: u64 },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fetch { source, .. } => source.kind(),
            Self::WrongRange { .. } => ErrorKind::Protocol,
            Self::Interrupted { .. } => ErrorKind::Network,
        }
    }
}

/// Outcome of the request for the first segment.
pub(super) enum RangeResponse {
    /// Segments of the rest of the blob, in order.
    Segments(BoxStream<'static, crate::Result<Bytes>>),
    /// Whole blob, because the registry ignores ranges.
    Whole(Box<Response>),
    /// Range other than the requested one.
    OtherRange,
}

/// Range of a blob, with inclusive bounds.
#[derive(Clone, Copy)]
struct Segment {
    from: u64,
    to: u64,
}

/// Whether a response contains exactly the bytes from `from` to `to` of a blob of `size` bytes (RFC 9110, 14.4).
/// Returns `false` for a multipart body.
pub(super) fn is_range(response: &Response, from: u64, to: u64, size: u64) -> bool {
    let is_multipart = response
        .header(header::CONTENT_TYPE.as_str())
        .is_some_and(|media_type| media_type.starts_with("multipart/"));
    let range = response
        .header(header::CONTENT_RANGE.as_str())
        .and_then(parse_range);
    response.status == StatusCode::PARTIAL_CONTENT
        && !is_multipart
        && range.is_some_and(|(first, last, whole)| {
            (first, last) == (from, to) && whole.is_none_or(|whole| whole == size)
        })
}

/// Parses `bytes FIRST-LAST/SIZE`, where the size may be `*`.
fn parse_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (unit, range) = text.split_once(' ')?;
    let (ends, whole) = range.trim().split_once('/')?;
    let (first, last) = ends.split_once('-')?;
    let whole = match whole {
        "*" => None,
        whole => Some(whole.parse().ok()?),
    };
    unit.eq_ignore_ascii_case("bytes")
        .then_some((first.parse().ok()?, last.parse().ok()?, whole))
}

/// Opens a blob at `offset`. Returns after the first response has arrived.
pub(super) async fn open(
    requests: &RepositoryRequests,
    digest: &Digest,
    size: u64,
    offset: u64,
    connections: usize,
) -> crate::Result<RangeResponse> {
    let segments = (0..)
        .map(move |at| offset + at * SEGMENT_SIZE)
        .take_while(move |from| *from < size)
        .map(move |from| Segment {
            from,
            to: (from + SEGMENT_SIZE).min(size) - 1,
        });
    let mut segments = segments.peekable();
    let Some(&segment) = segments.peek() else {
        return Ok(RangeResponse::Segments(
            futures_util::stream::empty().boxed(),
        ));
    };
    let requests_of_first = requests.for_one_operation();
    let first = request_segment(&requests_of_first, digest, segment).await?;
    if first.status == StatusCode::OK {
        return Ok(RangeResponse::Whole(Box::new(first)));
    }
    if !is_range(&first, segment.from, segment.to, size) {
        return Ok(RangeResponse::OtherRange);
    }
    let mut first = Some((requests_of_first, first));
    let (requests, digest) = (requests.clone(), digest.clone());
    let pieces = futures_util::stream::iter(segments)
        .map(move |segment| {
            let (requests, response) = match first.take() {
                Some((requests, response)) => (requests, Some(response)),
                None => (requests.for_one_operation(), None),
            };
            fetch(requests, digest.clone(), segment, size, response)
        })
        .buffered(connections);
    Ok(RangeResponse::Segments(pieces.boxed()))
}

async fn request_segment(
    requests: &RepositoryRequests,
    digest: &Digest,
    Segment { from, to }: Segment,
) -> crate::Result<Response> {
    let range = HeaderValue::try_from(format!("bytes={from}-{to}"));
    let request = Request::new(Method::GET, requests.url(&format!("blobs/{digest}")))
        .header(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        )
        .header(header::RANGE, range.expect("digits are a header value"));
    let authorized = requests.send(request).await?;
    match authorized.response.status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(authorized.response),
        _ => Err(response::into_error(requests.registry(), authorized).await),
    }
}

/// Fetches a segment, and requests it again if its body is interrupted. A failed request is not repeated here, because
/// `exchange` has already repeated it.
async fn fetch(
    requests: RepositoryRequests,
    digest: Digest,
    segment: Segment,
    size: u64,
    mut first_response: Option<Response>,
) -> crate::Result<Bytes> {
    let Segment { from, to } = segment;
    let mut failures = 0;
    let fetched = async {
        loop {
            let response = match first_response.take() {
                Some(response) => response,
                None => request_segment(&requests, &digest, segment).await?,
            };
            let error = match read(&digest, segment, size, response).await {
                Err(error) if error.kind() == ErrorKind::Network => error,
                read => return read,
            };
            failures += 1;
            if failures == MAX_ATTEMPTS || requests.is_stalled() {
                return Err(error);
            }
            let retry = Retry {
                operation: format!(
                    "download of the bytes from {from} to {to} of the blob {digest}"
                ),
                attempt: failures + 1,
                attempts: MAX_ATTEMPTS,
                delay: exchange::backoff(failures),
                cause: exchange::retry_cause(&error, requests.secrets()),
            };
            retry.wait(requests.observer()).await;
        }
    };
    Ok(fetched.await.with_context(|_| FetchSnafu {
        digest: digest.clone(),
        from,
        to,
    })?)
}

async fn read(
    digest: &Digest,
    Segment { from, to }: Segment,
    size: u64,
    response: Response,
) -> crate::Result<Bytes> {
    ensure!(
        is_range(&response, from, to, size),
        WrongRangeSnafu {
            digest: digest.clone(),
            from,
            to,
            range: display_range(&response),
        }
    );
    let length = to - from + 1;
    let bytes = response
        .bytes(usize::try_from(length).unwrap_or(usize::MAX))
        .await?;
    ensure!(
        bytes.len() as u64 == length,
        InterruptedSnafu {
            digest: digest.clone(),
            from,
            to
        }
    );
    Ok(bytes)
}

/// Formats the range of a response for an error message.
pub(super) fn display_range(response: &Response) -> String {
    let range = response.header(header::CONTENT_RANGE.as_str());
    response.secrets().escape(range.unwrap_or_default(), 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_range_of_another_form_is_rejected() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, 9, Some(10)))),
            ("Bytes 5-9/*", Some((5, 9, None))),
            ("bytes 5-9", None),
            ("bytes */10", None),
            ("bytes=5-9/10", None),
            ("bytes 5-9/x", None),
            ("bytes -5-9/10", None),
            ("items 5-9/10", None),
            ("", None),
        ] {
            assert_eq!(parse_range(text), expected, "{text}");
        }
    }
}
