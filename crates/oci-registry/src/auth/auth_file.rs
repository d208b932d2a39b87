//! Credential files in docker's format, which podman reads too.
//!
//! This module parses a file, and looks up the entry of a registry by docker's rule (docker/cli,
//! `cli/config/credentials/file_store.go`) or by that of the containers library (containers-auth.json(5), "FORMAT"). The
//! paths of the files are in the modules of the sources. A file holds secrets, so errors name its path and never its
//! content.

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
    // The parser's own message can quote the file.
    #[snafu(display(
        "failed to read the credentials in {place}: not a JSON object (line {line}, column {column})"
    ))]
    Parse {
        place: String,
        line: usize,
        column: usize,
    },
    #[snafu(display("failed to read the credentials in {place}: `{member}` is not {expected}"))]
    Member {
        place: String,
        member: &'static str,
        expected: &'static str,
    },
    #[snafu(display(
        "failed to read the credential of `{}` in {place}: {problem}",
        key.escape_debug()
    ))]
    Entry {
        place: String,
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
                "correct or remove it: the format is that of Docker's `config.json`".to_owned()
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
    /// Entries are parsed when they are used, so that a defective entry does not affect other registries.
    auths: BTreeMap<String, Value>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

impl AuthFile {
    /// Parses `config.json` or `auth.json`.
    pub(crate) fn parse(bytes: &[u8], place: &str) -> Result<Self, Error> {
        let document = object(bytes, place)?;
        let mut file = Self::default();
        for (member, value) in &document {
            let is = |name: &str| member.eq_ignore_ascii_case(name) && !value.is_null();
            if is("auths") {
                let entries = value.as_object().context(MemberSnafu {
                    place,
                    member: "auths",
                    expected: "an object",
                })?;
                file.auths.extend(entries.clone());
            } else if is("credsStore") {
                let helper = value.as_str().context(MemberSnafu {
                    place,
                    member: "credsStore",
                    expected: "a string",
                })?;
                file.creds_store = Some(helper.to_owned());
            } else if is("credHelpers") {
                let helpers = value.as_object().and_then(strings);
                file.cred_helpers.extend(helpers.context(MemberSnafu {
                    place,
                    member: "credHelpers",
                    expected: "an object of strings",
                })?);
            }
        }
        Ok(file)
    }

    /// Parses `.dockercfg`, whose top level contains the entries that other files have below `auths`.
    pub(crate) fn parse_legacy(bytes: &[u8], place: &str) -> Result<Self, Error> {
        Ok(Self {
            auths: object(bytes, place)?.into_iter().collect(),
            ..Self::default()
        })
    }

    /// Parses the value of `DOCKER_AUTH_CONFIG`. Only the entries are used: the helpers are installed on the machine
    /// that set the variable, which may be another one.
    pub(crate) fn parse_variable(text: &str, place: &str) -> Result<Self, Error> {
        Ok(Self {
            auths: Self::parse(text.as_bytes(), place)?.auths,
            ..Self::default()
        })
    }

    /// Returns the registries that have an entry or a helper of their own. An entry also exists if a helper has the
    /// credential.
    pub(super) fn registries(&self) -> Vec<RegistryName> {
        let keys = self.auths.keys().chain(self.cred_helpers.keys());
        let hosts = keys.map(|key| registry_key::host(key));
        hosts.filter_map(|host| host.parse().ok()).collect()
    }

    /// Returns the server names under which a helper may have a credential: `key`, then the keys of the file that
    /// differ only in case, because `docker login` stores the name as the user typed it.
    pub(super) fn servers<'a>(&'a self, key: &'a str) -> Vec<&'a str> {
        let keys = self.auths.keys().chain(self.cred_helpers.keys());
        let others = keys.map(String::as_str);
        let others = others.filter(|other| *other != key && registry_key::is_same_key(other, key));
        let others: BTreeSet<&str> = others.collect();
        std::iter::once(key).chain(others).collect()
    }

    /// Returns the helper that docker runs for the registry: the registry's own, otherwise the one for all registries.
    pub(crate) fn docker_helper(&self, registry: &RegistryName) -> Option<&str> {
        self.own_helper(registry_key::docker_key(registry))
            .or(self.creds_store.as_deref())
            .filter(|name| !name.is_empty())
    }

    /// Returns the helper that podman runs for the registry. podman has no helper for all registries.
    pub(crate) fn containers_helper(&self, registry: &RegistryName) -> Option<&str> {
        self.own_helper(registry.as_str())
            .filter(|name| !name.is_empty())
    }

    fn own_helper(&self, key: &str) -> Option<&str> {
        let (_, helper) = registry_key::find(&self.cred_helpers, key)?;
        Some(helper)
    }

    /// Returns the entry by docker's rule: the exact key, otherwise a key that is a URL or a path of the same host.
    ///
    /// docker selects an arbitrary one of several such keys. Here, the closest one above the repository is used,
    /// otherwise the first.
    pub(crate) fn docker_entry(
        &self,
        request: &CredentialRequest<'_>,
        place: &str,
    ) -> Result<Option<Credential>, Error> {
        let exact = registry_key::find(&self.auths, registry_key::docker_key(request.registry));
        let above =
            || registry_key::paths(request).find_map(|path| registry_key::find(&self.auths, &path));
        let same_host = || {
            let mut keys = self.auths.iter();
            keys.find(|(key, _)| registry_key::is_same_host(key, request.registry))
        };
        credential(exact.or_else(above).or_else(same_host), place)
    }

    /// Returns the entry by the rule of the containers library: the longest key that is the repository or a path above
    /// it, otherwise a key that is a URL of the same host. In a legacy file, every key is a URL, with or without its
    /// scheme.
    pub(crate) fn containers_entry(
        &self,
        request: &CredentialRequest<'_>,
        place: &str,
        is_legacy: bool,
    ) -> Result<Option<Credential>, Error> {
        let exact =
            registry_key::paths(request).find_map(|path| registry_key::find(&self.auths, &path));
        let same_host = || {
            self.auths.iter().find(|(key, _)| {
                let is_url = is_legacy || registry_key::without_scheme(key) != *key;
                (is_url || !key.contains('/')) && registry_key::is_same_host(key, request.registry)
            })
        };
        credential(exact.or_else(same_host), place)
    }
}

/// Returns the registries that a file names. Empty if the file cannot be read.
pub(super) async fn registries(
    path: &Path,
    parse: impl Fn(&[u8], &str) -> Result<AuthFile, Error>,
) -> Vec<RegistryName> {
    let bytes = private_file::read(path, "").await.ok().flatten();
    let file = bytes.and_then(|bytes| parse(&bytes, "").ok());
    file.map(|file| file.registries()).unwrap_or_default()
}

/// Parses JSON. The parser's own message is dropped because it can quote the file.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], place: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ParseSnafu {
            place,
            line,
            column,
        }
        .build()
    })
}

/// Parses an object with all its members, including unused ones.
fn object(bytes: &[u8], place: &str) -> Result<Map<String, Value>, Error> {
    parse(bytes, place)
}

/// Returns the members of an object, whose values must be strings. A null is read as an empty string, as in docker.
fn strings(object: &Map<String, Value>) -> Option<BTreeMap<String, String>> {
    let pair = |(key, value): (&String, &Value)| match value {
        Value::Null => Some((key.clone(), String::new())),
        value => Some((key.clone(), value.as_str()?.to_owned())),
    };
    object.iter().map(pair).collect()
}

/// Returns the credential of the entry that was found. `None` if a helper has it.
fn credential(found: Option<(&String, &Value)>, place: &str) -> Result<Option<Credential>, Error> {
    let Some((key, entry)) = found else {
        return Ok(None);
    };
    let failed = |problem| {
        EntrySnafu {
            place,
            key,
            problem,
        }
        .build()
    };
    auth_entry::credential(entry).map_err(failed)
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
            // A key with a path applies to the whole host, and the repository's own key has precedence.
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
            // The exact key has precedence over one in another case.
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
        let of = |is_legacy| {
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
            // A key with a path applies to repositories below it only.
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
            let found = selected_users(of(false), keys, name);
            assert_eq!(found.as_deref(), expected, "{keys:?} {name}");
        }
        // In a legacy file, a key with a path is the rest of a URL.
        for (keys, name, expected) in [
            (&["quay.io/v1/"][..], "quay.io/org", Some("quay.io/v1/")),
            (
                &["https://quay.io/v1/"],
                "quay.io",
                Some("https://quay.io/v1/"),
            ),
            (&["quay.io"], "quay.io.example", None),
        ] {
            let found = selected_users(of(true), keys, name);
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
    fn parse_error_names_place_without_content() {
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
    fn members_are_matched_case_insensitively() {
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
    fn helper_key_in_other_case_is_used_and_exact_key_first() {
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
    fn variable_keeps_entries_and_ignores_other_members() {
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
    fn member_of_wrong_type_is_named_in_error() {
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
