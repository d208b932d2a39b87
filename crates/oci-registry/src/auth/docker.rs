//! Docker's credentials: `DOCKER_AUTH_CONFIG`, `config.json` and the helpers that it names.
//!
//! Follows docker's own lookup: the variable first; then in `$DOCKER_CONFIG/config.json`, else
//! `~/.docker/config.json`, a helper for the registry, else the helper for all, else the entry in the file. A helper that
//! fails is an error and never a reason to look elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use snafu::{ResultExt, Snafu, ensure};

use super::helper::{self, Helper};
use super::{Credential, CredentialProvider, Lookup, Secret};
use crate::environment::Environment;
use crate::error::{ErrorKind, Failure};
use crate::reference::RegistryName;

/// The key under which docker keeps the credential of Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The names of Docker Hub.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Largest configuration read, in bytes.
const MAX_CONFIG: u64 = 4 << 20;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read the credentials in `{}`", path.display()))]
    ReadConfig {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display(
        "failed to read the credentials in {place}: it has more than {MAX_CONFIG} bytes"
    ))]
    TooLarge { place: String },
    // The parser's own words can quote the file, and the file holds secrets.
    #[snafu(display(
        "failed to read the credentials in {place}: line {line}, column {column} is not what it should be"
    ))]
    ParseConfig {
        place: String,
        line: usize,
        column: usize,
    },
    #[snafu(display(
        "failed to read the credential of `{key}` in {place}: `auth` is not base64 of `user:password`"
    ))]
    ParseAuth { place: String, key: String },
    #[snafu(display(
        "failed to get the credential of `{registry}` that {place} leaves to a helper"
    ))]
    AskHelper {
        registry: RegistryName,
        place: String,
        source: helper::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadConfig { .. } => ErrorKind::Io,
            Self::TooLarge { .. } | Self::ParseConfig { .. } | Self::ParseAuth { .. } => {
                ErrorKind::InvalidInput
            }
            Self::AskHelper { .. } => ErrorKind::Unauthenticated,
        }
    }
}

/// Reads the credentials that `docker login` left.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    environment: Environment,
}

impl DockerConfig {
    /// Reads where this environment says, at each lookup anew.
    pub fn new(environment: Environment) -> Self {
        Self { environment }
    }

    fn path(&self) -> Option<PathBuf> {
        let directory = self
            .environment
            .var("DOCKER_CONFIG")
            .map(|directory| self.environment.resolve(directory));
        let directory = directory.or_else(|| Some(self.environment.home()?.join(".docker")))?;
        Some(directory.join("config.json"))
    }

    async fn look(&self, registry: &RegistryName) -> Result<Lookup, Error> {
        let mut looked_in = Vec::new();
        if let Some(text) = self.environment.var("DOCKER_AUTH_CONFIG") {
            let place = "`DOCKER_AUTH_CONFIG`".to_owned();
            let config = Config::parse(text.as_bytes(), &place)?;
            looked_in.push(place.clone());
            if let Some(credential) = config.entry(registry, &place)? {
                return Ok(Lookup {
                    found: Some((credential, place)),
                    looked_in,
                });
            }
        }
        let Some(path) = self.path() else {
            return Ok(Lookup {
                found: None,
                looked_in,
            });
        };
        let place = format!("docker config `{}`", path.display());
        looked_in.push(place.clone());
        let Some(bytes) = read(&path, &place).await? else {
            return Ok(Lookup {
                found: None,
                looked_in,
            });
        };
        let config = Config::parse(&bytes, &place)?;
        let found = match config.helper(registry) {
            Some(name) => {
                let asked = Helper::new(name, &self.environment)
                    .get(key(registry))
                    .await;
                let asked = asked.with_context(|_| AskHelperSnafu {
                    registry: registry.clone(),
                    place: place.clone(),
                })?;
                let place = format!("credential helper `{name}`");
                looked_in.push(place.clone());
                asked.map(|credential| (credential, place))
            }
            None => config
                .entry(registry, &place)?
                .map(|credential| (credential, place)),
        };
        Ok(Lookup { found, looked_in })
    }
}

#[async_trait]
impl CredentialProvider for DockerConfig {
    async fn credential(&self, registry: &RegistryName) -> crate::Result<Lookup> {
        Ok(self.look(registry).await?)
    }
}

/// Reads a file that may be absent.
async fn read(path: &Path, place: &str) -> Result<Option<Vec<u8>>, Error> {
    let size = match tokio::fs::metadata(path).await {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::ReadConfig {
                path: path.to_owned(),
                source,
            });
        }
    };
    ensure!(size <= MAX_CONFIG, TooLargeSnafu { place });
    tokio::fs::read(path)
        .await
        .map(Some)
        .context(ReadConfigSnafu { path })
}

/// The key that docker uses for a registry.
fn key(registry: &RegistryName) -> &str {
    if HUB.contains(&registry.as_str()) {
        HUB_KEY
    } else {
        registry.as_str()
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(rename = "credsStore")]
    creds_store: Option<String>,
    #[serde(rename = "credHelpers")]
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Config {
    fn parse(bytes: &[u8], place: &str) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|error| {
            ParseConfigSnafu {
                place,
                line: error.line(),
                column: error.column(),
            }
            .build()
        })
    }

    /// The helper that keeps the registry's credential.
    fn helper(&self, registry: &RegistryName) -> Option<&str> {
        let own = self
            .cred_helpers
            .as_ref()
            .and_then(|helpers| helpers.get(key(registry)));
        own.or(self.creds_store.as_ref())
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// The credential in the file itself: under the exact key, else under a key that is a URL of the same host.
    fn entry(&self, registry: &RegistryName, place: &str) -> Result<Option<Credential>, Error> {
        let Some(auths) = &self.auths else {
            return Ok(None);
        };
        let wanted = key(registry);
        let same_host = || {
            auths
                .iter()
                .find(|(candidate, _)| hostname(candidate) == hostname(wanted))
        };
        let Some((found, Some(entry))) = auths.get_key_value(wanted).or_else(same_host) else {
            return Ok(None);
        };
        entry
            .credential()
            .map_err(|Unreadable| ParseAuthSnafu { place, key: found }.build())
    }
}

/// The host, and port if any, of a key: keys may be URLs.
fn hostname(key: &str) -> &str {
    let host = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    host.split('/').next().unwrap_or(host)
}

impl Entry {
    /// The credential of the entry: none in an entry that only marks that a helper has it.
    fn credential(&self) -> Result<Option<Credential>, Unreadable> {
        let filled = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.registrytoken) {
            return Ok(Some(Credential::Registry(Secret::new(token))));
        }
        if let Some(token) = filled(&self.identitytoken) {
            return Ok(Some(Credential::Identity(Secret::new(token))));
        }
        if let Some(auth) = filled(&self.auth) {
            let bytes = BASE64.decode(auth.trim()).map_err(|_| Unreadable)?;
            let text = String::from_utf8(bytes).map_err(|_| Unreadable)?;
            let (username, password) = text
                .split_once(':')
                .filter(|(username, _)| !username.is_empty())
                .ok_or(Unreadable)?;
            let password = Secret::new(password.trim_end_matches('\0'));
            return Ok(Some(Credential::Basic {
                username: username.to_owned(),
                password,
            }));
        }
        let pair = filled(&self.username).zip(filled(&self.password));
        Ok(pair.map(|(username, password)| Credential::Basic {
            username,
            password: Secret::new(password),
        }))
    }
}

/// An entry's `auth` is not what it should be; what it is stays unsaid.
struct Unreadable;

#[cfg(test)]
mod tests {
    use super::*;

    // `me:canary`
    const AUTH: &str = "bWU6Y2FuYXJ5";

    async fn look(
        variables: &[(&str, &str)],
        config: Option<&str>,
        registry: &str,
    ) -> crate::Result<Lookup> {
        let home = tempfile::tempdir().unwrap();
        if let Some(config) = config {
            std::fs::create_dir(home.path().join(".docker")).unwrap();
            std::fs::write(home.path().join(".docker/config.json"), config).unwrap();
        }
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::new(variables, Some(home.path().to_owned()), "/".into());
        DockerConfig::new(environment)
            .credential(&registry.parse().unwrap())
            .await
    }

    async fn user(config: &str, registry: &str) -> Option<String> {
        match look(&[], Some(config), registry).await.unwrap().found?.0 {
            Credential::Basic { username, password } => {
                Some(format!("{username}:{}", password.expose()))
            }
            other => Some(format!("{other:?}")),
        }
    }

    #[tokio::test]
    async fn entries_are_found_by_docker_s_rules() {
        let one = |key: &str| format!(r#"{{"auths":{{"{key}":{{"auth":"{AUTH}"}}}},"future":1}}"#);
        let found = Some("me:canary".to_owned());
        assert_eq!(user(&one("ghcr.io"), "ghcr.io").await, found);
        assert_eq!(user(&one("https://ghcr.io/v1/"), "ghcr.io").await, found);
        assert_eq!(
            user(&one("https://index.docker.io/v1/"), "docker.io").await,
            found
        );
        assert_eq!(user(&one("127.0.0.1:5000"), "127.0.0.1:5000").await, found);
        for other in [
            "127.0.0.1:5001",
            "ghcr.io.example",
            "xghcr.io",
            "ghcr.io:444",
        ] {
            assert_eq!(user(&one("ghcr.io"), other).await, None, "{other}");
        }
        assert_eq!(
            user(
                r#"{"auths":{"a.b":{"username":"u","password":"p:q"}}}"#,
                "a.b"
            )
            .await,
            Some("u:p:q".into())
        );
        assert_eq!(
            user(r#"{"auths":{"a.b":{"auth":"bWU6Y2FuYXJ5AAA="}}}"#, "a.b").await,
            found
        );
        assert_eq!(
            user(
                r#"{"auths":{"a.b":{"identitytoken":"x","auth":"eA=="}}}"#,
                "a.b"
            )
            .await,
            Some("Identity(…)".into())
        );
        assert_eq!(user(r#"{"auths":{"a.b":{}}}"#, "a.b").await, None);
        assert_eq!(user(r#"{"auths":null}"#, "a.b").await, None);
        assert_eq!(user("{}", "a.b").await, None);
    }

    #[tokio::test]
    async fn the_variable_comes_first_and_every_place_is_named() {
        let variable = format!(r#"{{"auths":{{"a.b":{{"auth":"{AUTH}"}}}}}}"#);
        let variables = [("DOCKER_AUTH_CONFIG", variable.as_str())];
        let found = look(&variables, Some("not json"), "a.b").await.unwrap();
        assert_eq!(found.found.unwrap().1, "`DOCKER_AUTH_CONFIG`");
        let absent = look(&variables, None, "c.d").await.unwrap();
        assert!(absent.found.is_none());
        assert_eq!(absent.looked_in.len(), 2);
        assert!(absent.looked_in[1].ends_with(".docker/config.json`"));
    }

    #[tokio::test]
    async fn a_broken_file_is_named_but_not_quoted() {
        for broken in [
            "",
            "{\"auths\":{\"a.b\":\"canary\"}}",
            "canary",
            r#"{"auths":{"a.b":{"auth":"Y2FuYXJ5"}}}"#,
        ] {
            let error = look(&[], Some(broken), "a.b").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(".docker/config.json"), "{error}");
            assert!(
                !format!("{error} {error:?}").contains("canary"),
                "{error:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_missing_helper_is_an_error_and_not_nobody() {
        let config = format!(
            r#"{{"credHelpers":{{"a.b":"absent-helper"}},"auths":{{"a.b":{{"auth":"{AUTH}"}}}}}}"#
        );
        let error = look(&[("PATH", "/nonexistent")], Some(&config), "a.b")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert_eq!(user(&config, "c.d").await, None);
    }
}
