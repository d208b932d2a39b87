//! Availability and credential check for a registry (distribution-spec, "Determining Support").

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use snafu::{ResultExt, Snafu};

use super::catalog::Registry;
use super::response;
use crate::auth::scope::Scope;
use crate::error::{ErrorKind, Failure};
use crate::exchange::Request;
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

/// Result of [`Registry::ping`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PingResponse {
    /// Source of the credential that the registry accepted. `None` if the registry required no credential, or if no
    /// credential was found.
    pub credential_source: Option<String>,
    /// Whether the registry required a credential, but no credential was found.
    pub needs_credential: bool,
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
        self.request_base().await?;
        let latency = start.elapsed();
        let (credential_source, needs_credential) =
            match self.transport.account(&Scope::Authenticate).await {
                Account::Credential { location } => (Some(location), false),
                Account::NotDemanded => (None, false),
                Account::Anonymous { .. } => (None, true),
            };
        Ok(PingResponse {
            credential_source,
            needs_credential,
            latency,
        })
    }

    /// Requests `/v2/`. Also succeeds if the registry requires a credential and no credential was found.
    async fn request_base(&self) -> crate::Result<()> {
        let request = Request::new(Method::GET, self.transport.url("/v2/"));
        let is_anonymous = async || {
            let account = self.transport.account(&Scope::Authenticate).await;
            matches!(account, Account::Anonymous { .. })
        };
        match self.transport.send(request, &Scope::Authenticate).await {
            Ok(authorized) if authorized.response.status.is_success() => Ok(()),
            Ok(authorized)
                if authorized.response.status == StatusCode::UNAUTHORIZED
                    && is_anonymous().await =>
            {
                Ok(())
            }
            Ok(authorized) => {
                Err(response::into_error(self.transport.registry(), authorized).await)
            }
            // The token server issues no anonymous tokens.
            Err(error)
                if matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied)
                    && is_anonymous().await =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
