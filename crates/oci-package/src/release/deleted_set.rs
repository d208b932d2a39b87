//! Tracking of the content that a delete command removes from a repository.
//!
//! Deleting one item can delete others: a manifest is deleted with the tags that point to it, and the last target of a
//! version with the index. [`DeletedSet`] records them, so that a later item of the same command that is already
//! deleted is recognized, both in a dry run and after a deletion.

use std::collections::{BTreeMap, BTreeSet};

use oci_registry::{Digest, Identifier, Tag};

use super::edit::{EntryLocation, RemovedEntries};

/// Content of a repository that a command has deleted, or would delete in a dry run.
#[derive(Clone, Debug, Default)]
pub struct DeletedSet {
    tags: BTreeSet<Tag>,
    digests: BTreeSet<Digest>,
    /// Entries that were removed from an index that still exists, by the tag of the index. The tag points to a new
    /// manifest since then.
    entries: BTreeMap<Tag, BTreeSet<Digest>>,
}

impl DeletedSet {
    /// Whether an item is deleted. `digest` is the manifest that a tag pointed to before the command, if known: the tag
    /// is deleted with that manifest.
    pub fn contains(&self, named: &Identifier, digest: Option<&Digest>) -> bool {
        match named {
            Identifier::Digest(digest) => self.digests.contains(digest),
            Identifier::Tag(tag) => {
                let has_moved = self.entries.contains_key(tag);
                let is_gone = |digest| !has_moved && self.digests.contains(digest);
                self.tags.contains(tag) || digest.is_some_and(is_gone)
            }
        }
    }

    /// Returns a location without the content that is already deleted. Returns `None` if the entry or the whole index
    /// is deleted.
    pub fn remaining_entry(&self, mut listed: EntryLocation) -> Option<EntryLocation> {
        let index = Identifier::Tag(listed.index.clone());
        if self.contains(&index, Some(&listed.index_digest)) {
            return None;
        }
        if let Some(deleted) = self.entries.get(&listed.index) {
            if listed.entries.iter().all(|entry| deleted.contains(entry)) {
                return None;
            }
            listed.others.retain(|other| !deleted.contains(other));
        }
        listed.tags.retain(|tag| !self.tags.contains(tag));
        Some(listed)
    }

    /// Records the deletion of a tag, a manifest or a blob.
    pub fn insert(&mut self, named: Identifier) {
        match named {
            Identifier::Tag(tag) => {
                self.tags.insert(tag);
            }
            Identifier::Digest(digest) => {
                self.digests.insert(digest);
            }
        }
    }

    /// Records the deletion of an entry with its tags, and of the index if it is the last entry.
    pub fn insert_entry(&mut self, listed: &EntryLocation) {
        let index = (!listed.others.is_empty()).then_some(&listed.entries[..]);
        self.insert_entries(&listed.index, &listed.tags, index);
    }

    /// Records the outcome of [`remove`](super::remove).
    pub fn insert_removed(&mut self, index: &Tag, removed: &RemovedEntries) {
        let entries = removed.entries.iter().map(|entry| entry.digest.clone());
        let entries: Vec<_> = entries.collect();
        let remaining = removed.index.as_ref().map(|_| &entries[..]);
        self.insert_entries(index, &removed.tags, remaining);
    }

    /// Records the deletion of entries, or of the whole index if `entries` is `None`.
    fn insert_entries(&mut self, index: &Tag, tags: &[Tag], entries: Option<&[Digest]>) {
        self.tags.extend(tags.iter().cloned());
        if let Some(entries) = entries {
            let removed = self.entries.entry(index.clone()).or_default();
            removed.extend(entries.iter().cloned());
        } else {
            self.tags.insert(index.clone());
        }
    }
}
