//! Traits of places for content, which all operations are written against.
//!
//! A [`Source`] can be read, a [`Target`] can be read and written. A repository of a registry, a layout directory, an
//! archive and memory are both; an artifact packed from files is a source. Push, pull, mirror and backup are one copy from
//! a source to a target.

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
#[snafu(display("failed to list what refers to `{subject}`: this place keeps no account of it"))]
struct NoReferrers {
    subject: String,
}

impl Failure for NoReferrers {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

#[derive(Debug, Snafu)]
#[snafu(display("failed to find out the size of the blob `{blob}`: this place does not tell"))]
struct NoSize {
    blob: String,
}

impl Failure for NoSize {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

/// Tags as they are found, in the order of the place they come from.
pub type TagStream = BoxStream<'static, Result<Tag>>;

/// A name in a layout or archive that no tag stands for: it is no tag, and does not end with a tag of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherName {
    /// The name as it is written there.
    pub name: String,
    /// The digest of the manifest.
    pub digest: Digest,
}

/// A place that artifacts can be read from.
///
/// Everything read is verified: a manifest by the digest it was asked for, a blob as it flows.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// Fetches the manifest that `identifier` names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) only when the place said that it is not there.
    async fn manifest(&self, identifier: &Identifier) -> Result<Manifest>;

    /// Finds what `identifier` names, without its content where the place can tell that cheaper. Annotations and platform are not known here.
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
    /// As [`Source::manifest`]; the stream ends with an error when the bytes are not what the descriptor says.
    async fn blob(&self, descriptor: &Descriptor) -> Result<BlobStream>;

    /// Opens what follows the beginning of a blob. The stream ends with an error unless both together are what the
    /// descriptor says.
    ///
    /// # Errors
    ///
    /// As [`Source::blob`].
    async fn blob_after(
        &self,
        descriptor: &Descriptor,
        beginning: PartialBlob,
    ) -> Result<BlobStream> {
        let rest = self.blob(descriptor).await?.skipping(beginning.size());
        BlobStream::after(descriptor, beginning, rest)
    }

    /// Finds a blob of which nothing is known but its digest: how large it is. Its media type is not known here.
    ///
    /// # Errors
    ///
    /// As [`Source::manifest`]; [`ErrorKind::Unsupported`] where the size cannot be told, which is the answer of a place
    /// that does not implement it.
    async fn find_blob(&self, digest: &Digest) -> Result<Descriptor> {
        let blob = self.describe(&digest.clone().into());
        Err(NoSize { blob }.into())
    }

    /// The repository of a registry that this is, when it is one: neighbours may take blobs from it.
    fn origin(&self) -> Option<&Reference> {
        None
    }

    /// Lists the tags, asking for more only as the stream is polled. Names that are not valid tags are left out.
    fn tags(&self) -> TagStream;

    /// Lists the names that no tag stands for, each with its digest. Only layouts and archives have such names.
    ///
    /// # Errors
    ///
    /// As [`Source::manifest`].
    async fn other_names(&self) -> Result<Vec<OtherName>> {
        Ok(Vec::new())
    }

    /// Lists the manifests whose subject this digest is, of one artifact type or of all of them; the subject itself need
    /// not be here. Each descriptor has the artifact type and the annotations of its manifest.
    ///
    /// Ends with [`ErrorKind::Unsupported`] where this cannot be told, which is the answer of a place that does not
    /// implement it.
    fn referrers(&self, subject: &Digest, artifact_type: Option<&MediaType>) -> DescriptorStream {
        let _ = artifact_type;
        let subject = self.describe(&subject.clone().into());
        stream::iter([Err(NoReferrers { subject }.into())]).boxed()
    }

    /// How a person would write this place, with this identifier in it.
    fn describe(&self, identifier: &Identifier) -> String;
}

/// How a blob came to be at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Its bytes were sent.
    Uploaded,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was there already.
    Existed,
}

/// A place that artifacts can be written to.
///
/// What is written is whole or not there at all. Pushing what is already there succeeds and changes nothing.
#[async_trait]
pub trait Target: Source {
    /// Whether this content is there: a manifest if the media type is one's, else a blob.
    ///
    /// # Errors
    ///
    /// Anything but a clear yes or no is an error: "cannot tell" is never "no".
    async fn exists(&self, descriptor: &Descriptor) -> Result<bool>;

    /// Brings a blob here, unless it is here.
    async fn push_blob(&self, blob: &Blob) -> Result<Delivery>;

    /// Brings a file here whose digest is not known yet, and returns it as the blob that it is.
    ///
    /// A target may send large files while it computes the digest, instead of reading them twice. The meter sees the
    /// bytes on their way.
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

    /// Brings a manifest here, by its digest and under no tag.
    ///
    /// # Errors
    ///
    /// A target may refuse a manifest whose successors are not there.
    async fn push_manifest(&self, manifest: &Manifest) -> Result<()>;

    /// Lets a tag name this manifest, which must be here. Asked again when the answer is lost.
    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> Result<()>;

    /// As [`Target::tag`], but asked once: for a tag that others move too, where a second try could undo what someone
    /// else did in between. After a failure the tag may or may not have moved.
    async fn tag_once(&self, manifest: &Manifest, tag: &Tag) -> Result<()> {
        self.tag(manifest, tag).await
    }

    /// Lists a manifest that is here and gets no tag, where a place lists what it holds. Elsewhere its digest is enough.
    async fn list(&self, manifest: &Manifest) -> Result<()> {
        let _ = manifest;
        Ok(())
    }

    /// Makes what was pushed without a tag last. For places that write everything at once; to all others it means nothing.
    async fn finish(&self) -> Result<()> {
        Ok(())
    }
}

/// A place that content can be taken away from.
///
/// What is not there is [`ErrorKind::NotFound`], a place that deletes nothing [`ErrorKind::Unsupported`]. What others are
/// told about, such as a list of referrers, is brought up to date.
#[async_trait]
pub trait Delete: Target {
    /// Takes a tag away, and nothing else: the manifest that it named stays, under its digest and its other tags.
    async fn delete_tag(&self, tag: &Tag) -> Result<()>;

    /// Takes a manifest away, and with it every tag that names it. What it names itself stays.
    async fn delete_manifest(&self, digest: &Digest) -> Result<()>;

    /// Takes a blob away, whether or not a manifest names it.
    async fn delete_blob(&self, digest: &Digest) -> Result<()>;
}
