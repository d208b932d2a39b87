//! Keys of credential files: the names and URLs under which a file stores the entry of a registry.
//!
//! Keys are compared exactly first, and then with case-insensitive hosts.

use std::collections::BTreeMap;

use super::CredentialRequest;
use crate::reference::{DOCKER_HUB, RegistryName};

/// Key under which docker stores the credential of Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Returns the key that docker uses for a registry.
pub(super) fn docker_key(registry: &RegistryName) -> &str {
    if registry.is_docker_hub() {
        HUB_KEY
    } else {
        registry.as_str()
    }
}

/// Whether a key of docker's file is the name or the URL of the registry. Keys of single repositories do not match.
pub(super) fn is_key_of(key: &str, registry: &RegistryName) -> bool {
    let path = key
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let rest = path
        .split_once('/')
        .map(|(_, rest)| rest.trim_end_matches('/'));
    let is_whole = matches!(rest, None | Some("" | "v1" | "v2"));
    is_whole && is_same_host(key, registry)
}

/// Returns the entry with the exact key, otherwise an entry whose key differs only in the case of the host.
pub(super) fn find<'a, T>(map: &'a BTreeMap<String, T>, key: &str) -> Option<(&'a String, &'a T)> {
    let other = || map.iter().find(|(other, _)| is_same_key(other, key));
    map.get_key_value(key).or_else(other)
}

/// Whether two keys are equal except for the case of their hosts.
pub(super) fn is_same_key(one: &str, other: &str) -> bool {
    let split = |key| str::split_once(key, '/').unwrap_or((key, ""));
    let ((one_host, one_path), (other_host, other_path)) = (split(one), split(other));
    one_host.eq_ignore_ascii_case(other_host) && one_path == other_path
}

/// Returns the keys that apply to a request, longest first: the repository with its registry (`REGISTRY/REPOSITORY`),
/// each path above the repository, and the registry.
pub(super) fn applicable_keys<'a>(
    request: &CredentialRequest<'a>,
) -> impl Iterator<Item = String> + use<'a> {
    let registry = request.registry.as_str();
    let longest = match request.repository {
        Some(repository) => format!("{registry}/{repository}"),
        None => registry.to_owned(),
    };
    std::iter::successors(Some(longest), move |path| {
        let (above, _) = path.rsplit_once('/')?;
        Some(above.to_owned())
    })
}

pub(super) fn strip_scheme(key: &str) -> &str {
    let stripped = key.strip_prefix("https://");
    stripped
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
}

/// Returns the host of a key, with the port if the key has one. Keys may be URLs. Each name of Docker Hub is replaced
/// by `docker.io`.
pub(super) fn host(key: &str) -> &str {
    let rest = strip_scheme(key);
    normalize_hub(rest.split('/').next().unwrap_or(rest))
}

/// Whether a key is the host of the registry, or a URL or path on this host.
pub(super) fn is_same_host(key: &str, registry: &RegistryName) -> bool {
    host(key).eq_ignore_ascii_case(normalize_hub(registry.as_str()))
}

/// Replaces each name of Docker Hub by `docker.io`.
fn normalize_hub(host: &str) -> &str {
    let is_hub = DOCKER_HUB
        .iter()
        .any(|name| name.eq_ignore_ascii_case(host));
    if is_hub { DOCKER_HUB[0] } else { host }
}
