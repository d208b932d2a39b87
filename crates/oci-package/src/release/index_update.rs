//! Steps 3 and 4 of a publication: writing the index without losing entries of concurrent writers.
//!
//! An update consists of rounds. A round reads the tags and the index, writes the index if it is outdated, and verifies
//! after a delay that tags and index are unchanged.
//!
//! No entry is lost, for the following reason. A writer sets the tag of its target before it lists the tags, and it
//! lists the tags again after it wrote an index. Consider the last index that is ever written. The verification of its
//! writer saw every tag that was set before, because otherwise it would have written another index. A writer that set
//! its tag after that verification still lists the tags itself.
//!
//! The argument also holds if a registry lists tags with a delay: a writer includes the tags that it set itself, and an
//! update keeps the entries that are in the index.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::TryStreamExt;
use oci_registry::{Digest, ErrorKind, Identifier, Manifest, Optional as _, Tag};
use snafu::{IntoError, ResultExt};
use tokio::time::Instant;

use super::error::{IndexImmutableSnafu, LookUpSnafu, RoundsExhaustedSnafu, WriteIndexSnafu};
use super::publication::TagClaim;
use super::{MAX_CONCURRENT_READS, Note, PublishEvent, ReleaseWriter};
use crate::concurrent;
use crate::index::{IndexEntry, PackageIndex};
use crate::target::PackageTarget;

/// Maximum number of rounds.
pub(super) const MAX_ROUNDS: usize = 10;

/// Tags and index as read in one round, and the index to write.
struct IndexState {
    /// The stored index.
    current: Option<Manifest>,
    /// The index to write.
    wanted: Manifest,
    /// Digests that the tags of the targets point to.
    tags: BTreeMap<Tag, Digest>,
    /// Whether another writer is publishing this version concurrently.
    has_other_writers: bool,
    /// For a moving tag: whether all entries of the index belong to another release.
    is_of_another_release: bool,
}

/// Outcome of an attempt to write the index.
enum WriteAttempt {
    Written,
    /// The request may have failed or taken effect, or a listed manifest is missing. The next round reads the state
    /// again.
    Unknown(crate::Error),
}

impl ReleaseWriter<'_> {
    /// Updates the index until it is stable, and returns it. Returns `None` if there is nothing to write, because
    /// declared targets are missing, there are no targets, or a later writer moved the tag.
    pub(super) async fn converge(
        &mut self,
        mut claim: Option<TagClaim<'_>>,
    ) -> crate::Result<Option<Manifest>> {
        let mut written = false;
        let mut is_contended = false;
        let mut unknown_outcome = None;
        for round in 1..=MAX_ROUNDS {
            if round > 1 {
                let tag = self.tag.index().clone();
                self.note(Note::IndexRetry {
                    tag,
                    rounds: round - 1,
                });
            }
            let began = Instant::now();
            let Some(state) = self.read_state(claim.as_mut()).await? else {
                return Ok(None);
            };
            if let (1, None, Some(declared)) = (round, &state.current, &self.options.declared) {
                let own = claim.as_ref().map(|claim| claim.target);
                let write_delay = write_delay(declared, own, began.elapsed());
                if !write_delay.is_zero() {
                    tokio::time::sleep(write_delay).await;
                    if let Some(current) = self.read(self.tag.index()).await? {
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
                self.note(Note::TagOverwritten {
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
                    self.pause(round, is_contended).await;
                    if self.is_unchanged(&state).await? {
                        return Ok(Some(state.wanted));
                    }
                    is_contended = true;
                }
                WriteAttempt::Unknown(error) => {
                    (is_contended, unknown_outcome) = (true, Some(error));
                    self.pause(round, is_contended).await;
                }
            }
            self.last_index = Some(state.wanted.digest().clone());
        }
        let (name, tag) = (self.name(self.tag.index()), self.tag.index().clone());
        let exhausted = RoundsExhaustedSnafu {
            name,
            tag,
            rounds: MAX_ROUNDS,
        };
        Err(unknown_outcome.unwrap_or_else(|| exhausted.build().into()))
    }

    /// Returns the index that an update would write if the manifest had its tag.
    pub(super) async fn plan_index(
        &mut self,
        claim: TagClaim<'_>,
    ) -> crate::Result<Option<Manifest>> {
        let mut claim = claim;
        Ok(self
            .read_state(Some(&mut claim))
            .await?
            .map(|state| state.wanted))
    }

    /// Reads the tags of all targets, then the index.
    async fn read_state(
        &mut self,
        mut claim: Option<&mut TagClaim<'_>>,
    ) -> crate::Result<Option<IndexState>> {
        let mut listed = self.list().await?;
        if let Some(claim) = &claim {
            if claim.is_set {
                listed.insert(claim.tag.clone());
            } else {
                listed.remove(claim.tag);
            }
        }
        let found = self.read_tags(&listed).await?;
        if let Some(claim) = &mut claim
            && let Some(current) = found.get(claim.tag)
            && !self.accept(claim, current.clone())?
        {
            return Ok(None);
        }
        let own = claim.as_ref().map(|claim| &claim.own.manifest);
        let new_entries = self.entries(&found, own);

        // The index is read last to keep the time until it is written short.
        let (current, current_entries) = self.current_index().await?.unzip();
        let current_entries: PackageIndex = current_entries.unwrap_or_default();
        if let (None, Some(declared)) = (&current, &self.options.declared) {
            let missing = declared
                .iter()
                .filter(|target| !new_entries.contains_key(*target));
            let missing: Vec<_> = missing.cloned().collect();
            if !missing.is_empty() {
                let tag = self.tag.index().clone();
                self.note(Note::IndexIncomplete { tag, missing });
                return Ok(None);
            }
        }
        let own_target = claim.as_ref().map(|claim| claim.target);
        let is_others =
            |target: &str| current_entries.entry(target).is_none() && own_target != Some(target);
        let has_other_writers = new_entries.keys().any(|target| is_others(target))
            || current.as_ref().map(Manifest::digest) != self.last_index.as_ref();

        let mut wanted = self.retained_entries(&current_entries, own).await?;
        let is_emptied = current_entries.entries().len() > 0 && wanted.entries().len() == 0;
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
            is_of_another_release: is_emptied && !self.tag.is_released(),
        }))
    }

    /// Returns the entries for the manifests that the tags of targets point to, and for this writer's own manifest.
    fn entries(
        &self,
        found: &BTreeMap<Tag, Manifest>,
        own: Option<&Manifest>,
    ) -> BTreeMap<String, IndexEntry> {
        let found = found
            .iter()
            .filter(|(_, manifest)| self.belongs_to_index(manifest, own));
        let found = found.filter_map(|(tag, manifest)| {
            let entry = IndexEntry::from_manifest(manifest)?;
            (self.tag.target_of(tag) == Some(entry.target())).then_some(entry)
        });
        let entries = found.chain(own.and_then(IndexEntry::from_manifest));
        entries
            .map(|entry| (entry.target().to_owned(), entry))
            .collect()
    }

    /// Returns the entries of the stored index that are kept, recomputed from their manifests.
    async fn retained_entries(
        &mut self,
        current: &PackageIndex,
        own: Option<&Manifest>,
    ) -> crate::Result<PackageIndex> {
        let digests: Vec<_> = current
            .entries()
            .map(|entry| entry.descriptor().digest.clone())
            .collect();
        self.fetch(&digests).await?;
        let mut kept = current.clone();
        kept.recompute(|descriptor| self.known.get(&descriptor.digest));
        kept.retain(|entry| {
            let digest = &entry.descriptor().digest;
            let is_kept = match self.known.get(digest) {
                Some(manifest) => self.belongs_to_index(manifest, own),
                // A release keeps an entry whose manifest cannot be read. It is dropped when the registry rejects the
                // index.
                None => own.is_none() || self.tag.is_released(),
            };
            is_kept
                && !self.missing_manifests.contains(digest)
                && !self.removed_targets.contains(entry.target())
        });
        kept.remove_others(&self.removed_foreign_entries);
        Ok(kept)
    }

    /// Whether a manifest belongs in the index. An index with a moving tag contains one version and commit only.
    fn belongs_to_index(&self, manifest: &Manifest, own: Option<&Manifest>) -> bool {
        let Some(own) = own.filter(|_| !self.tag.is_released()) else {
            return true;
        };
        let release =
            |manifest| PackageTarget::read(manifest).map(|read| (read.version, read.revision));
        release(manifest) == release(own)
    }

    /// Returns the tags of all targets: the declared ones, or those that the registry lists plus those that this writer
    /// set.
    async fn list(&mut self) -> crate::Result<BTreeSet<Tag>> {
        if let Some(declared) = &self.options.declared {
            return declared
                .iter()
                .map(|target| self.tag.target(target))
                .collect();
        }
        let tags = self.to.tags();
        let tags = tags.try_filter(|tag| std::future::ready(self.tag.target_of(tag).is_some()));
        match tags.try_collect::<BTreeSet<_>>().await {
            Ok(tags) => Ok(&tags | &self.set_tags),
            Err(error) => {
                if !self.is_list_failure_reported {
                    self.note(Note::TagListFailed {
                        problem: error.to_string(),
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
            .map(async |tag| Ok((tag.clone(), self.read(tag).await?)));
        let read = concurrent::all(MAX_CONCURRENT_READS, reads.collect()).await?;
        let found: BTreeMap<_, _> = read
            .into_iter()
            .filter_map(|(tag, manifest)| Some((tag, manifest?)))
            .collect();
        self.remember(found.values().cloned());
        Ok(found)
    }

    /// Stores the index by its digest, then sets the tag.
    async fn write_index(&mut self, state: &IndexState) -> crate::Result<WriteAttempt> {
        let tag = self.tag.index();
        let name = self.name(tag);
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

    /// Finds entries whose manifests do not exist, after the registry rejected the index, and drops them. Returns
    /// whether there are any.
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
                self.note(Note::EntryDropped {
                    target,
                    digest: child.digest.clone(),
                });
                has_missing_entries |= self.missing_manifests.insert(child.digest.clone());
            }
        }
        Ok(has_missing_entries)
    }

    /// Whether all tags and the index still have the values that this round read or wrote.
    async fn is_unchanged(&mut self, state: &IndexState) -> crate::Result<bool> {
        let mut tags = self.list().await?;
        tags.extend(state.tags.keys().cloned());
        let resolutions = tags.iter().map(async |tag| {
            let resolved = self.to.resolve(&tag.clone().into()).await.optional();
            let resolved = resolved.with_context(|_| LookUpSnafu {
                name: self.name(tag),
            })?;
            Ok(resolved.map(|descriptor| (tag.clone(), descriptor.digest)))
        });
        let resolved = concurrent::all(MAX_CONCURRENT_READS, resolutions.collect()).await?;
        let now: BTreeMap<_, _> = resolved.into_iter().flatten().collect();
        let current = self.read(self.tag.index()).await?;
        Ok(now == state.tags && current.as_ref() == Some(&state.wanted))
    }

    /// Waits for concurrent writers to finish. The delay depends on the seed, so concurrent writers have different
    /// delays and do not conflict in every round.
    pub(super) async fn pause(&self, round: usize, is_contended: bool) {
        let seed = Digest::sha256(format!("{} {}", self.seed, self.tag).as_bytes());
        pause(&seed, round, is_contended).await;
    }
}

/// Returns the delay before the first write of an index with declared targets. Several writers may detect at the same
/// time that all targets exist. To make it likely that only one of them writes, each waits for twice the duration of
/// its own read per target that sorts before its own, at most one second.
///
/// Concurrent writes do no harm, because all writers write the same index.
fn write_delay(declared: &BTreeSet<String>, own: Option<&str>, read_time: Duration) -> Duration {
    let before = declared
        .iter()
        .position(|target| Some(target.as_str()) == own);
    let before = before.and_then(|before| u32::try_from(before).ok());
    (read_time * 2 * before.unwrap_or_default()).min(Duration::from_secs(1))
}

/// Waits for concurrent writers to finish. The delay is longer if another writer was detected, and depends on the seed.
pub(super) async fn pause(seed: &Digest, round: usize, is_contended: bool) {
    let seed = Digest::sha256(format!("{seed} {round}").as_bytes());
    let fraction = u64::from_str_radix(&seed.encoded()[..4], 16).unwrap_or_default();
    let shortest = if is_contended { 2000 } else { 500 };
    let pause = Duration::from_millis(shortest + shortest * fraction / 0x1_0000);
    tokio::time::sleep(pause).await;
}

/// Whether an error leaves the outcome of a request unknown, so that another attempt may succeed.
fn is_transient(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Network | ErrorKind::RateLimited)
}
