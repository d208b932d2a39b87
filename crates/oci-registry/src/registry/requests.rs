//! Requests to one repository.
//!
//! [`RepositoryRequests`] binds a transport to a repository. It contains the URLs, the scope, the count of idle
//! timeouts, and the requests that several operations need.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use http::{Method, StatusCode, header};
use snafu::{IntoError, Snafu};
use url::Url;

use super::{page, response};
use crate::auth::scope::Scope;
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure};
use crate::event::Observer;
use crate::exchange::{Request, Response, Stalls};
use crate::redact::Secrets;
use crate::reference::{Reference, RegistryName, RepositoryName};
use crate::transport::{AuthorizedResponse, Transport};

/// Response header with the digest of the content that the registry serves or has stored.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

#[derive(Debug, Snafu)]
#[snafu(display("failed to check whether `{repository}` has the blob {digest}"))]
struct FindBlob {
    repository: Reference,
    digest: Digest,
    source: crate::Error,
}

impl Failure for FindBlob {
    fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

/// Access to a repository, which determines the scope of the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Pull,
    /// Reading and writing.
    Push,
}

/// Requests to one repository. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct RepositoryRequests {
    transport: Arc<Transport>,
    reference: Reference,
    name: RepositoryName,
    path: Arc<str>,
    scope: Scope,
    /// Count of consecutive idle timeouts; `None` if the requests do not belong to one operation.
    stalls: Option<Stalls>,
}

impl RepositoryRequests {
    /// Binds a transport to the repository of a reference.
    pub(super) fn new(transport: Arc<Transport>, reference: &Reference, access: Access) -> Self {
        let name = reference.api_name();
        let path = format!("/v2/{name}/").into();
        let scope = match access {
            Access::Pull => Scope::Pull(name.clone()),
            Access::Push => Scope::Push(name.clone()),
        };
        Self {
            transport,
            reference: reference.whole_repository(),
            name,
            path,
            scope,
            stalls: None,
        }
    }

    /// Returns a copy for one operation, whose requests share the count of consecutive idle timeouts.
    pub(super) fn for_one_operation(&self) -> Self {
        Self {
            stalls: Some(Stalls::default()),
            ..self.clone()
        }
    }

    /// Whether the operation has reached its limit of consecutive idle timeouts.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalls.as_ref().is_some_and(Stalls::has_reached_limit)
    }

    /// Records progress of the operation, which resets the count of idle timeouts.
    pub(super) fn record_progress(&self) {
        if let Some(stalls) = &self.stalls {
            stalls.reset();
        }
    }

    /// Returns the full name of the repository.
    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns the registry of the repository.
    pub(super) fn registry(&self) -> &RegistryName {
        self.reference.registry()
    }

    /// Returns the repository name in URLs and scopes.
    pub(super) fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Returns the scope of the requests.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns the values to redact in errors and events.
    pub(super) fn secrets(&self) -> &Secrets {
        self.transport.secrets()
    }

    /// Returns the observer of the client.
    pub(super) fn observer(&self) -> &Observer {
        self.transport.observer()
    }

    /// Whether a response came from the registry's own origin.
    pub(super) fn is_own_response(&self, response: &Response) -> bool {
        self.transport.is_own_response(response)
    }

    /// Returns the URL of a path within the repository. `rest` must consist of parsed names, because it is not escaped.
    pub(super) fn url(&self, rest: &str) -> Url {
        self.transport.url(&format!("{}{rest}", self.path))
    }

    /// Sends a request with the scope of the repository.
    pub(super) async fn send(&self, request: Request) -> crate::Result<AuthorizedResponse> {
        self.send_with_scope(request, &self.scope).await
    }

    /// Sends a request with another scope.
    pub(super) async fn send_with_scope(
        &self,
        request: Request,
        scope: &Scope,
    ) -> crate::Result<AuthorizedResponse> {
        let request = match &self.stalls {
            Some(stalls) => request.with_stalls(stalls),
            None => request,
        };
        self.transport.send(request, scope).await
    }

    /// Streams the names of a paginated list.
    pub(super) fn list_names(&self, rest: &str) -> BoxStream<'static, crate::Result<String>> {
        page::stream(
            Arc::clone(&self.transport),
            &format!("{}{rest}", self.path),
            self.scope.clone(),
        )
    }

    /// Whether the repository has a blob of this size. A blob that the registry reports with another size counts as
    /// absent, because uploading it again replaces the wrong content. The registry may omit the size.
    pub(super) async fn has_blob(&self, digest: &Digest, size: u64) -> crate::Result<bool> {
        let found = self.head_blob(digest).await?;
        Ok(found.is_some_and(|found| {
            let length = found.header(header::CONTENT_LENGTH.as_str());
            length.is_none_or(|length| length.parse() == Ok(size))
        }))
    }

    /// Sends a HEAD request for a blob. Returns `None` if the blob is absent. Only the status 200 means that the blob
    /// exists ("Checking if content exists in the registry").
    pub(super) async fn head_blob(&self, digest: &Digest) -> crate::Result<Option<Response>> {
        let context = |source| {
            FindBlobSnafu {
                repository: self.reference.clone(),
                digest: digest.clone(),
            }
            .into_error(source)
        };
        let request = Request::new(Method::HEAD, self.url(&format!("blobs/{digest}")));
        let authorized = self.send(request).await.map_err(context)?;
        match authorized.response.status {
            StatusCode::OK => Ok(Some(authorized.response)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(context(response::into_error(self.registry(), authorized).await).into()),
        }
    }
}
