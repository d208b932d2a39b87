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
use crate::reference::RegistryName;

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
        let Some(text) = self.environment.var("DOCKER_AUTH_CONFIG") else {
            return Ok(Lookup::of(place, None));
        };
        let file = AuthFile::parse_variable(text, place)?;
        Ok(match file.docker_entry(request, place) {
            Ok(found) => Lookup::of(place, found),
            Err(unusable) => Lookup {
                warnings: vec![unusable.to_string()],
                ..Lookup::of(place, None)
            },
        })
    }

    async fn registries(&self) -> Vec<RegistryName> {
        let text = self.environment.var("DOCKER_AUTH_CONFIG");
        let file = text.and_then(|text| AuthFile::parse_variable(text, "").ok());
        file.map(|file| file.registries()).unwrap_or_default()
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
        Self {
            owner: "docker config",
            directory: directory(environment),
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

/// Docker's own directory: `$DOCKER_CONFIG`, else `~/.docker`.
fn directory(environment: &Environment) -> Option<PathBuf> {
    let named = environment.var("DOCKER_CONFIG");
    let named = named.map(|directory| environment.resolve(directory));
    named.or_else(|| Some(environment.home()?.join(".docker")))
}

/// Docker's own file, where there can be one, and what it is called.
pub(super) fn file(environment: &Environment) -> Option<(PathBuf, String)> {
    let path = directory(environment)?.join("config.json");
    let place = format!("docker config `{}`", path.display());
    Some((path, place))
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
        let servers = file.servers(file::docker_key(request.registry));
        let looked = self
            .helpers
            .look(helper, &servers, &place, request.is_refused);
        Ok(looked.await?)
    }

    async fn registries(&self) -> Vec<RegistryName> {
        let path = self.directory.as_ref().map(|path| path.join("config.json"));
        match path {
            Some(path) => file::registries(&path, AuthFile::parse).await,
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::home::{AUTH, Home, ask, pair};
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
    async fn the_file_lies_where_the_variable_says_or_in_the_home() {
        let home = Home::new().file(".docker/config.json", entry("a.b"));
        let found = ask(&docker(&home), "a.b").await.unwrap();
        let place = format!(
            "docker config `{}/.docker/config.json`",
            home.path().display()
        );
        assert_eq!(found.looked_in, [place]);
        assert_eq!(pair(found).as_deref(), Some("me:canary"));
        // Relative to the working directory, and then not in the home.
        let home = home
            .with("DOCKER_CONFIG", "elsewhere")
            .file("elsewhere/config.json", entry("c.d"));
        let docker = docker(&home);
        assert!(pair(ask(&docker, "a.b").await.unwrap()).is_none());
        assert!(pair(ask(&docker, "c.d").await.unwrap()).is_some());
    }

    #[tokio::test]
    async fn the_variable_is_read_by_docker_s_rule() {
        let home = Home::new().with("DOCKER_AUTH_CONFIG", &entry("https://a.b/v1/"));
        let variable = AuthVariable::new(home.environment());
        let found = ask(&variable, "a.b").await.unwrap();
        assert_eq!(pair(found).as_deref(), Some("me:canary"));
        assert!(pair(ask(&variable, "a.b.c").await.unwrap()).is_none());
        let broken = Home::new().with("DOCKER_AUTH_CONFIG", "canary");
        let error = ask(&AuthVariable::new(broken.environment()), "a.b")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("DOCKER_AUTH_CONFIG") && !shown.contains("canary"));
    }

    #[tokio::test]
    async fn unusable_entry_of_the_variable_is_a_warning() {
        for entry in [
            r#"{"auth":"Y2FuYXJ5"}"#,
            r#"{"auth":["canary"]}"#,
            r#""canary""#,
        ] {
            let variable = format!(r#"{{"auths":{{"a.b":{entry}}}}}"#);
            let home = Home::new().with("DOCKER_AUTH_CONFIG", &variable);
            let found = ask(&AuthVariable::new(home.environment()), "a.b").await;
            let found = found.unwrap();
            assert!(found.found.is_none());
            assert_eq!(found.looked_in, ["`DOCKER_AUTH_CONFIG`"]);
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
    async fn helper_gets_the_server_name_as_it_was_stored() {
        let script = r#"read -r s
            [ "$s" = LocalHost:5000 ] || { echo credentials not found in native keychain; exit 1; }
            echo '{"Username":"u","Secret":"s"}'"#;
        let config = r#"{"credsStore":"all","auths":{"LocalHost:5000":{}}}"#;
        let home = Home::new()
            .file(".docker/config.json", config)
            .helper("all", script);
        let found = ask(&docker(&home), "localhost:5000").await.unwrap();
        assert_eq!(pair(found).as_deref(), Some("u:s"));
        assert!(pair(ask(&docker(&home), "localhost").await.unwrap()).is_none());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_helper_goes_before_the_file_and_its_own_before_the_one_for_all() {
        let config = format!(
            r#"{{"credsStore":"all","credHelpers":{{"own.b":"own","file.b":"","https://index.docker.io/v1/":"own"}},
            "auths":{{"own.b":{{"auth":"{AUTH}"}},"file.b":{{"auth":"{AUTH}"}},"all.b":{{}}}}}}"#
        );
        let answer = |name: &str| {
            format!(r#"read -r s; echo "{{\"Username\":\"{name}\",\"Secret\":\"$s\"}}""#)
        };
        let home = Home::new()
            .file(".docker/config.json", config)
            .helper("all", &answer("all"))
            .helper("own", &answer("own"));
        let docker = docker(&home);
        for (registry, expected) in [
            ("own.b", "own:own.b"),
            ("all.b", "all:all.b"),
            ("docker.io", "own:https://index.docker.io/v1/"),
            ("file.b", "me:canary"),
        ] {
            let found = ask(&docker, registry).await.unwrap();
            let place = found.looked_in.join("");
            assert!(place.contains(".docker/config.json"), "{place}");
            assert_eq!(place.contains("helper"), registry != "file.b", "{place}");
            assert_eq!(pair(found).as_deref(), Some(expected));
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_helper_is_not_asked_again_unless_it_was_refused_or_had_nothing() {
        let config = r#"{"credsStore":"all"}"#;
        let script = r#"read -r s
            [ "$s" = a.b ] || { echo credentials not found in native keychain; exit 1; }
            echo '{"Username":"u","Secret":"s"}'"#;
        let home = Home::new()
            .file(".docker/config.json", config)
            .helper("all", script);
        let docker = docker(&home);
        for name in ["a.b/c", "a.b/d", "a.b"] {
            assert!(pair(ask(&docker, name).await.unwrap()).is_some());
        }
        assert_eq!(home.helper_runs(), 1);
        let registry = "a.b".parse().unwrap();
        let again = CredentialRequest::new(&registry).again();
        assert!(pair(docker.credential(&again).await.unwrap()).is_some());
        assert_eq!(home.helper_runs(), 2);
        for _ in 0..2 {
            assert!(pair(ask(&docker, "c.d").await.unwrap()).is_none());
        }
        assert_eq!(home.helper_runs(), 4);
    }

    #[tokio::test]
    async fn a_helper_that_is_not_there_is_an_error_and_not_nobody() {
        let config = format!(
            r#"{{"credHelpers":{{"a.b":"absent","c.d":"../evil"}},"auths":{{"a.b":{{"auth":"{AUTH}"}}}}}}"#
        );
        let home = Home::new()
            .file(".docker/config.json", config)
            .with("PATH", "/nonexistent");
        for registry in ["a.b", "c.d"] {
            let error = ask(&docker(&home), registry).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated);
            assert!(error.to_string().contains("config.json"), "{error}");
        }
        assert!(pair(ask(&docker(&home), "e.f").await.unwrap()).is_none());
    }

    #[tokio::test]
    async fn finch_s_file_is_docker_s_in_another_place() {
        let home = Home::new()
            .with("DOCKER_CONFIG", "elsewhere")
            .file(".finch/config.json", entry("https://a.b/v1/"));
        let environment = home.environment();
        let helpers = Arc::new(Helpers::new(environment.clone()));
        let finch = ConfigDirectory::finch(&environment, helpers);
        let found = ask(&finch, "a.b").await.unwrap();
        assert!(found.looked_in[0].starts_with("finch config `"));
        assert_eq!(pair(found).as_deref(), Some("me:canary"));
    }
}
