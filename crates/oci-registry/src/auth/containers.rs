//! Podman's places, which are those of the containers library: `auth.json` where its rules say, and `~/.dockercfg`.
//!
//! `REGISTRY_AUTH_FILE` names the one file, and then no other of these is read. Otherwise, in this order: the session's
//! file (Linux: `$XDG_RUNTIME_DIR/containers/auth.json`, `/run/containers/$UID/auth.json` without the variable), the
//! user's file (`$XDG_CONFIG_HOME/containers/auth.json`, `~/.config/…` without the variable, and on systems other than
//! Linux there too whatever the variable says), and the file of dockers of old. (containers/image,
//! `pkg/docker/config/config.go`, containers-auth.json(5).)
//!
//! The library also reads docker's `config.json` between the last two. Here that has been read before, by docker's rules.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::file::{self, AuthFile};
use super::helper::Helpers;
use super::{CredentialProvider, CredentialRequest, Lookup};
use crate::environment::Environment;

/// One file of podman's.
#[derive(Debug)]
pub(super) struct ContainersFile {
    path: PathBuf,
    is_legacy: bool,
    helpers: Arc<Helpers>,
}

impl ContainersFile {
    /// All of them, in order.
    pub(super) fn all(environment: &Environment, helpers: &Arc<Helpers>) -> Vec<Self> {
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
    // Whose process this is, without asking libc: whoever owns its entry.
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
        let place = format!("podman's `{}`", self.path.display());
        let Some(bytes) = file::read(&self.path, &place).await? else {
            return Ok(Lookup::of(place, None));
        };
        let file = if self.is_legacy {
            AuthFile::parse_legacy(&bytes, &place)?
        } else {
            AuthFile::parse(&bytes, &place)?
        };
        let Some(helper) = file.containers_helper(request.registry) else {
            let found = file.containers_entry(request, &place, self.is_legacy)?;
            return Ok(Lookup::of(place, found));
        };
        let server = request.registry.as_str();
        let looked = self
            .helpers
            .look(helper, server, &place, request.is_refused);
        Ok(looked.await?)
    }
}
