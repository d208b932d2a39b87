//! One registry and the list of its repositories.

use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use snafu::{IntoError, Snafu};

use super::page;
use crate::auth::scope::Scope;
use crate::error::{ErrorKind, Failure, Hint};
use crate::event;
use crate::reference::{Reference, RegistryName, RepositoryName};
use crate::transport::Transport;

#[derive(Debug, Snafu)]
#[snafu(display("failed to list the repositories of `{registry}`"))]
struct ListRepositories {
    registry: RegistryName,
    source: crate::Error,
}

impl Failure for ListRepositories {
    fn kind(&self) -> ErrorKind {
        match self.source.kind() {
            // Registries that have no catalog respond with various statuses, for example 404.
            ErrorKind::NotFound => ErrorKind::Unsupported,
            kind => kind,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        if self.kind() != ErrorKind::Unsupported {
            return Vec::new();
        }
        let registry = &self.registry;
        vec![format!("name a repository: `{registry}` does not list its repositories").into()]
    }
}

/// One registry, for requests that do not belong to a single repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    pub(super) transport: Arc<Transport>,
}

impl Registry {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        Self { transport }
    }

    /// Returns the name of the registry.
    pub fn name(&self) -> &RegistryName {
        self.transport.registry()
    }

    /// Lists the repositories in the registry's order. The next page is requested only when the stream is polled after
    /// the last name of the current page. Invalid names are omitted
    /// ([`ClientEvent::OmittedNames`](crate::ClientEvent::OmittedNames)).
    ///
    /// The stream ends with [`ErrorKind::Unsupported`] if the registry has no catalog.
    pub fn catalog(&self) -> BoxStream<'static, crate::Result<RepositoryName>> {
        let names = page::stream(Arc::clone(&self.transport), "/v2/_catalog", Scope::Catalog);
        let registry = self.name().clone();
        let names = names.map_err({
            let registry = registry.clone();
            move |error| {
                let registry = registry.clone();
                crate::Error::from(ListRepositoriesSnafu { registry }.into_error(error))
            }
        });
        let location = registry.to_string();
        let parse = move |name: &str| {
            let name: RepositoryName = name.parse().ok()?;
            // The registry and repository names together may exceed the length limit.
            Reference::new(registry.clone(), name.clone()).ok()?;
            Some(name)
        };
        event::parse_names(names, location, self.transport.observer().clone(), parse)
    }
}
