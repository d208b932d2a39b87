//! Cache of manifests and configs.

use std::path::Path;
use std::sync::Arc;

use oci_registry::{Blob, Cache, Identifier, Manifest, MediaType, Packed, Source};
use testkit::registry::FakeRegistry;
use testkit::server::Response;

use crate::fixtures::{NO_REFERRERS, registry};
use crate::support::{by_tag, manifest, store, writer};

/// Returns the repository of a registry, read through a cache in a directory.
fn source(registry: &FakeRegistry, cache: &Path) -> Arc<dyn Source> {
    Cache::in_directory(cache).wrap(Arc::new(writer(&registry.server)))
}

/// Starts a registry that has one manifest for each of these tags.
fn registry_of(contents: &[&'static str]) -> (FakeRegistry, Vec<Manifest>) {
    let registry = registry();
    let manifests: Vec<_> = contents.iter().map(|content| manifest(content)).collect();
    for (name, manifest) in contents.iter().zip(&manifests) {
        store(&mut registry.contents(), name, manifest);
    }
    (registry, manifests)
}

#[tokio::test]
async fn cached_manifest_of_a_tag_costs_one_head_request() {
    let home = tempfile::tempdir().unwrap();
    let names = ["a", "b", "c", "d"];
    let (registry, manifests) = registry_of(&names);
    for round in 0..2 {
        let source = source(&registry, home.path());
        for (name, manifest) in names.iter().zip(&manifests) {
            assert_eq!(source.manifest(&by_tag(name)).await.unwrap(), *manifest);
        }
        // In the first round, the client sends a HEAD request for the first tag, and the manifest is not in the cache.
        // So the client sends no HEAD request for the other tags.
        let request = |method| registry.count(method, "");
        let expected = if round == 0 { (1, 4) } else { (1 + 4, 4) };
        assert_eq!((request("HEAD"), request("GET")), expected);
    }
}

#[tokio::test]
async fn moved_tag_is_not_read_from_the_cache() {
    let home = tempfile::tempdir().unwrap();
    let (registry, manifests) = registry_of(&["a", "b"]);
    let earlier = source(&registry, home.path());
    assert_eq!(earlier.manifest(&by_tag("a")).await.unwrap(), manifests[0]);
    store(&mut registry.contents(), "a", &manifests[1]);
    let after = source(&registry, home.path());
    assert_eq!(after.manifest(&by_tag("a")).await.unwrap(), manifests[1]);
    registry.contents().tags.remove("a");
    for source in [earlier, after] {
        let gone = source.manifest(&by_tag("a")).await.unwrap_err();
        assert_eq!(gone.kind(), oci_registry::ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn damaged_cache_entry_is_fetched_again() {
    let home = tempfile::tempdir().unwrap();
    let (registry, manifests) = registry_of(&["a", "b"]);
    let first = source(&registry, home.path());
    for name in ["a", "b"] {
        first.manifest(&by_tag(name)).await.unwrap();
    }
    // The first entry has the bytes of another manifest. The second entry is empty.
    let entry = |manifest: &Manifest| home.path().join("sha256").join(manifest.digest().encoded());
    std::fs::copy(entry(&manifests[1]), entry(&manifests[0])).unwrap();
    std::fs::write(entry(&manifests[1]), "").unwrap();
    let second = source(&registry, home.path());
    for (name, manifest) in ["a", "b"].iter().zip(&manifests) {
        assert_eq!(second.manifest(&by_tag(name)).await.unwrap(), *manifest);
        let digest = Identifier::Digest(manifest.digest().clone());
        assert_eq!(second.manifest(&digest).await.unwrap(), *manifest);
    }
}

#[tokio::test]
async fn wrong_digest_in_head_response_is_followed_by_get() {
    let home = tempfile::tempdir().unwrap();
    let (registry, manifests) = registry_of(&["a"]);
    // The HEAD response of this registry has the digest of another manifest.
    let inconsistent = FakeRegistry::start_with(NO_REFERRERS, |request, _, _| {
        (request.method == "HEAD").then(|| {
            Response::new(200)
                .header("Content-Type", MediaType::MANIFEST)
                .header("Content-Length", 7)
                .header("Docker-Content-Digest", manifest("other").digest())
        })
    });
    store(&mut inconsistent.contents(), "a", &manifests[0]);
    for registry in [&registry, &inconsistent] {
        for _ in 0..2 {
            let found = source(registry, home.path()).manifest(&by_tag("a")).await;
            assert_eq!(found.unwrap(), manifests[0]);
        }
    }
    assert_eq!(
        (
            inconsistent.count("HEAD", ""),
            inconsistent.count("GET", "")
        ),
        (2, 2)
    );
}

#[tokio::test]
async fn image_config_is_fetched_once() {
    let home = tempfile::tempdir().unwrap();
    let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, r#"{"os":"linux"}"#);
    let layer = Blob::from_bytes("a/layer".into(), "layer");
    let served = FakeRegistry::start_with(NO_REFERRERS, {
        let (config, layer) = (config.clone(), layer.clone());
        move |request, _, _| {
            let is = |blob: &Blob| request.target.ends_with(blob.digest().as_str());
            let body = match request.method.as_str() {
                "GET" if is(&config) => r#"{"os":"linux"}"#,
                "GET" if is(&layer) => "layer",
                _ => return None,
            };
            Some(Response::new(200).body(body))
        }
    });
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
async fn manifest_without_media_type_field_is_not_cached() {
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
    let registry = registry();
    store(&mut registry.contents(), "a", &manifest);
    let digest = Identifier::Digest(manifest.digest().clone());
    for _ in 0..2 {
        let source = source(&registry, home.path());
        assert_eq!(source.manifest(&digest).await.unwrap(), manifest);
    }
    assert_eq!(registry.count("GET", ""), 2);
}
