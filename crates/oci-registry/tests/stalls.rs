//! Servers that are slow or stand still, by a clock that nobody waits for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripted;

use std::time::Duration;

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Blob, Delivery, Descriptor, Digest, ErrorKind, MediaType, Source, Target,
};
use scripted::client::{Nobody, repository};
use scripted::{Asked, Reply, Server};

fn content(size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

async fn fetched(server: &Server, content: &[u8]) -> oci_registry::Result<bytes::Bytes> {
    let (digest, size) = (Digest::sha256(content), content.len() as u64);
    let descriptor = Descriptor::new(MediaType::OCTET_STREAM, digest, size);
    let stream = repository(server, Nobody, Access::Pull)
        .blob(&descriptor)
        .await?;
    stream.read_to_end(content.len()).await
}

/// What a registry answers who asks for all of it, or for the rest.
fn served(asked: &Asked, content: &[u8]) -> Reply {
    let range = asked
        .header("range")
        .and_then(|range| range.strip_prefix("bytes="));
    match range.and_then(|range| range.strip_suffix('-')) {
        None => Reply::new(200).body(content),
        Some(from) => {
            let last = content.len() - 1;
            let range = format!("bytes {from}-{last}/{}", content.len());
            let rest = &content[from.parse::<usize>().unwrap()..];
            Reply::new(206).header("Content-Range", range).body(rest)
        }
    }
}

#[tokio::test]
async fn a_download_that_stands_still_is_given_up_after_a_minute_and_gone_on_with() {
    let whole = content(100_000);
    let server = Server::start({
        let whole = whole.clone();
        move |asked, before| match before {
            0 => Reply::new(200)
                .body(&whole)
                .stalled(60_000, Duration::from_secs(61)),
            _ => served(asked, &whole),
        }
    })
    .await;
    let since = tokio::time::Instant::now();
    assert_eq!(fetched(&server, &whole).await.unwrap(), whole);
    let waited = since.elapsed().as_secs();
    assert!((60..70).contains(&waited), "{waited}");
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].header("range"), Some("bytes=60000-"));
}

#[tokio::test]
async fn a_download_may_take_as_long_as_it_likes_while_it_moves() {
    let whole = content(20_000);
    let server = Server::start({
        let whole = whole.clone();
        move |asked, _| served(asked, &whole).paced(1000, Duration::from_secs(50))
    })
    .await;
    let since = tokio::time::Instant::now();
    assert_eq!(fetched(&server, &whole).await.unwrap(), whole);
    assert!(since.elapsed().as_secs() >= 950);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_drip_is_no_download() {
    let whole = content(20_000);
    // Five bytes a second, where ten are the least.
    let server = Server::start({
        let whole = whole.clone();
        move |asked, before| match before {
            0 => served(asked, &whole).paced(50, Duration::from_secs(10)),
            _ => Reply::new(404),
        }
    })
    .await;
    let error = fetched(&server, &whole).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    let from = asked[1].header("range").unwrap();
    let from: usize = from["bytes=".len()..from.len() - 1].parse().unwrap();
    assert!(from <= 400, "{from} bytes were waited for");
}

/// A registry that takes an upload slowly, or takes its time after it.
async fn taker(reads: Option<(usize, Duration)>, finalise: Duration) -> Server {
    Server::reading(reads, move |asked, before| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", format!("/upload/{before}")),
        _ => Reply::new(201).late(finalise),
    })
    .await
}

#[tokio::test]
async fn an_upload_may_take_as_long_as_it_likes_while_it_moves() {
    // More than the sockets of this machine hold.
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, content(48 << 20));
    let slow = Some((8 << 20, Duration::from_secs(50)));
    let server = taker(slow, Duration::ZERO).await;
    let since = tokio::time::Instant::now();
    let pushed = repository(&server, Nobody, Access::Push)
        .push_blob(&blob)
        .await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
    assert!(since.elapsed().as_secs() >= 250);
    let puts = server
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("PUT"));
    assert_eq!(puts.count(), 1);
}

#[tokio::test]
async fn a_registry_may_take_minutes_to_finish_an_upload() {
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, content(100_000));
    let server = taker(None, Duration::from_secs(90)).await;
    let since = tokio::time::Instant::now();
    let pushed = repository(&server, Nobody, Access::Push)
        .push_blob(&blob)
        .await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
    assert!(since.elapsed().as_secs() >= 90);
    let puts = server
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("PUT"));
    assert_eq!(puts.count(), 1);
}

/// Longer than the idle timeout.
const STALL: Duration = Duration::from_secs(65);

/// Longer than the wait for the answer to an upload.
const LONG_STALL: Duration = Duration::from_secs(605);

/// Seconds since then, by the paused clock.
fn seconds(since: tokio::time::Instant) -> u64 {
    since.elapsed().as_secs()
}

/// The innermost cause of an error.
fn root(error: &oci_registry::Error) -> String {
    let mut below: &dyn std::error::Error = error;
    while let Some(cause) = below.source() {
        below = cause;
    }
    below.to_string()
}

#[tokio::test]
async fn request_without_answer_fails_after_two_timeouts() {
    let server = Server::start(|_, _| Reply::silent().late(STALL)).await;
    let since = tokio::time::Instant::now();
    let error = fetched(&server, b"content").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!((120..126).contains(&seconds(since)), "{}", seconds(since));
    assert_eq!(server.asked().len(), 2);
    let root = root(&error);
    assert!(
        root.contains("no data in either direction for 120 seconds"),
        "{root}"
    );
}

#[tokio::test]
async fn reset_between_timeouts_starts_the_count_again() {
    let server = Server::start(|_, before| match before {
        0 | 2 => Reply::silent().late(STALL),
        1 => Reply::lost(),
        _ => Reply::new(200).body("content"),
    })
    .await;
    assert_eq!(fetched(&server, b"content").await.unwrap(), b"content"[..]);
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn download_that_stalls_twice_fails() {
    let whole = content(100_000);
    let server = Server::start({
        let whole = whole.clone();
        move |asked, before| {
            let after = if before == 0 { 60_000 } else { 0 };
            served(asked, &whole).stalled(after, STALL)
        }
    })
    .await;
    let since = tokio::time::Instant::now();
    let error = fetched(&server, &whole).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!((120..126).contains(&seconds(since)), "{}", seconds(since));
    assert_eq!(server.asked().len(), 2);
    let root = root(&error);
    assert!(root.contains("for 120 seconds"), "{root}");
}

#[tokio::test]
async fn download_that_moves_between_stalls_is_resumed() {
    let whole = content(5_000_000);
    let server = Server::start({
        let whole = whole.clone();
        move |asked, before| match before {
            0..=2 => served(asked, &whole).stalled(1_200_000, STALL),
            _ => served(asked, &whole),
        }
    })
    .await;
    assert_eq!(fetched(&server, &whole).await.unwrap(), whole);
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn list_that_stalls_twice_fails() {
    let server = Server::start(|_, _| {
        Reply::new(200)
            .body(r#"{"tags":["a","b"]}"#)
            .stalled(10, STALL)
    })
    .await;
    let since = tokio::time::Instant::now();
    let listed = repository(&server, Nobody, Access::Pull).tags();
    let error = listed.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!((120..310).contains(&seconds(since)), "{}", seconds(since));
}

#[tokio::test]
async fn upload_that_is_not_read_fails_after_two_timeouts() {
    // More than the sockets of this machine hold.
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, content(48 << 20));
    let server = taker(Some((8 << 20, STALL)), Duration::ZERO).await;
    let since = tokio::time::Instant::now();
    let pushed = repository(&server, Nobody, Access::Push)
        .push_blob(&blob)
        .await;
    assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Network);
    assert!((120..126).contains(&seconds(since)), "{}", seconds(since));
}

#[tokio::test]
async fn upload_without_answer_counts_its_long_wait_once() {
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    let server = Server::start(|asked, before| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", format!("/upload/{before}")),
        "PUT" => Reply::silent().late(LONG_STALL),
        _ => Reply::new(204),
    })
    .await;
    let since = tokio::time::Instant::now();
    let pushed = repository(&server, Nobody, Access::Push)
        .push_blob(&blob)
        .await;
    let error = pushed.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!((1200..1270).contains(&seconds(since)), "{}", seconds(since));
}

#[tokio::test]
async fn server_that_stalls_after_an_upload_is_given_up() {
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    let server = Server::start(|asked, before| match asked.method.as_str() {
        "HEAD" if before == 0 => Reply::new(404),
        "POST" => Reply::new(202).header("Location", "/upload"),
        "PUT" => Reply::silent().late(LONG_STALL),
        _ => Reply::silent().late(STALL),
    })
    .await;
    let since = tokio::time::Instant::now();
    let pushed = repository(&server, Nobody, Access::Push)
        .push_blob(&blob)
        .await;
    let error = pushed.unwrap_err();
    assert!((660..666).contains(&seconds(since)), "{}", seconds(since));
    let root = root(&error);
    assert!(root.contains("for 660 seconds"), "{root}");
}

#[tokio::test]
async fn a_download_that_never_gets_any_further_is_given_up() {
    let whole = content(100_000);
    let server = Server::start({
        let whole = whole.clone();
        move |asked, before| match before {
            0 => served(asked, &whole).cut(60_000),
            _ => served(asked, &whole).cut(0),
        }
    })
    .await;
    let error = fetched(&server, &whole).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error:?}");
    assert_eq!(server.asked().len(), 6, "once, and five times more");
}
