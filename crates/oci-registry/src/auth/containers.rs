//! Podman's credential sources, as the containers library defines them: the `auth.json` files and `~/.dockercfg`.
//!
//! If `REGISTRY_AUTH_FILE` is set, only the file that it names is read. Otherwise, these files are read in order: the
//! session's file (Linux: `$XDG_RUNTIME_DIR/containers/auth.json`, or `/run/containers/$UID/auth.json` if the variable
//! is not set; other systems: `~/.config/containers/auth.json`), the user's file
//! (`$XDG_CONFIG_HOME/containers/auth.json`, or `~/.config/…` if the variable is not set), and docker's legacy file
//! (containers/image, `pkg/docker/config/config.go`; containers-auth.json(5)).
//!
//! The library also reads docker's `config.json`, between the user's file and the legacy file. This module does not,
//! because [`docker`](super::docker) reads that file earlier in the chain, by docker's rules.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::auth_file::{self, AuthFile};
use super::credential_helper::Helpers;
use super::{CredentialProvider, CredentialRequest, Lookup, private_file};
use crate::environment::Environment;
use crate::reference::RegistryName;

/// Credential file of podman.
#[derive(Debug)]
pub(super) struct ContainersFile {
    path: PathBuf,
    is_legacy: bool,
    helpers: Arc<Helpers>,
}

impl ContainersFile {
    /// Returns all files in order.
    pub(super) fn list(environment: &Environment, helpers: &Arc<Helpers>) -> Vec<Self> {
        let file = |path, is_legacy| Self {
            path,
            is_legacy,
            helpers: Arc::clone(helpers),
        };
        if let Some(path) = environment.var("REGISTRY_AUTH_FILE") {
            return vec![file(environment.resolve(path), false)];
        }
        let legacy = environment.home().map(|home| home.join(".dockercfg"));
        let mut paths: Vec<PathBuf> = session_file(environment).into_iter().collect();
        paths.extend(user_file(environment).filter(|path| !paths.contains(path)));
        let current = paths.into_iter().map(|path| file(path, false));
        current.chain(legacy.map(|path| file(path, true))).collect()
    }
}

fn user_file(environment: &Environment) -> Option<PathBuf> {
    let directory = environment.var("XDG_CONFIG_HOME");
    let directory = directory.map(|directory| environment.resolve(directory));
    let directory = directory.or_else(|| Some(environment.home()?.join(".config")))?;
    Some(directory.join("containers/auth.json"))
}

#[cfg(target_os = "linux")]
fn session_file(environment: &Environment) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;

    if let Some(directory) = environment.var("XDG_RUNTIME_DIR") {
        return Some(environment.resolve(directory).join("containers/auth.json"));
    }
    // The owner of `/proc/self` is the user of the process. Reading its metadata avoids a call to libc.
    let user = std::fs::metadata("/proc/self").ok()?.uid();
    Some(PathBuf::from(format!("/run/containers/{user}/auth.json")))
}

#[cfg(not(target_os = "linux"))]
fn session_file(environment: &Environment) -> Option<PathBuf> {
    Some(environment.home()?.join(".config/containers/auth.json"))
}

#[async_trait]
impl CredentialProvider for ContainersFile {
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        let location = format!("podman's `{}`", self.path.display());
        let Some(bytes) = private_file::read(&self.path, &location).await? else {
            return Ok(Lookup::for_source(location, None));
        };
        let file = if self.is_legacy {
            AuthFile::parse_legacy(&bytes, &location)?
        } else {
            AuthFile::parse(&bytes, &location)?
        };
        let Some(helper) = file.containers_helper(request.registry) else {
            let found = file.containers_entry(request, &location, self.is_legacy)?;
            return Ok(Lookup::for_source(location, found));
        };
        let servers = file.servers(request.registry.as_str());
        let lookup = self
            .helpers
            .find_credential(helper, &servers, &location, request.is_refused);
        Ok(lookup.await?)
    }

    async fn registries(&self) -> Vec<RegistryName> {
        let parse = if self.is_legacy {
            AuthFile::parse_legacy
        } else {
            AuthFile::parse
        };
        auth_file::read_registries(&self.path, parse).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::home::{AUTH, Home, look_up, pair};
    use super::*;

    fn entry(user: &str) -> String {
        format!(r#"{{"auths":{{"a.b":{{"username":"{user}","password":"p"}}}}}}"#)
    }

    /// Returns the results of all files of a home directory, even after the first match.
    async fn look_up_in_all_files(home: &Home, name: &str) -> Vec<(String, Option<String>)> {
        let environment = home.environment();
        let helpers = Arc::new(Helpers::new(environment.clone()));
        let mut all = Vec::new();
        for file in ContainersFile::list(&environment, &helpers) {
            let lookup = look_up(&file, name).await.unwrap();
            let location = lookup.searched.join("");
            let location = location.replace(home.path().to_str().unwrap(), "~");
            all.push((location, pair(lookup)));
        }
        all
    }

    fn expected(locations: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
        let owned = |(location, user): &(&str, Option<&str>)| {
            (
                format!("podman's `{location}`"),
                user.map(|user| format!("{user}:p")),
            )
        };
        locations.iter().map(owned).collect()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn files_are_searched_in_podman_order() {
        let home = Home::new()
            .file("run/containers/auth.json", entry("session"))
            .file(".config/containers/auth.json", entry("user"))
            .file(
                ".dockercfg",
                r#"{"https://a.b/v1/":{"username":"old","password":"p","email":""}}"#,
            );
        assert_eq!(
            look_up_in_all_files(&home, "a.b/c").await,
            expected(&[
                ("~/run/containers/auth.json", Some("session")),
                ("~/.config/containers/auth.json", Some("user")),
                ("~/.dockercfg", Some("old")),
            ])
        );
        let home = home
            .with("XDG_CONFIG_HOME", "~/xdg")
            .file("xdg/containers/auth.json", entry("xdg"));
        assert_eq!(
            look_up_in_all_files(&home, "a.b").await[1..2],
            expected(&[("~/xdg/containers/auth.json", Some("xdg"))])
        );
        // If the variable names a file, no other file is read, even if the named file does not exist.
        let home = home
            .with("REGISTRY_AUTH_FILE", "named.json")
            .file("named.json", entry("named"));
        assert_eq!(
            look_up_in_all_files(&home, "a.b").await,
            expected(&[("~/named.json", Some("named"))])
        );
        std::fs::remove_file(home.path().join("named.json")).unwrap();
        assert_eq!(
            look_up_in_all_files(&home, "a.b").await,
            expected(&[("~/named.json", None)])
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn session_file_defaults_to_directory_of_user_id() {
        use std::os::unix::fs::MetadataExt;

        let home = Home::new();
        let owner = std::fs::metadata(home.path()).unwrap().uid();
        let path = session_file(&Environment::default());
        let expected = format!("/run/containers/{owner}/auth.json");
        assert_eq!(path, Some(PathBuf::from(expected)));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn helper_applies_to_single_registry_only() {
        let config = format!(
            r#"{{"credsStore":"one","credHelpers":{{"a.b":"one","c.d/e":"one"}},
            "auths":{{"a.b/c":{{"auth":"{AUTH}"}},"c.d":{{"auth":"{AUTH}"}}}}}}"#
        );
        let home = Home::new()
            .with("REGISTRY_AUTH_FILE", "auth.json")
            .file("auth.json", config)
            .helper(
                "one",
                r#"read -r s; echo "{\"Username\":\"one\",\"Secret\":\"$s\"}""#,
            );
        for (name, expected) in [
            ("a.b/c", Some("one:a.b")),
            ("c.d/e", Some("me:canary")),
            ("e.f", None),
        ] {
            let found = look_up_in_all_files(&home, name).await.remove(0).1;
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn broken_or_empty_credential_file_is_an_error() {
        for broken in ["", "canary", r#"{"auths":{"a.b":{"auth":"Y2FuYXJ5"}}}"#] {
            let home = Home::new()
                .with("REGISTRY_AUTH_FILE", "auth.json")
                .file("auth.json", broken);
            let environment = home.environment();
            let helpers = Arc::new(Helpers::new(environment.clone()));
            let file = &ContainersFile::list(&environment, &helpers)[0];
            let error = look_up(file, "a.b").await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("auth.json"), "{shown}");
            assert!(
                !shown.contains("canary") && !shown.contains("Y2Fu"),
                "{shown}"
            );
        }
    }
}
