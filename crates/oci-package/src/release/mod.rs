//! Publishing: an artifact for one target goes to a registry, under a version that other jobs publish to as well.
//!
//! Registries offer no way to change an index only if it is still the one that was read. So the truth is not in the
//! index but in the tags `VERSION__TRIPLE`, of which every job writes only its own, and the index is computed from them:
//! whoever knows the same manifests writes the same bytes. A writer that may have been overtaken looks again a moment
//! later. What was released stays: other files under the same version are refused, the same files are kept.
//!
//! | step | requests | where |
//! | --- | --- | --- |
//! | 1. is everything there already? | GET `VERSION`, HEAD `VERSION__TRIPLE` | [`publication`] |
//! | 2. blobs, manifest, `VERSION__TRIPLE`, read back | as many as there are | [`publication`] |
//! | 3. the index | GET each tag, GET `VERSION`, PUT if different | [`index_update`] |
//! | 4. the late look, after we wrote | list, GET `VERSION` | [`index_update`] |
//!
//! An index that is edited by hand goes the same way ([`edit`]): what is added gets its tag first, what is taken out loses
//! its tag first. An index of anybody's is changed as it is ([`foreign_index`]).
//!
//! Owns the order of requests and what to do when others are at work. How a request is made, retried and authorised is
//! the core's; nothing is printed, the [`PublishObserver`] is told.

mod deleted_set;
mod edit;
mod error;
mod event;
mod floating;
mod foreign_index;
mod index_update;
mod publication;
mod stored;

use std::collections::{BTreeMap, BTreeSet};

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
pub use floating::{FloatingTagUpdate, update_floating_tags};
use index_update::pause;
use publication::{OwnManifest, TargetPublication};
pub use stored::StoredTags;

/// How many manifests are read at once.
const READS_AT_ONCE: usize = 8;

/// How to publish.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// Whether a released version may get other files.
    pub overwrite: bool,
    /// Whether the index is written. Without it, only the tag for the target is.
    pub index: bool,
    /// All targets of the release, where they are known beforehand: the index is then written once, by the last of them.
    pub declared: Option<BTreeSet<String>>,
    /// How many blobs are sent at the same time, at least 1.
    pub concurrency: usize,
    /// What the tags named when they were read before; empty if they were not.
    pub stored: StoredTags,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            overwrite: false,
            index: true,
            declared: None,
            concurrency: 4,
            stored: StoredTags::default(),
        }
    }
}

/// What was published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Published {
    /// The manifest for the target: the one that was sent, or the stored one with the same files.
    pub manifest: Manifest,
    /// How each blob came to be there; empty when nothing had to be sent.
    pub blobs: Vec<(Descriptor, Delivery)>,
    /// What each tag names now, in the order in which they were asked for.
    pub tags: Vec<PublishedTag>,
}

/// What one version's tags name after a publication.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishedTag {
    /// The tag of the index.
    pub tag: ReleaseTag,
    /// The tag of the target's manifest.
    pub target_tag: Tag,
    /// What was done with the target's tag.
    pub action: TagAction,
    /// The index, unless it was not to be written, waits for other declared targets, or was a later writer's to write.
    pub index: Option<Manifest>,
}

/// What is done with the tag of a target's manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagAction {
    /// It names the manifest already, or one with the same files that is kept.
    Keep,
    /// It is new, or was lost and is set again.
    Create,
    /// It named something else.
    Replace,
    /// It was set, and then moved on by a later writer.
    Superseded,
}

/// Publishes an artifact under these tags, releases before moving ones.
///
/// Everything that can be refused is refused before anything is sent. When it fails half-way, what is there is whole, and
/// the same call again completes it.
///
/// # Errors
///
/// [`ErrorKind::Conflict`](oci_registry::ErrorKind::Conflict) when a version was released with other files, when an index
/// is not one of a package or cannot be changed, or when other writers do not let it come to rest. Otherwise what the
/// target fails with.
pub async fn publish(
    artifact: &Artifact,
    to: &dyn Target,
    tags: &[ReleaseTag],
    options: &PublishOptions,
    observer: &PublishObserver<'_>,
) -> crate::Result<Published> {
    let mut own = OwnManifest {
        manifest: artifact.manifest().clone(),
        is_stored: false,
    };
    let mut published = Published {
        manifest: own.manifest.clone(),
        blobs: Vec::new(),
        tags: Vec::new(),
    };
    let mut targets = targets(artifact, to, tags, options, observer)?;

    // All refusals first, and what is kept of a release is what moving tags are to name as well.
    let mut decisions = Vec::new();
    for target in &mut targets {
        decisions.push(target.decide(&mut own).await?);
    }
    for (target, decision) in targets.iter_mut().zip(decisions) {
        let done = target
            .write(&mut own, decision, &mut published.blobs)
            .await?;
        published.tags.push(done);
    }
    published
        .tags
        .sort_by_key(|done| tags.iter().position(|tag| *tag == done.tag));
    published.manifest = own.manifest;
    Ok(published)
}

/// What a publication would do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishPlan {
    /// The manifest that the tags would name: the artifact's, or the stored one with the same files.
    pub manifest: Manifest,
    /// The blobs, and whether each is there already; empty when nothing would be sent.
    pub blobs: Vec<(Descriptor, bool)>,
    /// What each tag would name, in the order in which they were asked for.
    pub tags: Vec<PlannedTag>,
}

/// What would be done with one version's tags.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlannedTag {
    /// The tag of the index.
    pub tag: ReleaseTag,
    /// The tag of the target's manifest.
    pub target_tag: Tag,
    /// What would be done with the target's tag.
    pub action: TagAction,
    /// The index as it would be, unless it would not be written.
    pub index: Option<Manifest>,
    /// Whether that differs from what is there.
    pub index_changes: bool,
}

/// Finds out what [`publish`] would do, reading only.
///
/// # Errors
///
/// As [`publish`], for everything that can be known beforehand.
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
    for target in &mut targets(artifact, to, tags, options, observer)? {
        let decision = target.decide(&mut own).await?;
        planned.push(target.plan(&mut own, decision).await?);
    }
    planned.sort_by_key(|planned| tags.iter().position(|tag| *tag == planned.tag));
    let blobs = artifact.packed().blobs().filter(|_| !own.is_stored);
    let asked = blobs.map(async |blob| {
        let descriptor = blob.descriptor();
        let is_there = to.exists(descriptor).await;
        let digest = descriptor.digest.as_str();
        let is_there = is_there.context(CheckBlobSnafu { digest })?;
        Ok((descriptor.clone(), is_there))
    });
    let blobs = concurrent::all(options.concurrency, asked.collect()).await?;
    Ok(PublishPlan {
        manifest: own.manifest,
        blobs,
        tags: planned,
    })
}

/// Writes the index of a version from the tags of its targets, and returns it.
///
/// For versions whose targets were pushed without their index, and for after a failure.
///
/// # Errors
///
/// [`ErrorKind::NotFound`](oci_registry::ErrorKind::NotFound) when there are no targets; otherwise as [`publish`].
pub async fn assemble(
    to: &dyn Target,
    tag: &ReleaseTag,
    observer: &PublishObserver<'_>,
) -> crate::Result<Manifest> {
    let options = PublishOptions::default();
    let mut writer = ReleaseWriter::new(to, tag, &options, observer, Digest::sha256(b"assemble"));
    let written = writer.converge(None).await?;
    match written {
        Some(index) => Ok(index),
        None => Err(error::NoTargetsSnafu {
            name: writer.name(tag.index()),
        }
        .build()
        .into()),
    }
}

/// The publications under these tags, each once, those of releases first: what they keep is what moving tags will name.
fn targets<'a>(
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

/// One version in one place: what is to be written there, and what was learnt on the way.
struct ReleaseWriter<'a> {
    to: &'a dyn Target,
    tag: &'a ReleaseTag,
    options: &'a PublishOptions,
    observer: &'a PublishObserver<'a>,
    /// Manifests that were read, so that none is fetched twice.
    known: BTreeMap<Digest, Manifest>,
    /// Manifests that an index held and the registry has no more.
    missing_manifests: BTreeSet<Digest>,
    /// Tags of targets that this writer knows to be set, whether or not the registry lists them yet.
    set_tags: BTreeSet<Tag>,
    /// Targets whose entries leave the index, unless somebody publishes them anew.
    removed_targets: BTreeSet<String>,
    /// What others added to the index, and leaves it.
    removed_foreign_entries: BTreeSet<Digest>,
    /// Whether it was said that the tags cannot be listed.
    is_list_failure_reported: bool,
    /// The index as it was last seen or written.
    last_index: Option<Digest>,
    /// What tells this writer's waits from another's.
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
            known: BTreeMap::new(),
            missing_manifests: BTreeSet::new(),
            set_tags: BTreeSet::new(),
            removed_targets: BTreeSet::new(),
            removed_foreign_entries: BTreeSet::new(),
            is_list_failure_reported: false,
            last_index: None,
            seed,
        }
    }

    /// How a person would write this tag with its place.
    fn name(&self, tag: &Tag) -> String {
        self.to.describe(&Identifier::Tag(tag.clone()))
    }

    fn note(&self, note: Note) {
        (self.observer)(PublishEvent::Note(note));
    }

    /// Reads what a tag names.
    async fn read(&self, tag: &Tag) -> crate::Result<Option<Manifest>> {
        let read = self.to.manifest(&tag.clone().into()).await.optional();
        Ok(read.with_context(|_| error::LookUpSnafu {
            name: self.name(tag),
        })?)
    }

    /// Reads these manifests that are not known yet; those that are not there stay unknown.
    async fn fetch(&mut self, digests: impl IntoIterator<Item = &Digest>) -> crate::Result<()> {
        let unknown = digests
            .into_iter()
            .filter(|digest| !self.known.contains_key(digest));
        let unknown: Vec<Identifier> = unknown.cloned().map(Into::into).collect();
        let reads = unknown.iter().map(async |identifier| {
            let read = self.to.manifest(identifier).await.optional();
            let name = || self.to.describe(identifier);
            Ok(read.with_context(|_| error::LookUpSnafu { name: name() })?)
        });
        let read = concurrent::all(READS_AT_ONCE, reads.collect()).await?;
        self.remember(read.into_iter().flatten());
        Ok(())
    }

    fn remember(&mut self, manifests: impl IntoIterator<Item = Manifest>) {
        self.known.extend(
            manifests
                .into_iter()
                .map(|manifest| (manifest.digest().clone(), manifest)),
        );
    }
}
