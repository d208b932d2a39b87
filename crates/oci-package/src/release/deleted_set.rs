//! Tracking of the content that a delete command removes from a repository.
//!
//! Deleting one item can delete further items: the tags that point to a deleted manifest, and the index of a version
//! after its last target. [`DeletedSet`] records all of them, so that a command recognizes an item that it has already
//! deleted, both in a dry run and after a deletion.

use std::collections::{BTreeMap, BTreeSet};

use oci_registry::{Digest, Identifier, Tag};

use super::edit::{EntryLocation, RemovedEntries};

/// Content of a repository that a command has deleted, or would delete in a dry run.
#[derive(Clone, Debug, Default)]
pub struct DeletedSet {
    tags: BTreeSet<Tag>,
    digests: BTreeSet<Digest>,
    /// Removed entries of each index that still exists, keyed by the tag of the index. Removing an entry moved this tag
    /// to a new manifest.
    entries: BTreeMap<Tag, BTreeSet<Digest>>,
}

impl DeletedSet {
    /// Whether an item is deleted. `digest` is the manifest that a tag pointed to before the command, if known.
    /// Deleting that manifest also deletes the tag.
    pub fn contains(&self, identifier: &Identifier, digest: Option<&Digest>) -> bool {
        match identifier {
            Identifier::Digest(digest) => self.digests.contains(digest),
            Identifier::Tag(tag) => {
                let has_moved = self.entries.contains_key(tag);
                let is_deleted = |digest| !has_moved && self.digests.contains(digest);
                self.tags.contains(tag) || digest.is_some_and(is_deleted)
            }
        }
    }

    /// Removes the content that is already deleted from a location and returns the rest. Returns `None` if the entry or
    /// the whole index is deleted.
    pub fn remaining_entry(&self, mut location: EntryLocation) -> Option<EntryLocation> {
        let index = Identifier::Tag(location.index.clone());
        if self.contains(&index, Some(&location.index_digest)) {
            return None;
        }
        if let Some(deleted) = self.entries.get(&location.index) {
            if location.entries.iter().all(|entry| deleted.contains(entry)) {
                return None;
            }
            location
                .other_entries
                .retain(|entry| !deleted.contains(entry));
        }
        location.tags.retain(|tag| !self.tags.contains(tag));
        location
            .floating_tags
            .retain(|tag| !self.tags.contains(tag));
        Some(location)
    }

    /// Records that a tag, a manifest or a blob is deleted.
    pub fn insert(&mut self, identifier: Identifier) {
        match identifier {
            Identifier::Tag(tag) => {
                self.tags.insert(tag);
            }
            Identifier::Digest(digest) => {
                self.digests.insert(digest);
            }
        }
    }

    /// Records that an entry and its tags are deleted. If the index has no other entry, the index is also recorded.
    pub fn insert_entry(&mut self, location: &EntryLocation) {
        let index = (!location.other_entries.is_empty()).then_some(&location.entries[..]);
        self.insert_entries(&location.index, &location.tags, index);
        self.tags.extend(location.deleted_floating_tags().cloned());
    }

    /// Records the outcome of [`remove`](super::remove).
    pub fn insert_removed(&mut self, index: &Tag, removed: &RemovedEntries) {
        let entries = removed.entries.iter().map(|entry| entry.digest.clone());
        let entries: Vec<_> = entries.collect();
        let remaining = removed.index.as_ref().map(|_| &entries[..]);
        self.insert_entries(index, &removed.tags, remaining);
        if removed.index.is_none() {
            self.tags.extend(removed.floating_tags.iter().cloned());
        }
    }

    /// Records that index entries are deleted, or the whole index if `entries` is `None`.
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
