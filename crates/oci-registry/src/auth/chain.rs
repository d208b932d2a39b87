//! Sources of credentials and their order.
//!
//! | | source | registries |
//! | --- | --- | --- |
//! | 1 | provider of the caller ([`CredentialChain::preceded_by`]) | decided by the provider |
//! | 2 | `DOCKER_AUTH_CONFIG` | any registry |
//! | 3 | docker's `config.json`, and the helpers that it names | any |
//! | 4 | podman's `auth.json` files and the helpers that they name, `~/.dockercfg` | any, and single repositories |
//! | 5 | finch's `config.json`, and the helpers that it names | any |
//! | 6 | the keyring of the operating system (feature `keyring`) | those with a recorded entry |
//! | 7 | AWS (feature `ecr`) | Amazon ECR; ECR Public only for writes, or after a rejected read |
//! | 8 | `CI_REGISTRY_USER` and `CI_REGISTRY_PASSWORD`; `GITHUB_TOKEN` | the host in `CI_REGISTRY`; `ghcr.io`, if `GITHUB_SERVER_URL` is GitHub's |
//!
//! Credentials that were configured for a registry take precedence over those of a CI job. The first credential found
//! is used, and the sources after it are not read. An absent source is skipped. A broken file is an error, because the
//! user expects its credential to be used. An entry of `DOCKER_AUTH_CONFIG` that cannot be used is a warning, and the
//! next source is searched. The rules of each source are in its module.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::ci::CiVariables;
use super::containers::ContainersFile;
use super::credential_helper::Helpers;
use super::docker::{AuthVariable, ConfigDirectory};
#[cfg(feature = "keyring")]
use super::keyring_index::KeyringIndex;
use super::{CredentialProvider, CredentialRequest, Lookup};
use crate::environment::Environment;
use crate::reference::RegistryName;

/// Credential provider that searches several sources in order until it finds a credential.
#[derive(Clone)]
pub struct CredentialChain {
    sources: Vec<Arc<dyn CredentialProvider>>,
}

impl fmt::Debug for CredentialChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.sources).finish()
    }
}

impl CredentialChain {
    /// Creates a chain of all sources of the environment. No source is opened before a credential is needed, and files
    /// are read again for each search.
    ///
    /// The keyring is searched only for the registries in `keyring_registries` and for those that
    /// [`CredentialStore`](crate::CredentialStore) has recorded. If the feature `keyring` is disabled,
    /// `keyring_registries` has no effect.
    pub fn new(
        environment: &Environment,
        keyring_registries: impl IntoIterator<Item = RegistryName>,
    ) -> Self {
        let helpers = Arc::new(Helpers::new(environment.clone()));
        let mut sources: Vec<Arc<dyn CredentialProvider>> = vec![
            Arc::new(AuthVariable::new(environment.clone())),
            Arc::new(ConfigDirectory::docker(environment, Arc::clone(&helpers))),
        ];
        for file in ContainersFile::list(environment, &helpers) {
            sources.push(Arc::new(file));
        }
        sources.push(Arc::new(ConfigDirectory::finch(environment, helpers)));
        #[cfg(feature = "keyring")]
        sources.push(Arc::new(
            super::keyring::Keyring::new(environment.application(), keyring_registries)
                .with_index(KeyringIndex::for_user(environment)),
        ));
        #[cfg(not(feature = "keyring"))]
        drop(keyring_registries);
        #[cfg(feature = "ecr")]
        sources.push(Arc::new(super::ecr::Ecr::new(environment.clone())));
        sources.push(Arc::new(CiVariables::new(environment.clone())));
        Self { sources }
    }

    /// Searches all sources, even after a source has returned a credential, and returns their results in order. A
    /// source that does not apply to the registry is omitted. An error of a source does not end the search.
    pub async fn search_all_sources(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Vec<crate::Result<Lookup>> {
        let mut results = Vec::new();
        for source in &self.sources {
            let result = source.credential(request).await;
            if !matches!(&result, Ok(lookup) if lookup.searched.is_empty()) {
                results.push(result);
            }
        }
        results
    }

    /// Adds a provider that is searched before all sources.
    #[must_use]
    pub fn preceded_by(mut self, provider: impl CredentialProvider + 'static) -> Self {
        self.sources.insert(0, Arc::new(provider));
        self
    }
}

#[async_trait]
impl CredentialProvider for CredentialChain {
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        let mut all = Lookup::default();
        for source in &self.sources {
            let lookup = source.credential(request).await?;
            all.searched.extend(lookup.searched);
            all.warnings.extend(lookup.warnings);
            if lookup.found.is_some() {
                all.found = lookup.found;
                all.is_ambient = lookup.is_ambient;
                break;
            }
        }
        Ok(all)
    }

    /// Returns the registries of all sources without duplicates, in the order of the sources.
    async fn registries(&self) -> Vec<RegistryName> {
        let mut names = Vec::new();
        for source in &self.sources {
            for name in source.registries().await {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::super::home::{Home, look_up, pair};
    use super::super::{Anonymous, Credential};
    use super::*;
    use crate::error::ErrorKind;

    /// Returns a credential file with this user for `a.b` and `ghcr.io`.
    fn entry(user: &str) -> String {
        let entry = format!(r#"{{"username":"{user}","password":"p"}}"#);
        format!(r#"{{"auths":{{"a.b":{entry},"ghcr.io":{entry}}}}}"#)
    }

    /// Returns a home directory in which every source has an entry.
    fn home_with_all_sources() -> Home {
        let variable = r#"{"auths":{"a.b":{"auth":"dmFyaWFibGU6cA=="}}}"#;
        Home::new()
            .with("DOCKER_AUTH_CONFIG", variable)
            .file(".docker/config.json", entry("docker"))
            .with("REGISTRY_AUTH_FILE", "auth.json")
            .file("auth.json", entry("podman"))
            .file(".finch/config.json", entry("finch"))
            .with("CI_REGISTRY", "a.b")
            .with("CI_REGISTRY_USER", "ci")
            .with("CI_REGISTRY_PASSWORD", "p")
    }

    #[derive(Debug)]
    struct FixedProvider;

    #[async_trait]
    impl CredentialProvider for FixedProvider {
        async fn credential(&self, _: &CredentialRequest<'_>) -> crate::Result<Lookup> {
            Ok(Lookup::for_source(
                "given",
                Some(Credential::from_pair("given", "p")),
            ))
        }
    }

    #[tokio::test]
    async fn first_credential_source_with_an_entry_is_used() {
        let home = home_with_all_sources();
        let chain = CredentialChain::new(&home.environment(), []).preceded_by(FixedProvider);
        let found = look_up(&chain, "a.b").await.unwrap();
        assert_eq!(found.searched, ["given"]);
        assert_eq!(pair(found).as_deref(), Some("given:p"));
        let chain = CredentialChain::new(&home.environment(), []);
        let found = look_up(&chain, "a.b").await.unwrap();
        assert_eq!(found.searched, ["`DOCKER_AUTH_CONFIG`"]);
        assert_eq!(pair(found).as_deref(), Some("variable:p"));
        // After the first source is removed, the credential of the next source is used.
        let home = home.with("DOCKER_AUTH_CONFIG", "");
        for (user, locations, file) in [
            ("docker", 2, Some(".docker/config.json")),
            ("podman", 3, Some("auth.json")),
            ("finch", 4, Some(".finch/config.json")),
            ("ci", 5, None),
        ] {
            let chain = CredentialChain::new(&home.environment(), []).preceded_by(Anonymous);
            let found = look_up(&chain, "a.b").await.unwrap();
            assert_eq!(found.searched.len(), locations, "{found:?}");
            assert_eq!(pair(found), Some(format!("{user}:p")));
            if let Some(file) = file {
                std::fs::remove_file(home.path().join(file)).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn registries_of_readable_sources_are_listed() {
        let docker = r#"{"auths":{"https://index.docker.io/v1/":{},"ghcr.io/acme":{"auth":"???"},"not a name":{}},
            "credHelpers":{"b.example":"x","ghcr.io":"x"}}"#;
        let home = Home::new()
            .with(
                "DOCKER_AUTH_CONFIG",
                r#"{"auths":{"a.b":{"auth":"dmFyaWFibGU6cA=="}}}"#,
            )
            .file(".docker/config.json", docker)
            .with("REGISTRY_AUTH_FILE", "auth.json")
            .file("auth.json", r#"{"auths":{"quay.io/me":{},"a.b":{}}}"#)
            .file(".finch/config.json", "broken");
        let chain = CredentialChain::new(&home.environment(), []);
        let names = chain.registries().await;
        let names: Vec<_> = names.iter().map(RegistryName::as_str).collect();
        assert_eq!(
            names,
            ["a.b", "ghcr.io", "docker.io", "b.example", "quay.io"]
        );
    }

    #[tokio::test]
    async fn search_all_sources_includes_error_of_broken_source() {
        let home = home_with_all_sources().file("auth.json", "canary");
        let chain = CredentialChain::new(&home.environment(), []);
        let registry = "a.b".parse().unwrap();
        let results = chain
            .search_all_sources(&CredentialRequest::new(&registry))
            .await;
        let users: Vec<_> = results
            .into_iter()
            .map(|result| match result {
                Ok(lookup) => pair(lookup).unwrap_or_default(),
                Err(error) => format!("{:?}", error.kind()),
            })
            .collect();
        assert_eq!(
            users,
            ["variable:p", "docker:p", "InvalidInput", "finch:p", "ci:p"]
        );
    }

    #[tokio::test]
    async fn credential_search_lists_all_sources_in_order() {
        let home = Home::new();
        let chain = CredentialChain::new(&home.environment(), []);
        let searched = look_up(&chain, "ghcr.io/a/b").await.unwrap().searched;
        let mut expected = vec![
            "`DOCKER_AUTH_CONFIG`",
            "docker config `~/.docker/config.json`",
        ];
        if cfg!(target_os = "linux") {
            expected.push("podman's `~/run/containers/auth.json`");
        }
        expected.push("podman's `~/.config/containers/auth.json`");
        expected.push("podman's `~/.dockercfg`");
        expected.push("finch config `~/.finch/config.json`");
        expected.push("`GITHUB_TOKEN`");
        let searched: Vec<_> = searched
            .iter()
            .map(|location| location.replace(home.path().to_str().unwrap(), "~"))
            .collect();
        assert_eq!(searched, expected);
    }

    #[tokio::test]
    async fn broken_credential_source_fails_only_if_searched() {
        for (broken, reaches) in [
            (".docker/config.json", false),
            ("auth.json", true),
            (".finch/config.json", true),
        ] {
            let home = home_with_all_sources()
                .with("DOCKER_AUTH_CONFIG", "")
                .file(broken, "canary");
            let chain = CredentialChain::new(&home.environment(), []);
            let found = look_up(&chain, "a.b").await;
            assert_eq!(found.is_ok(), reaches, "{found:?}");
            let error = look_up(&chain, "unknown.example").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(broken), "{error}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn similarly_named_registry_is_sent_no_credential() {
        let home = home_with_all_sources()
            .with("GITHUB_TOKEN", "t")
            .with("AWS_ACCESS_KEY_ID", "k")
            .with("AWS_SECRET_ACCESS_KEY", "s");
        let chain = CredentialChain::new(&home.environment(), []);
        for name in [
            "a.b:80",
            "xa.b",
            "a.b.c",
            "b",
            "ghcr.io.example",
            "ghcr.iox",
        ] {
            let lookup = look_up(&chain, name).await.unwrap();
            assert!(lookup.found.is_none(), "{name}: {lookup:?}");
        }
    }
}
