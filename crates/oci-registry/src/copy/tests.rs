//! Copies between places in memory.

use std::sync::Mutex;

use super::*;
use crate::blob::BlobStream;
use crate::layout::Layout;
use crate::manifest::{Annotations, Index, MediaType};
use crate::memory::Memory;
use crate::pack::Packed;

async fn index_of_two() -> (Memory, Manifest) {
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
async fn a_graph_arrives_whole_and_once() {
    let (from, index) = index_of_two().await;
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
        "what two manifests share moves once"
    );
    assert_eq!(count(|event| matches!(event, CopyEvent::Manifest(_))), 3);
    let passed = events
        .lock()
        .unwrap()
        .iter()
        .fold(0, |sum, event| match event {
            CopyEvent::BlobStarted(_, meter) => sum + meter.passed(),
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
async fn failures_name_the_end_that_failed() {
    let (from, index) = index_of_two().await;
    let from: Arc<dyn Source> = Arc::new(from);
    let absent = Identifier::Tag("absent".parse().unwrap());
    let error = copy(&from, &absent, &Memory::new(), CopyOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::NotFound, Some(Side::Source))
    );
    let lonely = Memory::new();
    let entry = Descriptor::new(MediaType::MANIFEST, Digest::sha256(b"x"), 1);
    let broken = Manifest::from_index(Index::new(None, vec![entry])).unwrap();
    assert!(lonely.push_manifest(&broken).await.is_err());
    assert_eq!(index.successors().len(), 2);
}

/// An artifact of nothing, about this manifest.
async fn attach(memory: &Memory, subject: &Manifest, artifact_type: &str) -> Manifest {
    let blob = Blob::empty();
    memory.push_blob(&blob).await.unwrap();
    let packed = Packed::new(artifact_type.into(), blob, Vec::new(), Annotations::new());
    let packed = packed.unwrap().about(subject.descriptor()).unwrap();
    memory.push_manifest(packed.manifest()).await.unwrap();
    packed.manifest().clone()
}

#[tokio::test]
async fn what_is_about_an_artifact_comes_along_if_it_is_wanted() {
    let (from, index) = index_of_two().await;
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
    let is_there = async |manifest: &Manifest| to.exists(&manifest.descriptor()).await.unwrap();
    copy(&from, &root, &to, options(false)).await.unwrap();
    assert!(!is_there(&list).await && !is_there(&signature).await);
    // The tag is there by now, and settles nothing about what is about it.
    copy(&from, &root, &to, options(true)).await.unwrap();
    for manifest in [&list, &signature, &countersignature] {
        assert!(is_there(manifest).await);
    }
    let of_signature = to.referrers(signature.digest(), None);
    let of_signature: Vec<_> = of_signature.try_collect().await.unwrap();
    assert_eq!(of_signature[0].digest, *countersignature.digest());
}

#[tokio::test]
async fn all_tags_are_copied_but_those_that_keep_lists() {
    let (from, index) = index_of_two().await;
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
    assert!(matches!(&seen[0], CopyEvent::LeftAside(tag) if *tag == list));
    let manifests = seen.iter();
    let manifests = manifests.filter(|event| matches!(event, CopyEvent::Manifest(_)));
    assert_eq!(manifests.count(), 3, "what two tags share moves once");

    let absent = vec!["absent".parse().unwrap()];
    let error = copy_all(&from, &to, options(absent)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::NotFound, Some(Side::Source))
    );
}

/// A place that cannot tell what is about anything, after a while.
#[derive(Debug)]
struct Unsure(Memory);

#[async_trait::async_trait]
impl Source for Unsure {
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
            let unsure = std::io::Error::other("unsure");
            Err(crate::Error::new(ErrorKind::Network, unsure))
        };
        stream::once(late).boxed()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        self.0.describe(identifier)
    }
}

#[tokio::test]
async fn artifact_under_fallback_tag_is_copied_as_any_other() {
    let (from, index) = index_of_two().await;
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
async fn no_tag_goes_before_what_is_about_it_whatever_other_tag_was_first() {
    let (from, index) = index_of_two().await;
    from.tag(&index, &"latest".parse().unwrap()).await.unwrap();
    let from: Arc<dyn Source> = Arc::new(Unsure(from));
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
async fn what_may_be_absent_here_and_not_there_is_wanted() {
    let home = tempfile::tempdir().unwrap();
    let source = Layout::create(home.path()).await.unwrap();
    let names = [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "a/b",
    ];
    for (count, is_refused) in [(1, false), (2, true)] {
        for is_turned in [false, true] {
            let layers = names[..count].iter();
            let layers = layers.map(|name| Blob::from_bytes((*name).into(), "foreign"));
            let mut layers: Vec<_> = layers.collect();
            if is_turned {
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
