//! Who asks: credentials, where they are found, and the tokens they are exchanged for.
//!
//! Owns [`Credential`], the [`CredentialProvider`] seam, docker's configuration ([`docker`]) and its helpers
//! ([`helper`]), challenges ([`challenge`]), [`scope`]s and [`token`]s. Stores are asked only when a registry has
//! demanded a credential; nothing here is read before.

pub(crate) mod challenge;
pub(crate) mod docker;
mod helper;
pub(crate) mod scope;
pub(crate) mod token;

use std::fmt;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::reference::RegistryName;

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

impl Credential {
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

/// What a search for a credential came to.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The credential, with the place it was found in.
    pub found: Option<(Credential, String)>,
    /// Where was looked, in order, in words that help a person: `docker config /home/me/.docker/config.json`.
    pub looked_in: Vec<String>,
}

/// Knows credentials of registries.
#[async_trait]
pub trait CredentialProvider: fmt::Debug + Send + Sync {
    /// Looks for the credential of a registry.
    ///
    /// # Errors
    ///
    /// When a place that should be asked could not be: a broken store is never the same as an empty one.
    async fn credential(&self, registry: &RegistryName) -> crate::Result<Lookup>;
}

/// Knows no credentials.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

#[async_trait]
impl CredentialProvider for Anonymous {
    async fn credential(&self, _: &RegistryName) -> crate::Result<Lookup> {
        Ok(Lookup {
            found: None,
            looked_in: Vec::new(),
        })
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
