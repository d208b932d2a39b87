//! What is about a manifest, at registries that keep account of it and at those that do not.

use std::sync::Arc;

use futures_util::TryStreamExt;
use oci_registry::{
    Algorithm, Blob, CopyOptions, Descriptor, Digest, ErrorKind, Identifier, Index, Manifest,
    MediaType, Memory, Source, Target, copy,
};

use crate::scripted::{Asked, Reply, Server};
use crate::shelf::{Deletes, Served, Shelf};
use crate::{about, by_tag, listed, packed, places, push, repository, served, tag};

fn fallback(subject: &Manifest) -> String {
    subject.digest().to_string().replace(':', "-")
}

fn index(entries: Vec<Descriptor>) -> Manifest {
    Manifest::from_index(Index::new(None, entries)).unwrap()
}

/// A page of a list of referrers.
fn page(entries: &[&Manifest]) -> Reply {
    let entries = entries.iter().map(|manifest| listed(manifest)).collect();
    Reply::new(200)
        .header("Content-Type", MediaType::INDEX)
        .body(index(entries).bytes())
}

async fn all(source: &dyn Source, subject: &Digest) -> oci_registry::Result<Vec<Descriptor>> {
    source.referrers(subject, None).try_collect().await
}

async fn of_type(
    source: &dyn Source,
    subject: &Digest,
    artifact_type: &str,
) -> oci_registry::Result<Vec<Descriptor>> {
    let artifact_type = artifact_type.into();
    let found = source.referrers(subject, Some(&artifact_type));
    found.try_collect().await
}

// ---- lists of a registry

#[tokio::test]
async fn pages_are_merged_and_asked_for_only_when_wanted() {
    let subject = packed("subject").manifest().clone();
    let (one, two) = (about(&subject, "a/one"), about(&subject, "a/two"));
    let path = format!("/v2/acme/widgets/referrers/{}", subject.digest());
    let (first, second) = (page(&[&one]), page(&[&one, &two]));
    let next = format!("{path}?next=2");
    let server = Server::start(move |asked, _| {
        if asked.target == path {
            let link = format!("<{path}?next=2>; rel=\"next\"");
            first.clone().header("Link", link)
        } else {
            second.clone()
        }
    })
    .await;
    let repository = repository(&server);
    let mut found = repository.referrers(subject.digest(), None);
    assert_eq!(found.try_next().await.unwrap(), Some(listed(&one)));
    assert_eq!(server.asked().len(), 1);
    assert_eq!(found.try_next().await.unwrap(), Some(listed(&two)));
    assert_eq!(found.try_next().await.unwrap(), None);
    assert_eq!(server.lines()[1], format!("GET {next}"));
}

#[tokio::test]
async fn a_filter_that_was_not_applied_is_applied_here() {
    let subject = packed("subject").manifest().clone();
    let (one, two) = (about(&subject, "a/one"), about(&subject, "a/two"));
    let answer = page(&[&one, &two]);
    let server = Server::start(move |_, _| answer.clone()).await;
    let found = of_type(&repository(&server), subject.digest(), "a/two").await;
    assert_eq!(found.unwrap(), [listed(&two)]);
    assert!(
        server.lines()[0].ends_with("?artifactType=a%2Ftwo"),
        "{:?}",
        server.lines()
    );
    // A registry that says it has filtered may leave out what it has filtered by.
    let mut bare = listed(&two);
    bare.artifact_type = None;
    let filtered = Reply::new(200)
        .header("Content-Type", MediaType::INDEX)
        .header("OCI-Filters-Applied", "annotation, artifactType")
        .body(index(vec![bare.clone()]).bytes());
    let server = Server::start(move |_, _| filtered.clone()).await;
    let found = of_type(&repository(&server), subject.digest(), "a/two").await;
    assert_eq!(found.unwrap(), [bare]);
}

#[tokio::test]
async fn cannot_tell_is_never_none() {
    let subject = Digest::sha256(b"subject");
    for (status, kind) in [
        (401, ErrorKind::Unauthenticated),
        (403, ErrorKind::Denied),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Network),
        (400, ErrorKind::Protocol),
    ] {
        let server = Server::start(move |_, _| Reply::new(status).header("Retry-After", "0")).await;
        let found = all(&repository(&server), &subject).await;
        assert_eq!(found.unwrap_err().kind(), kind, "{status}");
    }
    let server = Server::start(|_, _| {
        Reply::new(200)
            .header("Content-Type", MediaType::INDEX)
            .body("<html>")
    })
    .await;
    let found = all(&repository(&server), &subject).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_repository_that_is_not_there_has_no_empty_list() {
    let server =
        Server::start(|_, _| Reply::new(404).body(r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#)).await;
    let error = all(&repository(&server), &Digest::sha256(b"subject"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.registry_errors()[0].code, "NAME_UNKNOWN");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_list_without_end_ends_with_an_error() {
    let subject = packed("subject").manifest().clone();
    let attacker = Server::start(|_, _| Reply::new(200)).await;
    let path = format!("/v2/acme/widgets/referrers/{}", subject.digest());
    let elsewhere = format!("http://{}/more", attacker.host());
    for link in [path.as_str(), &elsewhere] {
        let answer =
            page(&[&about(&subject, "a/one")]).header("Link", format!("<{link}>; rel=next"));
        let server = Server::start(move |_, _| answer.clone()).await;
        let found = all(&repository(&server), subject.digest()).await;
        assert_eq!(found.unwrap_err().kind(), ErrorKind::Protocol, "{link}");
        assert_eq!(server.asked().len(), 1);
    }
    assert!(attacker.asked().is_empty());

    let entry =
        |at: u32| Descriptor::new(MediaType::MANIFEST, Digest::sha256(&at.to_le_bytes()), 1);
    let many = index((0..10_001).map(entry).collect());
    let server = Server::start(move |_, _| served(&many)).await;
    let found = all(&repository(&server), subject.digest()).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::Protocol);
}

// ---- lists that clients keep

#[tokio::test]
async fn every_way_of_having_no_lists_leads_to_the_fallback_tag() {
    let subject = packed("subject").manifest().clone();
    let (one, two) = (about(&subject, "a/one"), about(&subject, "a/two"));
    let web = Server::start(|_, _| Reply::new(429).header("Retry-After", "86400")).await;
    let place = format!("http://{}/packages", web.host());
    for unsupported in [
        Reply::new(404).body("404 page not found"),
        Reply::new(404).body(r#"{"errors":[{"code":"UNSUPPORTED"}]}"#),
        Reply::new(405),
        Reply::new(501),
        Reply::new(303).header("Location", &place),
        Reply::new(302).header("Location", "/login/in/a/loop"),
        Reply::new(200)
            .header("Content-Type", "text/html; charset=utf-8")
            .body("<html>"),
        Reply::new(200).body("{}"),
    ] {
        let (tag, list) = (
            format!("/v2/acme/widgets/manifests/{}", fallback(&subject)),
            index(vec![listed(&one), listed(&two)]),
        );
        let answer = unsupported.clone();
        let server = Server::start(move |asked, _| {
            if asked.target == tag {
                served(&list)
            } else {
                answer.clone()
            }
        })
        .await;
        let repository = repository(&server);
        let found = all(&repository, subject.digest()).await.unwrap();
        assert_eq!(found, [listed(&one), listed(&two)], "{unsupported:?}");
        let found = of_type(&repository, subject.digest(), "a/two").await;
        assert_eq!(found.unwrap(), [listed(&two)], "{unsupported:?}");
    }
    assert!(web.asked().is_empty(), "{:?}", web.lines());
}

#[tokio::test]
async fn a_fallback_tag_that_is_absent_or_no_list_means_none() {
    let subject = packed("subject").manifest().clone();
    let shelf = Shelf::serve(Deletes::Everything, |_, _, _| None).await;
    let repository = repository(&shelf.server);
    assert_eq!(all(&repository, subject.digest()).await.unwrap(), []);
    shelf
        .shelf()
        .put(&fallback(&subject), packed("other").manifest());
    assert_eq!(all(&repository, subject.digest()).await.unwrap(), []);
}

/// Serves a repository whose registry answers a manifest with a subject with `OCI-Subject`, and lists with this reply.
async fn noting(subject: &Manifest, list: Reply) -> Served {
    let noted = subject.digest().clone();
    Shelf::serve(Deletes::Everything, move |asked, _, shelf| {
        if asked.target.contains("/referrers/") {
            return Some(list.clone());
        }
        (asked.method == "PUT").then(|| shelf.answer(asked).header("OCI-Subject", &noted))
    })
    .await
}

#[tokio::test]
async fn registry_with_lists_gets_no_fallback_tag() {
    let subject = packed("subject").manifest().clone();
    let (one, two) = (about(&subject, "a/one"), about(&subject, "a/two"));
    let shelf = noting(&subject, page(&[&one])).await;
    let repository = repository(&shelf.server);
    repository.push_manifest(&one).await.unwrap();
    // The list is requested once only.
    repository.push_manifest(&two).await.unwrap();
    let place = "/v2/acme/widgets";
    assert_eq!(
        shelf.server.lines(),
        [
            format!("PUT {place}/manifests/{}", one.digest()),
            format!("GET {place}/referrers/{}", subject.digest()),
            format!("PUT {place}/manifests/{}", two.digest()),
        ]
    );
}

#[tokio::test]
async fn registry_that_sends_oci_subject_only_gets_fallback_tag() {
    let subject = packed("subject").manifest().clone();
    let one = about(&subject, "a/one");
    let shelf = noting(&subject, Reply::new(404).body("404 page not found")).await;
    let repository = repository(&shelf.server);
    repository.push_manifest(&one).await.unwrap();
    let list = shelf.tagged(&fallback(&subject)).unwrap();
    assert_eq!(list.as_index().unwrap().manifests, [listed(&one)]);
    let found = all(&repository, subject.digest()).await.unwrap();
    assert_eq!(found, [listed(&one)]);
}

/// An index of two platforms, and a repository whose registry resolves its fallback tag as its digest: until the tag is
/// set, or always.
async fn aliased(always: bool) -> (Manifest, Served) {
    let mut entry = packed("amd64").manifest().descriptor();
    entry.platform = serde_json::from_str(r#"{"os":"linux","architecture":"amd64"}"#).unwrap();
    let plain = packed("plain").manifest().descriptor();
    let subject = index(vec![entry, plain]);
    let (alias, served) = (fallback(&subject), subject.clone());
    let shelf = Shelf::serve(Deletes::Everything, move |asked, _, shelf| {
        let is_alias = asked.method == "GET" && asked.target.ends_with(&alias);
        (is_alias && (always || !shelf.tags.contains_key(&alias))).then(|| crate::served(&served))
    })
    .await;
    (subject, shelf)
}

#[tokio::test]
async fn fallback_tag_that_is_the_subject_lists_nothing() {
    let (subject, shelf) = aliased(true).await;
    let found = all(&repository(&shelf.server), subject.digest()).await;
    assert_eq!(found.unwrap(), []);
}

#[tokio::test]
async fn fallback_tag_that_is_the_subject_is_replaced_by_a_list() {
    let (subject, shelf) = aliased(false).await;
    let one = about(&subject, "a/one");
    let repository = repository(&shelf.server);
    repository.push_manifest(&one).await.unwrap();
    let found = all(&repository, subject.digest()).await.unwrap();
    assert_eq!(found, [listed(&one)]);
}

#[tokio::test]
async fn fallback_tag_that_stays_the_subject_is_unsupported() {
    let (subject, shelf) = aliased(true).await;
    let one = about(&subject, "a/one");
    let error = repository(&shelf.server)
        .push_manifest(&one)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.in_one_line().contains("resolves"), "{error:?}");
    assert_eq!(shelf.count("PUT", &fallback(&subject)), 1);
}

#[tokio::test]
async fn index_of_platforms_under_fallback_tag_is_left_alone() {
    let (other, _) = aliased(true).await;
    let subject = packed("subject").manifest().clone();
    let shelf = Shelf::serve(Deletes::Everything, |_, _, _| None).await;
    shelf.shelf().put(&fallback(&subject), &other);
    let repository = repository(&shelf.server);
    assert_eq!(all(&repository, subject.digest()).await.unwrap(), []);
    let one = about(&subject, "a/one");
    let error = repository.push_manifest(&one).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(shelf.tagged(&fallback(&subject)), Some(other));
}

#[tokio::test]
async fn a_list_is_kept_for_a_registry_that_keeps_none() {
    let subject = packed("subject").manifest().clone();
    let (one, two) = (about(&subject, "a/one"), about(&subject, "a/two"));
    let shelf = Shelf::serve(Deletes::Everything, |_, _, _| None).await;
    let mut theirs = Index::new(Some("a/list".into()), vec![listed(&one)]);
    theirs.annotations.insert("kept".into(), "yes".into());
    let theirs = Manifest::from_index(theirs).unwrap();
    shelf.shelf().put(&fallback(&subject), &theirs);
    let repository = repository(&shelf.server);
    repository.push_manifest(&two).await.unwrap();
    let list = shelf.tagged(&fallback(&subject)).unwrap();
    let list = list.as_index().unwrap();
    assert_eq!(list.manifests, [listed(&one), listed(&two)]);
    assert_eq!(list.annotations["kept"], "yes");
    assert_eq!(list.artifact_type, Some("a/list".into()));
    let found = all(&repository, subject.digest()).await.unwrap();
    assert_eq!(found, list.manifests);
    // Once more changes nothing.
    repository.push_manifest(&two).await.unwrap();
    assert_eq!(shelf.count("PUT", &fallback(&subject)), 1);
}

#[tokio::test]
async fn a_long_digest_has_a_tag_too() {
    let subject = Algorithm::Sha512.digest(b"subject");
    let mut one = about(packed("x").manifest(), "a/one")
        .as_image()
        .unwrap()
        .clone();
    one.subject = Some(Descriptor::new(MediaType::MANIFEST, subject.clone(), 7));
    let one = Manifest::from_image(one).unwrap();
    let shelf = Shelf::serve(Deletes::Everything, |_, _, _| None).await;
    let repository = repository(&shelf.server);
    repository.push_manifest(&one).await.unwrap();
    let tag = format!("sha512-{}", &subject.encoded()[..64]);
    assert!(shelf.tagged(&tag).is_some());
    assert_eq!(all(&repository, &subject).await.unwrap(), [listed(&one)]);
}

#[tokio::test]
async fn what_is_no_list_is_reported_and_left_alone() {
    let subject = packed("subject").manifest().clone();
    let shelf = Shelf::serve(Deletes::Everything, |_, _, _| None).await;
    let other = packed("other").manifest().clone();
    shelf.shelf().put(&fallback(&subject), &other);
    let one = about(&subject, "a/one");
    let error = repository(&shelf.server)
        .push_manifest(&one)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let hints = format!("{:?}", error.hints());
    assert!(hints.contains("was stored"), "{hints}");
    assert_eq!(shelf.tagged(&fallback(&subject)), Some(other));
    assert_eq!(shelf.count("PUT", &fallback(&subject)), 0);
}

/// Whether a request writes the list of a subject.
fn writes(asked: &Asked, list: &str) -> bool {
    asked.method == "PUT" && asked.target.ends_with(list)
}

#[tokio::test]
async fn an_entry_that_another_writer_lost_is_written_again() {
    let subject = packed("subject").manifest().clone();
    let (ours, theirs) = (about(&subject, "a/ours"), about(&subject, "a/theirs"));
    let (list, other) = (fallback(&subject), index(vec![listed(&theirs)]));
    let shelf = Shelf::serve(Deletes::Everything, move |asked, before, shelf| {
        let reply = writes(asked, &list).then(|| shelf.answer(asked));
        if reply.is_some() && before == 0 {
            shelf.put(&list, &other);
        }
        reply
    })
    .await;
    repository(&shelf.server)
        .push_manifest(&ours)
        .await
        .unwrap();
    let list = shelf.tagged(&fallback(&subject)).unwrap();
    assert_eq!(
        list.as_index().unwrap().manifests,
        [listed(&theirs), listed(&ours)]
    );
    assert_eq!(shelf.count("PUT", &fallback(&subject)), 2);
}

#[tokio::test]
async fn a_registry_that_can_tell_writers_apart_is_asked_to() {
    let subject = packed("subject").manifest().clone();
    let (ours, theirs) = (about(&subject, "a/ours"), about(&subject, "a/theirs"));
    let (list, other) = (fallback(&subject), index(vec![listed(&theirs)]));
    let empty = index(vec![]);
    let mark = |manifest: &Manifest| format!("\"{}\"", manifest.digest());
    let shelf = Shelf::serve(Deletes::Everything, move |asked, before, shelf| {
        if !asked.target.ends_with(&list) {
            return None;
        }
        if asked.method == "GET" {
            let held = shelf.manifests[&shelf.tags[&list]].clone();
            return Some(served(&held).header("ETag", mark(&held)));
        }
        if before == 0 {
            shelf.put(&list, &other);
        }
        let held = shelf.manifests[&shelf.tags[&list]].clone();
        (asked.header("if-match") != Some(&mark(&held))).then(|| Reply::new(412))
    })
    .await;
    shelf.shelf().put(&fallback(&subject), &empty);
    repository(&shelf.server)
        .push_manifest(&ours)
        .await
        .unwrap();
    let list = shelf.tagged(&fallback(&subject)).unwrap();
    assert_eq!(
        list.as_index().unwrap().manifests,
        [listed(&theirs), listed(&ours)]
    );
    assert_eq!(shelf.count("PUT", &fallback(&subject)), 2);
}

#[tokio::test]
async fn a_write_that_failed_is_looked_at_before_it_is_repeated() {
    let subject = packed("subject").manifest().clone();
    let ours = about(&subject, "a/ours");
    for arrives in [false, true] {
        let list = fallback(&subject);
        let shelf = Shelf::serve(Deletes::Everything, move |asked, before, shelf| {
            let fails = writes(asked, &list) && before == 0;
            if fails && arrives {
                shelf.answer(asked);
            }
            fails.then(|| Reply::new(500))
        })
        .await;
        repository(&shelf.server)
            .push_manifest(&ours)
            .await
            .unwrap();
        let list = shelf.tagged(&fallback(&subject)).unwrap();
        assert_eq!(list.as_index().unwrap().manifests, [listed(&ours)]);
        let puts = shelf.count("PUT", &fallback(&subject));
        assert_eq!(puts, if arrives { 1 } else { 2 });
    }
    // What cannot succeed is not repeated.
    let list = fallback(&subject);
    let shelf = Shelf::serve(Deletes::Everything, move |asked, _, _| {
        writes(asked, &list).then(|| Reply::new(403))
    })
    .await;
    let error = repository(&shelf.server)
        .push_manifest(&ours)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(shelf.count("PUT", &fallback(&subject)), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_lose_no_entry() {
    let subject = packed("subject").manifest().clone();
    let shelf = Shelf::serve(Deletes::Everything, |_, _, _| None).await;
    let repository = repository(&shelf.server);
    let pushes = (0..4).map(|at| {
        let (repository, one) = (repository.clone(), about(&subject, &format!("a/{at}")));
        tokio::spawn(async move { repository.push_manifest(&one).await })
    });
    for pushed in futures_util::future::join_all(pushes).await {
        pushed.unwrap().unwrap();
    }
    let found = all(&repository, subject.digest()).await.unwrap();
    assert_eq!(found.len(), 4);
}

#[tokio::test]
async fn a_copy_that_ended_too_early_is_completed() {
    let subject = packed("subject");
    let one = about(subject.manifest(), "a/one");
    let memory = Memory::new();
    memory.push_blob(&Blob::empty()).await.unwrap();
    memory.push_manifest(&one).await.unwrap();
    let shelf = Shelf::serve(Deletes::Everything, |_, _, _| None).await;
    // It is there already, and in no list.
    shelf.shelf().put(one.digest().as_str(), &one);
    let (source, root): (Arc<dyn Source>, Identifier) =
        (Arc::new(memory), one.digest().clone().into());
    let target = repository(&shelf.server);
    copy(&source, &root, &target, CopyOptions::default())
        .await
        .unwrap();
    let found = all(&target, subject.manifest().digest()).await.unwrap();
    assert_eq!(found, [listed(&one)]);
}

// ---- places without a server

#[tokio::test]
async fn every_place_finds_what_is_about_a_manifest() {
    for (place, _home) in places().await {
        let subject = packed("subject");
        push(&*place, &subject, &["1"]).await;
        let (one, two) = (
            about(subject.manifest(), "a/one"),
            about(subject.manifest(), "a/two"),
        );
        place.push_blob(&Blob::empty()).await.unwrap();
        place.push_manifest(&one).await.unwrap();
        place.push_manifest(&two).await.unwrap();
        place.tag(&two, &tag("two")).await.unwrap();
        place.push_manifest(&about(&one, "a/three")).await.unwrap();
        let digest = subject.manifest().digest();
        let mut found = all(&*place, digest).await.unwrap();
        found.sort_by_key(|entry| entry.artifact_type.clone());
        assert_eq!(found, [listed(&one), listed(&two)], "{place:?}");
        let found = of_type(&*place, digest, "a/two").await.unwrap();
        assert_eq!(found, [listed(&two)]);
        // A tag more or less changes nothing about it.
        place.delete_tag(&tag("two")).await.unwrap();
        assert_eq!(all(&*place, digest).await.unwrap().len(), 2);
        place.delete_manifest(one.digest()).await.unwrap();
        assert_eq!(all(&*place, digest).await.unwrap(), [listed(&two)]);
        assert!(place.manifest(&by_tag("1")).await.is_ok());
    }
    let subject = packed("subject");
    assert_eq!(
        all(&subject, subject.manifest().digest()).await.unwrap(),
        []
    );
}
