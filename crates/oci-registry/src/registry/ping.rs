//! Whether a registry is there, and as whom it knows us (distribution-spec, "Determining Support").

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
struct Reach {
    registry: RegistryName,
    source: crate::Error,
}

impl Failure for Reach {
    fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

/// What a registry answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pong {
    /// Where the credential was found that the registry took; none where it demanded none, or there was none to show.
    pub credential_source: Option<String>,
    /// Whether it demanded a credential and there was none to show.
    pub is_stranger: bool,
    /// How long the registry took to answer a request, over a connection that was there and with an authorisation that was
    /// at hand.
    pub latency: Duration,
}

impl Registry {
    /// Asks whether the registry is there and takes the credential that there is for it.
    ///
    /// A registry that demands a credential where there is none is there all the same.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] and [`ErrorKind::Denied`] when it refuses the credential, [`ErrorKind::NotFound`]
    /// and [`ErrorKind::Protocol`] when it is no registry.
    pub async fn ping(&self) -> crate::Result<Pong> {
        let asked = self.ask().await;
        Ok(asked.with_context(|_| ReachSnafu {
            registry: self.name().clone(),
        })?)
    }

    async fn ask(&self) -> crate::Result<Pong> {
        self.knock().await?;
        // Now nothing has to be set up any more.
        let asked = Instant::now();
        self.knock().await?;
        let latency = asked.elapsed();
        let (credential_source, is_stranger) = match self.transport.account(&Scope::Known).await {
            Account::Credential { place } => (Some(place), false),
            Account::Unasked => (None, false),
            Account::Anonymous { .. } => (None, true),
        };
        Ok(Pong {
            credential_source,
            is_stranger,
            latency,
        })
    }

    async fn knock(&self) -> crate::Result<()> {
        let request = Request::new(Method::GET, self.transport.url("/v2/"));
        let is_anonymous = async || {
            let account = self.transport.account(&Scope::Known).await;
            matches!(account, Account::Anonymous { .. })
        };
        match self.transport.send(request, &Scope::Known).await {
            Ok(answer) if answer.response.status.is_success() => Ok(()),
            Ok(answer)
                if answer.response.status == StatusCode::UNAUTHORIZED && is_anonymous().await =>
            {
                Ok(())
            }
            Ok(answer) => Err(response::refusal(self.transport.registry(), answer).await),
            // Its token server has nothing for strangers.
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
