//! Tests for manual edits of an index, with concurrent writers.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

#[allow(dead_code, reason = "shared by several test suites")]
mod fake_repository;

use std::sync::Mutex;

use fake_repository::FakeRepository;
use oci_package::{
    AddOptions, Build, EntrySelector, FileKind, InputFile, Note, PackOptions, Package,
    PackageIndex, PublishEvent, PublishOptions, ReleaseTag, add, find_entry, pack, plan_removal,
    publish, remove, update_floating_tags,
};
use oci_registry::{
    Annotations, Blob, Delete, Descriptor, Digest, ErrorKind, Identifier, ImageManifest, Index,
    Manifest, MediaType, Memory, Optional, Packed, Platform, Source, Tag, Target,
};

const GNU: &str = "x86_64-unknown-linux-gnu";
const MAC: &str = "aarch64-apple-darwin";

/// Publishes a package for one target.
async fn push(to: &dyn Target, target: &str, content: &str) -> Manifest {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("widgets");
    std::fs::write(&path, content).unwrap();
    let package = Package::new("widgets", "1.2.3".parse().unwrap());
    let build = Build::new(target, "release");
    let files = [InputFile::new(
        "widgets".parse().unwrap(),
        FileKind::Bin,
        path,
    )];
    let options = PackOptions::default();
    let artifact = pack(&package, &build, &files, &options).await.unwrap();
    let tags = [ReleaseTag::parse("1.2.3").unwrap()];
    let options = PublishOptions::default();
    let published = publish(&artifact, to, &tags, &options, &|_| {}).await;
    published.unwrap().manifest
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn selectors(texts: &[&str]) -> Vec<EntrySelector> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Returns the targets in the index that a tag refers to.
async fn targets(from: &dyn Source, name: &str) -> Option<Vec<String>> {
    let stored = from.manifest(&tag(name).into()).await.optional().unwrap()?;
    let index = PackageIndex::read(&stored).unwrap();
    Some(
        index
            .entries()
            .map(|entry| entry.target().to_owned())
            .collect(),
    )
}

async fn tags(from: &dyn Source) -> Vec<String> {
    use futures_util::TryStreamExt;
    let tags: Vec<Tag> = from.tags().try_collect().await.unwrap();
    tags.iter().map(Tag::to_string).collect()
}

/// Stores an untagged image for a platform.
async fn image(to: &dyn Target, os: &str, architecture: &str) -> Manifest {
    let config = format!(r#"{{"os":"{os}","architecture":"{architecture}"}}"#);
    let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, config);
    to.push_blob(&config).await.unwrap();
    let mut image = ImageManifest::new(MediaType::EMPTY, config.descriptor().clone());
    image.artifact_type = None;
    let image = Manifest::from_image(image).unwrap();
    to.push_manifest(&image).await.unwrap();
    image
}

#[tokio::test(start_paused = true)]
async fn remove_target_deletes_entry_and_tag() {
    let memory = Memory::new();
    push(&memory, GNU, "gnu").await;
    let mac = push(&memory, MAC, "mac").await;
    let wanted = selectors(&[MAC]);
    let (entries, planned) = plan_removal(&memory, &tag("1.2.3"), &wanted).await.unwrap();
    assert_eq!(entries[0].digest, *mac.digest());
    assert_eq!(planned, [tag(&format!("1.2.3__{MAC}"))]);
    assert_eq!(tags(&memory).await.len(), 3, "a plan changes no tags");

    let removed = remove(&memory, &tag("1.2.3"), &wanted, &|_| {}).await;
    let removed = removed.unwrap();
    assert_eq!((removed.entries, removed.tags), (entries, planned));
    assert_eq!(targets(&memory, "1.2.3").await.unwrap(), [GNU]);
    assert_eq!(
        tags(&memory).await,
        ["1.2.3".to_owned(), format!("1.2.3__{GNU}")]
    );
    // A later publication of another target does not add the entry again.
    push(&memory, "x86_64-unknown-linux-musl", "musl").await;
    let remaining = targets(&memory, "1.2.3").await.unwrap();
    assert_eq!(remaining, [GNU, "x86_64-unknown-linux-musl"]);
}

#[tokio::test(start_paused = true)]
async fn find_entry_accepts_tag_of_target_and_digest() {
    let memory = Memory::new();
    let gnu = push(&memory, GNU, "gnu").await;
    let of_target = tag(&format!("1.2.3__{GNU}"));
    for named in [of_target.clone().into(), gnu.digest().clone().into()] {
        let found = find_entry(&memory, &named).await.unwrap().unwrap();
        assert_eq!(found.index, tag("1.2.3"));
        assert_eq!(found.tags, std::slice::from_ref(&of_target));
        assert_eq!(found.entries, std::slice::from_ref(gnu.digest()));
        assert_eq!(found.other_entries, []);
        let (entries, _) = plan_removal(&memory, &found.index, &[found.selector])
            .await
            .unwrap();
        assert_eq!(entries[0].digest, *gnu.digest(), "{named}");
    }
    // These identifiers have no entry: the tag of an index, a target tag that the index does not list, the digests of
    // an index and an image, and a missing digest.
    let other = tag(&format!("1.2.3__{MAC}"));
    memory.tag(&gnu, &other).await.unwrap();
    let index = memory.resolve(&tag("1.2.3").into()).await.unwrap();
    let image = image(&memory, "linux", "amd64").await;
    for named in [
        Identifier::Tag(tag("1.2.3")),
        other.into(),
        index.digest.into(),
        image.digest().clone().into(),
        Digest::sha256(b"nothing").into(),
    ] {
        let found = find_entry(&memory, &named).await.unwrap();
        assert!(found.is_none(), "{named}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn find_entry_by_digest_finds_index_of_v_tag() {
    let memory = Memory::new();
    let gnu = push(&memory, GNU, "gnu").await;
    let index = memory.manifest(&tag("1.2.3").into()).await.unwrap();
    memory.tag(&index, &tag("v1.2.3")).await.unwrap();
    let named = gnu.digest().clone().into();
    let found = find_entry(&memory, &named).await.unwrap().unwrap();
    assert_eq!(found.index, tag("1.2.3"));
    memory.delete_tag(&tag("1.2.3")).await.unwrap();
    let found = find_entry(&memory, &named).await.unwrap().unwrap();
    assert_eq!(found.index, tag("v1.2.3"));
}

#[tokio::test(start_paused = true)]
async fn remove_last_target_deletes_index() {
    let memory = Memory::new();
    let gnu = push(&memory, GNU, "gnu").await;
    let wanted = selectors(&[gnu.digest().as_str()]);
    let index = memory.resolve(&tag("1.2.3").into()).await.unwrap().digest;
    let removed = remove(&memory, &tag("1.2.3"), &wanted, &|_| {}).await;
    let removed = removed.unwrap();
    assert!(removed.index.is_none());
    assert_eq!(removed.deleted_index, Some(index));
    assert!(tags(&memory).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn remove_missing_entry_lists_available_entries() {
    let memory = Memory::new();
    let gnu = push(&memory, GNU, "gnu").await;
    let outcome = async |name: &str, selector: &str| {
        let removed = remove(&memory, &tag(name), &selectors(&[selector]), &|_| {}).await;
        let error = removed.unwrap_err();
        (error.kind(), error.hints())
    };
    assert_eq!(
        outcome("1.2.3", MAC).await,
        (
            ErrorKind::NotFound,
            vec![format!("choose an existing entry: `{GNU}`").into()]
        )
    );
    assert_eq!(outcome("9.9.9", GNU).await.0, ErrorKind::NotFound);
    memory.tag(&gnu, &tag("single")).await.unwrap();
    assert_eq!(outcome("single", GNU).await.0, ErrorKind::InvalidInput);
    assert_eq!(tags(&memory).await.len(), 3);
}

/// Repository in memory that does not support deletion.
#[derive(Debug)]
struct UndeletableMemory(Memory);

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl Source for UndeletableMemory {
    async fn manifest(&self, identifier: &Identifier) -> oci_registry::Result<Manifest> {
        self.0.manifest(identifier).await
    }

    async fn blob(
        &self,
        descriptor: &Descriptor,
    ) -> oci_registry::Result<oci_registry::BlobStream> {
        self.0.blob(descriptor).await
    }

    fn tags(&self) -> oci_registry::TagStream {
        self.0.tags()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        self.0.describe(identifier)
    }

    async fn resolve(&self, identifier: &Identifier) -> oci_registry::Result<Descriptor> {
        self.0.resolve(identifier).await
    }

    async fn blob_after(
        &self,
        descriptor: &Descriptor,
        partial: oci_registry::PartialBlob,
    ) -> oci_registry::Result<oci_registry::BlobStream> {
        self.0.blob_after(descriptor, partial).await
    }

    async fn find_blob(&self, digest: &Digest) -> oci_registry::Result<Descriptor> {
        self.0.find_blob(digest).await
    }

    fn origin(&self) -> Option<&oci_registry::Reference> {
        self.0.origin()
    }

    async fn other_names(&self) -> oci_registry::Result<Vec<oci_registry::OtherName>> {
        self.0.other_names().await
    }

    fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&MediaType>,
    ) -> oci_registry::DescriptorStream {
        self.0.referrers(subject, artifact_type)
    }
}

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl Target for UndeletableMemory {
    async fn exists(&self, descriptor: &Descriptor) -> oci_registry::Result<bool> {
        self.0.exists(descriptor).await
    }

    async fn push_blob(&self, blob: &Blob) -> oci_registry::Result<oci_registry::Delivery> {
        self.0.push_blob(blob).await
    }

    async fn push_manifest(&self, manifest: &Manifest) -> oci_registry::Result<()> {
        self.0.push_manifest(manifest).await
    }

    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> oci_registry::Result<()> {
        self.0.tag(manifest, tag).await
    }

    async fn push_file(
        &self,
        media_type: MediaType,
        path: &std::path::Path,
        meter: &oci_registry::Meter,
    ) -> oci_registry::Result<(Blob, oci_registry::Delivery)> {
        self.0.push_file(media_type, path, meter).await
    }

    async fn tag_once(&self, manifest: &Manifest, tag: &Tag) -> oci_registry::Result<()> {
        self.tag(manifest, tag).await
    }

    async fn complete(&self, untagged: Option<&Manifest>) -> oci_registry::Result<()> {
        self.0.complete(untagged).await
    }
}

#[derive(Debug)]
struct DeleteUnsupported;

impl std::fmt::Display for DeleteUnsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("deletion is not supported")
    }
}

impl std::error::Error for DeleteUnsupported {}

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl Delete for UndeletableMemory {
    async fn delete_tag(&self, _: &Tag) -> oci_registry::Result<()> {
        Err(oci_registry::Error::new(
            ErrorKind::Unsupported,
            DeleteUnsupported,
        ))
    }

    async fn delete_manifest(&self, _: &Digest) -> oci_registry::Result<()> {
        Err(oci_registry::Error::new(
            ErrorKind::Unsupported,
            DeleteUnsupported,
        ))
    }

    async fn delete_blob(&self, _: &Digest) -> oci_registry::Result<()> {
        Err(oci_registry::Error::new(
            ErrorKind::Unsupported,
            DeleteUnsupported,
        ))
    }
}

#[tokio::test(start_paused = true)]
async fn remove_without_tag_deletion_changes_nothing() {
    let repository = UndeletableMemory(Memory::new());
    push(&repository, GNU, "gnu").await;
    push(&repository, MAC, "mac").await;
    let before = repository.manifest(&tag("1.2.3").into()).await.unwrap();
    let removed = remove(&repository, &tag("1.2.3"), &selectors(&[MAC]), &|_| {}).await;
    assert_eq!(removed.unwrap_err().kind(), ErrorKind::Unsupported);
    let after = repository.manifest(&tag("1.2.3").into()).await.unwrap();
    assert_eq!(before, after);
}

#[tokio::test(start_paused = true)]
async fn add_to_package_sets_target_tag_and_rejects_changes() {
    let (memory, elsewhere) = (Memory::new(), Memory::new());
    push(&memory, GNU, "gnu").await;
    let mac = push(&elsewhere, MAC, "mac").await;
    let other = push(&elsewhere, GNU, "other").await;
    for manifest in [&mac, &other] {
        let source: std::sync::Arc<dyn Source> = std::sync::Arc::new(elsewhere.clone());
        let root = manifest.digest().clone().into();
        let options = oci_registry::CopyOptions::default();
        oci_registry::copy(&source, &root, &memory, options)
            .await
            .unwrap();
    }
    let added = async |manifests: &[&Manifest], overwrite| {
        let manifests: Vec<_> = manifests.iter().copied().cloned().collect();
        let options = AddOptions { overwrite };
        add(&memory, &tag("1.2.3"), &manifests, &options, &|_| {}).await
    };
    let rejected = added(&[&mac, &other], false).await.unwrap_err();
    assert_eq!(rejected.kind(), ErrorKind::Conflict);
    assert_eq!(
        tags(&memory).await.len(),
        2,
        "a rejected addition changes no tags"
    );

    let third = push(&Memory::new(), MAC, "another").await;
    let rejected = added(&[&mac, &third], false).await.unwrap_err();
    assert_eq!(rejected.kind(), ErrorKind::InvalidInput);
    assert_eq!(
        tags(&memory).await.len(),
        2,
        "a rejected addition changes no tags"
    );

    added(&[&mac], false).await.unwrap();
    assert_eq!(targets(&memory, "1.2.3").await.unwrap(), [MAC, GNU]);
    let tagged = memory
        .manifest(&tag(&format!("1.2.3__{MAC}")).into())
        .await
        .unwrap();
    assert_eq!(tagged, mac);

    let index = added(&[&other], true).await.unwrap();
    let index = PackageIndex::read(&index).unwrap();
    assert_eq!(
        index.entry(GNU).unwrap().descriptor().digest,
        *other.digest()
    );
    let image = image(&memory, "linux", "amd64").await;
    let rejected = added(&[&image], false).await.unwrap_err();
    assert_eq!(rejected.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn concurrent_add_with_delayed_tag_list_keeps_entries() {
    for index in ["1.2.3", "collection"] {
        let repository = FakeRepository::new();
        repository.delay_tag_list(std::time::Duration::from_secs(3));
        let triples = [GNU, MAC, "s390x-unknown-linux-gnu"];
        let mut adding = Vec::new();
        for target in triples {
            let manifest = push(&repository.memory(), target, target).await;
            repository
                .memory()
                .delete_tag(&tag(&format!("1.2.3__{target}")))
                .await
                .unwrap();
            let repository = repository.clone();
            adding.push(async move {
                let options = AddOptions::default();
                add(&repository, &tag(index), &[manifest], &options, &|_| {}).await
            });
        }
        repository.memory().delete_tag(&tag("1.2.3")).await.unwrap();
        for added in futures_util::future::join_all(adding).await {
            added.unwrap();
        }
        let mut stored = targets(&repository, index).await.unwrap();
        stored.sort();
        assert_eq!(stored, [MAC, triples[2], GNU], "{index}");
    }
}

#[tokio::test(start_paused = true)]
async fn image_index_is_created_extended_and_deleted() {
    let memory = Memory::new();
    let arm = image(&memory, "linux", "arm64").await;
    let amd = image(&memory, "linux", "amd64").await;
    let options = AddOptions::default();
    for added in [std::slice::from_ref(&arm), &[arm.clone(), amd.clone()]] {
        add(&memory, &tag("images"), added, &options, &|_| {})
            .await
            .unwrap();
    }
    let stored = memory.manifest(&tag("images").into()).await.unwrap();
    let platforms = stored.as_index().unwrap().manifests.iter();
    let platforms: Vec<_> = platforms
        .map(|entry| entry.platform.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(platforms, ["linux/arm64", "linux/amd64"]);
    let remove_entry = async |selector: &str| {
        remove(&memory, &tag("images"), &selectors(&[selector]), &|_| {})
            .await
            .unwrap()
            .index
    };
    let remaining = remove_entry("linux/arm64").await.unwrap();
    assert_eq!(
        remaining.as_index().unwrap().manifests[0].digest,
        *amd.digest()
    );
    assert!(remove_entry(amd.digest().as_str()).await.is_none());
    assert!(tags(&memory).await.is_empty());
}

/// Stores a Linux image with a label, so that images with different labels have different digests.
async fn labelled(to: &dyn Target, architecture: &str, label: &str) -> Manifest {
    let config = format!(
        r#"{{"os":"linux","architecture":"{architecture}","config":{{"Labels":{{"a":"{label}"}}}}}}"#
    );
    let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, config);
    to.push_blob(&config).await.unwrap();
    let mut image = ImageManifest::new(MediaType::EMPTY, config.descriptor().clone());
    image.artifact_type = None;
    let image = Manifest::from_image(image).unwrap();
    to.push_manifest(&image).await.unwrap();
    image
}

#[tokio::test(start_paused = true)]
async fn add_image_replaces_entry_of_same_platform_only() {
    let memory = Memory::new();
    let old = labelled(&memory, "arm64", "old").await;
    let amd = labelled(&memory, "amd64", "amd").await;
    let attestation = labelled(&memory, "unknown", "about").await;
    let platform = |os: &str, architecture: &str, variant: Option<&str>| Platform {
        os: os.into(),
        architecture: architecture.into(),
        os_version: None,
        os_features: Vec::new(),
        variant: variant.map(str::to_owned),
    };
    // Image builders write entries whose variant is implied by the architecture, and entries for attestations.
    let listed = |manifest: &Manifest, platform: Platform, said: &str| {
        let mut entry = manifest.descriptor();
        entry.platform = Some(platform);
        entry.annotations.insert("org.example".into(), said.into());
        entry
    };
    let mut index = Index::new(
        None,
        vec![
            listed(&old, platform("linux", "arm64", Some("v8")), "old"),
            listed(&amd, platform("linux", "amd64", None), "amd"),
            listed(&attestation, platform("unknown", "unknown", None), "about"),
        ],
    );
    index.annotations.insert("org.example".into(), "all".into());
    let index = Manifest::from_index(index).unwrap();
    memory.push_manifest(&index).await.unwrap();
    memory.tag(&index, &tag("images")).await.unwrap();

    let new = labelled(&memory, "arm64", "new").await;
    let notes = Mutex::new(Vec::new());
    let observer = |event: PublishEvent<'_>| {
        if let PublishEvent::Note(note) = event {
            notes.lock().unwrap().push(note);
        }
    };
    let options = AddOptions::default();
    let added = [new.clone(), amd.clone()];
    let edited = add(&memory, &tag("images"), &added, &options, &observer).await;
    let edited = edited.unwrap();
    let edited = edited.as_index().unwrap();
    let before = index.as_index().unwrap();
    assert_eq!(edited.annotations, before.annotations);
    assert_eq!(edited.manifests.len(), 3);
    assert_eq!(edited.manifests[0].digest, *new.digest());
    assert_eq!(edited.manifests[1..], before.manifests[1..]);
    let replaced = Note::EntryReplaced {
        entry: "`linux/arm64/v8`".into(),
        digest: old.digest().clone(),
    };
    assert_eq!(*notes.lock().unwrap(), [replaced]);

    // Two manifests for one platform are ambiguous.
    let third = labelled(&memory, "arm64", "third").await;
    let both = [old, third];
    let rejected = add(&memory, &tag("images"), &both, &options, &observer).await;
    assert_eq!(rejected.unwrap_err().kind(), ErrorKind::InvalidInput);
    let stored = memory.manifest(&tag("images").into()).await.unwrap();
    assert_eq!(stored.as_index().unwrap(), edited);
}

#[tokio::test(start_paused = true)]
async fn add_fails_if_other_writer_replaces_entry_later() {
    let repository = FakeRepository::new();
    let memory = repository.memory();
    let [first, ours, theirs] = [
        labelled(&memory, "amd64", "first").await,
        labelled(&memory, "amd64", "ours").await,
        labelled(&memory, "amd64", "theirs").await,
    ];
    let options = AddOptions::default();
    let images = tag("images");
    add(&memory, &images, &[first], &options, &|_| {})
        .await
        .unwrap();
    let once = Mutex::new(true);
    repository.after({
        let (memory, images) = (memory.clone(), images.clone());
        let mut entry = theirs.descriptor();
        entry.platform = Some(oci_package::platform::parse("linux/amd64").unwrap());
        let other = Manifest::from_index(Index::new(None, vec![entry])).unwrap();
        move |call| {
            if call == "tag images" && std::mem::take(&mut *once.lock().unwrap()) {
                fake_repository::run_ready(async {
                    memory.push_manifest(&other).await.unwrap();
                    memory.tag(&other, &images).await.unwrap();
                });
            }
        }
    });
    let error = add(&repository, &images, &[ours], &options, &|_| {}).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Conflict);
    let index = memory.manifest(&images.into()).await.unwrap();
    let digests = index.successors();
    let digests: Vec<_> = digests.iter().map(|entry| &entry.digest).collect();
    assert_eq!(digests, [theirs.digest()]);
}

#[tokio::test(start_paused = true)]
async fn add_repeats_after_other_writer_overwrites_index() {
    let repository = FakeRepository::new();
    let memory = repository.memory();
    let (ours, theirs) = (
        image(&memory, "linux", "amd64").await,
        image(&memory, "linux", "arm64").await,
    );
    let packed = Packed::new("a/b".into(), Blob::empty(), Vec::new(), Annotations::new()).unwrap();
    repository.store(&packed, "unrelated").await;
    let other = Manifest::from_index(Index::new(None, vec![theirs.descriptor()])).unwrap();
    let once = Mutex::new(true);
    repository.after({
        let memory = memory.clone();
        move |call| {
            if call == "tag images" && std::mem::take(&mut *once.lock().unwrap()) {
                fake_repository::run_ready(async {
                    memory.push_manifest(&other).await.unwrap();
                    memory.tag(&other, &tag("images")).await.unwrap();
                });
            }
        }
    });
    let options = AddOptions::default();
    let added = std::slice::from_ref(&ours);
    let index = add(&repository, &tag("images"), added, &options, &|_| {})
        .await
        .unwrap();
    let digests = index.successors();
    let digests: Vec<_> = digests.iter().map(|entry| &entry.digest).collect();
    assert_eq!(digests, [theirs.digest(), ours.digest()]);
    assert_eq!(
        repository
            .writes()
            .iter()
            .filter(|call| *call == "tag images")
            .count(),
        2
    );
}

/// Returns a repository with version 1.2.3 for two targets and its floating tags.
async fn repository_with_floating_tags() -> (Memory, Manifest) {
    let memory = Memory::new();
    let gnu = push(&memory, GNU, "a").await;
    push(&memory, MAC, "b").await;
    let index = memory.manifest(&tag("1.2.3").into()).await.unwrap();
    update_floating_tags(&memory, &index, &|_| {})
        .await
        .unwrap();
    (memory, gnu)
}

#[tokio::test(start_paused = true)]
async fn floating_tags_follow_index_after_removal() {
    let (memory, gnu) = repository_with_floating_tags().await;
    // `1.2` refers to another manifest, and `1` has a target tag of its own.
    memory.tag(&gnu, &tag("1.2")).await.unwrap();
    let own = format!("1__{GNU}");
    memory.tag(&gnu, &tag(&own)).await.unwrap();
    let moved = Mutex::new(Vec::new());
    let observer = |event: PublishEvent<'_>| {
        if let PublishEvent::FloatingTag(tag, index) = event {
            let moved_to = (tag.to_string(), index.digest().clone());
            moved.lock().unwrap().push(moved_to);
        }
    };
    let removed = remove(&memory, &tag("1.2.3"), &selectors(&[MAC]), &observer).await;
    let removed = removed.unwrap();
    assert_eq!(removed.floating_tags, [tag("latest")]);
    let index = removed.index.unwrap().digest().clone();
    assert_eq!(*moved.lock().unwrap(), [("latest".to_owned(), index)]);
    assert_eq!(targets(&memory, "latest").await, Some(vec![GNU.into()]));
    assert_eq!(targets(&memory, "1").await.unwrap().len(), 2);

    let removed = remove(&memory, &tag("1.2.3"), &selectors(&[GNU]), &observer).await;
    assert_eq!(removed.unwrap().floating_tags, [tag("latest")]);
    assert_eq!(moved.lock().unwrap().len(), 1);
    assert_eq!(tags(&memory).await, ["1", "1.2", &own]);
}

#[tokio::test(start_paused = true)]
async fn floating_tags_are_kept_with_other_tag_after_last_removal() {
    let (memory, gnu) = repository_with_floating_tags().await;
    memory.tag(&gnu, &tag("v1.2.3")).await.unwrap();
    let all = selectors(&[GNU, MAC]);
    let removed = remove(&memory, &tag("1.2.3"), &all, &|_| {}).await;
    assert_eq!(removed.unwrap().floating_tags, []);
    assert_eq!(tags(&memory).await, ["1", "1.2", "latest", "v1.2.3"]);
}

#[tokio::test(start_paused = true)]
async fn add_with_overwrite_moves_floating_tags() {
    let memory = Memory::new();
    let other = push(&memory, GNU, "other").await;
    for name in ["1.2.3".to_owned(), format!("1.2.3__{GNU}")] {
        memory.delete_tag(&tag(&name)).await.unwrap();
    }
    push(&memory, GNU, "a").await;
    let index = memory.manifest(&tag("1.2.3").into()).await.unwrap();
    memory.tag(&index, &tag("latest")).await.unwrap();
    let options = AddOptions { overwrite: true };
    let index = add(&memory, &tag("1.2.3"), &[other], &options, &|_| {}).await;
    let latest = memory.manifest(&tag("latest").into()).await.unwrap();
    assert_eq!(latest, index.unwrap());
}
