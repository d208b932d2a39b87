//! Referrers: manifests with a `subject`, such as signatures, SBOMs and attestations (distribution-spec, "Listing
//! Referrers").
//!
//! Provides the entries of a list of referrers, the tag under which clients store the list on a registry without the
//! referrers API ("Referrers Tag Schema"), and the search for referrers in layouts and archives. The module
//! `registry::referrers` sends the requests to registries.

pub(crate) mod walk;

use futures_util::stream::BoxStream;

use crate::digest::Digest;
use crate::error::Result;
use crate::manifest::{Descriptor, Document, Manifest, MediaType};
use crate::reference::Tag;

/// Stream of descriptors, in the order of their source.
pub type DescriptorStream = BoxStream<'static, Result<Descriptor>>;

/// Maximum number of referrers of one manifest.
pub(crate) const MAX_REFERRERS: usize = 10_000;

/// Maximum lengths of the algorithm and of the encoded part in a fallback tag, in bytes.
const MAX_TAG_PARTS: (usize, usize) = (32, 64);

/// Returns the entry of a manifest in a list of referrers: its descriptor with the artifact type and all annotations.
pub(crate) fn to_entry(manifest: &Manifest) -> Descriptor {
    let mut entry = manifest.descriptor();
    entry.artifact_type = manifest.artifact_type().cloned();
    entry.annotations.clone_from(manifest.annotations());
    entry
}

/// Whether an entry has the requested artifact type, if one is requested.
pub(crate) fn has_artifact_type(entry: &Descriptor, artifact_type: Option<&MediaType>) -> bool {
    artifact_type.is_none_or(|requested| entry.artifact_type.as_ref() == Some(requested))
}

/// Returns the entry of a manifest in the list of referrers of `subject`. Returns `None` if the manifest has another
/// subject or artifact type.
pub(crate) fn matching_entry(
    manifest: &Manifest,
    subject: &Digest,
    artifact_type: Option<&MediaType>,
) -> Option<Descriptor> {
    let has_subject = manifest
        .subject()
        .is_some_and(|named| named.digest == *subject);
    Some(to_entry(manifest)).filter(|entry| has_subject && has_artifact_type(entry, artifact_type))
}

/// Returns the tag under which clients store the list of referrers of a manifest.
pub(crate) fn fallback_tag(subject: &Digest) -> Tag {
    let (algorithm, encoded) = MAX_TAG_PARTS;
    let part = |text: &str, longest: usize| -> String {
        let characters = text.chars().take(longest);
        let legal = |character: char| {
            let is_legal = character.is_ascii_alphanumeric() || "._-".contains(character);
            if is_legal { character } else { '-' }
        };
        characters.map(legal).collect()
    };
    let algorithm = part(subject.algorithm_name(), algorithm);
    let encoded = part(subject.encoded(), encoded);
    format!("{algorithm}-{encoded}")
        .parse()
        .expect("a digest starts with a letter or digit, and characters that a tag must not have were replaced")
}

/// Prefixes of fallback tags: the digest algorithms that manifests have, and `-`.
pub const FALLBACK_TAG_PREFIXES: [&str; 2] = ["sha256-", "sha512-"];

/// Whether a tag has the form of a fallback tag, under which clients store the list of referrers of a manifest.
pub fn is_fallback_tag(tag: &Tag) -> bool {
    let (_, longest) = MAX_TAG_PARTS;
    let encoded = FALLBACK_TAG_PREFIXES
        .iter()
        .find_map(|prefix| tag.as_str().strip_prefix(prefix));
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    encoded.is_some_and(|encoded| encoded.len() == longest && encoded.bytes().all(is_hex))
}

/// Returns the entries of a manifest that was found under the fallback tag of `subject`, if it is a list of referrers.
///
/// Returns `None` for other content: the subject itself, which a registry may serve under the fallback tag of its
/// digest, or an index with entries that cannot be referrers.
pub(crate) fn fallback_entries<'m>(
    manifest: &'m Manifest,
    subject: &Digest,
) -> Option<&'m [Descriptor]> {
    let entries = list_entries(manifest, &fallback_tag(subject))?;
    let is_itself = matches_digest(manifest, subject);
    (!is_itself && entries.iter().all(|entry| entry.digest != *subject)).then_some(entries)
}

/// Whether a manifest that was found under a fallback tag is a list of referrers.
pub(crate) fn is_list_under(manifest: &Manifest, tag: &Tag) -> bool {
    list_entries(manifest, tag).is_some()
}

fn list_entries<'m>(manifest: &'m Manifest, tag: &Tag) -> Option<&'m [Descriptor]> {
    let Document::Index(index) = manifest.document() else {
        return None;
    };
    // An entry with a platform belongs to a multi-platform image.
    let can_refer = |entry: &Descriptor| entry.media_type.is_manifest() && entry.platform.is_none();
    let is_list = fallback_tag(manifest.digest()) != *tag && index.manifests.iter().all(can_refer);
    is_list.then_some(&index.manifests)
}

/// Whether `digest` is a digest of this manifest. It may have any known algorithm.
pub(crate) fn matches_digest(manifest: &Manifest, digest: &Digest) -> bool {
    let computed = || Some(digest.algorithm()?.digest(manifest.bytes()));
    digest == manifest.digest() || computed().as_ref() == Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use crate::manifest::{ImageManifest, Index, Platform};

    #[test]
    fn fallback_tag_of_any_digest_is_valid() {
        let sha256 = Digest::sha256(b"");
        assert_eq!(
            fallback_tag(&sha256).as_str(),
            format!("sha256-{}", sha256.encoded())
        );
        let sha512 = Algorithm::Sha512.digest(b"");
        assert_eq!(
            fallback_tag(&sha512).as_str(),
            format!("sha512-{}", &sha512.encoded()[..64])
        );
        let odd: Digest = "test+algorithm+using+algorithm+separators+and+lots+of+characters+to+excercise+overall+truncation:alsoSome=InTheEncodedSectionToShowHyphenReplacementAndLotsAndLotsOfCharactersToExcerciseEncodedTruncation"
            .parse()
            .unwrap();
        assert_eq!(
            fallback_tag(&odd).as_str(),
            "test-algorithm-using-algorithm-s-alsoSome-InTheEncodedSectionToShowHyphenReplacementAndLotsAndLot"
        );
    }

    #[test]
    fn fallback_tags_are_recognized_by_their_form() {
        for digest in [Digest::sha256(b""), Algorithm::Sha512.digest(b"")] {
            assert!(is_fallback_tag(&fallback_tag(&digest)), "{digest}");
        }
        let signature = format!("{}.sig", fallback_tag(&Digest::sha256(b"")));
        for other in ["1.2.3", "sha256-abc", &signature] {
            assert!(!is_fallback_tag(&other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn index_is_a_referrers_list_if_its_entries_can_be_referrers() {
        let subject = Digest::sha256(b"subject");
        let entry = Descriptor::new(MediaType::MANIFEST, Digest::sha256(b"referrer"), 8);
        let is_list = |entries: Vec<Descriptor>, subject: Option<&Digest>| {
            let index = Manifest::from_index(Index::new(None, entries)).unwrap();
            fallback_entries(&index, subject.unwrap_or(index.digest())).is_some()
        };
        assert!(is_list(Vec::new(), Some(&subject)));
        assert!(is_list(vec![entry.clone()], Some(&subject)));
        // The index is the subject itself.
        assert!(!is_list(vec![entry.clone()], None));
        let mut of_platform = entry.clone();
        of_platform.platform = Some(Platform {
            architecture: "amd64".into(),
            os: "linux".into(),
            os_version: None,
            os_features: Vec::new(),
            variant: None,
        });
        let layer = Descriptor::new("a/layer".into(), Digest::sha256(b"layer"), 5);
        let itself = Descriptor::new(MediaType::INDEX, subject.clone(), 7);
        for other in [of_platform, layer, itself] {
            assert!(!is_list(vec![entry.clone(), other], Some(&subject)));
        }
    }

    #[test]
    fn entry_has_artifact_type_and_annotations() {
        let subject = Descriptor::new(MediaType::MANIFEST, Digest::sha256(b"subject"), 7);
        let config = Descriptor::new("application/config".into(), Digest::sha256(b"{}"), 2);
        let mut image = ImageManifest::new("a/b".into(), config);
        image.artifact_type = None;
        image.subject = Some(subject.clone());
        image.annotations.insert("key".into(), "value".into());
        let image = Manifest::from_image(image).unwrap();
        let found = |requested: Option<&str>| {
            matching_entry(
                &image,
                &subject.digest,
                requested.map(MediaType::from).as_ref(),
            )
        };
        let entry = found(None).unwrap();
        assert_eq!(entry.artifact_type, Some("application/config".into()));
        assert_eq!(entry.annotation("key"), Some("value"));
        assert_eq!(entry.digest, *image.digest());
        assert_eq!(found(Some("application/config")), Some(entry));
        assert_eq!(found(Some("application/other")), None);
        assert_eq!(matching_entry(&image, image.digest(), None), None);
        let index = Manifest::from_index(Index::new(None, Vec::new())).unwrap();
        assert_eq!(matching_entry(&index, &subject.digest, None), None);
    }
}
