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
//! | 8 | `CI_REGISTRY_USER` and `CI_REGISTRY_PASSWORD`; `GITHUB_TOKEN` | the host in `CI_REGISTRY`; `ghcr.io`, if `GITHUB_SERVER_URL` is GitHub's |
//!
//! What was set up for a registry takes precedence over what a CI job has. The first credential found is used, and the
//! sources after it are not read. An absent source is skipped. A broken file is an error, as its credential was meant to be
//! used; an entry of `DOCKER_AUTH_CONFIG` that cannot be used is a warning, and the next source is searched. The rules of
//! each source are in its module.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::ci::CiVariables;
use super::containers::ContainersFile;
use super::docker::{AuthVariable, ConfigDirectory};
use super::helper::Helpers;
#[cfg(feature = "keyring")]
use super::keyring_index::KeyringIndex;
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
    /// The keyring is asked for noted registries only, those whose credentials were put there: by
    /// [`CredentialStore`](crate::CredentialStore), which notes them itself, or by the caller, who names them. Without the
    /// feature `keyring` they do not matter.
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
        places.push(Arc::new(
            super::keyring::Keyring::new(environment.application(), noted)
                .noted_in(KeyringIndex::of_user(environment)),
        ));
        #[cfg(not(feature = "keyring"))]
        drop(noted);
        #[cfg(feature = "ecr")]
        places.push(Arc::new(super::ecr::Ecr::new(environment.clone())));
        places.push(Arc::new(CiVariables::new(environment.clone())));
        Self { places }
    }

    /// Asks every place, also behind the one that has a credential: what each of them says, in order. A place that has
    /// nothing to do with the registry is left out, and one that is broken keeps nobody from asking the next.
    pub async fn ask_all(&self, request: &CredentialRequest<'_>) -> Vec<crate::Result<Lookup>> {
        let mut answers = Vec::new();
        for place in &self.places {
            let answer = place.credential(request).await;
            if !matches!(&answer, Ok(lookup) if lookup.looked_in.is_empty()) {
                answers.push(answer);
            }
        }
        answers
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
        let mut all = Lookup::default();
        for place in &self.places {
            let lookup = place.credential(request).await?;
            all.looked_in.extend(lookup.looked_in);
            all.warnings.extend(lookup.warnings);
            if lookup.found.is_some() {
                all.found = lookup.found;
                all.is_ambient = lookup.is_ambient;
                break;
            }
        }
        Ok(all)
    }

    /// Of all places, each once, in their order.
    async fn registries(&self) -> Vec<RegistryName> {
        let mut names = Vec::new();
        for place in &self.places {
            for name in place.registries().await {
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
    use super::super::home::{Home, ask, pair};
    use super::super::{Anonymous, Credential};
    use super::*;
    use crate::error::ErrorKind;

    /// A file with one entry.
    fn entry(user: &str) -> String {
        let entry = format!(r#"{{"username":"{user}","password":"p"}}"#);
        format!(r#"{{"auths":{{"a.b":{entry},"ghcr.io":{entry}}}}}"#)
    }

    /// Someone for whom every place has an entry.
    fn rich() -> Home {
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
    struct Given;

    #[async_trait]
    impl CredentialProvider for Given {
        async fn credential(&self, _: &CredentialRequest<'_>) -> crate::Result<Lookup> {
            Ok(Lookup::of(
                "given",
                Some(Credential::from_pair("given", "p")),
            ))
        }
    }

    #[tokio::test]
    async fn the_first_place_that_has_it_wins() {
        let home = rich();
        let chain = CredentialChain::new(&home.environment(), []).preceded_by(Given);
        let found = ask(&chain, "a.b").await.unwrap();
        assert_eq!(found.looked_in, ["given"]);
        assert_eq!(pair(found).as_deref(), Some("given:p"));
        let chain = CredentialChain::new(&home.environment(), []);
        let found = ask(&chain, "a.b").await.unwrap();
        assert_eq!(found.looked_in, ["`DOCKER_AUTH_CONFIG`"]);
        assert_eq!(pair(found).as_deref(), Some("variable:p"));
        // Taking the files away from the first on, the next one is found each time, behind those before it.
        let home = home.with("DOCKER_AUTH_CONFIG", "");
        for (user, places, file) in [
            ("docker", 2, Some(".docker/config.json")),
            ("podman", 3, Some("auth.json")),
            ("finch", 4, Some(".finch/config.json")),
            ("ci", 5, None),
        ] {
            let chain = CredentialChain::new(&home.environment(), []).preceded_by(Anonymous);
            let found = ask(&chain, "a.b").await.unwrap();
            assert_eq!(found.looked_in.len(), places, "{found:?}");
            assert_eq!(pair(found), Some(format!("{user}:p")));
            if let Some(file) = file {
                std::fs::remove_file(home.path().join(file)).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn the_registries_that_places_know_are_told_and_what_is_broken_is_left_out() {
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
    async fn all_places_can_be_asked_and_a_broken_one_is_one_of_them() {
        let home = rich().file("auth.json", "canary");
        let chain = CredentialChain::new(&home.environment(), []);
        let registry = "a.b".parse().unwrap();
        let answers = chain.ask_all(&CredentialRequest::new(&registry)).await;
        let users: Vec<_> = answers
            .into_iter()
            .map(|answer| match answer {
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
    async fn every_place_is_named_in_order_when_nobody_is_found() {
        let home = Home::new();
        let chain = CredentialChain::new(&home.environment(), []);
        let looked_in = ask(&chain, "ghcr.io/a/b").await.unwrap().looked_in;
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
        let looked_in: Vec<_> = looked_in
            .iter()
            .map(|place| place.replace(home.path().to_str().unwrap(), "~"))
            .collect();
        assert_eq!(looked_in, expected);
    }

    #[tokio::test]
    async fn a_broken_place_stops_the_search_and_one_behind_the_find_does_not_matter() {
        for (broken, reaches) in [
            (".docker/config.json", false),
            ("auth.json", true),
            (".finch/config.json", true),
        ] {
            let home = rich().with("DOCKER_AUTH_CONFIG", "").file(broken, "canary");
            let chain = CredentialChain::new(&home.environment(), []);
            let found = ask(&chain, "a.b").await;
            assert_eq!(found.is_ok(), reaches, "{found:?}");
            let error = ask(&chain, "unknown.example").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(broken), "{error}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn nothing_reaches_a_registry_of_a_similar_name() {
        let home = rich()
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
            let lookup = ask(&chain, name).await.unwrap();
            assert!(lookup.found.is_none(), "{name}: {lookup:?}");
        }
    }
}
