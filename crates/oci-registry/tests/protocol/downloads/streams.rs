//! Downloads that are interrupted, resumed or rejected.

use oci_registry::{ErrorKind, Source};
use testkit::server::{Response, Server};

use super::{MIB, content, wrong_ranges};
use crate::support::{bytes, descriptor, reader};

/// Reads the content from a registry.
async fn read(server: &Server, content: &[u8]) -> oci_registry::Result<bytes::Bytes> {
    let stream = reader(server).blob(&descriptor(content)).await?;
    stream.read_to_end(4 * MIB).await
}

#[tokio::test]
async fn interrupted_download_with_range_support_resumes() {
    let whole = bytes(100_000);
    let server = Server::start({
        let whole = whole.clone();
        move |request, _| {
            let response = Response::range_of(&whole, request);
            let Some((first, _)) = request.range() else {
                return response.header("ETag", "\"v1\"").cut_after(30_000);
            };
            assert_eq!(request.header("if-range"), Some("\"v1\""));
            if whole.len() - first > 40_000 {
                response.cut_after(40_000)
            } else {
                response
            }
        }
    });
    assert_eq!(read(&server, &whole).await.unwrap(), whole);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn interrupted_download_without_range_support_restarts() {
    let whole = bytes(100_000);
    let server = Server::start({
        let whole = Response::new(200).body(&whole);
        move |request, _| match request.range() {
            Some(_) => whole.clone(),
            None => whole.clone().header("ETag", "\"v1\"").cut_after(30_000),
        }
    });
    assert_eq!(read(&server, &whole).await.unwrap(), whole);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn wrong_range_after_interruption_restarts_the_download() {
    for wrong in wrong_ranges() {
        let server = Server::start(move |request, earlier| match request.range() {
            Some(_) => wrong.clone(),
            None if earlier == 0 => Response::new(200).body(content()).cut_after(1_000_000),
            None => Response::new(200).body(content()),
        });
        assert!(read(&server, &content()).await.unwrap() == content());
        let requests = server.requests();
        let ranges: Vec<_> = requests
            .iter()
            .map(|request| request.header("range"))
            .collect();
        assert_eq!(ranges, [None, Some("bytes=1000000-"), None]);
    }
}

#[tokio::test]
async fn wrong_range_after_the_restart_fails_the_download() {
    let server = Server::start(|request, _| match request.range() {
        Some(_) => Response::new(206)
            .header("Content-Range", "bytes 0-1/2")
            .body("no"),
        None => Response::new(200).body(content()).cut_after(1_000_000),
    });
    let error = read(&server, &content()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn content_with_another_digest_or_size_is_a_mismatch() {
    for body in ["abd", "abcd", "endless endless endless"] {
        let server = Server::start(move |_, _| Response::new(200).body(body));
        let error = read(&server, b"abc").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{body}");
    }
}

#[tokio::test]
async fn download_with_one_byte_per_response_fails() {
    for has_ranges in [true, false] {
        let server = Server::start(move |request, earlier| {
            let whole = content();
            if has_ranges {
                Response::range_of(whole, request).cut_after(1)
            } else {
                // Each response starts at the first byte of the content and is one byte longer than the previous
                // response.
                Response::new(200).body(whole).cut_after(2 * MIB + earlier)
            }
        });
        let error = read(&server, &content()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network);
        let requests = server.requests().len();
        assert!(requests <= 7, "{requests} requests");
    }
}
