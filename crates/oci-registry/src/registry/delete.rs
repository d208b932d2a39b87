//! Deletion of tags, manifests and blobs (distribution-spec, "Content Management").
//!
//! Many registries do not support deletion and report that by various statuses. Some delete manifests and no tags: there,
//! the client moves the tag to a placeholder manifest and deletes that. The client requests the content before the
//! deletion, so 404 in response to DELETE means that this request, or an earlier attempt of it, has deleted the content.

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

/// Annotation of a placeholder manifest with the tag that it is for.
const PLACEHOLDER_TAG: &str = "oci-registry.deleted-tag";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to delete `{what}`"))]
    Delete {
        what: Reference,
        source: crate::Error,
    },
    #[snafu(display("failed to delete `{what}`: `{registry}` refused the deletion"))]
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
    #[snafu(display("failed to restore `{what}` to {digest} after a failed deletion"))]
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

/// Result of a DELETE request.
enum Deletion {
    Deleted,
    /// The registry has no such content, or none that it can delete under this name.
    NotFound(crate::Error),
    /// The registry does not support this deletion.
    Unsupported(crate::Error),
}

/// Deletes a tag and keeps its manifest. Where only manifests can be deleted, `repository` gets a placeholder.
pub(super) async fn delete_tag(
    requests: &RepositoryRequests,
    repository: &dyn Target,
    tag: &Tag,
) -> crate::Result<()> {
    let named = Identifier::Tag(tag.clone());
    let what = requests.reference().with(named.clone());
    requests.resolve_manifest(&named).await?;
    let deleted = delete_named(requests, &named).await;
    let refusal = deleted.with_context(|_| DeleteSnafu { what: what.clone() })?;
    if refusal.is_none() {
        return Ok(());
    }
    let deleted = delete_with_placeholder(requests, repository, tag).await;
    let refusal = deleted.with_context(|_| DeleteSnafu { what: what.clone() })?;
    Ok(ensure_deleted(requests, what, refusal)?)
}

/// Deletes a manifest. Returns the digest of its subject, if it has one.
pub(super) async fn delete_manifest(
    requests: &RepositoryRequests,
    digest: &Digest,
) -> crate::Result<Option<Digest>> {
    let named = Identifier::Digest(digest.clone());
    let what = requests.reference().with(named.clone());
    let subject = match requests.fetch_manifest(&named).await {
        Ok(manifest) => manifest.subject().map(|subject| subject.digest.clone()),
        // A manifest that cannot be parsed can be deleted.
        Err(error) if is_unreadable(error.kind()) => None,
        Err(error) => return Err(error),
    };
    let deleted = delete_named(requests, &named).await;
    let refusal = deleted.with_context(|_| DeleteSnafu { what: what.clone() })?;
    ensure_deleted(requests, what, refusal)?;
    Ok(subject)
}

/// Deletes a blob.
pub(super) async fn delete_blob(
    requests: &RepositoryRequests,
    digest: &Digest,
) -> crate::Result<()> {
    let what = requests.reference().with(digest.clone());
    ensure!(
        requests.head_blob(digest).await?.is_some(),
        NoBlobSnafu {
            repository: requests.reference().clone(),
            digest: digest.clone()
        }
    );
    let deletion = send_delete(requests, requests.url(&format!("blobs/{digest}"))).await;
    let deletion = deletion.with_context(|_| DeleteSnafu { what: what.clone() })?;
    let refusal = match deletion {
        Deletion::Deleted => None,
        Deletion::Unsupported(refusal) => Some(refusal),
        Deletion::NotFound(refusal) => {
            let remaining = requests.head_blob(digest).await?;
            remaining.map(|_| refusal)
        }
    };
    Ok(ensure_deleted(requests, what, refusal)?)
}

/// Sends a DELETE request. Another server cannot delete the content, so a redirect to another origin is refused.
async fn send_delete(requests: &RepositoryRequests, url: Url) -> crate::Result<Deletion> {
    let request = Request::new(Method::DELETE, url).within_origin();
    let answer = requests.send(request).await?;
    let status = answer.response.status;
    // The specification requires 202. Some registries answer 200 or 204.
    let is_deleted = matches!(
        status,
        StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT
    );
    if is_deleted {
        return Ok(Deletion::Deleted);
    }
    let refusal = response::refusal(requests.registry(), answer).await;
    match (status, refusal.kind()) {
        (_, ErrorKind::NotFound) => Ok(Deletion::NotFound(refusal)),
        (_, ErrorKind::Unsupported) | (StatusCode::BAD_REQUEST, ErrorKind::Protocol) => {
            Ok(Deletion::Unsupported(refusal))
        }
        _ => Err(refusal),
    }
}

/// Deletes a manifest or tag that exists. Returns the registry's error if it still exists.
async fn delete_named(
    requests: &RepositoryRequests,
    named: &Identifier,
) -> crate::Result<Option<crate::Error>> {
    match send_delete(requests, requests.manifest_url(named)).await? {
        Deletion::Deleted => Ok(None),
        Deletion::Unsupported(refusal) => Ok(Some(refusal)),
        Deletion::NotFound(refusal) => {
            let remaining = requests.resolve_manifest(named).await.optional()?;
            Ok(remaining.map(|_| refusal))
        }
    }
}

/// Moves a tag to a placeholder manifest, which no other tag names, and deletes the placeholder. Returns the refusal if
/// the registry cannot delete manifests either.
async fn delete_with_placeholder(
    requests: &RepositoryRequests,
    repository: &dyn Target,
    tag: &Tag,
) -> crate::Result<Option<crate::Error>> {
    let named = Identifier::Tag(tag.clone());
    let tagged = requests.fetch_manifest(&named).await?;
    let placeholder = placeholder(tag)?;
    let digest = placeholder.digest();
    let digest_named = Identifier::Digest(digest.clone());
    if tagged.digest() == digest {
        // An earlier deletion was interrupted.
        return delete_named(requests, &digest_named).await;
    }
    // The deletion of an absent manifest shows whether the registry deletes manifests, before anything changes.
    let attempt = send_delete(requests, requests.manifest_url(&digest_named)).await?;
    if let Deletion::Unsupported(refusal) = attempt {
        return Ok(Some(refusal));
    }
    repository.push_blob(&Blob::empty()).await?;
    repository.push_manifest(&placeholder).await?;
    let deleted = match repository.tag(&placeholder, tag).await {
        Ok(()) => delete_named(requests, &digest_named).await,
        // The registry may have moved the tag.
        Err(error) => Err(error),
    };
    if !matches!(deleted, Ok(None)) {
        let restored = repository.tag(&tagged, tag).await;
        restored.with_context(|_| RestoreSnafu {
            what: requests.reference().with(named),
            digest: tagged.digest().clone(),
        })?;
    }
    deleted
}

fn ensure_deleted(
    requests: &RepositoryRequests,
    what: Reference,
    refusal: Option<crate::Error>,
) -> Result<(), Error> {
    let registry = requests.registry().clone();
    match refusal {
        None => Ok(()),
        Some(refusal) => Err(RefusedSnafu { what, registry }.into_error(refusal)),
    }
}

/// Returns the placeholder manifest for a tag. It is the same for each client, and another one for each tag.
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
