//! Servers that are slow or stall, with a paused clock.

use std::time::Duration;

use futures_util::TryStreamExt;
use oci_registry::{Delivery, ErrorKind, Source, Target};
use testkit::server::{Response, Server};
use tokio::time::Instant;

use crate::support::{blob, bytes, descriptor, reader, writer};

/// Duration that is longer than the idle timeout.
const STALL: Duration = Duration::from_secs(65);

/// Duration that is longer than the timeout for the response to an upload.
const LONG_STALL: Duration = Duration::from_secs(605);

/// Size of content that exceeds the socket buffers of the machine, in bytes.
const LARGE: usize = 48 << 20;

/// Returns the number of seconds since an instant, measured by the paused clock.
fn seconds(since: Instant) -> u64 {
    since.elapsed().as_secs()
}

/// Returns the innermost cause of an error.
fn root_cause(error: &oci_registry::Error) -> String {
    let mut below: &dyn std::error::Error = error;
    while let Some(cause) = below.source() {
        below = cause;
    }
    below.to_string()
}

async fn read(server: &Server, content: &[u8]) -> oci_registry::Result<bytes::Bytes> {
    let stream = reader(server).blob(&descriptor(content)).await?;
    stream.read_to_end(content.len()).await
}

async fn push(server: &Server, content: impl Into<bytes::Bytes>) -> oci_registry::Result<Delivery> {
    writer(server).push_blob(&blob(content)).await
}

/// Starts a registry that reads 8 MiB of an upload per interval.
fn slow_reader(interval: Duration) -> Server {
    Server::start_slow_reader(8 << 20, interval, Response::accepted_upload)
}

// ---- downloads

#[tokio::test]
async fn download_that_stalls_for_a_minute_is_resumed() {
    let whole = bytes(100_000);
    let server = Server::start({
        let whole = whole.clone();
        move |request, earlier| {
            let response = Response::range_of(&whole, request);
            match earlier {
                0 => response.stall_after(60_000, Duration::from_secs(61)),
                _ => response,
            }
        }
    });
    let since = Instant::now();
    assert_eq!(read(&server, &whole).await.unwrap(), whole);
    assert!((60..70).contains(&seconds(since)), "{}", seconds(since));
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("range"), Some("bytes=60000-"));
}

#[tokio::test]
async fn slow_download_with_progress_has_no_time_limit() {
    let whole = bytes(20_000);
    let server = Server::start({
        let whole = whole.clone();
        move |request, _| {
            Response::range_of(&whole, request).with_pace(1000, Duration::from_secs(50))
        }
    });
    let since = Instant::now();
    assert_eq!(read(&server, &whole).await.unwrap(), whole);
    assert!(seconds(since) >= 950);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn download_below_ten_bytes_per_second_counts_as_stalled() {
    let whole = bytes(20_000);
    let server = Server::start({
        let whole = whole.clone();
        move |request, earlier| match earlier {
            0 => Response::range_of(&whole, request).with_pace(50, Duration::from_secs(10)),
            _ => Response::new(404),
        }
    });
    let error = read(&server, &whole).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    let (first, _) = requests[1].range().unwrap();
    assert!(first <= 400, "{first} bytes were read");
}

#[tokio::test]
async fn download_that_stalls_twice_fails() {
    let whole = bytes(100_000);
    let server = Server::start({
        let whole = whole.clone();
        move |request, earlier| {
            let sent = if earlier == 0 { 60_000 } else { 0 };
            Response::range_of(&whole, request).stall_after(sent, STALL)
        }
    });
    let since = Instant::now();
    let error = read(&server, &whole).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!((120..126).contains(&seconds(since)), "{}", seconds(since));
    assert_eq!(server.requests().len(), 2);
    let cause = root_cause(&error);
    assert!(cause.contains("for 120 seconds"), "{cause}");
}

#[tokio::test]
async fn download_with_progress_between_stalls_is_resumed() {
    let whole = bytes(5_000_000);
    let server = Server::start({
        let whole = whole.clone();
        move |request, earlier| {
            let response = Response::range_of(&whole, request);
            match earlier {
                0..=2 => response.stall_after(1_200_000, STALL),
                _ => response,
            }
        }
    });
    assert_eq!(read(&server, &whole).await.unwrap(), whole);
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn download_without_progress_fails_after_six_requests() {
    let whole = bytes(100_000);
    let server = Server::start({
        let whole = whole.clone();
        move |request, earlier| {
            let sent = if earlier == 0 { 60_000 } else { 0 };
            Response::range_of(&whole, request).cut_after(sent)
        }
    });
    let error = read(&server, &whole).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error:?}");
    assert_eq!(server.requests().len(), 6, "once, and five times more");
}

#[tokio::test]
async fn list_that_stalls_twice_fails() {
    let page = Response::new(200).body(r#"{"tags":["a","b"]}"#);
    let page = page.stall_after(10, STALL);
    let server = Server::start(move |_, _| page.clone());
    let since = Instant::now();
    let listed = reader(&server).tags().try_collect::<Vec<_>>().await;
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::Network);
    assert!((120..310).contains(&seconds(since)), "{}", seconds(since));
}

// ---- requests without a response

#[tokio::test]
async fn request_without_response_fails_after_two_timeouts() {
    let server = Server::start(|_, _| Response::never().with_delay(STALL));
    let since = Instant::now();
    let error = read(&server, b"content").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!((120..126).contains(&seconds(since)), "{}", seconds(since));
    assert_eq!(server.requests().len(), 2);
    let cause = root_cause(&error);
    let expected = "no data in either direction for 120 seconds";
    assert!(cause.contains(expected), "{cause}");
}

#[tokio::test]
async fn connection_reset_between_timeouts_restarts_their_count() {
    let server = Server::start(|_, earlier| match earlier {
        0 | 2 => Response::never().with_delay(STALL),
        1 => Response::connection_closed(),
        _ => Response::new(200).body("content"),
    });
    assert_eq!(read(&server, b"content").await.unwrap(), "content");
    assert_eq!(server.requests().len(), 4);
}

// ---- uploads

#[tokio::test]
async fn slow_upload_with_progress_has_no_time_limit() {
    let server = slow_reader(Duration::from_secs(50));
    let since = Instant::now();
    let pushed = push(&server, bytes(LARGE)).await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
    assert!(seconds(since) >= 250);
    assert_eq!(server.count("PUT"), 1);
}

#[tokio::test]
async fn upload_waits_minutes_for_its_response() {
    let server = Server::start(|request, earlier| {
        let response = Response::accepted_upload(request, earlier);
        match request.method.as_str() {
            "HEAD" | "POST" => response,
            _ => response.with_delay(Duration::from_secs(90)),
        }
    });
    let since = Instant::now();
    let pushed = push(&server, bytes(100_000)).await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
    assert!(seconds(since) >= 90);
    assert_eq!(server.count("PUT"), 1);
}

#[tokio::test]
async fn upload_not_read_by_server_fails_after_two_timeouts() {
    let server = slow_reader(STALL);
    let since = Instant::now();
    let pushed = push(&server, bytes(LARGE)).await;
    assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Network);
    assert!((120..126).contains(&seconds(since)), "{}", seconds(since));
}

#[tokio::test]
async fn upload_without_response_fails_after_20_minutes() {
    let server = Server::start(|request, earlier| match request.method.as_str() {
        "PUT" => Response::never().with_delay(LONG_STALL),
        _ => Response::accepted_upload(request, earlier),
    });
    let since = Instant::now();
    let error = push(&server, "content").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!((1200..1270).contains(&seconds(since)), "{}", seconds(since));
}

#[tokio::test]
async fn stalled_check_after_upload_timeout_fails_the_push() {
    let server = Server::start(|request, earlier| match request.method.as_str() {
        "HEAD" if earlier == 0 => Response::new(404),
        "POST" => Response::new(202).header("Location", "/upload"),
        "PUT" => Response::never().with_delay(LONG_STALL),
        _ => Response::never().with_delay(STALL),
    });
    let since = Instant::now();
    let error = push(&server, "content").await.unwrap_err();
    assert!((660..666).contains(&seconds(since)), "{}", seconds(since));
    let cause = root_cause(&error);
    assert!(cause.contains("for 660 seconds"), "{cause}");
}
