//! Taking things away, from registries that do so gladly and from those that do not.

use oci_registry::{Blob, Delete, Digest, ErrorKind, Target};

use crate::scripted::{Reply, Server};
use crate::shelf::{Deletes, Served, Shelf};
use crate::{about, by_tag, packed, places, push, repository, tag};

/// A shelf with one manifest under two tags.
async fn shelf_of_two(deletes: Deletes) -> Served {
    let shelf = Shelf::serve(deletes, |_, _, _| None).await;
    for name in ["1", "latest"] {
        shelf.shelf().put(name, packed("x").manifest());
    }
    shelf
}

#[tokio::test]
async fn a_tag_goes_alone_where_tags_can_be_deleted() {
    let shelf = shelf_of_two(Deletes::Everything).await;
    let repository = repository(&shelf.server);
    repository.delete_tag(&tag("1")).await.unwrap();
    assert_eq!(shelf.tagged("1"), None);
    assert!(shelf.tagged("latest").is_some());
    assert_eq!(
        shelf.server.lines(),
        [
            "HEAD /v2/acme/widgets/manifests/1",
            "DELETE /v2/acme/widgets/manifests/1"
        ]
    );
}

#[tokio::test]
async fn a_tag_goes_alone_where_only_manifests_can_be_deleted() {
    for status in [400, 404, 405, 501] {
        let shelf = shelf_of_two(Deletes::NoTags(status)).await;
        let repository = repository(&shelf.server);
        repository.delete_tag(&tag("1")).await.unwrap();
        assert_eq!(shelf.tagged("1"), None, "{status}");
        assert_eq!(
            shelf.tagged("latest").as_ref(),
            Some(packed("x").manifest())
        );
        // Only what was made for it went with it.
        assert_eq!(shelf.shelf().manifests.len(), 1);
        let held = packed("x").manifest().digest().to_string();
        assert_eq!(shelf.count("DELETE", &held), 0);
    }
}

#[tokio::test]
async fn where_nothing_can_be_deleted_nothing_is_changed() {
    for status in [400, 405, 501] {
        let shelf = shelf_of_two(Deletes::Nothing(status)).await;
        let repository = repository(&shelf.server);
        let digest = packed("x").manifest().digest().clone();
        let blob = Digest::sha256(b"blob");
        shelf.shelf().blobs.push(blob.to_string());
        for error in [
            repository.delete_tag(&tag("1")).await.unwrap_err(),
            repository.delete_manifest(&digest).await.unwrap_err(),
            repository.delete_blob(&blob).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{status}");
            assert!(format!("{:?}", error.hints()).contains("disabled"));
        }
        let methods = ["GET", "HEAD", "DELETE"];
        let asked = shelf.server.asked();
        assert!(
            asked
                .iter()
                .all(|asked| methods.contains(&asked.method.as_str())),
            "{:?}",
            shelf.server.lines()
        );
    }
}

#[tokio::test]
async fn a_tag_that_cannot_be_deleted_after_all_names_what_it_named() {
    // Nothing of the name is there at first, and what is there is kept.
    let shelf = Shelf::serve(Deletes::NoTags(405), |asked, before, _| {
        let is_manifest = asked.method == "DELETE" && asked.target.contains("manifests/sha256:");
        (is_manifest && before > 0).then(|| Reply::new(405))
    })
    .await;
    shelf.shelf().put("1", packed("x").manifest());
    let error = repository(&shelf.server)
        .delete_tag(&tag("1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(shelf.tagged("1").as_ref(), Some(packed("x").manifest()));
}

#[tokio::test]
async fn a_deletion_that_was_interrupted_is_completed() {
    let shelf = Shelf::serve(Deletes::NoTags(405), |asked, before, _| {
        let is_manifest = asked.method == "DELETE" && asked.target.contains("manifests/sha256:");
        (is_manifest && before == 1).then(|| Reply::new(403))
    })
    .await;
    shelf.shelf().put("1", packed("x").manifest());
    let repository = repository(&shelf.server);
    let error = repository.delete_tag(&tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    // As if the tag had not been restored.
    let stand_in = {
        let mut shelf = shelf.shelf();
        let held = packed("x").manifest().digest().to_string();
        let stand_in = shelf.manifests.keys().find(|digest| **digest != held);
        let stand_in = stand_in.unwrap().clone();
        shelf.tags.insert("1".into(), stand_in.clone());
        stand_in
    };
    let puts = shelf.count("PUT", "manifests/1");
    repository.delete_tag(&tag("1")).await.unwrap();
    assert_eq!(shelf.tagged("1"), None);
    assert!(!shelf.shelf().manifests.contains_key(&stand_in));
    assert_eq!(shelf.count("PUT", "manifests/1"), puts);
}

#[tokio::test]
async fn a_deletion_whose_answer_was_lost_is_done() {
    let blob = Digest::sha256(b"blob");
    let shelf = Shelf::serve(Deletes::Everything, |asked, before, shelf| {
        let is_first = asked.method == "DELETE" && before == 0;
        is_first.then(|| {
            shelf.answer(asked);
            Reply::lost()
        })
    })
    .await;
    let packed = packed("x");
    shelf.shelf().put("1", packed.manifest());
    shelf.shelf().blobs.push(blob.to_string());
    let repository = repository(&shelf.server);
    repository.delete_tag(&tag("1")).await.unwrap();
    repository
        .delete_manifest(packed.manifest().digest())
        .await
        .unwrap();
    repository.delete_blob(&blob).await.unwrap();
    assert!(shelf.shelf().manifests.is_empty() && shelf.shelf().blobs.is_empty());
    assert_eq!(shelf.count("DELETE", ""), 6);
}

#[tokio::test]
async fn a_fault_at_a_deletion_that_was_done_is_survived() {
    let shelf = Shelf::serve(Deletes::Everything, |asked, before, shelf| {
        (asked.method == "DELETE" && before == 0).then(|| {
            shelf.answer(asked);
            Reply::new(503).header("Retry-After", "0")
        })
    })
    .await;
    let packed = packed("x");
    shelf.shelf().put("1", packed.manifest());
    let repository = repository(&shelf.server);
    repository.delete_tag(&tag("1")).await.unwrap();
    repository
        .delete_manifest(packed.manifest().digest())
        .await
        .unwrap();
    assert_eq!(shelf.count("DELETE", ""), 4);
}

#[tokio::test]
async fn what_is_not_there_is_not_deleted() {
    let server = Server::start(|_, _| Reply::new(404)).await;
    let repository = repository(&server);
    let digest = Digest::sha256(b"x");
    for error in [
        repository.delete_tag(&tag("1")).await.unwrap_err(),
        repository.delete_manifest(&digest).await.unwrap_err(),
        repository.delete_blob(&digest).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert!(server.asked().iter().all(|asked| asked.method != "DELETE"));
}

#[tokio::test]
async fn a_registry_that_says_no_is_not_taken_for_one_that_cannot() {
    for (status, kind) in [
        (401, ErrorKind::Unauthenticated),
        (403, ErrorKind::Denied),
        (409, ErrorKind::Conflict),
        (429, ErrorKind::RateLimited),
    ] {
        let shelf = Shelf::serve(Deletes::Nothing(status), |_, _, _| None).await;
        shelf.shelf().put("1", packed("x").manifest());
        let error = repository(&shelf.server)
            .delete_tag(&tag("1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(shelf.count("PUT", ""), 0);
    }
}

#[tokio::test]
async fn what_is_gone_leaves_the_list_of_its_subject() {
    let shelf = Shelf::serve(Deletes::Everything, |_, _, _| None).await;
    let repository = repository(&shelf.server);
    let subject = packed("subject").manifest().clone();
    let (one, two) = (about(&subject, "a/one"), about(&subject, "a/two"));
    repository.push_manifest(&one).await.unwrap();
    repository.push_manifest(&two).await.unwrap();
    repository.delete_manifest(one.digest()).await.unwrap();
    let list = shelf.tagged(&subject.digest().to_string().replace(':', "-"));
    let entries = list.unwrap().as_index().unwrap().manifests.clone();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].digest, *two.digest());
}

#[tokio::test]
async fn what_cannot_be_read_can_be_deleted() {
    let digest = Digest::sha256(b"right");
    let server = Server::start(move |asked, _| match asked.method.as_str() {
        "GET" => Reply::new(200).body("wrong"),
        _ => Reply::new(202),
    })
    .await;
    repository(&server).delete_manifest(&digest).await.unwrap();
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn every_place_deletes_what_is_asked_and_no_more() {
    for (place, _home) in places().await {
        let (one, two) = (packed("one"), packed("two"));
        push(&*place, &one, &["1", "latest"]).await;
        push(&*place, &two, &["2"]).await;
        place.delete_tag(&tag("1")).await.unwrap();
        assert!(place.manifest(&by_tag("1")).await.is_err());
        assert!(place.manifest(&by_tag("latest")).await.is_ok());
        place.delete_tag(&tag("latest")).await.unwrap();
        // Without any tag it is still there.
        let digest = one.manifest().digest();
        assert!(place.manifest(&digest.clone().into()).await.is_ok());
        place.tag(one.manifest(), &tag("back")).await.unwrap();
        place.delete_manifest(digest).await.unwrap();
        assert!(place.manifest(&by_tag("back")).await.is_err());
        assert!(place.manifest(&digest.clone().into()).await.is_err());
        let layer = Blob::from_bytes("a/b".into(), "one");
        assert!(place.exists(layer.descriptor()).await.unwrap());
        place.delete_blob(layer.digest()).await.unwrap();
        assert!(!place.exists(layer.descriptor()).await.unwrap());
        for error in [
            place.delete_tag(&tag("1")).await.unwrap_err(),
            place.delete_manifest(digest).await.unwrap_err(),
            place.delete_blob(layer.digest()).await.unwrap_err(),
            // A manifest is no blob.
            place
                .delete_blob(two.manifest().digest())
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{place:?}");
        }
        assert_eq!(place.manifest(&by_tag("2")).await.unwrap(), *two.manifest());
    }
}

#[tokio::test]
async fn a_token_that_lets_delete_is_asked_for_when_it_is_demanded() {
    let server = Server::start(|asked, _| {
        let deletes = asked.method == "DELETE" || asked.target.contains("delete");
        let (token, scope) = if deletes {
            ("deleting", "repository:acme/widgets:delete")
        } else {
            ("writing", "repository:acme/widgets:pull,push")
        };
        if asked.target.starts_with("/token") {
            return Reply::new(200).body(format!(r#"{{"token":"{token}"}}"#));
        }
        if asked.header("authorization") == Some(&format!("Bearer {token}")) {
            return Reply::new(if deletes { 202 } else { 200 });
        }
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        let challenge = format!(r#"Bearer realm="{realm}",service="here",scope="{scope}""#);
        Reply::new(401).header("WWW-Authenticate", challenge)
    })
    .await;
    let blob = Digest::sha256(b"blob");
    repository(&server).delete_blob(&blob).await.unwrap();
    let lines = server.lines();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    // What it was asked for already is asked for along with it.
    assert!(
        lines[4].contains("delete") && lines[4].contains("push"),
        "{lines:#?}"
    );
}
