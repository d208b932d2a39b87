//! Reads and writes of manifests and tags.

use oci_registry::{Digest, ErrorKind, Identifier, MediaType, Source, Tag, Target};
use testkit::server::{Response, Server};

use crate::fixtures::{local_targets, push};
use crate::support::{
    by_tag, descriptor, manifest, manifest_response, packed, read_error, reader, writer,
};

#[tokio::test]
async fn manifest_with_another_digest_is_a_mismatch() {
    let wrong = manifest_response(&manifest("wrong"));
    let server = Server::start(move |_, _| wrong.clone());
    let right = Identifier::Digest(manifest("right").digest().clone());
    let error = reader(&server).manifest(&right).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn incomplete_head_response_is_followed_by_get() {
    let manifest = manifest("x");
    for head in [
        Response::new(405),
        Response::new(403),
        Response::new(200).header("Content-Type", "text/html"),
        Response::new(201)
            .header("Docker-Content-Digest", manifest.digest())
            .header("Content-Type", manifest.media_type())
            .body(manifest.bytes()),
        Response::new(200)
            .header("Docker-Content-Digest", "")
            .header("Content-Type", MediaType::MANIFEST),
    ] {
        let get = manifest_response(&manifest);
        let server = Server::start(move |request, _| match request.method.as_str() {
            "HEAD" => head.clone(),
            _ => get.clone(),
        });
        let found = reader(&server).resolve(&by_tag("1")).await.unwrap();
        assert_eq!(found.digest, *manifest.digest());
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn html_instead_of_a_manifest_is_a_protocol_error() {
    let page = Response::new(200).header("Content-Type", "text/html");
    let page = page.body("<html>");
    let server = Server::start(move |_, _| page.clone());
    let error = read_error(&reader(&server)).await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn lookup_with_error_status_other_than_404_fails() {
    for (status, kind) in [
        (401, ErrorKind::Unauthenticated),
        (403, ErrorKind::Denied),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Network),
        // Only 200 reports that the content exists.
        (201, ErrorKind::Protocol),
        (204, ErrorKind::Protocol),
    ] {
        let server = Server::start(move |_, _| Response::new(status).header("Retry-After", "0"));
        let exists = reader(&server).exists(&descriptor(b"")).await;
        assert_eq!(exists.unwrap_err().kind(), kind, "{status}");
    }
    let server = Server::start(|_, _| Response::new(404));
    let exists = reader(&server).exists(&descriptor(b"")).await;
    assert!(!exists.unwrap());
}

#[tokio::test]
async fn local_blob_lookup_by_digest_returns_its_size() {
    for (target, _home) in local_targets().await {
        push(&*target, &packed("content"), &["1"]).await;
        let digest = Digest::sha256(b"content");
        assert_eq!(target.find_blob(&digest).await.unwrap().size, 7);
        let absent = target.find_blob(&Digest::sha256(b"other")).await;
        assert_eq!(absent.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn blob_lookup_by_digest_returns_its_size() {
    let digest = Digest::sha256(b"content");
    for (response, expected) in [
        (Response::new(200).body("content"), Ok(7)),
        (Response::new(404), Err(ErrorKind::NotFound)),
        (Response::new(403), Err(ErrorKind::Denied)),
    ] {
        let server = Server::start(move |_, _| response.clone());
        let found = writer(&server).find_blob(&digest).await;
        let found = found.map(|found| found.size).map_err(|error| error.kind());
        assert_eq!(found, expected);
        let lines = server.request_lines();
        assert_eq!(lines[0], format!("HEAD /v2/acme/widgets/blobs/{digest}"));
    }
}

// ---- writes

#[tokio::test]
async fn put_that_stores_nothing_is_a_protocol_error() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "PUT" => Response::new(200),
        _ => Response::new(404),
    });
    let pushed = writer(&server).push_manifest(&manifest("x")).await;
    assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn immutable_tag_accepts_its_current_manifest_only() {
    let stored = manifest_response(&manifest("stored"));
    let server = Server::start(move |request, _| match request.method.as_str() {
        "PUT" => Response::error(400, "TAG_INVALID"),
        _ => stored.clone(),
    });
    let (repository, tag) = (writer(&server), "1".parse().unwrap());
    repository.tag(&manifest("stored"), &tag).await.unwrap();
    let error = repository.tag(&manifest("other"), &tag).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn tag_once_sends_no_retry() {
    let server = Server::start(|_, _| Response::new(503).header("Retry-After", "0"));
    let (manifest, tag): (_, Tag) = (manifest("x"), "1".parse().unwrap());
    let repository = writer(&server);
    let error = repository.tag_once(&manifest, &tag).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(server.requests().len(), 1);
    repository.tag(&manifest, &tag).await.unwrap_err();
    assert_eq!(server.requests().len(), 6);
}
