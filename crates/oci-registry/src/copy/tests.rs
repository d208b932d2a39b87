//! Copies between repositories in memory.

use std::sync::Mutex;

use super::*;
use crate::blob::BlobStream;
use crate::layout::Layout;
use crate::manifest::{Annotations, Index, MediaType};
use crate::memory::Memory;
use crate::pack::Packed;

async fn memory_with_index() -> (Memory, Manifest) {
    let memory = Memory::new();
    let mut entries = Vec::new();
    for content in ["one", "two"] {
        let layers = vec![Blob::from_bytes(MediaType::OCTET_STREAM, content)];
        let packed = Packed::new("a/b".into(), Blob::empty(), layers, Annotations::new()).unwrap();
        let digest = packed.manifest().digest().clone().into();
        entries.push(packed.manifest().descriptor());
        let packed: Arc<dyn Source> = Arc::new(packed);
        copy(&packed, &digest, &memory, CopyOptions::default())
            .await
            .unwrap();
    }
    let index = Manifest::from_index(Index::new(None, entries)).unwrap();
    memory.push_manifest(&index).await.unwrap();
    memory.tag(&index, &"1".parse().unwrap()).await.unwrap();
    (memory, index)
}

#[tokio::test]
async fn repeated_copy_transfers_no_blob_again() {
    let (from, index) = memory_with_index().await;
    let from: Arc<dyn Source> = Arc::new(from);
    let to = Memory::new();
    let tag: Tag = "1".parse().unwrap();
    let events = Mutex::new(Vec::new());
    let observer = |event: CopyEvent| events.lock().unwrap().push(event);
    let options = || CopyOptions {
        tags: vec![tag.clone()],
        concurrency: 2,
        observer: &observer,
        ..CopyOptions::default()
    };
    let copied = copy(&from, &tag.clone().into(), &to, options())
        .await
        .unwrap();
    assert_eq!(copied, index);
    assert_eq!(to.manifest(&tag.clone().into()).await.unwrap(), index);
    let count = |wanted: fn(&CopyEvent) -> bool| {
        events
            .lock()
            .unwrap()
            .iter()
            .filter(|event| wanted(event))
            .count()
    };
    assert_eq!(
        count(|event| matches!(event, CopyEvent::Blob(_, Delivery::Uploaded))),
        3
    );
    assert_eq!(
        count(|event| matches!(event, CopyEvent::Blob(..))),
        3,
        "a blob of two manifests is transferred once"
    );
    assert_eq!(count(|event| matches!(event, CopyEvent::Manifest(_))), 3);
    let passed = events
        .lock()
        .unwrap()
        .iter()
        .fold(0, |sum, event| match event {
            CopyEvent::BlobStarted(_, meter) => sum + meter.transferred_bytes(),
            _ => sum,
        });
    assert_eq!(passed, "{}onetwo".len() as u64);
    events.lock().unwrap().clear();
    copy(&from, &tag.clone().into(), &to, options())
        .await
        .unwrap();
    assert!(events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn copy_of_absent_tag_fails_with_source_side() {
    let (from, index) = memory_with_index().await;
    let from: Arc<dyn Source> = Arc::new(from);
    let absent = Identifier::Tag("absent".parse().unwrap());
    let error = copy(&from, &absent, &Memory::new(), CopyOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::NotFound, Some(Side::Source))
    );
    let empty = Memory::new();
    let entry = Descriptor::new(MediaType::MANIFEST, Digest::sha256(b"x"), 1);
    let broken = Manifest::from_index(Index::new(None, vec![entry])).unwrap();
    assert!(empty.push_manifest(&broken).await.is_err());
    assert_eq!(index.successors().len(), 2);
}

/// Pushes an artifact without content that has this manifest as its subject.
async fn attach(memory: &Memory, subject: &Manifest, artifact_type: &str) -> Manifest {
    let blob = Blob::empty();
    memory.push_blob(&blob).await.unwrap();
    let packed = Packed::new(artifact_type.into(), blob, Vec::new(), Annotations::new());
    let packed = packed.unwrap().with_subject(subject.descriptor()).unwrap();
    memory.push_manifest(packed.manifest()).await.unwrap();
    packed.manifest().clone()
}

#[tokio::test]
async fn copy_with_referrers_includes_nested_referrers() {
    let (from, index) = memory_with_index().await;
    let part = Identifier::Digest(index.as_index().unwrap().manifests[0].digest.clone());
    let part = from.manifest(&part).await.unwrap();
    let list = attach(&from, &part, "a/list").await;
    let signature = attach(&from, &index, "a/signature").await;
    let countersignature = attach(&from, &signature, "a/countersignature").await;
    let from: Arc<dyn Source> = Arc::new(from);
    let tag: Tag = "1".parse().unwrap();
    let to = Memory::new();
    let options = |referrers| CopyOptions {
        tags: vec![tag.clone()],
        referrers,
        ..CopyOptions::default()
    };
    let root = tag.clone().into();
    let exists_at_target =
        async |manifest: &Manifest| to.exists(&manifest.descriptor()).await.unwrap();
    copy(&from, &root, &to, options(false)).await.unwrap();
    assert!(!exists_at_target(&list).await && !exists_at_target(&signature).await);
    // The tag already exists at the target. The referrers are copied nevertheless.
    copy(&from, &root, &to, options(true)).await.unwrap();
    for manifest in [&list, &signature, &countersignature] {
        assert!(exists_at_target(manifest).await);
    }
    let of_signature = to.referrers(signature.digest(), None);
    let of_signature: Vec<_> = of_signature.try_collect().await.unwrap();
    assert_eq!(of_signature[0].digest, *countersignature.digest());
}

#[tokio::test]
async fn copy_all_skips_fallback_tags_of_referrers() {
    let (from, index) = memory_with_index().await;
    let part = Identifier::Digest(index.as_index().unwrap().manifests[0].digest.clone());
    let part = from.manifest(&part).await.unwrap();
    from.tag(&part, &"2".parse().unwrap()).await.unwrap();
    let list = referrers::fallback_tag(part.digest());
    from.tag(&index, &list).await.unwrap();
    let from: Arc<dyn Source> = Arc::new(from);
    let to = Memory::new();
    let events = Mutex::new(Vec::new());
    let observer = |event: CopyEvent| events.lock().unwrap().push(event);
    let options = |tags| CopyOptions {
        tags,
        observer: &observer,
        ..CopyOptions::default()
    };
    let copied = copy_all(&from, &to, options(Vec::new())).await.unwrap();
    let copied: Vec<_> = copied
        .iter()
        .map(|(tag, manifest)| (tag.as_str(), manifest.digest()))
        .collect();
    assert_eq!(copied, [("1", index.digest()), ("2", part.digest())]);
    let tags: Vec<_> = to.tags().try_collect().await.unwrap();
    assert_eq!(tags, ["1".parse().unwrap(), "2".parse::<Tag>().unwrap()]);
    let seen = events.lock().unwrap().clone();
    assert!(matches!(&seen[0], CopyEvent::SkippedTag(tag) if *tag == list));
    let manifests = seen.iter();
    let manifests = manifests.filter(|event| matches!(event, CopyEvent::Manifest(_)));
    assert_eq!(
        manifests.count(),
        3,
        "a manifest of two tags is copied once"
    );

    let absent = vec!["absent".parse().unwrap()];
    let error = copy_all(&from, &to, options(absent)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::NotFound, Some(Side::Source))
    );
}

/// Source that fails to list referrers after some time.
#[derive(Debug)]
struct FailingReferrers(Memory);

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl Source for FailingReferrers {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        self.0.manifest(identifier).await
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        self.0.blob(descriptor).await
    }

    fn tags(&self) -> crate::storage::TagStream {
        self.0.tags()
    }

    fn referrers(&self, _: &Digest, _: Option<&MediaType>) -> crate::referrers::DescriptorStream {
        let late = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let failure = std::io::Error::other("no referrers");
            Err(crate::Error::new(ErrorKind::Network, failure))
        };
        stream::once(late).boxed()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        self.0.describe(identifier)
    }

    async fn resolve(&self, identifier: &Identifier) -> crate::Result<Descriptor> {
        self.0.resolve(identifier).await
    }

    async fn blob_after(
        &self,
        descriptor: &Descriptor,
        partial: crate::blob::PartialBlob,
    ) -> crate::Result<BlobStream> {
        self.0.blob_after(descriptor, partial).await
    }

    async fn find_blob(&self, digest: &crate::digest::Digest) -> crate::Result<Descriptor> {
        self.0.find_blob(digest).await
    }

    fn origin(&self) -> Option<&crate::reference::Reference> {
        self.0.origin()
    }

    async fn other_names(&self) -> crate::Result<Vec<crate::storage::OtherName>> {
        self.0.other_names().await
    }
}

#[tokio::test]
async fn copy_all_includes_artifact_under_fallback_tag() {
    let (from, index) = memory_with_index().await;
    let tag = referrers::fallback_tag(index.digest());
    from.tag(&index, &tag).await.unwrap();
    let from: Arc<dyn Source> = Arc::new(from);
    let to = Memory::new();
    let copied = copy_all(&from, &to, CopyOptions::default()).await.unwrap();
    assert_eq!(copied.len(), 2);
    let tags: Vec<Tag> = to.tags().try_collect().await.unwrap();
    assert_eq!(tags, ["1".parse().unwrap(), tag]);
}

#[tokio::test]
async fn copy_all_sets_no_tag_if_referrers_fail() {
    let (from, index) = memory_with_index().await;
    from.tag(&index, &"latest".parse().unwrap()).await.unwrap();
    let from: Arc<dyn Source> = Arc::new(FailingReferrers(from));
    let to = Memory::new();
    let options = CopyOptions {
        referrers: true,
        ..CopyOptions::default()
    };
    let error = copy_all(&from, &to, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let tags: Vec<Tag> = to.tags().try_collect().await.unwrap();
    assert!(tags.is_empty(), "{tags:?}");
}

#[tokio::test]
async fn copy_of_absent_layer_fails_if_other_entry_requires_it() {
    let home = tempfile::tempdir().unwrap();
    let source = Layout::create(home.path()).await.unwrap();
    let names = [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "a/b",
    ];
    for (count, is_refused) in [(1, false), (2, true)] {
        for is_reversed in [false, true] {
            let layers = names[..count].iter();
            let layers = layers.map(|name| Blob::from_bytes((*name).into(), "foreign"));
            let mut layers: Vec<_> = layers.collect();
            if is_reversed {
                layers.reverse();
            }
            let packed = Packed::new("a/b".into(), Blob::empty(), layers, Annotations::new());
            let packed = packed.unwrap();
            source.push_blob(&Blob::empty()).await.unwrap();
            source.push_manifest(packed.manifest()).await.unwrap();
            let options = CopyOptions {
                concurrency: 1,
                ..CopyOptions::default()
            };
            let root = packed.manifest().digest().clone().into();
            let source: Arc<dyn Source> = Arc::new(source.clone());
            let copied = copy(&source, &root, &Memory::new(), options).await;
            let outcome = copied
                .map(|_| ())
                .map_err(|error| (error.kind(), error.side()));
            let refused = Err((ErrorKind::NotFound, Some(Side::Source)));
            assert_eq!(outcome, if is_refused { refused } else { Ok(()) });
        }
    }
}
