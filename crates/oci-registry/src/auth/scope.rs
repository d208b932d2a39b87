//! What a token is wanted for (distribution, "Token Scope Documentation").

use super::CredentialRequest;
use crate::reference::{RegistryName, RepositoryName};

/// A resource and the actions wanted on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Being known to the registry, and nothing more.
    Known,
    /// The list of all repositories.
    Catalog,
    /// Reading a repository.
    Pull(RepositoryName),
    /// Reading and writing a repository: asked at once, so that a push needs one token.
    Push(RepositoryName),
    /// Writing to a repository what is read from another.
    Mount {
        to: RepositoryName,
        from: RepositoryName,
    },
}

impl Scope {
    /// Whether a token for `self` does for `other` too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self == other
            || matches!((self, other), (Self::Push(ours), Self::Pull(theirs)) if ours == theirs)
    }
}

impl Scope {
    /// The scope whose credential this one goes by.
    pub(crate) fn whose(&self) -> Self {
        match self {
            Self::Mount { to, .. } => Self::Push(to.clone()),
            own => own.clone(),
        }
    }

    /// What to ask for a credential with.
    pub(crate) fn request<'a>(&'a self, registry: &'a RegistryName) -> CredentialRequest<'a> {
        let request = CredentialRequest::new(registry);
        match self {
            Self::Known | Self::Catalog => request,
            Self::Pull(name) => request.repository(name),
            Self::Push(name) | Self::Mount { to: name, .. } => request.repository(name).to_write(),
        }
    }

    /// The scope in the words of the token protocol, one for each resource.
    pub(crate) fn words(&self) -> Vec<String> {
        match self {
            Self::Known => Vec::new(),
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
