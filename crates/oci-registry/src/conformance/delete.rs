//! The laws of places that let go ([`Delete`]).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::TryStreamExt;
use snafu::ResultExt;

use super::sample::{Sample, blob, index_of, named, numbered, tag};
use super::{Capabilities, LawSnafu, MakeSnafu, Place, Report, StepSnafu, Verdict, expect, fails};
use crate::blob::Blob;
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::manifest::{ImageManifest, Manifest, MediaType};
use crate::storage::{Delete, Delivery};

/// Holds a kind of place to the laws of taking content away, each in a fresh and empty place of its own, as [`super::run`]
/// holds it to those of bringing it. What a place declares that it does not delete must be refused and stay.
///
/// # Errors
///
/// As [`super::run`].
pub async fn run_deletions(
    capabilities: Capabilities,
    make: impl AsyncFn() -> crate::Result<Arc<dyn Delete>>,
) -> crate::Result<Report> {
    let mut laws = Vec::new();
    for (law, holds) in LAWS.iter().copied() {
        let target = make().await.context(MakeSnafu { law })?;
        let place = Letting {
            place: Place {
                target: Arc::clone(&target) as _,
                capabilities,
            },
            target,
        };
        holds(&place).await.context(LawSnafu { law })?;
        laws.push(law);
    }
    Ok(Report { laws })
}

/// A fresh target that lets go.
struct Letting {
    place: Place,
    target: Arc<dyn Delete>,
}

laws! {
    Letting:
    "a tag that is deleted leaves its siblings and the manifest" => tag_alone,
    "the last tag of a manifest leaves it" => last_tag,
    "a tag that was deleted can name something else" => tag_after,
    "a manifest that is deleted takes its tags along, and nothing else" => manifest_with_tags,
    "a manifest without a tag can be deleted" => untagged_manifest,
    "an index that is deleted leaves its manifests" => index_alone,
    "what is about a manifest is no longer told of when it is deleted" => referrer,
    "a blob that is deleted is gone, and no other" => blob_alone,
    "what was deleted can be brought again" => brought_again,
    "deleting what is not there is not found" => absent,
}

impl Letting {
    /// Takes a tag away. Where that is not to be had, it is refused as declared, and `false`.
    async fn delete_tag(&self, name: &'static str) -> Verdict<bool> {
        let deleted = self.target.delete_tag(&tag(name)).await;
        if self.place.capabilities.deletes_tags {
            deleted.context(StepSnafu {
                step: "delete a tag",
            })?;
            self.place.expect_no_manifest(&named(&tag(name))).await?;
            return Ok(true);
        }
        fails(deleted, ErrorKind::Unsupported, "deleting a tag")?;
        let still = self.place.manifest(&named(&tag(name))).await?;
        let exists = self.place.exists(&still.descriptor()).await?;
        expect(exists, "a tag that was not deleted to name what it named")?;
        Ok(false)
    }

    async fn delete_manifest(&self, manifest: &Manifest) -> Verdict<bool> {
        let deleted = self.target.delete_manifest(manifest.digest()).await;
        if self.place.capabilities.deletes_manifests {
            deleted.context(StepSnafu {
                step: "delete a manifest",
            })?;
            self.place.expect_no_manifest(&numbered(manifest)).await?;
            let exists = self.place.exists(&manifest.descriptor()).await?;
            expect(!exists, "a deleted manifest not to exist")?;
            return Ok(true);
        }
        fails(deleted, ErrorKind::Unsupported, "deleting a manifest")?;
        self.place
            .expect_manifest(&numbered(manifest), manifest)
            .await?;
        Ok(false)
    }

    async fn delete_blob(&self, blob: &Blob) -> Verdict<bool> {
        let deleted = self.target.delete_blob(blob.digest()).await;
        if self.place.capabilities.deletes_blobs {
            deleted.context(StepSnafu {
                step: "delete a blob",
            })?;
            self.place.expect_no_blob(blob.descriptor()).await?;
            return Ok(true);
        }
        fails(deleted, ErrorKind::Unsupported, "deleting a blob")?;
        let exists = self.place.exists(blob.descriptor()).await?;
        expect(exists, "a blob that was not deleted to exist")?;
        Ok(false)
    }

    /// The digests of what is about a manifest, sorted.
    async fn referrers(&self, subject: &Manifest) -> Verdict<Vec<Digest>> {
        let listed = self.target.referrers(subject.digest(), None);
        let listed: crate::Result<Vec<_>> = listed.map_ok(|entry| entry.digest).try_collect().await;
        let mut listed = listed.context(StepSnafu {
            step: "list what is about a manifest",
        })?;
        listed.sort();
        Ok(listed)
    }
}

async fn tag_alone(letting: &Letting) -> Verdict {
    let (place, sample) = (&letting.place, Sample::image("one"));
    place.push(&sample).await?;
    for name in ["1", "1.0", "latest"] {
        place.tag(&sample.manifest, &tag(name)).await?;
    }
    if letting.delete_tag("1.0").await? {
        expect(
            place.tags().await? == [tag("1"), tag("latest")],
            "a deleted tag, and no other, not to be listed",
        )?;
    }
    for name in [tag("1"), tag("latest")] {
        place
            .expect_manifest(&named(&name), &sample.manifest)
            .await?;
    }
    place
        .expect_manifest(&numbered(&sample.manifest), &sample.manifest)
        .await
}

async fn last_tag(letting: &Letting) -> Verdict {
    let (place, sample) = (&letting.place, Sample::image("one"));
    place.push(&sample).await?;
    place.tag(&sample.manifest, &tag("1")).await?;
    if letting.delete_tag("1").await? {
        let is_empty = place.tags().await?.is_empty();
        expect(is_empty, "no tag to be left when the only one is deleted")?;
    }
    place
        .expect_manifest(&numbered(&sample.manifest), &sample.manifest)
        .await?;
    for blob in &sample.blobs {
        let exists = place.exists(blob.descriptor()).await?;
        expect(exists, "what a manifest names to stay with it")?;
    }
    Ok(())
}

async fn tag_after(letting: &Letting) -> Verdict {
    let place = &letting.place;
    let (one, two) = (Sample::image("one"), Sample::image("two"));
    place.push(&one).await?;
    place.push(&two).await?;
    place.tag(&one.manifest, &tag("1")).await?;
    letting.delete_tag("1").await?;
    place.tag(&two.manifest, &tag("1")).await?;
    place
        .expect_manifest(&named(&tag("1")), &two.manifest)
        .await?;
    place
        .expect_manifest(&numbered(&one.manifest), &one.manifest)
        .await
}

async fn manifest_with_tags(letting: &Letting) -> Verdict {
    let place = &letting.place;
    let (one, two) = (Sample::image("one"), Sample::image("two"));
    for sample in [&one, &two] {
        place.push(sample).await?;
    }
    for name in ["1", "1.0"] {
        place.tag(&one.manifest, &tag(name)).await?;
    }
    place.tag(&two.manifest, &tag("2")).await?;
    if letting.delete_manifest(&one.manifest).await? {
        for name in ["1", "1.0"] {
            place.expect_no_manifest(&named(&tag(name))).await?;
        }
        expect(
            place.tags().await? == [tag("2")],
            "the tags of a deleted manifest, and no others, not to be listed",
        )?;
        for blob in &one.blobs {
            let exists = place.exists(blob.descriptor()).await?;
            expect(exists, "what a deleted manifest named to stay")?;
        }
    }
    place
        .expect_manifest(&named(&tag("2")), &two.manifest)
        .await
}

async fn untagged_manifest(letting: &Letting) -> Verdict {
    let sample = Sample::image("one");
    letting.place.push(&sample).await?;
    letting.delete_manifest(&sample.manifest).await?;
    Ok(())
}

async fn index_alone(letting: &Letting) -> Verdict {
    let place = &letting.place;
    let (one, two) = (Sample::image("one"), Sample::image("two"));
    for sample in [&one, &two] {
        place.push(sample).await?;
    }
    let index = index_of(&[&one.manifest, &two.manifest]);
    place.push_manifest(&index).await?;
    place.tag(&index, &tag("1")).await?;
    place.tag(&one.manifest, &tag("one")).await?;
    if letting.delete_manifest(&index).await? {
        place.expect_no_manifest(&named(&tag("1"))).await?;
    }
    for sample in [&one, &two] {
        place
            .expect_manifest(&numbered(&sample.manifest), &sample.manifest)
            .await?;
    }
    place
        .expect_manifest(&named(&tag("one")), &one.manifest)
        .await
}

/// A note about a manifest.
fn about(subject: &Manifest, kind: &'static str) -> (Blob, Manifest) {
    let config = Blob::empty();
    let mut note = ImageManifest::new(MediaType::new_static(kind), config.descriptor().clone());
    note.subject = Some(subject.descriptor());
    let note = Manifest::from_image(note).expect("the manifests of the laws are small");
    (config, note)
}

async fn referrer(letting: &Letting) -> Verdict {
    let (place, sample) = (&letting.place, Sample::image("one"));
    place.push(&sample).await?;
    let mut notes = Vec::new();
    for kind in ["application/vnd.acme.note", "application/vnd.acme.other"] {
        let (config, note) = about(&sample.manifest, kind);
        place.push_blob(&config).await?;
        place.push_manifest(&note).await?;
        notes.push(note);
    }
    notes.sort_by_key(|note| note.digest().clone());
    let listed = |notes: &[Manifest]| -> Vec<Digest> {
        notes.iter().map(|note| note.digest().clone()).collect()
    };
    let told = "what is about a manifest to be told, and nothing that is not there";
    expect(
        letting.referrers(&sample.manifest).await? == listed(&notes),
        told,
    )?;
    while let Some(note) = notes.pop() {
        if !letting.delete_manifest(&note).await? {
            break;
        }
        let left = letting.referrers(&sample.manifest).await?;
        expect(left == listed(&notes), told)?;
    }
    place
        .expect_manifest(&numbered(&sample.manifest), &sample.manifest)
        .await
}

async fn blob_alone(letting: &Letting) -> Verdict {
    let place = &letting.place;
    let (one, two) = (blob("one"), blob("two"));
    for blob in [&one, &two] {
        place.push_blob(blob).await?;
    }
    letting.delete_blob(&one).await?;
    place.expect_blob(two.descriptor(), b"two").await
}

async fn brought_again(letting: &Letting) -> Verdict {
    let (place, sample) = (&letting.place, Sample::image("one"));
    place.push(&sample).await?;
    place.tag(&sample.manifest, &tag("1")).await?;
    let is_gone = letting.delete_manifest(&sample.manifest).await?;
    for blob in sample.blobs.iter().filter(|_| is_gone) {
        if letting.delete_blob(blob).await? {
            let delivery = place.push_blob(blob).await?;
            expect(
                delivery != Delivery::Existed,
                "a blob that was deleted to be brought again",
            )?;
        }
    }
    place.push(&sample).await?;
    place.tag(&sample.manifest, &tag("1")).await?;
    place
        .expect_manifest(&named(&tag("1")), &sample.manifest)
        .await?;
    let layer = &sample.blobs[1];
    place
        .expect_blob(layer.descriptor(), b"the layer of one")
        .await
}

async fn absent(letting: &Letting) -> Verdict {
    // Repositories may share content behind their backs, so this is what no other law brings.
    let (place, sample) = (&letting.place, Sample::image("never brought"));
    let other = Sample::image("other");
    // A registry may say of an empty repository that it is none; that is "not found" as well.
    for is_empty in [true, false] {
        if !is_empty {
            place.push(&other).await?;
            place.tag(&other.manifest, &tag("other")).await?;
        }
        let deleted = letting.target.delete_tag(&tag("1")).await;
        fails(deleted, ErrorKind::NotFound, "deleting an absent tag")?;
        let deleted = letting.target.delete_manifest(sample.manifest.digest());
        let deleted = deleted.await;
        fails(deleted, ErrorKind::NotFound, "deleting an absent manifest")?;
        let deleted = letting.target.delete_blob(sample.blobs[1].digest()).await;
        fails(deleted, ErrorKind::NotFound, "deleting an absent blob")?;
    }
    place
        .expect_manifest(&named(&tag("other")), &other.manifest)
        .await?;
    if letting.delete_tag("other").await? {
        let again = letting.target.delete_tag(&tag("other")).await;
        fails(again, ErrorKind::NotFound, "deleting a tag again")?;
    }
    if letting.delete_manifest(&other.manifest).await? {
        let again = letting.target.delete_manifest(other.manifest.digest());
        fails(
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
    async fn memory_lets_go_as_it_should() {
        let make = async || Ok(Arc::new(Memory::new()) as Arc<dyn Delete>);
        let report = run_deletions(Capabilities::default(), make).await.unwrap();
        println!("memory, letting go: {report}");
        assert_eq!(report.laws.len(), LAWS.len());
    }

    #[tokio::test]
    async fn a_layout_lets_go_as_it_should() {
        let home = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicUsize::new(0);
        let make = async || {
            let at = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let layout = Layout::create(home.path().join(at.to_string())).await?;
            Ok(Arc::new(layout) as Arc<dyn Delete>)
        };
        let report = run_deletions(Capabilities::default(), make).await.unwrap();
        println!("layout, letting go: {report}");
    }

    /// A place that lets go in a wrong way.
    #[derive(Debug)]
    struct Wrong {
        memory: Memory,
        flaw: Flaw,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Flaw {
        None,
        TakesTheManifest,
        KeepsTheTags,
        AbsentIsFine,
        KeepsAccounts,
        TakesAllBlobs,
        Refuses,
    }

    #[async_trait]
    impl Source for Wrong {
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
            if self.flaw == Flaw::KeepsAccounts {
                let note = about(&Sample::image("one").manifest, "application/vnd.acme.note");
                let told = self.memory.referrers(subject, kind);
                let gone = futures_util::stream::iter([Ok(note.1.descriptor())]);
                return told.chain(gone).boxed();
            }
            self.memory.referrers(subject, kind)
        }

        fn describe(&self, identifier: &Identifier) -> String {
            self.memory.describe(identifier)
        }
    }

    #[async_trait]
    impl Target for Wrong {
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
    }

    impl Wrong {
        fn refuses(&self) -> crate::Result<()> {
            let refusal = std::io::Error::other("nothing is deleted here");
            if self.flaw == Flaw::Refuses {
                return Err(crate::Error::new(ErrorKind::Unsupported, refusal));
            }
            Ok(())
        }

        fn forgiving(&self, deleted: crate::Result<()>) -> crate::Result<()> {
            if self.flaw == Flaw::AbsentIsFine {
                return Ok(());
            }
            deleted
        }
    }

    #[async_trait]
    impl Delete for Wrong {
        async fn delete_tag(&self, tag: &Tag) -> crate::Result<()> {
            let held = self.resolve(&named(tag)).await;
            if let (Flaw::TakesTheManifest, Ok(held)) = (self.flaw, &held) {
                return self.memory.delete_manifest(&held.digest).await;
            }
            self.forgiving(held.map(drop))?;
            self.refuses()?;
            self.forgiving(self.memory.delete_tag(tag).await)
        }

        async fn delete_manifest(&self, digest: &Digest) -> crate::Result<()> {
            let manifest = self.manifest(&digest.clone().into()).await;
            let manifest = match manifest {
                Ok(manifest) => manifest,
                Err(error) => return self.forgiving(Err(error)),
            };
            self.refuses()?;
            if self.flaw == Flaw::KeepsTheTags
                && !self.memory.tags().collect::<Vec<_>>().await.is_empty()
            {
                return Ok(());
            }
            if self.flaw == Flaw::TakesAllBlobs {
                for successor in manifest.successors() {
                    let _ = self.memory.delete_blob(&successor.digest).await;
                }
            }
            self.memory.delete_manifest(digest).await
        }

        async fn delete_blob(&self, digest: &Digest) -> crate::Result<()> {
            if self.flaw == Flaw::Refuses
                && self
                    .memory
                    .blob(&Descriptor::new(MediaType::OCTET_STREAM, digest.clone(), 3))
                    .await
                    .is_ok()
            {
                return self.refuses();
            }
            self.forgiving(self.memory.delete_blob(digest).await)
        }
    }

    #[tokio::test]
    async fn each_flaw_breaks_the_law_that_forbids_it() {
        let hold = async |flaw, capabilities| {
            let make = async || {
                let memory = Memory::new();
                Ok(Arc::new(Wrong { memory, flaw }) as Arc<dyn Delete>)
            };
            run_deletions(capabilities, make).await
        };
        let all = Capabilities::default();
        assert!(hold(Flaw::None, all).await.is_ok());
        for (flaw, law) in [
            (Flaw::TakesTheManifest, LAWS[0].0),
            (Flaw::KeepsTheTags, LAWS[3].0),
            (Flaw::TakesAllBlobs, LAWS[3].0),
            (Flaw::KeepsAccounts, LAWS[6].0),
            (Flaw::AbsentIsFine, LAWS[9].0),
            (Flaw::Refuses, LAWS[0].0),
        ] {
            let error = hold(flaw, all).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the target breaks the law `{law}`"),
                "{flaw:?}"
            );
        }
        // What is declared not to be had must be refused.
        let none = Capabilities {
            deletes_tags: false,
            deletes_manifests: false,
            deletes_blobs: false,
            ..all
        };
        let report = hold(Flaw::Refuses, none).await.unwrap();
        assert_eq!(report.laws.len(), LAWS.len());
        assert!(hold(Flaw::None, none).await.is_err());
    }
}
