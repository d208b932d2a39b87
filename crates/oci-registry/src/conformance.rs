//! Conformance tests for implementations of [`Target`] and [`Delete`](crate::Delete) (feature `conformance`).
//!
//! A new kind of target implements [`Target`] and passes [`run`]. If it can delete content, it also passes
//! [`run_deletions`]. All kinds, such as a registry, a directory, an archive and memory, are checked against the same
//! requirements. Where targets may differ, a target declares its behavior in [`Capabilities`] and is checked against
//! the declaration. Behavior that is specific to one kind, such as concurrent writers of a directory, is tested in the
//! module of that kind.
//!
//! ```
//! # async fn check() -> oci_registry::Result<()> {
//! use std::sync::Arc;
//! use oci_registry::{Memory, Target, conformance};
//!
//! let fresh = async || Ok(Arc::new(Memory::new()) as Arc<dyn Target>);
//! let report = conformance::run(conformance::Capabilities::default(), fresh).await?;
//! println!("{} requirements met", report.requirements.len());
//! # Ok(())
//! # }
//! ```

/// Defines requirements. Each consists of a sentence that describes it and a function that checks it.
macro_rules! requirements {
    ($fixture:ident: $($sentence:literal => $requirement:path,)+) => {
        type Requirement = for<'a> fn(&'a $fixture) -> BoxFuture<'a, CheckResult>;

        const REQUIREMENTS: &[(&str, Requirement)] = &[$(($sentence, |fixture| Box::pin($requirement(fixture)))),+];
    };
}

mod blob;
mod capabilities;
mod delete;
mod fixture;
mod graph;
mod manifest;
mod outcome;
mod sample;
mod tag;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use snafu::ResultExt;

pub use self::capabilities::Capabilities;
pub use self::delete::run_deletions;
use self::fixture::Fixture;
pub use self::outcome::Report;
use self::outcome::{CheckResult, MakeSnafu, ViolatedSnafu};
use crate::storage::Target;

/// Checks all requirements, each with a fresh and empty target from `make`. Repositories of one registry may share
/// content, so a blob that one requirement expects to be refused is never pushed by another requirement.
///
/// # Errors
///
/// The first violated requirement and the reason. The kind is [`ErrorKind::Protocol`](crate::ErrorKind::Protocol), or
/// the kind of the error that `make` returned.
pub async fn run(
    capabilities: Capabilities,
    make: impl AsyncFn() -> crate::Result<Arc<dyn Target>>,
) -> crate::Result<Report> {
    let mut requirements = Vec::new();
    for (requirement, holds) in REQUIREMENTS.iter().copied() {
        let target = make().await.context(MakeSnafu { requirement })?;
        let fixture = Fixture {
            target,
            capabilities,
        };
        holds(&fixture)
            .await
            .context(ViolatedSnafu { requirement })?;
        requirements.push(requirement);
    }
    Ok(Report { requirements })
}

requirements! {
    Fixture:
    "an empty target has no content" => blob::check_empty_target,
    "a pushed blob reads back exactly" => blob::check_blob_reads_back,
    "an empty blob is stored" => blob::check_empty_blob,
    "a large blob is streamed in both directions" => blob::check_large_blob,
    "a blob with a sha512 digest is stored under this digest, or refused" => blob::check_sha512_blob,
    "a pushed file becomes the returned blob" => blob::check_pushed_file,
    "pushing an existing blob does not read it" => blob::check_repeated_blob_push,
    "concurrent pushes of one blob succeed" => blob::check_concurrent_blob_pushes,
    "content with a wrong digest is refused and not stored" => blob::check_wrong_digest,
    "content that is too short is refused and not stored" => blob::check_too_short_content,
    "content that is too long is refused and not stored" => blob::check_too_long_content,
    "a push of content that fails midway fails with the same error kind and stores nothing" => blob::check_failing_content,
    "content that cannot be verified is neither stored nor returned" => blob::check_unverifiable_content,
    "reading a blob with a wrong size fails" => blob::check_wrong_size,
    "a manifest is found by its digest" => manifest::check_manifest_by_digest,
    "a manifest is found by its tag" => manifest::check_manifest_by_tag,
    "the bytes of a manifest are not changed" => manifest::check_exact_bytes,
    "a manifest without a media type is not changed" => manifest::check_manifest_without_media_type,
    "Docker manifests are not changed" => manifest::check_docker_manifest,
    "pushing a manifest again changes nothing" => manifest::check_repeated_manifest_push,
    "manifests can share blobs" => manifest::check_shared_content,
    "a manifest with a missing subject is accepted" => manifest::check_absent_subject,
    "an artifact is stored, and can be tagged unless excluded" => manifest::check_artifact,
    "a manifest with missing content is refused or accepted, as declared" => manifest::check_incomplete_manifest,
    "a moved tag keeps the old manifest" => tag::check_tag_moves,
    "setting a tag again changes nothing" => tag::check_repeated_tag,
    "a tag can be set with a single attempt" => tag::check_tag_with_single_attempt,
    "a manifest can have several tags" => tag::check_many_tags,
    "a tag never refers to a missing manifest" => tag::check_tag_on_missing_manifest,
    "tags are listed without duplicates" => tag::check_tag_list,
    "concurrent writers of different tags lose no tag" => tag::check_concurrent_tags,
    "an index is stored, and can be tagged unless excluded" => manifest::check_index,
    "an index can contain an index" => manifest::check_nested_index,
    "an index with a missing manifest is refused or accepted, as declared" => manifest::check_incomplete_index,
    "a copy to the target equals the original" => graph::check_copy_to,
    "a second copy to the target sends nothing" => graph::check_repeated_copy,
    "a copy from the target equals the original" => graph::check_copy_from,
    "descriptions contain the identifier" => graph::check_descriptions,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::stream::StreamExt;

    use super::fixture::LIMIT;
    use super::*;
    use crate::archive::Archive;
    use crate::blob::{Blob, BlobStream};
    use crate::error::ErrorKind;
    use crate::layout::Layout;
    use crate::manifest::{Descriptor, Manifest};
    use crate::memory::Memory;
    use crate::reference::{ArchiveFormat, Identifier, Tag};
    use crate::storage::{Delivery, Source};

    #[tokio::test]
    async fn memory_meets_all_requirements() {
        let make = async || Ok(Arc::new(Memory::new()) as Arc<dyn Target>);
        let report = run(Capabilities::default(), make).await.unwrap();
        println!("memory: {report}");
        assert_eq!(report.requirements.len(), REQUIREMENTS.len());
    }

    #[tokio::test]
    async fn layout_meets_all_requirements() {
        let home = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicUsize::new(0);
        let make = async || {
            let at = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let layout = Layout::create(home.path().join(at.to_string())).await?;
            Ok(Arc::new(layout) as Arc<dyn Target>)
        };
        let capabilities = Capabilities {
            refuses_incomplete: false,
            ..Capabilities::default()
        };
        let report = run(capabilities, make).await.unwrap();
        println!("layout: {report}");
        assert_eq!(report.requirements.len(), REQUIREMENTS.len());
    }

    async fn check_archive(format: ArchiveFormat, capabilities: Capabilities) -> Report {
        let home = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicUsize::new(0);
        let make = async || {
            let at = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let path = home.path().join(format!("{at}.tar"));
            Ok(Arc::new(Archive::create(path, format.clone()).await?) as Arc<dyn Target>)
        };
        let report = run(capabilities, make).await.unwrap();
        assert_eq!(report.requirements.len(), REQUIREMENTS.len());
        report
    }

    #[tokio::test]
    async fn oci_archive_meets_all_requirements() {
        let capabilities = Capabilities {
            refuses_incomplete: false,
            ..Capabilities::default()
        };
        println!(
            "oci archive: {}",
            check_archive(ArchiveFormat::Oci, capabilities).await
        );
    }

    #[tokio::test]
    async fn docker_archive_meets_all_requirements() {
        let capabilities = Capabilities {
            refuses_incomplete: false,
            indexes: false,
            artifacts: false,
            ..Capabilities::default()
        };
        let format = ArchiveFormat::Docker(Some("acme/widgets".parse().unwrap()));
        println!(
            "docker archive: {}",
            check_archive(format, capabilities).await
        );
    }

    #[tokio::test]
    async fn conformance_requirements_have_distinct_names() {
        let names: BTreeSet<_> = REQUIREMENTS
            .iter()
            .map(|(requirement, _)| requirement)
            .collect();
        assert_eq!(names.len(), REQUIREMENTS.len());
    }

    /// Target with a defect.
    #[derive(Debug, Default)]
    struct FaultyTarget {
        memory: Memory,
        flaw: TargetFlaw,
    }

    #[derive(Debug, Default, Clone, Copy, PartialEq)]
    enum TargetFlaw {
        #[default]
        TagsDoNotMove,
        BlobsReadReversed,
        AbsentFailsAsNetwork,
        PushReadsExisting,
    }

    #[async_trait::async_trait]
    #[deny(clippy::missing_trait_methods)]
    impl Source for FaultyTarget {
        async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
            let found = self.memory.manifest(identifier).await;
            if self.flaw == TargetFlaw::AbsentFailsAsNetwork {
                return found.map_err(|error| crate::Error::new(ErrorKind::Network, error));
            }
            found
        }

        async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
            let stream = self.memory.blob(descriptor).await?;
            if self.flaw == TargetFlaw::BlobsReadReversed {
                let mut bytes = stream.read_to_end(LIMIT).await?.to_vec();
                bytes.reverse();
                let pieces = futures_util::stream::once(async { Ok(bytes.into()) });
                return BlobStream::new(descriptor, pieces.boxed());
            }
            Ok(stream)
        }

        fn tags(&self) -> crate::storage::TagStream {
            self.memory.tags()
        }

        fn describe(&self, identifier: &Identifier) -> String {
            self.memory.describe(identifier)
        }

        async fn resolve(&self, identifier: &Identifier) -> crate::Result<Descriptor> {
            Ok(self.manifest(identifier).await?.descriptor())
        }

        async fn blob_after(
            &self,
            descriptor: &Descriptor,
            partial: crate::blob::PartialBlob,
        ) -> crate::Result<BlobStream> {
            self.memory.blob_after(descriptor, partial).await
        }

        async fn find_blob(&self, digest: &crate::digest::Digest) -> crate::Result<Descriptor> {
            self.memory.find_blob(digest).await
        }

        fn origin(&self) -> Option<&crate::reference::Reference> {
            self.memory.origin()
        }

        async fn other_names(&self) -> crate::Result<Vec<crate::storage::OtherName>> {
            self.memory.other_names().await
        }

        fn referrers(
            &self,
            subject: &crate::digest::Digest,
            artifact_type: Option<&crate::manifest::MediaType>,
        ) -> crate::referrers::DescriptorStream {
            self.memory.referrers(subject, artifact_type)
        }
    }

    #[async_trait::async_trait]
    #[deny(clippy::missing_trait_methods)]
    impl Target for FaultyTarget {
        async fn exists(&self, descriptor: &Descriptor) -> crate::Result<bool> {
            self.memory.exists(descriptor).await
        }

        async fn push_blob(&self, blob: &Blob) -> crate::Result<Delivery> {
            if self.flaw == TargetFlaw::PushReadsExisting {
                blob.open().await?.read_to_end(LIMIT).await?;
            }
            self.memory.push_blob(blob).await
        }

        async fn push_manifest(&self, manifest: &Manifest) -> crate::Result<()> {
            self.memory.push_manifest(manifest).await
        }

        async fn tag(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
            let exists = self
                .memory
                .tags()
                .any(async |existing| existing.is_ok_and(|existing| existing == *tag))
                .await;
            if self.flaw == TargetFlaw::TagsDoNotMove && exists {
                return Ok(());
            }
            self.memory.tag(manifest, tag).await
        }

        async fn push_file(
            &self,
            media_type: crate::manifest::MediaType,
            path: &std::path::Path,
            meter: &crate::blob::Meter,
        ) -> crate::Result<(Blob, Delivery)> {
            self.memory.push_file(media_type, path, meter).await
        }

        async fn tag_once(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
            self.tag(manifest, tag).await
        }

        async fn complete(&self, untagged: Option<&Manifest>) -> crate::Result<()> {
            self.memory.complete(untagged).await
        }
    }

    #[tokio::test]
    async fn defective_target_violates_its_conformance_requirement() {
        for (flaw, requirement) in [
            (
                TargetFlaw::TagsDoNotMove,
                "a moved tag keeps the old manifest",
            ),
            (
                TargetFlaw::BlobsReadReversed,
                "a pushed blob reads back exactly",
            ),
            (
                TargetFlaw::AbsentFailsAsNetwork,
                "an empty target has no content",
            ),
            (
                TargetFlaw::PushReadsExisting,
                "pushing an existing blob does not read it",
            ),
        ] {
            let make = async || {
                let memory = Memory::new();
                Ok(Arc::new(FaultyTarget { memory, flaw }) as Arc<dyn Target>)
            };
            let error = run(Capabilities::default(), make).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the target violates the requirement `{requirement}`")
            );
            assert!(std::error::Error::source(&error).is_some());
        }
    }
}
