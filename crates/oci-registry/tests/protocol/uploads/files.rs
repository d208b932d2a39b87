//! Upload of files whose digest is not known, and of files that change during the upload.

use oci_registry::{Blob, Delivery, Digest, ErrorKind, MediaType, Meter, Target};
use testkit::server::{Response, Server};

use super::{LargeFile, MIB, registry};
use crate::support::{bytes, writer};

#[tokio::test]
async fn file_that_changed_after_hashing_is_a_mismatch() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for (hashed, sent) in [("one", "two"), ("one", "o"), ("one", "longer")] {
        std::fs::write(&path, hashed).unwrap();
        let blob = Blob::from_file(MediaType::OCTET_STREAM, &path).await;
        std::fs::write(&path, sent).unwrap();
        let server = Server::start(Response::accepted_upload);
        let pushed = writer(&server).push_blob(&blob.unwrap()).await;
        let kind = pushed.unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Mismatch, "{hashed} became {sent}");
    }
}

#[tokio::test]
async fn small_file_changed_after_hashing_sends_hashed_content() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("small");
    let content = bytes(MIB);
    std::fs::write(&path, &content).unwrap();
    let changing = path.clone();
    let registry = registry(move |request, _, _| {
        if request.method == "POST" {
            std::fs::write(&changing, "something else").unwrap();
        }
        None
    });
    let pushed = writer(&registry.server)
        .push_file(MediaType::OCTET_STREAM, &path, &Meter::default())
        .await;
    let (blob, delivery) = pushed.unwrap();
    assert_eq!(delivery, Delivery::Uploaded);
    assert_eq!(*blob.digest(), Digest::sha256(&content));
    assert!(registry.contents().blobs[blob.digest().as_str()] == content);
    // The returned blob reads the file again, but the file has changed.
    let error = blob.open().await.unwrap().read_to_end(2 * MIB).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Mismatch);
}

#[tokio::test]
async fn large_file_is_hashed_while_it_is_sent() {
    let file = LargeFile::new();
    let server = Server::start(|request, _| match request.method.as_str() {
        "HEAD" => Response::new(404),
        "POST" => Response::new(202).header("Location", "/upload?state=1"),
        "PATCH" => Response::new(202).header("Location", "/upload?state=2"),
        _ => Response::new(201),
    });
    let (blob, delivery) = file.push(&writer(&server)).await.unwrap();
    assert_eq!(*blob.digest(), Digest::sha256(&file.content));
    assert_eq!(delivery, Delivery::Uploaded);
    let requests = server.requests();
    let methods: Vec<_> = requests
        .iter()
        .map(|request| request.method.as_str())
        .collect();
    assert_eq!(methods, ["POST", "PATCH", "HEAD", "PUT"]);
    let [_, patch, _, put] = &requests[..] else {
        unreachable!("the methods are four");
    };
    assert_eq!(patch.target, "/upload?state=1");
    assert!(patch.body == file.content);
    assert_eq!(patch.header("content-range"), None);
    let target = format!("/upload?state=2&digest={}", blob.digest());
    assert_eq!(put.target, target);
    assert_eq!(put.header("content-length"), Some("0"));
}

#[tokio::test]
async fn large_file_that_exists_cancels_its_upload_session() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "HEAD" => Response::new(200).header("Content-Length", 9 * MIB),
        "POST" | "PATCH" => Response::new(202).header("Location", "/upload"),
        _ => Response::new(204),
    });
    let pushed = LargeFile::new().push(&writer(&server)).await;
    assert_eq!(pushed.unwrap().1, Delivery::Existed);
    assert_eq!(server.request_lines().last().unwrap(), "DELETE /upload");
}

#[tokio::test]
async fn file_after_rejected_patch_is_sent_in_one_put() {
    let file = LargeFile::new();
    for status in [405, 416, 501] {
        let server = Server::start(move |request, earlier| match request.method.as_str() {
            "PATCH" => Response::new(status),
            _ => Response::accepted_upload(request, earlier),
        });
        let repository = writer(&server);
        for _ in 0..2 {
            let (blob, _) = file.push(&repository).await.unwrap();
            assert_eq!(*blob.digest(), Digest::sha256(&file.content));
        }
        let counts = (server.count("PATCH"), server.count("PUT"));
        assert_eq!(counts, (1, 2), "{status}");
    }
}

#[tokio::test]
async fn stream_after_500_restarts_in_another_session() {
    let file = LargeFile::new();
    let server = Server::start(|request, earlier| match request.method.as_str() {
        "PATCH" if request.target == "/upload/0" => Response::new(500),
        "PATCH" => Response::new(201).header("Location", "/upload/next"),
        _ => Response::accepted_upload(request, earlier),
    });
    let (blob, _) = file.push(&writer(&server)).await.unwrap();
    assert_eq!(*blob.digest(), Digest::sha256(&file.content));
    assert_eq!(server.count("PATCH /upload/1"), 1);
    let lines = server.request_lines();
    let last = lines.last().unwrap();
    assert!(last.starts_with("PUT /upload/next?digest="), "{lines:#?}");
}
