//! Referrers of a manifest, at registries with the referrers API and at registries that do not have it.

use std::sync::Arc;

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Algorithm, Blob, ClientEvent, CopyOptions, Descriptor, Digest, ErrorKind, Identifier,
    Index, Manifest, MediaType, Memory, Reference, Repository, Source, Target, copy,
};
use testkit::registry::{FakeRegistry, StoredManifest};
use testkit::server::{Request, Response, Server};

use crate::fixtures::{
    NO_REFERRERS, local_targets, push, referrer, referrer_descriptor, registry, tag,
};
use crate::support::{
    Observed, by_tag, manifest, manifest_response, observe, observe_retries, observed_client, open,
    packed, store, tagged_manifest, writer,
};

fn fallback(subject: &Manifest) -> String {
    subject.digest().to_string().replace(':', "-")
}

fn index(entries: Vec<Descriptor>) -> Manifest {
    Manifest::from_index(Index::new(None, entries)).unwrap()
}

/// Returns a page of a list of referrers.
fn page(entries: &[&Manifest]) -> Response {
    let entries = entries
        .iter()
        .map(|manifest| referrer_descriptor(manifest))
        .collect();
    Response::new(200)
        .header("Content-Type", MediaType::INDEX)
        .body(index(entries).bytes())
}

async fn all(source: &dyn Source, subject: &Digest) -> oci_registry::Result<Vec<Descriptor>> {
    source.referrers(subject, None).try_collect().await
}

async fn referrers_of_type(
    source: &dyn Source,
    subject: &Digest,
    artifact_type: &str,
) -> oci_registry::Result<Vec<Descriptor>> {
    let artifact_type = artifact_type.into();
    let found = source.referrers(subject, Some(&artifact_type));
    found.try_collect().await
}

// ---- the referrers API

#[tokio::test]
async fn referrers_of_the_next_page_are_requested_when_needed() {
    let subject = manifest("subject");
    let (one, two) = (referrer(&subject, "a/one"), referrer(&subject, "a/two"));
    let path = format!("/v2/acme/widgets/referrers/{}", subject.digest());
    let (first, second) = (page(&[&one]), page(&[&one, &two]));
    let next = format!("{path}?next=2");
    let server = Server::start(move |request, _| {
        if request.target == path {
            let link = format!("<{path}?next=2>; rel=\"next\"");
            first.clone().header("Link", link)
        } else {
            second.clone()
        }
    });
    let repository = writer(&server);
    let mut found = repository.referrers(subject.digest(), None);
    assert_eq!(
        found.try_next().await.unwrap(),
        Some(referrer_descriptor(&one))
    );
    assert_eq!(server.requests().len(), 1);
    assert_eq!(
        found.try_next().await.unwrap(),
        Some(referrer_descriptor(&two))
    );
    assert_eq!(found.try_next().await.unwrap(), None);
    assert_eq!(server.request_lines()[1], format!("GET {next}"));
}

#[tokio::test]
async fn referrers_filter_is_applied_unless_the_registry_did() {
    let subject = manifest("subject");
    let (one, two) = (referrer(&subject, "a/one"), referrer(&subject, "a/two"));
    let response = page(&[&one, &two]);
    let server = Server::start(move |_, _| response.clone());
    let found = referrers_of_type(&writer(&server), subject.digest(), "a/two").await;
    assert_eq!(found.unwrap(), [referrer_descriptor(&two)]);
    assert!(
        server.request_lines()[0].ends_with("?artifactType=a%2Ftwo"),
        "{:?}",
        server.request_lines()
    );
    // `OCI-Filters-Applied` means that the registry applied the filter. The entries of such a list may omit the
    // artifact type.
    let mut bare = referrer_descriptor(&two);
    bare.artifact_type = None;
    let filtered = Response::new(200)
        .header("Content-Type", MediaType::INDEX)
        .header("OCI-Filters-Applied", "annotation, artifactType")
        .body(index(vec![bare.clone()]).bytes());
    let server = Server::start(move |_, _| filtered.clone());
    let found = referrers_of_type(&writer(&server), subject.digest(), "a/two").await;
    assert_eq!(found.unwrap(), [bare]);
}

#[tokio::test]
async fn referrers_with_error_status_or_invalid_body_fail() {
    let subject = Digest::sha256(b"subject");
    for (status, kind) in [
        (401, ErrorKind::Unauthenticated),
        (403, ErrorKind::Denied),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Network),
        (400, ErrorKind::Protocol),
    ] {
        let server = Server::start(move |_, _| Response::new(status).header("Retry-After", "0"));
        let found = all(&writer(&server), &subject).await;
        assert_eq!(found.unwrap_err().kind(), kind, "{status}");
    }
    let server = Server::start(|_, _| {
        Response::new(200)
            .header("Content-Type", MediaType::INDEX)
            .body("<html>")
    });
    let found = all(&writer(&server), &subject).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn referrers_of_an_absent_repository_are_not_found() {
    let server =
        Server::start(|_, _| Response::new(404).body(r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#));
    let error = all(&writer(&server), &Digest::sha256(b"subject"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.registry_errors()[0].code, "NAME_UNKNOWN");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn endless_list_of_referrers_is_rejected() {
    let subject = manifest("subject");
    let attacker = Server::start(|_, _| Response::new(200));
    let path = format!("/v2/acme/widgets/referrers/{}", subject.digest());
    let elsewhere = format!("http://{}/more", attacker.host());
    for link in [path.as_str(), &elsewhere] {
        let response =
            page(&[&referrer(&subject, "a/one")]).header("Link", format!("<{link}>; rel=next"));
        let server = Server::start(move |_, _| response.clone());
        let found = all(&writer(&server), subject.digest()).await;
        assert_eq!(found.unwrap_err().kind(), ErrorKind::Protocol, "{link}");
        assert_eq!(server.requests().len(), 1);
    }
    assert!(attacker.requests().is_empty());

    let entry =
        |at: u32| Descriptor::new(MediaType::MANIFEST, Digest::sha256(&at.to_le_bytes()), 1);
    let many = index((0..10_001).map(entry).collect());
    let server = Server::start(move |_, _| manifest_response(&many));
    let found = all(&writer(&server), subject.digest()).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn referrers_after_100_pages_without_entry_are_rejected() {
    let subject = manifest("subject");
    let one = referrer(&subject, "a/one");
    for (entries, new) in [(vec![], 0), (vec![&one], 1)] {
        let response = page(&entries);
        let server = Server::start(move |request, earlier| {
            let link = format!("<{}?page={}>; rel=next", request.path(), earlier + 1);
            response.clone().header("Link", link)
        });
        let error = referrers_of_type(&writer(&server), subject.digest(), "a/two").await;
        let text = error.unwrap_err().in_one_line();
        assert!(text.contains("more than 100 consecutive pages"), "{text}");
        assert_eq!(server.requests().len(), new + 100);
    }
}

#[tokio::test]
async fn referrers_of_other_types_on_many_pages_are_skipped() {
    let subject = manifest("subject");
    let digest = subject.digest().clone();
    let wanted = referrer(&subject, "a/wanted");
    let last = page(&[&wanted]);
    let server = Server::start(move |request, earlier| {
        if earlier == 150 {
            return last.clone();
        }
        let other = referrer(&subject, &format!("a/{earlier}"));
        let link = format!("<{}?page={}>; rel=next", request.path(), earlier + 1);
        page(&[&other]).header("Link", link)
    });
    let found = referrers_of_type(&writer(&server), &digest, "a/wanted").await;
    assert_eq!(found.unwrap(), [referrer_descriptor(&wanted)]);
}

// ---- fallback tags

#[tokio::test]
async fn missing_referrers_api_is_replaced_by_the_fallback_tag() {
    let subject = manifest("subject");
    let (one, two) = (referrer(&subject, "a/one"), referrer(&subject, "a/two"));
    let web = Server::start(|_, _| Response::new(429).header("Retry-After", "86400"));
    let location = format!("http://{}/packages", web.host());
    for unsupported in [
        Response::new(404).body("404 page not found"),
        Response::new(404).body(r#"{"errors":[{"code":"UNSUPPORTED"}]}"#),
        Response::new(405),
        Response::new(501),
        Response::new(303).header("Location", &location),
        Response::new(302).header("Location", "/login/in/a/loop"),
        Response::new(200)
            .header("Content-Type", "text/html; charset=utf-8")
            .body("<html>"),
        Response::new(200).body("{}"),
    ] {
        let (tag, list) = (
            format!("/v2/acme/widgets/manifests/{}", fallback(&subject)),
            index(vec![referrer_descriptor(&one), referrer_descriptor(&two)]),
        );
        let response = unsupported.clone();
        let server = Server::start(move |request, _| {
            if request.target == tag {
                manifest_response(&list)
            } else {
                response.clone()
            }
        });
        let repository = writer(&server);
        let found = all(&repository, subject.digest()).await.unwrap();
        assert_eq!(
            found,
            [referrer_descriptor(&one), referrer_descriptor(&two)],
            "{unsupported:?}"
        );
        let found = referrers_of_type(&repository, subject.digest(), "a/two").await;
        assert_eq!(
            found.unwrap(),
            [referrer_descriptor(&two)],
            "{unsupported:?}"
        );
    }
    assert!(web.requests().is_empty(), "{:?}", web.request_lines());
}

#[tokio::test]
async fn fallback_tag_absent_or_not_an_index_lists_nothing() {
    let subject = manifest("subject");
    let registry = registry();
    let repository = writer(&registry.server);
    assert_eq!(all(&repository, subject.digest()).await.unwrap(), []);
    store(
        &mut registry.contents(),
        &fallback(&subject),
        packed("other").manifest(),
    );
    assert_eq!(all(&repository, subject.digest()).await.unwrap(), []);
}

/// Starts a registry that sends `OCI-Subject` for a pushed manifest. The script receives the number of earlier reads
/// and returns the list of referrers.
fn registry_with_lists(
    subject: &Manifest,
    list: impl Fn(&Request, usize) -> Response + Send + Sync + 'static,
) -> FakeRegistry {
    let noted = subject.digest().clone();
    FakeRegistry::start_with(NO_REFERRERS, move |request, earlier, contents| {
        if request.target.contains("/referrers/") {
            return Some(list(request, earlier));
        }
        (request.method == "PUT").then(|| contents.respond(request).header("OCI-Subject", &noted))
    })
}

#[tokio::test]
async fn push_to_registry_with_referrers_api_writes_no_fallback_tag() {
    let subject = manifest("subject");
    let (one, two) = (referrer(&subject, "a/one"), referrer(&subject, "a/two"));
    let list = page(&[&one]);
    let registry = registry_with_lists(&subject, move |_, _| list.clone());
    let repository = writer(&registry.server);
    repository.push_manifest(&one).await.unwrap();
    // The list is requested only once.
    repository.push_manifest(&two).await.unwrap();
    let path = "/v2/acme/widgets";
    assert_eq!(
        registry.server.request_lines(),
        [
            format!("PUT {path}/manifests/{}", one.digest()),
            format!("GET {path}/referrers/{}", subject.digest()),
            format!("PUT {path}/manifests/{}", two.digest()),
        ]
    );
}

#[tokio::test]
async fn fallback_tag_is_written_if_only_oci_subject_is_returned() {
    let subject = manifest("subject");
    let one = referrer(&subject, "a/one");
    let registry = registry_with_lists(&subject, |_, _| Response::new(404).body("404 page"));
    let repository = writer(&registry.server);
    repository.push_manifest(&one).await.unwrap();
    let list = tagged_manifest(&registry, &fallback(&subject)).unwrap();
    assert_eq!(
        list.as_index().unwrap().manifests,
        [referrer_descriptor(&one)]
    );
    let found = all(&repository, subject.digest()).await.unwrap();
    assert_eq!(found, [referrer_descriptor(&one)]);
}

/// Opens the repository of a registry for writing. Returns the repository, and the referrers that the
/// client reports as missing in a list.
fn observed_writer(registry: &FakeRegistry) -> (Repository, Observed<(Reference, Digest)>) {
    let (observer, unlisted) = observe(|step| match step {
        ClientEvent::UnlistedReferrer { referrer, subject } => {
            Some((referrer.clone(), subject.clone()))
        }
        _ => None,
    });
    let client = observed_client(observer);
    (open(&client, &registry.server, Access::Push), unlisted)
}

#[tokio::test]
async fn referrer_that_is_listed_late_is_not_reported() {
    let subject = manifest("subject");
    let one = referrer(&subject, "a/one");
    let (before, after) = (page(&[]), page(&[&one]));
    let registry = registry_with_lists(&subject, move |_, earlier| {
        if earlier < 2 { &before } else { &after }.clone()
    });
    let (repository, unlisted) = observed_writer(&registry);
    repository.push_manifest(&one).await.unwrap();
    assert_eq!(*unlisted.lock().unwrap(), []);
    assert_eq!(registry.server.count("GET"), 3);
    assert_eq!(registry.server.count("PUT"), 1);
}

#[tokio::test]
async fn referrer_that_is_never_listed_is_reported() {
    let subject = manifest("subject");
    let (one, two) = (referrer(&subject, "a/one"), referrer(&subject, "a/two"));
    let list = page(&[&two]);
    let registry = registry_with_lists(&subject, move |_, _| list.clone());
    let (repository, unlisted) = observed_writer(&registry);
    repository.push_manifest(&one).await.unwrap();
    let reported = (
        repository.reference().with(one.digest().clone()),
        subject.digest().clone(),
    );
    assert_eq!(*unlisted.lock().unwrap(), [reported]);
    assert_eq!(registry.server.count("GET"), 5);
    // The list is checked once per repository, and the fallback tag is not written.
    let three = referrer(&subject, "a/three");
    repository.push_manifest(&three).await.unwrap();
    assert_eq!(unlisted.lock().unwrap().len(), 1);
    assert_eq!(registry.server.count("GET"), 5);
    assert_eq!(registry.server.count("PUT"), 2);
}

#[tokio::test]
async fn pushed_referrer_on_a_later_page_is_found() {
    let subject = manifest("subject");
    let (one, two) = (referrer(&subject, "a/one"), referrer(&subject, "a/two"));
    let (first, second) = (page(&[&one]), page(&[&two]));
    let registry = registry_with_lists(&subject, move |request, _| {
        if request.target.contains("page=2") {
            return second.clone();
        }
        let link = format!("<{}?page=2>; rel=next", request.path());
        first.clone().header("Link", link)
    });
    let (repository, unlisted) = observed_writer(&registry);
    repository.push_manifest(&two).await.unwrap();
    assert_eq!(*unlisted.lock().unwrap(), []);
    assert_eq!(registry.server.count("GET"), 2);
}

#[tokio::test]
async fn unreadable_list_after_a_push_is_reported_without_retry() {
    let subject = manifest("subject");
    let one = referrer(&subject, "a/one");
    let list = Response::new(200)
        .header("Content-Type", MediaType::INDEX)
        .body("<html>");
    let registry = registry_with_lists(&subject, move |_, _| list.clone());
    let (repository, unlisted) = observed_writer(&registry);
    repository.push_manifest(&one).await.unwrap();
    assert_eq!(unlisted.lock().unwrap().len(), 1);
    assert_eq!(registry.server.count("GET"), 1);
    assert_eq!(registry.server.count("PUT"), 1);
}

/// Returns an index of two platforms, and a registry that returns this index for the fallback tag of the index. If
/// `always` is set, the registry does so even after the tag was set.
fn registry_with_self_fallback(always: bool) -> (Manifest, FakeRegistry) {
    let mut entry = packed("amd64").manifest().descriptor();
    entry.platform = serde_json::from_str(r#"{"os":"linux","architecture":"amd64"}"#).unwrap();
    let plain = packed("plain").manifest().descriptor();
    let subject = index(vec![entry, plain]);
    let (alias, response) = (fallback(&subject), manifest_response(&subject));
    let registry = FakeRegistry::start_with(NO_REFERRERS, move |request, _, contents| {
        let is_alias = request.method == "GET" && request.target.ends_with(&alias);
        (is_alias && (always || !contents.tags.contains_key(&alias))).then(|| response.clone())
    });
    (subject, registry)
}

#[tokio::test]
async fn fallback_tag_that_resolves_to_subject_lists_nothing() {
    let (subject, registry) = registry_with_self_fallback(true);
    let found = all(&writer(&registry.server), subject.digest()).await;
    assert_eq!(found.unwrap(), []);
}

#[tokio::test]
async fn fallback_tag_that_resolves_to_subject_becomes_a_list() {
    let (subject, registry) = registry_with_self_fallback(false);
    let one = referrer(&subject, "a/one");
    let repository = writer(&registry.server);
    repository.push_manifest(&one).await.unwrap();
    let found = all(&repository, subject.digest()).await.unwrap();
    assert_eq!(found, [referrer_descriptor(&one)]);
}

#[tokio::test]
async fn push_fails_if_fallback_tag_always_resolves_to_subject() {
    let (subject, registry) = registry_with_self_fallback(true);
    let one = referrer(&subject, "a/one");
    let error = writer(&registry.server)
        .push_manifest(&one)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.in_one_line().contains("resolves"), "{error:?}");
    assert_eq!(registry.count("PUT", &fallback(&subject)), 1);
}

#[tokio::test]
async fn platform_index_under_fallback_tag_is_not_changed() {
    let (other, _) = registry_with_self_fallback(true);
    let subject = manifest("subject");
    let registry = registry();
    store(&mut registry.contents(), &fallback(&subject), &other);
    let repository = writer(&registry.server);
    assert_eq!(all(&repository, subject.digest()).await.unwrap(), []);
    let one = referrer(&subject, "a/one");
    let error = repository.push_manifest(&one).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(tagged_manifest(&registry, &fallback(&subject)), Some(other));
}

#[tokio::test]
async fn push_of_a_referrer_extends_the_fallback_list() {
    let subject = manifest("subject");
    let (one, two) = (referrer(&subject, "a/one"), referrer(&subject, "a/two"));
    let registry = registry();
    let mut theirs = Index::new(Some("a/list".into()), vec![referrer_descriptor(&one)]);
    theirs.annotations.insert("kept".into(), "yes".into());
    let theirs = Manifest::from_index(theirs).unwrap();
    store(&mut registry.contents(), &fallback(&subject), &theirs);
    let repository = writer(&registry.server);
    repository.push_manifest(&two).await.unwrap();
    let list = tagged_manifest(&registry, &fallback(&subject)).unwrap();
    let list = list.as_index().unwrap();
    assert_eq!(
        list.manifests,
        [referrer_descriptor(&one), referrer_descriptor(&two)]
    );
    assert_eq!(list.annotations["kept"], "yes");
    assert_eq!(list.artifact_type, Some("a/list".into()));
    let found = all(&repository, subject.digest()).await.unwrap();
    assert_eq!(found, list.manifests);
    // A second push of the same manifest changes nothing.
    repository.push_manifest(&two).await.unwrap();
    assert_eq!(registry.count("PUT", &fallback(&subject)), 1);
}

#[tokio::test]
async fn fallback_tag_of_a_sha512_subject_is_truncated() {
    let subject = Algorithm::Sha512.digest(b"subject");
    let mut one = referrer(packed("x").manifest(), "a/one")
        .as_image()
        .unwrap()
        .clone();
    one.subject = Some(Descriptor::new(MediaType::MANIFEST, subject.clone(), 7));
    let one = Manifest::from_image(one).unwrap();
    let registry = registry();
    let repository = writer(&registry.server);
    repository.push_manifest(&one).await.unwrap();
    let tag = format!("sha512-{}", &subject.encoded()[..64]);
    assert!(tagged_manifest(&registry, &tag).is_some());
    assert_eq!(
        all(&repository, &subject).await.unwrap(),
        [referrer_descriptor(&one)]
    );
}

#[tokio::test]
async fn manifest_under_the_fallback_tag_is_a_conflict() {
    let subject = manifest("subject");
    let registry = registry();
    let other = manifest("other");
    store(&mut registry.contents(), &fallback(&subject), &other);
    let one = referrer(&subject, "a/one");
    let error = writer(&registry.server)
        .push_manifest(&one)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let hints = format!("{:?}", error.hints());
    assert!(hints.contains("was stored"), "{hints}");
    assert_eq!(tagged_manifest(&registry, &fallback(&subject)), Some(other));
    assert_eq!(registry.count("PUT", &fallback(&subject)), 0);
}

/// Whether a request writes the list with the fallback tag `list`.
fn writes(request: &Request, list: &str) -> bool {
    request.method == "PUT" && request.target.ends_with(list)
}

#[tokio::test]
async fn fallback_entry_removed_by_another_writer_is_restored() {
    let subject = manifest("subject");
    let (ours, theirs) = (referrer(&subject, "a/ours"), referrer(&subject, "a/theirs"));
    let (list, other) = (
        fallback(&subject),
        index(vec![referrer_descriptor(&theirs)]),
    );
    let registry = FakeRegistry::start_with(NO_REFERRERS, move |request, earlier, contents| {
        let reply = writes(request, &list).then(|| contents.respond(request));
        if reply.is_some() && earlier == 0 {
            store(contents, &list, &other);
        }
        reply
    });
    let (observer, retries) = observe_retries();
    let repository = open(&observed_client(observer), &registry.server, Access::Push);
    repository.push_manifest(&ours).await.unwrap();
    let list = tagged_manifest(&registry, &fallback(&subject)).unwrap();
    assert_eq!(
        list.as_index().unwrap().manifests,
        [referrer_descriptor(&theirs), referrer_descriptor(&ours)]
    );
    assert_eq!(registry.count("PUT", &fallback(&subject)), 2);
    let (digest, list) = (subject.digest(), fallback(&subject));
    let expected = format!(
        "update of the list of referrers of {digest}: `{}:{list}` does not contain the change (2/10)",
        repository.reference()
    );
    assert_eq!(*retries.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn fallback_list_is_written_with_if_match() {
    let subject = manifest("subject");
    let (ours, theirs) = (referrer(&subject, "a/ours"), referrer(&subject, "a/theirs"));
    let (list, other) = (
        fallback(&subject),
        index(vec![referrer_descriptor(&theirs)]),
    );
    let empty = index(vec![]);
    let entity_tag = |stored: &StoredManifest| format!("\"{}\"", stored.digest());
    let registry = FakeRegistry::start_with(NO_REFERRERS, move |request, earlier, contents| {
        if !request.target.ends_with(&list) {
            return None;
        }
        if request.method == "GET" {
            let stored = contents.find_manifest(&list)?;
            return Some(stored.response().header("ETag", entity_tag(stored)));
        }
        if earlier == 0 {
            store(contents, &list, &other);
        }
        let stored = contents.find_manifest(&list)?;
        (request.header("if-match") != Some(&entity_tag(stored))).then(|| Response::new(412))
    });
    store(&mut registry.contents(), &fallback(&subject), &empty);
    writer(&registry.server).push_manifest(&ours).await.unwrap();
    let list = tagged_manifest(&registry, &fallback(&subject)).unwrap();
    assert_eq!(
        list.as_index().unwrap().manifests,
        [referrer_descriptor(&theirs), referrer_descriptor(&ours)]
    );
    assert_eq!(registry.count("PUT", &fallback(&subject)), 2);
}

#[tokio::test]
async fn failed_write_of_fallback_list_is_checked_before_retry() {
    let subject = manifest("subject");
    let ours = referrer(&subject, "a/ours");
    for arrives in [false, true] {
        let list = fallback(&subject);
        let registry = FakeRegistry::start_with(NO_REFERRERS, move |request, earlier, contents| {
            let fails = writes(request, &list) && earlier == 0;
            if fails && arrives {
                contents.respond(request);
            }
            fails.then(|| Response::new(500))
        });
        let (observer, retries) = observe_retries();
        let repository = open(&observed_client(observer), &registry.server, Access::Push);
        repository.push_manifest(&ours).await.unwrap();
        let list = tagged_manifest(&registry, &fallback(&subject)).unwrap();
        assert_eq!(
            list.as_index().unwrap().manifests,
            [referrer_descriptor(&ours)]
        );
        let puts = registry.count("PUT", &fallback(&subject));
        assert_eq!(puts, if arrives { 1 } else { 2 });
        assert_eq!(retries.lock().unwrap().len(), puts - 1);
    }
    // A denied write is not repeated.
    let list = fallback(&subject);
    let registry = FakeRegistry::start_with(NO_REFERRERS, move |request, _, _| {
        writes(request, &list).then(|| Response::new(403))
    });
    let error = writer(&registry.server)
        .push_manifest(&ours)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(registry.count("PUT", &fallback(&subject)), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_writers_of_a_fallback_list_lose_no_entry() {
    let subject = manifest("subject");
    let registry = registry();
    let repository = writer(&registry.server);
    let pushes = (0..4).map(|at| {
        let (repository, one) = (repository.clone(), referrer(&subject, &format!("a/{at}")));
        tokio::spawn(async move { repository.push_manifest(&one).await })
    });
    for pushed in futures_util::future::join_all(pushes).await {
        pushed.unwrap().unwrap();
    }
    let found = all(&repository, subject.digest()).await.unwrap();
    assert_eq!(found.len(), 4);
}

#[tokio::test]
async fn copy_of_a_stored_referrer_adds_it_to_the_list() {
    let subject = packed("subject");
    let one = referrer(subject.manifest(), "a/one");
    let memory = Memory::new();
    memory.push_blob(&Blob::empty()).await.unwrap();
    memory.push_manifest(&one).await.unwrap();
    let registry = registry();
    // The manifest is stored, but no list contains it.
    store(&mut registry.contents(), one.digest().as_str(), &one);
    let (source, root): (Arc<dyn Source>, Identifier) =
        (Arc::new(memory), one.digest().clone().into());
    let target = writer(&registry.server);
    copy(&source, &root, &target, CopyOptions::default())
        .await
        .unwrap();
    let found = all(&target, subject.manifest().digest()).await.unwrap();
    assert_eq!(found, [referrer_descriptor(&one)]);
}

// ---- local targets

#[tokio::test]
async fn local_targets_list_the_referrers_of_a_manifest() {
    for (target, _home) in local_targets().await {
        let subject = packed("subject");
        push(&*target, &subject, &["1"]).await;
        let (one, two) = (
            referrer(subject.manifest(), "a/one"),
            referrer(subject.manifest(), "a/two"),
        );
        target.push_blob(&Blob::empty()).await.unwrap();
        target.push_manifest(&one).await.unwrap();
        target.push_manifest(&two).await.unwrap();
        target.tag(&two, &tag("two")).await.unwrap();
        target
            .push_manifest(&referrer(&one, "a/three"))
            .await
            .unwrap();
        let digest = subject.manifest().digest();
        let mut found = all(&*target, digest).await.unwrap();
        found.sort_by_key(|entry| entry.artifact_type.clone());
        assert_eq!(
            found,
            [referrer_descriptor(&one), referrer_descriptor(&two)],
            "{target:?}"
        );
        let found = referrers_of_type(&*target, digest, "a/two").await.unwrap();
        assert_eq!(found, [referrer_descriptor(&two)]);
        // The list does not depend on tags.
        target.delete_tag(&tag("two")).await.unwrap();
        assert_eq!(all(&*target, digest).await.unwrap().len(), 2);
        target.delete_manifest(one.digest()).await.unwrap();
        assert_eq!(
            all(&*target, digest).await.unwrap(),
            [referrer_descriptor(&two)]
        );
        assert!(target.manifest(&by_tag("1")).await.is_ok());
    }
    let subject = packed("subject");
    assert_eq!(
        all(&subject, subject.manifest().digest()).await.unwrap(),
        []
    );
}
