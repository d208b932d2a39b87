//! Docker's credential sources: the variable `DOCKER_AUTH_CONFIG`, and a directory with a `config.json`.
//!
//! The helper for the registry takes precedence over the helper for all registries, which takes precedence over the
//! entry in the file. A helper that fails is an error, and the search does not continue (docker/cli,
//! `cli/config/configfile/file.go`).

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::auth_file::{self, AuthFile};
use super::credential_helper::Helpers;
use super::{CredentialProvider, CredentialRequest, Lookup, private_file, registry_key};
use crate::environment::Environment;
use crate::reference::RegistryName;

/// `DOCKER_AUTH_CONFIG`, in which CI systems pass the content of docker's configuration file.
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
        let location = "`DOCKER_AUTH_CONFIG`";
        let Some(text) = self.environment.var("DOCKER_AUTH_CONFIG") else {
            return Ok(Lookup::for_source(location, None));
        };
        let file = AuthFile::parse_variable(text, location)?;
        Ok(match file.docker_entry(request, location) {
            Ok(found) => Lookup::for_source(location, found),
            Err(unusable) => Lookup {
                warnings: vec![unusable.to_string()],
                ..Lookup::for_source(location, None)
            },
        })
    }

    async fn registries(&self) -> Vec<RegistryName> {
        let text = self.environment.var("DOCKER_AUTH_CONFIG");
        let file = text.and_then(|text| AuthFile::parse_variable(text, "").ok());
        file.map(|file| file.registries()).unwrap_or_default()
    }
}

/// Configuration directory of docker or of a compatible program, which contains `config.json`.
#[derive(Debug)]
pub(super) struct ConfigDirectory {
    owner: &'static str,
    directory: Option<PathBuf>,
    helpers: Arc<Helpers>,
}

impl ConfigDirectory {
    /// Returns docker's directory: `$DOCKER_CONFIG`, or `~/.docker` if the variable is not set.
    pub(super) fn docker(environment: &Environment, helpers: Arc<Helpers>) -> Self {
        Self {
            owner: "docker config",
            directory: docker_directory(environment),
            helpers,
        }
    }

    /// Returns finch's directory. Its `config.json` has docker's format.
    pub(super) fn finch(environment: &Environment, helpers: Arc<Helpers>) -> Self {
        Self {
            owner: "finch config",
            directory: environment.home().map(|home| home.join(".finch")),
            helpers,
        }
    }
}

/// Returns the path of docker's directory, or `None` if there is no home directory.
fn docker_directory(environment: &Environment) -> Option<PathBuf> {
    let named = environment.var("DOCKER_CONFIG");
    let named = named.map(|directory| environment.resolve(directory));
    named.or_else(|| Some(environment.home()?.join(".docker")))
}

/// Returns the path of docker's `config.json` and its name in messages, or `None` if there is no home directory.
pub(super) fn docker_file(environment: &Environment) -> Option<(PathBuf, String)> {
    let path = docker_directory(environment)?.join("config.json");
    let location = format!("docker config `{}`", path.display());
    Some((path, location))
}

#[async_trait]
impl CredentialProvider for ConfigDirectory {
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        let Some(directory) = &self.directory else {
            return Ok(Lookup::not_applicable());
        };
        let path = directory.join("config.json");
        let location = format!("{} `{}`", self.owner, path.display());
        let Some(bytes) = private_file::read(&path, &location).await? else {
            return Ok(Lookup::for_source(location, None));
        };
        let file = AuthFile::parse(&bytes, &location)?;
        let Some(helper) = file.docker_helper(request.registry) else {
            let found = file.docker_entry(request, &location)?;
            return Ok(Lookup::for_source(location, found));
        };
        let servers = file.servers(registry_key::docker_key(request.registry));
        let lookup = self
            .helpers
            .find_credential(helper, &servers, &location, request.is_refused);
        Ok(lookup.await?)
    }

    async fn registries(&self) -> Vec<RegistryName> {
        let path = self.directory.as_ref().map(|path| path.join("config.json"));
        match path {
            Some(path) => auth_file::read_registries(&path, AuthFile::parse).await,
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::home::{AUTH, Home, look_up, pair};
    use super::*;
    use crate::error::ErrorKind;

    fn entry(key: &str) -> String {
        format!(r#"{{"auths":{{"{key}":{{"auth":"{AUTH}"}}}}}}"#)
    }

    fn docker(home: &Home) -> ConfigDirectory {
        let environment = home.environment();
        ConfigDirectory::docker(&environment, Arc::new(Helpers::new(environment.clone())))
    }

    #[tokio::test]
    async fn docker_config_defaults_to_home() {
        let home = Home::new().file(".docker/config.json", entry("a.b"));
        let found = look_up(&docker(&home), "a.b").await.unwrap();
        let location = format!(
            "docker config `{}/.docker/config.json`",
            home.path().display()
        );
        assert_eq!(found.searched, [location]);
        assert_eq!(pair(found).as_deref(), Some("me:canary"));
        // The path is relative to the working directory, and the home directory is ignored.
        let home = home
            .with("DOCKER_CONFIG", "elsewhere")
            .file("elsewhere/config.json", entry("c.d"));
        let docker = docker(&home);
        assert!(pair(look_up(&docker, "a.b").await.unwrap()).is_none());
        assert!(pair(look_up(&docker, "c.d").await.unwrap()).is_some());
    }

    #[tokio::test]
    async fn docker_auth_config_is_read_by_docker_rule() {
        let home = Home::new().with("DOCKER_AUTH_CONFIG", &entry("https://a.b/v1/"));
        let variable = AuthVariable::new(home.environment());
        let found = look_up(&variable, "a.b").await.unwrap();
        assert_eq!(pair(found).as_deref(), Some("me:canary"));
        assert!(pair(look_up(&variable, "a.b.c").await.unwrap()).is_none());
        let broken = Home::new().with("DOCKER_AUTH_CONFIG", "canary");
        let error = look_up(&AuthVariable::new(broken.environment()), "a.b")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("DOCKER_AUTH_CONFIG") && !shown.contains("canary"));
    }

    #[tokio::test]
    async fn unusable_entry_of_docker_auth_config_is_a_warning() {
        for entry in [
            r#"{"auth":"Y2FuYXJ5"}"#,
            r#"{"auth":["canary"]}"#,
            r#""canary""#,
        ] {
            let variable = format!(r#"{{"auths":{{"a.b":{entry}}}}}"#);
            let home = Home::new().with("DOCKER_AUTH_CONFIG", &variable);
            let found = look_up(&AuthVariable::new(home.environment()), "a.b").await;
            let found = found.unwrap();
            assert!(found.found.is_none());
            assert_eq!(found.searched, ["`DOCKER_AUTH_CONFIG`"]);
            let [warning] = &found.warnings[..] else {
                panic!("{found:?}");
            };
            let start = "failed to read the credential of `a.b` in `DOCKER_AUTH_CONFIG`: ";
            assert!(warning.starts_with(start), "{warning}");
            assert!(!format!("{found:?}").contains("canary"), "{found:?}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn helper_receives_server_name_in_stored_case() {
        let script = r#"read -r s
            [ "$s" = LocalHost:5000 ] || { echo credentials not found in native keychain; exit 1; }
            echo '{"Username":"u","Secret":"s"}'"#;
        let config = r#"{"credsStore":"all","auths":{"LocalHost:5000":{}}}"#;
        let home = Home::new()
            .file(".docker/config.json", config)
            .helper("all", script);
        let found = look_up(&docker(&home), "localhost:5000").await.unwrap();
        assert_eq!(pair(found).as_deref(), Some("u:s"));
        assert!(pair(look_up(&docker(&home), "localhost").await.unwrap()).is_none());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn registry_helper_precedes_general_helper_and_file() {
        let config = format!(
            r#"{{"credsStore":"all","credHelpers":{{"own.b":"own","file.b":"","https://index.docker.io/v1/":"own"}},
            "auths":{{"own.b":{{"auth":"{AUTH}"}},"file.b":{{"auth":"{AUTH}"}},"all.b":{{}}}}}}"#
        );
        let script = |name: &str| {
            format!(r#"read -r s; echo "{{\"Username\":\"{name}\",\"Secret\":\"$s\"}}""#)
        };
        let home = Home::new()
            .file(".docker/config.json", config)
            .helper("all", &script("all"))
            .helper("own", &script("own"));
        let docker = docker(&home);
        for (registry, expected) in [
            ("own.b", "own:own.b"),
            ("all.b", "all:all.b"),
            ("docker.io", "own:https://index.docker.io/v1/"),
            ("file.b", "me:canary"),
        ] {
            let found = look_up(&docker, registry).await.unwrap();
            let location = found.searched.join("");
            assert!(location.contains(".docker/config.json"), "{location}");
            assert_eq!(
                location.contains("helper"),
                registry != "file.b",
                "{location}"
            );
            assert_eq!(pair(found).as_deref(), Some(expected));
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn helper_credential_is_cached_until_rejected() {
        let config = r#"{"credsStore":"all"}"#;
        let script = r#"read -r s
            [ "$s" = a.b ] || { echo credentials not found in native keychain; exit 1; }
            echo '{"Username":"u","Secret":"s"}'"#;
        let home = Home::new()
            .file(".docker/config.json", config)
            .helper("all", script);
        let docker = docker(&home);
        for name in ["a.b/c", "a.b/d", "a.b"] {
            assert!(pair(look_up(&docker, name).await.unwrap()).is_some());
        }
        assert_eq!(home.helper_runs(), 1);
        let registry = "a.b".parse().unwrap();
        let again = CredentialRequest::new(&registry).after_refusal();
        assert!(pair(docker.credential(&again).await.unwrap()).is_some());
        assert_eq!(home.helper_runs(), 2);
        for _ in 0..2 {
            assert!(pair(look_up(&docker, "c.d").await.unwrap()).is_none());
        }
        assert_eq!(home.helper_runs(), 4);
    }

    #[tokio::test]
    async fn absent_helper_is_an_error() {
        let config = format!(
            r#"{{"credHelpers":{{"a.b":"absent","c.d":"../evil"}},"auths":{{"a.b":{{"auth":"{AUTH}"}}}}}}"#
        );
        let home = Home::new()
            .file(".docker/config.json", config)
            .with("PATH", "/nonexistent");
        for registry in ["a.b", "c.d"] {
            let error = look_up(&docker(&home), registry).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated);
            assert!(error.to_string().contains("config.json"), "{error}");
        }
        assert!(pair(look_up(&docker(&home), "e.f").await.unwrap()).is_none());
    }

    #[tokio::test]
    async fn finch_config_is_read_in_docker_format() {
        let home = Home::new()
            .with("DOCKER_CONFIG", "elsewhere")
            .file(".finch/config.json", entry("https://a.b/v1/"));
        let environment = home.environment();
        let helpers = Arc::new(Helpers::new(environment.clone()));
        let finch = ConfigDirectory::finch(&environment, helpers);
        let found = look_up(&finch, "a.b").await.unwrap();
        assert!(found.searched[0].starts_with("finch config `"));
        assert_eq!(pair(found).as_deref(), Some("me:canary"));
    }
}
