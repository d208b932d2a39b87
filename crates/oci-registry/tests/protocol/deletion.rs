//! Deletion of tags, manifests and blobs, at registries with and without support for deletion.

use oci_registry::{Blob, Delete, Digest, ErrorKind, Target};
use testkit::registry::{Deletion, FakeRegistry};
use testkit::server::{Response, Server};

use crate::fixtures::{
    NO_REFERRERS, local_targets, push, referrer, registry, tag, without_referrers,
};
use crate::support::{by_tag, manifest, packed, store, tagged_manifest, writer};

/// Starts a registry with one manifest under two tags.
fn registry_with_two_tags(deletion: Deletion) -> FakeRegistry {
    let registry = FakeRegistry::start(without_referrers(deletion));
    for name in ["1", "latest"] {
        store(&mut registry.contents(), name, &manifest("x"));
    }
    registry
}

#[tokio::test]
async fn tag_deletion_keeps_the_manifest() {
    let registry = registry_with_two_tags(Deletion::Everything);
    let repository = writer(&registry.server);
    repository.delete_tag(&tag("1")).await.unwrap();
    assert_eq!(tagged_manifest(&registry, "1"), None);
    assert!(tagged_manifest(&registry, "latest").is_some());
    assert_eq!(
        registry.server.request_lines(),
        [
            "HEAD /v2/acme/widgets/manifests/1",
            "DELETE /v2/acme/widgets/manifests/1"
        ]
    );
}

#[tokio::test]
async fn tag_deletion_without_tag_support_keeps_the_manifest() {
    for status in [400, 404, 405, 501] {
        let registry = registry_with_two_tags(Deletion::NoTags(status));
        let repository = writer(&registry.server);
        repository.delete_tag(&tag("1")).await.unwrap();
        assert_eq!(tagged_manifest(&registry, "1"), None, "{status}");
        assert_eq!(
            tagged_manifest(&registry, "latest").as_ref(),
            Some(packed("x").manifest())
        );
        // The placeholder manifest that the client pushed is deleted, too.
        assert_eq!(registry.contents().manifests.len(), 1);
        let held = packed("x").manifest().digest().to_string();
        assert_eq!(registry.count("DELETE", &held), 0);
    }
}

#[tokio::test]
async fn deletion_at_registry_without_support_changes_nothing() {
    for status in [400, 405, 501] {
        let registry = registry_with_two_tags(Deletion::Nothing(status));
        let repository = writer(&registry.server);
        let digest = packed("x").manifest().digest().clone();
        let blob = Digest::sha256(b"blob");
        registry
            .contents()
            .blobs
            .insert(blob.to_string(), b"blob".to_vec());
        for error in [
            repository.delete_tag(&tag("1")).await.unwrap_err(),
            repository.delete_manifest(&digest).await.unwrap_err(),
            repository.delete_blob(&blob).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{status}");
            assert!(format!("{:?}", error.hints()).contains("enable deletion on"));
        }
        let methods = ["GET", "HEAD", "DELETE"];
        let requests = registry.server.requests();
        assert!(
            requests
                .iter()
                .all(|request| methods.contains(&request.method.as_str())),
            "{:?}",
            registry.server.request_lines()
        );
    }
}

#[tokio::test]
async fn tag_that_cannot_be_deleted_is_restored() {
    // The registry responds to the first deletion of a manifest with 404, and to later deletions with 405.
    let registry = FakeRegistry::start_with(
        without_referrers(Deletion::NoTags(405)),
        |request, earlier, _| {
            let is_manifest =
                request.method == "DELETE" && request.target.contains("manifests/sha256:");
            (is_manifest && earlier > 0).then(|| Response::new(405))
        },
    );
    store(&mut registry.contents(), "1", packed("x").manifest());
    let error = writer(&registry.server)
        .delete_tag(&tag("1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        tagged_manifest(&registry, "1").as_ref(),
        Some(packed("x").manifest())
    );
}

#[tokio::test]
async fn interrupted_tag_deletion_is_completed_by_next_deletion() {
    let registry = FakeRegistry::start_with(
        without_referrers(Deletion::NoTags(405)),
        |request, earlier, _| {
            let is_manifest =
                request.method == "DELETE" && request.target.contains("manifests/sha256:");
            (is_manifest && earlier == 1).then(|| Response::new(403))
        },
    );
    store(&mut registry.contents(), "1", packed("x").manifest());
    let repository = writer(&registry.server);
    let error = repository.delete_tag(&tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    // Sets the tag to the placeholder manifest, as if the client had not restored the tag.
    let stand_in = {
        let mut registry = registry.contents();
        let held = packed("x").manifest().digest().to_string();
        let stand_in = registry.manifests.keys().find(|digest| **digest != held);
        let stand_in = stand_in.unwrap().clone();
        registry.tags.insert("1".into(), stand_in.clone());
        stand_in
    };
    let puts = registry.count("PUT", "manifests/1");
    repository.delete_tag(&tag("1")).await.unwrap();
    assert_eq!(tagged_manifest(&registry, "1"), None);
    assert!(!registry.contents().manifests.contains_key(&stand_in));
    assert_eq!(registry.count("PUT", "manifests/1"), puts);
}

#[tokio::test]
async fn deletion_with_lost_response_succeeds() {
    let blob = Digest::sha256(b"blob");
    let registry = FakeRegistry::start_with(NO_REFERRERS, |request, earlier, contents| {
        let is_first = request.method == "DELETE" && earlier == 0;
        is_first.then(|| {
            contents.respond(request);
            Response::connection_closed()
        })
    });
    let packed = packed("x");
    store(&mut registry.contents(), "1", packed.manifest());
    registry
        .contents()
        .blobs
        .insert(blob.to_string(), b"blob".to_vec());
    let repository = writer(&registry.server);
    repository.delete_tag(&tag("1")).await.unwrap();
    repository
        .delete_manifest(packed.manifest().digest())
        .await
        .unwrap();
    repository.delete_blob(&blob).await.unwrap();
    assert!(registry.contents().manifests.is_empty() && registry.contents().blobs.is_empty());
    assert_eq!(registry.count("DELETE", ""), 6);
}

#[tokio::test]
async fn deletion_retried_after_503_succeeds_with_404() {
    let registry = FakeRegistry::start_with(NO_REFERRERS, |request, earlier, contents| {
        (request.method == "DELETE" && earlier == 0).then(|| {
            contents.respond(request);
            Response::new(503).header("Retry-After", "0")
        })
    });
    let packed = packed("x");
    store(&mut registry.contents(), "1", packed.manifest());
    let repository = writer(&registry.server);
    repository.delete_tag(&tag("1")).await.unwrap();
    repository
        .delete_manifest(packed.manifest().digest())
        .await
        .unwrap();
    assert_eq!(registry.count("DELETE", ""), 4);
}

#[tokio::test]
async fn deletion_of_absent_content_is_not_found() {
    let server = Server::start(|_, _| Response::new(404));
    let repository = writer(&server);
    let digest = Digest::sha256(b"x");
    for error in [
        repository.delete_tag(&tag("1")).await.unwrap_err(),
        repository.delete_manifest(&digest).await.unwrap_err(),
        repository.delete_blob(&digest).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.method != "DELETE")
    );
}

#[tokio::test]
async fn denied_deletion_reports_error_kind_of_its_status() {
    for (status, kind) in [
        (401, ErrorKind::Unauthenticated),
        (403, ErrorKind::Denied),
        (409, ErrorKind::Conflict),
        (429, ErrorKind::RateLimited),
    ] {
        let registry = FakeRegistry::start(without_referrers(Deletion::Nothing(status)));
        store(&mut registry.contents(), "1", packed("x").manifest());
        let error = writer(&registry.server)
            .delete_tag(&tag("1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(registry.count("PUT", ""), 0);
    }
}

#[tokio::test]
async fn deletion_with_unspecified_success_status_fails() {
    for status in [201, 206] {
        let server = Server::start(move |request, _| match request.method.as_str() {
            "HEAD" => Response::new(200),
            _ => Response::new(status),
        });
        let digest = Digest::sha256(b"x");
        let error = writer(&server).delete_blob(&digest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{status}");
    }
}

#[tokio::test]
async fn deletion_redirected_to_other_origin_is_rejected() {
    let other = Server::start(|_, _| Response::new(202));
    let location = format!("http://{}/x", other.host());
    let server = Server::start(move |request, _| match request.method.as_str() {
        "HEAD" => Response::new(200),
        _ => Response::new(307).header("Location", &location),
    });
    let digest = Digest::sha256(b"x");
    let error = writer(&server).delete_blob(&digest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(other.request_lines(), [""; 0]);
}

#[tokio::test]
async fn deletion_redirected_to_other_repository_is_rejected() {
    let server = Server::start(move |request, _| match request.method.as_str() {
        "HEAD" => Response::new(200),
        _ if request.target.contains("/other/") => Response::new(202),
        _ => Response::new(307).header("Location", "/v2/other/blobs/x"),
    });
    let digest = Digest::sha256(b"x");
    let error = writer(&server).delete_blob(&digest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn deleted_referrer_is_removed_from_the_list_of_its_subject() {
    let registry = registry();
    let repository = writer(&registry.server);
    let subject = manifest("subject");
    let (one, two) = (referrer(&subject, "a/one"), referrer(&subject, "a/two"));
    repository.push_manifest(&one).await.unwrap();
    repository.push_manifest(&two).await.unwrap();
    repository.delete_manifest(one.digest()).await.unwrap();
    let list = tagged_manifest(&registry, &subject.digest().to_string().replace(':', "-"));
    let entries = list.unwrap().as_index().unwrap().manifests.clone();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].digest, *two.digest());
}

#[tokio::test]
async fn unreadable_manifest_is_deleted() {
    let digest = Digest::sha256(b"right");
    let server = Server::start(move |request, _| match request.method.as_str() {
        "GET" => Response::new(200).body("wrong"),
        _ => Response::new(202),
    });
    writer(&server).delete_manifest(&digest).await.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn local_target_deletes_named_content_only() {
    for (target, _home) in local_targets().await {
        let (one, two) = (packed("one"), packed("two"));
        push(&*target, &one, &["1", "latest"]).await;
        push(&*target, &two, &["2"]).await;
        target.delete_tag(&tag("1")).await.unwrap();
        assert!(target.manifest(&by_tag("1")).await.is_err());
        assert!(target.manifest(&by_tag("latest")).await.is_ok());
        target.delete_tag(&tag("latest")).await.unwrap();
        // The manifest remains, but has no tag.
        let digest = one.manifest().digest();
        assert!(target.manifest(&digest.clone().into()).await.is_ok());
        target.tag(one.manifest(), &tag("back")).await.unwrap();
        target.delete_manifest(digest).await.unwrap();
        assert!(target.manifest(&by_tag("back")).await.is_err());
        assert!(target.manifest(&digest.clone().into()).await.is_err());
        let layer = Blob::from_bytes("a/b".into(), "one");
        assert!(target.exists(layer.descriptor()).await.unwrap());
        target.delete_blob(layer.digest()).await.unwrap();
        assert!(!target.exists(layer.descriptor()).await.unwrap());
        for error in [
            target.delete_tag(&tag("1")).await.unwrap_err(),
            target.delete_manifest(digest).await.unwrap_err(),
            target.delete_blob(layer.digest()).await.unwrap_err(),
            // A manifest digest does not identify a blob.
            target
                .delete_blob(two.manifest().digest())
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{target:?}");
        }
        assert_eq!(
            target.manifest(&by_tag("2")).await.unwrap(),
            *two.manifest()
        );
    }
}
