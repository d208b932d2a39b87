//! One repository of a registry, as [`Source`], [`Target`] and [`Delete`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use http::header;
use snafu::{IntoError, ResultExt, Snafu};

use super::referrers::Membership;
use super::requests::{Access, RepositoryRequests};
use super::upload::{self, Uploads};
use super::{delete, download, referrers};
use crate::blob::{Blob, BlobStream, Meter, PartialBlob};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Optional};
use crate::event::{self, ClientEvent};
use crate::manifest::{Descriptor, Manifest, MediaType};
use crate::reference::{Identifier, Reference, Tag};
use crate::referrers::DescriptorStream;
use crate::storage::{Delete, Delivery, Source, TagStream, Target};
use crate::transport::Transport;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to list the tags of `{repository}`"))]
    ListTags {
        repository: Reference,
        source: crate::Error,
    },
    #[snafu(display("failed to find the blob {digest} in `{repository}`"))]
    NoBlob {
        repository: Reference,
        digest: Digest,
    },
    #[snafu(display(
        "failed to find the size of the blob {digest} in `{repository}`: the registry did not report it"
    ))]
    NoSize {
        repository: Reference,
        digest: Digest,
    },
    #[snafu(display("failed to push the blob {digest}"))]
    PushBlob {
        digest: Digest,
        source: crate::Error,
    },
    #[snafu(display("failed to push `{}`", path.display()))]
    PushFile { path: PathBuf, source: crate::Error },
    #[snafu(display("failed to push `{reference}`"))]
    PushManifest {
        reference: Reference,
        source: crate::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ListTags { source, .. }
            | Self::PushBlob { source, .. }
            | Self::PushFile { source, .. }
            | Self::PushManifest { source, .. } => source.kind(),
            Self::NoBlob { .. } => ErrorKind::NotFound,
            Self::NoSize { .. } => ErrorKind::Protocol,
        }
    }

    fn object_name(&self) -> Option<String> {
        match self {
            Self::ListTags { repository, .. } => Some(repository.to_string()),
            Self::PushBlob { digest, .. } => Some(digest.to_string()),
            Self::PushManifest { reference, .. } => Some(reference.to_string()),
            Self::PushFile { .. } | Self::NoBlob { .. } | Self::NoSize { .. } => None,
        }
    }
}

/// One repository of a registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    requests: RepositoryRequests,
    uploads: Arc<Uploads>,
    connections_per_blob: usize,
    /// Whether a response has shown that the registry has the referrers API. After that, pushes do not check it again.
    has_referrers_api: Arc<AtomicBool>,
}

impl Repository {
    pub(super) fn new(
        transport: Arc<Transport>,
        uploads: Arc<Uploads>,
        reference: &Reference,
        access: Access,
    ) -> Self {
        Self {
            requests: RepositoryRequests::new(transport, reference, access),
            uploads,
            connections_per_blob: 1,
            has_referrers_api: Arc::default(),
        }
    }

    /// Sets the number of connections over which a large blob is fetched.
    pub(super) fn with_connections_per_blob(self, connections_per_blob: usize) -> Self {
        Self {
            connections_per_blob,
            ..self
        }
    }

    /// Returns the full name of the repository.
    pub fn reference(&self) -> &Reference {
        self.requests.reference()
    }

    /// Whether the registry has the referrers API. The first positive result is stored. If the list does not contain
    /// the pushed manifest at that time, the observer is notified.
    async fn has_referrers_api(&self, subject: &Digest, pushed: &Digest) -> crate::Result<bool> {
        if self.has_referrers_api.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let found = referrers::find(&self.requests, subject, pushed).await?;
        if found == Membership::NoList {
            return Ok(false);
        }
        let is_known = self.has_referrers_api.swap(true, Ordering::Relaxed);
        if found == Membership::Unlisted && !is_known {
            self.requests
                .observer()
                .notify(|| ClientEvent::UnlistedReferrer {
                    referrer: self.reference().with(pushed.clone()),
                    subject: subject.clone(),
                });
        }
        Ok(true)
    }

    async fn put_tag(&self, manifest: &Manifest, tag: &Tag, may_repeat: bool) -> crate::Result<()> {
        let identifier = Identifier::Tag(tag.clone());
        let pushed = self
            .requests
            .put_manifest(manifest, &identifier, may_repeat)
            .await;
        pushed.with_context(|_| PushManifestSnafu {
            reference: self.reference().with(identifier),
        })?;
        Ok(())
    }
}

/// Whether a file is large enough to be sent while its digest is computed, because reading it twice takes longer than
/// one more request. If the file cannot be read, a later step reports the error.
async fn is_large(path: &Path) -> bool {
    tokio::fs::metadata(path)
        .await
        .is_ok_and(|metadata| metadata.len() > upload::MIN_STREAM_SIZE)
}

#[async_trait]
impl Source for Repository {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        self.requests.fetch_manifest(identifier).await
    }

    async fn resolve(&self, identifier: &Identifier) -> crate::Result<Descriptor> {
        self.requests.resolve_manifest(identifier).await
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        download::open(&self.requests, self.connections_per_blob, descriptor).await
    }

    async fn blob_after(
        &self,
        descriptor: &Descriptor,
        partial: PartialBlob,
    ) -> crate::Result<BlobStream> {
        let connections = self.connections_per_blob;
        download::open_after(&self.requests, connections, descriptor, partial).await
    }

    async fn find_blob(&self, digest: &Digest) -> crate::Result<Descriptor> {
        let (repository, digest) = (self.reference().clone(), digest.clone());
        let Some(found) = self.requests.head_blob(&digest).await? else {
            return Err(NoBlobSnafu { repository, digest }.build().into());
        };
        let size = found.header(header::CONTENT_LENGTH.as_str());
        let Some(size) = size.and_then(|size| size.parse().ok()) else {
            return Err(NoSizeSnafu { repository, digest }.build().into());
        };
        let media_type = MediaType::OCTET_STREAM;
        Ok(Descriptor::new(media_type, digest, size))
    }

    fn tags(&self) -> TagStream {
        let repository = self.reference().clone();
        let location = repository.to_string();
        let names = self.requests.list_names("tags/list");
        let names = names.map_err(move |error| {
            let repository = repository.clone();
            crate::Error::from(ListTagsSnafu { repository }.into_error(error))
        });
        let observer = self.requests.observer().clone();
        event::parse_names(names, location, observer, |name| name.parse().ok())
    }

    fn referrers(&self, subject: &Digest, artifact_type: Option<&MediaType>) -> DescriptorStream {
        referrers::list(
            self.requests.clone(),
            subject.clone(),
            artifact_type.cloned(),
        )
    }

    fn origin(&self) -> Option<&Reference> {
        Some(self.reference())
    }

    fn describe(&self, identifier: &Identifier) -> String {
        self.reference().with(identifier.clone()).to_string()
    }
}

#[async_trait]
impl Target for Repository {
    async fn exists(&self, descriptor: &Descriptor) -> crate::Result<bool> {
        if descriptor.media_type.is_manifest() {
            let found = self
                .resolve(&descriptor.digest.clone().into())
                .await
                .optional()?;
            return Ok(found.is_some());
        }
        let (digest, size) = (&descriptor.digest, descriptor.size);
        self.requests.has_blob(digest, size).await
    }

    async fn push_blob(&self, blob: &Blob) -> crate::Result<Delivery> {
        if self.requests.has_blob(blob.digest(), blob.size()).await? {
            return Ok(Delivery::Existed);
        }
        let sent = upload::send(&self.requests, &self.uploads, blob).await;
        Ok(sent.with_context(|_| PushBlobSnafu {
            digest: blob.digest().clone(),
        })?)
    }

    async fn push_file(
        &self,
        media_type: MediaType,
        path: &Path,
        meter: &Meter,
    ) -> crate::Result<(Blob, Delivery)> {
        if self.uploads.may_stream() && is_large(path).await {
            let (requests, uploads) = (&self.requests, &self.uploads);
            let sent = upload::send_unhashed(requests, uploads, &media_type, path, meter).await;
            let sent = sent.context(PushFileSnafu { path })?;
            if let Some(sent) = sent {
                return Ok(sent);
            }
        }
        let small = Blob::from_small_file(media_type.clone(), path).await?;
        let (blob, sent) = if let Some(small) = small {
            small
        } else {
            let blob = Blob::from_file(media_type, path).await?;
            (blob.clone(), blob)
        };
        let delivery = self.push_blob(&sent.metered(meter)).await?;
        Ok((blob, delivery))
    }

    async fn push_manifest(&self, manifest: &Manifest) -> crate::Result<()> {
        let identifier = Identifier::Digest(manifest.digest().clone());
        let pushed = async {
            let names_subject = self
                .requests
                .put_manifest(manifest, &identifier, true)
                .await?;
            let Some(subject) = manifest.subject() else {
                return Ok(());
            };
            // `OCI-Subject` alone does not prove that the registry has the referrers API: some registries send the
            // header and keep no list.
            let (subject, pushed) = (&subject.digest, manifest.digest());
            if names_subject && self.has_referrers_api(subject, pushed).await? {
                return Ok(());
            }
            referrers::add(&self.requests, subject, manifest).await
        };
        Ok(pushed.await.with_context(|_| PushManifestSnafu {
            reference: self.reference().with(identifier),
        })?)
    }

    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
        self.put_tag(manifest, tag, true).await
    }

    async fn tag_once(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
        self.put_tag(manifest, tag, false).await
    }
}

#[async_trait]
impl Delete for Repository {
    async fn delete_tag(&self, tag: &Tag) -> crate::Result<()> {
        delete::delete_tag(&self.requests, self, tag).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> crate::Result<()> {
        let subject = delete::delete_manifest(&self.requests, digest).await?;
        if let Some(subject) = subject {
            referrers::remove(&self.requests, &subject, digest).await?;
        }
        Ok(())
    }

    async fn delete_blob(&self, digest: &Digest) -> crate::Result<()> {
        delete::delete_blob(&self.requests, digest).await
    }
}
