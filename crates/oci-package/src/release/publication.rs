//! Steps 1 and 2 of a publication: the manifest for one target, its blobs, and its tag.
//!
//! This module determines which blobs and manifests must be uploaded, and handles tags that other writers set
//! concurrently.

use futures_util::future;
use oci_registry::{
    Delivery, Descriptor, Digest, ErrorKind, Identifier, Manifest, Meter, Optional as _, Tag,
};
use snafu::{IntoError, ResultExt, ensure};

use super::error::{
    DifferentFilesSnafu, ForeignIndexSnafu, ForeignTargetSnafu, LookUpSnafu,
    MissingAfterWriteSnafu, PublishedConcurrentlySnafu, SetTagSnafu, UploadBlobSnafu,
    UploadManifestSnafu,
};
use super::{Note, PlannedTag, PublishEvent, PublishedTag, ReleaseWriter, TagAction, floating};
use crate::annotation;
use crate::artifact::Artifact;
use crate::concurrent;
use crate::index::{IndexEntry, PackageIndex};
use crate::target::{PackageTarget, differences};

/// Maximum number of reads of a tag after it was set. A registry may not return a new tag immediately.
const MAX_READ_BACKS: usize = 4;

/// The manifest that is published.
pub(super) struct OwnManifest {
    /// The manifest of the artifact, or the stored manifest with the same files.
    pub(super) manifest: Manifest,
    /// Whether the manifest and all blobs that it lists are stored in the target.
    pub(super) is_stored: bool,
}

impl OwnManifest {
    pub(super) fn stored(manifest: Manifest) -> Self {
        Self {
            manifest,
            is_stored: true,
        }
    }
}

/// Manifest, and the tag that is set to this manifest.
pub(super) struct TagAssignment<'a> {
    pub(super) own: &'a mut OwnManifest,
    pub(super) target: &'a str,
    pub(super) tag: &'a Tag,
    /// Whether the tag already points to the manifest.
    pub(super) is_already_assigned: bool,
    /// Digest of the released manifest that is overwritten.
    pub(super) overwritten: Option<Digest>,
}

/// Publication of one target with one tag.
pub(super) struct TargetPublication<'a> {
    pub(super) writer: ReleaseWriter<'a>,
    /// The artifact to send. `None` if the manifest is already stored.
    pub(super) artifact: Option<&'a Artifact>,
    pub(super) target: &'a str,
    pub(super) tag: Tag,
}

/// Decision about the tag of the target, made before the first upload.
pub(super) struct TagDecision {
    pub(super) action: TagAction,
    /// Stored manifest of this tag, if it stays although another tag has a different manifest with the same files.
    pub(super) kept_manifest: Option<OwnManifest>,
    /// Digest of the released manifest that is overwritten.
    pub(super) overwritten: Option<Digest>,
    /// The index, if it is already up to date.
    pub(super) index: Option<Manifest>,
}

/// Manifest to which the tag of the target points.
enum StoredManifest {
    Absent,
    /// The manifest that is published.
    Own,
    /// Another manifest, found by the tag or, if the tag was deleted, in the index.
    Other {
        manifest: Manifest,
        is_tagged: bool,
    },
}

impl TargetPublication<'_> {
    /// Performs step 1 and the checks of step 2: reads the stored state and determines which tags and manifests to
    /// write. Sends read requests only.
    ///
    /// If the stored manifest has the same files, `own` becomes the stored manifest. `own` does not change if it is
    /// already stored under another tag.
    pub(super) async fn decide(&mut self, own: &mut OwnManifest) -> crate::Result<TagDecision> {
        let writer = &mut self.writer;
        let (stored, index) =
            future::try_join(writer.resolve_tag(&self.tag), writer.read_index()).await?;
        let entry = index
            .as_ref()
            .and_then(|(_, entries)| entries.entry(self.target));
        let entry = entry.map(|entry| entry.descriptor().clone());

        let mut stored = match stored {
            Some(stored) if stored.digest == *own.manifest.digest() => StoredManifest::Own,
            Some(_) => {
                let read = writer.read_manifest(&self.tag).await?;
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
            // The tag was deleted, but the index still lists the released manifest, so the manifest remains protected.
            writer.fetch_manifests([&entry.digest]).await?;
            if let Some(manifest) = writer.manifests.get(&entry.digest).cloned() {
                stored = StoredManifest::Other {
                    manifest,
                    is_tagged: false,
                };
            }
        }

        let (mut kept_manifest, mut overwritten) = (None, None);
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
            } if self.keeps_stored(own, &manifest)? => {
                if own.is_stored {
                    kept_manifest = Some(OwnManifest::stored(manifest));
                } else {
                    *own = OwnManifest::stored(manifest);
                }
                if is_tagged {
                    TagAction::Keep
                } else {
                    TagAction::Create
                }
            }
            StoredManifest::Other { manifest, .. } => {
                overwritten = Some(manifest.digest().clone());
                TagAction::Replace
            }
        };
        let index = index.map(|(manifest, _)| manifest);
        self.writer.last_index = index.as_ref().map(|index| index.digest().clone());
        let published = kept_manifest.as_ref().unwrap_or(own);
        let wanted = IndexEntry::from_manifest(&published.manifest);
        let is_listed = wanted.is_some_and(|wanted| entry.as_ref() == Some(wanted.descriptor()));
        Ok(TagDecision {
            action,
            kept_manifest,
            overwritten,
            index: index.filter(|_| own.is_stored && is_listed),
        })
    }

    /// Whether the tag of a release keeps the stored manifest, because it has the same files. If the options allow
    /// overwriting, the stored manifest is replaced; otherwise different files are an error.
    fn keeps_stored(&self, own: &OwnManifest, stored: &Manifest) -> crate::Result<bool> {
        let (writer, target) = (&self.writer, self.target);
        if writer.options.overwrite {
            return Ok(false);
        }
        let name = || writer.full_name(&self.tag);
        let has_same_target =
            PackageTarget::read(stored).is_some_and(|stored| stored.target == target);
        ensure!(
            has_same_target,
            ForeignTargetSnafu {
                name: name(),
                target
            }
        );
        let differences = differences(stored, &own.manifest);
        ensure!(
            differences.is_empty(),
            DifferentFilesSnafu {
                name: name(),
                differences
            }
        );
        writer.report_note(Note::AlreadyPublished {
            tag: self.tag.clone(),
            stored: stored.digest().clone(),
        });
        Ok(true)
    }

    /// Sends the content, and sets the tag of the target according to the decision.
    pub(super) async fn write_target(
        &mut self,
        own: &mut OwnManifest,
        decision: &mut TagDecision,
        delivered: &mut Vec<(Descriptor, Delivery)>,
    ) -> crate::Result<()> {
        let action = decision.action;
        if action == TagAction::Keep {
            return Ok(());
        }
        let mut assignment = TagAssignment {
            own: decision.kept_manifest.as_mut().unwrap_or(own),
            target: self.target,
            tag: &self.tag,
            is_already_assigned: true,
            overwritten: decision.overwritten.take(),
        };
        if let Some(artifact) = self.artifact.filter(|_| !assignment.own.is_stored) {
            *delivered = self.writer.upload(artifact, &self.tag).await?;
            assignment.own.is_stored = true;
        }
        if action == TagAction::Create && self.writer.tag.is_released() {
            // Another job may have published the target during the upload.
            if let Some(current) = self.writer.read_manifest(&self.tag).await? {
                self.writer
                    .check_current_manifest(&mut assignment, current)?;
            }
        }
        if !self.writer.set_tag(&mut assignment).await? {
            decision.action = TagAction::Superseded;
        }
        Ok(())
    }

    /// Updates the index after the tag of the target was set, and returns the outcome for the tag.
    pub(super) async fn write_index(
        &mut self,
        own: &mut OwnManifest,
        decision: TagDecision,
    ) -> crate::Result<PublishedTag> {
        let TagDecision {
            action,
            mut kept_manifest,
            mut index,
            ..
        } = decision;
        let before = self.writer.last_index.clone();
        let is_current = action == TagAction::Superseded || index.is_some();
        if self.writer.options.index && !is_current {
            let assignment = TagAssignment {
                own: kept_manifest.as_mut().unwrap_or(own),
                target: self.target,
                tag: &self.tag,
                is_already_assigned: true,
                overwritten: None,
            };
            index = self.writer.update_index(Some(assignment)).await?;
        }
        let index_changes = match &index {
            Some(index) => before.as_ref() != Some(index.digest()),
            None => false,
        };
        // Also after an interrupted replacement, which has already set the tag of the target.
        if let (Some(replaced), Some(index), true) =
            (&before, &index, self.writer.options.overwrite)
        {
            let ReleaseWriter {
                to, tag, observer, ..
            } = &self.writer;
            floating::move_from_replaced(*to, tag, replaced, index, observer).await?;
        }
        let missing = match &index {
            Some(index) => self.writer.missing_targets(index),
            None => std::mem::take(&mut self.writer.missing),
        };
        Ok(PublishedTag {
            tag: self.writer.tag.clone(),
            target_tag: self.tag.clone(),
            action,
            index,
            index_changes,
            missing,
        })
    }

    /// Returns the outcome that [`Self::write_target`] and [`Self::write_index`] would have.
    pub(super) async fn plan(
        &mut self,
        own: &mut OwnManifest,
        decision: TagDecision,
    ) -> crate::Result<PlannedTag> {
        let TagDecision {
            action,
            mut kept_manifest,
            mut index,
            ..
        } = decision;
        let mut index_changes = false;
        let mut floating_tags = Vec::new();
        // Another planned target changes an index that is up to date with this target.
        let is_alone = self.writer.options.planned.is_empty();
        if self.writer.options.index && !(index.is_some() && is_alone) {
            let before = self.writer.last_index.clone();
            let assignment = TagAssignment {
                own: kept_manifest.as_mut().unwrap_or(own),
                target: self.target,
                tag: &self.tag,
                is_already_assigned: false,
                overwritten: None,
            };
            index = self.writer.plan_index(assignment).await?;
            index_changes = index
                .as_ref()
                .is_some_and(|index| Some(index.digest()) != before.as_ref());
            if let Some(replaced) =
                before.filter(|_| index_changes && self.writer.options.overwrite)
            {
                let ReleaseWriter { to, tag, .. } = &self.writer;
                floating_tags = floating::tags_at(*to, tag, &replaced).await?;
            }
        }
        let missing = match &index {
            Some(index) => self.writer.missing_targets(index),
            None => std::mem::take(&mut self.writer.missing),
        };
        let (tag, target_tag) = (self.writer.tag.clone(), self.tag.clone());
        Ok(PlannedTag {
            tag,
            target_tag,
            action,
            index,
            index_changes,
            missing,
            floating_tags,
        })
    }
}

impl ReleaseWriter<'_> {
    /// Uploads the blobs concurrently, then the manifest by its digest.
    async fn upload(
        &self,
        artifact: &Artifact,
        tag: &Tag,
    ) -> crate::Result<Vec<(Descriptor, Delivery)>> {
        let uploads = artifact.packed().blobs().map(async |blob| {
            let descriptor = blob.descriptor();
            let meter = Meter::default();
            (self.observer)(PublishEvent::BlobStarted(descriptor, meter.clone()));
            let delivery = match artifact.early_delivery(&descriptor.digest) {
                Some(delivery) => Ok(delivery),
                None => self.to.push_blob(&blob.clone().metered(&meter)).await,
            };
            let delivery = delivery.with_context(|_| UploadBlobSnafu {
                blob: blob_name(descriptor),
            })?;
            (self.observer)(PublishEvent::Blob(descriptor, delivery));
            Ok((descriptor.clone(), delivery))
        });
        let delivered = concurrent::run_all(self.options.concurrency, uploads.collect()).await?;
        let manifest = artifact.manifest();
        let pushed = self.to.push_manifest(manifest).await;
        pushed.with_context(|_| UploadManifestSnafu {
            name: self.full_name(tag),
        })?;
        (self.observer)(PublishEvent::Manifest(manifest));
        Ok(delivered)
    }

    /// Sets the tag of the target and verifies it. Returns `false` if a later writer moved the tag.
    pub(super) async fn set_tag(
        &mut self,
        assignment: &mut TagAssignment<'_>,
    ) -> crate::Result<bool> {
        let tag = assignment.tag;
        if let Err(error) = self.to.tag(&assignment.own.manifest, tag).await {
            // If tags are immutable, a concurrent writer may have set the tag to a manifest with the same files.
            let is_rejection = !matches!(
                error.kind(),
                ErrorKind::Network | ErrorKind::RateLimited | ErrorKind::Unauthenticated
            );
            let is_same = |current: Manifest| assignment.has_same_files(&current);
            if !is_rejection
                || !self.tag.is_released()
                || !self.read_manifest(tag).await?.is_some_and(is_same)
            {
                return Err(SetTagSnafu {
                    name: self.full_name(tag),
                }
                .into_error(error)
                .into());
            }
        }
        for attempt in 0..MAX_READ_BACKS {
            if attempt > 0 {
                self.pause(attempt, false).await;
            }
            if let Some(current) = self.read_manifest(tag).await? {
                let is_current = self.check_current_manifest(assignment, current)?;
                let manifest = &assignment.own.manifest;
                if is_current {
                    (self.observer)(PublishEvent::Tag(tag, manifest));
                    let overwritten = assignment.overwritten.take();
                    let overwritten = overwritten.filter(|digest| digest != manifest.digest());
                    if let Some(previous) = overwritten {
                        self.report_note(Note::Overwritten {
                            tag: tag.clone(),
                            previous,
                        });
                    }
                }
                return Ok(is_current);
            }
        }
        Err(MissingAfterWriteSnafu {
            name: self.full_name(tag),
        }
        .build()
        .into())
    }

    /// Checks the manifest that the tag of the target points to after the tag was set. If this manifest has the same
    /// files, it replaces the manifest of this writer. Different files are an error for a release. For a moving tag,
    /// the result is `false`, because the manifest of the later writer is kept.
    pub(super) fn check_current_manifest(
        &mut self,
        assignment: &mut TagAssignment<'_>,
        current: Manifest,
    ) -> crate::Result<bool> {
        let tag = assignment.tag;
        if current.digest() != assignment.own.manifest.digest() {
            if !self.tag.is_released() {
                self.report_note(Note::TagOverwritten { tag: tag.clone() });
                return Ok(false);
            }
            let differences = differences(&current, &assignment.own.manifest);
            ensure!(
                assignment.has_same_files(&current),
                PublishedConcurrentlySnafu {
                    name: self.full_name(tag),
                    differences
                }
            );
            self.report_note(Note::AlreadyPublished {
                tag: tag.clone(),
                stored: current.digest().clone(),
            });
            assignment.own.manifest = current;
        }
        self.set_tags.insert(tag.clone());
        self.cache_manifests([assignment.own.manifest.clone()]);
        Ok(true)
    }

    async fn resolve_tag(&self, tag: &Tag) -> crate::Result<Option<Descriptor>> {
        if let Some(descriptor) = self.options.stored.target(tag) {
            return Ok(Some(descriptor.clone()));
        }
        let resolved = self
            .to
            .resolve(&Identifier::Tag(tag.clone()))
            .await
            .optional();
        Ok(resolved.with_context(|_| LookUpSnafu {
            name: self.full_name(tag),
        })?)
    }

    /// Returns the index before the publication; `None` if it does not exist or the options disable the index.
    async fn read_index(&self) -> crate::Result<Option<(Manifest, PackageIndex)>> {
        if !self.options.index {
            return Ok(None);
        }
        match self.options.stored.index(self.tag.index()) {
            Some(manifest) => self.parse_index(manifest.clone()).map(Some),
            None => self.read_current_index().await,
        }
    }

    /// Reads the stored index.
    pub(super) async fn read_current_index(
        &self,
    ) -> crate::Result<Option<(Manifest, PackageIndex)>> {
        match self.read_manifest(self.tag.index()).await? {
            Some(manifest) => self.parse_index(manifest).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the declared targets that an index does not list.
    fn missing_targets(&self, index: &Manifest) -> Vec<String> {
        let entries = PackageIndex::read(index).unwrap_or_default();
        let declared = self.options.declared.iter().flatten();
        let missing = declared.filter(|target| entries.entry(target).is_none());
        missing.cloned().collect()
    }

    /// Parses the index of a package.
    fn parse_index(&self, manifest: Manifest) -> crate::Result<(Manifest, PackageIndex)> {
        match PackageIndex::read(&manifest) {
            Some(entries) => Ok((manifest, entries)),
            None => Err(ForeignIndexSnafu {
                name: self.full_name(self.tag.index()),
            }
            .build()
            .into()),
        }
    }
}

impl TagAssignment<'_> {
    /// Whether a manifest has the same target and the same files.
    fn has_same_files(&self, current: &Manifest) -> bool {
        let has_same_target =
            PackageTarget::read(current).is_some_and(|current| current.target == self.target);
        has_same_target && differences(current, &self.own.manifest).is_empty()
    }
}

/// Returns the name of a blob for messages.
fn blob_name(descriptor: &Descriptor) -> String {
    match descriptor.annotation(annotation::TITLE) {
        Some(title) => format!("`{title}`, {}", descriptor.digest),
        None => format!("the config, {}", descriptor.digest),
    }
}
