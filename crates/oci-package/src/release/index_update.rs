//! Steps 3 and 4 of a publication: writing the index without losing entries of concurrent writers.
//!
//! An update consists of attempts. Each attempt reads the tags and the index, writes the index if it is outdated, and
//! verifies after a delay that tags and index are unchanged.
//!
//! No entry is lost, for the following reason. A writer sets its target tag before it lists the tags, and it lists the
//! tags again after it wrote an index. Consider the index that is written last. When its writer verified it, the writer
//! saw every tag that was set before; otherwise the writer would have written another index. A writer that sets its tag
//! after this verification lists the tags afterwards, and would write another index if its own entry were missing.
//!
//! This is also true for a registry that lists new tags with a delay: a writer includes the tags that it set itself,
//! and an update keeps the entries that are in the index.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::TryStreamExt;
use oci_registry::{Digest, ErrorKind, Identifier, Manifest, Optional as _, Tag};
use snafu::{IntoError, ResultExt};
use tokio::time::Instant;

use super::error::{AttemptsExhaustedSnafu, IndexImmutableSnafu, LookUpSnafu, WriteIndexSnafu};
use super::publication::TagAssignment;
use super::{MAX_CONCURRENT_READS, Note, PublishEvent, ReleaseWriter};
use crate::concurrent;
use crate::index::{IndexEntry, PackageIndex};
use crate::target::PackageTarget;

/// Maximum number of attempts of an update.
pub(super) const MAX_ATTEMPTS: usize = 10;

/// Tags and index that one attempt read, and the index to write.
struct IndexState {
    /// The stored index.
    current: Option<Manifest>,
    /// The index to write.
    wanted: Manifest,
    /// Digests that the target tags point to.
    tags: BTreeMap<Tag, Digest>,
    /// Whether another writer is publishing this version concurrently.
    has_other_writers: bool,
    /// For a moving tag: whether all entries of the index belong to another release.
    is_of_another_release: bool,
}

/// Outcome of an attempt to write the index.
enum WriteAttempt {
    Written,
    /// It is unknown whether the request took effect, or a listed manifest is missing. The next attempt reads the state
    /// again.
    Unknown(crate::Error),
}

impl ReleaseWriter<'_> {
    /// Updates the index until a later read confirms it, and returns the index. Returns `None` if no index is written,
    /// because declared targets are missing, no target exists, or a later writer moved the tag.
    pub(super) async fn update_index(
        &mut self,
        mut assignment: Option<TagAssignment<'_>>,
    ) -> crate::Result<Option<Manifest>> {
        let mut written = false;
        let mut is_contended = false;
        let mut unknown_outcome = None;
        for attempt in 1..=MAX_ATTEMPTS {
            if attempt > 1 {
                let tag = self.tag.index().clone();
                self.report_note(Note::IndexRetry {
                    tag,
                    has_failed: unknown_outcome.is_some(),
                });
            }
            let began = Instant::now();
            let Some(state) = self.read_state(assignment.as_mut()).await? else {
                return Ok(None);
            };
            if let (1, None, Some(declared)) = (attempt, &state.current, &self.options.declared) {
                let own = assignment.as_ref().map(|assignment| assignment.target);
                let write_delay = write_delay(declared, own, began.elapsed());
                if !write_delay.is_zero() {
                    tokio::time::sleep(write_delay).await;
                    if let Some(current) = self.read_manifest(self.tag.index()).await? {
                        if current == state.wanted {
                            return Ok(Some(current));
                        }
                        continue;
                    }
                }
            }
            if state.current.as_ref() == Some(&state.wanted) {
                return Ok(Some(state.wanted));
            }
            if written && state.is_of_another_release {
                self.report_note(Note::TagOverwritten {
                    tag: self.tag.index().clone(),
                });
                return Ok(None);
            }
            is_contended |= state.has_other_writers;
            match self.write_index(&state).await? {
                WriteAttempt::Written => {
                    (written, unknown_outcome) = (true, None);
                    (self.observer)(PublishEvent::Index(self.tag.index(), &state.wanted));
                    if self.options.declared.is_some() && state.current.is_none() {
                        // The index was written once with all declared targets, so no other writer adds an entry.
                        return Ok(Some(state.wanted));
                    }
                    self.pause(attempt, is_contended).await;
                    if self.is_unchanged(&state).await? {
                        return Ok(Some(state.wanted));
                    }
                    is_contended = true;
                }
                WriteAttempt::Unknown(error) => {
                    (is_contended, unknown_outcome) = (true, Some(error));
                    self.pause(attempt, is_contended).await;
                }
            }
            self.last_index = Some(state.wanted.digest().clone());
        }
        let (name, tag) = (self.full_name(self.tag.index()), self.tag.index().clone());
        let exhausted = AttemptsExhaustedSnafu {
            name,
            tag,
            attempts: MAX_ATTEMPTS,
        };
        Err(unknown_outcome.unwrap_or_else(|| exhausted.build().into()))
    }

    /// Returns the index that an update would write if the tag already pointed to the manifest.
    pub(super) async fn plan_index(
        &mut self,
        assignment: TagAssignment<'_>,
    ) -> crate::Result<Option<Manifest>> {
        let mut assignment = assignment;
        Ok(self
            .read_state(Some(&mut assignment))
            .await?
            .map(|state| state.wanted))
    }

    /// Reads the tags of all targets, then the index.
    async fn read_state(
        &mut self,
        mut assignment: Option<&mut TagAssignment<'_>>,
    ) -> crate::Result<Option<IndexState>> {
        let mut listed = self.list_target_tags().await?;
        if let Some(assignment) = &assignment {
            if assignment.is_already_assigned {
                listed.insert(assignment.tag.clone());
            } else {
                listed.remove(assignment.tag);
            }
        }
        let mut found = self.read_tags(&listed).await?;
        if assignment
            .as_ref()
            .is_some_and(|assignment| !assignment.is_already_assigned)
        {
            self.add_planned_manifests(&mut found)?;
        }
        if let Some(assignment) = &mut assignment
            && let Some(current) = found.get(assignment.tag)
            && !self.check_current_manifest(assignment, current.clone())?
        {
            return Ok(None);
        }
        let own = assignment
            .as_ref()
            .map(|assignment| &assignment.own.manifest);
        let new_entries = self.target_entries(&found, own);

        // The index is read last, so that little time passes before it is written.
        let (current, current_entries) = self.read_current_index().await?.unzip();
        let current_entries: PackageIndex = current_entries.unwrap_or_default();
        if let (None, Some(declared)) = (&current, &self.options.declared) {
            let missing = declared
                .iter()
                .filter(|target| !new_entries.contains_key(*target));
            let missing: Vec<_> = missing.cloned().collect();
            if !missing.is_empty() {
                self.missing = missing;
                return Ok(None);
            }
        }
        let own_target = assignment.as_ref().map(|assignment| assignment.target);
        let is_new =
            |target: &str| current_entries.entry(target).is_none() && own_target != Some(target);
        let has_other_writers = new_entries.keys().any(|target| is_new(target))
            || current.as_ref().map(Manifest::digest) != self.last_index.as_ref();

        let mut wanted = self.retained_entries(&current_entries, own).await?;
        let has_no_retained_entry =
            current_entries.entries().len() > 0 && wanted.entries().len() == 0;
        for (_, entry) in new_entries {
            wanted.insert(entry);
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        let tags = found.into_iter();
        Ok(Some(IndexState {
            wanted: wanted.to_manifest()?,
            current,
            tags: tags
                .map(|(tag, manifest)| (tag, manifest.digest().clone()))
                .collect(),
            has_other_writers,
            is_of_another_release: has_no_retained_entry && !self.tag.is_released(),
        }))
    }

    /// Adds the manifests that the same push would publish for other targets.
    fn add_planned_manifests(&self, found: &mut BTreeMap<Tag, Manifest>) -> crate::Result<()> {
        let keeps_stored = self.tag.is_released() && !self.options.overwrite;
        for manifest in &self.options.planned {
            let Some(package) = PackageTarget::read(manifest) else {
                continue;
            };
            let tag = self.tag.target(&package.target)?;
            // A release keeps the stored manifest if the files are the same. Other files are a conflict, which the plan
            // for that target reports.
            if !(keeps_stored && found.contains_key(&tag)) {
                found.insert(tag, manifest.clone());
            }
        }
        Ok(())
    }

    /// Returns the entries for the manifests that the target tags refer to, and for this writer's own manifest.
    fn target_entries(
        &self,
        found: &BTreeMap<Tag, Manifest>,
        own: Option<&Manifest>,
    ) -> BTreeMap<String, IndexEntry> {
        let found = found
            .iter()
            .filter(|(_, manifest)| self.belongs_to_index(manifest, own));
        let found = found.filter_map(|(tag, manifest)| {
            let entry = IndexEntry::from_manifest(manifest)?;
            (self.tag.parse_target(tag) == Some(entry.target())).then_some(entry)
        });
        let entries = found.chain(own.and_then(IndexEntry::from_manifest));
        entries
            .map(|entry| (entry.target().to_owned(), entry))
            .collect()
    }

    /// Returns the entries of the stored index that an update keeps, recomputed from their manifests.
    async fn retained_entries(
        &mut self,
        current: &PackageIndex,
        own: Option<&Manifest>,
    ) -> crate::Result<PackageIndex> {
        let digests: Vec<_> = current
            .entries()
            .map(|entry| entry.descriptor().digest.clone())
            .collect();
        self.fetch_manifests(&digests).await?;
        let mut kept = current.clone();
        kept.recompute(|descriptor| self.manifests.get(&descriptor.digest));
        kept.retain(|entry| {
            let digest = &entry.descriptor().digest;
            let is_kept = match self.manifests.get(digest) {
                Some(manifest) => self.belongs_to_index(manifest, own),
                // A release keeps an entry whose manifest cannot be read. If the registry then rejects the index, the
                // entry is dropped.
                None => own.is_none() || self.tag.is_released(),
            };
            is_kept
                && !self.missing_manifests.contains(digest)
                && !self.removed_targets.contains(entry.target())
        });
        kept.remove_foreign_entries(&self.removed_foreign_entries);
        Ok(kept)
    }

    /// Whether a manifest belongs in the index. The index of a moving tag contains only the manifests of one version
    /// and commit.
    fn belongs_to_index(&self, manifest: &Manifest, own: Option<&Manifest>) -> bool {
        let Some(own) = own.filter(|_| !self.tag.is_released()) else {
            return true;
        };
        let release =
            |manifest| PackageTarget::read(manifest).map(|read| (read.version, read.revision));
        release(manifest) == release(own)
    }

    /// Returns the tags of all targets: the declared targets, or the tags that the registry lists and the tags that
    /// this writer set.
    async fn list_target_tags(&mut self) -> crate::Result<BTreeSet<Tag>> {
        if let Some(declared) = &self.options.declared {
            return declared
                .iter()
                .map(|target| self.tag.target(target))
                .collect();
        }
        let tags = self.to.tags();
        let tags = tags.try_filter(|tag| std::future::ready(self.tag.parse_target(tag).is_some()));
        match tags.try_collect::<BTreeSet<_>>().await {
            Ok(tags) => Ok(&tags | &self.set_tags),
            Err(error) => {
                if !self.is_list_failure_reported {
                    self.report_note(Note::TagListFailed {
                        reason: error.to_string(),
                    });
                    self.is_list_failure_reported = true;
                }
                Ok(self.set_tags.clone())
            }
        }
    }

    /// Reads the manifests that tags point to. Tags that do not exist are skipped.
    async fn read_tags(&mut self, tags: &BTreeSet<Tag>) -> crate::Result<BTreeMap<Tag, Manifest>> {
        let reads = tags
            .iter()
            .map(async |tag| Ok((tag.clone(), self.read_manifest(tag).await?)));
        let read = concurrent::run_all(MAX_CONCURRENT_READS, reads.collect()).await?;
        let found: BTreeMap<_, _> = read
            .into_iter()
            .filter_map(|(tag, manifest)| Some((tag, manifest?)))
            .collect();
        self.cache_manifests(found.values().cloned());
        Ok(found)
    }

    /// Stores the index by its digest, then sets the tag.
    async fn write_index(&mut self, state: &IndexState) -> crate::Result<WriteAttempt> {
        let tag = self.tag.index();
        let name = self.full_name(tag);
        if let Err(error) = self.to.push_manifest(&state.wanted).await {
            let may_retry =
                is_transient(error.kind()) || self.drop_missing_entries(&state.wanted).await?;
            let error = WriteIndexSnafu { name }.into_error(error).into();
            return if may_retry {
                Ok(WriteAttempt::Unknown(error))
            } else {
                Err(error)
            };
        }
        let Err(error) = self.to.tag_once(&state.wanted, tag).await else {
            return Ok(WriteAttempt::Written);
        };
        Err(match error.kind() {
            kind if is_transient(kind) => {
                return Ok(WriteAttempt::Unknown(
                    WriteIndexSnafu { name }.into_error(error).into(),
                ));
            }
            ErrorKind::Conflict => IndexImmutableSnafu { name }.into_error(error).into(),
            // Registries reject changes of an immutable tag with different errors. They do not reject a new tag for
            // this reason.
            ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::Protocol
                if state.current.is_some() =>
            {
                IndexImmutableSnafu { name }.into_error(error).into()
            }
            _ => WriteIndexSnafu { name }.into_error(error).into(),
        })
    }

    /// Finds the entries whose manifests do not exist, so that the next attempt drops them. Called after the registry
    /// rejected the index. Returns whether manifests are missing that earlier calls did not find.
    async fn drop_missing_entries(&mut self, index: &Manifest) -> crate::Result<bool> {
        let mut has_missing_entries = false;
        for child in index.successors() {
            let exists = self.to.exists(child).await;
            let exists = exists.with_context(|_| LookUpSnafu {
                name: self.to.describe(&Identifier::Digest(child.digest.clone())),
            })?;
            if !exists {
                let target = child
                    .annotation(crate::annotation::TARGET)
                    .unwrap_or_default()
                    .to_owned();
                self.report_note(Note::EntryDropped {
                    target,
                    digest: child.digest.clone(),
                });
                has_missing_entries |= self.missing_manifests.insert(child.digest.clone());
            }
        }
        Ok(has_missing_entries)
    }

    /// Whether all tags and the index are still as this attempt read or wrote them.
    async fn is_unchanged(&mut self, state: &IndexState) -> crate::Result<bool> {
        let mut tags = self.list_target_tags().await?;
        tags.extend(state.tags.keys().cloned());
        let resolutions = tags.iter().map(async |tag| {
            let resolved = self.to.resolve(&tag.clone().into()).await.optional();
            let resolved = resolved.with_context(|_| LookUpSnafu {
                name: self.full_name(tag),
            })?;
            Ok(resolved.map(|descriptor| (tag.clone(), descriptor.digest)))
        });
        let resolved = concurrent::run_all(MAX_CONCURRENT_READS, resolutions.collect()).await?;
        let now: BTreeMap<_, _> = resolved.into_iter().flatten().collect();
        let current = self.read_manifest(self.tag.index()).await?;
        Ok(now == state.tags && current.as_ref() == Some(&state.wanted))
    }

    /// Waits for concurrent writers to finish. The delay depends on the seed, so concurrent writers have different
    /// delays and do not conflict in every attempt.
    pub(super) async fn pause(&self, attempt: usize, is_contended: bool) {
        let seed = Digest::sha256(format!("{} {}", self.seed, self.tag).as_bytes());
        pause(&seed, attempt, is_contended).await;
    }
}

/// Returns the delay before the first write of an index with declared targets. Several writers may detect at the same
/// time that all targets exist. Different delays make it likely that only one of them writes the index. The delay is
/// twice the duration of this writer's read, multiplied by the number of declared targets that sort before its target,
/// and at most one second.
///
/// Concurrent writes are harmless, because all writers write the same index.
fn write_delay(declared: &BTreeSet<String>, own: Option<&str>, read_time: Duration) -> Duration {
    let before = declared
        .iter()
        .position(|target| Some(target.as_str()) == own);
    let before = before.and_then(|before| u32::try_from(before).ok());
    (read_time * 2 * before.unwrap_or_default()).min(Duration::from_secs(1))
}

/// Waits for concurrent writers to finish. The delay is longer if another writer was detected, and depends on the seed.
pub(super) async fn pause(seed: &Digest, attempt: usize, is_contended: bool) {
    let seed = Digest::sha256(format!("{seed} {attempt}").as_bytes());
    let fraction = u64::from_str_radix(&seed.encoded()[..4], 16).unwrap_or_default();
    let shortest = if is_contended { 2000 } else { 500 };
    let pause = Duration::from_millis(shortest + shortest * fraction / 0x1_0000);
    tokio::time::sleep(pause).await;
}

/// Whether an error leaves the outcome of a request unknown, so that another attempt may succeed.
fn is_transient(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Network | ErrorKind::RateLimited)
}
