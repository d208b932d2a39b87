use std::sync::Arc;

use oci_registry::{Blob, ImageManifest, Index, MediaType, Memory, Target as _};

use super::*;
use crate::index::IndexEntry;

const GNU: &str = "x86_64-unknown-linux-gnu";
const MUSL: &str = "x86_64-unknown-linux-musl";

/// Package for [`GNU`]: the annotations of its manifest, and its config.
struct StoredPackage {
    annotations: Vec<(&'static str, &'static str)>,
    config: PackageConfig,
}

impl StoredPackage {
    fn new() -> Self {
        let package = crate::Package::new("widgets", "1.0.0".parse().unwrap());
        Self {
            annotations: vec![
                (annotation::TITLE, "widgets"),
                (annotation::VERSION, "1.0.0"),
                (annotation::TARGET, GNU),
                (annotation::PLATFORM, "linux/amd64"),
                (annotation::LIBC, "glibc"),
                (annotation::GLIBC, "2.34"),
            ],
            config: PackageConfig::new(&package, &crate::Build::new(GNU, "release"), Vec::new()),
        }
    }

    fn with_annotation(mut self, key: &'static str, value: &'static str) -> Self {
        self.annotations.push((key, value));
        self
    }

    async fn push(self, to: &Memory) -> Manifest {
        let config = self.config.to_blob();
        to.push_blob(&config).await.unwrap();
        let mut image = ImageManifest::new(media::PACKAGE_TARGET, config.descriptor().clone());
        let annotations = self.annotations.into_iter();
        image.annotations = annotations
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let manifest = Manifest::from_image(image).unwrap();
        to.push_manifest(&manifest).await.unwrap();
        manifest
    }
}

fn entry(manifest: &Manifest) -> Descriptor {
    let entry = IndexEntry::from_manifest(manifest).unwrap();
    entry.descriptor().clone()
}

fn index(title: &str, version: &str, entries: Vec<Descriptor>) -> Manifest {
    let mut index = Index::new(Some(media::PACKAGE), entries);
    let annotations = [(annotation::TITLE, title), (annotation::VERSION, version)];
    index.annotations = annotations
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    Manifest::from_index(index).unwrap()
}

/// Returns the messages of all conflicts.
async fn conflict_messages(source: &Memory, tag: Option<&str>, index: &Manifest) -> Vec<String> {
    let tag = tag.map(|tag| tag.parse().unwrap());
    let origin = ManifestOrigin {
        tag: tag.as_ref(),
        index: None,
    };
    let found = conflicts(source, origin, index).await.unwrap();
    found.iter().map(|(_, found)| found.to_string()).collect()
}

#[tokio::test]
async fn published_package_has_no_conflicts() {
    let memory = Memory::new();
    let manifest = StoredPackage::new().push(&memory).await;
    let index = index("widgets", "1.0.0", vec![entry(&manifest)]);
    for tag in [None, Some("1.0.0"), Some("nightly"), Some("1.0")] {
        assert_eq!(
            conflict_messages(&memory, tag, &index).await,
            [""; 0],
            "{tag:?}"
        );
    }
    let of_target = format!("1.0.0__{GNU}");
    let of_manifest = conflict_messages(&memory, Some(&of_target), &manifest).await;
    assert_eq!(of_manifest, [""; 0]);
}

#[tokio::test]
async fn index_name_that_differs_from_manifest_is_a_conflict() {
    let memory = Memory::new();
    let other = StoredPackage::new()
        .with_annotation(annotation::TITLE, "ripgrep")
        .with_annotation(annotation::VERSION, "9.9.9");
    let other = StoredPackage {
        config: PackageConfig {
            name: "ripgrep".into(),
            version: "9.9.9".into(),
            ..other.config
        },
        ..other
    };
    let manifest = other.push(&memory).await;
    let index = index("widgets", "1.0.0", vec![entry(&manifest)]);
    assert_eq!(
        conflict_messages(&memory, None, &index).await,
        [
            "the name is `widgets` in the index and `ripgrep` in the manifest",
            "the version is `1.0.0` in the index and `9.9.9` in the manifest",
        ]
    );
}

#[tokio::test]
async fn index_entry_that_differs_from_manifest_is_a_conflict() {
    let memory = Memory::new();
    let manifest = StoredPackage::new().push(&memory).await;
    let mut listed = entry(&manifest);
    listed.platform = platform::from_triple("aarch64-unknown-linux-musl", None).ok();
    let stated = [(annotation::TARGET, MUSL), (annotation::GLIBC, "2.17")];
    listed
        .annotations
        .extend(stated.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let index = index("widgets", "1.0.0", vec![listed]);
    assert_eq!(
        conflict_messages(&memory, None, &index).await,
        [
            format!("the target is `{MUSL}` in the index entry and `{GNU}` in the manifest"),
            "the platform is `linux/arm64` in the index entry and `linux/amd64` in the manifest"
                .into(),
            "the libc is `musl` in the index entry and `glibc` in the manifest".into(),
            "the glibc is `2.17` in the index entry and `2.34` in the manifest".into(),
        ]
    );
}

#[tokio::test]
async fn config_that_differs_from_manifest_is_a_conflict() {
    let memory = Memory::new();
    let mut stored = StoredPackage::new();
    stored.config.version = "1.0.1".into();
    stored.config.target = MUSL.into();
    let manifest = stored.push(&memory).await;
    assert_eq!(
        conflict_messages(&memory, None, &manifest).await,
        [
            "the version is `1.0.0` in the manifest and `1.0.1` in the config".to_owned(),
            format!("the target is `{GNU}` in the manifest and `{MUSL}` in the config"),
        ]
    );
}

#[tokio::test]
async fn invalid_config_is_a_conflict() {
    for bytes in [&b"{}"[..], b"text", br#"{"name":"a","name":"b"}"#] {
        let memory = Memory::new();
        let stored = StoredPackage::new();
        let config = Blob::from_bytes(media::CONFIG, bytes.to_vec());
        memory.push_blob(&config).await.unwrap();
        let mut image = ImageManifest::new(media::PACKAGE_TARGET, config.descriptor().clone());
        let annotations = stored.annotations.into_iter();
        image.annotations = annotations
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let manifest = Manifest::from_image(image).unwrap();
        memory.push_manifest(&manifest).await.unwrap();
        let found = conflicts(&memory, ManifestOrigin::default(), &manifest)
            .await
            .unwrap();
        let [(_, conflict)] = &found[..] else {
            panic!("{found:?}");
        };
        let text = conflict.to_string();
        assert!(text.starts_with("invalid config: "), "{text}");
    }
}

#[tokio::test]
async fn version_that_differs_from_tag_is_a_conflict() {
    let memory = Memory::new();
    let manifest = StoredPackage::new().push(&memory).await;
    let index = index("widgets", "1.0.0", vec![entry(&manifest)]);
    assert_eq!(
        conflict_messages(&memory, Some("1.0.0_build.5"), &index).await,
        ["the version is `1.0.0+build.5` in the tag and `1.0.0` in the index"]
    );
    assert_eq!(
        conflict_messages(&memory, Some(&format!("2.0.0__{MUSL}")), &manifest).await,
        [
            "the version is `2.0.0` in the tag and `1.0.0` in the manifest".to_owned(),
            format!("the target is `{MUSL}` in the tag and `{GNU}` in the manifest"),
        ]
    );
}

#[tokio::test]
async fn two_entries_for_one_target_are_a_conflict() {
    let memory = Memory::new();
    let one = StoredPackage::new().push(&memory).await;
    let other = StoredPackage::new()
        .with_annotation("com.example.x", "y")
        .push(&memory)
        .await;
    let index = index("widgets", "1.0.0", vec![entry(&one), entry(&other)]);
    let expected = format!(
        "the index has two entries for `{GNU}`, {} and {}",
        one.digest(),
        other.digest()
    );
    let found = conflict_messages(&memory, None, &index).await;
    assert_eq!(
        found,
        [expected.clone(), expected.clone()],
        "one conflict for each manifest"
    );

    let origin = ManifestOrigin::default().with_index(Some(&index));
    let error = check(&memory, origin, &one).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().ends_with(&expected), "{error}");
}

#[tokio::test]
async fn values_that_a_document_omits_are_not_compared() {
    let memory = Memory::new();
    let mut image = ImageManifest::new(media::PACKAGE_TARGET, Blob::empty().descriptor().clone());
    let target = (annotation::TARGET.to_owned(), GNU.to_owned());
    image.annotations = [target].into();
    let bare = Manifest::from_image(image.clone()).unwrap();
    memory.push_blob(&Blob::empty()).await.unwrap();
    memory.push_manifest(&bare).await.unwrap();
    let mut listed = entry(&bare);
    listed.platform = platform::from_triple(GNU, None).ok();
    // Other tools write a variant that the architecture implies.
    let full = StoredPackage::new().push(&memory).await;
    let mut implied = full.descriptor();
    implied.platform = platform::parse("linux/amd64/v1").ok();
    for entry in [listed, implied] {
        let index = index("widgets", "1.0.0", vec![entry]);
        assert_eq!(
            conflict_messages(&memory, Some("1.0.0"), &index).await,
            [""; 0]
        );
    }

    // An artifact that is not a package may have any version as its tag.
    image.artifact_type = Some(MediaType::new_static("application/x"));
    let version = (annotation::VERSION.to_owned(), "2.0.0".to_owned());
    image.annotations.extend([version]);
    let other = Manifest::from_image(image).unwrap();
    assert_eq!(
        conflict_messages(&memory, Some("1.0.0"), &other).await,
        [""; 0]
    );
}

#[tokio::test]
async fn inspect_reports_version_conflict_of_index_and_manifest() {
    let memory = Memory::new();
    let manifest = StoredPackage::new().push(&memory).await;
    let index = index("widgets", "2.0.0", vec![entry(&manifest)]);
    let source: Arc<dyn Source> = Arc::new(memory);
    let shown = crate::inspect(&source, ManifestOrigin::default(), &index).await;
    let conflicts = &shown.unwrap().targets[0].conflicts;
    let conflicts: Vec<_> = conflicts.iter().map(ToString::to_string).collect();
    assert_eq!(
        conflicts,
        ["the version is `2.0.0` in the index and `1.0.0` in the manifest"]
    );
}
