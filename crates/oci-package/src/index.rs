//! Index of a package: one version, with one entry for each target.
//!
//! [`PackageIndex`] maps targets to entries. The canonical form of an index depends only on the manifests that the
//! index lists. Writers that list the same manifests therefore write identical bytes. [`publish`](crate::publish)
//! determines when the index is written.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use oci_registry::{
    Annotations, Descriptor, Digest, ErrorKind, Failure, Index, Manifest, Platform,
};
use snafu::{ResultExt, Snafu};

use crate::annotation;
use crate::media;
use crate::platform::{GlibcVersion, Libc};
use crate::target::PackageTarget;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to write the index of {count} targets"))]
    WriteIndex {
        count: usize,
        source: oci_registry::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        let Self::WriteIndex { source, .. } = self;
        source.kind()
    }
}

/// Entry of a package's index: the manifest for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    target: String,
    descriptor: Descriptor,
    /// Annotations of the manifest; `None` for an entry that was read from an index.
    annotations: Option<Annotations>,
}

impl IndexEntry {
    /// Creates the entry for a manifest. Returns `None` if the manifest is not a package for one target.
    pub fn from_manifest(manifest: &Manifest) -> Option<Self> {
        let package = PackageTarget::read(manifest)?;
        let mut descriptor = manifest.descriptor();
        descriptor.artifact_type = Some(media::PACKAGE_TARGET);
        descriptor.platform = package.platform;
        let mut add =
            |key: &str, value: String| descriptor.annotations.insert(key.to_owned(), value);
        add(annotation::TARGET, package.target.clone());
        add(annotation::SIZE, package.size.to_string());
        package
            .profile
            .map(|profile| add(annotation::PROFILE, profile));
        package
            .glibc
            .map(|glibc| add(annotation::GLIBC, glibc.to_string()));
        Some(Self {
            target: package.target,
            descriptor,
            annotations: Some(manifest.annotations().clone()),
        })
    }

    fn from_descriptor(descriptor: &Descriptor) -> Option<Self> {
        Some(Self {
            target: descriptor.annotation(annotation::TARGET)?.to_owned(),
            descriptor: descriptor.clone(),
            annotations: None,
        })
    }

    /// Returns the target triple.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns the descriptor of the manifest, as the index contains it.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

/// Index of a package, as a map from target to entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageIndex {
    entries: BTreeMap<String, IndexEntry>,
    /// Entries that other tools added. They state no target, and writers keep them unchanged.
    foreign_entries: Vec<Descriptor>,
}

impl PackageIndex {
    /// Creates an index without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses an index. Returns `None` if the manifest is not the index of a package.
    ///
    /// An index belongs to a package if it has the artifact type of this format, or if the artifact type is missing and
    /// all entries state their target, because some mirrors drop the artifact type. If two entries have the same
    /// target, the first entry is used, as other clients do.
    pub fn read(manifest: &Manifest) -> Option<Self> {
        let index = manifest.as_index()?;
        let is_entry =
            |descriptor: &Descriptor| descriptor.annotations.contains_key(annotation::TARGET);
        let is_package = match &index.artifact_type {
            Some(artifact_type) => *artifact_type == media::PACKAGE,
            None => !index.manifests.is_empty() && index.manifests.iter().all(is_entry),
        };
        if !is_package {
            return None;
        }
        let mut read = Self::new();
        for descriptor in &index.manifests {
            match IndexEntry::from_descriptor(descriptor) {
                Some(entry) => {
                    read.entries.entry(entry.target.clone()).or_insert(entry);
                }
                None => read.foreign_entries.push(descriptor.clone()),
            }
        }
        Some(read)
    }

    /// Adds an entry and returns the entry that it replaces.
    pub fn insert(&mut self, entry: IndexEntry) -> Option<IndexEntry> {
        self.entries.insert(entry.target.clone(), entry)
    }

    /// Removes the entry for a target.
    pub fn remove(&mut self, target: &str) -> Option<IndexEntry> {
        self.entries.remove(target)
    }

    /// Returns the entry for a target.
    pub fn entry(&self, target: &str) -> Option<&IndexEntry> {
        self.entries.get(target)
    }

    /// Returns the entries, sorted by target.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &IndexEntry> {
        self.entries.values()
    }

    /// Whether the index has neither entries for targets nor entries that other tools added.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.foreign_entries.is_empty()
    }

    /// Returns the entries that other tools added, in the order of the index.
    pub fn foreign_entries(&self) -> &[Descriptor] {
        &self.foreign_entries
    }

    /// Removes the entries for targets that do not satisfy `test`.
    pub(crate) fn retain(&mut self, test: impl Fn(&IndexEntry) -> bool) {
        self.entries.retain(|_, entry| test(entry));
    }

    /// Removes the entries with these digests that other tools added.
    pub(crate) fn remove_foreign_entries(&mut self, digests: &BTreeSet<Digest>) {
        self.foreign_entries
            .retain(|entry| !digests.contains(&entry.digest));
    }

    /// Recomputes entries from their manifests. `find` returns the manifest of an entry. Entries for which it returns
    /// `None` are unchanged.
    pub fn recompute<'a>(&mut self, find: impl Fn(&Descriptor) -> Option<&'a Manifest>) {
        for entry in self.entries.values_mut() {
            let recomputed = find(&entry.descriptor).and_then(IndexEntry::from_manifest);
            if let Some(recomputed) =
                recomputed.filter(|recomputed| recomputed.target == entry.target)
            {
                *entry = recomputed;
            }
        }
    }

    /// Converts the index to its canonical form.
    ///
    /// Entries are sorted by operating system, architecture, variant, portability and target, so a client that selects
    /// the first match gets the most portable manifest. The index has the annotations that all manifests have in
    /// common, and the latest creation date. Entries that were read from an index and not [recomputed](Self::recompute)
    /// do not affect the annotations.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the index exceeds the size that registries accept.
    pub fn to_manifest(&self) -> crate::Result<Manifest> {
        let mut descriptors: Vec<_> = self
            .entries
            .values()
            .map(|entry| &entry.descriptor)
            .collect();
        descriptors.sort_by_key(|descriptor| sort_key(descriptor));
        let mut foreign: Vec<_> = self.foreign_entries.iter().collect();
        foreign.sort_by_key(|descriptor| &descriptor.digest);
        let manifests = descriptors.into_iter().chain(foreign).cloned().collect();
        let mut index = Index::new(Some(media::PACKAGE), manifests);
        index.annotations = self.annotations();
        let count = self.entries.len();
        Ok(Manifest::from_index(index).context(WriteIndexSnafu { count })?)
    }

    /// Returns the annotations that all manifests have in common. Annotations that apply to one target only are
    /// omitted.
    fn annotations(&self) -> Annotations {
        let mut annotations = self
            .entries
            .values()
            .filter_map(|entry| entry.annotations.as_ref());
        let created = annotations
            .clone()
            .filter_map(|annotations| annotations.get(annotation::CREATED));
        let created = created.filter_map(|text| Some((text.parse::<Timestamp>().ok()?, text)));
        let latest = created.max().map(|(_, text)| text.clone());
        let mut common = annotations.next().cloned().unwrap_or_default();
        for annotations in annotations {
            common.retain(|key, value| annotations.get(key) == Some(value));
        }
        common.retain(|key, _| !annotation::TARGET_KEYS.contains(&key.as_str()));
        common.extend(latest.map(|latest| (annotation::CREATED.to_owned(), latest)));
        common
    }
}

/// Returns the sort key of an entry.
fn sort_key(
    descriptor: &Descriptor,
) -> (String, String, String, Libc, Option<GlibcVersion>, String) {
    let annotation = |key| descriptor.annotation(key);
    let target = annotation(annotation::TARGET)
        .unwrap_or_default()
        .to_owned();
    let glibc = annotation(annotation::GLIBC).and_then(|text| text.parse().ok());
    let libc = descriptor
        .platform
        .as_ref()
        .map_or(Libc::Static, Libc::from_platform);
    let platform = descriptor.platform.clone();
    let (os, architecture, variant) = platform.map_or_else(Default::default, |platform| {
        let Platform {
            os,
            architecture,
            variant,
            ..
        } = platform;
        (os, architecture, variant.unwrap_or_default())
    });
    (os, architecture, variant, libc, glibc, target)
}

#[cfg(test)]
mod tests {
    use oci_registry::{ImageManifest, MediaType};

    use super::*;

    /// Creates the manifest for a target, with additional annotations.
    fn manifest(target: &str, additional: &[(&str, &str)]) -> Manifest {
        let platform = crate::platform::from_triple(target, None).unwrap();
        let config = oci_registry::Blob::from_bytes(media::CONFIG, target.to_owned());
        let mut image = ImageManifest::new(media::PACKAGE_TARGET, config.descriptor().clone());
        image
            .layers
            .push(oci_registry::Blob::empty().descriptor().clone());
        let libc = Libc::from_platform(&platform);
        let required = [
            (annotation::TARGET, target.to_owned()),
            (annotation::PLATFORM, platform.to_string()),
            (annotation::LIBC, libc.to_string()),
        ];
        let additional = additional
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()));
        image.annotations = required
            .into_iter()
            .chain(additional)
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        Manifest::from_image(image).unwrap()
    }

    fn index(manifests: &[Manifest]) -> PackageIndex {
        let mut index = PackageIndex::new();
        for manifest in manifests {
            index.insert(IndexEntry::from_manifest(manifest).unwrap());
        }
        index
    }

    const GNU: &str = "x86_64-unknown-linux-gnu";
    const MUSL: &str = "x86_64-unknown-linux-musl";
    const MAC: &str = "aarch64-apple-darwin";

    #[test]
    fn index_entry_states_target_size_profile_and_glibc() {
        let manifest = manifest(
            GNU,
            &[
                (annotation::GLIBC, "2.34"),
                (annotation::PROFILE, "release"),
            ],
        );
        let entry = IndexEntry::from_manifest(&manifest).unwrap();
        let json = serde_json::to_string(entry.descriptor()).unwrap();
        assert_eq!(
            json,
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{},"#,
                manifest.digest(),
                manifest.bytes().len()
            ) + r#""artifactType":"application/vnd.cargo-oci.package-target.v1","#
                + r#""platform":{"architecture":"amd64","os":"linux","os.features":["libc.glibc"]},"#
                + r#""annotations":{"dev.cargo-oci.glibc":"2.34","dev.cargo-oci.profile":"release","#
                + r#""dev.cargo-oci.size":"26","dev.cargo-oci.target":"x86_64-unknown-linux-gnu"}}"#
        );
    }

    #[test]
    fn index_bytes_are_independent_of_insertion_order() {
        let manifests =
            [MUSL, MAC, GNU].map(|target| manifest(target, &[(annotation::TITLE, "widgets")]));
        let written = index(&manifests).to_manifest().unwrap();
        let mut reversed = manifests.clone();
        reversed.reverse();
        assert_eq!(index(&reversed).to_manifest().unwrap(), written);

        let mut read = PackageIndex::read(&written).unwrap();
        let targets: Vec<_> = read.entries().map(IndexEntry::target).collect();
        assert_eq!(targets, [MAC, GNU, MUSL]);
        read.recompute(|entry| {
            manifests
                .iter()
                .find(|manifest| *manifest.digest() == entry.digest)
        });
        assert_eq!(read.to_manifest().unwrap(), written);
    }

    #[test]
    fn index_lists_most_portable_entry_of_platform_first() {
        let fully_static = manifest(
            "x86_64-unikraft-linux-musl",
            &[(annotation::LIBC, "static")],
        );
        let manifests = [
            manifest("x86_64-unknown-freebsd", &[]),
            manifest(GNU, &[(annotation::GLIBC, "2.34")]),
            manifest(
                "x86_64-unknown-linux-gnuasan",
                &[(annotation::GLIBC, "2.9")],
            ),
            manifest(MUSL, &[]),
            manifest("armv7-unknown-linux-musleabihf", &[]),
            manifest("aarch64-unknown-linux-gnu", &[]),
            manifest("arm-unknown-linux-musleabihf", &[]),
            fully_static,
        ];
        let written = index(&manifests).to_manifest().unwrap();
        let targets = written.as_index().unwrap().manifests.iter();
        let targets: Vec<_> = targets
            .map(|entry| entry.annotation(annotation::TARGET).unwrap())
            .collect();
        assert_eq!(
            targets,
            [
                "x86_64-unknown-freebsd",
                "x86_64-unikraft-linux-musl",
                "x86_64-unknown-linux-gnuasan",
                GNU,
                MUSL,
                "arm-unknown-linux-musleabihf",
                "armv7-unknown-linux-musleabihf",
                "aarch64-unknown-linux-gnu",
            ]
        );
    }

    #[test]
    fn index_has_common_annotations_and_latest_date() {
        let annotations = |created, profile| {
            [
                (annotation::TITLE, "widgets"),
                (annotation::PROFILE, profile),
                (annotation::CREATED, created),
                ("com.example.x", profile),
            ]
        };
        let manifests = [
            manifest(GNU, &annotations("2026-01-01T00:00:00Z", "release")),
            manifest(MAC, &annotations("2026-01-01T01:00:00+02:00", "dev")),
            manifest(MUSL, &annotations("not a date", "release")),
        ];
        let common = |manifests: &[Manifest]| {
            index(manifests)
                .to_manifest()
                .unwrap()
                .annotations()
                .clone()
        };
        let all = common(&manifests);
        assert_eq!(all[annotation::CREATED], "2026-01-01T00:00:00Z");
        assert_eq!(all[annotation::TITLE], "widgets");
        assert_eq!(all.len(), 2);
        let single = common(&manifests[..1]);
        assert_eq!(single[annotation::PROFILE], "release");
        assert!(
            !single.contains_key(annotation::TARGET),
            "the index omits the annotation of a target"
        );
        assert!(common(&[]).is_empty());
    }

    #[test]
    fn index_of_another_artifact_type_is_not_a_package() {
        let entry = IndexEntry::from_manifest(&manifest(GNU, &[]))
            .unwrap()
            .descriptor;
        let bare = Descriptor {
            annotations: Annotations::new(),
            ..entry.clone()
        };
        let read = |artifact_type: Option<MediaType>, manifests: &[&Descriptor]| {
            let manifests = manifests.iter().map(|entry| (*entry).clone()).collect();
            PackageIndex::read(&Manifest::from_index(Index::new(artifact_type, manifests)).unwrap())
        };
        assert!(read(Some(media::PACKAGE), &[]).unwrap().is_empty());
        assert!(
            read(None, &[&entry]).is_some(),
            "an index without an artifact type is recognized"
        );
        assert!(read(None, &[&bare]).is_none());
        assert!(read(None, &[&entry, &bare]).is_none());
        assert!(read(None, &[]).is_none());
        assert!(read(Some("application/x".into()), &[&entry]).is_none());
        assert!(PackageIndex::read(&manifest(GNU, &[])).is_none());
    }

    #[test]
    fn index_keeps_entries_of_other_tools() {
        let entry = IndexEntry::from_manifest(&manifest(GNU, &[])).unwrap();
        let other = Descriptor {
            annotations: Annotations::new(),
            ..entry.descriptor.clone()
        };
        let index = Index::new(
            Some(media::PACKAGE),
            vec![other.clone(), entry.descriptor.clone()],
        );
        let mut read = PackageIndex::read(&Manifest::from_index(index).unwrap()).unwrap();
        assert_eq!(read.entries().len(), 1);
        assert_eq!(read.remove(GNU).unwrap().descriptor(), entry.descriptor());
        assert!(!read.is_empty());
        let written = read.to_manifest().unwrap();
        assert_eq!(written.as_index().unwrap().manifests, [other]);
    }
}
