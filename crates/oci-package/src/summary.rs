//! What a listing says about a manifest, ours or anybody's, without asking for anything more.

use oci_registry::{Document, Manifest, MediaType, Platform};

use crate::annotation;
use crate::platform;

/// Facts about a manifest for one line of a list. What the manifest does not say is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Config and layers together, in bytes; of an index, of all its manifests including attestations, if each entry says it.
    pub size: Option<u64>,
    /// When it was made, as its annotation says: RFC 3339, unless the author wrote something else.
    pub created: Option<String>,
    /// The platforms, each once, in the order of the index; without attestations.
    pub platforms: Vec<Platform>,
    /// The target triples, in the order of the index; without attestations.
    pub targets: Vec<String>,
    /// What kind of artifact it is.
    pub artifact_type: Option<MediaType>,
}

impl Summary {
    /// Summarises a manifest.
    pub fn from_manifest(manifest: &Manifest) -> Self {
        let said = manifest.annotations();
        let (size, platforms, targets) = match manifest.document() {
            Document::Image(image) => {
                let layers = image.layers.iter().map(|layer| layer.size);
                let size = layers.fold(image.config.size, u64::saturating_add);
                let platform = said
                    .get(annotation::PLATFORM)
                    .and_then(|text| platform::parse(text).ok());
                let target = said.get(annotation::TARGET).cloned();
                (
                    Some(size),
                    platform.into_iter().collect(),
                    target.into_iter().collect(),
                )
            }
            Document::Index(index) => {
                let sizes = index
                    .manifests
                    .iter()
                    .map(|entry| entry.annotation(annotation::SIZE)?.parse::<u64>().ok());
                let size = sizes
                    .reduce(|one, other| Some(one?.saturating_add(other?)))
                    .flatten();
                let entries = index.manifests.iter();
                let entries = entries.filter(|entry| !platform::is_attestation(entry));
                let mut platforms: Vec<Platform> = Vec::new();
                let offered = entries.clone().filter_map(|entry| entry.platform.as_ref());
                for platform in offered.filter(|platform| platform::is_known(platform)) {
                    if !platforms.contains(platform) {
                        platforms.push(platform.clone());
                    }
                }
                let targets = entries.filter_map(|entry| entry.annotation(annotation::TARGET));
                (size, platforms, targets.map(str::to_owned).collect())
            }
            _ => (None, Vec::new(), Vec::new()),
        };
        Self {
            size,
            created: said.get(annotation::CREATED).cloned(),
            platforms,
            targets,
            artifact_type: manifest.artifact_type().cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_registry::{Descriptor, Digest, Index};

    use super::*;

    fn entry(target: &str, size: Option<&str>) -> Descriptor {
        let mut entry = Descriptor::new(MediaType::MANIFEST, Digest::sha256(target.as_bytes()), 7);
        entry
            .annotations
            .insert(annotation::TARGET.into(), target.into());
        size.map(|size| {
            entry
                .annotations
                .insert(annotation::SIZE.into(), size.into())
        });
        entry.platform = crate::platform::parse("linux/amd64").ok();
        entry
    }

    fn of(entries: Vec<Descriptor>) -> Summary {
        Summary::from_manifest(&Manifest::from_index(Index::new(None, entries)).unwrap())
    }

    #[test]
    fn an_index_sums_what_its_entries_say() {
        let summary = of(vec![entry("a", Some("1")), entry("b", Some("2"))]);
        assert_eq!(summary.size, Some(3));
        assert_eq!(summary.targets, ["a", "b"]);
        assert_eq!(summary.platforms.len(), 1);
    }

    #[test]
    fn summary_leaves_out_attestations_but_counts_their_size() {
        let mut attestation = entry("x", Some("4"));
        attestation.annotations.insert(
            annotation::REFERENCE_TYPE.into(),
            "attestation-manifest".into(),
        );
        attestation.platform = crate::platform::parse("unknown/unknown").ok();
        let mut unmarked = Descriptor {
            annotations: oci_registry::Annotations::new(),
            ..attestation.clone()
        };
        unmarked
            .annotations
            .insert(annotation::SIZE.into(), "8".into());
        let summary = of(vec![entry("a", Some("1")), attestation, unmarked]);
        assert_eq!(summary.size, Some(13));
        assert_eq!(summary.targets, ["a"]);
        let platforms: Vec<_> = summary.platforms.iter().map(Platform::to_string).collect();
        assert_eq!(platforms, ["linux/amd64"]);
    }

    #[test]
    fn what_one_entry_leaves_out_is_not_guessed() {
        assert_eq!(of(vec![entry("a", Some("1")), entry("b", None)]).size, None);
        assert_eq!(of(vec![]).size, None);
    }
}
