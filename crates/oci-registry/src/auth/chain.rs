//! The places where credentials are, and their order.
//!
//! | | place | for |
//! | --- | --- | --- |
//! | 1 | what the caller gives ([`CredentialChain::preceded_by`]) | as it says |
//! | 2 | `DOCKER_AUTH_CONFIG` | any registry |
//! | 3 | docker's `config.json`, and the helpers it names | any |
//! | 4 | podman's `auth.json` files and the helpers they name, `~/.dockercfg` | any, and single repositories |
//! | 5 | finch's `config.json`, and the helpers it names | any |
//! | 6 | the keyring of the operating system (feature `keyring`) | registries that are said to have an entry |
//! | 7 | AWS (feature `ecr`) | Amazon's registries; the public one for writing, or when nobody is turned away |
//! | 8 | `GITHUB_TOKEN`; `CI_REGISTRY_USER` and `CI_REGISTRY_PASSWORD` | `ghcr.io`; the host in `CI_REGISTRY` |
//!
//! What was set up on purpose for a registry goes before what happens to be around. The first credential found is used,
//! and the places behind it are not touched. A place that is absent is passed over, a place that is broken is an error:
//! whoever wrote a credential there wants it used. Owns the order; what each place's rules are stands with the place.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::ci::CiVariables;
use super::containers::ContainersFile;
use super::docker::{AuthVariable, ConfigDirectory};
use super::helper::Helpers;
use super::{CredentialProvider, CredentialRequest, Lookup};
use crate::environment::Environment;
use crate::reference::RegistryName;

/// Asks one place after another, until one has a credential.
#[derive(Clone)]
pub struct CredentialChain {
    places: Vec<Arc<dyn CredentialProvider>>,
}

impl fmt::Debug for CredentialChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.places).finish()
    }
}

impl CredentialChain {
    /// All the places that this environment has. Nothing is opened before a credential is wanted, and files are read anew
    /// each time.
    ///
    /// The keyring is asked for the `noted` registries only: those whose credentials this program is known to have put
    /// there. Without the feature `keyring` they do not matter.
    pub fn new(environment: &Environment, noted: impl IntoIterator<Item = RegistryName>) -> Self {
        let helpers = Arc::new(Helpers::new(environment.clone()));
        let mut places: Vec<Arc<dyn CredentialProvider>> = vec![
            Arc::new(AuthVariable::new(environment.clone())),
            Arc::new(ConfigDirectory::docker(environment, Arc::clone(&helpers))),
        ];
        for file in ContainersFile::all(environment, &helpers) {
            places.push(Arc::new(file));
        }
        places.push(Arc::new(ConfigDirectory::finch(environment, helpers)));
        #[cfg(feature = "keyring")]
        places.push(Arc::new(super::keyring::Keyring::new(noted)));
        #[cfg(not(feature = "keyring"))]
        drop(noted);
        #[cfg(feature = "ecr")]
        places.push(Arc::new(super::ecr::Ecr::new(environment.clone())));
        places.push(Arc::new(CiVariables::new(environment.clone())));
        Self { places }
    }

    /// Asks this provider before all places.
    #[must_use]
    pub fn preceded_by(mut self, provider: impl CredentialProvider + 'static) -> Self {
        self.places.insert(0, Arc::new(provider));
        self
    }
}

#[async_trait]
impl CredentialProvider for CredentialChain {
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        let mut looked_in = Vec::new();
        for place in &self.places {
            let lookup = place.credential(request).await?;
            looked_in.extend(lookup.looked_in);
            if lookup.found.is_some() {
                let found = lookup.found;
                return Ok(Lookup { found, looked_in });
            }
        }
        let found = None;
        Ok(Lookup { found, looked_in })
    }
}
