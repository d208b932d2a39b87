//! Manifests about manifests: signatures, lists of contents, attestations (distribution-spec, "Listing Referrers").
//!
//! Owns what a list of referrers says about each of them, and the name of the tag that keeps such a list where a
//! registry keeps none itself ("Referrers Tag Schema"); and the search in places that keep no list. Does not own where a
//! registry finds them.

pub(crate) mod walk;

use futures_util::stream::BoxStream;

use crate::digest::Digest;
use crate::error::Result;
use crate::manifest::{Descriptor, Document, Manifest, MediaType};
use crate::reference::Tag;

/// Descriptors as they are found, in the order of the place they come from.
pub type DescriptorStream = BoxStream<'static, Result<Descriptor>>;

/// More referrers than any manifest has.
pub(crate) const MAX_REFERRERS: usize = 10_000;

/// Longest name of an algorithm and longest encoded part in a fallback tag, in bytes.
const MAX_TAG_PARTS: (usize, usize) = (32, 64);

/// What a list of referrers says about this one: beside its name, what kind of artifact it is and all of its annotations.
pub(crate) fn entry(manifest: &Manifest) -> Descriptor {
    let mut entry = manifest.descriptor();
    entry.artifact_type = manifest.artifact_type().cloned();
    entry.annotations.clone_from(manifest.annotations());
    entry
}

/// Whether an entry is of the artifact type that is asked for, if one is.
pub(crate) fn is_wanted(entry: &Descriptor, artifact_type: Option<&MediaType>) -> bool {
    artifact_type.is_none_or(|wanted| entry.artifact_type.as_ref() == Some(wanted))
}

/// The entry of this manifest in the list of `subject`'s referrers, if it is one of the type asked for.
pub(crate) fn entry_if(
    manifest: &Manifest,
    subject: &Digest,
    artifact_type: Option<&MediaType>,
) -> Option<Descriptor> {
    let is_about = manifest
        .subject()
        .is_some_and(|named| named.digest == *subject);
    Some(entry(manifest)).filter(|entry| is_about && is_wanted(entry, artifact_type))
}

/// The tag under which clients keep the list of referrers of a manifest.
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
        .expect("a digest begins with a letter or digit, and what a tag cannot have was replaced")
}

/// Whether a tag has the form of those that keep lists of referrers.
pub(crate) fn is_fallback_tag(tag: &Tag) -> bool {
    let (_, longest) = MAX_TAG_PARTS;
    let encoded = ["sha256-", "sha512-"]
        .iter()
        .find_map(|algorithm| tag.as_str().strip_prefix(algorithm));
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    encoded.is_some_and(|encoded| encoded.len() == longest && encoded.bytes().all(is_hex))
}

/// The list that this manifest keeps, if it is one.
pub(crate) fn listed(manifest: &Manifest) -> Option<&[Descriptor]> {
    match manifest.document() {
        Document::Index(index) => Some(&index.manifests),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use crate::manifest::{ImageManifest, Index};

    #[test]
    fn fallback_tags_are_tags_whatever_the_digest() {
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
    fn tags_of_lists_are_known_by_their_form() {
        for digest in [Digest::sha256(b""), Algorithm::Sha512.digest(b"")] {
            assert!(is_fallback_tag(&fallback_tag(&digest)), "{digest}");
        }
        let signature = format!("{}.sig", fallback_tag(&Digest::sha256(b"")));
        for other in ["1.2.3", "sha256-abc", &signature] {
            assert!(!is_fallback_tag(&other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn an_entry_has_the_type_and_the_annotations() {
        let subject = Descriptor::new(MediaType::MANIFEST, Digest::sha256(b"subject"), 7);
        let config = Descriptor::new("application/config".into(), Digest::sha256(b"{}"), 2);
        let mut image = ImageManifest::new("a/b".into(), config);
        image.artifact_type = None;
        image.subject = Some(subject.clone());
        image.annotations.insert("key".into(), "value".into());
        let image = Manifest::from_image(image).unwrap();
        let found = |wanted: Option<&str>| {
            entry_if(
                &image,
                &subject.digest,
                wanted.map(MediaType::from).as_ref(),
            )
        };
        let entry = found(None).unwrap();
        assert_eq!(entry.artifact_type, Some("application/config".into()));
        assert_eq!(entry.annotation("key"), Some("value"));
        assert_eq!(entry.digest, *image.digest());
        assert_eq!(found(Some("application/config")), Some(entry));
        assert_eq!(found(Some("application/other")), None);
        assert_eq!(entry_if(&image, image.digest(), None), None);
        let index = Manifest::from_index(Index::new(None, Vec::new())).unwrap();
        assert_eq!(entry_if(&index, &subject.digest, None), None);
    }
}
