//! Test fixtures: manifests with a subject, registries in memory without a referrers API, and local targets.

use std::sync::Arc;

use oci_registry::{
    Blob, Delete, Descriptor, ImageManifest, Layout, Manifest, Memory, Packed, Tag, Target,
};
use testkit::registry::{Deletion, FakeRegistry, Switches};

/// Switches of a registry that has no referrers API.
pub(crate) const NO_REFERRERS: Switches = without_referrers(Deletion::Everything);

/// Returns the switches of a registry that has no referrers API and handles deletions as `deletion` specifies.
pub(crate) const fn without_referrers(deletion: Deletion) -> Switches {
    Switches {
        deletion,
        no_referrers: true,
        chunk_limit: None,
        stale_lists: false,
    }
}

/// Starts a registry in memory that has no referrers API.
pub(crate) fn registry() -> FakeRegistry {
    FakeRegistry::start(NO_REFERRERS)
}

/// Returns a manifest of this artifact type that has a subject. Its only blob is the empty blob.
pub(crate) fn referrer(subject: &Manifest, artifact_type: &str) -> Manifest {
    let config = Blob::empty().descriptor().clone();
    let mut image = ImageManifest::new(artifact_type.into(), config);
    image.subject = Some(subject.descriptor());
    image.annotations = [("kind".to_owned(), artifact_type.to_owned())].into();
    Manifest::from_image(image).unwrap()
}

/// Returns the descriptor with which a list of referrers refers to a manifest.
pub(crate) fn referrer_descriptor(manifest: &Manifest) -> Descriptor {
    let mut listed = manifest.descriptor();
    listed.artifact_type = manifest.artifact_type().cloned();
    listed.annotations = manifest.annotations().clone();
    listed
}

pub(crate) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

/// Returns a memory target and a layout. Each is returned with its temporary directory, if it has one.
pub(crate) async fn local_targets() -> Vec<(Arc<dyn Delete>, Option<tempfile::TempDir>)> {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).await.unwrap();
    vec![
        (Arc::new(Memory::new()), None),
        (Arc::new(layout), Some(directory)),
    ]
}

pub(crate) async fn push(target: &dyn Target, packed: &Packed, tags: &[&str]) {
    for blob in packed.blobs() {
        target.push_blob(blob).await.unwrap();
    }
    target.push_manifest(packed.manifest()).await.unwrap();
    for name in tags {
        target.tag(packed.manifest(), &tag(name)).await.unwrap();
    }
}
