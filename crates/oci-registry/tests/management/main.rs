//! Management of a repository: referrers, deletion, the cache, digests and names.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blob;
mod cache;
mod delete;
mod digests;
mod names;
mod referrers;
#[path = "../scripted/mod.rs"]
mod scripted;
mod shelf;

use std::sync::Arc;

use oci_registry::{
    Access, Annotations, Anonymous, Blob, Client, ClientOptions, Descriptor, Environment,
    Identifier, ImageManifest, Layout, Manifest, MediaType, Memory, Packed, Repository, Tag,
    Target,
};
use scripted::{Reply, Server};

fn repository(server: &Server) -> Repository {
    let mut options = ClientOptions::new(Environment::default());
    options.observer = scripted::observer();
    options.credentials = Arc::new(Anonymous);
    let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
    Client::new(options)
        .repository(&reference, Access::Push)
        .unwrap()
}

fn packed(content: &'static str) -> Packed {
    let layer = Blob::from_bytes(MediaType::OCTET_STREAM, content);
    Packed::new("a/b".into(), Blob::empty(), vec![layer], Annotations::new()).unwrap()
}

/// A manifest of this artifact type about another one. It names nothing but the empty blob.
fn about(subject: &Manifest, artifact_type: &str) -> Manifest {
    let mut image = ImageManifest::new(artifact_type.into(), Blob::empty().descriptor().clone());
    image.subject = Some(subject.descriptor());
    image.annotations = [("kind".to_owned(), artifact_type.to_owned())].into();
    Manifest::from_image(image).unwrap()
}

/// What a list of referrers says about a manifest.
fn listed(manifest: &Manifest) -> Descriptor {
    let mut listed = manifest.descriptor();
    listed.artifact_type = manifest.artifact_type().cloned();
    listed.annotations = manifest.annotations().clone();
    listed
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

fn by_tag(name: &str) -> Identifier {
    tag(name).into()
}

fn served(manifest: &Manifest) -> Reply {
    Reply::new(200)
        .header("Content-Type", manifest.media_type())
        .header("Docker-Content-Digest", manifest.digest())
        .body(manifest.bytes())
}

/// The targets that need no server, and what keeps them.
async fn places() -> Vec<(Arc<dyn oci_registry::Delete>, Option<tempfile::TempDir>)> {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).await.unwrap();
    vec![
        (Arc::new(Memory::new()), None),
        (Arc::new(layout), Some(directory)),
    ]
}

async fn push(target: &dyn Target, packed: &Packed, tags: &[&str]) {
    for blob in packed.blobs() {
        target.push_blob(blob).await.unwrap();
    }
    target.push_manifest(packed.manifest()).await.unwrap();
    for name in tags {
        target.tag(packed.manifest(), &tag(name)).await.unwrap();
    }
}
