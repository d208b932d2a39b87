//! Scopes of tokens (distribution, "Token Scope Documentation").

use super::CredentialRequest;
use crate::reference::{RegistryName, RepositoryName};

/// Access that a token grants: a resource and the permitted actions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Authentication without access to a resource.
    Authenticate,
    /// The list of all repositories.
    Catalog,
    /// Reading a repository.
    Pull(RepositoryName),
    /// Reading and writing a repository. Both are requested together, so that a push needs one token.
    Push(RepositoryName),
    /// Writing to one repository and reading from another repository, for a cross-repository mount.
    Mount {
        to: RepositoryName,
        from: RepositoryName,
    },
}

impl Scope {
    /// Whether a token for `self` is also valid for `other`.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self == other
            || matches!((self, other), (Self::Push(ours), Self::Pull(theirs)) if ours == theirs)
    }
}

impl Scope {
    /// Returns the scope whose credential is used for this scope: a mount uses the credential for pushing to the
    /// target.
    pub(crate) fn credential_scope(&self) -> Self {
        match self {
            Self::Mount { to, .. } => Self::Push(to.clone()),
            scope => scope.clone(),
        }
    }

    /// Returns the request to search for the credential of this scope.
    pub(crate) fn credential_request<'a>(
        &'a self,
        registry: &'a RegistryName,
    ) -> CredentialRequest<'a> {
        let request = CredentialRequest::new(registry);
        match self {
            Self::Authenticate | Self::Catalog => request,
            Self::Pull(name) => request.repository(name),
            Self::Push(name) | Self::Mount { to: name, .. } => request.repository(name).to_write(),
        }
    }

    /// Returns the scope strings of the token protocol, one per resource.
    pub(crate) fn token_scopes(&self) -> Vec<String> {
        match self {
            Self::Authenticate => Vec::new(),
            Self::Catalog => vec!["registry:catalog:*".to_owned()],
            Self::Pull(name) => vec![format!("repository:{name}:pull")],
            Self::Push(name) => vec![format!("repository:{name}:pull,push")],
            Self::Mount { to, from } => vec![
                format!("repository:{to}:pull,push"),
                format!("repository:{from}:pull"),
            ],
        }
    }
}
