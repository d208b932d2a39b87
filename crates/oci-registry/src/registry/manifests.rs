//! Manifests of a repository: fetch, resolve and push (distribution-spec, "Pulling manifests", "Pushing Manifests").

use http::{HeaderValue, Method, StatusCode, header};
use snafu::{ResultExt, Snafu, ensure};
use url::Url;

use super::requests::{CONTENT_DIGEST, RepositoryRequests};
use super::response;
use crate::digest::{Algorithm, Digest};
use crate::error::{ErrorKind, Failure, Optional};
use crate::exchange::Request;
use crate::exchange::body::Body;
use crate::manifest::{self, Descriptor, Manifest, MediaType};
use crate::reference::{Identifier, Reference};
use crate::referrers::matches_digest;
use crate::transport::AuthorizedResponse;

/// Response header of a registry with the referrers API: the subject of the pushed manifest.
const SUBJECT_HEADER: &str = "oci-subject";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to fetch `{reference}`"))]
    Fetch {
        reference: Reference,
        source: crate::Error,
    },
    #[snafu(display(
        "digest mismatch: the registry sent a manifest with the digest {actual} for `{reference}`"
    ))]
    WrongDigest {
        reference: Reference,
        actual: Digest,
    },
    #[snafu(display(
        "failed to push `{reference}`: the registry accepted it but does not serve it"
    ))]
    NotStored { reference: Reference },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fetch { source, .. } => source.kind(),
            Self::WrongDigest { .. } => ErrorKind::Mismatch,
            Self::NotStored { .. } => ErrorKind::Protocol,
        }
    }

    fn object_name(&self) -> Option<String> {
        match self {
            Self::Fetch { reference, .. } => Some(reference.to_string()),
            Self::WrongDigest { .. } | Self::NotStored { .. } => None,
        }
    }
}

impl RepositoryRequests {
    /// Returns the URL of a manifest.
    pub(super) fn manifest_url(&self, identifier: &Identifier) -> Url {
        self.url(&format!("manifests/{identifier}"))
    }

    /// Returns a request for a manifest that accepts all supported media types.
    pub(super) fn manifest_request(&self, method: Method, identifier: &Identifier) -> Request {
        let accepted = MediaType::MANIFESTS
            .map(|media_type| media_type.to_string())
            .join(", ");
        let accepted = HeaderValue::try_from(accepted).expect("media types are header values");
        Request::new(method, self.manifest_url(identifier)).header(header::ACCEPT, accepted)
    }

    /// Returns the request that stores a manifest under an identifier.
    pub(super) fn put_request(&self, manifest: &Manifest, identifier: &Identifier) -> Request {
        let media_type = HeaderValue::try_from(manifest.media_type().as_str());
        let media_type = media_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
        Request::new(Method::PUT, self.manifest_url(identifier))
            .header(header::CONTENT_TYPE, media_type)
            .body(Body::Bytes(manifest.bytes().clone()))
    }

    /// Fetches a manifest.
    pub(super) async fn fetch_manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        let fetched = async {
            let request = self.manifest_request(Method::GET, identifier);
            let authorized = self.send(request).await?;
            self.read_manifest(authorized, identifier).await
        };
        Ok(fetched.await.with_context(|_| FetchSnafu {
            reference: self.reference().with(identifier.clone()),
        })?)
    }

    /// Reads the manifest in the response to a request for this identifier.
    pub(super) async fn read_manifest(
        &self,
        authorized: AuthorizedResponse,
        identifier: &Identifier,
    ) -> crate::Result<Manifest> {
        if !authorized.response.status.is_success() {
            return Err(response::into_error(self.registry(), authorized).await);
        }
        let content_type = authorized
            .response
            .header(header::CONTENT_TYPE.as_str())
            .map(str::to_owned);
        let bytes = authorized.response.bytes(manifest::MAX_READ).await?;
        if let Identifier::Digest(digest) = identifier {
            // The digest is checked before the bytes are parsed, regardless of the media type in the response.
            let mut hasher = digest.verifier()?;
            hasher.update(&bytes);
            let actual = hasher.finish();
            ensure!(
                actual == *digest,
                WrongDigestSnafu {
                    reference: self.reference().with(digest.clone()),
                    actual
                }
            );
            return Ok(Manifest::parse(bytes, content_type.as_deref())?.with_digest(digest.clone()));
        }
        Manifest::parse(bytes, content_type.as_deref())
    }

    /// Resolves an identifier by HEAD, or by GET if the response to HEAD lacks media type, digest or size.
    pub(super) async fn resolve_manifest(
        &self,
        identifier: &Identifier,
    ) -> crate::Result<Descriptor> {
        let resolved = self.head_manifest(identifier).await;
        let resolved = resolved.with_context(|_| FetchSnafu {
            reference: self.reference().with(identifier.clone()),
        })?;
        match resolved {
            Some(descriptor) => Ok(descriptor),
            None => Ok(self.fetch_manifest(identifier).await?.descriptor()),
        }
    }

    /// Sends a HEAD request for a manifest. Returns `None` if the response lacks media type, digest or size.
    async fn head_manifest(&self, identifier: &Identifier) -> crate::Result<Option<Descriptor>> {
        let authorized = self
            .send(self.manifest_request(Method::HEAD, identifier))
            .await?;
        let response = &authorized.response;
        if response.status == StatusCode::NOT_FOUND {
            return Err(response::into_error(self.registry(), authorized).await);
        }
        if matches!(response.status.as_u16(), 401 | 429 | 500..) {
            return Err(response::into_error(self.registry(), authorized).await);
        }
        let media_type = response
            .header(header::CONTENT_TYPE.as_str())
            .map(MediaType::from_content_type);
        let digest = response
            .header(CONTENT_DIGEST)
            .and_then(|digest| digest.parse().ok());
        let size = response
            .header(header::CONTENT_LENGTH.as_str())
            .and_then(|size| size.parse().ok());
        let (true, Some(media_type), Some(digest), Some(size)) =
            (response.status == StatusCode::OK, media_type, digest, size)
        else {
            return Ok(None);
        };
        // The digests of the same content differ between algorithms, so tags are resolved to SHA-256 digests only.
        let is_requested = match identifier {
            Identifier::Digest(requested) => *requested == digest,
            Identifier::Tag(_) => digest.algorithm() == Some(Algorithm::Sha256),
        };
        Ok((media_type.is_manifest() && is_requested)
            .then(|| Descriptor::new(media_type, digest, size)))
    }

    /// Stores a manifest. Returns whether the response states the subject of the manifest (`OCI-Subject`).
    pub(super) async fn put_manifest(
        &self,
        manifest: &Manifest,
        identifier: &Identifier,
        may_repeat: bool,
    ) -> crate::Result<bool> {
        let request = self.put_request(manifest, identifier);
        let request = if may_repeat {
            request
        } else {
            request.without_retries()
        };
        let authorized = self.send(request).await?;
        if !authorized.response.status.is_success() {
            let refusal = response::into_error(self.registry(), authorized).await;
            // A registry with immutable tags may reject the manifest to which the tag already refers.
            let is_stored = refusal.kind() == ErrorKind::Conflict
                && self.is_stored(manifest, identifier).await?;
            return if is_stored { Ok(false) } else { Err(refusal) };
        }
        let names_subject = authorized.response.header(SUBJECT_HEADER)
            == manifest.subject().map(|subject| subject.digest.as_str());
        let stored = authorized.response.header(CONTENT_DIGEST);
        let stored = stored.and_then(|digest| digest.parse().ok());
        if stored.is_some_and(|digest| matches_digest(manifest, &digest)) {
            return Ok(names_subject);
        }
        // A server that is not a registry may also respond with 200, so the client checks that the manifest exists.
        ensure!(
            self.is_stored(manifest, identifier).await?,
            NotStoredSnafu {
                reference: self.reference().with(identifier.clone())
            }
        );
        Ok(names_subject)
    }

    /// Whether the identifier refers to this manifest.
    async fn is_stored(&self, manifest: &Manifest, identifier: &Identifier) -> crate::Result<bool> {
        let stored = self.resolve_manifest(identifier).await.optional()?;
        Ok(stored.is_some_and(|stored| matches_digest(manifest, &stored.digest)))
    }
}
