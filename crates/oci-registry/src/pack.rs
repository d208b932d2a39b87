//! An artifact made of blobs at hand: files in, a [`Source`] with one manifest out.
//!
//! Owns the graph of the artifact. Does not own what the parts mean: names, media types and annotations are the caller's.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::StreamExt;
use snafu::{OptionExt, Snafu, ensure};

use crate::blob::{Blob, BlobStream};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure};
use crate::manifest::{Annotations, Descriptor, ImageManifest, Manifest, MediaType};
use crate::reference::Identifier;
use crate::referrers::{self, DescriptorStream};
use crate::storage::{Source, TagStream};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "failed to find the manifest `{identifier}` in an artifact that was just packed"
    ))]
    ManifestAbsent { identifier: Identifier },
    #[snafu(display("failed to find the blob {digest} in an artifact that was just packed"))]
    BlobAbsent { digest: Digest },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::NotFound
    }
}

/// An artifact that exists as blobs at hand and the manifest that names them.
#[derive(Debug, Clone)]
pub struct Packed {
    manifest: Manifest,
    blobs: BTreeMap<Digest, Blob>,
}

impl Packed {
    /// Packs an artifact. Each layer's descriptor is written as the blob carries it, annotations included; an artifact
    /// without layers gets the empty one (image-spec, `manifest.md`, "Guidelines for Artifact Usage").
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the manifest would be larger than registries take.
    pub fn new(
        artifact_type: MediaType,
        config: Blob,
        mut layers: Vec<Blob>,
        annotations: Annotations,
    ) -> crate::Result<Self> {
        if layers.is_empty() {
            layers.push(Blob::empty());
        }
        let mut image = ImageManifest::new(artifact_type, config.descriptor().clone());
        image.layers = layers
            .iter()
            .map(|layer| layer.descriptor().clone())
            .collect();
        image.annotations = annotations;
        let manifest = Manifest::from_image(image)?;
        let blobs = std::iter::once(config).chain(layers);
        Ok(Self {
            manifest,
            blobs: blobs.map(|blob| (blob.digest().clone(), blob)).collect(),
        })
    }

    /// The same artifact, as one about this manifest.
    ///
    /// # Errors
    ///
    /// As [`Packed::new`].
    pub fn about(self, subject: Descriptor) -> crate::Result<Self> {
        let Some(mut image) = self.manifest.as_image().cloned() else {
            return Ok(self);
        };
        image.subject = Some(subject);
        Ok(Self {
            manifest: Manifest::from_image(image)?,
            blobs: self.blobs,
        })
    }

    /// The artifact's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The config and the layers, each content once.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.blobs.values()
    }
}

#[async_trait]
impl Source for Packed {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        let is_ours =
            matches!(identifier, Identifier::Digest(digest) if digest == self.manifest.digest());
        ensure!(
            is_ours,
            ManifestAbsentSnafu {
                identifier: identifier.clone()
            }
        );
        Ok(self.manifest.clone())
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        let blob = self.blobs.get(&descriptor.digest);
        blob.with_context(|| BlobAbsentSnafu {
            digest: descriptor.digest.clone(),
        })?
        .open()
        .await
    }

    async fn find_blob(&self, digest: &Digest) -> crate::Result<Descriptor> {
        let blob = self.blobs.get(digest);
        let blob = blob.with_context(|| BlobAbsentSnafu {
            digest: digest.clone(),
        })?;
        Ok(blob.descriptor().clone())
    }

    fn tags(&self) -> TagStream {
        futures_util::stream::empty().boxed()
    }

    fn referrers(&self, subject: &Digest, artifact_type: Option<&MediaType>) -> DescriptorStream {
        let entry = referrers::entry_if(&self.manifest, subject, artifact_type);
        futures_util::stream::iter(entry.map(Ok)).boxed()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        format!("packed artifact {identifier}")
    }
}
