//! `index.json` of a layout (image-spec, `image-layout.md`).
//!
//! Other programs write to this file, too, and may use fields that this crate does not know. All parts that do not
//! change are kept byte for byte: members of the document, entries, and the other members of an entry whose tag is
//! removed.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::names::{NameIndex, REF_NAME};
use crate::digest::Digest;
use crate::manifest::{Annotations, Descriptor, MediaType};
use crate::reference::Tag;

/// Key of the list of entries.
const MANIFESTS: &str = "manifests";

/// Keys of an entry that has no additional information, such as annotations.
const PLAIN_KEYS: [&str; 4] = ["mediaType", "digest", "size", "artifactType"];

/// Parsed `index.json`.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    /// Members of the document in their original order. The value of `manifests` is not used.
    members: Members,
    manifests: Vec<ListingEntry>,
    /// Names of the entries, collected at the first lookup and discarded at every change.
    names: OnceLock<NameIndex>,
}

impl Listing {
    pub(crate) fn empty() -> Self {
        let mut members = Members::default();
        members.set("schemaVersion", &2);
        members.set("mediaType", &MediaType::INDEX);
        members.set(MANIFESTS, &[(); 0]);
        Self::new(members, Vec::new())
    }

    fn new(members: Members, manifests: Vec<ListingEntry>) -> Self {
        Self {
            members,
            manifests,
            names: OnceLock::new(),
        }
    }

    /// Returns the entries in the order in which they are written.
    pub(crate) fn entries(&self) -> &[ListingEntry] {
        &self.manifests
    }

    pub(crate) fn into_entries(self) -> Vec<ListingEntry> {
        self.manifests
    }

    /// Returns the entries for modification.
    pub(crate) fn entries_mut(&mut self) -> &mut Vec<ListingEntry> {
        self.names.take();
        &mut self.manifests
    }

    /// Returns the names of the entries.
    pub(crate) fn names(&self) -> &NameIndex {
        self.names
            .get_or_init(|| NameIndex::from_entries(&self.manifests))
    }

    /// Returns the entry that a tag identifies.
    pub(crate) fn find(&self, tag: &Tag) -> Option<&ListingEntry> {
        self.entry_at(self.names().find_tag(tag))
    }

    /// Returns the entry with exactly this name.
    pub(crate) fn find_name(&self, name: &str) -> Option<&ListingEntry> {
        self.entry_at(self.names().find_name(name))
    }

    /// Returns the first entry with this digest.
    pub(crate) fn find_digest(&self, digest: &Digest) -> Option<&ListingEntry> {
        self.entry_at(self.names().find_digest(digest))
    }

    /// Returns the full names that end with this tag.
    pub(crate) fn full_names(&self, tag: &Tag) -> Vec<String> {
        let entries = self.names().positions_with_tag(tag).iter();
        let names = entries.filter_map(|at| self.manifests[*at].annotation(REF_NAME));
        names.map(str::to_owned).collect()
    }

    fn entry_at(&self, position: Option<usize>) -> Option<&ListingEntry> {
        self.manifests.get(position?)
    }

    /// Sets a tag on a manifest. Removes the entry that had the tag before. Also removes the manifest's entry that has
    /// neither a name nor additional information. Other tags of the manifest and full names that end with the tag stay.
    /// Returns whether the index has changed.
    pub(crate) fn set_tag(&mut self, mut descriptor: Descriptor, tag: &Tag) -> bool {
        let mut entries = self.manifests.iter();
        let has_tag = |listed: &ListingEntry| {
            listed.annotation(REF_NAME) == Some(tag.as_str()) && listed.digest == descriptor.digest
        };
        if entries.any(has_tag) {
            return false;
        }
        self.entries_mut()
            .retain(|listed| match listed.annotation(REF_NAME) {
                Some(name) => name != tag.as_str(),
                None => listed.digest != descriptor.digest || !listed.is_plain(),
            });
        descriptor.annotations = Annotations::from([(REF_NAME.to_owned(), tag.to_string())]);
        self.insert(descriptor.into());
        true
    }

    /// Adds an entry that has no tag, unless its manifest is listed. Returns whether the index has changed.
    pub(crate) fn add(&mut self, entry: impl Into<ListingEntry>) -> bool {
        let entry = entry.into();
        let is_listed = self.contains(&entry);
        if !is_listed {
            self.insert(entry);
        }
        !is_listed
    }

    /// Removes a tag. Its manifest stays listed, because it still exists under its digest. Returns whether the tag
    /// existed.
    pub(crate) fn untag(&mut self, tag: &Tag) -> bool {
        let Some(at) = self.names().find_tag(tag) else {
            return false;
        };
        let untagged = self.entries_mut().remove(at).without_tag();
        if !untagged.is_plain() || !self.contains(&untagged) {
            self.insert(untagged);
        }
        true
    }

    fn contains(&self, descriptor: &Descriptor) -> bool {
        self.manifests
            .iter()
            .any(|listed| listed.digest == descriptor.digest)
    }

    /// Inserts an entry at its sorted position, so that the same content results in the same file regardless of the
    /// order of writes. No other entry is moved, because other programs may depend on their order.
    fn insert(&mut self, entry: ListingEntry) {
        let own = entry.sort_key();
        let at = self
            .manifests
            .iter()
            .position(|listed| listed.sort_key() > own);
        let at = at.unwrap_or(self.manifests.len());
        self.entries_mut().insert(at, entry);
    }
}

impl<'de> Deserialize<'de> for Listing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Members::deserialize(deserializer)?;
        let Some(version) = members.get("schemaVersion") else {
            return Err(D::Error::missing_field("schemaVersion"));
        };
        serde_json::from_str::<u64>(version.get()).map_err(D::Error::custom)?;
        let manifests = match members.get(MANIFESTS) {
            Some(entries) => serde_json::from_str::<Option<_>>(entries.get()),
            None => Ok(None),
        };
        let manifests = manifests.map_err(D::Error::custom)?.unwrap_or_default();
        members.set(MANIFESTS, &[(); 0]);
        Ok(Self::new(members, manifests))
    }
}

impl Serialize for Listing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.0.len()))?;
        for (key, value) in &self.members.0 {
            if key == MANIFESTS {
                map.serialize_entry(key, &self.manifests)?;
            } else {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

/// Entry of the index: its descriptor and its original JSON text.
#[derive(Debug, Clone)]
pub(crate) struct ListingEntry {
    descriptor: Descriptor,
    /// Original JSON text; `None` if the entry is serialized from its descriptor.
    original: Option<Box<RawValue>>,
}

impl ListingEntry {
    /// Whether the entry has no additional information, such as annotations.
    fn is_plain(&self) -> bool {
        match &self.original {
            None => self.descriptor.annotations.is_empty() && self.descriptor.platform.is_none(),
            Some(original) => {
                let members = serde_json::from_str::<Members>(original.get());
                members.is_ok_and(|members| {
                    let mut keys = members.0.iter().map(|(key, _)| key.as_str());
                    keys.all(|key| PLAIN_KEYS.contains(&key))
                })
            }
        }
    }

    fn sort_key(&self) -> (Option<&str>, &Digest) {
        (self.annotation(REF_NAME), &self.digest)
    }

    fn without_tag(mut self) -> Self {
        self.descriptor.annotations.remove(REF_NAME);
        // If the text cannot be edited, for example because an annotation occurs twice, the entry is serialized again.
        self.original = self
            .original
            .take()
            .and_then(|written| remove_tag(&written));
        self
    }

    pub(crate) fn into_descriptor(self) -> Descriptor {
        self.descriptor
    }
}

/// Returns the JSON text of an entry with its tag removed, or `None` if the text cannot be edited.
fn remove_tag(original: &RawValue) -> Option<Box<RawValue>> {
    let mut members: Members = serde_json::from_str(original.get()).ok()?;
    let mut annotations: Members = serde_json::from_str(members.get("annotations")?.get()).ok()?;
    annotations.0.retain(|(key, _)| key != REF_NAME);
    if annotations.0.is_empty() {
        members.0.retain(|(key, _)| key != "annotations");
    } else {
        members.set("annotations", &annotations);
    }
    Some(to_raw(&members))
}

impl From<Descriptor> for ListingEntry {
    fn from(descriptor: Descriptor) -> Self {
        Self {
            descriptor,
            original: None,
        }
    }
}

impl Deref for ListingEntry {
    type Target = Descriptor;

    fn deref(&self) -> &Descriptor {
        &self.descriptor
    }
}

impl PartialEq for ListingEntry {
    /// Whether the descriptors are equal, regardless of their text.
    fn eq(&self, other: &Self) -> bool {
        self.descriptor == other.descriptor
    }
}

impl<'de> Deserialize<'de> for ListingEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Box::<RawValue>::deserialize(deserializer)?;
        let descriptor = serde_json::from_str(written.get()).map_err(D::Error::custom)?;
        Ok(Self {
            descriptor,
            original: Some(written),
        })
    }
}

impl Serialize for ListingEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.original {
            Some(original) => original.serialize(serializer),
            None => self.descriptor.serialize(serializer),
        }
    }
}

/// Members of a JSON object in their original order, with their original text. Keys are unique.
#[derive(Debug, Clone, Default)]
struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    fn get(&self, key: &str) -> Option<&RawValue> {
        let member = self.0.iter().find(|(member, _)| member == key);
        member.map(|(_, value)| &**value)
    }

    fn set(&mut self, key: &str, value: &(impl Serialize + ?Sized)) {
        let value = to_raw(value);
        match self.0.iter_mut().find(|(member, _)| member == key) {
            Some(member) => member.1 = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }
}

fn to_raw(value: &(impl Serialize + ?Sized)) -> Box<RawValue> {
    to_raw_value(value).expect("strings, numbers and maps with text keys always serialise")
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let (mut members, mut keys) = (Members::default(), HashSet::new());
                while let Some(key) = map.next_key::<String>()? {
                    // Programs differ in which of two members with the same key they use.
                    if !keys.insert(key.clone()) {
                        let key = key.escape_debug();
                        return Err(A::Error::custom(format_args!("duplicate key `{key}`")));
                    }
                    members.0.push((key, map.next_value()?));
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str) -> Tag {
        name.parse().unwrap()
    }

    fn descriptor(content: &str) -> Descriptor {
        Descriptor::new(
            MediaType::MANIFEST,
            Digest::sha256(content.as_bytes()),
            content.len() as u64,
        )
    }

    /// Creates the text of an entry with members and white space that this crate does not write.
    fn foreign_entry(content: &str, more: &str) -> String {
        let digest = Digest::sha256(content.as_bytes());
        format!(
            r#"{{ "size":{},"x" : [1.0,12345678901234567890123] ,"mediaType":"a\/b","digest":"{digest}"{more} }}"#,
            content.len()
        )
    }

    fn read(text: &str) -> Listing {
        serde_json::from_str(text).unwrap()
    }

    fn to_text(listing: &Listing) -> String {
        String::from_utf8(super::super::json(listing)).unwrap()
    }

    #[test]
    fn text_of_other_programs_is_kept_byte_for_byte() {
        let tagged = r#","annotations":{"y":"1","org.opencontainers.image.ref.name":"v"}"#;
        let (second, first) = (foreign_entry("b", tagged), foreign_entry("a", ""));
        let text = format!(
            r#"{{"x":{{"b":1e0,"a":[]}},"manifests":[{second},{first}],"schemaVersion":2,"annotations":{{"k":"v"}}}}"#
        );
        let mut listing = read(&text);
        assert_eq!(to_text(&listing), text);
        assert!(listing.set_tag(descriptor("c"), &tag("z")));
        let entry = serde_json::to_string(listing.find(&tag("z")).unwrap()).unwrap();
        let with = text.replace(&first, &format!("{first},{entry}"));
        assert_eq!(to_text(&listing), with);
        assert!(!listing.set_tag(descriptor("c"), &tag("z")));
        assert!(listing.untag(&tag("z")) && !listing.untag(&tag("z")));
        listing
            .entries_mut()
            .retain(|listed| listed.digest != descriptor("c").digest);
        assert_eq!(to_text(&listing), text);
    }

    #[test]
    fn untag_removes_only_the_tag() {
        for (more, left) in [
            (
                r#","annotations":{"y":"1","org.opencontainers.image.ref.name":"v"},"z":null"#,
                r#","annotations":{"y":"1"},"z":null"#,
            ),
            (
                r#","annotations":{"org.opencontainers.image.ref.name":"v"}"#,
                "",
            ),
        ] {
            let text = format!(
                r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
                foreign_entry("a", more)
            );
            let mut listing = read(&text);
            assert!(listing.untag(&tag("v")));
            let expected = format!(
                r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
                foreign_entry("a", left)
            );
            let plain = |text: &str| text.replace(' ', "");
            assert_eq!(plain(&to_text(&listing)), plain(&expected));
            // The entry has additional information, so it stays when another entry is added.
            assert!(!listing.add(descriptor("a")));
            assert!(listing.set_tag(descriptor("a"), &tag("w")));
            assert_eq!(listing.manifests.len(), 2);
        }
    }

    #[test]
    fn untag_removes_duplicate_ref_name_annotations() {
        let twice = r#","annotations":{"k":"v","org.opencontainers.image.ref.name":"u","org.opencontainers.image.ref.name":"v"}"#;
        let mut listing = read(&format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            foreign_entry("a", twice)
        ));
        assert!(listing.untag(&tag("v")));
        let again = read(&to_text(&listing));
        assert_eq!(again.manifests, listing.manifests);
        assert_eq!(again.manifests[0].annotation(REF_NAME), None);
        assert_eq!(again.manifests[0].annotation("k"), Some("v"));
    }

    #[test]
    fn written_index_is_independent_of_insertion_order() {
        let mut forwards = Listing::empty();
        let mut backwards = Listing::empty();
        let tags = ["1", "2", "latest"];
        for name in tags {
            forwards.set_tag(descriptor(name), &tag(name));
        }
        for name in tags.into_iter().rev() {
            assert!(backwards.add(descriptor(name)));
            // The entries are parsed again, as if they were read from a file.
            backwards = read(&to_text(&backwards));
            backwards.set_tag(descriptor(name), &tag(name));
        }
        assert_eq!(to_text(&forwards), to_text(&backwards));
        assert_eq!(forwards.manifests.len(), 3);
        let head = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"#;
        assert!(to_text(&forwards).starts_with(head));
    }

    #[test]
    fn invalid_index_is_rejected() {
        for text in [
            "[]",
            "{}",
            r#"{"schemaVersion":"2"}"#,
            r#"{"schemaVersion":2,"manifests":{}}"#,
            r#"{"schemaVersion":2,"manifests":[{}]}"#,
            r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#,
            r#"{"schemaVersion":2,"schemaVersion":2}"#,
        ] {
            assert!(serde_json::from_str::<Listing>(text).is_err(), "{text}");
        }
        for text in [
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"manifests":null}"#,
        ] {
            assert_eq!(
                to_text(&read(text)),
                r#"{"schemaVersion":2,"manifests":[]}"#
            );
        }
    }
}
