//! Availability and credential check for a registry (distribution-spec, "Determining Support").

use std::fmt;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use snafu::{ResultExt, Snafu};

use super::catalog::Registry;
use super::response;
use crate::auth::scope::Scope;
use crate::error::{ErrorKind, Failure};
use crate::exchange::Request;
use crate::rate_limit::RateLimit;
use crate::reference::RegistryName;
use crate::transport::Account;

#[derive(Debug, Snafu)]
#[snafu(display("failed to reach the registry `{registry}`"))]
struct PingError {
    registry: RegistryName,
    source: crate::Error,
}

impl Failure for PingError {
    fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

/// Access that a registry grants with the credential that was found for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryAccess {
    /// The registry accepts requests without a credential.
    Anonymous,
    /// The registry requires a credential, but no credential was found.
    LoginRequired,
    /// The registry accepted a credential.
    Authenticated,
}

impl fmt::Display for RegistryAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "anonymous",
            Self::LoginRequired => "login required",
            Self::Authenticated => "authenticated",
        })
    }
}

/// Result of [`Registry::ping`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PingResponse {
    /// Source of the credential that the registry accepted. `None` if the registry required no credential, or if no
    /// credential was found.
    pub credential_source: Option<String>,
    /// Access with this credential, or without a credential.
    pub access: RegistryAccess,
    /// Rate limit that the response states. Docker Hub states it only in responses to requests for manifests.
    pub rate_limit: Option<RateLimit>,
    /// Time between request and response, measured over an open connection and with an existing token.
    pub latency: Duration,
}

impl Registry {
    /// Checks that the registry is available and accepts the credential that was found for it.
    ///
    /// A registry that requires a credential counts as available even if no credential was found.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] and [`ErrorKind::Denied`] if the registry rejects the credential,
    /// [`ErrorKind::NotFound`] and [`ErrorKind::Protocol`] if the server is not a registry.
    pub async fn ping(&self) -> crate::Result<PingResponse> {
        let response = self.measure_ping().await;
        Ok(response.with_context(|_| PingSnafu {
            registry: self.name().clone(),
        })?)
    }

    async fn measure_ping(&self) -> crate::Result<PingResponse> {
        self.request_base().await?;
        // The second request uses the connection and the token of the first request.
        let start = Instant::now();
        let base = self.request_base().await?;
        let latency = start.elapsed();
        let credential_source = match self.transport.account(&Scope::Authenticate).await {
            Account::Credential { location, .. } => Some(location),
            Account::NotDemanded | Account::Anonymous { .. } => None,
        };
        let access = match (&credential_source, base.is_accepted) {
            (Some(_), _) => RegistryAccess::Authenticated,
            (None, true) => RegistryAccess::Anonymous,
            (None, false) => RegistryAccess::LoginRequired,
        };
        Ok(PingResponse {
            credential_source,
            access,
            rate_limit: base.rate_limit,
            latency,
        })
    }

    /// Requests `/v2/`. Also succeeds if the registry requires a credential and no credential was found.
    async fn request_base(&self) -> crate::Result<BaseResponse> {
        let request = Request::new(Method::GET, self.transport.url("/v2/"));
        let is_anonymous = async || {
            let account = self.transport.account(&Scope::Authenticate).await;
            matches!(account, Account::Anonymous { .. })
        };
        match self.transport.send(request, &Scope::Authenticate).await {
            Ok(authorized) => {
                let status = authorized.response.status;
                let is_accepted = status.is_success();
                if is_accepted || status == StatusCode::UNAUTHORIZED && is_anonymous().await {
                    return Ok(BaseResponse {
                        is_accepted,
                        rate_limit: RateLimit::from_headers(&authorized.response.headers),
                    });
                }
                Err(response::into_error(self.transport.registry(), authorized).await)
            }
            // The token server issues no anonymous tokens.
            Err(error)
                if matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied)
                    && is_anonymous().await =>
            {
                Ok(BaseResponse {
                    is_accepted: false,
                    rate_limit: None,
                })
            }
            Err(error) => Err(error),
        }
    }
}

/// Response to a request for `/v2/`.
struct BaseResponse {
    /// Whether the registry accepted the request. It is `false` only if no credential was found.
    is_accepted: bool,
    rate_limit: Option<RateLimit>,
}
