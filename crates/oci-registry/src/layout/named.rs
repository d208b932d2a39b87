//! Lookup of an entry by its full name.

use super::listing::Listing;
use super::names::tag_in_name;
use crate::digest::Digest;
use crate::reference::Tag;

/// Entry that a full name in a layout or archive identifies.
#[derive(Debug)]
pub(crate) struct NamedEntry {
    /// Tag at the end of the name.
    pub(crate) tag: Option<Tag>,
    /// Whether the tag alone identifies the manifest.
    pub(crate) is_tagged: bool,
    pub(crate) digest: Digest,
}

impl NamedEntry {
    pub(crate) fn find(listing: &Listing, name: &str) -> Option<Self> {
        let listed = listing.find_name(name)?;
        let tag = tag_in_name(name);
        let tagged = tag.as_ref().and_then(|tag| listing.find(tag));
        Some(Self {
            is_tagged: tagged.is_some_and(|tagged| tagged.digest == listed.digest),
            tag,
            digest: listed.digest.clone(),
        })
    }
}
