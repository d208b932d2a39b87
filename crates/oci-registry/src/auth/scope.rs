//! What a token is wanted for (distribution, "Token Scope Documentation").

use std::fmt;

use crate::reference::RepositoryName;

/// A resource and the actions wanted on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// The list of all repositories.
    Catalog,
    /// Reading a repository.
    Pull(RepositoryName),
    /// Reading and writing a repository: asked at once, so that a push needs one token.
    Push(RepositoryName),
}

impl Scope {
    /// Whether a token for `self` does for `other` too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self == other
            || matches!((self, other), (Self::Push(ours), Self::Pull(theirs)) if ours == theirs)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalog => f.write_str("registry:catalog:*"),
            Self::Pull(name) => write!(f, "repository:{name}:pull"),
            Self::Push(name) => write!(f, "repository:{name}:pull,push"),
        }
    }
}
