//! Taking content away from a repository (distribution-spec, "Content Management").
//!
//! Many registries delete nothing through this protocol, and say so in many ways. Some delete manifests and no tags; there
//! a tag is moved to a manifest made for this, and goes with it. Whether something was there is asked first: "not found"
//! as the answer to a deletion then means that it is gone, by this request or by an earlier one whose answer was lost.

use async_trait::async_trait;
use http::{Method, StatusCode};
use snafu::{IntoError, ResultExt, Snafu, ensure};
use url::Url;

use super::repository::Repository;
use super::{referrers, response};
use crate::blob::Blob;
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Hint, Optional};
use crate::exchange::Request;
use crate::manifest::{Annotations, MediaType};
use crate::pack::Packed;
use crate::reference::{Identifier, Reference, RegistryName, Tag};
use crate::storage::{Delete, Source, Target};

/// What the manifest is that a tag is moved to before both go.
const STAND_IN: MediaType = MediaType::new_static("application/vnd.oci-registry.deleted-tag.v1");

/// The annotation in which such a manifest names its tag.
const STAND_IN_TAG: &str = "oci-registry.deleted-tag";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to delete `{what}`"))]
    Delete {
        what: Reference,
        source: crate::Error,
    },
    #[snafu(display("failed to delete `{what}`: `{registry}` refuses to"))]
    Refused {
        what: Reference,
        registry: RegistryName,
        source: crate::Error,
    },
    #[snafu(display("failed to find the blob {digest} in `{repository}`"))]
    NoBlob {
        repository: Reference,
        digest: Digest,
    },
    #[snafu(display("failed to let `{what}` name {digest} again, after it could not be deleted"))]
    Restore {
        what: Reference,
        digest: Digest,
        source: crate::Error,
    },
}

impl Error {
    fn cause(&self) -> Option<&crate::Error> {
        match self {
            Self::Delete { source, .. }
            | Self::Refused { source, .. }
            | Self::Restore { source, .. } => Some(source),
            Self::NoBlob { .. } => None,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::Unsupported,
            _ => self.cause().map_or(ErrorKind::NotFound, crate::Error::kind),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Refused { registry, .. } => vec![
                format!(
                    "deletion may be disabled on `{registry}`, or possible only on its web site"
                )
                .into(),
            ],
            Self::Restore { what, digest, .. } => vec![
                format!(
                    "`{what}` refers to a manifest that was deleted: tag {digest} again, or repeat the deletion"
                )
                .into(),
            ],
            _ => Vec::new(),
        }
    }
}

/// What a registry says to a deletion.
enum Answered {
    Deleted,
    /// There is nothing of this name, or nothing that could be deleted under it.
    Absent(crate::Error),
    /// The registry does not do this.
    Refused(crate::Error),
}

impl Repository {
    async fn ask_to_delete(&self, url: Url) -> crate::Result<Answered> {
        let answer = self.send(Request::new(Method::DELETE, url)).await?;
        let status = answer.response.status;
        if status.is_success() {
            return Ok(Answered::Deleted);
        }
        let refusal = response::refusal(self.registry(), answer).await;
        match (status, refusal.kind()) {
            (_, ErrorKind::NotFound) => Ok(Answered::Absent(refusal)),
            (_, ErrorKind::Unsupported) | (StatusCode::BAD_REQUEST, ErrorKind::Protocol) => {
                Ok(Answered::Refused(refusal))
            }
            _ => Err(refusal),
        }
    }

    /// Deletes a manifest or a tag that was there; the refusal, if it still is.
    async fn delete_named(&self, named: &Identifier) -> crate::Result<Option<crate::Error>> {
        match self.ask_to_delete(self.manifest_url(named)).await? {
            Answered::Deleted => Ok(None),
            Answered::Refused(refusal) => Ok(Some(refusal)),
            Answered::Absent(refusal) => {
                let still = self.resolve(named).await.optional()?;
                Ok(still.map(|_| refusal))
            }
        }
    }

    /// Deletes a tag where only manifests can be deleted: by way of a manifest that no other tag names. The refusal, if
    /// the tag still names what it named.
    async fn delete_with_stand_in(&self, tag: &Tag) -> crate::Result<Option<crate::Error>> {
        let named = Identifier::Tag(tag.clone());
        let held = self.manifest(&named).await?;
        let stand_in = stand_in(tag)?;
        let digest = stand_in.manifest().digest();
        let digest_named = Identifier::Digest(digest.clone());
        if held.digest() == digest {
            // Left by a deletion that was interrupted.
            return self.delete_named(&digest_named).await;
        }
        // Asked before anything is changed, of what is not there.
        let rehearsal = self.ask_to_delete(self.manifest_url(&digest_named)).await?;
        if let Answered::Refused(refusal) = rehearsal {
            return Ok(Some(refusal));
        }
        for blob in stand_in.blobs() {
            self.push_blob(blob).await?;
        }
        self.push_manifest(stand_in.manifest()).await?;
        let deleted = match self.tag(stand_in.manifest(), tag).await {
            Ok(()) => self.delete_named(&digest_named).await,
            // It may have moved all the same.
            Err(error) => Err(error),
        };
        if !matches!(deleted, Ok(None)) {
            let restored = self.tag(&held, tag).await;
            restored.with_context(|_| RestoreSnafu {
                what: self.reference().with(named),
                digest: held.digest().clone(),
            })?;
        }
        deleted
    }

    fn refused(&self, what: Reference, refusal: Option<crate::Error>) -> Result<(), Error> {
        let registry = self.registry().clone();
        match refusal {
            None => Ok(()),
            Some(refusal) => Err(RefusedSnafu { what, registry }.into_error(refusal)),
        }
    }
}

/// A manifest for one tag alone: the same for each who deletes this tag, and no other's.
fn stand_in(tag: &Tag) -> crate::Result<Packed> {
    let annotations = Annotations::from([(STAND_IN_TAG.to_owned(), tag.to_string())]);
    Packed::new(STAND_IN, Blob::empty(), Vec::new(), annotations)
}

#[async_trait]
impl Delete for Repository {
    async fn delete_tag(&self, tag: &Tag) -> crate::Result<()> {
        let named = Identifier::Tag(tag.clone());
        let what = self.reference().with(named.clone());
        self.resolve(&named).await?;
        let deleted = self.delete_named(&named).await;
        let refusal = deleted.with_context(|_| DeleteSnafu { what: what.clone() })?;
        if refusal.is_none() {
            return Ok(());
        }
        let deleted = self.delete_with_stand_in(tag).await;
        let refusal = deleted.with_context(|_| DeleteSnafu { what: what.clone() })?;
        Ok(self.refused(what, refusal)?)
    }

    async fn delete_manifest(&self, digest: &Digest) -> crate::Result<()> {
        let named = Identifier::Digest(digest.clone());
        let what = self.reference().with(named.clone());
        let subject = match self.manifest(&named).await {
            Ok(manifest) => manifest.subject().map(|subject| subject.digest.clone()),
            // What cannot be read can be deleted.
            Err(error) if is_unreadable(error.kind()) => None,
            Err(error) => return Err(error),
        };
        let deleted = self.delete_named(&named).await;
        let refusal = deleted.with_context(|_| DeleteSnafu { what: what.clone() })?;
        self.refused(what, refusal)?;
        if let Some(subject) = subject {
            referrers::remove(self, &subject, digest).await?;
        }
        Ok(())
    }

    async fn delete_blob(&self, digest: &Digest) -> crate::Result<()> {
        let what = self.reference().with(digest.clone());
        let (repository, missing) = (self.reference().clone(), digest.clone());
        ensure!(
            self.has_blob(digest).await?,
            NoBlobSnafu {
                repository,
                digest: missing
            }
        );
        let asked = self.ask_to_delete(self.url(&format!("blobs/{digest}")));
        let answered = asked
            .await
            .with_context(|_| DeleteSnafu { what: what.clone() })?;
        let refusal = match answered {
            Answered::Deleted => None,
            Answered::Refused(refusal) => Some(refusal),
            Answered::Absent(refusal) => self.has_blob(digest).await?.then_some(refusal),
        };
        Ok(self.refused(what, refusal)?)
    }
}

fn is_unreadable(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Mismatch | ErrorKind::Protocol | ErrorKind::Unsupported
    )
}
