//! Credentials, their sources, and the tokens for which credentials are exchanged.
//!
//! Defines [`Credential`], the trait [`CredentialProvider`] and the [`chain`] of all sources. Each source has a
//! separate module. The modules [`challenge`], [`scope`] and [`token`] implement the authentication protocol. No source
//! is read before a registry has demanded a credential.

mod auth_entry;
pub(crate) mod auth_file;
pub(crate) mod chain;
pub(crate) mod challenge;
pub(crate) mod ci;
mod containers;
pub(crate) mod credential_helper;
mod docker;
mod docker_config;
#[cfg(feature = "ecr")]
mod ecr;
mod file_lock;
#[cfg(test)]
mod home;
#[cfg(feature = "keyring")]
pub(crate) mod keyring;
#[cfg(feature = "keyring")]
mod keyring_index;
mod private_file;
mod registry_key;
pub(crate) mod scope;
pub(crate) mod store;
pub(crate) mod token;

use std::fmt;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::redact::{Secret, sensitive_header};
use crate::reference::{RegistryName, RepositoryName};

/// Credential for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// User name and password, or a token instead of the password.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Long-lived token that the token server exchanges for short-lived tokens.
    Identity(Secret),
    /// Token that the registry accepts directly.
    Registry(Secret),
}

/// User name that marks the password as an identity token in Azure Container Registry.
const IDENTITY_USER: &str = "00000000-0000-0000-0000-000000000000";

impl Credential {
    /// Creates a user name and password, or an identity token if the user name is [`IDENTITY_USER`].
    pub(crate) fn from_pair(username: impl Into<String>, password: impl Into<String>) -> Self {
        let (username, password) = (username.into(), Secret::new(password));
        if username == IDENTITY_USER {
            return Self::Identity(password);
        }
        Self::Basic { username, password }
    }

    /// Returns the `Authorization` header for Basic authentication, or `None` if the credential is a token.
    pub(crate) fn basic_header(&self) -> Option<HeaderValue> {
        let Self::Basic { username, password } = self else {
            return None;
        };
        let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
        Some(sensitive_header(&format!("Basic {pair}")))
    }
}

/// Result of a search for a credential.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    /// The credential and its source.
    pub found: Option<(Credential, String)>,
    /// The sources that were searched, in order, as shown to users: `docker config /home/me/.docker/config.json`.
    pub searched: Vec<String>,
    /// Whether the credential belongs to the CI job instead of being configured for this registry. If the registry
    /// rejects a read with this credential, the read is repeated once without it, because the repository may be public.
    pub is_ambient: bool,
    /// Messages about entries that were found but cannot be used. They contain no secrets.
    pub warnings: Vec<String>,
}

impl Lookup {
    /// Returns the result of a search in one source.
    fn for_source(location: impl Into<String>, credential: Option<Credential>) -> Self {
        let location = location.into();
        Self {
            found: credential.map(|credential| (credential, location.clone())),
            searched: vec![location],
            ..Self::default()
        }
    }

    /// Returns the result of a source that does not apply to the registry.
    fn not_applicable() -> Self {
        Self::default()
    }
}

/// Parameters of a search for a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CredentialRequest<'a> {
    /// The registry that demands the credential.
    pub registry: &'a RegistryName,
    /// The repository to access. `None` if the operation does not concern a single repository.
    pub repository: Option<&'a RepositoryName>,
    /// Whether write access is needed.
    pub is_write: bool,
    /// Whether the registry rejected the result of the previous search, so that a different credential is needed.
    pub is_refused: bool,
}

impl<'a> CredentialRequest<'a> {
    /// Creates a request for read access that does not specify a repository.
    pub fn new(registry: &'a RegistryName) -> Self {
        Self {
            registry,
            repository: None,
            is_write: false,
            is_refused: false,
        }
    }

    /// Sets the repository.
    #[must_use]
    pub fn repository(mut self, repository: &'a RepositoryName) -> Self {
        self.repository = Some(repository);
        self
    }

    /// Requests write access.
    #[must_use]
    pub fn to_write(mut self) -> Self {
        self.is_write = true;
        self
    }

    /// Requests a different credential, because the registry rejected the result of the previous search.
    #[must_use]
    pub fn after_refusal(mut self) -> Self {
        self.is_refused = true;
        self
    }
}

/// Source of credentials.
#[async_trait]
pub trait CredentialProvider: fmt::Debug + Send + Sync {
    /// Looks up a credential.
    ///
    /// # Errors
    ///
    /// The error of a source that applies to the registry but cannot be searched. A broken source is never treated as
    /// an empty source.
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup>;

    /// Returns the registries for which the source has credentials, if it can list them without reading the
    /// credentials. Sources that cannot be read are omitted, because the list is used for suggestions only.
    async fn registries(&self) -> Vec<RegistryName> {
        Vec::new()
    }
}

/// Credential provider without credentials.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

#[async_trait]
impl CredentialProvider for Anonymous {
    async fn credential(&self, _: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        Ok(Lookup::not_applicable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_omits_secrets() {
        let credential = Credential::Basic {
            username: "me".into(),
            password: Secret::new("canary"),
        };
        assert!(!format!("{credential:?}").contains("canary"));
        let header = credential.basic_header().unwrap();
        assert!(!format!("{header:?}").contains("bWU6"));
        assert_eq!(header.to_str().unwrap(), "Basic bWU6Y2FuYXJ5");
    }
}
