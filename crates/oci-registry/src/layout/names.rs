//! Names in the index of a layout, and the entries that they identify.
//!
//! A name (annotation `org.opencontainers.image.ref.name`) is a tag, or a full name that may end with a tag: skopeo and
//! podman write `localhost/acme/widgets:1.0.0`. A tag identifies the entry with exactly this name. If there is no such
//! entry, it identifies the only entry whose full name ends with this tag.

use std::collections::HashMap;
use std::ops::Deref;

use crate::digest::Digest;
use crate::event::{Observer, OmittedNames};
use crate::manifest::Descriptor;
use crate::reference::Tag;
use crate::storage::OtherName;

/// Key of the annotation that contains the name of an entry.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Names in an index, each with the position of its entry.
#[derive(Debug, Clone, Default)]
pub(crate) struct NameIndex {
    full: HashMap<Box<str>, usize>,
    by_tag: HashMap<Tag, Vec<usize>>,
    by_digest: HashMap<Digest, usize>,
    /// Tags that identify an entry, in the order of the entries.
    tags: Vec<Tag>,
    /// Names that contain no tag, or whose tag does not identify their entry.
    others: Vec<OtherName>,
}

impl NameIndex {
    /// Collects the names of the entries.
    pub(super) fn from_entries(entries: &[impl Deref<Target = Descriptor>]) -> Self {
        let mut names = Self::default();
        for (at, entry) in entries.iter().enumerate() {
            names.by_digest.entry(entry.digest.clone()).or_insert(at);
            let Some(name) = entry.annotation(REF_NAME) else {
                continue;
            };
            if names.full.contains_key(name) {
                continue;
            }
            names.full.insert(name.into(), at);
            if let Some(tag) = tag_in_name(name) {
                names.by_tag.entry(tag).or_default().push(at);
            }
        }
        for (at, entry) in entries.iter().enumerate() {
            let Some(name) = entry.annotation(REF_NAME) else {
                continue;
            };
            match tag_in_name(name).filter(|tag| names.find_tag(tag) == Some(at)) {
                Some(tag) => names.tags.push(tag),
                None => names.others.push(OtherName {
                    name: name.to_owned(),
                    digest: entry.digest.clone(),
                }),
            }
        }
        names
    }

    /// Returns the position of the first entry with exactly this name.
    pub(super) fn find_name(&self, name: &str) -> Option<usize> {
        self.full.get(name).copied()
    }

    /// Returns the position of the entry that a tag identifies.
    pub(super) fn find_tag(&self, tag: &Tag) -> Option<usize> {
        self.find_name(tag.as_str())
            .or_else(|| match self.positions_with_tag(tag) {
                [only] => Some(*only),
                _ => None,
            })
    }

    /// Returns the positions of all entries whose name ends with this tag.
    pub(super) fn positions_with_tag(&self, tag: &Tag) -> &[usize] {
        self.by_tag.get(tag).map_or(&[], Vec::as_slice)
    }

    /// Returns the position of the first entry with this digest.
    pub(super) fn find_digest(&self, digest: &Digest) -> Option<usize> {
        self.by_digest.get(digest).copied()
    }

    /// Returns the tags that identify an entry, in the order of the entries.
    pub(crate) fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Returns the names that contain no tag, or whose tag does not identify their entry.
    pub(crate) fn others(&self) -> &[OtherName] {
        &self.others
    }

    /// Reports the names that are not available as tags.
    pub(crate) fn report_others(&self, location: String, observer: &Observer) {
        let mut omitted = OmittedNames::new(location);
        for OtherName { name, digest } in &self.others {
            omitted.add(name, Some(digest));
        }
        omitted.report(observer);
    }
}

/// Returns the tag in a name: the whole name, or the part after its last colon.
pub(crate) fn tag_in_name(name: &str) -> Option<Tag> {
    if let Ok(tag) = name.parse() {
        return Some(tag);
    }
    let (before, tag) = name.rsplit_once(':')?;
    // The part after the colon in a digest is not a tag.
    let is_digest = name.parse::<Digest>().is_ok() || before.contains('@');
    if before.is_empty() || is_digest {
        return None;
    }
    tag.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_in_name_follows_the_last_colon() {
        let digest = Digest::sha256(b"");
        let with_digest = format!("acme/widgets@{digest}");
        for (name, tag) in [
            ("1.0", Some("1.0")),
            ("localhost/acme/widgets:1.0", Some("1.0")),
            ("localhost:5000/widgets:1.0", Some("1.0")),
            ("widgets:1.0", Some("1.0")),
            ("localhost:5000/widgets", None),
            ("acme/widgets", None),
            ("<none>:<none>", None),
            (":1.0", None),
            ("", None),
            (digest.as_str(), None),
            (&with_digest, None),
        ] {
            let found = tag_in_name(name);
            assert_eq!(found.as_ref().map(Tag::as_str), tag, "{name}");
        }
    }
}
