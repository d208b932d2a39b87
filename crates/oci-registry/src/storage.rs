//! Traits for content storage, which all operations use.
//!
//! A [`Source`] can be read. A [`Target`] can be read and written. Repositories of registries, layout directories,
//! archives and memory implement both traits; artifacts packed from files implement [`Source`] only. Push, pull, mirror
//! and backup are one copy from a source to a target.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use snafu::Snafu;

use crate::blob::{Blob, BlobStream, Meter, PartialBlob};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Result};
use crate::manifest::{Descriptor, Manifest, MediaType};
use crate::reference::{Identifier, Reference, Tag};
use crate::referrers::DescriptorStream;

#[derive(Debug, Snafu)]
#[snafu(display(
    "failed to list the referrers of `{subject}`: listing referrers is not supported"
))]
struct NoReferrers {
    subject: String,
}

impl Failure for NoReferrers {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

#[derive(Debug, Snafu)]
#[snafu(display(
    "failed to determine the size of the blob `{blob}`: not supported without its descriptor"
))]
struct NoSize {
    blob: String,
}

impl Failure for NoSize {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

/// Stream of tags, in the order of their source.
pub type TagStream = BoxStream<'static, Result<Tag>>;

/// Name in a layout or archive that is not available as a tag, because it is not a valid tag and does not end with a
/// unique tag.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherName {
    /// Name, as written in the layout or archive.
    pub name: String,
    /// Digest of the manifest.
    pub digest: Digest,
}

/// Storage that artifacts can be read from.
///
/// Everything that is read is verified: a manifest against the requested digest, a blob while it is read.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// Fetches a manifest.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) only if the storage reports that the manifest does not
    /// exist.
    async fn manifest(&self, identifier: &Identifier) -> Result<Manifest>;

    /// Returns the descriptor of a manifest, without fetching the manifest if there is a cheaper request. The
    /// descriptor has no annotations and no platform.
    ///
    /// # Errors
    ///
    /// As [`Source::manifest`].
    async fn resolve(&self, identifier: &Identifier) -> Result<Descriptor> {
        Ok(self.manifest(identifier).await?.descriptor())
    }

    /// Opens a blob.
    ///
    /// # Errors
    ///
    /// As [`Source::manifest`]; the stream ends with an error if the bytes do not match the descriptor.
    async fn blob(&self, descriptor: &Descriptor) -> Result<BlobStream>;

    /// Opens the rest of a blob after its first bytes. The stream ends with an error unless the first bytes and the
    /// rest together match the descriptor.
    ///
    /// This is a trait method so that an interrupted download can continue from any source. A registry sends only the
    /// rest (RFC 9110, section 14). The default implementation reads the blob from its first byte.
    ///
    /// # Errors
    ///
    /// As [`Source::blob`].
    async fn blob_after(
        &self,
        descriptor: &Descriptor,
        partial: PartialBlob,
    ) -> Result<BlobStream> {
        let rest = self.blob(descriptor).await?.skip_bytes(partial.size());
        BlobStream::from_partial(descriptor, partial, rest)
    }

    /// Returns the descriptor of a blob of which only the digest is known. The media type in the descriptor is
    /// `application/octet-stream`.
    ///
    /// # Errors
    ///
    /// As [`Source::manifest`]; [`ErrorKind::Unsupported`] if the size cannot be determined. The default implementation
    /// always returns this error.
    async fn find_blob(&self, digest: &Digest) -> Result<Descriptor> {
        let blob = self.describe(&digest.clone().into());
        Err(NoSize { blob }.into())
    }

    /// Returns the full name of the repository, if the source is a repository of a registry.
    ///
    /// This is a trait method so that a copy from any source can record the origin of the blobs. If the target is
    /// another repository of the same registry, the registry mounts the blobs from the origin (distribution-spec,
    /// "Mounting a blob from another repository").
    fn origin(&self) -> Option<&Reference> {
        None
    }

    /// Lists the tags. Pages are requested as the stream is polled. Names that are not valid tags are skipped.
    fn tags(&self) -> TagStream;

    /// Lists the names that are not available as tags, with their digests.
    ///
    /// This is a trait method so that a list of tags can show the omitted names of any source. Only layouts and
    /// archives have such names; the default implementation returns none.
    ///
    /// # Errors
    ///
    /// As [`Source::manifest`].
    async fn other_names(&self) -> Result<Vec<OtherName>> {
        Ok(Vec::new())
    }

    /// Lists the manifests with this subject. If `artifact_type` is set, lists only manifests of this type. The subject
    /// need not exist. Each descriptor has the artifact type and the annotations of its manifest.
    ///
    /// The stream ends with [`ErrorKind::Unsupported`] if referrers cannot be listed. The default implementation always
    /// returns this error.
    fn referrers(&self, subject: &Digest, artifact_type: Option<&MediaType>) -> DescriptorStream {
        let _ = artifact_type;
        let subject = self.describe(&subject.clone().into());
        stream::iter([Err(NoReferrers { subject }.into())]).boxed()
    }

    /// Returns the location of `identifier` in this storage, in the form that users write.
    fn describe(&self, identifier: &Identifier) -> String;
}

/// Way in which a blob was stored in a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// The content was uploaded.
    Uploaded,
    /// The registry mounted the blob from another of its repositories.
    Mounted,
    /// The target had the blob already.
    Existed,
}

/// Storage that artifacts can be written to.
///
/// Writes are atomic: content is either complete or does not exist. Pushing existing content succeeds and changes
/// nothing.
#[async_trait]
pub trait Target: Source {
    /// Whether the content exists. The media type determines whether the content is a manifest or a blob.
    ///
    /// # Errors
    ///
    /// A response that does not state clearly whether the content exists is an error.
    async fn exists(&self, descriptor: &Descriptor) -> Result<bool>;

    /// Pushes a blob unless it exists.
    async fn push_blob(&self, blob: &Blob) -> Result<Delivery>;

    /// Pushes a file whose digest is not known, and returns the resulting blob.
    ///
    /// This is a trait method so that a file can be packed for any target. For a registry, a large file is uploaded
    /// while its digest is computed; the default implementation reads the file twice. The meter counts the bytes.
    async fn push_file(
        &self,
        media_type: MediaType,
        path: &Path,
        meter: &Meter,
    ) -> Result<(Blob, Delivery)> {
        let blob = Blob::from_file(media_type, path).await?;
        let delivery = self.push_blob(&blob.clone().metered(meter)).await?;
        Ok((blob, delivery))
    }

    /// Pushes a manifest under its digest and sets no tag.
    ///
    /// # Errors
    ///
    /// A target may reject a manifest whose successors are missing.
    async fn push_manifest(&self, manifest: &Manifest) -> Result<()>;

    /// Sets a tag on a manifest, which must exist. The request is repeated if its response is lost.
    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> Result<()>;

    /// Sets a tag as [`Target::tag`] does, but sends the request only once. After an error the tag may or may not have
    /// been set.
    ///
    /// This is a trait method so that callers can update an index in any target while other clients change it. At a
    /// registry, a second request could revert the change of another client. Other targets send no requests and use the
    /// default implementation.
    async fn tag_once(&self, manifest: &Manifest, tag: &Tag) -> Result<()> {
        self.tag(manifest, tag).await
    }

    /// Completes a copy. `untagged` is the root of the copied artifact, if the copy sets no tag on it.
    ///
    /// Every copy ends with this call. Layouts and archives add the root to the list of their manifests, so that other
    /// programs find it, and archives write their file. The default implementation does nothing.
    async fn complete(&self, untagged: Option<&Manifest>) -> Result<()> {
        let _ = untagged;
        Ok(())
    }
}

/// Storage that content can be deleted from.
///
/// Deleting missing content fails with [`ErrorKind::NotFound`], and an unsupported deletion with
/// [`ErrorKind::Unsupported`]. Lists of referrers are updated.
#[async_trait]
pub trait Delete: Target {
    /// Deletes a tag. The manifest remains available by its digest and its other tags.
    async fn delete_tag(&self, tag: &Tag) -> Result<()>;

    /// Deletes a manifest and all tags that refer to it. Its successors remain.
    async fn delete_manifest(&self, digest: &Digest) -> Result<()>;

    /// Deletes a blob, even if a manifest refers to it.
    async fn delete_blob(&self, digest: &Digest) -> Result<()>;
}
