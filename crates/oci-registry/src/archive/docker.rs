//! The `manifest.json` of `docker save`, which lists the images of an archive.
//!
//! Older archives contain no manifests, and their configs and layers have arbitrary names. For each image, the client
//! creates a manifest from the unchanged content, so a compressed layer stays compressed. If the archive is also a
//! layout that has a manifest with the same config and layers, the image gets this manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use snafu::{OptionExt, ResultExt};

use super::error::{Error, InvalidEntrySnafu, ParseSnafu, ReadSnafu};
use super::index::{Section, Span, Spans};
use super::stored_content::{BUFFER_SIZE, StoredContent, blob_name, digest_of};
use crate::digest::{Algorithm, Digest};
use crate::layout::{self, Listing, ListingEntry};
use crate::manifest::{
    self, Annotations, Descriptor, ImageManifest, Manifest, MediaType, null_is_empty,
};
use crate::reference::{ImageName, Tag};
use crate::tarball::compression::Compression;

/// Annotation from which containerd reads the full name of an image.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// Name of the file that lists the images.
const MANIFEST_JSON: &str = "manifest.json";

/// Entry for an image in `manifest.json`.
#[derive(Serialize, Deserialize)]
struct SavedImage {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default, deserialize_with = "null_is_empty")]
    names: BTreeSet<String>,
    #[serde(rename = "Layers", default, deserialize_with = "null_is_empty")]
    layers: Vec<String>,
}

/// Images of an archive, keyed by the digests of their manifests.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Images(BTreeMap<Digest, Image>);

#[derive(Debug, Clone, PartialEq)]
struct Image {
    config: Digest,
    layers: Vec<Digest>,
    /// Names, normally in the form `NAME:TAG`. Other names are kept unchanged.
    names: BTreeSet<String>,
}

/// Splits a name in the form `NAME:TAG`. Returns `None` if the name or the tag is invalid.
fn split_name(name: &str) -> Option<(ImageName, Tag)> {
    let (name, tag) = name.rsplit_once(':')?;
    Some((name.parse().ok()?, tag.parse().ok()?))
}

impl Images {
    /// Returns the tags of the images with this name, or of all images if `name` is `None`. Each tag is returned with
    /// the digest of its manifest.
    fn tags_with_digests<'a>(
        &'a self,
        name: Option<&ImageName>,
    ) -> impl Iterator<Item = (Tag, &'a Digest)> {
        let wanted = name.map(ImageName::full);
        let names = self.0.iter().flat_map(|(digest, image)| {
            let names = image.names.iter();
            names.map(move |name| (name, digest))
        });
        names.filter_map(move |(name, digest)| {
            let (name, tag) = split_name(name)?;
            let is_wanted = wanted.as_ref().is_none_or(|wanted| *wanted == name.full());
            is_wanted.then_some((tag, digest))
        })
    }

    /// Returns the manifest digest of the image with this tag, or `None` if no image has the tag. Fails if several
    /// images have the tag.
    pub(super) fn find(&self, name: Option<&ImageName>, tag: &Tag) -> Result<Option<Digest>, ()> {
        let found = self
            .tags_with_digests(name)
            .filter(|(found, _)| found == tag);
        let found: BTreeSet<_> = found.map(|(_, digest)| digest.clone()).collect();
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (one, None) => Ok(one),
            (_, Some(_)) => Err(()),
        }
    }

    /// Returns the distinct tags of the images with this name, or of all images if `name` is `None`.
    pub(super) fn tags(&self, name: Option<&ImageName>) -> Vec<Tag> {
        let tags: BTreeSet<_> = self.tags_with_digests(name).map(|(tag, _)| tag).collect();
        tags.into_iter().collect()
    }

    /// Returns the names that do not have the form `NAME:TAG`, each with the digest of its image.
    pub(super) fn invalid_names(&self) -> impl Iterator<Item = (&str, &Digest)> {
        let names = self.0.iter().flat_map(|(digest, image)| {
            let names = image.names.iter();
            names.map(move |name| (name.as_str(), digest))
        });
        names.filter(|(name, _)| split_name(name).is_none())
    }

    /// Adds a name to an image and removes the name from any other image. Returns `false`, and changes nothing, if
    /// Docker cannot load the image.
    pub(super) fn set_name(&mut self, manifest: &Manifest, name: &ImageName, tag: &Tag) -> bool {
        let Some(image) = manifest.as_image().filter(|image| is_loadable(image)) else {
            return false;
        };
        let full = name.full();
        for image in self.0.values_mut() {
            image.names.retain(|held| {
                split_name(held).is_none_or(|(name, held)| name.full() != full || held != *tag)
            });
        }
        self.0
            .retain(|digest, image| digest == manifest.digest() || !image.names.is_empty());
        let image = self
            .0
            .entry(manifest.digest().clone())
            .or_insert_with(|| Image {
                config: image.config.digest.clone(),
                layers: image
                    .layers
                    .iter()
                    .map(|layer| layer.digest.clone())
                    .collect(),
                names: BTreeSet::new(),
            });
        image.names.insert(format!("{name}:{tag}"));
        true
    }

    /// Updates the entries of the images in the index of the layout. Entries that do not belong to an image are kept.
    pub(super) fn update_listing(&self, listing: &mut Listing, latest: &Manifest) {
        let is_ours = |listed: &ListingEntry| {
            listed.annotations.contains_key(IMAGE_NAME) || self.0.contains_key(&listed.digest)
        };
        let (ours, mut entries) = std::mem::take(listing.entries_mut())
            .into_iter()
            .partition::<Vec<_>, _>(is_ours);
        for (digest, image) in &self.0 {
            let listed: Vec<_> = ours
                .iter()
                .filter(|listed| listed.digest == *digest)
                .collect();
            let descriptor = match listed.first() {
                Some(listed) => (**listed).clone().into_descriptor(),
                None if digest == latest.digest() => latest.descriptor(),
                None => continue,
            };
            for (name, tag) in image.names.iter().filter_map(|name| split_name(name)) {
                let full = format!("{}:{tag}", name.full());
                let mut listed = listed.iter();
                let same = listed.find(|listed| listed.annotation(IMAGE_NAME) == Some(&full));
                let entry = same.map(|listed| ListingEntry::clone(listed));
                entries.push(entry.unwrap_or_else(|| {
                    let mut descriptor = descriptor.clone();
                    descriptor.annotations = Annotations::from([
                        (IMAGE_NAME.to_owned(), full),
                        (layout::REF_NAME.to_owned(), tag.to_string()),
                    ]);
                    descriptor.into()
                }));
            }
        }
        let key = |listed: &ListingEntry| {
            (
                listed.annotation(IMAGE_NAME).map(str::to_owned),
                listed.digest.clone(),
            )
        };
        entries.sort_by_cached_key(key);
        *listing.entries_mut() = entries;
    }

    /// Returns the content of `manifest.json`.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let saved = self.0.values().map(|image| SavedImage {
            config: blob_name(&image.config),
            names: image.names.clone(),
            layers: image.layers.iter().map(blob_name).collect(),
        });
        layout::json(&saved.collect::<Vec<_>>())
    }
}

/// Whether this is an image whose layers Docker can unpack.
fn is_loadable(image: &ImageManifest) -> bool {
    image.config.media_type.is_image_config()
        && image.layers.iter().all(|layer| layer.media_type.is_layer())
}

/// Reads `manifest.json`. Finds the manifest of each image in the layout, or creates it and adds it to `stored` and
/// `listing`.
pub(super) fn read_images(
    document: &[u8],
    file: &Arc<File>,
    spans: &Spans,
    path: &Path,
    stored: &mut BTreeMap<Digest, StoredContent>,
    listing: &mut Listing,
) -> Result<Images, Error> {
    let name = MANIFEST_JSON;
    let saved: Vec<SavedImage> =
        serde_json::from_slice(document).context(ParseSnafu { path, name })?;
    let known = layout_manifests(stored, listing, path)?;
    let mut images = Images::default();
    let mut archive = DockerArchive {
        file,
        spans,
        path,
        digests: BTreeMap::new(),
    };
    for saved in saved {
        let mut content = |name: &str| -> Result<(Digest, Span), Error> {
            let (digest, span) = archive.find_file(name)?;
            let packed = StoredContent::Archive(Arc::clone(file), span);
            stored.entry(digest.clone()).or_insert(packed);
            Ok((digest, span))
        };
        let config = content(&saved.config)?;
        let layers = saved.layers.iter().map(|name| content(name));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let digests: Vec<_> = layers.iter().map(|(digest, _)| digest.clone()).collect();
        let manifest = if let Some(manifest) = known.get(&(config.0.clone(), digests.clone())) {
            manifest.clone()
        } else {
            let manifest = archive.create_manifest(&config, &layers)?;
            let held = StoredContent::Memory(manifest.bytes().clone());
            stored.insert(manifest.digest().clone(), held);
            listing.add(manifest.descriptor());
            manifest
        };
        let image = Image {
            config: config.0,
            layers: digests,
            names: BTreeSet::new(),
        };
        let digest = manifest.digest().clone();
        let image = images.0.entry(digest).or_insert(image);
        image.names.extend(saved.names);
    }
    Ok(images)
}

/// Returns the image manifests that the index of the layout lists directly or through another index. The keys are the
/// digests of the config and of the layers.
fn layout_manifests(
    stored: &BTreeMap<Digest, StoredContent>,
    listing: &Listing,
    path: &Path,
) -> Result<BTreeMap<(Digest, Vec<Digest>), Manifest>, Error> {
    let load = |listed: &Descriptor| -> Result<Option<Manifest>, Error> {
        let stored = stored.get(&listed.digest);
        let Some(stored) = stored.filter(|stored| stored.size() <= manifest::MAX_READ as u64)
        else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = stored
            .open()
            .and_then(|mut content| content.read_to_end(&mut bytes));
        read.context(ReadSnafu { path })?;
        let is_whole = Digest::sha256(&bytes) == listed.digest;
        let manifest = Manifest::parse(bytes.into(), Some(listed.media_type.as_str()));
        Ok(manifest.ok().filter(|_| is_whole))
    };
    let mut known = BTreeMap::new();
    let mut keep = |manifest: &Manifest| {
        if let Some(image) = manifest.as_image() {
            let layers = image
                .layers
                .iter()
                .map(|layer| layer.digest.clone())
                .collect();
            known.insert((image.config.digest.clone(), layers), manifest.clone());
        }
    };
    for listed in listing.entries() {
        let Some(manifest) = load(listed)? else {
            continue;
        };
        keep(&manifest);
        for inner in manifest
            .as_index()
            .into_iter()
            .flat_map(|index| &index.manifests)
        {
            if let Some(manifest) = load(inner)? {
                keep(&manifest);
            }
        }
    }
    Ok(known)
}

/// Files of an archive, looked up by their names in `manifest.json`.
struct DockerArchive<'a> {
    file: &'a File,
    spans: &'a Spans,
    path: &'a Path,
    /// Digests of the files, keyed by name. Images share layers, so each digest is computed only once.
    digests: BTreeMap<String, Digest>,
}

impl DockerArchive<'_> {
    /// Returns the digest and position of a file. A digest in the file name is not verified here, because every read
    /// verifies the content.
    fn find_file(&mut self, name: &str) -> Result<(Digest, Span), Error> {
        let path = self.path;
        let problem = "is missing, but an image refers to it";
        let span = self.spans.get(name.strip_prefix("./").unwrap_or(name));
        let span = *span.with_context(|| InvalidEntrySnafu {
            path,
            name,
            problem,
        })?;
        if let Some(digest) = digest_of(name).or_else(|| self.digests.get(name).cloned()) {
            return Ok((digest, span));
        }
        let mut hasher = Algorithm::Sha256.hasher();
        let mut content = Section::new(self.file, span);
        let mut buffer = vec![0; BUFFER_SIZE];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Read {
                        path: path.to_owned(),
                        source,
                    });
                }
            }
        }
        let digest = hasher.finish();
        self.digests.insert(name.to_owned(), digest.clone());
        Ok((digest, span))
    }

    /// Creates the manifest of an image from its config and layers.
    fn create_manifest(
        &self,
        config: &(Digest, Span),
        layers: &[(Digest, Span)],
    ) -> Result<Manifest, Error> {
        let path = self.path;
        let described = |media_type: MediaType, (digest, span): &(Digest, Span)| {
            Descriptor::new(media_type, digest.clone(), span.size)
        };
        let mut image =
            ImageManifest::new(MediaType::EMPTY, described(MediaType::IMAGE_CONFIG, config));
        image.artifact_type = None;
        for layer in layers {
            let content = Section::new(self.file, layer.1);
            let compression = Compression::detect(content).context(ReadSnafu { path })?;
            let suffix = compression.map(|compression| format!("+{}", compression.name()));
            let suffix = suffix.unwrap_or_default();
            let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
            image.layers.push(described(media_type.into(), layer));
        }
        let problem = "lists more layers than a manifest can have";
        let name = MANIFEST_JSON;
        let manifest = Manifest::from_image(image).ok();
        manifest.with_context(|| InvalidEntrySnafu {
            path,
            name,
            problem,
        })
    }
}
