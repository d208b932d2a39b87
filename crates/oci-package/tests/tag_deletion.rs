//! Tests for the deletion of a version with its target tags.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

#[allow(dead_code, reason = "shared by several test suites")]
mod fake_repository;

use std::sync::atomic::{AtomicUsize, Ordering};

use fake_repository::{FakeRepository, run_ready};
use futures_util::TryStreamExt as _;
use oci_package::{
    Build, DeletedSet, DeletionNote, FileKind, InputFile, PackOptions, Package, PublishOptions,
    ReleaseTag, TagDeletion, TaggedDigest, find_index_tags, pack, plan_tag_deletion, publish,
    update_floating_tags,
};
use oci_registry::{
    Blob, Delete, ErrorKind, ImageManifest, Manifest, MediaType, Memory, Source, Tag, Target,
};

const GNU: &str = "x86_64-unknown-linux-gnu";
const MAC: &str = "aarch64-apple-darwin";

/// Publishes a package for one target under a tag: the version of the tag, or 1.2.3 under a moving tag.
async fn push(to: &dyn Target, release: &str, target: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("widgets");
    std::fs::write(&path, target).unwrap();
    let tags = [ReleaseTag::parse(release).unwrap()];
    let version = tags[0].version();
    let version = version.unwrap_or_else(|| "1.2.3".parse().unwrap());
    let package = Package::new("widgets", version);
    let build = Build::new(target, "release");
    let name = "widgets".parse().unwrap();
    let files = [InputFile::new(name, FileKind::Bin, path)];
    let artifact = pack(&package, &build, &files, &PackOptions::default()).await;
    let options = PublishOptions::default();
    let published = publish(&artifact.unwrap(), to, &tags, &options, &|_| {}).await;
    published.unwrap();
}

/// Returns a repository with version 1.2.3 for two targets and its floating tags.
async fn repository() -> Memory {
    let memory = Memory::new();
    push(&memory, "1.2.3", GNU).await;
    push(&memory, "1.2.3", MAC).await;
    move_floating_tags(&memory, "1.2.3").await;
    memory
}

/// Moves the floating tags of a version to its index.
async fn move_floating_tags(at: &dyn Target, version: &str) {
    let index = at.manifest(&tag(version).into()).await.unwrap();
    update_floating_tags(at, &index, &|_| {}).await.unwrap();
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

async fn tags(from: &dyn Source) -> Vec<String> {
    let tags: Vec<Tag> = from.tags().try_collect().await.unwrap();
    tags.iter().map(Tag::to_string).collect()
}

fn names(plan: &TagDeletion) -> Vec<String> {
    plan.tags().map(|tagged| tagged.tag.to_string()).collect()
}

async fn plan(from: &dyn Source, named: &str) -> TagDeletion {
    plan_tag_deletion(from, &tag(named), false).await.unwrap()
}

/// Deletes a tag with its target tags and floating tags.
async fn delete(from: &dyn Delete, named: &str) -> Option<DeletionNote> {
    let plan = plan(from, named).await;
    let mut reported = Vec::new();
    let observer = |tagged: &TaggedDigest| reported.push(tagged.tag.to_string());
    let mut deleted = DeletedSet::default();
    let note = plan.delete(from, &mut deleted, observer).await.unwrap();
    assert_eq!(reported, names(&plan));
    note
}

#[tokio::test(start_paused = true)]
async fn version_is_deleted_after_its_targets() {
    let memory = repository().await;
    let expected = [
        format!("1.2.3__{MAC}"),
        format!("1.2.3__{GNU}"),
        "1.2".into(),
        "1".into(),
        "latest".into(),
        "1.2.3".into(),
    ];
    assert_eq!(names(&plan(&memory, "1.2.3").await), expected);
    assert_eq!(delete(&memory, "1.2.3").await, None);
    assert_eq!(tags(&memory).await, [""; 0]);
    let missing = plan_tag_deletion(&memory, &tag("1.2.3"), false).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn floating_tags_are_kept_while_v_tag_exists() {
    let memory = repository().await;
    push(&memory, "v1.2.3", GNU).await;
    // The target tag is enough: `v1.2.3` is then an incomplete version.
    memory.delete_tag(&tag("v1.2.3")).await.unwrap();
    let first = plan(&memory, "1.2.3").await;
    let expected = [
        format!("1.2.3__{MAC}"),
        format!("1.2.3__{GNU}"),
        "1.2.3".into(),
    ];
    assert_eq!(names(&first), expected);
    // The tag with `v` was deleted earlier in the same command.
    let mut deleted = DeletedSet::default();
    deleted.insert(tag(&format!("v1.2.3__{GNU}")).into());
    let then = first.without_deleted(&deleted).unwrap();
    assert_eq!(names(&then)[2..], ["1.2", "1", "latest", "1.2.3"]);
    delete(&memory, "v1.2.3").await;
    delete(&memory, "1.2.3").await;
    assert_eq!(tags(&memory).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn tags_of_index_digest_are_version_and_floating_tags() {
    let memory = repository().await;
    let index = memory.manifest(&tag("1.2.3").into()).await.unwrap();
    memory.tag(&index, &tag("stable")).await.unwrap();
    let target = memory.manifest(&tag(&format!("1.2.3__{GNU}")).into()).await;
    let target = target.unwrap();
    memory.tag(&target, &tag("1.2")).await.unwrap();
    let found = find_index_tags(&memory, index.digest()).await.unwrap();
    assert_eq!(found.deleted, ["1", "1.2.3", "latest"].map(tag));
    let kept = [MAC, GNU].map(|target| tag(&format!("1.2.3__{target}")));
    assert_eq!(found.kept_targets, kept);
    assert_eq!(found.note(), Some(DeletionNote::TargetsKept(kept.into())));
    let found = find_index_tags(&memory, target.digest()).await.unwrap();
    assert_eq!(found.deleted, []);
    assert_eq!(found.note(), None);
}

#[tokio::test(start_paused = true)]
async fn moving_tag_is_deleted_with_its_own_targets_only() {
    let memory = repository().await;
    push(&memory, "nightly", GNU).await;
    let before = tags(&memory).await;
    let expected = [format!("nightly__{GNU}"), "nightly".into()];
    assert_eq!(names(&plan(&memory, "nightly").await), expected);
    delete(&memory, "nightly").await;
    delete(&memory, "latest").await;
    let after = tags(&memory).await;
    let kept = before.iter().filter(|name| !name.starts_with("nightly"));
    let kept: Vec<_> = kept.filter(|name| *name != "latest").cloned().collect();
    assert_eq!(after, kept);
}

#[tokio::test(start_paused = true)]
async fn floating_tag_of_other_version_is_kept() {
    let memory = repository().await;
    push(&memory, "1.3.0", GNU).await;
    move_floating_tags(&memory, "1.3.0").await;
    let named = names(&plan(&memory, "1.2.3").await);
    assert_eq!(named[2..], ["1.2", "1.2.3"]);
}

#[tokio::test(start_paused = true)]
async fn floating_tag_with_own_target_tag_is_kept() {
    let memory = repository().await;
    // `latest` has a target tag of its own, so it was pushed under this name.
    push(&memory, "latest", GNU).await;
    let named = names(&plan(&memory, "1.2.3").await);
    assert_eq!(named[2..], ["1.2", "1", "1.2.3"]);
}

#[tokio::test(start_paused = true)]
async fn stale_list_is_corrected_by_index_and_lookups() {
    let repository = FakeRepository::new();
    push(&repository, "1.2.3", GNU).await;
    repository.delay_tag_list(std::time::Duration::from_hours(1));
    push(&repository, "1.2.3", MAC).await;
    // The tag of the second target is not listed yet, and the index has an entry for it.
    let expected = [
        format!("1.2.3__{MAC}"),
        format!("1.2.3__{GNU}"),
        "1.2.3".into(),
    ];
    assert_eq!(names(&plan(&repository, "1.2.3").await), expected);
    // A tag that is in the index but does not exist is omitted.
    repository.hide_tag(&format!("1.2.3__{GNU}"));
    let named = names(&plan(&repository, "1.2.3").await);
    assert_eq!(named, [format!("1.2.3__{MAC}"), "1.2.3".into()]);
}

#[tokio::test(start_paused = true)]
async fn keep_targets_deletes_named_tag_alone() {
    let memory = repository().await;
    let plan = plan_tag_deletion(&memory, &tag("1.2.3"), true).await;
    let plan = plan.unwrap();
    assert_eq!(names(&plan), ["1.2.3"]);
    let kept = [MAC, GNU].map(|target| tag(&format!("1.2.3__{target}")));
    assert_eq!(plan.notes(), [DeletionNote::TargetsKept(kept.into())]);
}

#[tokio::test(start_paused = true)]
async fn target_pushed_meanwhile_is_kept_and_named() {
    let memory = repository().await;
    let plan = plan(&memory, "1.2.3").await;
    let musl = "x86_64-unknown-linux-musl";
    push(&memory, "1.2.3", musl).await;
    // Another job moved `latest` to another artifact.
    let other = memory
        .manifest(&tag(&format!("1.2.3__{musl}")).into())
        .await;
    memory.tag(&other.unwrap(), &tag("latest")).await.unwrap();
    let mut deleted = DeletedSet::default();
    let note = plan.delete(&memory, &mut deleted, |_| {});
    let pushed = tag(&format!("1.2.3__{musl}"));
    let expected = DeletionNote::SetMeanwhile(vec![pushed.clone(), tag("latest")]);
    assert_eq!(note.await.unwrap(), Some(expected));
    assert_eq!(tags(&memory).await, [pushed.to_string(), "latest".into()]);
}

#[tokio::test(start_paused = true)]
async fn missing_tag_keeps_tags_of_other_tools() {
    let memory = Memory::new();
    // The tag of the index was deleted, so only the tag of the target is left.
    push(&memory, "build", GNU).await;
    memory.delete_tag(&tag("build")).await.unwrap();
    let empty = Blob::empty();
    memory.push_blob(&empty).await.unwrap();
    let other = ImageManifest::new(MediaType::OCTET_STREAM, empty.descriptor().clone());
    let other = Manifest::from_image(other).unwrap();
    memory.push_manifest(&other).await.unwrap();
    memory.tag(&other, &tag("build__42")).await.unwrap();
    let expected = format!("build__{GNU}");
    assert_eq!(names(&plan(&memory, "build").await), [expected]);
    assert_eq!(delete(&memory, "build").await, None);
    let missing = plan_tag_deletion(&memory, &tag("build"), false).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(tags(&memory).await, ["build__42"]);
}

#[tokio::test(start_paused = true)]
async fn refused_list_is_noted_and_index_entries_are_deleted() {
    let repository = FakeRepository::new();
    push(&repository, "1.2.3", GNU).await;
    repository.before(|call| match call {
        "tags" => Err(oci_registry::Error::new(
            ErrorKind::Unsupported,
            std::fmt::Error,
        )),
        _ => Ok(()),
    });
    let plan = plan(&repository, "1.2.3").await;
    assert_eq!(names(&plan), [format!("1.2.3__{GNU}"), "1.2.3".into()]);
    assert!(matches!(plan.notes(), [DeletionNote::TagListFailed { .. }]));
}

#[tokio::test(start_paused = true)]
async fn unconfirmed_deletion_names_tags_that_are_still_served() {
    let repository = FakeRepository::new();
    push(&repository, "1.2.3", GNU).await;
    let plan = plan(&repository, "1.2.3").await;
    repository.ignore_deletions();
    let mut deleted = DeletedSet::default();
    let error = plan.delete(&repository, &mut deleted, |_| {}).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let expected = format!(
        "failed to delete `1.2.3`, `1.2.3__{GNU}`: the registry confirmed the deletion but still serves the tags"
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn deleted_tag_served_from_cache_is_read_again() {
    let repository = FakeRepository::new();
    push(&repository, "nightly", GNU).await;
    let plan = plan_tag_deletion(&repository, &tag("nightly"), true).await;
    let plan = plan.unwrap();
    repository.ignore_deletions();
    let reads = AtomicUsize::new(0);
    let memory = repository.memory();
    // The first read after the deletion is served from a cache.
    repository.after(move |call| {
        if call == "resolve nightly" && reads.fetch_add(1, Ordering::Relaxed) == 0 {
            run_ready(memory.delete_tag(&tag("nightly"))).unwrap();
        }
    });
    let mut deleted = DeletedSet::default();
    let note = plan.delete(&repository, &mut deleted, |_| {}).await;
    assert_eq!(note.unwrap(), None);
}
