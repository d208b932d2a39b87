//! Requirements on targets that can delete content ([`Delete`]).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::TryStreamExt;
use snafu::ResultExt;

use super::capabilities::Capabilities;
use super::fixture::Fixture;
use super::outcome::{
    CheckResult, MakeSnafu, Report, StepSnafu, ViolatedSnafu, expect, expect_failure,
};
use super::sample::{Sample, blob, by_digest, by_tag, index_of, tag};
use crate::blob::Blob;
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::manifest::{ImageManifest, Manifest, MediaType};
use crate::storage::{Delete, Delivery};

/// Checks all requirements on deleting content, each with a fresh and empty target from `make`. An operation that the
/// capabilities exclude must fail as unsupported and must not delete anything.
///
/// # Errors
///
/// The errors of [`super::run`].
pub async fn run_deletions(
    capabilities: Capabilities,
    make: impl AsyncFn() -> crate::Result<Arc<dyn Delete>>,
) -> crate::Result<Report> {
    let mut requirements = Vec::new();
    for (requirement, holds) in REQUIREMENTS.iter().copied() {
        let target = make().await.context(MakeSnafu { requirement })?;
        let fixture = DeleteFixture {
            fixture: Fixture {
                target: Arc::clone(&target) as _,
                capabilities,
            },
            target,
        };
        holds(&fixture)
            .await
            .context(ViolatedSnafu { requirement })?;
        requirements.push(requirement);
    }
    Ok(Report { requirements })
}

/// Fresh target that can delete content.
struct DeleteFixture {
    fixture: Fixture,
    target: Arc<dyn Delete>,
}

requirements! {
    DeleteFixture:
    "deleting a tag keeps the manifest and its other tags" => check_tag_deletion,
    "deleting the last tag keeps the manifest" => check_last_tag_deletion,
    "a deleted tag can be set on another manifest" => check_tag_reused,
    "deleting a manifest deletes its tags and nothing else" => check_manifest_with_tags,
    "a manifest without a tag can be deleted" => check_untagged_manifest,
    "deleting an index keeps its manifests" => check_index_deletion,
    "a deleted referrer is no longer listed" => check_referrer_deletion,
    "deleting a blob keeps the other blobs" => check_blob_deletion,
    "deleted content can be pushed again" => check_push_after_deletion,
    "deleting missing content fails as not found" => check_deletion_of_missing_content,
}

impl DeleteFixture {
    /// Deletes a tag and returns `true`. If the target cannot delete tags, checks that it refuses the deletion, and
    /// returns `false`.
    async fn delete_tag(&self, name: &'static str) -> CheckResult<bool> {
        let deleted = self.target.delete_tag(&tag(name)).await;
        if self.fixture.capabilities.deletes_tags {
            deleted.context(StepSnafu {
                step: "delete a tag",
            })?;
            self.fixture.expect_no_manifest(&by_tag(&tag(name))).await?;
            return Ok(true);
        }
        expect_failure(deleted, ErrorKind::Unsupported, "deleting a tag")?;
        let still = self.fixture.manifest(&by_tag(&tag(name))).await?;
        let exists = self.fixture.exists(&still.descriptor()).await?;
        expect(exists, "a tag that was not deleted to keep its manifest")?;
        Ok(false)
    }

    async fn delete_manifest(&self, manifest: &Manifest) -> CheckResult<bool> {
        let deleted = self.target.delete_manifest(manifest.digest()).await;
        if self.fixture.capabilities.deletes_manifests {
            deleted.context(StepSnafu {
                step: "delete a manifest",
            })?;
            self.fixture
                .expect_no_manifest(&by_digest(manifest))
                .await?;
            let exists = self.fixture.exists(&manifest.descriptor()).await?;
            expect(!exists, "a deleted manifest not to exist")?;
            return Ok(true);
        }
        expect_failure(deleted, ErrorKind::Unsupported, "deleting a manifest")?;
        self.fixture
            .expect_manifest(&by_digest(manifest), manifest)
            .await?;
        Ok(false)
    }

    async fn delete_blob(&self, blob: &Blob) -> CheckResult<bool> {
        let deleted = self.target.delete_blob(blob.digest()).await;
        if self.fixture.capabilities.deletes_blobs {
            deleted.context(StepSnafu {
                step: "delete a blob",
            })?;
            self.fixture.expect_no_blob(blob.descriptor()).await?;
            return Ok(true);
        }
        expect_failure(deleted, ErrorKind::Unsupported, "deleting a blob")?;
        let exists = self.fixture.exists(blob.descriptor()).await?;
        expect(exists, "a blob that was not deleted to exist")?;
        Ok(false)
    }

    /// Returns the sorted digests of a manifest's referrers.
    async fn referrers(&self, subject: &Manifest) -> CheckResult<Vec<Digest>> {
        let listed = self.target.referrers(subject.digest(), None);
        let listed: crate::Result<Vec<_>> = listed.map_ok(|entry| entry.digest).try_collect().await;
        let mut listed = listed.context(StepSnafu {
            step: "list the referrers of a manifest",
        })?;
        listed.sort();
        Ok(listed)
    }
}

async fn check_tag_deletion(deletion: &DeleteFixture) -> CheckResult {
    let (fixture, sample) = (&deletion.fixture, Sample::image("one"));
    fixture.push(&sample).await?;
    for name in ["1", "1.0", "latest"] {
        fixture.tag(&sample.manifest, &tag(name)).await?;
    }
    if deletion.delete_tag("1.0").await? {
        expect(
            fixture.tags().await? == [tag("1"), tag("latest")],
            "only the deleted tag to be missing from the list",
        )?;
    }
    for name in [tag("1"), tag("latest")] {
        fixture
            .expect_manifest(&by_tag(&name), &sample.manifest)
            .await?;
    }
    fixture
        .expect_manifest(&by_digest(&sample.manifest), &sample.manifest)
        .await
}

async fn check_last_tag_deletion(deletion: &DeleteFixture) -> CheckResult {
    let (fixture, sample) = (&deletion.fixture, Sample::image("one"));
    fixture.push(&sample).await?;
    fixture.tag(&sample.manifest, &tag("1")).await?;
    if deletion.delete_tag("1").await? {
        let is_empty = fixture.tags().await?.is_empty();
        expect(
            is_empty,
            "no tag to be listed after the only one was deleted",
        )?;
    }
    fixture
        .expect_manifest(&by_digest(&sample.manifest), &sample.manifest)
        .await?;
    for blob in &sample.blobs {
        let exists = fixture.exists(blob.descriptor()).await?;
        expect(exists, "the blobs of a manifest to stay")?;
    }
    Ok(())
}

async fn check_tag_reused(deletion: &DeleteFixture) -> CheckResult {
    let fixture = &deletion.fixture;
    let (one, two) = (Sample::image("one"), Sample::image("two"));
    fixture.push(&one).await?;
    fixture.push(&two).await?;
    fixture.tag(&one.manifest, &tag("1")).await?;
    deletion.delete_tag("1").await?;
    fixture.tag(&two.manifest, &tag("1")).await?;
    fixture
        .expect_manifest(&by_tag(&tag("1")), &two.manifest)
        .await?;
    fixture
        .expect_manifest(&by_digest(&one.manifest), &one.manifest)
        .await
}

async fn check_manifest_with_tags(deletion: &DeleteFixture) -> CheckResult {
    let fixture = &deletion.fixture;
    let (one, two) = (Sample::image("one"), Sample::image("two"));
    for sample in [&one, &two] {
        fixture.push(sample).await?;
    }
    for name in ["1", "1.0"] {
        fixture.tag(&one.manifest, &tag(name)).await?;
    }
    fixture.tag(&two.manifest, &tag("2")).await?;
    if deletion.delete_manifest(&one.manifest).await? {
        for name in ["1", "1.0"] {
            fixture.expect_no_manifest(&by_tag(&tag(name))).await?;
        }
        expect(
            fixture.tags().await? == [tag("2")],
            "only the tags of the deleted manifest to be missing from the list",
        )?;
        for blob in &one.blobs {
            let exists = fixture.exists(blob.descriptor()).await?;
            expect(exists, "the blobs of a deleted manifest to stay")?;
        }
    }
    fixture
        .expect_manifest(&by_tag(&tag("2")), &two.manifest)
        .await
}

async fn check_untagged_manifest(deletion: &DeleteFixture) -> CheckResult {
    let sample = Sample::image("one");
    deletion.fixture.push(&sample).await?;
    deletion.delete_manifest(&sample.manifest).await?;
    Ok(())
}

async fn check_index_deletion(deletion: &DeleteFixture) -> CheckResult {
    let fixture = &deletion.fixture;
    let (one, two) = (Sample::image("one"), Sample::image("two"));
    for sample in [&one, &two] {
        fixture.push(sample).await?;
    }
    let index = index_of(&[&one.manifest, &two.manifest]);
    fixture.push_manifest(&index).await?;
    fixture.tag(&index, &tag("1")).await?;
    fixture.tag(&one.manifest, &tag("one")).await?;
    if deletion.delete_manifest(&index).await? {
        fixture.expect_no_manifest(&by_tag(&tag("1"))).await?;
    }
    for sample in [&one, &two] {
        fixture
            .expect_manifest(&by_digest(&sample.manifest), &sample.manifest)
            .await?;
    }
    fixture
        .expect_manifest(&by_tag(&tag("one")), &one.manifest)
        .await
}

/// Creates a referrer of a manifest.
fn create_referrer(subject: &Manifest, kind: &'static str) -> (Blob, Manifest) {
    let config = Blob::empty();
    let mut note = ImageManifest::new(MediaType::new_static(kind), config.descriptor().clone());
    note.subject = Some(subject.descriptor());
    let note = Manifest::from_image(note).expect("the manifests of the tests are small");
    (config, note)
}

async fn check_referrer_deletion(deletion: &DeleteFixture) -> CheckResult {
    let (fixture, sample) = (&deletion.fixture, Sample::image("one"));
    fixture.push(&sample).await?;
    let mut notes = Vec::new();
    for kind in ["application/vnd.acme.note", "application/vnd.acme.other"] {
        let (config, note) = create_referrer(&sample.manifest, kind);
        fixture.push_blob(&config).await?;
        fixture.push_manifest(&note).await?;
        notes.push(note);
    }
    notes.sort_by_key(|note| note.digest().clone());
    let listed = |notes: &[Manifest]| -> Vec<Digest> {
        notes.iter().map(|note| note.digest().clone()).collect()
    };
    let expected = "exactly the existing referrers to be listed";
    expect(
        deletion.referrers(&sample.manifest).await? == listed(&notes),
        expected,
    )?;
    while let Some(note) = notes.pop() {
        if !deletion.delete_manifest(&note).await? {
            break;
        }
        let left = deletion.referrers(&sample.manifest).await?;
        expect(left == listed(&notes), expected)?;
    }
    fixture
        .expect_manifest(&by_digest(&sample.manifest), &sample.manifest)
        .await
}

async fn check_blob_deletion(deletion: &DeleteFixture) -> CheckResult {
    let fixture = &deletion.fixture;
    let (one, two) = (blob("one"), blob("two"));
    for blob in [&one, &two] {
        fixture.push_blob(blob).await?;
    }
    deletion.delete_blob(&one).await?;
    fixture.expect_blob(two.descriptor(), b"two").await
}

async fn check_push_after_deletion(deletion: &DeleteFixture) -> CheckResult {
    let (fixture, sample) = (&deletion.fixture, Sample::image("one"));
    fixture.push(&sample).await?;
    fixture.tag(&sample.manifest, &tag("1")).await?;
    let is_gone = deletion.delete_manifest(&sample.manifest).await?;
    for blob in sample.blobs.iter().filter(|_| is_gone) {
        if deletion.delete_blob(blob).await? {
            let delivery = fixture.push_blob(blob).await?;
            expect(
                delivery != Delivery::Existed,
                "a deleted blob to be uploaded again",
            )?;
        }
    }
    fixture.push(&sample).await?;
    fixture.tag(&sample.manifest, &tag("1")).await?;
    fixture
        .expect_manifest(&by_tag(&tag("1")), &sample.manifest)
        .await?;
    let layer = &sample.blobs[1];
    fixture
        .expect_blob(layer.descriptor(), b"the layer of one")
        .await
}

async fn check_deletion_of_missing_content(deletion: &DeleteFixture) -> CheckResult {
    // Repositories of one registry may share content, so this content is not pushed by any other requirement.
    let (fixture, sample) = (&deletion.fixture, Sample::image("never pushed"));
    let other = Sample::image("other");
    // A registry may report an empty repository as missing. The kind of that error is also `NotFound`.
    for is_empty in [true, false] {
        if !is_empty {
            fixture.push(&other).await?;
            fixture.tag(&other.manifest, &tag("other")).await?;
        }
        let deleted = deletion.target.delete_tag(&tag("1")).await;
        expect_failure(deleted, ErrorKind::NotFound, "deleting an absent tag")?;
        let deleted = deletion.target.delete_manifest(sample.manifest.digest());
        let deleted = deleted.await;
        expect_failure(deleted, ErrorKind::NotFound, "deleting an absent manifest")?;
        let deleted = deletion.target.delete_blob(sample.blobs[1].digest()).await;
        expect_failure(deleted, ErrorKind::NotFound, "deleting an absent blob")?;
    }
    fixture
        .expect_manifest(&by_tag(&tag("other")), &other.manifest)
        .await?;
    if deletion.delete_tag("other").await? {
        let again = deletion.target.delete_tag(&tag("other")).await;
        expect_failure(again, ErrorKind::NotFound, "deleting a tag again")?;
    }
    if deletion.delete_manifest(&other.manifest).await? {
        let again = deletion.target.delete_manifest(other.manifest.digest());
        expect_failure(
            again.await,
            ErrorKind::NotFound,
            "deleting a manifest again",
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures_util::stream::StreamExt;

    use super::*;
    use crate::blob::BlobStream;
    use crate::layout::Layout;
    use crate::manifest::Descriptor;
    use crate::memory::Memory;
    use crate::reference::{Identifier, Tag};
    use crate::referrers::DescriptorStream;
    use crate::storage::{Source, TagStream, Target};

    #[tokio::test]
    async fn memory_meets_requirements_of_delete() {
        let make = async || Ok(Arc::new(Memory::new()) as Arc<dyn Delete>);
        let report = run_deletions(Capabilities::default(), make).await.unwrap();
        println!("memory, deletion: {report}");
        assert_eq!(report.requirements.len(), REQUIREMENTS.len());
    }

    #[tokio::test]
    async fn layout_meets_requirements_of_delete() {
        let home = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicUsize::new(0);
        let make = async || {
            let at = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let layout = Layout::create(home.path().join(at.to_string())).await?;
            Ok(Arc::new(layout) as Arc<dyn Delete>)
        };
        let report = run_deletions(Capabilities::default(), make).await.unwrap();
        println!("layout, deletion: {report}");
    }

    /// Target that deletes content incorrectly.
    #[derive(Debug)]
    struct FaultyDelete {
        memory: Memory,
        flaw: DeleteFlaw,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum DeleteFlaw {
        None,
        DeletesManifestOfTag,
        KeepsTaggedManifests,
        AcceptsAbsent,
        ListsDeletedReferrers,
        DeletesBlobsOfManifest,
        RefusesAll,
    }

    #[async_trait]
    #[deny(clippy::missing_trait_methods)]
    impl Source for FaultyDelete {
        async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
            self.memory.manifest(identifier).await
        }

        async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
            self.memory.blob(descriptor).await
        }

        fn tags(&self) -> TagStream {
            self.memory.tags()
        }

        fn referrers(&self, subject: &Digest, kind: Option<&MediaType>) -> DescriptorStream {
            if self.flaw == DeleteFlaw::ListsDeletedReferrers {
                let note =
                    create_referrer(&Sample::image("one").manifest, "application/vnd.acme.note");
                let listed = self.memory.referrers(subject, kind);
                let gone = futures_util::stream::iter([Ok(note.1.descriptor())]);
                return listed.chain(gone).boxed();
            }
            self.memory.referrers(subject, kind)
        }

        fn describe(&self, identifier: &Identifier) -> String {
            self.memory.describe(identifier)
        }

        async fn resolve(&self, identifier: &Identifier) -> crate::Result<Descriptor> {
            self.memory.resolve(identifier).await
        }

        async fn blob_after(
            &self,
            descriptor: &Descriptor,
            partial: crate::blob::PartialBlob,
        ) -> crate::Result<BlobStream> {
            self.memory.blob_after(descriptor, partial).await
        }

        async fn find_blob(&self, digest: &Digest) -> crate::Result<Descriptor> {
            self.memory.find_blob(digest).await
        }

        fn origin(&self) -> Option<&crate::reference::Reference> {
            self.memory.origin()
        }

        async fn other_names(&self) -> crate::Result<Vec<crate::storage::OtherName>> {
            self.memory.other_names().await
        }
    }

    #[async_trait]
    #[deny(clippy::missing_trait_methods)]
    impl Target for FaultyDelete {
        async fn exists(&self, descriptor: &Descriptor) -> crate::Result<bool> {
            self.memory.exists(descriptor).await
        }

        async fn push_blob(&self, blob: &Blob) -> crate::Result<Delivery> {
            self.memory.push_blob(blob).await
        }

        async fn push_manifest(&self, manifest: &Manifest) -> crate::Result<()> {
            self.memory.push_manifest(manifest).await
        }

        async fn tag(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
            self.memory.tag(manifest, tag).await
        }

        async fn push_file(
            &self,
            media_type: MediaType,
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

    impl FaultyDelete {
        fn refuse(&self) -> crate::Result<()> {
            let refusal = std::io::Error::other("deletion is not supported");
            if self.flaw == DeleteFlaw::RefusesAll {
                return Err(crate::Error::new(ErrorKind::Unsupported, refusal));
            }
            Ok(())
        }

        fn accept_absent(&self, deleted: crate::Result<()>) -> crate::Result<()> {
            if self.flaw == DeleteFlaw::AcceptsAbsent {
                return Ok(());
            }
            deleted
        }
    }

    #[async_trait]
    #[deny(clippy::missing_trait_methods)]
    impl Delete for FaultyDelete {
        async fn delete_tag(&self, tag: &Tag) -> crate::Result<()> {
            let held = self.resolve(&by_tag(tag)).await;
            if let (DeleteFlaw::DeletesManifestOfTag, Ok(held)) = (self.flaw, &held) {
                return self.memory.delete_manifest(&held.digest).await;
            }
            self.accept_absent(held.map(drop))?;
            self.refuse()?;
            self.accept_absent(self.memory.delete_tag(tag).await)
        }

        async fn delete_manifest(&self, digest: &Digest) -> crate::Result<()> {
            let manifest = self.manifest(&digest.clone().into()).await;
            let manifest = match manifest {
                Ok(manifest) => manifest,
                Err(error) => return self.accept_absent(Err(error)),
            };
            self.refuse()?;
            if self.flaw == DeleteFlaw::KeepsTaggedManifests
                && !self.memory.tags().collect::<Vec<_>>().await.is_empty()
            {
                return Ok(());
            }
            if self.flaw == DeleteFlaw::DeletesBlobsOfManifest {
                for successor in manifest.successors() {
                    let _ = self.memory.delete_blob(&successor.digest).await;
                }
            }
            self.memory.delete_manifest(digest).await
        }

        async fn delete_blob(&self, digest: &Digest) -> crate::Result<()> {
            if self.flaw == DeleteFlaw::RefusesAll
                && self
                    .memory
                    .blob(&Descriptor::new(MediaType::OCTET_STREAM, digest.clone(), 3))
                    .await
                    .is_ok()
            {
                return self.refuse();
            }
            self.accept_absent(self.memory.delete_blob(digest).await)
        }
    }

    #[tokio::test]
    async fn defective_deletion_violates_its_conformance_requirement() {
        let check = async |flaw, capabilities| {
            let make = async || {
                let memory = Memory::new();
                Ok(Arc::new(FaultyDelete { memory, flaw }) as Arc<dyn Delete>)
            };
            run_deletions(capabilities, make).await
        };
        let all = Capabilities::default();
        assert!(check(DeleteFlaw::None, all).await.is_ok());
        for (flaw, requirement) in [
            (DeleteFlaw::DeletesManifestOfTag, REQUIREMENTS[0].0),
            (DeleteFlaw::KeepsTaggedManifests, REQUIREMENTS[3].0),
            (DeleteFlaw::DeletesBlobsOfManifest, REQUIREMENTS[3].0),
            (DeleteFlaw::ListsDeletedReferrers, REQUIREMENTS[6].0),
            (DeleteFlaw::AcceptsAbsent, REQUIREMENTS[9].0),
            (DeleteFlaw::RefusesAll, REQUIREMENTS[0].0),
        ] {
            let error = check(flaw, all).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the target violates the requirement `{requirement}`"),
                "{flaw:?}"
            );
        }
        // A target must refuse an operation that its capabilities exclude.
        let none = Capabilities {
            deletes_tags: false,
            deletes_manifests: false,
            deletes_blobs: false,
            ..all
        };
        let report = check(DeleteFlaw::RefusesAll, none).await.unwrap();
        assert_eq!(report.requirements.len(), REQUIREMENTS.len());
        assert!(check(DeleteFlaw::None, none).await.is_err());
    }
}
