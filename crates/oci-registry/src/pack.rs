//! Artifacts that are packed from local blobs. The result is a [`Source`] with one manifest.
//!
//! This module builds the graph of the artifact. The caller chooses names, media types and annotations.

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
    #[snafu(display("failed to find the manifest `{identifier}` in the packed artifact"))]
    ManifestAbsent { identifier: Identifier },
    #[snafu(display("failed to find the blob {digest} in the packed artifact"))]
    BlobAbsent { digest: Digest },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::NotFound
    }
}

/// Artifact that consists of local blobs and the manifest that refers to them.
#[derive(Debug, Clone)]
pub struct Packed {
    manifest: Manifest,
    blobs: BTreeMap<Digest, Blob>,
}

impl Packed {
    /// Packs an artifact. The descriptor of each layer is taken from its blob, including annotations. An artifact
    /// without layers gets the empty blob as its layer (image-spec, `manifest.md`, "Guidelines for Artifact Usage").
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the manifest exceeds the size that registries accept.
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

    /// Sets the subject of the artifact.
    ///
    /// # Errors
    ///
    /// As [`Packed::new`].
    pub fn with_subject(self, subject: Descriptor) -> crate::Result<Self> {
        let Some(mut image) = self.manifest.as_image().cloned() else {
            return Ok(self);
        };
        image.subject = Some(subject);
        Ok(Self {
            manifest: Manifest::from_image(image)?,
            blobs: self.blobs,
        })
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the config and the layers, each blob once.
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
        let entry = referrers::matching_entry(&self.manifest, subject, artifact_type);
        futures_util::stream::iter(entry.map(Ok)).boxed()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        format!("packed artifact {identifier}")
    }
}
