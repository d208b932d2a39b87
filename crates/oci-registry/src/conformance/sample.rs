//! Test data: images, artifacts, indexes, and blobs whose content does not match their descriptor.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::StreamExt;

use crate::blob::{Blob, BlobStream, Content};
use crate::digest::Algorithm;
use crate::error::ErrorKind;
use crate::manifest::{
    Annotations, Descriptor, ImageManifest, Index, Manifest, MediaType, Platform,
};
use crate::reference::{Identifier, Tag};

/// Size of the large blob, in bytes. It exceeds the size of every buffer and is not a multiple of it.
const LARGE_BLOB_SIZE: u64 = (8 << 20) + 12_345;

pub(super) fn tag(text: &'static str) -> Tag {
    text.parse().expect("the tags of the tests are valid")
}

pub(super) fn by_tag(tag: &Tag) -> Identifier {
    Identifier::Tag(tag.clone())
}

pub(super) fn by_digest(manifest: &Manifest) -> Identifier {
    Identifier::Digest(manifest.digest().clone())
}

pub(super) fn blob(content: &'static str) -> Blob {
    Blob::from_bytes("application/vnd.oci.image.layer.v1.tar".into(), content)
}

/// Manifest and its blobs.
pub(super) struct Sample {
    pub(super) blobs: Vec<Blob>,
    pub(super) manifest: Manifest,
}

impl Sample {
    /// Creates an image whose config and layer are different for each `name`. Every target accepts images.
    pub(super) fn image(name: &str) -> Self {
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","author":"{name}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, config);
        let layer = Blob::from_bytes(
            "application/vnd.oci.image.layer.v1.tar".into(),
            format!("the layer of {name}"),
        );
        Self::from_parts(None, config, vec![layer])
    }

    pub(super) fn artifact() -> Self {
        let layer = Blob::from_bytes("text/plain".into(), "a note");
        Self::from_parts(
            Some("application/vnd.acme.note".into()),
            Blob::empty(),
            vec![layer],
        )
    }

    pub(super) fn from_parts(
        artifact_type: Option<MediaType>,
        config: Blob,
        layers: Vec<Blob>,
    ) -> Self {
        let mut image = ImageManifest::new(MediaType::EMPTY, config.descriptor().clone());
        image.artifact_type = artifact_type;
        image.layers = layers
            .iter()
            .map(|layer| layer.descriptor().clone())
            .collect();
        image.annotations = Annotations::from([("a.key".into(), "a \u{fc} value".into())]);
        Self {
            blobs: std::iter::once(config).chain(layers).collect(),
            manifest: Manifest::from_image(image).expect("the manifests of the tests are small"),
        }
    }

    /// Creates an image whose manifest is the text that `write` returns for the descriptors of its config and layer.
    pub(super) fn with_manifest_text(
        name: &str,
        write: impl Fn(&Descriptor, &Descriptor) -> String,
    ) -> Self {
        let Self { blobs, .. } = Self::image(name);
        let text = write(blobs[0].descriptor(), blobs[1].descriptor());
        let manifest =
            Manifest::parse(text.into(), None).expect("the manifests of the tests parse");
        Self { blobs, manifest }
    }
}

pub(super) fn index_of(manifests: &[&Manifest]) -> Manifest {
    let entries = manifests
        .iter()
        .enumerate()
        .map(|(at, manifest)| Descriptor {
            platform: Some(Platform {
                architecture: format!("arch{at}"),
                os: "linux".into(),
                os_version: None,
                os_features: Vec::new(),
                variant: None,
            }),
            ..manifest.descriptor()
        });
    Manifest::from_index(Index::new(None, entries.collect())).expect("the index is small")
}

/// Content that does not match its descriptor, or that must not be opened.
#[derive(Debug)]
pub(super) struct ScriptedContent {
    descriptor: Descriptor,
    script: Script,
}

#[derive(Debug)]
pub(super) enum Script {
    /// Yields these bytes, regardless of the descriptor.
    Other(&'static str),
    /// Yields these bytes and then fails.
    FailsAfter(&'static str),
    /// Must not be opened.
    MustNotOpen,
    /// Yields the content of the large blob in chunks that are generated on demand.
    Large,
}

impl ScriptedContent {
    pub(super) fn blob(descriptor: Descriptor, script: Script) -> Blob {
        let content = Self {
            descriptor: descriptor.clone(),
            script,
        };
        Blob::from_content(descriptor, Arc::new(content))
    }
}

pub(super) fn failure(kind: ErrorKind, message: &'static str) -> crate::Error {
    crate::Error::new(kind, std::io::Error::other(message))
}

impl Content for ScriptedContent {
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
        Box::pin(async move {
            let pieces = match self.script {
                Script::Other(bytes) => vec![Ok(Bytes::from_static(bytes.as_bytes()))],
                Script::FailsAfter(bytes) => vec![
                    Ok(Bytes::from_static(bytes.as_bytes())),
                    Err(failure(ErrorKind::Io, "the source was interrupted")),
                ],
                Script::MustNotOpen => {
                    return Err(failure(ErrorKind::Io, "this content must not be opened"));
                }
                Script::Large => {
                    let pieces = futures_util::stream::iter(large_pieces().map(Ok));
                    return BlobStream::new(&self.descriptor, pieces.boxed());
                }
            };
            BlobStream::new(&self.descriptor, futures_util::stream::iter(pieces).boxed())
        })
    }
}

/// Generates the large blob in chunks that all differ.
pub(super) fn large_pieces() -> impl Iterator<Item = Bytes> {
    const CHUNK_SIZE: u64 = 65_537;
    (0..LARGE_BLOB_SIZE.div_ceil(CHUNK_SIZE)).map(|at| {
        let length = CHUNK_SIZE.min(LARGE_BLOB_SIZE - at * CHUNK_SIZE);
        let seed = at.to_le_bytes();
        (0..length)
            .zip(seed.iter().cycle())
            .map(|(at, seed)| seed.wrapping_add(at.to_le_bytes()[0]))
            .collect()
    })
}

pub(super) fn large_blob() -> Blob {
    let mut hasher = Algorithm::Sha256.hasher();
    large_pieces().for_each(|piece| hasher.update(&piece));
    let descriptor = Descriptor::new(MediaType::OCTET_STREAM, hasher.finish(), LARGE_BLOB_SIZE);
    ScriptedContent::blob(descriptor, Script::Large)
}

/// Returns two images and their index, and an index of that index.
pub(super) fn nested_indexes() -> ((Vec<Sample>, Manifest), Manifest) {
    let samples = vec![Sample::image("one"), Sample::image("two")];
    let inner = index_of(&[&samples[0].manifest, &samples[1].manifest]);
    let outer = index_of(&[&inner]);
    ((samples, inner), outer)
}
