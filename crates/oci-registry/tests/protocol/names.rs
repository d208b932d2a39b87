//! Invalid names in lists, and full names in layouts and archives.

use std::sync::Arc;

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Client, ClientEvent, CopyOptions, Delete, Digest, ErrorKind, Layout, Location,
    LocationText, Manifest, Memory, Observer, OmittedNames, Source, copy_all,
};
use testkit::server::{Response, Server};

use crate::fixtures::{push, tag};
use crate::support::{
    Observed, by_tag, manifest, manifest_response, observe, observed_client, packed,
};

type Reports = Observed<OmittedNames>;

/// Returns an observer of omitted names, and the reports that it received.
fn observer() -> (Observer, Reports) {
    observe(|event| match event {
        ClientEvent::OmittedNames(omitted) => Some(omitted.clone()),
        _ => None,
    })
}

fn counts(reports: &Reports) -> Vec<(String, usize)> {
    let reports = reports.lock().unwrap();
    let counts = reports.iter();
    counts
        .map(|omitted| (omitted.location().to_owned(), omitted.count()))
        .collect()
}

async fn tags(source: &dyn Source) -> Vec<String> {
    let tags = source.tags().map_ok(|tag| tag.to_string());
    tags.try_collect().await.unwrap()
}

#[tokio::test]
async fn invalid_tags_are_omitted_and_reported_once() {
    let server = Server::start(|request, _| match request.target.as_str() {
        "/v2/acme/widgets/tags/list?n=1000" => {
            let names = format!(r#"{{"tags":["1.0","<none>","{}"]}}"#, Digest::sha256(b""));
            let next = "</v2/acme/widgets/tags/list?last=x>; rel=next";
            Response::new(200).header("Link", next).body(names)
        }
        _ => Response::new(200).body(r#"{"tags":["a b","2.0",""]}"#),
    });
    let (observer, reports) = observer();
    let place = format!("{}/acme/widgets", server.host());
    let client = observed_client(observer);
    let repository = client.repository(&place.parse().unwrap(), Access::Pull);
    assert_eq!(tags(&repository.unwrap()).await, ["1.0", "2.0"]);
    assert_eq!(counts(&reports), [(place, 4)]);
}

#[tokio::test]
async fn invalid_repositories_are_omitted_and_reported_once() {
    let long = "a".repeat(250);
    let page = format!(r#"{{"repositories":["acme/widgets","Acme/Widgets","{long}","_x"]}}"#);
    let server = Server::start(move |_, _| Response::new(200).body(page.clone()));
    let (observer, reports) = observer();
    let registry = observed_client(observer).registry(&server.host().parse().unwrap());
    let listed: Vec<_> = registry.unwrap().catalog().try_collect().await.unwrap();
    assert_eq!(listed, ["acme/widgets".parse().unwrap()]);
    assert_eq!(counts(&reports), [(server.host(), 3)]);
}

#[tokio::test]
async fn invalid_names_are_reported_to_new_observer_only() {
    let server = Server::start(|_, _| Response::new(200).body(r#"{"tags":["<none>"]}"#));
    let ((first, none), (second, one)) = (observer(), observer());
    let client = observed_client(first).with_observer(second);
    let place = format!("{}/acme/widgets", server.host()).parse().unwrap();
    let repository = client.repository(&place, Access::Pull).unwrap();
    assert!(tags(&repository).await.is_empty());
    assert!(none.lock().unwrap().is_empty());
    assert_eq!(one.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn copy_of_all_tags_omits_invalid_names() {
    let manifest = manifest("x");
    let blobs: Vec<_> = packed("x").blobs().cloned().collect();
    let server = Server::start(move |request, _| {
        if request.target.contains("/tags/list") {
            return Response::new(200).body(r#"{"tags":["<none>","1.0"]}"#);
        }
        let blob = blobs.iter();
        let mut blob = blob.filter(|blob| request.target.ends_with(blob.digest().as_str()));
        match blob.next() {
            Some(blob) if *blob.digest() == Digest::sha256(b"x") => Response::new(200).body("x"),
            Some(_) => Response::new(200).body("{}"),
            None => manifest_response(&manifest),
        }
    });
    let (observer, reports) = observer();
    let place = format!("{}/acme/widgets", server.host()).parse().unwrap();
    let source = observed_client(observer)
        .repository(&place, Access::Pull)
        .unwrap();
    let (source, target): (Arc<dyn Source>, _) = (Arc::new(source), Memory::new());
    let copied = copy_all(&source, &target, CopyOptions::default()).await;
    assert_eq!(copied.unwrap().len(), 1);
    assert_eq!(tags(&target).await, ["1.0"]);
    assert_eq!(counts(&reports), [(place.to_string(), 1)]);
}

// ---- full names

/// Layout with one manifest per name, and an archive of the layout. The content of a manifest is its name.
struct Fixture {
    home: tempfile::TempDir,
    client: Client,
    reports: Reports,
}

impl Fixture {
    async fn new(names: &[&'static str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("layout");
        let layout = Layout::create(&directory).await.unwrap();
        for (at, name) in names.iter().enumerate() {
            push(&layout, &packed(name), &[&format!("tag-{at}")]).await;
        }
        let listing = directory.join("index.json");
        let mut text = std::fs::read_to_string(&listing).unwrap();
        for (at, name) in names.iter().enumerate() {
            text = text.replace(&format!("\"tag-{at}\""), &format!("\"{name}\""));
        }
        std::fs::write(&listing, text).unwrap();
        let (observer, reports) = observer();
        let client = observed_client(observer);
        let fixture = Self {
            home,
            client,
            reports,
        };
        fixture.archive();
        fixture
    }

    /// Packs the layout into an archive, as skopeo does.
    fn archive(&self) {
        let file = std::fs::File::create(self.home.path().join("archive.tar")).unwrap();
        let mut tar = tar::Builder::new(file);
        tar.append_dir_all("", self.home.path().join("layout"))
            .unwrap();
        tar.finish().unwrap();
    }

    /// Opens the layout and the archive. Returns each with its name.
    async fn sources(&self) -> Vec<(Arc<dyn Source>, &'static str)> {
        let mut sources = Vec::new();
        for name in ["oci:layout", "oci-archive:archive.tar"] {
            let location = self.locate(name).await.unwrap();
            let source = self.client.open_source(&location, self.home.path());
            sources.push((source.await.unwrap(), name));
        }
        sources
    }

    async fn locate(&self, text: &str) -> oci_registry::Result<Location> {
        let text: LocationText = text.parse().unwrap();
        text.locate(self.home.path()).await
    }

    async fn manifest(&self, text: &str) -> oci_registry::Result<Manifest> {
        let location = self.locate(text).await?;
        let source = self.client.open_source(&location, self.home.path()).await?;
        source.manifest(&location.identifier().unwrap()).await
    }
}

#[tokio::test]
async fn full_name_is_listed_and_found_by_its_tag() {
    let fixture = Fixture::new(&["localhost/acme/f:1.0.0", "2.0.0"]).await;
    for (source, place) in fixture.sources().await {
        assert_eq!(tags(&*source).await, ["1.0.0", "2.0.0"], "{place}");
        assert!(source.other_names().await.unwrap().is_empty());
        let full = format!("{place}:localhost/acme/f:1.0.0");
        for name in [full, format!("{place}:1.0.0")] {
            let found = fixture.manifest(&name).await.unwrap();
            assert_eq!(found, manifest("localhost/acme/f:1.0.0"), "{name}");
            let located = fixture.locate(&name).await.unwrap();
            assert_eq!(located.to_string(), format!("{place}:1.0.0"));
        }
    }
    assert!(fixture.reports.lock().unwrap().is_empty());
}

#[tokio::test]
async fn ambiguous_tag_in_layout_or_archive_requires_full_name() {
    let names = ["localhost/acme/f:1", "localhost/acme/g:1", "acme/h", "2"];
    let fixture = Fixture::new(&names).await;
    for (source, place) in fixture.sources().await {
        assert_eq!(tags(&*source).await, ["2"], "{place}");
        let others = source.other_names().await.unwrap();
        let mut listed: Vec<_> = others.iter().map(|other| other.name.as_str()).collect();
        listed.sort_unstable();
        assert_eq!(
            listed,
            ["acme/h", "localhost/acme/f:1", "localhost/acme/g:1"]
        );
        let error = fixture.manifest(&format!("{place}:1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let hints = format!("{:?}", error.hints());
        assert!(hints.contains("localhost/acme/f:1"), "{hints}");
        for name in names {
            let text = format!("{place}:{name}");
            assert_eq!(fixture.manifest(&text).await.unwrap(), manifest(name));
        }
        // A location with a full name resolves to the tag in that name and the digest of the entry, so a copy keeps the
        // tag.
        let located = fixture.locate(&format!("{place}:localhost/acme/g:1")).await;
        let digest = manifest("localhost/acme/g:1").digest().clone();
        assert_eq!(located.unwrap().to_string(), format!("{place}:1@{digest}"));
        let error = fixture.locate(&format!("{place}:acme/absent")).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let counted = counts(&fixture.reports);
    assert_eq!(counted.len(), 2);
    assert!(counted.iter().all(|(_, count)| *count == 3), "{counted:?}");
}

#[tokio::test]
async fn copy_of_all_tags_reduces_full_references_to_their_tags() {
    let fixture = Fixture::new(&["localhost/acme/f:1", "localhost/acme/g:2", "acme/h"]).await;
    for (source, place) in fixture.sources().await {
        let target = Memory::new();
        let copied = copy_all(&source, &target, CopyOptions::default()).await;
        assert_eq!(copied.unwrap().len(), 2, "{place}");
        assert_eq!(tags(&target).await, ["1", "2"]);
    }
    assert_eq!(counts(&fixture.reports).len(), 2);
}

#[tokio::test]
async fn layout_push_of_tag_keeps_entry_with_full_reference() {
    let fixture = Fixture::new(&["localhost/acme/f:1"]).await;
    let layout = Layout::open(fixture.home.path().join("layout"))
        .await
        .unwrap();
    let other = packed("other");
    push(&layout, &other, &["1"]).await;
    assert_eq!(
        layout.manifest(&by_tag("1")).await.unwrap(),
        *other.manifest()
    );
    assert_eq!(tags(&layout).await, ["1"]);
    let full = fixture.manifest("oci:layout:localhost/acme/f:1").await;
    assert_eq!(full.unwrap(), manifest("localhost/acme/f:1"));
}

#[tokio::test]
async fn deletion_of_tag_of_full_name_deletes_the_entry() {
    let fixture = Fixture::new(&["localhost/acme/f:1"]).await;
    let layout = Layout::open(fixture.home.path().join("layout"))
        .await
        .unwrap();
    layout.delete_tag(&tag("1")).await.unwrap();
    assert!(tags(&layout).await.is_empty());
    let error = layout.delete_tag(&tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let digest = manifest("localhost/acme/f:1").digest().clone();
    assert!(layout.manifest(&digest.into()).await.is_ok());
}

#[tokio::test]
async fn target_name_must_be_a_tag() {
    let fixture = Fixture::new(&["localhost/acme/f:1"]).await;
    let home = fixture.home.path();
    let locate = |text: &str| text.parse::<LocationText>().unwrap().locate_target(home);
    for (text, help) in [
        ("oci:layout:localhost/acme/f:1", "`oci:layout:1`"),
        ("oci:new:acme/f", "`oci:new:TAG`"),
        (
            "oci-archive:archive.tar:acme/f:2",
            "`oci-archive:archive.tar:2`",
        ),
        ("oci-archive:new.tar:acme/f", "`oci-archive:new.tar:TAG`"),
        ("oci:new:", "`oci:new:TAG`"),
    ] {
        let error = locate(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        let hints = format!("{:?}", error.hints());
        assert!(hints.contains(help), "{text}: {hints}");
    }
    let new = locate("oci:new:localhost/acme/f:1").unwrap();
    assert_eq!(new, Location::layout("new:localhost/acme/f").with(tag("1")));
    assert!(!home.join("new").exists());
}

#[tokio::test]
async fn layout_with_a_colon_in_its_path_is_found() {
    let fixture = Fixture::new(&["1"]).await;
    let home = fixture.home.path();
    std::fs::rename(home.join("layout"), home.join("build-10:40")).unwrap();
    for text in ["oci:build-10:40:1", "oci:./build-10:40:1"] {
        assert_eq!(fixture.manifest(text).await.unwrap(), manifest("1"));
    }
    let located = fixture.locate("oci:build-10:40").await.unwrap();
    assert_eq!(located, Location::layout("build-10:40"));
    let target: LocationText = "oci:build-10:40".parse().unwrap();
    assert_eq!(target.locate_target(home).unwrap(), located);
}
