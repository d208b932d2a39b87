//! Who asks: credentials, where they are found, and the tokens they are exchanged for.
//!
//! Owns [`Credential`], the [`CredentialProvider`] seam and the [`chain`] of the places that there are (each a file of its
//! own here), challenges ([`challenge`]), [`scope`]s and [`token`]s. Places are asked only when a registry has demanded a
//! credential; nothing here is read before.

pub(crate) mod chain;
pub(crate) mod challenge;
mod ci;
mod containers;
mod docker;
#[cfg(feature = "ecr")]
mod ecr;
pub(crate) mod file;
mod file_lock;
pub(crate) mod helper;
#[cfg(test)]
mod home;
#[cfg(feature = "keyring")]
pub(crate) mod keyring;
#[cfg(feature = "keyring")]
mod keyring_index;
pub(crate) mod scope;
pub(crate) mod store;
pub(crate) mod token;

use std::fmt;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::reference::{RegistryName, RepositoryName};

/// A text that is shown nowhere: it has no `Display`, and its `Debug` is blank.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The hidden text, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What proves to a registry who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// A user name and a password, or a token in its place.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A long-lived token that the token server takes in exchange for short-lived ones.
    Identity(Secret),
    /// A token that the registry itself takes as it is.
    Registry(Secret),
}

/// The user that Azure's registries give to those who come with an identity token.
const IDENTITY_USER: &str = "00000000-0000-0000-0000-000000000000";

impl Credential {
    /// A user name and password, or the identity token that the user name says is in the password's place.
    pub(crate) fn from_pair(username: impl Into<String>, password: impl Into<String>) -> Self {
        let (username, password) = (username.into(), Secret::new(password));
        if username == IDENTITY_USER {
            return Self::Identity(password);
        }
        Self::Basic { username, password }
    }

    /// The `Authorization` of a user name and password; nothing for tokens.
    pub(crate) fn basic(&self) -> Option<HeaderValue> {
        let Self::Basic { username, password } = self else {
            return None;
        };
        let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
        Some(sensitive(&format!("Basic {pair}")))
    }
}

/// A header that HTTP libraries do not print. Texts that no header can hold become one that no server accepts.
pub(crate) fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("invalid"));
    value.set_sensitive(true);
    value
}

/// Result of a search for a credential.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    /// The credential, with the place it was found in.
    pub found: Option<(Credential, String)>,
    /// The places that were searched, in order, in words that help a person: `docker config /home/me/.docker/config.json`.
    pub looked_in: Vec<String>,
    /// Whether the credential belongs to the CI job and was not set up for this registry by a person. A read for which it
    /// is refused is tried once without it, as the repository may be public.
    pub is_ambient: bool,
    /// Entries that were found and cannot be used, each with the defect. They contain no secrets.
    pub warnings: Vec<String>,
}

impl Lookup {
    /// The result of searching one place.
    fn of(place: impl Into<String>, credential: Option<Credential>) -> Self {
        let place = place.into();
        Self {
            found: credential.map(|credential| (credential, place.clone())),
            looked_in: vec![place],
            ..Self::default()
        }
    }

    /// The result of a place that has no credentials of this registry.
    fn elsewhere() -> Self {
        Self::default()
    }
}

/// What a credential is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CredentialRequest<'a> {
    /// The registry that demands it.
    pub registry: &'a RegistryName,
    /// The repository that is asked for; none for what concerns the registry as a whole.
    pub repository: Option<&'a RepositoryName>,
    /// Whether something shall be written.
    pub is_write: bool,
    /// Whether the answer to the same request before has been refused, so that something else is wanted.
    pub is_refused: bool,
}

impl<'a> CredentialRequest<'a> {
    /// For reading what concerns a registry as a whole.
    pub fn new(registry: &'a RegistryName) -> Self {
        Self {
            registry,
            repository: None,
            is_write: false,
            is_refused: false,
        }
    }

    /// For this repository.
    #[must_use]
    pub fn repository(mut self, repository: &'a RepositoryName) -> Self {
        self.repository = Some(repository);
        self
    }

    /// For writing.
    #[must_use]
    pub fn to_write(mut self) -> Self {
        self.is_write = true;
        self
    }

    /// Another one, since what was answered before has been refused.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.is_refused = true;
        self
    }
}

/// Knows credentials of registries.
#[async_trait]
pub trait CredentialProvider: fmt::Debug + Send + Sync {
    /// Looks for a credential.
    ///
    /// # Errors
    ///
    /// When a place that should be asked could not be: a broken store is never the same as an empty one.
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup>;

    /// The registries that credentials are known of, as far as that shows without asking for any of them. A list to choose
    /// from: what cannot be read is left out.
    async fn registries(&self) -> Vec<RegistryName> {
        Vec::new()
    }
}

/// Knows no credentials.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

#[async_trait]
impl CredentialProvider for Anonymous {
    async fn credential(&self, _: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        Ok(Lookup::elsewhere())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let credential = Credential::Basic {
            username: "me".into(),
            password: Secret::new("canary"),
        };
        assert!(!format!("{credential:?}").contains("canary"));
        let header = credential.basic().unwrap();
        assert!(!format!("{header:?}").contains("bWU6"));
        assert_eq!(header.to_str().unwrap(), "Basic bWU6Y2FuYXJ5");
    }
}
