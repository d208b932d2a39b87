//! Tests for publications with concurrent writers, rejected requests and latency.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

#[allow(dead_code, reason = "shared by several test suites")]
mod fake_repository;

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_repository::{FakeRepository, rejected, unreachable_error};
use oci_package::{
    Artifact, Build, FileKind, FloatingTagUpdate, InputFile, Note, PackOptions, Package,
    PackageIndex, PublishEvent, PublishOptions, Published, ReleaseTag, Revision, TagAction,
    annotation, assemble, other_release_targets, pack, plan, plan_floating_tags, publish,
    publish_target, update_floating_tags,
};
use oci_registry::{
    Blob, Delivery, Digest, ErrorKind, Hint, Manifest, Memory, Packed, Source, Tag, Target,
};
use tempfile::TempDir;

const GNU: &str = "x86_64-unknown-linux-gnu";
const MAC: &str = "aarch64-apple-darwin";

/// Properties that differ between the artifacts of these tests.
#[derive(Clone, Copy)]
struct ArtifactSpec {
    target: &'static str,
    content: &'static str,
    commit: &'static str,
    version: &'static str,
}

const SPEC: ArtifactSpec = ArtifactSpec {
    target: GNU,
    content: "one",
    commit: "c1",
    version: "1.2.3",
};

/// Artifact and the temporary directory of its file. The directory must exist until the artifact is published.
#[derive(Clone)]
struct TestArtifact {
    artifact: Artifact,
    _directory: Arc<TempDir>,
}

impl Deref for TestArtifact {
    type Target = Artifact;

    fn deref(&self) -> &Artifact {
        &self.artifact
    }
}

async fn artifact(spec: ArtifactSpec) -> TestArtifact {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("widgets");
    std::fs::write(&path, spec.content).unwrap();
    let mut build = Build::new(spec.target, "release");
    build.revision = Some(Revision {
        commit: spec.commit.into(),
        dirty: Some(false),
    });
    let package = Package::new("widgets", spec.version.parse().unwrap());
    let files = [InputFile::new(
        "widgets".parse().unwrap(),
        FileKind::Bin,
        path,
    )];
    let artifact = pack(&package, &build, &files, &PackOptions::default()).await;
    TestArtifact {
        artifact: artifact.unwrap(),
        _directory: Arc::new(directory),
    }
}

fn release(text: &str) -> ReleaseTag {
    ReleaseTag::parse(text).unwrap()
}

/// Publishes an artifact. Returns the result and the notes.
async fn push_with(
    artifact: &TestArtifact,
    to: &dyn Target,
    tag: &str,
    options: &PublishOptions,
) -> (oci_package::Result<Published>, Vec<Note>) {
    let notes = Mutex::new(Vec::new());
    let observer = |event: PublishEvent<'_>| {
        if let PublishEvent::Note(note) = event {
            notes.lock().unwrap().push(note);
        }
    };
    let published = publish(artifact, to, &[release(tag)], options, &observer).await;
    (published, notes.into_inner().unwrap())
}

async fn push(artifact: &TestArtifact, to: &dyn Target) -> Published {
    push_with(artifact, to, "1.2.3", &PublishOptions::default())
        .await
        .0
        .unwrap()
}

async fn read_tag(to: &dyn Source, tag: &str) -> Manifest {
    to.manifest(&tag.parse::<Tag>().unwrap().into())
        .await
        .unwrap()
}

/// Returns the targets of an index with the digests of their manifests.
fn entries(index: &Manifest) -> Vec<(String, Digest)> {
    let index = PackageIndex::read(index).unwrap();
    index
        .entries()
        .map(|entry| (entry.target().to_owned(), entry.descriptor().digest.clone()))
        .collect()
}

fn overwrite_options() -> PublishOptions {
    PublishOptions {
        overwrite: true,
        ..PublishOptions::default()
    }
}

#[tokio::test(start_paused = true)]
async fn second_publish_sends_two_read_requests_only() {
    let repository = FakeRepository::new();
    let artifact = artifact(SPEC).await;
    let published = push(&artifact, &repository).await;
    assert_eq!(
        repository.calls(),
        [
            "resolve 1.2.3__x86_64-unknown-linux-gnu",
            "manifest 1.2.3",
            "push_blob",
            "push_blob",
            "push_manifest",
            // Another job may have published the target during the upload.
            "manifest 1.2.3__x86_64-unknown-linux-gnu",
            "tag 1.2.3__x86_64-unknown-linux-gnu",
            "manifest 1.2.3__x86_64-unknown-linux-gnu",
            "tags",
            "manifest 1.2.3__x86_64-unknown-linux-gnu",
            "manifest 1.2.3",
            "push_manifest",
            "tag 1.2.3",
            "tags",
            "resolve 1.2.3__x86_64-unknown-linux-gnu",
            "manifest 1.2.3",
        ]
    );
    assert_eq!(published.manifest, *artifact.manifest());
    assert_eq!(published.blobs.len(), 2);
    assert!(
        published
            .blobs
            .iter()
            .all(|(_, delivery)| *delivery == Delivery::Uploaded)
    );
    assert_eq!(published.tags[0].action, TagAction::Create);
    let index = read_tag(&repository, "1.2.3").await;
    assert_eq!(published.tags[0].index.as_ref(), Some(&index));
    assert_eq!(
        entries(&index),
        [(GNU.to_owned(), artifact.manifest().digest().clone())]
    );

    repository.clear_calls();
    let again = push(&artifact, &repository).await;
    assert_eq!(
        repository.calls(),
        ["resolve 1.2.3__x86_64-unknown-linux-gnu", "manifest 1.2.3"]
    );
    assert_eq!(
        (again.tags[0].action, again.tags[0].index.as_ref()),
        (TagAction::Keep, Some(&index))
    );
    assert!(again.blobs.is_empty());
}

#[tokio::test(start_paused = true)]
async fn publish_of_same_files_keeps_stored_manifest() {
    let repository = FakeRepository::new();
    let stored = artifact(SPEC).await;
    push(&stored, &repository).await;
    let index = read_tag(&repository, "1.2.3").await;
    repository.clear_calls();
    let newer = artifact(ArtifactSpec {
        commit: "c2",
        ..SPEC
    })
    .await;
    let (published, notes) =
        push_with(&newer, &repository, "1.2.3", &PublishOptions::default()).await;
    let published = published.unwrap();
    assert_eq!(published.manifest, *stored.manifest());
    assert_eq!(published.tags[0].index.as_ref(), Some(&index));
    assert_eq!(repository.writes(), Vec::<String>::new());
    assert_eq!(repository.calls().len(), 3);
    assert!(
        matches!(&notes[..], [Note::AlreadyPublished { stored: kept, .. }] if kept == stored.manifest().digest())
    );
}

#[tokio::test(start_paused = true)]
async fn publish_of_other_files_is_rejected_before_upload() {
    let repository = FakeRepository::new();
    let stored = artifact(SPEC).await;
    push(&stored, &repository).await;
    repository.clear_calls();
    let other = artifact(ArtifactSpec {
        content: "two",
        ..SPEC
    })
    .await;
    let error = push_with(&other, &repository, "1.2.3", &PublishOptions::default())
        .await
        .0
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        "refusing to overwrite `memory:1.2.3__x86_64-unknown-linux-gnu`: it was released with different files: \
         `widgets` has different content"
    );
    assert_eq!(repository.writes(), Vec::<String>::new());

    let (published, _) = push_with(&other, &repository, "1.2.3", &overwrite_options()).await;
    let published = published.unwrap();
    assert_eq!(published.tags[0].action, TagAction::Replace);
    assert_eq!(
        entries(&read_tag(&repository, "1.2.3").await),
        [(GNU.to_owned(), other.manifest().digest().clone())]
    );
    assert_eq!(
        read_tag(&repository, "1.2.3__x86_64-unknown-linux-gnu").await,
        *other.manifest()
    );
}

#[tokio::test(start_paused = true)]
async fn overwrite_replaces_manifest_with_same_files() {
    let repository = FakeRepository::new();
    let stored = artifact(SPEC).await;
    push(&stored, &repository).await;
    let corrected = artifact(ArtifactSpec {
        commit: "c2",
        ..SPEC
    })
    .await;
    let overwrite = async || {
        let (published, notes) =
            push_with(&corrected, &repository, "1.2.3", &overwrite_options()).await;
        (published.unwrap(), notes)
    };
    let (published, notes) = overwrite().await;
    assert_eq!(published.tags[0].action, TagAction::Replace);
    assert_eq!(published.manifest, *corrected.manifest());
    let index = read_tag(&repository, "1.2.3").await;
    assert_eq!(index.annotations()[annotation::REVISION], "c2");
    let previous = stored.manifest().digest();
    let [note] = &notes[..] else {
        panic!("{notes:?}");
    };
    assert_eq!(
        note.to_string(),
        format!(
            "replaced the manifest of `1.2.3__{GNU}`; {previous} and its referrers are no longer tagged"
        )
    );

    repository.clear_calls();
    let (again, notes) = overwrite().await;
    assert_eq!(again.tags[0].action, TagAction::Keep);
    assert_eq!((repository.writes(), notes), (Vec::new(), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn version_tags_keep_separate_manifests_of_same_files() {
    let repository = FakeRepository::new();
    let specs = ["c1", "c2", "c3"].map(|commit| ArtifactSpec { commit, ..SPEC });
    let [plain, prefixed, newer] = [
        artifact(specs[0]).await,
        artifact(specs[1]).await,
        artifact(specs[2]).await,
    ];
    let options = PublishOptions::default();
    for (artifact, tag) in [(&plain, "1.2.3"), (&prefixed, "v1.2.3")] {
        let (published, _) = push_with(artifact, &repository, tag, &options).await;
        assert_eq!(published.unwrap().manifest, *artifact.manifest());
    }
    // The tag of one target must be set again, to the manifest that its own index lists.
    repository.hide_tag(&format!("1.2.3__{GNU}"));
    let tags = ["1.2.3", "v1.2.3", "nightly"].map(release);
    let published = publish(&newer, &repository, &tags, &options, &|_| ()).await;
    published.unwrap();
    for (tag, expected) in [
        ("1.2.3", &plain),
        ("v1.2.3", &prefixed),
        ("nightly", &plain),
    ] {
        let digest = expected.manifest().digest();
        let stored = read_tag(&repository, &format!("{tag}__{GNU}")).await;
        assert_eq!(stored.digest(), digest, "{tag}");
        let index = read_tag(&repository, tag).await;
        assert_eq!(entries(&index), [(GNU.to_owned(), digest.clone())], "{tag}");
    }
}

#[tokio::test(start_paused = true)]
async fn publish_after_tag_deletion_compares_files_with_index() {
    let stored = artifact(SPEC).await;
    for (new, expected) in [
        (SPEC, Ok(())),
        (
            ArtifactSpec {
                commit: "c2",
                ..SPEC
            },
            Ok(()),
        ),
        (
            ArtifactSpec {
                content: "two",
                ..SPEC
            },
            Err(ErrorKind::Conflict),
        ),
    ] {
        let repository = FakeRepository::new();
        push(&stored, &repository).await;
        repository.hide_tag("1.2.3__x86_64-unknown-linux-gnu");
        let (published, _) = push_with(
            &artifact(new).await,
            &repository,
            "1.2.3",
            &PublishOptions::default(),
        )
        .await;
        assert_eq!(
            published
                .as_ref()
                .map(|_| ())
                .map_err(oci_package::Error::kind),
            expected
        );
        if let Ok(published) = published {
            assert_eq!(published.tags[0].action, TagAction::Create);
            assert_eq!(published.manifest, *stored.manifest());
            assert_eq!(
                read_tag(&repository, "1.2.3__x86_64-unknown-linux-gnu").await,
                *stored.manifest()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn index_is_independent_of_publication_order() {
    let (gnu, mac) = (
        artifact(SPEC).await,
        artifact(ArtifactSpec {
            target: MAC,
            ..SPEC
        })
        .await,
    );
    let mut written = Vec::new();
    for order in [[&gnu, &mac], [&mac, &gnu]] {
        let repository = FakeRepository::new();
        for artifact in order {
            push(artifact, &repository).await;
        }
        written.push(read_tag(&repository, "1.2.3").await);
    }
    assert_eq!(written[0], written[1]);
    assert_eq!(entries(&written[0]).len(), 2);
    let annotations = written[0].annotations();
    assert_eq!(annotations[annotation::VERSION], "1.2.3");
    assert_eq!(annotations[annotation::REVISION], "c1");
    assert!(!annotations.contains_key(annotation::TARGET));
}

#[tokio::test(start_paused = true)]
async fn publish_does_not_change_other_artifact_at_index_tag() {
    let repository = FakeRepository::new();
    let foreign =
        Packed::new("application/x".into(), Blob::empty(), Vec::new(), [].into()).unwrap();
    repository.store(&foreign, "1.2.3").await;
    let artifact = artifact(SPEC).await;
    repository.clear_calls();
    let error = push_with(&artifact, &repository, "1.2.3", &overwrite_options())
        .await
        .0
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        "refusing to change `memory:1.2.3`: it is not the index of a package"
    );
    assert_eq!(repository.writes(), Vec::<String>::new());

    let options = PublishOptions {
        index: false,
        ..PublishOptions::default()
    };
    let published = push_with(&artifact, &repository, "1.2.3", &options)
        .await
        .0
        .unwrap();
    assert_eq!(published.tags[0].index, None);
    assert_eq!(read_tag(&repository, "1.2.3").await, *foreign.manifest());
    repository.clear_calls();
    push_with(&artifact, &repository, "1.2.3", &options)
        .await
        .0
        .unwrap();
    assert_eq!(
        repository.calls(),
        ["resolve 1.2.3__x86_64-unknown-linux-gnu"]
    );
}

#[tokio::test(start_paused = true)]
async fn publish_over_other_artifact_requires_overwrite() {
    let repository = FakeRepository::new();
    let foreign =
        Packed::new("application/x".into(), Blob::empty(), Vec::new(), [].into()).unwrap();
    repository
        .store(&foreign, "1.2.3__x86_64-unknown-linux-gnu")
        .await;
    let artifact = artifact(SPEC).await;
    let error = push_with(&artifact, &repository, "1.2.3", &PublishOptions::default())
        .await
        .0
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        error
            .to_string()
            .contains("it is not a package for `x86_64-unknown-linux-gnu`")
    );
    push_with(&artifact, &repository, "1.2.3", &overwrite_options())
        .await
        .0
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn index_of_moving_tag_contains_one_release_only() {
    let repository = FakeRepository::new();
    let nightly = async |made| {
        let artifact = artifact(made).await;
        push_with(
            &artifact,
            &repository,
            "nightly",
            &PublishOptions::default(),
        )
        .await
        .0
        .unwrap()
    };
    nightly(SPEC).await;
    nightly(ArtifactSpec {
        target: MAC,
        ..SPEC
    })
    .await;
    assert_eq!(entries(&read_tag(&repository, "nightly").await).len(), 2);

    let next = ArtifactSpec {
        commit: "c2",
        content: "two",
        ..SPEC
    };
    let published = nightly(next).await;
    assert_eq!(published.tags[0].action, TagAction::Replace);
    let index = read_tag(&repository, "nightly").await;
    assert_eq!(
        entries(&index),
        [(GNU.to_owned(), published.manifest.digest().clone())]
    );
    nightly(ArtifactSpec {
        target: MAC,
        ..next
    })
    .await;
    assert_eq!(entries(&read_tag(&repository, "nightly").await).len(), 2);
    repository.clear_calls();
    nightly(next).await;
    assert_eq!(repository.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn publish_with_several_tags_uploads_blobs_once() {
    let repository = FakeRepository::new();
    let first = artifact(SPEC).await;
    push(&first, &repository).await;
    let second = artifact(ArtifactSpec {
        commit: "c2",
        ..SPEC
    })
    .await;
    let tags = [release("nightly"), release("1.2.3")];
    let published = publish(
        &second,
        &repository,
        &tags,
        &PublishOptions::default(),
        &|_| {},
    )
    .await
    .unwrap();
    assert_eq!(published.manifest, *first.manifest());
    assert_eq!(
        published
            .tags
            .iter()
            .map(|done| done.action)
            .collect::<Vec<_>>(),
        [TagAction::Create, TagAction::Keep]
    );
    assert_eq!(
        read_tag(&repository, "nightly__x86_64-unknown-linux-gnu").await,
        *first.manifest()
    );

    let repository = FakeRepository::new();
    publish(
        &second,
        &repository,
        &tags,
        &PublishOptions::default(),
        &|_| {},
    )
    .await
    .unwrap();
    let blobs = repository
        .writes()
        .iter()
        .filter(|call| *call == "push_blob")
        .count();
    assert_eq!(blobs, 2);
}

/// Target triples of independent writers.
const TRIPLES: [&str; 8] = [
    GNU,
    MAC,
    "aarch64-pc-windows-msvc",
    "aarch64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "x86_64-apple-darwin",
    "x86_64-pc-windows-msvc",
    "x86_64-unknown-linux-musl",
];

/// Runs concurrent publications of several targets with latency, and asserts that all succeed and the index lists all
/// targets.
async fn publish_concurrently(
    tag: &'static str,
    writers: usize,
    seed: u64,
    options: PublishOptions,
) {
    publish_concurrently_to(
        FakeRepository::with_latency(seed),
        tag,
        writers,
        seed,
        options,
    )
    .await;
}

async fn publish_concurrently_to(
    repository: FakeRepository,
    tag: &'static str,
    writers: usize,
    seed: u64,
    options: PublishOptions,
) {
    let mut artifacts = Vec::new();
    for target in &TRIPLES[..writers] {
        artifacts.push(artifact(ArtifactSpec { target, ..SPEC }).await);
    }
    let writers: Vec<_> = artifacts
        .iter()
        .cloned()
        .map(|artifact| {
            let (repository, options) = (repository.clone(), options.clone());
            tokio::spawn(async move {
                push_with(&artifact, &repository, tag, &options)
                    .await
                    .0
                    .unwrap()
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut expected: Vec<_> = artifacts
        .iter()
        .map(|artifact| {
            (
                artifact.target().to_owned(),
                artifact.manifest().digest().clone(),
            )
        })
        .collect();
    expected.sort();
    assert_eq!(
        entries(&read_tag(&repository, tag).await),
        expected,
        "seed {seed}"
    );
}

#[tokio::test(start_paused = true)]
async fn concurrent_publications_keep_all_entries() {
    for seed in 0..40 {
        publish_concurrently("1.2.3", 2, seed, PublishOptions::default()).await;
        publish_concurrently("nightly", 2, seed, PublishOptions::default()).await;
    }
    for seed in 0..25 {
        publish_concurrently("1.2.3", 8, seed, PublishOptions::default()).await;
        publish_concurrently("nightly", 8, seed, PublishOptions::default()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_publications_with_delayed_tag_list_keep_entries() {
    for seed in 0..25 {
        let repository = FakeRepository::with_latency(seed);
        repository.delay_tag_list(Duration::from_secs(3));
        publish_concurrently_to(repository, "1.2.3", 8, seed, PublishOptions::default()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_publications_of_declared_targets_keep_entries() {
    for seed in 0..10 {
        let declared = Some(TRIPLES.map(str::to_owned).into());
        publish_concurrently(
            "1.2.3",
            8,
            seed,
            PublishOptions {
                declared,
                ..PublishOptions::default()
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn index_of_pending_targets_is_written_once() {
    let repository = FakeRepository::new();
    let (gnu, mac) = (
        artifact(SPEC).await,
        artifact(ArtifactSpec {
            target: MAC,
            ..SPEC
        })
        .await,
    );
    let (tags, options) = ([release("1.2.3")], PublishOptions::default());
    let mut pending = Vec::new();
    for artifact in [&gnu, &mac] {
        let target = publish_target(artifact, &repository, &tags, &options, &|_| {}).await;
        pending.push(target.unwrap());
    }
    let mut indexes = Vec::new();
    for target in pending {
        let published = target.update_indexes().await.unwrap();
        indexes.push(published.tags[0].index.clone().unwrap());
    }
    assert_eq!(entries(&indexes[0]).len(), 2);
    assert_eq!(indexes[0], indexes[1]);
    let calls = repository.calls();
    assert_eq!(calls.iter().filter(|call| *call == "tag 1.2.3").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn other_release_targets_includes_previous_release() {
    let repository = FakeRepository::new();
    for (target, version) in [(GNU, "1.0.0"), (MAC, "1.1.0"), (GNU, "1.2.3")] {
        let spec = ArtifactSpec {
            target,
            version,
            ..SPEC
        };
        let artifact = artifact(spec).await;
        let options = PublishOptions::default();
        push_with(&artifact, &repository, version, &options)
            .await
            .0
            .unwrap();
    }
    let others = async |version: &str, target: &str| {
        let others = other_release_targets(&repository, &release(version), target).await;
        others.unwrap().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(others("1.2.3", GNU).await, [MAC]);
    assert_eq!(others("1.1.5", MAC).await, [""; 0]);
    assert_eq!(others("1.0.0", GNU).await, [""; 0]);
    assert_eq!(others("1.0.0", MAC).await, [GNU]);
}

#[tokio::test(start_paused = true)]
async fn last_declared_target_writes_index_once() {
    let repository = FakeRepository::new();
    let declared: BTreeSet<_> = [GNU, MAC].map(str::to_owned).into();
    let options = PublishOptions {
        declared: Some(declared),
        ..PublishOptions::default()
    };
    let gnu = artifact(SPEC).await;
    let first = push_with(&gnu, &repository, "1.2.3", &options)
        .await
        .0
        .unwrap();
    assert_eq!(first.tags[0].index, None);
    assert_eq!(first.tags[0].missing, [MAC]);
    let planned = plan(&gnu, &repository, &[release("1.2.3")], &options, &|_| {})
        .await
        .unwrap();
    assert_eq!(
        (
            planned.tags[0].index.as_ref(),
            planned.tags[0].index_changes
        ),
        (None, false)
    );
    repository.clear_calls();
    let mac = artifact(ArtifactSpec {
        target: MAC,
        ..SPEC
    })
    .await;
    let second = push_with(&mac, &repository, "1.2.3", &options)
        .await
        .0
        .unwrap();
    let calls = repository.calls();
    assert_eq!(entries(second.tags[0].index.as_ref().unwrap()).len(), 2);
    assert!(
        !calls.iter().any(|call| call == "tags"),
        "tags are not listed"
    );
    assert_eq!(calls.iter().filter(|call| *call == "tag 1.2.3").count(), 1);
    assert_eq!(
        calls.last().unwrap(),
        "tag 1.2.3",
        "the index is not verified"
    );

    repository.clear_calls();
    push_with(&gnu, &repository, "1.2.3", &options)
        .await
        .0
        .unwrap();
    assert_eq!(repository.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn simultaneous_declared_targets_write_index_once() {
    let repository = FakeRepository::new();
    // With a fixed delay, all writers read the state before any of them writes the index.
    repository.set_latency(Duration::from_millis(20));
    let options = PublishOptions {
        declared: Some(TRIPLES.map(str::to_owned).into()),
        ..PublishOptions::default()
    };
    let mut writers = Vec::new();
    for target in TRIPLES {
        let artifact = artifact(ArtifactSpec { target, ..SPEC }).await;
        let (repository, options) = (repository.clone(), options.clone());
        writers.push(async move {
            push_with(&artifact, &repository, "1.2.3", &options)
                .await
                .0
                .unwrap()
        });
    }
    let published = futures_util::future::join_all(writers).await;
    let complete = published
        .iter()
        .filter_map(|published| published.tags[0].index.as_ref());
    assert!(
        complete.clone().count() > 1,
        "several writers detect that all targets exist"
    );
    for index in complete {
        assert_eq!(entries(index).len(), TRIPLES.len());
    }
    let calls = repository.writes();
    let of_index = calls.iter().filter(|call| *call == "tag 1.2.3");
    assert_eq!(of_index.count(), 1, "{calls:#?}");
}

#[tokio::test(start_paused = true)]
async fn publish_after_failed_tag_list_keeps_index_entries() {
    let repository = FakeRepository::new();
    push(
        &artifact(ArtifactSpec {
            target: MAC,
            ..SPEC
        })
        .await,
        &repository,
    )
    .await;
    repository.before(|call| {
        if call == "tags" {
            Err(rejected())
        } else {
            Ok(())
        }
    });
    let (published, notes) = push_with(
        &artifact(SPEC).await,
        &repository,
        "1.2.3",
        &PublishOptions::default(),
    )
    .await;
    assert_eq!(
        entries(published.unwrap().tags[0].index.as_ref().unwrap()).len(),
        2
    );
    let listed = notes
        .iter()
        .filter(|note| matches!(note, Note::TagListFailed { .. }))
        .count();
    assert_eq!(
        listed, 1,
        "the failure is reported once for several attempts"
    );
}

#[tokio::test(start_paused = true)]
async fn entry_with_missing_manifest_is_dropped_with_note() {
    let repository = FakeRepository::new();
    let mac = artifact(ArtifactSpec {
        target: MAC,
        ..SPEC
    })
    .await;
    push(&mac, &repository).await;
    repository.hide_tag("1.2.3__aarch64-apple-darwin");
    repository.hide_manifest(mac.manifest().digest());
    let (published, notes) = push_with(
        &artifact(SPEC).await,
        &repository,
        "1.2.3",
        &PublishOptions::default(),
    )
    .await;
    let index = published.unwrap().tags[0].index.clone().unwrap();
    assert_eq!(
        entries(&index)
            .iter()
            .map(|(target, _)| target.as_str())
            .collect::<Vec<_>>(),
        [GNU]
    );
    assert!(
        notes
            .iter()
            .any(|note| matches!(note, Note::EntryDropped { target, .. } if target == MAC))
    );
}

#[tokio::test(start_paused = true)]
async fn failed_index_write_reads_index_before_next_attempt() {
    for failing in ["push_manifest index", "tag 1.2.3"] {
        let repository = FakeRepository::new();
        let failures = Mutex::new(2);
        let error = unreachable_error().await;
        let errors = Mutex::new(vec![error, unreachable_error().await]);
        repository.before(move |call| {
            if call == failing && *failures.lock().unwrap() > 0 {
                *failures.lock().unwrap() -= 1;
                return Err(errors.lock().unwrap().pop().unwrap());
            }
            Ok(())
        });
        let (published, _) = push_with(
            &artifact(SPEC).await,
            &repository,
            "1.2.3",
            &PublishOptions::default(),
        )
        .await;
        assert!(published.unwrap().tags[0].index.is_some());
        let calls = repository.calls();
        let tries = calls
            .iter()
            .enumerate()
            .filter(|(_, call)| *call == "tag 1.2.3")
            .map(|(at, _)| at);
        for at in tries.skip(1) {
            assert!(
                calls[..at]
                    .iter()
                    .rev()
                    .skip(1)
                    .any(|call| call == "manifest 1.2.3")
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn publish_to_unreachable_registry_is_network_error() {
    let repository = FakeRepository::new();
    let mut errors = Vec::new();
    for _ in 0..10 {
        errors.push(unreachable_error().await);
    }
    let errors = Mutex::new(errors);
    repository.before(move |call| {
        if call == "tag 1.2.3" {
            Err(errors.lock().unwrap().pop().unwrap())
        } else {
            Ok(())
        }
    });
    let error = push_with(
        &artifact(SPEC).await,
        &repository,
        "1.2.3",
        &PublishOptions::default(),
    )
    .await
    .0
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(
        repository
            .calls()
            .iter()
            .filter(|call| *call == "tag 1.2.3")
            .count(),
        10
    );
}

#[tokio::test(start_paused = true)]
async fn publish_with_immutable_index_is_conflict_with_hint() {
    let repository = FakeRepository::new();
    push(
        &artifact(ArtifactSpec {
            target: MAC,
            ..SPEC
        })
        .await,
        &repository,
    )
    .await;
    repository.before(|call| {
        if call == "tag 1.2.3" {
            Err(rejected())
        } else {
            Ok(())
        }
    });
    let error = push_with(
        &artifact(SPEC).await,
        &repository,
        "1.2.3",
        &PublishOptions::default(),
    )
    .await
    .0
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.hints(), [Hint::DeclareTargets]);
}

#[tokio::test(start_paused = true)]
async fn index_changed_in_ten_attempts_is_a_conflict() {
    let repository = FakeRepository::new();
    let memory = repository.memory();
    let other = artifact(ArtifactSpec {
        target: MAC,
        ..SPEC
    })
    .await;
    push(&other, &repository).await;
    let without_us = read_tag(&repository, "1.2.3").await;
    repository.after(move |call| {
        if call == "tag 1.2.3" {
            let (memory, index) = (memory.clone(), without_us.clone());
            fake_repository::run_ready(async move {
                memory.tag(&index, &"1.2.3".parse().unwrap()).await
            })
            .unwrap();
        }
    });
    let own = artifact(SPEC).await;
    let (published, notes) =
        push_with(&own, &repository, "1.2.3", &PublishOptions::default()).await;
    let error = published.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let tag = "1.2.3".to_owned();
    assert_eq!(error.hints(), [Hint::AssembleIndex { tag }]);
    assert_eq!(
        read_tag(&repository, "1.2.3__x86_64-unknown-linux-gnu").await,
        *own.manifest()
    );
    assert_eq!(notes.len(), 9);
}

/// Publishes an artifact. Directly after the publication sets the tag of the target, another writer sets the same tag.
async fn publish_before_other_writer(
    tag: &'static str,
    own: ArtifactSpec,
    other: ArtifactSpec,
    options: PublishOptions,
) -> (oci_package::Result<Published>, Vec<Note>, TestArtifact) {
    let repository = FakeRepository::new();
    let other = artifact(other).await;
    repository.store(other.packed(), "elsewhere").await;
    let (memory, manifest) = (repository.memory(), other.manifest().clone());
    let target_tag = release(tag).target(own.target).unwrap();
    let called = format!("tag {target_tag}");
    repository.after(move |call| {
        if call == called {
            let (memory, manifest, tag) = (memory.clone(), manifest.clone(), target_tag.clone());
            fake_repository::run_ready(async move { memory.tag(&manifest, &tag).await }).unwrap();
        }
    });
    let (published, notes) = push_with(&artifact(own).await, &repository, tag, &options).await;
    (published, notes, other)
}

#[tokio::test(start_paused = true)]
async fn concurrent_writer_of_same_files_is_accepted() {
    let (published, notes, other) = publish_before_other_writer(
        "1.2.3",
        SPEC,
        ArtifactSpec {
            commit: "c2",
            ..SPEC
        },
        PublishOptions::default(),
    )
    .await;
    let published = published.unwrap();
    assert_eq!(published.manifest, *other.manifest());
    let index = published.tags[0].index.as_ref().unwrap();
    assert_eq!(
        entries(index),
        [(GNU.to_owned(), other.manifest().digest().clone())]
    );
    assert!(matches!(notes[..], [Note::AlreadyPublished { .. }]));
}

#[tokio::test(start_paused = true)]
async fn concurrent_writer_of_changed_files_is_a_conflict() {
    for options in [PublishOptions::default(), overwrite_options()] {
        let (published, ..) = publish_before_other_writer(
            "1.2.3",
            SPEC,
            ArtifactSpec {
                content: "two",
                ..SPEC
            },
            options,
        )
        .await;
        let error = published.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let message = error.to_string();
        assert!(
            message.ends_with("`widgets` has different content"),
            "{message}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn moving_tag_of_later_writer_is_kept() {
    let other = ArtifactSpec {
        content: "two",
        commit: "c2",
        ..SPEC
    };
    let (published, notes, _) =
        publish_before_other_writer("nightly", SPEC, other, PublishOptions::default()).await;
    let published = published.unwrap();
    assert_eq!(
        (published.tags[0].action, published.tags[0].index.as_ref()),
        (TagAction::Superseded, None)
    );
    assert!(matches!(notes[..], [Note::TagOverwritten { .. }]));
}

#[tokio::test(start_paused = true)]
async fn index_of_later_release_on_moving_tag_is_kept() {
    let repository = FakeRepository::new();
    let memory = repository.memory();
    let later = artifact(ArtifactSpec {
        target: MAC,
        commit: "c2",
        ..SPEC
    })
    .await;
    let elsewhere = push_with(&later, &repository, "elsewhere", &PublishOptions::default())
        .await
        .0
        .unwrap();
    let index = elsewhere.tags[0].index.clone().unwrap();
    let expected = index.clone();
    repository.after(move |call| {
        if call == "tag nightly" {
            let (memory, index) = (memory.clone(), index.clone());
            fake_repository::run_ready(async move {
                memory.tag(&index, &"nightly".parse().unwrap()).await
            })
            .unwrap();
        }
    });
    let (published, notes) = push_with(
        &artifact(SPEC).await,
        &repository,
        "nightly",
        &PublishOptions::default(),
    )
    .await;
    assert_eq!(published.unwrap().tags[0].index, None);
    assert!(
        notes
            .iter()
            .any(|note| matches!(note, Note::TagOverwritten { .. }))
    );
    assert_eq!(read_tag(&repository, "nightly").await, expected);
}

#[tokio::test(start_paused = true)]
async fn concurrent_writers_of_same_files_write_same_index() {
    for seed in 0..30 {
        let repository = FakeRepository::with_latency(seed);
        let mut writers = Vec::new();
        for commit in ["c1", "c2"] {
            let (artifact, repository) = (
                artifact(ArtifactSpec { commit, ..SPEC }).await,
                repository.clone(),
            );
            writers.push(tokio::spawn(async move {
                push_with(&artifact, &repository, "1.2.3", &PublishOptions::default())
                    .await
                    .0
                    .unwrap()
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let stored = read_tag(&repository, "1.2.3__x86_64-unknown-linux-gnu").await;
        assert_eq!(
            entries(&read_tag(&repository, "1.2.3").await),
            [(GNU.to_owned(), stored.digest().clone())],
            "seed {seed}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn plan_sends_no_writes_and_matches_publish() {
    let repository = FakeRepository::new();
    push(
        &artifact(ArtifactSpec {
            target: MAC,
            ..SPEC
        })
        .await,
        &repository,
    )
    .await;
    let own = artifact(SPEC).await;
    repository.clear_calls();
    let tags = [release("1.2.3"), release("nightly")];
    let options = PublishOptions::default();
    let planned = plan(&own, &repository, &tags, &options, &|_| {})
        .await
        .unwrap();
    assert_eq!(repository.writes(), Vec::<String>::new());
    // The file is the same for both targets and is already stored. The config differs, so the config is not stored yet.
    assert_eq!(
        planned
            .blobs
            .iter()
            .filter(|(_, is_there)| *is_there)
            .count(),
        1
    );
    assert_eq!(planned.blobs.len(), 2);
    assert!(
        planned
            .tags
            .iter()
            .all(|tag| tag.action == TagAction::Create && tag.index_changes)
    );

    let published = publish(&own, &repository, &tags, &options, &|_| {})
        .await
        .unwrap();
    assert_eq!(published.manifest, planned.manifest);
    for (published, planned) in published.tags.iter().zip(&planned.tags) {
        assert_eq!(
            (&published.tag, &published.index),
            (&planned.tag, &planned.index)
        );
    }
    let planned = plan(&own, &repository, &tags, &options, &|_| {})
        .await
        .unwrap();
    assert!(planned.blobs.is_empty());
    assert!(
        planned
            .tags
            .iter()
            .all(|tag| tag.action == TagAction::Keep && !tag.index_changes)
    );

    let other = artifact(ArtifactSpec {
        content: "two",
        ..SPEC
    })
    .await;
    let error = plan(&other, &repository, &tags, &options, &|_| {})
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let planned = plan(&other, &repository, &tags, &overwrite_options(), &|_| {})
        .await
        .unwrap();
    assert!(
        planned
            .tags
            .iter()
            .all(|tag| tag.action == TagAction::Replace && tag.index_changes)
    );
}

#[tokio::test(start_paused = true)]
async fn plan_of_several_targets_has_index_and_floating_tags_of_push() {
    let repository = FakeRepository::new();
    let (gnu, mac) = (
        artifact(SPEC).await,
        artifact(ArtifactSpec {
            target: MAC,
            ..SPEC
        })
        .await,
    );
    let tags = [release("1.2.3")];
    let mut options = PublishOptions {
        declared: Some([GNU, MAC].map(str::to_owned).into()),
        ..PublishOptions::default()
    };
    let alone = plan(&gnu, &repository, &tags, &options, &|_| {}).await;
    let alone = alone.unwrap();
    assert_eq!(alone.tags[0].missing, [MAC]);
    assert_eq!(alone.tags[0].index, None);

    options.planned = vec![mac.manifest().clone()];
    let both = plan(&gnu, &repository, &tags, &options, &|_| {}).await;
    let both = both.unwrap();
    assert_eq!(both.tags[0].missing, [""; 0]);
    let index = both.tags[0].index.as_ref().unwrap();
    let created =
        ["1.2", "1", "latest"].map(|tag| FloatingTagUpdate::Created(tag.parse().unwrap()));
    let planned = plan_floating_tags(&repository, index).await;
    assert_eq!(planned.unwrap(), created);
    assert_eq!(repository.writes(), Vec::<String>::new());

    options.planned = Vec::new();
    for artifact in [&gnu, &mac] {
        publish(artifact, &repository, &tags, &options, &|_| {})
            .await
            .unwrap();
    }
    assert_eq!(read_tag(&repository, "1.2.3").await, *index);
}

#[tokio::test(start_paused = true)]
async fn assemble_writes_index_of_separately_pushed_targets() {
    let repository = FakeRepository::new();
    let options = PublishOptions {
        index: false,
        ..PublishOptions::default()
    };
    let empty = assemble(&repository, &release("1.2.3"), &|_| {})
        .await
        .unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::NotFound);
    for target in [GNU, MAC] {
        push_with(
            &artifact(ArtifactSpec { target, ..SPEC }).await,
            &repository,
            "1.2.3",
            &options,
        )
        .await
        .0
        .unwrap();
    }
    let index = assemble(&repository, &release("1.2.3"), &|_| {})
        .await
        .unwrap();
    assert_eq!(read_tag(&repository, "1.2.3").await, index);
    assert_eq!(entries(&index).len(), 2);

    let repository = FakeRepository::new();
    for target in [GNU, MAC] {
        push(
            &artifact(ArtifactSpec { target, ..SPEC }).await,
            &repository,
        )
        .await;
    }
    assert_eq!(
        read_tag(&repository, "1.2.3").await,
        index,
        "same index as from publications with an index"
    );
}

#[tokio::test(start_paused = true)]
async fn floating_tags_never_move_to_lower_version() {
    let repository = FakeRepository::new();
    let publish_version = async |version: &'static str| {
        let artifact = artifact(ArtifactSpec { version, ..SPEC }).await;
        let published = push_with(&artifact, &repository, version, &PublishOptions::default())
            .await
            .0
            .unwrap();
        update_floating_tags(
            &repository,
            published.tags[0].index.as_ref().unwrap(),
            &|_| {},
        )
        .await
        .unwrap()
    };
    let tag = |text: &str| text.parse::<Tag>().unwrap();
    assert_eq!(
        publish_version("1.2.3").await,
        ["1.2", "1", "latest"].map(|text| FloatingTagUpdate::Created(tag(text)))
    );
    assert_eq!(
        publish_version("1.2.3").await,
        ["1.2", "1", "latest"].map(|text| FloatingTagUpdate::Current(tag(text)))
    );
    assert_eq!(
        publish_version("1.10.0").await,
        [
            FloatingTagUpdate::Created(tag("1.10")),
            FloatingTagUpdate::Moved(tag("1")),
            FloatingTagUpdate::Moved(tag("latest"))
        ]
    );
    let higher = "1.10.0".parse().unwrap();
    assert_eq!(
        publish_version("1.2.4").await,
        [
            FloatingTagUpdate::Moved(tag("1.2")),
            FloatingTagUpdate::Skipped(tag("1"), Clone::clone(&higher)),
            FloatingTagUpdate::Skipped(tag("latest"), higher)
        ]
    );
    let foreign =
        Packed::new("application/x".into(), Blob::empty(), Vec::new(), [].into()).unwrap();
    repository.store(&foreign, "2").await;
    assert_eq!(publish_version("2.0.0-rc.1").await, []);
    assert_eq!(
        read_tag(&repository, "latest").await,
        read_tag(&repository, "1.10.0").await
    );
    assert_eq!(
        read_tag(&repository, "1.2").await,
        read_tag(&repository, "1.2.4").await
    );

    let artifact = artifact(ArtifactSpec {
        version: "2.0.0",
        ..SPEC
    })
    .await;
    let published = push_with(&artifact, &repository, "2.0.0", &PublishOptions::default())
        .await
        .0
        .unwrap();
    let error = update_floating_tags(
        &repository,
        published.tags[0].index.as_ref().unwrap(),
        &|_| {},
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        "refusing to move `memory:2`: it does not point to the index of a package"
    );
    assert_eq!(
        read_tag(&repository, "latest").await,
        read_tag(&repository, "1.10.0").await,
        "no tag is moved"
    );
}

#[tokio::test(start_paused = true)]
async fn overwrite_moves_floating_tags_of_replaced_index() {
    let repository = FakeRepository::new();
    let first = artifact(SPEC).await;
    let options = PublishOptions::default();
    let published = push_with(&first, &repository, "1.2.3", &options).await.0;
    let published = published.unwrap();
    let index = published.tags[0].index.as_ref().unwrap();
    update_floating_tags(&repository, index, &|_| {})
        .await
        .unwrap();
    // An added target does not move them.
    let mac = artifact(ArtifactSpec {
        target: MAC,
        ..SPEC
    });
    push(&mac.await, &repository).await;
    assert_eq!(read_tag(&repository, "latest").await, *index);
    let complete = read_tag(&repository, "1.2.3").await;
    update_floating_tags(&repository, &complete, &|_| {})
        .await
        .unwrap();

    let other = artifact(ArtifactSpec {
        content: "two",
        ..SPEC
    })
    .await;
    let replaced = push_with(&other, &repository, "1.2.3", &overwrite_options()).await;
    replaced.0.unwrap();
    let index = read_tag(&repository, "1.2.3").await;
    assert_ne!(index, complete);
    for tag in ["1.2", "1", "latest"] {
        assert_eq!(read_tag(&repository, tag).await, index, "{tag}");
    }
}

#[tokio::test(start_paused = true)]
async fn publish_events_are_in_order_of_requests() {
    let events = Mutex::new(Vec::new());
    let observer = |event: PublishEvent<'_>| {
        events.lock().unwrap().push(match event {
            PublishEvent::BlobStarted(..) => "started",
            PublishEvent::Blob(_, Delivery::Uploaded) => "uploaded",
            PublishEvent::Manifest(_) => "manifest",
            PublishEvent::Tag(..) => "tag",
            PublishEvent::Index(..) => "index",
            _ => "other",
        });
    };
    let options = PublishOptions {
        concurrency: 1,
        ..PublishOptions::default()
    };
    publish(
        &artifact(SPEC).await.artifact,
        &Memory::new(),
        &[release("1.2.3")],
        &options,
        &observer,
    )
    .await
    .unwrap();
    assert_eq!(
        *events.lock().unwrap(),
        [
            "started", "uploaded", "started", "uploaded", "manifest", "tag", "index"
        ]
    );
}
