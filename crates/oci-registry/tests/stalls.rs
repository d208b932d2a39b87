//! Servers that are slow or stand still, by a clock that nobody waits for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripted;

use std::time::Duration;

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
