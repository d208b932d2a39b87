//! Inspection of an artifact: metadata, targets and files, as a release page shows them.
//!
//! The inspection works for packages and for all other artifacts. [`TagDetailsFetcher`] completes values that the
//! manifests do not state.

use std::sync::Arc;

use oci_registry::{
    Annotations, Descriptor, Digest, Failure, Identifier, Manifest, MediaType, Optional as _,
    Platform, Source,
};
use snafu::{ResultExt, Snafu};

use crate::agreement::{self, Conflict, MAX_CONCURRENT_READS, MAX_ENTRIES, ManifestOrigin};
use crate::annotation;
use crate::concurrent;
use crate::details::{Concurrency, TagDetailsFetcher};
use crate::platform::{self, GlibcVersion, Libc};
use crate::summary::Summary;
use crate::target::PackageTarget;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to inspect `{name}`"))]
    Inspect {
        name: String,
        source: oci_registry::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> oci_registry::ErrorKind {
        let Self::Inspect { source, .. } = self;
        source.kind()
    }
}

/// Metadata of an artifact. Values that no document states are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// Digest of the manifest or index.
    pub digest: Digest,
    /// Media type of the manifest or index.
    pub media_type: MediaType,
    /// Artifact type of the manifest or index.
    pub artifact_type: Option<MediaType>,
    /// Name of the package.
    pub name: Option<String>,
    /// Version of the package.
    pub version: Option<String>,
    /// Description, in one sentence.
    pub description: Option<String>,
    /// License, an SPDX expression.
    pub licenses: Option<String>,
    /// URL of the source code.
    pub source: Option<String>,
    /// Commit that the artifact was built from.
    pub revision: Option<String>,
    /// Whether at least one target was built from a work tree with uncommitted changes.
    pub dirty: Option<bool>,
    /// Creation time. RFC 3339, unless the publisher used another format.
    pub created: Option<String>,
    /// Total size of all targets, in bytes.
    pub size: Option<u64>,
    /// Annotations of the manifest or index, completed from the labels of the image config.
    pub annotations: Annotations,
    /// Targets. An index has one target for each entry except attestations; a single manifest is one target.
    pub targets: Vec<InspectedTarget>,
}

/// Manifest of an artifact for one target or platform.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedTarget {
    /// Target triple.
    pub target: Option<String>,
    /// Platform that the files run on.
    pub platform: Option<Platform>,
    /// C library that the files require.
    pub libc: Option<Libc>,
    /// Lowest version of glibc that the files run with.
    pub glibc: Option<GlibcVersion>,
    /// Whether the files were built from a work tree with uncommitted changes.
    pub dirty: Option<bool>,
    /// Artifact type of the manifest.
    pub artifact_type: Option<MediaType>,
    /// Total size of config and layers, in bytes.
    pub size: Option<u64>,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Whether the manifest exists.
    pub exists: bool,
    /// Files of a package, or layers of an image.
    pub files: Vec<InspectedFile>,
    /// Conflicts between the documents of the target.
    pub conflicts: Vec<Conflict>,
}

/// File of a package, or layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedFile {
    /// Title: the file name that other clients write.
    pub title: Option<String>,
    /// File name that cargo gave the file.
    pub file: Option<String>,
    /// Kind of the file, as in [`FileKind::as_str`](crate::FileKind::as_str).
    pub kind: Option<String>,
    /// Media type of the layer.
    pub media_type: MediaType,
    /// Size in bytes.
    pub size: u64,
    /// Digest of the layer.
    pub digest: Digest,
}

impl InspectedFile {
    fn from_layer(layer: &Descriptor) -> Self {
        let value = |key| layer.annotation(key).map(str::to_owned);
        Self {
            title: value(annotation::TITLE),
            file: value(annotation::FILE),
            kind: value(annotation::KIND),
            media_type: layer.media_type.clone(),
            size: layer.size,
            digest: layer.digest.clone(),
        }
    }
}

/// Returns the metadata of a manifest, or of an index and the manifests in it. An entry whose manifest is missing has
/// only the values of its descriptor.
///
/// # Errors
///
/// The error of the source.
pub async fn inspect(
    source: &Arc<dyn Source>,
    origin: ManifestOrigin<'_>,
    manifest: &Manifest,
) -> crate::Result<Inspection> {
    let fetcher =
        TagDetailsFetcher::new(Arc::clone(source), Concurrency::new(MAX_CONCURRENT_READS));
    let summarize = async |manifest: &Manifest| {
        let summary = fetcher.summary(manifest).await;
        summary.with_context(|_| InspectSnafu {
            name: source.describe(&manifest.digest().clone().into()),
        })
    };
    let summary = summarize(manifest).await?;
    let inspect_target =
        async |entry: &Descriptor, origin, manifest: &Manifest, summary: &Summary| {
            let conflicts = agreement::find_conflicts(&**source, origin, manifest).await?;
            Ok(InspectedTarget {
                conflicts,
                ..describe_target(entry, Some((manifest, summary)))
            })
        };
    let targets = match manifest.as_index() {
        None => vec![inspect_target(&manifest.descriptor(), origin, manifest, &summary).await?],
        Some(index) => {
            let entries = index.manifests.iter();
            let entries = entries.filter(|entry| !platform::is_attestation(entry));
            let inspections = entries.take(MAX_ENTRIES).map(async |entry| {
                let identifier = Identifier::Digest(entry.digest.clone());
                let read = source.manifest(&identifier).await.optional();
                let read = read.with_context(|_| InspectSnafu {
                    name: source.describe(&identifier),
                })?;
                let Some(found) = read else {
                    return Ok(describe_target(entry, None));
                };
                let summary = summarize(&found).await?;
                let origin = origin.with_index(Some(manifest));
                inspect_target(entry, origin, &found, &summary).await
            });
            concurrent::run_all(MAX_CONCURRENT_READS, inspections.collect()).await?
        }
    };
    let annotations = fetcher.annotations(manifest).await;
    let annotations = annotations.with_context(|_| InspectSnafu {
        name: source.describe(&manifest.digest().clone().into()),
    })?;
    let value = |key: &str| annotations.get(key).cloned();
    let is_dirty = |target: &InspectedTarget| target.dirty == Some(true);
    let dirty = if targets.iter().any(is_dirty) {
        Some(true)
    } else {
        dirty_flag(&annotations)
    };
    Ok(Inspection {
        digest: manifest.digest().clone(),
        media_type: manifest.media_type().clone(),
        artifact_type: manifest.artifact_type().cloned(),
        name: value(annotation::TITLE),
        version: value(annotation::VERSION),
        description: value(annotation::DESCRIPTION),
        licenses: value(annotation::LICENSES),
        source: value(annotation::SOURCE),
        revision: value(annotation::REVISION),
        dirty,
        created: summary.created,
        size: summary.size,
        targets,
        annotations,
    })
}

fn describe_target(entry: &Descriptor, found: Option<(&Manifest, &Summary)>) -> InspectedTarget {
    let package = found.and_then(|(manifest, _)| PackageTarget::read(manifest));
    let listed = entry.annotation(annotation::TARGET).map(str::to_owned);
    let platforms = found.map(|(_, summary)| &summary.platforms);
    let layers = found
        .and_then(|(manifest, _)| manifest.as_image())
        .map_or(&[][..], |image| &image.layers);
    InspectedTarget {
        target: listed.or(package.as_ref().map(|package| package.target.clone())),
        platform: entry
            .platform
            .clone()
            .or_else(|| package.as_ref()?.platform.clone())
            .filter(platform::is_known)
            .or_else(|| platforms?.first().cloned()),
        libc: package.as_ref().and_then(|package| package.libc),
        glibc: package.as_ref().and_then(|package| package.glibc),
        dirty: found.and_then(|(manifest, _)| dirty_flag(manifest.annotations())),
        artifact_type: found
            .and_then(|(manifest, _)| manifest.artifact_type().cloned())
            .or_else(|| entry.artifact_type.clone()),
        size: found.and_then(|(_, summary)| summary.size),
        digest: entry.digest.clone(),
        exists: found.is_some(),
        files: layers.iter().map(InspectedFile::from_layer).collect(),
        conflicts: Vec::new(),
    }
}

/// Returns the value of the annotation [`annotation::DIRTY`].
fn dirty_flag(annotations: &Annotations) -> Option<bool> {
    annotations.get(annotation::DIRTY)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use oci_registry::{Blob, ImageManifest, Index, Memory, Target};

    use super::*;
    use crate::{Build, FileKind, InputFile, PackOptions, Package, PublishOptions, ReleaseTag};

    #[tokio::test(start_paused = true)]
    async fn inspect_package_lists_metadata_targets_and_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("widgets");
        std::fs::write(&path, "a program").unwrap();
        let mut package = Package::new("widgets", "1.2.3".parse().unwrap());
        package.description = Some("Round ones".into());
        let build = Build::new("x86_64-unknown-linux-musl", "release");
        let files = [InputFile::new(
            "widgets".parse().unwrap(),
            FileKind::Bin,
            path,
        )];
        let artifact = crate::pack(&package, &build, &files, &PackOptions::default())
            .await
            .unwrap();
        let memory = Memory::new();
        let tags = [ReleaseTag::parse("1.2.3").unwrap()];
        let options = PublishOptions::default();
        let published = crate::publish(&artifact, &memory, &tags, &options, &|_| {})
            .await
            .unwrap();
        let source: Arc<dyn Source> = Arc::new(memory);
        let index = published.tags[0].index.clone().unwrap();
        let from_index = inspect(&source, ManifestOrigin::default(), &index)
            .await
            .unwrap();
        assert_eq!(from_index.name.as_deref(), Some("widgets"));
        assert_eq!(from_index.version.as_deref(), Some("1.2.3"));
        assert_eq!(from_index.description.as_deref(), Some("Round ones"));
        let [target] = &from_index.targets[..] else {
            panic!("expected one target")
        };
        assert_eq!(target.target.as_deref(), Some("x86_64-unknown-linux-musl"));
        assert_eq!(target.digest, *published.manifest.digest());
        assert_eq!(target.size, from_index.size);
        assert_eq!(target.files[0].file.as_deref(), Some("widgets"));
        assert_eq!(target.files[0].kind.as_deref(), Some("bin"));
        assert_eq!(target.files[0].digest, Digest::sha256(b"a program"));
        let from_manifest = inspect(&source, ManifestOrigin::default(), &published.manifest)
            .await
            .unwrap();
        assert_eq!(from_manifest.targets, from_index.targets);
    }

    #[tokio::test]
    async fn inspect_image_reads_platform_and_date_from_config() {
        let memory = Memory::new();
        let config = r#"{"os":"linux","architecture":"arm64","created":"2026-01-02T03:04:05Z"}"#;
        let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, config);
        memory.push_blob(&config).await.unwrap();
        let mut image = ImageManifest::new(MediaType::EMPTY, config.descriptor().clone());
        image.artifact_type = None;
        let image = Manifest::from_image(image).unwrap();
        memory.push_manifest(&image).await.unwrap();
        let missing = Descriptor::new(MediaType::MANIFEST, Digest::sha256(b"gone"), 4);
        let index = Index::new(None, vec![image.descriptor(), missing.clone()]);
        let index = Manifest::from_index(index).unwrap();
        let source: Arc<dyn Source> = Arc::new(memory);
        let inspection = inspect(&source, ManifestOrigin::default(), &index)
            .await
            .unwrap();
        assert_eq!((inspection.name, inspection.size), (None, None));
        let platform = inspection.targets[0].platform.as_ref().unwrap().to_string();
        assert_eq!(platform, "linux/arm64");
        assert!(inspection.targets[0].exists && !inspection.targets[1].exists);
        assert_eq!(inspection.targets[1].digest, missing.digest);
        let single = inspect(&source, ManifestOrigin::default(), &image)
            .await
            .unwrap();
        assert_eq!(single.created.as_deref(), Some("2026-01-02T03:04:05Z"));
        let platform = single.targets[0].platform.as_ref().unwrap().to_string();
        assert_eq!(platform, "linux/arm64");
    }

    #[tokio::test]
    async fn inspect_index_omits_attestations() {
        let memory = Memory::new();
        memory.push_blob(&Blob::empty()).await.unwrap();
        let mut image = ImageManifest::new(MediaType::EMPTY, Blob::empty().descriptor().clone());
        image.artifact_type = None;
        let image = Manifest::from_image(image).unwrap();
        memory.push_manifest(&image).await.unwrap();
        let listed = |text: &str| Descriptor {
            platform: platform::parse(text).ok(),
            ..image.descriptor()
        };
        let mut attestation = listed("unknown/unknown");
        let mark = (
            annotation::REFERENCE_TYPE.to_owned(),
            "attestation-manifest".to_owned(),
        );
        attestation.annotations.extend([mark]);
        let index = Index::new(None, vec![attestation, listed("linux/amd64")]);
        let index = Manifest::from_index(index).unwrap();
        let source: Arc<dyn Source> = Arc::new(memory);
        let inspection = inspect(&source, ManifestOrigin::default(), &index)
            .await
            .unwrap();
        let platforms = inspection
            .targets
            .iter()
            .map(|target| target.platform.clone());
        let expected = platform::parse("linux/amd64").ok();
        assert_eq!(platforms.collect::<Vec<_>>(), [expected]);
        assert_eq!(
            inspection.size,
            Some(4),
            "the size is the total of both entries"
        );
    }
}
