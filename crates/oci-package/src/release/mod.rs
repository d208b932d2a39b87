//! Publishing of an artifact for one target, concurrently with jobs that publish other targets of the same version.
//!
//! Registries have no conditional update of a tag, so concurrent writers can overwrite each other's index. The
//! authoritative state is therefore in the tags `VERSION__TRIPLE`. Only one job writes each of these tags. The index is
//! computed from these tags, so writers that read the same tags write identical bytes. A writer verifies after a delay
//! that its index is still stored. A released version is immutable: different files are rejected, and the stored
//! manifest is kept if the files are the same. A tag that is not a version, such as `nightly`, is a moving tag: later
//! publications may set it to different files.
//!
//! | step | requests | module |
//! | --- | --- | --- |
//! | 1. check whether everything is stored | GET `VERSION`, HEAD `VERSION__TRIPLE` | [`publication`] |
//! | 2. blobs, manifest, `VERSION__TRIPLE`, read back | one or more per item | [`publication`] |
//! | 3. update the index | GET each tag, GET `VERSION`, PUT if different | [`index_update`] |
//! | 4. verify the index after a write | list, GET `VERSION` | [`index_update`] |
//!
//! Manual edits of an index ([`edit`]) follow the same order: the tag of an added target is set first, and the tag of a
//! removed target is deleted first. The deletion of a version ([`tag_deletion`]) deletes the tags of all its targets
//! before its own tag. The module [`foreign_index`] edits an index that is not the index of a package.
//!
//! This module defines the order of requests and the handling of concurrent writers. The core library sends, retries
//! and authenticates requests. Progress is reported to the [`PublishObserver`].

mod deleted_set;
mod edit;
mod error;
mod event;
mod existing_tags;
mod floating;
mod foreign_index;
mod index_update;
mod publication;
mod stored;
mod tag_deletion;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use oci_registry::{
    Delivery, Descriptor, Digest, Identifier, Manifest, Optional as _, Tag, Target,
};
use snafu::ResultExt;

use crate::artifact::Artifact;
use crate::concurrent;
use crate::tag::ReleaseTag;
pub use deleted_set::DeletedSet;
pub use edit::{
    AddOptions, EntryLocation, EntrySelector, RemovedEntries, add, find_entry, plan_removal, remove,
};
use error::CheckBlobSnafu;
pub use event::{Note, PublishEvent, PublishObserver};
pub use existing_tags::TaggedDigest;
pub use floating::{
    FloatingTagUpdate, other_release_targets, plan_floating_tags, update_floating_tags,
};
use index_update::pause;
use publication::{OwnManifest, TagDecision, TargetPublication};
pub use stored::StoredTags;
pub use tag_deletion::{DeletionNote, IndexTags, TagDeletion, find_index_tags, plan_tag_deletion};

/// Maximum number of concurrent reads of manifests.
const MAX_CONCURRENT_READS: usize = 8;

/// Options of [`publish`].
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// Whether the manifest of a released version is replaced if it differs, also if it has the same files.
    pub overwrite: bool,
    /// Whether the index is written. Otherwise only the tag of the target is set.
    pub index: bool,
    /// All targets of the release, if they are known in advance. The index is then written only once, after the
    /// manifests of all targets exist.
    pub declared: Option<BTreeSet<String>>,
    /// Maximum number of concurrent uploads of blobs, at least 1.
    pub concurrency: usize,
    /// Tags that were read before the publication. May be empty.
    pub stored: StoredTags,
    /// Manifests of other targets that the same push publishes. [`plan`] includes them in the index.
    pub planned: Vec<Manifest>,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            overwrite: false,
            index: true,
            declared: None,
            concurrency: 4,
            stored: StoredTags::default(),
            planned: Vec::new(),
        }
    }
}

/// Outcome of [`publish`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Published {
    /// The manifest for the target: the manifest of the artifact, or the stored manifest with the same files.
    pub manifest: Manifest,
    /// Delivery of each blob. Empty if no blob was sent.
    pub blobs: Vec<(Descriptor, Delivery)>,
    /// Outcome for each tag, in the order of the arguments.
    pub tags: Vec<PublishedTag>,
}

/// Outcome of a publication for one tag.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishedTag {
    /// Tag of the index.
    pub tag: ReleaseTag,
    /// Tag of the target's manifest.
    pub target_tag: Tag,
    /// Action for the tag of the target.
    pub action: TagAction,
    /// The index. `None` if the options disable it, if declared targets are missing, or if a later writer moved the
    /// tag.
    pub index: Option<Manifest>,
    /// Whether the index differs from the stored index.
    pub index_changes: bool,
    /// Declared targets that were not pushed yet, in byte order.
    pub missing: Vec<String>,
}

/// Action for a target tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagAction {
    /// The tag is kept. It points to the manifest, or to a stored manifest with the same files.
    Keep,
    /// The tag is created, or set again after it was deleted.
    Create,
    /// The tag is moved from another manifest.
    Replace,
    /// The tag was set, then moved by a later writer.
    Superseded,
}

/// Publishes an artifact with the given tags. Releases are published before moving tags.
///
/// All checks precede the first upload. After an interrupted publication, no tag points to incomplete content. The same
/// call resumes the publication.
///
/// # Errors
///
/// [`ErrorKind::Conflict`](oci_registry::ErrorKind::Conflict) if a released version has other files, if an index is not
/// the index of a package or cannot be changed, or if concurrent writers change it in every attempt. Otherwise the
/// error of the target.
pub async fn publish(
    artifact: &Artifact,
    to: &dyn Target,
    tags: &[ReleaseTag],
    options: &PublishOptions,
    observer: &PublishObserver<'_>,
) -> crate::Result<Published> {
    let pending = publish_target(artifact, to, tags, options, observer).await?;
    pending.update_indexes().await
}

/// Publication whose target is published and whose indexes are not updated yet.
#[must_use = "the indexes are not updated yet"]
pub struct PendingPublication<'a> {
    tags: &'a [ReleaseTag],
    own: OwnManifest,
    blobs: Vec<(Descriptor, Delivery)>,
    targets: Vec<(TargetPublication<'a>, TagDecision)>,
}

/// Performs the first part of [`publish`]: sends the content and sets the tags of the target.
///
/// A caller that publishes several artifacts publishes all targets first, and then updates the indexes concurrently.
/// An index that is updated after the tags of several targets were set is written only once.
///
/// # Errors
///
/// As [`publish`].
pub async fn publish_target<'a>(
    artifact: &'a Artifact,
    to: &'a dyn Target,
    tags: &'a [ReleaseTag],
    options: &'a PublishOptions,
    observer: &'a PublishObserver<'a>,
) -> crate::Result<PendingPublication<'a>> {
    let mut own = OwnManifest {
        manifest: artifact.manifest().clone(),
        is_stored: false,
    };
    let mut blobs = Vec::new();
    let mut targets = target_publications(artifact, to, tags, options, observer)?;

    // All checks precede the first write. If a release keeps its stored manifest, the moving tags point to that
    // manifest, too.
    let mut decisions = Vec::new();
    for target in &mut targets {
        decisions.push(target.decide(&mut own).await?);
    }
    for (target, decision) in targets.iter_mut().zip(&mut decisions) {
        target.write_target(&mut own, decision, &mut blobs).await?;
    }
    Ok(PendingPublication {
        tags,
        own,
        blobs,
        targets: targets.into_iter().zip(decisions).collect(),
    })
}

impl PendingPublication<'_> {
    /// Performs the second part of [`publish`]: updates the index of each tag.
    ///
    /// # Errors
    ///
    /// As [`publish`].
    pub async fn update_indexes(mut self) -> crate::Result<Published> {
        let mut tags = Vec::new();
        for (mut target, decision) in self.targets {
            tags.push(target.write_index(&mut self.own, decision).await?);
        }
        tags.sort_by_key(|outcome| self.tags.iter().position(|tag| *tag == outcome.tag));
        Ok(Published {
            manifest: self.own.manifest,
            blobs: self.blobs,
            tags,
        })
    }
}

impl fmt::Debug for PendingPublication<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingPublication")
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}

/// Outcome that a publication would have.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishPlan {
    /// The manifest that the tags would point to: the manifest of the artifact, or the stored manifest with the same
    /// files.
    pub manifest: Manifest,
    /// The blobs, and whether each blob is already stored. Empty if no blobs would be sent.
    pub blobs: Vec<(Descriptor, bool)>,
    /// Outcome for each tag, in the order of the arguments.
    pub tags: Vec<PlannedTag>,
}

/// Outcome that a publication would have for one tag.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlannedTag {
    /// Tag of the index.
    pub tag: ReleaseTag,
    /// Tag of the target's manifest.
    pub target_tag: Tag,
    /// Action for the tag of the target.
    pub action: TagAction,
    /// The index that would be written, or that is already up to date. `None` if there would be no index.
    pub index: Option<Manifest>,
    /// Whether the index differs from the stored index.
    pub index_changes: bool,
    /// Declared targets that would not be pushed yet, in byte order.
    pub missing: Vec<String>,
    /// Floating tags that would be moved from the replaced index to the index.
    pub floating_tags: Vec<Tag>,
}

/// Returns the outcome that [`publish`] would have. Sends read requests only.
///
/// # Errors
///
/// As [`publish`], except for errors that only a write can cause.
pub async fn plan(
    artifact: &Artifact,
    to: &dyn Target,
    tags: &[ReleaseTag],
    options: &PublishOptions,
    observer: &PublishObserver<'_>,
) -> crate::Result<PublishPlan> {
    let mut own = OwnManifest {
        manifest: artifact.manifest().clone(),
        is_stored: false,
    };
    let mut planned = Vec::new();
    for target in &mut target_publications(artifact, to, tags, options, observer)? {
        let decision = target.decide(&mut own).await?;
        planned.push(target.plan(&mut own, decision).await?);
    }
    planned.sort_by_key(|planned| tags.iter().position(|tag| *tag == planned.tag));
    let blobs = artifact.packed().blobs().filter(|_| !own.is_stored);
    let checks = blobs.map(async |blob| {
        let descriptor = blob.descriptor();
        let exists = to.exists(descriptor).await;
        let digest = descriptor.digest.as_str();
        let exists = exists.context(CheckBlobSnafu { digest })?;
        Ok((descriptor.clone(), exists))
    });
    let blobs = concurrent::run_all(options.concurrency, checks.collect()).await?;
    Ok(PublishPlan {
        manifest: own.manifest,
        blobs,
        tags: planned,
    })
}

/// Writes the index of a version from its target tags, and returns it.
///
/// Callers use this function for versions whose targets were pushed without an index, and after a failed publication.
///
/// # Errors
///
/// [`ErrorKind::NotFound`](oci_registry::ErrorKind::NotFound) if there are no targets. Otherwise as [`publish`].
pub async fn assemble(
    to: &dyn Target,
    tag: &ReleaseTag,
    observer: &PublishObserver<'_>,
) -> crate::Result<Manifest> {
    let options = PublishOptions::default();
    let mut writer = ReleaseWriter::new(to, tag, &options, observer, Digest::sha256(b"assemble"));
    let written = writer.update_index(None).await?;
    match written {
        Some(index) => Ok(index),
        None => Err(error::NoTargetsSnafu {
            name: writer.full_name(tag.index()),
        }
        .build()
        .into()),
    }
}

/// Creates the publications for the given tags, without duplicates and with releases first. If a release keeps its
/// stored manifest, the moving tags point to that manifest, too.
fn target_publications<'a>(
    artifact: &'a Artifact,
    to: &'a dyn Target,
    tags: &'a [ReleaseTag],
    options: &'a PublishOptions,
    observer: &'a PublishObserver<'a>,
) -> crate::Result<Vec<TargetPublication<'a>>> {
    let mut tags: Vec<_> = tags.iter().collect();
    tags.sort_by_key(|tag| (!tag.is_released(), *tag));
    tags.dedup();
    let targets = tags.into_iter().map(|release| {
        let tag = release.target(artifact.target())?;
        for target in options.declared.iter().flatten() {
            release.target(target)?;
        }
        let seed = artifact.manifest().digest().clone();
        Ok(TargetPublication {
            writer: ReleaseWriter::new(to, release, options, observer, seed),
            artifact: Some(artifact),
            target: artifact.target(),
            tag,
        })
    });
    targets.collect()
}

/// Writer of one version: its options, and the state that it has read.
struct ReleaseWriter<'a> {
    to: &'a dyn Target,
    tag: &'a ReleaseTag,
    options: &'a PublishOptions,
    observer: &'a PublishObserver<'a>,
    /// Cache of the manifests that were read.
    manifests: BTreeMap<Digest, Manifest>,
    /// Digests of manifests that an index listed although they do not exist.
    missing_manifests: BTreeSet<Digest>,
    /// Target tags that this writer has set or found. The registry may not list these tags yet.
    set_tags: BTreeSet<Tag>,
    /// Targets whose entries are removed, unless another job publishes them again.
    removed_targets: BTreeSet<String>,
    /// Digests of the entries by other tools that the index update removes.
    removed_foreign_entries: BTreeSet<Digest>,
    /// Whether the failure to list tags was reported.
    is_list_failure_reported: bool,
    /// Missing declared targets that prevented the index from being written.
    missing: Vec<String>,
    /// Digest of the index that was last read or written.
    last_index: Option<Digest>,
    /// Seed for the random delays of this writer.
    seed: Digest,
}

impl<'a> ReleaseWriter<'a> {
    fn new(
        to: &'a dyn Target,
        tag: &'a ReleaseTag,
        options: &'a PublishOptions,
        observer: &'a PublishObserver<'a>,
        seed: Digest,
    ) -> Self {
        Self {
            to,
            tag,
            options,
            observer,
            manifests: BTreeMap::new(),
            missing_manifests: BTreeSet::new(),
            set_tags: BTreeSet::new(),
            removed_targets: BTreeSet::new(),
            removed_foreign_entries: BTreeSet::new(),
            is_list_failure_reported: false,
            missing: Vec::new(),
            last_index: None,
            seed,
        }
    }

    /// Returns the full name of a tag for messages.
    fn full_name(&self, tag: &Tag) -> String {
        self.to.describe(&Identifier::Tag(tag.clone()))
    }

    fn report_note(&self, note: Note) {
        (self.observer)(PublishEvent::Note(note));
    }

    /// Reads the manifest that a tag points to.
    async fn read_manifest(&self, tag: &Tag) -> crate::Result<Option<Manifest>> {
        let read = self.to.manifest(&tag.clone().into()).await.optional();
        Ok(read.with_context(|_| error::LookUpSnafu {
            name: self.full_name(tag),
        })?)
    }

    /// Reads manifests that are not cached. Manifests that do not exist are skipped.
    async fn fetch_manifests(
        &mut self,
        digests: impl IntoIterator<Item = &Digest>,
    ) -> crate::Result<()> {
        let unknown = digests
            .into_iter()
            .filter(|digest| !self.manifests.contains_key(digest));
        let unknown: Vec<Identifier> = unknown.cloned().map(Into::into).collect();
        let reads = unknown.iter().map(async |identifier| {
            let read = self.to.manifest(identifier).await.optional();
            let name = || self.to.describe(identifier);
            Ok(read.with_context(|_| error::LookUpSnafu { name: name() })?)
        });
        let read = concurrent::run_all(MAX_CONCURRENT_READS, reads.collect()).await?;
        self.cache_manifests(read.into_iter().flatten());
        Ok(())
    }

    fn cache_manifests(&mut self, manifests: impl IntoIterator<Item = Manifest>) {
        self.manifests.extend(
            manifests
                .into_iter()
                .map(|manifest| (manifest.digest().clone(), manifest)),
        );
    }
}
