//! Summary of a manifest for listings, without further requests.

use oci_registry::{Document, Manifest, MediaType, Platform};

use crate::annotation;
use crate::platform;

/// Summary of a manifest. Values that the manifest does not state are absent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Total size of config and layers, in bytes. For an index: the total of its manifests including attestations, if
    /// each entry states its size.
    pub size: Option<u64>,
    /// Creation time from the annotations. RFC 3339, unless the publisher used another format.
    pub created: Option<String>,
    /// Distinct platforms in the order of the index, without attestations.
    pub platforms: Vec<Platform>,
    /// Target triples in the order of the index, without attestations.
    pub targets: Vec<String>,
    /// Artifact type of the manifest.
    pub artifact_type: Option<MediaType>,
}

impl Summary {
    /// Creates the summary of a manifest.
    pub fn from_manifest(manifest: &Manifest) -> Self {
        let annotations = manifest.annotations();
        let (size, platforms, targets) = match manifest.document() {
            Document::Image(image) => {
                let layers = image.layers.iter().map(|layer| layer.size);
                let size = layers.fold(image.config.size, u64::saturating_add);
                let platform = annotations
                    .get(annotation::PLATFORM)
                    .and_then(|text| platform::parse(text).ok());
                let target = annotations.get(annotation::TARGET).cloned();
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
                    .reduce(|total, size| Some(total?.saturating_add(size?)))
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
            created: annotations.get(annotation::CREATED).cloned(),
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

    fn summarize(entries: Vec<Descriptor>) -> Summary {
        Summary::from_manifest(&Manifest::from_index(Index::new(None, entries)).unwrap())
    }

    #[test]
    fn index_summary_adds_sizes_of_entries() {
        let summary = summarize(vec![entry("a", Some("1")), entry("b", Some("2"))]);
        assert_eq!(summary.size, Some(3));
        assert_eq!(summary.targets, ["a", "b"]);
        assert_eq!(summary.platforms.len(), 1);
    }

    #[test]
    fn index_summary_omits_attestations_but_adds_their_size() {
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
        let summary = summarize(vec![entry("a", Some("1")), attestation, unmarked]);
        assert_eq!(summary.size, Some(13));
        assert_eq!(summary.targets, ["a"]);
        let platforms: Vec<_> = summary.platforms.iter().map(Platform::to_string).collect();
        assert_eq!(platforms, ["linux/amd64"]);
    }

    #[test]
    fn index_summary_without_size_of_entry_has_no_size() {
        assert_eq!(
            summarize(vec![entry("a", Some("1")), entry("b", None)]).size,
            None
        );
        assert_eq!(summarize(vec![]).size, None);
    }
}
