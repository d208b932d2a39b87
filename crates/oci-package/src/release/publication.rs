//! Steps 1 and 2 of a publication: the manifest for one target, its blobs, and its tag.
//!
//! This module decides whether anything must be sent, and handles tags that other writers set concurrently.

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

/// Maximum number of reads of a tag that was just set and is not readable yet.
const READ_BACKS: usize = 4;

/// The manifest that is published.
pub(super) struct OwnManifest {
    /// The manifest of the artifact, or the stored one with the same files.
    pub(super) manifest: Manifest,
    /// Whether the manifest and all blobs that it lists are stored in the target.
    pub(super) is_stored: bool,
}

/// A manifest and the tag that it gets.
pub(super) struct TagClaim<'a> {
    pub(super) own: &'a mut OwnManifest,
    pub(super) target: &'a str,
    pub(super) tag: &'a Tag,
    /// Whether the tag already points to the manifest.
    pub(super) is_set: bool,
}

/// Publication of one target with one tag.
pub(super) struct TargetPublication<'a> {
    pub(super) writer: ReleaseWriter<'a>,
    /// The artifact to send. `None` if the manifest is already stored.
    pub(super) artifact: Option<&'a Artifact>,
    pub(super) target: &'a str,
    pub(super) tag: Tag,
}

/// Decision about the tag of the target, made before anything is sent.
pub(super) struct TagDecision {
    pub(super) action: TagAction,
    /// The index, if it is already up to date.
    pub(super) index: Option<Manifest>,
}

/// Manifest that the tag of the target points to.
enum StoredManifest {
    Absent,
    /// The manifest that is published.
    Own,
    /// Another manifest. It was found by the tag or, if the tag is lost, in the index.
    Other {
        manifest: Manifest,
        is_tagged: bool,
    },
}

impl TargetPublication<'_> {
    /// Performs step 1 and the checks of step 2: reads the stored state and decides what to write. Sends read
    /// requests only.
    ///
    /// If the stored manifest has the same files, it replaces `own`.
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
                read.map_or(StoredManifest::Absent, |manifest| StoredManifest::Other {
                    manifest,
                    is_tagged: true,
                })
            }
            None => StoredManifest::Absent,
        };
        if let (StoredManifest::Absent, Some(entry), true) =
            (&stored, &entry, writer.tag.is_released())
            && entry.digest != *own.manifest.digest()
        {
            // The tag is lost, but the index still lists the released manifest, which remains protected.
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
            StoredManifest::Absent => TagAction::Create,
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

    /// Protects a released manifest, unless the options allow to overwrite it.
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

    /// Performs the decided action, then updates the index.
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
                // Another job may have published the target during the upload.
                if let Some(current) = self.writer.read(&self.tag).await? {
                    self.writer.accept(&mut claim, current)?;
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

    /// Returns the outcome that [`Self::write`] would have.
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
    /// Sends the blobs concurrently, then the manifest by its digest.
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

    /// Sets the tag of the target and verifies it. Returns `false` if a later writer moved the tag.
    pub(super) async fn set_tag(&mut self, claim: &mut TagClaim<'_>) -> crate::Result<bool> {
        let tag = claim.tag;
        if let Err(error) = self.to.tag(&claim.own.manifest, tag).await {
            // If tags are immutable, a concurrent writer may have set the tag to a manifest with the same files.
            let is_rejection = !matches!(
                error.kind(),
                ErrorKind::Network | ErrorKind::RateLimited | ErrorKind::Unauthenticated
            );
            let is_same = |current: Manifest| claim.is_same(&current);
            if !is_rejection
                || !self.tag.is_released()
                || !self.read(tag).await?.is_some_and(is_same)
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
            if let Some(current) = self.read(tag).await? {
                let is_ours = self.accept(claim, current)?;
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

    /// Checks the manifest that the tag of the target points to after it was set. A manifest with the same files
    /// replaces this writer's own. Other files are an error for a release; for a moving tag the result is `false`,
    /// because the later writer wins.
    pub(super) fn accept(
        &mut self,
        claim: &mut TagClaim<'_>,
        current: Manifest,
    ) -> crate::Result<bool> {
        let tag = claim.tag;
        if current.digest() != claim.own.manifest.digest() {
            if !self.tag.is_released() {
                self.note(Note::TagOverwritten { tag: tag.clone() });
                return Ok(false);
            }
            let differences = differences(&current, &claim.own.manifest);
            ensure!(
                claim.is_same(&current),
                OvertakenSnafu {
                    name: self.name(tag),
                    differences
                }
            );
            self.note(Note::AlreadyPublished {
                tag: tag.clone(),
                stored: current.digest().clone(),
            });
            claim.own.manifest = current;
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

    /// Returns the index before the publication, if it exists and is to be written.
    async fn read_index(&self) -> crate::Result<Option<(Manifest, PackageIndex)>> {
        if !self.options.index {
            return Ok(None);
        }
        match self.options.stored.index(self.tag.index()) {
            Some(manifest) => self.package_index(manifest.clone()).map(Some),
            None => self.current_index().await,
        }
    }

    /// Reads the stored index.
    pub(super) async fn current_index(&self) -> crate::Result<Option<(Manifest, PackageIndex)>> {
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
    /// Whether a manifest has the same target and the same files.
    fn is_same(&self, current: &Manifest) -> bool {
        let is_ours =
            PackageTarget::read(current).is_some_and(|current| current.target == self.target);
        is_ours && differences(current, &self.own.manifest).is_empty()
    }
}

/// Returns the name of a blob for messages.
fn blob_name(descriptor: &Descriptor) -> String {
    match descriptor.annotation(annotation::TITLE) {
        Some(title) => format!("`{title}`, {}", descriptor.digest),
        None => format!("the config, {}", descriptor.digest),
    }
}
