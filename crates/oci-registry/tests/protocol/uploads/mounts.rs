//! Cross-repository blob mounts.

use oci_registry::{Delivery, Digest, Target};
use testkit::server::{Response, Server};

use super::{push_known, registry};
use crate::support::{blob, bytes, writer};

#[tokio::test]
async fn rejected_mount_becomes_an_upload() {
    for (status, delivery) in [
        (201, Delivery::Mounted),
        (202, Delivery::Uploaded),
        (401, Delivery::Uploaded),
        (404, Delivery::Uploaded),
        (405, Delivery::Uploaded),
        (500, Delivery::Uploaded),
    ] {
        let server = Server::start(move |request, _| match request.method.as_str() {
            "HEAD" => Response::new(404),
            "POST" if request.target.contains("mount=") => {
                let (_, digest) = request.target.split_once("mount=").unwrap();
                let digest = digest.split('&').next().unwrap().replace("%3A", ":");
                Response::new(status)
                    .header("Location", "/upload/mount")
                    .header("Docker-Content-Digest", digest)
            }
            "POST" => Response::new(202).header("Location", "/upload/own"),
            _ => Response::new(201),
        });
        let origin = format!("{}/acme/gadgets", server.host()).parse().unwrap();
        let blob = blob("content").with_origin(Some(origin));
        let pushed = writer(&server).push_blob(&blob).await;
        assert_eq!(pushed.unwrap(), delivery, "{status}");
        let lines = server.request_lines();
        let mount = format!("mount={}", blob.digest()).replace(':', "%3A");
        assert!(lines[1].contains(&mount), "{lines:#?}");
        assert!(lines[1].contains("from=acme%2Fgadgets"), "{lines:#?}");
        let expected = match status {
            201 => (0, 0),
            202 => (1, 0),
            _ => (0, 1),
        };
        let puts = ["PUT /upload/mount", "PUT /upload/own"].map(|start| server.count(start));
        assert_eq!((puts[0], puts[1]), expected, "{status}: {lines:#?}");
        assert_eq!(server.count("PUT"), expected.0 + expected.1);
    }
}

#[tokio::test]
async fn mount_without_from_is_not_repeated_after_rejection() {
    let registry = registry(|request, _, _| {
        request.target.contains("mount=").then(|| {
            assert!(!request.target.contains("from="));
            Response::new(400)
        })
    });
    let repository = writer(&registry.server);
    for size in [10, 20] {
        let pushed = push_known(&repository, &registry, bytes(size)).await;
        pushed.unwrap();
    }
    assert_eq!(registry.server.count("POST"), 3);
}

#[tokio::test]
async fn mount_without_from_is_accepted_if_blob_exists() {
    let registry = registry(|request, earlier, _| match request.method.as_str() {
        "POST" => Some(Response::new(201).header("Location", "/blob")),
        "HEAD" if earlier > 0 => Some(Response::new(200).header("Content-Length", 7)),
        _ => None,
    });
    let pushed = writer(&registry.server).push_blob(&blob("content")).await;
    assert_eq!(pushed.unwrap(), Delivery::Mounted);
    assert_eq!(registry.server.requests().len(), 3);
}

#[tokio::test]
async fn mount_of_missing_blob_becomes_an_upload() {
    let registry = registry(|request, _, _| {
        let is_mount = request.target.contains("mount=");
        is_mount.then(|| Response::new(201).header("Location", "/upload/mount"))
    });
    let repository = writer(&registry.server);
    let pushed = push_known(&repository, &registry, bytes(10)).await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
}

#[tokio::test]
async fn mount_requests_one_token_for_both_repositories() {
    let server = Server::start(|request, _| match request.header("authorization") {
        _ if request.path() == "/token" => Response::new(200).body(r#"{"token":"t"}"#),
        None => Response::challenge("Bearer realm=\"/token\""),
        _ if request.method == "HEAD" => Response::new(404),
        _ => Response::new(201)
            .header("Location", "/blob")
            .header("Docker-Content-Digest", Digest::sha256(b"x")),
    });
    let origin = format!("{}/acme/gadgets", server.host()).parse().unwrap();
    let blob = blob("x").with_origin(Some(origin));
    let pushed = writer(&server).push_blob(&blob).await;
    assert_eq!(pushed.unwrap(), Delivery::Mounted);
    let lines = server.request_lines();
    let token = lines.iter().rfind(|line| line.contains("/token")).unwrap();
    for scope in ["acme%2Fwidgets%3Apull%2Cpush", "acme%2Fgadgets%3Apull"] {
        let scope = format!("scope=repository%3A{scope}");
        assert!(token.contains(&scope), "{token}");
    }
}
