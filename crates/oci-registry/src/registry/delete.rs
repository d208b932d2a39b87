//! Deletion of tags, manifests and blobs (distribution-spec, "Content Management").
//!
//! Many registries do not support deletion and respond with various statuses. Some delete manifests but not tags. On
//! such a registry, the client moves the tag to a placeholder manifest and deletes the placeholder. The client requests
//! the content before the deletion, so a 404 response to DELETE means that this request, or an earlier attempt, has
//! deleted the content.

use http::{Method, StatusCode};
use snafu::{IntoError, ResultExt, Snafu, ensure};
use url::Url;

use super::requests::RepositoryRequests;
use super::response;
use crate::blob::Blob;
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Hint, Optional};
use crate::exchange::Request;
use crate::manifest::{Annotations, ImageManifest, Manifest, MediaType};
use crate::reference::{Identifier, Reference, RegistryName, Tag};
use crate::storage::Target;

/// Artifact type of a placeholder manifest.
const PLACEHOLDER: MediaType = MediaType::new_static("application/vnd.oci-registry.deleted-tag.v1");

/// Annotation of a placeholder manifest: the tag to delete.
const PLACEHOLDER_TAG: &str = "oci-registry.deleted-tag";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to delete `{reference}`"))]
    Delete {
        reference: Reference,
        source: crate::Error,
    },
    #[snafu(display("failed to delete `{reference}`: `{registry}` refused the deletion"))]
    Refused {
        reference: Reference,
        registry: RegistryName,
        source: crate::Error,
    },
    #[snafu(display("failed to find the blob {digest} in `{repository}`"))]
    NoBlob {
        repository: Reference,
        digest: Digest,
    },
    #[snafu(display("failed to restore `{reference}` to {digest} after a failed deletion"))]
    Restore {
        reference: Reference,
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
                    "enable deletion on `{registry}`, or delete on its web site"
                )
                .into(),
            ],
            Self::Restore { reference, digest, .. } => vec![
                format!(
                    "set the tag `{reference}` on {digest} again, or repeat the deletion: the tag refers to a deleted manifest"
                )
                .into(),
            ],
            _ => Vec::new(),
        }
    }
}

/// Result of a DELETE request.
enum Deletion {
    Deleted,
    /// The registry responded that the content does not exist. It may still exist if the registry cannot delete it
    /// under this name.
    NotFound(crate::Error),
    /// The registry does not support this deletion.
    Unsupported(crate::Error),
}

/// Deletes a tag and keeps its manifest. If the registry deletes manifests only, a placeholder manifest is pushed to
/// `repository`.
pub(super) async fn delete_tag(
    requests: &RepositoryRequests,
    repository: &dyn Target,
    tag: &Tag,
) -> crate::Result<()> {
    let identifier = Identifier::Tag(tag.clone());
    let reference = requests.reference().with(identifier.clone());
    requests.resolve_manifest(&identifier).await?;
    let deleted = delete_identifier(requests, &identifier).await;
    let refusal = deleted.with_context(|_| DeleteSnafu {
        reference: reference.clone(),
    })?;
    if refusal.is_none() {
        return Ok(());
    }
    let deleted = delete_with_placeholder(requests, repository, tag).await;
    let refusal = deleted.with_context(|_| DeleteSnafu {
        reference: reference.clone(),
    })?;
    Ok(ensure_deleted(requests, reference, refusal)?)
}

/// Deletes a manifest. Returns the digest of its subject, if it has one.
pub(super) async fn delete_manifest(
    requests: &RepositoryRequests,
    digest: &Digest,
) -> crate::Result<Option<Digest>> {
    let identifier = Identifier::Digest(digest.clone());
    let reference = requests.reference().with(identifier.clone());
    let subject = match requests.fetch_manifest(&identifier).await {
        Ok(manifest) => manifest.subject().map(|subject| subject.digest.clone()),
        // A manifest that cannot be parsed can still be deleted.
        Err(error) if is_unreadable(error.kind()) => None,
        Err(error) => return Err(error),
    };
    let deleted = delete_identifier(requests, &identifier).await;
    let refusal = deleted.with_context(|_| DeleteSnafu {
        reference: reference.clone(),
    })?;
    ensure_deleted(requests, reference, refusal)?;
    Ok(subject)
}

/// Deletes a blob.
pub(super) async fn delete_blob(
    requests: &RepositoryRequests,
    digest: &Digest,
) -> crate::Result<()> {
    let reference = requests.reference().with(digest.clone());
    ensure!(
        requests.head_blob(digest).await?.is_some(),
        NoBlobSnafu {
            repository: requests.reference().clone(),
            digest: digest.clone()
        }
    );
    let deletion = send_delete(requests, requests.url(&format!("blobs/{digest}"))).await;
    let deletion = deletion.with_context(|_| DeleteSnafu {
        reference: reference.clone(),
    })?;
    let refusal = match deletion {
        Deletion::Deleted => None,
        Deletion::Unsupported(refusal) => Some(refusal),
        Deletion::NotFound(refusal) => {
            let remaining = requests.head_blob(digest).await?;
            remaining.map(|_| refusal)
        }
    };
    Ok(ensure_deleted(requests, reference, refusal)?)
}

/// Sends a DELETE request. Rejects a redirect, because it may lead to the content of another repository. No known
/// registry redirects DELETE.
async fn send_delete(requests: &RepositoryRequests, url: Url) -> crate::Result<Deletion> {
    let request = Request::new(Method::DELETE, url).without_redirects();
    let authorized = requests.send(request).await?;
    let status = authorized.response.status;
    // The specification requires 202. Some registries respond with 200 or 204.
    let is_deleted = matches!(
        status,
        StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT
    );
    if is_deleted {
        return Ok(Deletion::Deleted);
    }
    let refusal = response::into_error(requests.registry(), authorized).await;
    match (status, refusal.kind()) {
        (_, ErrorKind::NotFound) => Ok(Deletion::NotFound(refusal)),
        (_, ErrorKind::Unsupported) | (StatusCode::BAD_REQUEST, ErrorKind::Protocol) => {
            Ok(Deletion::Unsupported(refusal))
        }
        _ => Err(refusal),
    }
}

/// Deletes a manifest or tag that exists. Returns the registry's error if the manifest or tag still exists afterwards.
async fn delete_identifier(
    requests: &RepositoryRequests,
    identifier: &Identifier,
) -> crate::Result<Option<crate::Error>> {
    match send_delete(requests, requests.manifest_url(identifier)).await? {
        Deletion::Deleted => Ok(None),
        Deletion::Unsupported(refusal) => Ok(Some(refusal)),
        Deletion::NotFound(refusal) => {
            let remaining = requests.resolve_manifest(identifier).await.optional()?;
            Ok(remaining.map(|_| refusal))
        }
    }
}

/// Moves a tag to a placeholder manifest, which has no other tag, and deletes the placeholder. Returns the registry's
/// error if the registry does not delete manifests either.
async fn delete_with_placeholder(
    requests: &RepositoryRequests,
    repository: &dyn Target,
    tag: &Tag,
) -> crate::Result<Option<crate::Error>> {
    let identifier = Identifier::Tag(tag.clone());
    let tagged = requests.fetch_manifest(&identifier).await?;
    let placeholder = placeholder(tag)?;
    let digest = placeholder.digest();
    let placeholder_identifier = Identifier::Digest(digest.clone());
    if tagged.digest() == digest {
        // An earlier deletion was interrupted after it had moved the tag.
        return delete_identifier(requests, &placeholder_identifier).await;
    }
    // The placeholder does not exist yet, so this request changes nothing. Its response shows whether the registry
    // deletes manifests.
    let attempt = send_delete(requests, requests.manifest_url(&placeholder_identifier)).await?;
    if let Deletion::Unsupported(refusal) = attempt {
        return Ok(Some(refusal));
    }
    repository.push_blob(&Blob::empty()).await?;
    repository.push_manifest(&placeholder).await?;
    let deleted = match repository.tag(&placeholder, tag).await {
        Ok(()) => delete_identifier(requests, &placeholder_identifier).await,
        // The registry may have moved the tag despite the error.
        Err(error) => Err(error),
    };
    if !matches!(deleted, Ok(None)) {
        let restored = repository.tag(&tagged, tag).await;
        restored.with_context(|_| RestoreSnafu {
            reference: requests.reference().with(identifier),
            digest: tagged.digest().clone(),
        })?;
    }
    deleted
}

fn ensure_deleted(
    requests: &RepositoryRequests,
    reference: Reference,
    refusal: Option<crate::Error>,
) -> Result<(), Error> {
    let registry = requests.registry().clone();
    match refusal {
        None => Ok(()),
        Some(refusal) => Err(RefusedSnafu {
            reference,
            registry,
        }
        .into_error(refusal)),
    }
}

/// Returns the placeholder manifest for a tag. All clients use the same placeholder for a tag.
fn placeholder(tag: &Tag) -> crate::Result<Manifest> {
    let empty = Blob::empty().descriptor().clone();
    let mut image = ImageManifest::new(PLACEHOLDER, empty.clone());
    image.layers = vec![empty];
    image.annotations = Annotations::from([(PLACEHOLDER_TAG.to_owned(), tag.to_string())]);
    Manifest::from_image(image)
}

fn is_unreadable(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Mismatch | ErrorKind::Protocol | ErrorKind::Unsupported
    )
}
