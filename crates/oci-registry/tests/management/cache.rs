//! What was read before is not fetched again, and never believed unseen.

use std::path::Path;
use std::sync::Arc;

use oci_registry::{Blob, Cache, Identifier, Manifest, MediaType, Packed, Source};

use crate::scripted::Reply;
use crate::shelf::{Deletes, Served, Shelf};
use crate::{by_tag, packed, repository};

/// What a new process finds that has this cache.
fn source(shelf: &Served, cache: &Path) -> Arc<dyn Source> {
    Cache::at(cache).over(Arc::new(repository(&shelf.server)))
}

async fn shelf_of(contents: &[&'static str]) -> (Served, Vec<Manifest>) {
    let shelf = Shelf::serve(Deletes::Everything, |_, _, _| None).await;
    let manifests: Vec<_> = contents
        .iter()
        .map(|content| packed(content).manifest().clone())
        .collect();
    for (name, manifest) in contents.iter().zip(&manifests) {
        shelf.shelf().put(name, manifest);
    }
    (shelf, manifests)
}

#[tokio::test]
async fn a_second_look_asks_only_what_the_tags_name() {
    let home = tempfile::tempdir().unwrap();
    let names = ["a", "b", "c", "d"];
    let (shelf, manifests) = shelf_of(&names).await;
    for round in 0..2 {
        let source = source(&shelf, home.path());
        for (name, manifest) in names.iter().zip(&manifests) {
            assert_eq!(source.manifest(&by_tag(name)).await.unwrap(), *manifest);
        }
        // The first question finds out that nothing is known, and is not asked again.
        let asked = |method| shelf.count(method, "");
        let expected = if round == 0 { (1, 4) } else { (1 + 4, 4) };
        assert_eq!((asked("HEAD"), asked("GET")), expected);
    }
}

#[tokio::test]
async fn a_tag_that_moved_names_what_it_names_now() {
    let home = tempfile::tempdir().unwrap();
    let (shelf, manifests) = shelf_of(&["a", "b"]).await;
    let before = source(&shelf, home.path());
    assert_eq!(before.manifest(&by_tag("a")).await.unwrap(), manifests[0]);
    shelf.shelf().put("a", &manifests[1]);
    let after = source(&shelf, home.path());
    assert_eq!(after.manifest(&by_tag("a")).await.unwrap(), manifests[1]);
    shelf.shelf().tags.remove("a");
    for source in [before, after] {
        let gone = source.manifest(&by_tag("a")).await.unwrap_err();
        assert_eq!(gone.kind(), oci_registry::ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn an_entry_that_is_damaged_is_fetched() {
    let home = tempfile::tempdir().unwrap();
    let (shelf, manifests) = shelf_of(&["a", "b"]).await;
    let first = source(&shelf, home.path());
    for name in ["a", "b"] {
        first.manifest(&by_tag(name)).await.unwrap();
    }
    // Another valid manifest, in the place of the right one; and no manifest at all.
    let entry = |manifest: &Manifest| home.path().join("sha256").join(manifest.digest().encoded());
    std::fs::copy(entry(&manifests[1]), entry(&manifests[0])).unwrap();
    std::fs::write(entry(&manifests[1]), "").unwrap();
    let second = source(&shelf, home.path());
    for (name, manifest) in ["a", "b"].iter().zip(&manifests) {
        assert_eq!(second.manifest(&by_tag(name)).await.unwrap(), *manifest);
        let digest = Identifier::Digest(manifest.digest().clone());
        assert_eq!(second.manifest(&digest).await.unwrap(), *manifest);
    }
}

#[tokio::test]
async fn a_registry_that_says_little_costs_no_more_than_a_question() {
    let home = tempfile::tempdir().unwrap();
    let (shelf, manifests) = shelf_of(&["a"]).await;
    // A digest that is not the manifest's.
    let lying = Shelf::serve(Deletes::Everything, |asked, _, _| {
        (asked.method == "HEAD").then(|| {
            Reply::new(200)
                .header("Content-Type", MediaType::MANIFEST)
                .header("Content-Length", 7)
                .header("Docker-Content-Digest", packed("other").manifest().digest())
        })
    })
    .await;
    lying.shelf().put("a", &manifests[0]);
    for shelf in [&shelf, &lying] {
        for _ in 0..2 {
            let found = source(shelf, home.path()).manifest(&by_tag("a")).await;
            assert_eq!(found.unwrap(), manifests[0]);
        }
    }
    assert_eq!((lying.count("HEAD", ""), lying.count("GET", "")), (2, 2));
}

#[tokio::test]
async fn the_config_of_an_image_is_fetched_once() {
    let home = tempfile::tempdir().unwrap();
    let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, r#"{"os":"linux"}"#);
    let layer = Blob::from_bytes("a/layer".into(), "layer");
    let served = Shelf::serve(Deletes::Everything, {
        let (config, layer) = (config.clone(), layer.clone());
        move |asked, _, _| {
            let is = |blob: &Blob| asked.target.ends_with(blob.digest().as_str());
            let body = match asked.method.as_str() {
                "GET" if is(&config) => r#"{"os":"linux"}"#,
                "GET" if is(&layer) => "layer",
                _ => return None,
            };
            Some(Reply::new(200).body(body))
        }
    })
    .await;
    for _ in 0..2 {
        let source = source(&served, home.path());
        for (blob, content) in [(&config, r#"{"os":"linux"}"#), (&layer, "layer")] {
            let stream = source.blob(blob.descriptor()).await.unwrap();
            assert_eq!(stream.read_to_end(100).await.unwrap(), content);
        }
    }
    assert_eq!(served.count("GET", config.digest().as_str()), 1);
    assert_eq!(served.count("GET", layer.digest().as_str()), 2);
}

#[tokio::test]
async fn what_needs_its_name_to_be_read_is_not_kept() {
    let home = tempfile::tempdir().unwrap();
    let anonymous = Packed::new("a/b".into(), Blob::empty(), Vec::new(), [].into()).unwrap();
    let text = String::from_utf8(anonymous.manifest().bytes().to_vec()).unwrap();
    let text = text.replacen(
        r#""mediaType":"application/vnd.oci.image.manifest.v1+json","#,
        "",
        1,
    );
    let docker = MediaType::DOCKER_MANIFEST;
    let manifest = Manifest::parse(text.into(), Some(docker.as_str())).unwrap();
    assert_eq!(*manifest.media_type(), docker);
    let shelf = Shelf::serve(Deletes::Everything, |_, _, _| None).await;
    shelf.shelf().put("a", &manifest);
    let digest = Identifier::Digest(manifest.digest().clone());
    for _ in 0..2 {
        let source = source(&shelf, home.path());
        assert_eq!(source.manifest(&digest).await.unwrap(), manifest);
    }
    assert_eq!(shelf.count("GET", ""), 2);
}
