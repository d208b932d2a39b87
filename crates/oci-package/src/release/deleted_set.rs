//! What one call takes away from a repository, item after item.
//!
//! Owns the knowledge of what goes along: a manifest takes the tags that name it, the last target of a version takes the
//! index. So an item that an earlier one took along is known as done, before anything is deleted as well as after.

use std::collections::{BTreeMap, BTreeSet};

use oci_registry::{Digest, Identifier, Tag};

use super::edit::{EntryLocation, RemovedEntries};

/// What is gone from one repository since a call began, or would be.
#[derive(Clone, Debug, Default)]
pub struct DeletedSet {
    tags: BTreeSet<Tag>,
    digests: BTreeSet<Digest>,
    /// The entries that left an index which is still there, by its tag. That names another manifest since.
    entries: BTreeMap<Tag, BTreeSet<Digest>>,
}

impl DeletedSet {
    /// Whether this is gone; with the digest that it named in the beginning, where that is known, also when its manifest
    /// is.
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

    /// What is left of an entry of an index; nothing when it is no entry any more, or the index is gone.
    pub fn remaining_entry(&self, mut listed: EntryLocation) -> Option<EntryLocation> {
        let index = Identifier::Tag(listed.index.clone());
        if self.contains(&index, Some(&listed.index_digest)) {
            return None;
        }
        if let Some(gone) = self.entries.get(&listed.index) {
            if listed.entries.iter().all(|entry| gone.contains(entry)) {
                return None;
            }
            listed.others.retain(|other| !gone.contains(other));
        }
        listed.tags.retain(|tag| !self.tags.contains(tag));
        Some(listed)
    }

    /// A tag, a manifest or a blob goes.
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

    /// An entry of an index goes, with its tags, and with the index where it is the last one.
    pub fn insert_entry(&mut self, listed: &EntryLocation) {
        let index = (!listed.others.is_empty()).then_some(&listed.entries[..]);
        self.insert_entries(&listed.index, &listed.tags, index);
    }

    /// An entry of an index has gone.
    pub fn insert_removed(&mut self, index: &Tag, removed: &RemovedEntries) {
        let entries = removed.entries.iter().map(|entry| entry.digest.clone());
        let entries: Vec<_> = entries.collect();
        let left = removed.index.as_ref().map(|_| &entries[..]);
        self.insert_entries(index, &removed.tags, left);
    }

    /// These entries leave an index; none are named when the index goes.
    fn insert_entries(&mut self, index: &Tag, tags: &[Tag], entries: Option<&[Digest]>) {
        self.tags.extend(tags.iter().cloned());
        if let Some(entries) = entries {
            let left = self.entries.entry(index.clone()).or_default();
            left.extend(entries.iter().cloned());
        } else {
            self.tags.insert(index.clone());
        }
    }
}
