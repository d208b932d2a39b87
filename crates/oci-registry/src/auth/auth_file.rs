//! Credential files in docker's format, which podman reads too.
//!
//! This module parses a file and selects the entry of a registry, either by docker's rule (docker/cli,
//! `cli/config/credentials/file_store.go`) or by the rule of the containers library (containers-auth.json(5),
//! "FORMAT"). The module of each credential source defines the paths of its files. A file contains secrets, so errors
//! name its path and never quote its content.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use snafu::{OptionExt, Snafu};

use super::auth_entry::{self, EntryDefect};
use super::{Credential, CredentialRequest, private_file, registry_key};
use crate::error::{ErrorKind, Failure, Hint};
use crate::reference::RegistryName;

#[derive(Debug, Snafu)]
pub(crate) enum Error {
    // The parser's message is omitted, because it can quote the file.
    #[snafu(display(
        "failed to read the credentials in {location}: not a JSON object (line {line}, column {column})"
    ))]
    Parse {
        location: String,
        line: usize,
        column: usize,
    },
    #[snafu(display("failed to read the credentials in {location}: `{member}` is not {expected}"))]
    Member {
        location: String,
        member: &'static str,
        expected: &'static str,
    },
    #[snafu(display(
        "failed to read the credential of `{}` in {location}: {problem}",
        key.escape_debug()
    ))]
    Entry {
        location: String,
        key: String,
        problem: EntryDefect,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        let advice = match self {
            Self::Parse { .. } | Self::Member { .. } => {
                "correct or remove it: it must have the format of Docker's `config.json`".to_owned()
            }
            Self::Entry { key, .. } => format!(
                "remove the entry, and log in to `{}` again",
                key.escape_debug()
            ),
        };
        vec![advice.into()]
    }
}

/// Parsed credential file.
#[derive(Default)]
pub(crate) struct AuthFile {
    /// Entries by key. An entry is parsed when it is used, so that an invalid entry does not affect other registries.
    auths: BTreeMap<String, Value>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

impl AuthFile {
    /// Parses `config.json` or `auth.json`.
    pub(crate) fn parse(bytes: &[u8], location: &str) -> Result<Self, Error> {
        let document = parse_object(bytes, location)?;
        let mut file = Self::default();
        for (member, value) in &document {
            let is = |name: &str| member.eq_ignore_ascii_case(name) && !value.is_null();
            if is("auths") {
                let entries = value.as_object().context(MemberSnafu {
                    location,
                    member: "auths",
                    expected: "an object",
                })?;
                file.auths.extend(entries.clone());
            } else if is("credsStore") {
                let helper = value.as_str().context(MemberSnafu {
                    location,
                    member: "credsStore",
                    expected: "a string",
                })?;
                file.creds_store = Some(helper.to_owned());
            } else if is("credHelpers") {
                let helpers = value.as_object().and_then(string_members);
                file.cred_helpers.extend(helpers.context(MemberSnafu {
                    location,
                    member: "credHelpers",
                    expected: "an object of strings",
                })?);
            }
        }
        Ok(file)
    }

    /// Parses `.dockercfg`. Its top-level members are the entries that other files contain in `auths`.
    pub(crate) fn parse_legacy(bytes: &[u8], location: &str) -> Result<Self, Error> {
        Ok(Self {
            auths: parse_object(bytes, location)?.into_iter().collect(),
            ..Self::default()
        })
    }

    /// Parses the value of `DOCKER_AUTH_CONFIG`. Only the entries are used. The helpers are ignored, because the
    /// variable may have been set on another machine.
    pub(crate) fn parse_variable(text: &str, location: &str) -> Result<Self, Error> {
        Ok(Self {
            auths: Self::parse(text.as_bytes(), location)?.auths,
            ..Self::default()
        })
    }

    /// Returns the registries that have an entry in `auths` or `credHelpers`. docker writes an empty entry to `auths`
    /// if a helper stores the credential.
    pub(super) fn registries(&self) -> Vec<RegistryName> {
        let keys = self.auths.keys().chain(self.cred_helpers.keys());
        let hosts = keys.map(|key| registry_key::host(key));
        hosts.filter_map(|host| host.parse().ok()).collect()
    }

    /// Returns the server names under which a helper may have stored a credential: `key`, then the keys of the file
    /// that differ from it only in case. `docker login` stores the name as the user typed it.
    pub(super) fn servers<'a>(&'a self, key: &'a str) -> Vec<&'a str> {
        let keys = self.auths.keys().chain(self.cred_helpers.keys());
        let others = keys.map(String::as_str);
        let others = others.filter(|other| *other != key && registry_key::is_same_key(other, key));
        let others: BTreeSet<&str> = others.collect();
        std::iter::once(key).chain(others).collect()
    }

    /// Returns the helper that docker runs for the registry: the helper in `credHelpers` for this registry, otherwise
    /// `credsStore`.
    pub(crate) fn docker_helper(&self, registry: &RegistryName) -> Option<&str> {
        self.registry_helper(registry_key::docker_key(registry))
            .or(self.creds_store.as_deref())
            .filter(|name| !name.is_empty())
    }

    /// Returns the helper that podman runs for the registry. podman supports helpers for single registries only.
    pub(crate) fn containers_helper(&self, registry: &RegistryName) -> Option<&str> {
        self.registry_helper(registry.as_str())
            .filter(|name| !name.is_empty())
    }

    fn registry_helper(&self, key: &str) -> Option<&str> {
        let (_, helper) = registry_key::find(&self.cred_helpers, key)?;
        Some(helper)
    }

    /// Returns the credential of the entry that docker selects: the entry with the exact key, otherwise an entry whose
    /// key is a URL or a path on the same host.
    ///
    /// If several such keys exist, docker selects any of them. This client selects the longest key that is the
    /// repository or a path above it, otherwise the first key.
    pub(crate) fn docker_entry(
        &self,
        request: &CredentialRequest<'_>,
        location: &str,
    ) -> Result<Option<Credential>, Error> {
        let exact = registry_key::find(&self.auths, registry_key::docker_key(request.registry));
        let above = || {
            registry_key::applicable_keys(request)
                .find_map(|path| registry_key::find(&self.auths, &path))
        };
        let same_host = || {
            let mut keys = self.auths.iter();
            keys.find(|(key, _)| registry_key::is_same_host(key, request.registry))
        };
        parse_selected(exact.or_else(above).or_else(same_host), location)
    }

    /// Returns the credential of the entry that the containers library selects: the longest key that is the repository
    /// or a path above it, otherwise a key that is a name or URL of the same host. In a legacy file, every key is a
    /// URL, whose scheme may be omitted.
    pub(crate) fn containers_entry(
        &self,
        request: &CredentialRequest<'_>,
        location: &str,
        is_legacy: bool,
    ) -> Result<Option<Credential>, Error> {
        let exact = registry_key::applicable_keys(request)
            .find_map(|path| registry_key::find(&self.auths, &path));
        let same_host = || {
            self.auths.iter().find(|(key, _)| {
                let is_url = is_legacy || registry_key::strip_scheme(key) != *key;
                (is_url || !key.contains('/')) && registry_key::is_same_host(key, request.registry)
            })
        };
        parse_selected(exact.or_else(same_host), location)
    }
}

/// Returns the registries that a file names. Returns an empty list if the file cannot be read.
pub(super) async fn read_registries(
    path: &Path,
    parse: impl Fn(&[u8], &str) -> Result<AuthFile, Error>,
) -> Vec<RegistryName> {
    let bytes = private_file::read(path, "").await.ok().flatten();
    let file = bytes.and_then(|bytes| parse(&bytes, "").ok());
    file.map(|file| file.registries()).unwrap_or_default()
}

/// Parses JSON. The error omits the parser's message, because it can quote the file.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], location: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ParseSnafu {
            location,
            line,
            column,
        }
        .build()
    })
}

/// Parses a JSON object. Unused members must be valid JSON, too.
fn parse_object(bytes: &[u8], location: &str) -> Result<Map<String, Value>, Error> {
    parse(bytes, location)
}

/// Returns the members of an object, or `None` if a value is not a string. As in docker, `null` is read as an empty
/// string.
fn string_members(object: &Map<String, Value>) -> Option<BTreeMap<String, String>> {
    let pair = |(key, value): (&String, &Value)| match value {
        Value::Null => Some((key.clone(), String::new())),
        value => Some((key.clone(), value.as_str()?.to_owned())),
    };
    object.iter().map(pair).collect()
}

/// Parses the selected entry. Returns `None` if no entry was selected or if a helper stores the credential.
fn parse_selected(
    found: Option<(&String, &Value)>,
    location: &str,
) -> Result<Option<Credential>, Error> {
    let Some((key, entry)) = found else {
        return Ok(None);
    };
    let failed = |problem| {
        EntrySnafu {
            location,
            key,
            problem,
        }
        .build()
    };
    auth_entry::parse_entry(entry).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::home::AUTH;
    use super::*;
    use crate::redact::Secret;

    /// Returns the user name of the entry that a rule selects. Each key of the file has an entry with the key as its
    /// user name.
    fn selected_users(
        rule: impl Fn(&AuthFile, &CredentialRequest<'_>) -> Result<Option<Credential>, Error>,
        keys: &[&str],
        name: &str,
    ) -> Option<String> {
        let entries = keys
            .iter()
            .map(|key| format!(r#""{key}":{{"username":"{key}","password":"p"}}"#));
        let entries: Vec<_> = entries.collect();
        let file = format!(
            r#"{{"auths":{{{}}},"HttpHeaders":{{}}}}"#,
            entries.join(",")
        );
        let file = AuthFile::parse(file.as_bytes(), "a file").unwrap();
        let (registry, repository) = name.split_once('/').unwrap_or((name, ""));
        let registry = registry.parse().unwrap();
        let repository = (!repository.is_empty()).then(|| repository.parse().unwrap());
        let mut request = CredentialRequest::new(&registry);
        request.repository = repository.as_ref();
        match rule(&file, &request).unwrap()? {
            Credential::Basic { username, .. } => Some(username),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn docker_rule_selects_entry() {
        const HUB_URL: &str = "https://index.docker.io/v1/";
        let docker =
            |file: &AuthFile, request: &CredentialRequest<'_>| file.docker_entry(request, "a file");
        for (keys, name, expected) in [
            (&["ghcr.io"][..], "ghcr.io/a/b", Some("ghcr.io")),
            (
                &["https://ghcr.io/v1/"],
                "ghcr.io",
                Some("https://ghcr.io/v1/"),
            ),
            (&["http://ghcr.io"], "ghcr.io", Some("http://ghcr.io")),
            (&["https://ghcr.io", "ghcr.io"], "ghcr.io", Some("ghcr.io")),
            (
                &["127.0.0.1:5000"],
                "127.0.0.1:5000",
                Some("127.0.0.1:5000"),
            ),
            (&[HUB_URL], "docker.io/library/x", Some(HUB_URL)),
            (&[HUB_URL, "docker.io"], "docker.io", Some(HUB_URL)),
            (&["docker.io"], "index.docker.io", Some("docker.io")),
            // A key with a path applies to the whole host, and the key of the repository has precedence.
            (&["ghcr.io/a"], "ghcr.io/b", Some("ghcr.io/a")),
            (
                &["ghcr.io/a", "ghcr.io/b"],
                "ghcr.io/b/c",
                Some("ghcr.io/b"),
            ),
            (&["ghcr.io/a", "ghcr.io"], "ghcr.io/a", Some("ghcr.io")),
            (&["ghcr.io"], "ghcr.io:443", None),
            (&["ghcr.io:443"], "ghcr.io", None),
            (&["ghcr.io"], "xghcr.io", None),
            (&["ghcr.io"], "ghcr.io.example", None),
            (&["https://ghcr.io.example/ghcr.io"], "ghcr.io", None),
            (&["ftp://ghcr.io"], "ghcr.io", None),
            // The exact key has precedence over a key that differs only in case.
            (
                &["LocalHost:5000"],
                "localhost:5000",
                Some("LocalHost:5000"),
            ),
            (
                &["LocalHost:5000", "localhost:5000"],
                "LOCALHOST:5000",
                Some("localhost:5000"),
            ),
            (
                &["https://GHCR.io/v1/"],
                "ghcr.io",
                Some("https://GHCR.io/v1/"),
            ),
            (&["Docker.IO"], "docker.io", Some("Docker.IO")),
            (&[], "ghcr.io", None),
        ] {
            let found = selected_users(docker, keys, name);
            assert_eq!(found.as_deref(), expected, "{keys:?} {name}");
        }
    }

    #[test]
    fn podman_rule_selects_entry() {
        let rule = |is_legacy| {
            move |file: &AuthFile, request: &CredentialRequest<'_>| {
                file.containers_entry(request, "a file", is_legacy)
            }
        };
        let quay = &["quay.io", "quay.io/org", "quay.io/org/repo"][..];
        for (keys, name, expected) in [
            (quay, "quay.io/org/repo", Some("quay.io/org/repo")),
            (quay, "quay.io/org/repo2", Some("quay.io/org")),
            (quay, "quay.io/other", Some("quay.io")),
            (quay, "quay.io", Some("quay.io")),
            // A key with a path applies only to repositories below this path.
            (&["quay.io/org"], "quay.io/organisation", None),
            (&["quay.io/org"], "quay.io", None),
            (
                &["https://quay.io/v1/"],
                "quay.io/org",
                Some("https://quay.io/v1/"),
            ),
            (
                &["https://quay.io", "quay.io/org"],
                "quay.io/org/x",
                Some("quay.io/org"),
            ),
            (&["docker.io"], "docker.io/library/x", Some("docker.io")),
            (
                &["https://index.docker.io/v1/"],
                "docker.io",
                Some("https://index.docker.io/v1/"),
            ),
            (
                &["registry-1.docker.io"],
                "docker.io",
                Some("registry-1.docker.io"),
            ),
            (&["quay.io:443"], "quay.io", None),
            (&["quay.io"], "quay.io.example", None),
            // Hosts are compared case-insensitively, and paths exactly.
            (&["Quay.io/org"], "quay.io/org/x", Some("Quay.io/org")),
            (&["quay.io/Org"], "quay.io/org/x", None),
            (&["QUAY.io", "quay.io"], "quay.io", Some("quay.io")),
        ] {
            let found = selected_users(rule(false), keys, name);
            assert_eq!(found.as_deref(), expected, "{keys:?} {name}");
        }
        // In a legacy file, a key with a path is a URL whose scheme is omitted.
        for (keys, name, expected) in [
            (&["quay.io/v1/"][..], "quay.io/org", Some("quay.io/v1/")),
            (
                &["https://quay.io/v1/"],
                "quay.io",
                Some("https://quay.io/v1/"),
            ),
            (&["quay.io"], "quay.io.example", None),
        ] {
            let found = selected_users(rule(true), keys, name);
            assert_eq!(found.as_deref(), expected, "{keys:?} {name}");
        }
    }

    fn entry(entry: &str) -> Result<Option<Credential>, Error> {
        let file = format!(r#"{{"auths":{{"a.b":{entry}}}}}"#);
        let registry = "a.b".parse().unwrap();
        let request = CredentialRequest::new(&registry);
        AuthFile::parse(file.as_bytes(), "a file")?.docker_entry(&request, "a file")
    }

    #[test]
    fn entry_credentials_are_parsed() {
        let basic = Credential::from_pair("me", "canary");
        let identity = Credential::Identity(Secret::new("x"));
        let registry = Credential::Registry(Secret::new("x"));
        for (text, expected) in [
            (
                format!(r#"{{"auth":"{AUTH}","email":"me@a.b"}}"#),
                Some(basic.clone()),
            ),
            (
                r#"{"username":"me","password":"canary"}"#.into(),
                Some(basic.clone()),
            ),
            // Trailing zeros, and base64 without padding.
            (r#"{"auth":"bWU6Y2FuYXJ5AAA="}"#.into(), Some(basic.clone())),
            (r#"{"auth":"bWU6Y2FuYXJ5AAA"}"#.into(), Some(basic)),
            (
                r#"{"auth":"bWU6cDpx"}"#.into(),
                Some(Credential::from_pair("me", "p:q")),
            ),
            (r#"{"identitytoken":"x"}"#.into(), Some(identity.clone())),
            (
                r#"{"identitytoken":"x","auth":"eA=="}"#.into(),
                Some(identity.clone()),
            ),
            (r#"{"registrytoken":"x"}"#.into(), Some(registry)),
            // Azure marks an identity token with this user name.
            (
                r#"{"username":"00000000-0000-0000-0000-000000000000","password":"x"}"#.into(),
                Some(identity),
            ),
            ("{}".into(), None),
            ("null".into(), None),
            (r#"{"auth":"","username":"me"}"#.into(), None),
        ] {
            assert_eq!(entry(&text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn parse_error_names_location_without_content() {
        for broken in [
            r#""canary""#,
            "{canary",
            r#"{"auth":"Y2FuYXJ5"}"#,
            r#"{"auth":"OmNhbmFyeQ=="}"#,
            r#"{"auth":"canary:canary"}"#,
            r#"{"auth":["canary"]}"#,
        ] {
            let error = entry(broken).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("a file"), "{error}");
            let shown = format!("{error} {error:?}");
            for secret in ["canary", "Y2FuYXJ5", "OmNhbmFyeQ"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }

    #[test]
    fn broken_entry_of_another_registry_is_ignored() {
        let file =
            r#"{"auths":{"c.d":["x"],"a.b":{"username":"me","password":"canary","email":7}}}"#;
        let registry = "a.b".parse().unwrap();
        let request = CredentialRequest::new(&registry);
        let file = AuthFile::parse(file.as_bytes(), "a file").unwrap();
        let expected = Some(Credential::from_pair("me", "canary"));
        assert_eq!(file.docker_entry(&request, "a file").unwrap(), expected);
    }

    #[test]
    fn json_keys_are_matched_case_insensitively() {
        let text = r#"{"AUTHS":{"a.b":{"Username":"me","PASSWORD":"canary"}},"credsstore":"all","CredHelpers":{"c.d":"own"}}"#;
        let file = AuthFile::parse(text.as_bytes(), "a file").unwrap();
        let registry = "a.b".parse().unwrap();
        let request = CredentialRequest::new(&registry);
        let expected = Some(Credential::from_pair("me", "canary"));
        assert_eq!(file.docker_entry(&request, "a file").unwrap(), expected);
        assert_eq!(file.docker_helper(&registry), Some("all"));
        assert_eq!(file.docker_helper(&"c.d".parse().unwrap()), Some("own"));
    }

    #[test]
    fn helper_key_ignores_case_and_prefers_exact_key() {
        let text = r#"{"auths":{"LocalHost:5000":{}},"credHelpers":{"LOCALHOST:5000":"upper","A.b":"one","a.b":"two"}}"#;
        let file = AuthFile::parse(text.as_bytes(), "a file").unwrap();
        for (name, expected) in [
            ("localhost:5000", Some("upper")),
            ("a.b", Some("two")),
            ("localhost", None),
        ] {
            let registry = name.parse().unwrap();
            assert_eq!(file.docker_helper(&registry), expected, "{name}");
            assert_eq!(file.containers_helper(&registry), expected, "{name}");
        }
        assert_eq!(
            file.servers("localhost:5000"),
            ["localhost:5000", "LOCALHOST:5000", "LocalHost:5000"]
        );
        assert_eq!(file.servers("c.d"), ["c.d"]);
    }

    #[test]
    fn docker_auth_config_uses_auths_and_ignores_other_keys() {
        let registry = "a.b".parse().unwrap();
        let request = CredentialRequest::new(&registry);
        let expected = Credential::from_pair("me", "canary");
        for (text, expected) in [
            (
                format!(r#"{{"auths":{{"a.b":{{"auth":"{AUTH}"}}}}}}"#),
                Some(&expected),
            ),
            (
                format!(
                    r#"{{"auths":{{"a.b":{{"auth":"{AUTH}","username":"x","password":"y","email":"z"}}}},"HttpHeaders":{{}}}}"#
                ),
                Some(&expected),
            ),
            (
                r#"{"auths":{"a.b":{"username":"me","password":"canary"}}}"#.into(),
                Some(&expected),
            ),
            (
                r#"{"credHelpers":{"a.b":"x"},"credsStore":"y"}"#.into(),
                None,
            ),
            (r#"{"auths":{}}"#.into(), None),
            ("{}".into(), None),
        ] {
            let file = AuthFile::parse_variable(&text, "a variable").unwrap();
            assert_eq!(file.docker_helper(&registry), None, "{text}");
            let found = file.docker_entry(&request, "a variable").unwrap();
            assert_eq!(found.as_ref(), expected, "{text}");
        }
        for text in ["{}{}", "[", "x", "[]"] {
            let parsed = AuthFile::parse_variable(text, "a variable");
            assert!(matches!(parsed, Err(Error::Parse { .. })), "{text}");
        }
    }

    #[test]
    fn json_key_with_wrong_type_is_named_in_error() {
        for (text, member) in [
            (r#"{"auths":["canary"]}"#, "auths"),
            (r#"{"credsStore":{"canary":1}}"#, "credsStore"),
            (r#"{"credHelpers":{"a.b":["canary"]}}"#, "credHelpers"),
        ] {
            let error = AuthFile::parse(text.as_bytes(), "a file").err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let shown = error.to_string();
            assert!(
                shown.contains(member) && !shown.contains("canary"),
                "{shown}"
            );
        }
        let nothing = r#"{"auths":null,"credsStore":null,"credHelpers":{"a.b":null}}"#;
        let file = AuthFile::parse(nothing.as_bytes(), "a file").unwrap();
        assert_eq!(file.docker_helper(&"a.b".parse().unwrap()), None);
    }
}
