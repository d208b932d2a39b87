//! Repository in memory, for tests and for artifacts that are assembled before they are copied.
//!
//! The repository is stricter than some registries. It rejects a manifest if a successor is missing, and a tag if the
//! manifest is missing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use snafu::{OptionExt, Snafu, ensure};

use crate::blob::{Blob, BlobStream};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure};
use crate::manifest::{Descriptor, Manifest, MediaType};
use crate::reference::{Identifier, Tag};
use crate::referrers::{self, DescriptorStream};
use crate::storage::{Delete, Delivery, Source, TagStream, Target};

/// Maximum size of a blob, in bytes.
const MAX_BLOB: usize = 1 << 30;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to find the manifest `{identifier}` in memory"))]
    NoManifest { identifier: Identifier },
    #[snafu(display("failed to find the blob {digest} in memory"))]
    NoBlob { digest: Digest },
    #[snafu(display(
        "failed to push the manifest {digest}: its content {missing} was not pushed before"
    ))]
    MissingSuccessor { digest: Digest, missing: Digest },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoManifest { .. } | Self::NoBlob { .. } => ErrorKind::NotFound,
            Self::MissingSuccessor { .. } => ErrorKind::InvalidInput,
        }
    }
}

/// Repository in memory. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<Digest, Bytes>,
    manifests: BTreeMap<Digest, Manifest>,
    tags: BTreeMap<Tag, Digest>,
}

impl State {
    fn contains(&self, descriptor: &Descriptor) -> bool {
        if descriptor.media_type.is_manifest() {
            self.manifests.contains_key(&descriptor.digest)
        } else {
            self.blobs.contains_key(&descriptor.digest)
        }
    }
}

impl Memory {
    /// Creates an empty repository.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_manifest(&self, identifier: &Identifier) -> Result<Manifest, Error> {
        let state = self.state();
        let digest = match identifier {
            Identifier::Tag(tag) => state.tags.get(tag),
            Identifier::Digest(digest) => Some(digest),
        };
        let manifest = digest
            .and_then(|digest| state.manifests.get(digest))
            .cloned();
        manifest.with_context(|| NoManifestSnafu {
            identifier: identifier.clone(),
        })
    }
}

#[async_trait]
impl Source for Memory {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        Ok(self.find_manifest(identifier)?)
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        let bytes = self.state().blobs.get(&descriptor.digest).cloned();
        let bytes = bytes.with_context(|| NoBlobSnafu {
            digest: descriptor.digest.clone(),
        })?;
        BlobStream::new(
            descriptor,
            futures_util::stream::once(async { Ok(bytes) }).boxed(),
        )
    }

    async fn find_blob(&self, digest: &Digest) -> crate::Result<Descriptor> {
        let size = self.state().blobs.get(digest).map(Bytes::len);
        let size = size.with_context(|| NoBlobSnafu {
            digest: digest.clone(),
        })?;
        let media_type = MediaType::OCTET_STREAM;
        Ok(Descriptor::new(media_type, digest.clone(), size as u64))
    }

    fn tags(&self) -> TagStream {
        let tags: Vec<_> = self.state().tags.keys().cloned().map(Ok).collect();
        futures_util::stream::iter(tags).boxed()
    }

    fn referrers(&self, subject: &Digest, artifact_type: Option<&MediaType>) -> DescriptorStream {
        let state = self.state();
        let entries = state.manifests.values();
        let entries = entries
            .filter_map(|manifest| referrers::matching_entry(manifest, subject, artifact_type));
        let entries: Vec<_> = entries.map(Ok).collect();
        futures_util::stream::iter(entries).boxed()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        format!("memory:{identifier}")
    }
}

#[async_trait]
impl Target for Memory {
    async fn exists(&self, descriptor: &Descriptor) -> crate::Result<bool> {
        Ok(self.state().contains(descriptor))
    }

    async fn push_blob(&self, blob: &Blob) -> crate::Result<Delivery> {
        if self.state().blobs.contains_key(blob.digest()) {
            return Ok(Delivery::Existed);
        }
        let bytes = blob.open().await?.read_to_end(MAX_BLOB).await?;
        self.state().blobs.insert(blob.digest().clone(), bytes);
        Ok(Delivery::Uploaded)
    }

    async fn push_manifest(&self, manifest: &Manifest) -> crate::Result<()> {
        let mut state = self.state();
        if let Some(missing) = manifest.successors().into_iter().find(|successor| {
            !state.contains(successor) && !successor.media_type.is_nondistributable()
        }) {
            let (digest, missing) = (manifest.digest().clone(), missing.digest.clone());
            return Err(MissingSuccessorSnafu { digest, missing }.build().into());
        }
        state
            .manifests
            .insert(manifest.digest().clone(), manifest.clone());
        Ok(())
    }

    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
        let mut state = self.state();
        let digest = manifest.digest();
        let put = || -> Result<(), Error> {
            ensure!(
                state.manifests.contains_key(digest),
                NoManifestSnafu {
                    identifier: digest.clone()
                }
            );
            state.tags.insert(tag.clone(), digest.clone());
            Ok(())
        };
        Ok({ put }()?)
    }
}

#[async_trait]
impl Delete for Memory {
    async fn delete_tag(&self, tag: &Tag) -> crate::Result<()> {
        let removed = self.state().tags.remove(tag);
        removed.with_context(|| NoManifestSnafu {
            identifier: tag.clone(),
        })?;
        Ok(())
    }

    async fn delete_manifest(&self, digest: &Digest) -> crate::Result<()> {
        let mut state = self.state();
        let removed = state.manifests.remove(digest);
        removed.with_context(|| NoManifestSnafu {
            identifier: digest.clone(),
        })?;
        state.tags.retain(|_, named| named != digest);
        Ok(())
    }

    async fn delete_blob(&self, digest: &Digest) -> crate::Result<()> {
        let removed = self.state().blobs.remove(digest);
        removed.with_context(|| NoBlobSnafu {
            digest: digest.clone(),
        })?;
        Ok(())
    }
}
