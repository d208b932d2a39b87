//! Downloads over several connections.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_registry::{Access, Client, ErrorKind, PartialBlob, Repository, Source};
use testkit::server::{Response, Server};

use super::{MIB, wrong_ranges};
use crate::support::{NoCredential, bytes, descriptor, open, options};

/// Opens a repository whose blobs are read over three connections.
fn repository(server: &Server) -> Repository {
    let mut options = options(NoCredential);
    options.connections_per_blob = 3;
    open(&Client::new(options), server, Access::Pull)
}

/// Returns 11 MiB: five whole segments and half a segment.
fn long_content() -> Vec<u8> {
    bytes(11 * MIB)
}

async fn read(server: &Server) -> oci_registry::Result<Bytes> {
    let stream = repository(server)
        .blob(&descriptor(&long_content()))
        .await?;
    stream.read_to_end(20 * MIB).await
}

#[tokio::test]
async fn interrupted_segment_is_requested_again() {
    let server = Server::start(|request, earlier| {
        let response = Response::range_of(long_content(), request);
        match earlier {
            1 => response.cut_after(1000),
            2 => Response::new(503),
            _ => response,
        }
    });
    assert!(read(&server).await.unwrap() == long_content());
    let requests = server.requests();
    let ranges: BTreeSet<_> = requests
        .iter()
        .map(|request| request.header("range").unwrap())
        .collect();
    assert_eq!(ranges.len(), 6, "{ranges:?}");
    assert!(requests.len() >= 8);
}

#[tokio::test]
async fn download_after_wrong_segment_uses_one_connection() {
    for wrong in wrong_ranges() {
        for at in [0, 3] {
            let wrong = wrong.clone();
            let server = Server::start(move |request, earlier| {
                if earlier == at && request.range().is_some() {
                    wrong.clone()
                } else {
                    Response::range_of(long_content(), request)
                }
            });
            assert!(read(&server).await.unwrap() == long_content());
        }
    }
}

#[tokio::test]
async fn blob_without_range_support_is_read_with_one_request() {
    let server = Server::start(|_, _| Response::new(200).body(long_content()));
    assert!(read(&server).await.unwrap() == long_content());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn small_blob_is_read_over_several_connections() {
    let server = Server::start(|request, _| Response::range_of("small", request));
    let stream = repository(&server).blob(&descriptor(b"small")).await;
    assert_eq!(stream.unwrap().read_to_end(10).await.unwrap(), "small");
}

#[tokio::test]
async fn absent_blob_over_several_connections_is_not_found() {
    let server = Server::start(|_, _| Response::new(404));
    let error = read(&server).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn wrong_content_over_several_connections_is_a_mismatch() {
    let mut wrong = long_content();
    wrong[10 * MIB] ^= 1;
    let server = Server::start(move |request, _| Response::range_of(&wrong, request));
    let error = read(&server).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
}

#[tokio::test]
async fn partial_blob_continues_over_several_connections() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("beginning");
    std::fs::write(&path, &long_content()[..3 * MIB]).unwrap();
    let descriptor = descriptor(&long_content());
    for (has_ranges, requests) in [(true, 4), (false, 1)] {
        let server = Server::start(move |request, _| {
            if has_ranges {
                Response::range_of(long_content(), request)
            } else {
                Response::new(200).body(long_content())
            }
        });
        let file = std::fs::File::open(&path).unwrap();
        let beginning = PartialBlob::from_file(&descriptor.digest, file, &path, 3 << 20).await;
        let repository = repository(&server);
        let stream = repository.blob_after(&descriptor, beginning.unwrap()).await;
        let rest: Vec<Bytes> = stream.unwrap().try_collect().await.unwrap();
        assert!(rest.concat() == long_content()[3 * MIB..]);
        assert_eq!(server.requests().len(), requests);
    }
}
