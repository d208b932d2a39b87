//! Steps 1 and 2: the manifest for one target, its blobs, and the tag that names it.
//!
//! Owns the decision whether anything is to be sent at all, and what becomes of a tag that others write too.

use futures_util::future;
use oci_registry::{
    Delivery, Descriptor, ErrorKind, Identifier, Manifest, Meter, Optional as _, Tag,
};
use snafu::{IntoError, ResultExt, ensure};

use super::error::{
    ForeignIndexSnafu, ForeignTargetSnafu, LookUpSnafu, OvertakenSnafu, ReleasedSnafu,
    SendBlobSnafu, SendManifestSnafu, SetTagSnafu, VanishedSnafu,
};
use super::{Note, PlannedTag, PublishEvent, PublishedTag, ReleaseWriter, TagAction};
use crate::annotation;
use crate::artifact::Artifact;
use crate::concurrent;
use crate::index::{IndexEntry, PackageIndex};
use crate::target::{PackageTarget, differences};

/// How often a tag that was just set is looked for when it cannot be read yet.
const READ_BACKS: usize = 4;

/// The manifest that is published.
pub(super) struct OwnManifest {
    /// The artifact's own, or the stored one with the same files.
    pub(super) manifest: Manifest,
    /// Whether it is at the target, with all it names.
    pub(super) is_stored: bool,
}

/// What is published here: a manifest, and the tag that it has or is to have.
pub(super) struct TagClaim<'a> {
    pub(super) own: &'a mut OwnManifest,
    pub(super) target: &'a str,
    pub(super) tag: &'a Tag,
    /// Whether the tag names the manifest by now.
    pub(super) is_set: bool,
}

/// The publication of one target under one tag.
pub(super) struct TargetPublication<'a> {
    pub(super) writer: ReleaseWriter<'a>,
    /// What is sent; nothing where the manifest is there already.
    pub(super) artifact: Option<&'a Artifact>,
    pub(super) target: &'a str,
    pub(super) tag: Tag,
}

/// What is to be done with the tag of the target, before anything is sent.
pub(super) struct TagDecision {
    pub(super) action: TagAction,
    /// The index, when it holds what it should already.
    pub(super) index: Option<Manifest>,
}

/// What the tag of the target names.
enum StoredManifest {
    Nothing,
    /// The very manifest.
    Own,
    /// Another one, found under the tag or, where the tag is lost, in the index.
    Other {
        manifest: Manifest,
        is_tagged: bool,
    },
}

impl TargetPublication<'_> {
    /// Step 1, and the reading half of step 2: what is stored, and what follows from it. Sends nothing.
    ///
    /// The stored manifest with the same files becomes `own`.
    pub(super) async fn decide(&mut self, own: &mut OwnManifest) -> crate::Result<TagDecision> {
        let writer = &mut self.writer;
        let (stored, index) =
            future::try_join(writer.resolve(&self.tag), writer.read_index()).await?;
        let entry = index
            .as_ref()
            .and_then(|(_, entries)| entries.entry(self.target));
        let entry = entry.map(|entry| entry.descriptor().clone());

        let mut stored = match stored {
            Some(stored) if stored.digest == *own.manifest.digest() => StoredManifest::Own,
            Some(_) => {
                let read = writer.read(&self.tag).await?;
                read.map_or(StoredManifest::Nothing, |manifest| StoredManifest::Other {
                    manifest,
                    is_tagged: true,
                })
            }
            None => StoredManifest::Nothing,
        };
        if let (StoredManifest::Nothing, Some(entry), true) =
            (&stored, &entry, writer.tag.is_released())
            && entry.digest != *own.manifest.digest()
        {
            // The tag is lost; what was released under it is still in the index, and still counts.
            writer.fetch([&entry.digest]).await?;
            if let Some(manifest) = writer.known.get(&entry.digest).cloned() {
                stored = StoredManifest::Other {
                    manifest,
                    is_tagged: false,
                };
            }
        }

        let action = match stored {
            StoredManifest::Own => {
                own.is_stored = true;
                TagAction::Keep
            }
            StoredManifest::Nothing => TagAction::Create,
            StoredManifest::Other { .. } if !writer.tag.is_released() => TagAction::Replace,
            StoredManifest::Other {
                manifest,
                is_tagged,
            } => self.decide_release(own, manifest, is_tagged)?,
        };
        let index = index.map(|(manifest, _)| manifest);
        self.writer.last_index = index.as_ref().map(|index| index.digest().clone());
        let wanted = IndexEntry::from_manifest(&own.manifest);
        let is_listed = wanted.is_some_and(|wanted| entry.as_ref() == Some(wanted.descriptor()));
        Ok(TagDecision {
            action,
            index: index.filter(|_| own.is_stored && is_listed),
        })
    }

    /// What was released stays, unless it is to be overwritten.
    fn decide_release(
        &self,
        own: &mut OwnManifest,
        stored: Manifest,
        is_tagged: bool,
    ) -> crate::Result<TagAction> {
        let (writer, target) = (&self.writer, self.target);
        let is_ours = PackageTarget::read(&stored).is_some_and(|stored| stored.target == target);
        let differences = differences(&stored, &own.manifest);
        if is_ours && differences.is_empty() {
            writer.note(Note::AlreadyPublished {
                tag: self.tag.clone(),
                stored: stored.digest().clone(),
            });
            *own = OwnManifest {
                manifest: stored,
                is_stored: true,
            };
            return Ok(if is_tagged {
                TagAction::Keep
            } else {
                TagAction::Create
            });
        }
        let name = || writer.name(&self.tag);
        ensure!(
            is_ours || writer.options.overwrite,
            ForeignTargetSnafu {
                name: name(),
                target
            }
        );
        ensure!(
            writer.options.overwrite,
            ReleasedSnafu {
                name: name(),
                differences
            }
        );
        Ok(TagAction::Replace)
    }

    /// Writes what was decided, and then the index.
    pub(super) async fn write(
        &mut self,
        own: &mut OwnManifest,
        decision: TagDecision,
        delivered: &mut Vec<(Descriptor, Delivery)>,
    ) -> crate::Result<PublishedTag> {
        let TagDecision { action, index } = decision;
        let done = |action, index| PublishedTag {
            tag: self.writer.tag.clone(),
            target_tag: self.tag.clone(),
            action,
            index,
        };
        let mut claim = TagClaim {
            own,
            target: self.target,
            tag: &self.tag,
            is_set: true,
        };
        if action != TagAction::Keep {
            if let Some(artifact) = self.artifact.filter(|_| !claim.own.is_stored) {
                *delivered = self.writer.send(artifact, &self.tag).await?;
                claim.own.is_stored = true;
            }
            if action == TagAction::Create && self.writer.tag.is_released() {
                // Sending took its time, and another job may have published meanwhile.
                if let Some(held) = self.writer.read(&self.tag).await? {
                    self.writer.accept(&mut claim, held)?;
                }
            }
            if !self.writer.set_tag(&mut claim).await? {
                return Ok(done(TagAction::Superseded, None));
            }
        }
        if !self.writer.options.index || index.is_some() {
            return Ok(done(action, index));
        }
        let index = self.writer.converge(Some(claim)).await?;
        Ok(done(action, index))
    }

    /// What writing would do.
    pub(super) async fn plan(
        &mut self,
        own: &mut OwnManifest,
        decision: TagDecision,
    ) -> crate::Result<PlannedTag> {
        let TagDecision { action, mut index } = decision;
        let mut index_changes = false;
        if self.writer.options.index && index.is_none() {
            let before = self.writer.last_index.clone();
            let claim = TagClaim {
                own,
                target: self.target,
                tag: &self.tag,
                is_set: false,
            };
            index = self.writer.plan_index(claim).await?;
            index_changes = index
                .as_ref()
                .is_some_and(|index| Some(index.digest()) != before.as_ref());
        }
        let (tag, target_tag) = (self.writer.tag.clone(), self.tag.clone());
        Ok(PlannedTag {
            tag,
            target_tag,
            action,
            index,
            index_changes,
        })
    }
}

impl ReleaseWriter<'_> {
    /// Blobs, several at once, and then the manifest by its digest.
    async fn send(
        &self,
        artifact: &Artifact,
        tag: &Tag,
    ) -> crate::Result<Vec<(Descriptor, Delivery)>> {
        let sends = artifact.packed().blobs().map(async |blob| {
            let descriptor = blob.descriptor();
            let meter = Meter::default();
            (self.observer)(PublishEvent::BlobStarted(descriptor, meter.clone()));
            let delivery = match artifact.sent_ahead(&descriptor.digest) {
                Some(delivery) => Ok(delivery),
                None => self.to.push_blob(&blob.clone().metered(&meter)).await,
            };
            let delivery = delivery.with_context(|_| SendBlobSnafu {
                blob: blob_name(descriptor),
            })?;
            (self.observer)(PublishEvent::Blob(descriptor, delivery));
            Ok((descriptor.clone(), delivery))
        });
        let delivered = concurrent::all(self.options.concurrency, sends.collect()).await?;
        let manifest = artifact.manifest();
        let sent = self.to.push_manifest(manifest).await;
        sent.with_context(|_| SendManifestSnafu {
            name: self.name(tag),
        })?;
        (self.observer)(PublishEvent::Manifest(manifest));
        Ok(delivered)
    }

    /// Lets the tag of the target name our manifest, and makes sure that it does. `false` when a later writer moved it.
    pub(super) async fn set_tag(&mut self, claim: &mut TagClaim<'_>) -> crate::Result<bool> {
        let tag = claim.tag;
        if let Err(error) = self.to.tag(&claim.own.manifest, tag).await {
            // Where tags cannot be changed, another writer of the same files may have been faster.
            let is_refusal = !matches!(
                error.kind(),
                ErrorKind::Network | ErrorKind::RateLimited | ErrorKind::Unauthenticated
            );
            let is_same = |held: Manifest| claim.is_same(&held);
            if !is_refusal || !self.tag.is_released() || !self.read(tag).await?.is_some_and(is_same)
            {
                return Err(SetTagSnafu {
                    name: self.name(tag),
                }
                .into_error(error)
                .into());
            }
        }
        for attempt in 0..READ_BACKS {
            if attempt > 0 {
                self.pause(attempt, false).await;
            }
            if let Some(held) = self.read(tag).await? {
                let is_ours = self.accept(claim, held)?;
                if is_ours {
                    (self.observer)(PublishEvent::Tag(tag, &claim.own.manifest));
                }
                return Ok(is_ours);
            }
        }
        Err(VanishedSnafu {
            name: self.name(tag),
        }
        .build()
        .into())
    }

    /// What the tag of the target names after we set it: our manifest; the same files, which then are ours; or what a
    /// later writer made of it, `false` where that is his right.
    pub(super) fn accept(
        &mut self,
        claim: &mut TagClaim<'_>,
        held: Manifest,
    ) -> crate::Result<bool> {
        let tag = claim.tag;
        if held.digest() != claim.own.manifest.digest() {
            if !self.tag.is_released() {
                self.note(Note::TagOverwritten { tag: tag.clone() });
                return Ok(false);
            }
            let differences = differences(&held, &claim.own.manifest);
            ensure!(
                claim.is_same(&held),
                OvertakenSnafu {
                    name: self.name(tag),
                    differences
                }
            );
            self.note(Note::AlreadyPublished {
                tag: tag.clone(),
                stored: held.digest().clone(),
            });
            claim.own.manifest = held;
        }
        self.set_tags.insert(tag.clone());
        self.remember([claim.own.manifest.clone()]);
        Ok(true)
    }

    async fn resolve(&self, tag: &Tag) -> crate::Result<Option<Descriptor>> {
        if let Some(descriptor) = self.options.stored.target(tag) {
            return Ok(Some(descriptor.clone()));
        }
        let resolved = self
            .to
            .resolve(&Identifier::Tag(tag.clone()))
            .await
            .optional();
        Ok(resolved.with_context(|_| LookUpSnafu {
            name: self.name(tag),
        })?)
    }

    /// The index before the publication, if it is to be written and exists.
    async fn read_index(&self) -> crate::Result<Option<(Manifest, PackageIndex)>> {
        if !self.options.index {
            return Ok(None);
        }
        match self.options.stored.index(self.tag.index()) {
            Some(manifest) => self.package_index(manifest.clone()).map(Some),
            None => self.held_index().await,
        }
    }

    /// The index as it is.
    pub(super) async fn held_index(&self) -> crate::Result<Option<(Manifest, PackageIndex)>> {
        match self.read(self.tag.index()).await? {
            Some(manifest) => self.package_index(manifest).map(Some),
            None => Ok(None),
        }
    }

    /// Parses the index of a package.
    fn package_index(&self, manifest: Manifest) -> crate::Result<(Manifest, PackageIndex)> {
        match PackageIndex::read(&manifest) {
            Some(entries) => Ok((manifest, entries)),
            None => Err(ForeignIndexSnafu {
                name: self.name(self.tag.index()),
            }
            .build()
            .into()),
        }
    }
}

impl TagClaim<'_> {
    /// Whether a manifest holds the same files for the same target.
    fn is_same(&self, held: &Manifest) -> bool {
        let is_ours = PackageTarget::read(held).is_some_and(|held| held.target == self.target);
        is_ours && differences(held, &self.own.manifest).is_empty()
    }
}

/// How a person would call a blob.
fn blob_name(descriptor: &Descriptor) -> String {
    match descriptor.annotation(annotation::TITLE) {
        Some(title) => format!("`{title}`, {}", descriptor.digest),
        None => format!("the config, {}", descriptor.digest),
    }
}
