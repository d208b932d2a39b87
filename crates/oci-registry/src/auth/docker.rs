//! Docker's places: the variable `DOCKER_AUTH_CONFIG`, and a directory with a `config.json`.
//!
//! In the file a helper for the registry goes before the helper for all, and that before the entry in the file itself.
//! A helper that fails is an error and never a reason to look elsewhere (docker/cli, `cli/config/configfile/file.go`).

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::file::{self, AuthFile};
use super::helper::Helpers;
use super::{CredentialProvider, CredentialRequest, Lookup};
use crate::environment::Environment;

/// The variable in which CI systems hand over what docker would have in its file.
#[derive(Debug)]
pub(super) struct AuthVariable {
    environment: Environment,
}

impl AuthVariable {
    pub(super) fn new(environment: Environment) -> Self {
        Self { environment }
    }
}

#[async_trait]
impl CredentialProvider for AuthVariable {
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        let place = "`DOCKER_AUTH_CONFIG`";
        let found = match self.environment.var("DOCKER_AUTH_CONFIG") {
            Some(text) => AuthFile::parse_variable(text, place)?.docker_entry(request, place)?,
            None => None,
        };
        Ok(Lookup::of(place, found))
    }
}

/// A directory in which docker, or a program that keeps its ways, has its `config.json`.
#[derive(Debug)]
pub(super) struct ConfigDirectory {
    owner: &'static str,
    directory: Option<PathBuf>,
    helpers: Arc<Helpers>,
}

impl ConfigDirectory {
    /// Docker's own: `$DOCKER_CONFIG`, else `~/.docker`.
    pub(super) fn docker(environment: &Environment, helpers: Arc<Helpers>) -> Self {
        let named = environment.var("DOCKER_CONFIG");
        let named = named.map(|directory| environment.resolve(directory));
        Self {
            owner: "docker config",
            directory: named.or_else(|| Some(environment.home()?.join(".docker"))),
            helpers,
        }
    }

    /// Finch's, which is docker's in another place.
    pub(super) fn finch(environment: &Environment, helpers: Arc<Helpers>) -> Self {
        Self {
            owner: "finch config",
            directory: environment.home().map(|home| home.join(".finch")),
            helpers,
        }
    }
}

#[async_trait]
impl CredentialProvider for ConfigDirectory {
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        let Some(directory) = &self.directory else {
            return Ok(Lookup::elsewhere());
        };
        let path = directory.join("config.json");
        let place = format!("{} `{}`", self.owner, path.display());
        let Some(bytes) = file::read(&path, &place).await? else {
            return Ok(Lookup::of(place, None));
        };
        let file = AuthFile::parse(&bytes, &place)?;
        let Some(helper) = file.docker_helper(request.registry) else {
            let found = file.docker_entry(request, &place)?;
            return Ok(Lookup::of(place, found));
        };
        let server = file::docker_key(request.registry);
        let looked = self
            .helpers
            .look(helper, server, &place, request.is_refused);
        Ok(looked.await?)
    }
}
