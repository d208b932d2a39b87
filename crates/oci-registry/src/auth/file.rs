//! Files of credentials, as docker writes them and podman reads them too.
//!
//! Owns the format, the reading of one bounded file that may be absent, and the two ways to look a registry up in it:
//! docker's (docker/cli, `cli/config/credentials/file_store.go`) and that of the containers library (containers-auth.json(5),
//! "FORMAT"). Does not own where the files lie. A file holds secrets, so what is wrong in one is said by place and never
//! by content.

use std::collections::BTreeMap;
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use snafu::{ResultExt, Snafu, ensure};
use tokio::io::AsyncReadExt;

use super::{Credential, CredentialRequest, Secret};
use crate::error::{ErrorKind, Failure};
use crate::reference::RegistryName;

/// The key under which docker keeps the credential of Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The names of Docker Hub.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Largest file read, in bytes.
const MAX_FILE: u64 = 4 << 20;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display("failed to read the credentials in `{}`", path.display()))]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display(
        "failed to read the credentials in {place}: it has more than {MAX_FILE} bytes"
    ))]
    TooLarge { place: String },
    // The parser's own words can quote the file.
    #[snafu(display(
        "failed to read the credentials in {place}: line {line}, column {column} is not what it should be"
    ))]
    Parse {
        place: String,
        line: usize,
        column: usize,
    },
    #[snafu(display(
        "failed to read the credential of `{}` in {place}: `auth` is not base64 of `user:password`",
        key.escape_debug()
    ))]
    ParseAuth { place: String, key: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::Io,
            Self::TooLarge { .. } | Self::Parse { .. } | Self::ParseAuth { .. } => {
                ErrorKind::InvalidInput
            }
        }
    }
}

/// Reads a file that may be absent.
pub(super) async fn read(path: &Path, place: &str) -> Result<Option<Vec<u8>>, Error> {
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        // A home of `/dev/null` is how some services say that they have none.
        Err(error)
            if matches!(
                error.kind(),
                IoErrorKind::NotFound | IoErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(source) => {
            return Err(Error::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes).await;
    let length = read.context(ReadSnafu { path })? as u64;
    ensure!(length <= MAX_FILE, TooLargeSnafu { place });
    Ok(Some(bytes))
}

/// The key that docker uses for a registry.
pub(super) fn docker_key(registry: &RegistryName) -> &str {
    if HUB.contains(&registry.as_str()) {
        HUB_KEY
    } else {
        registry.as_str()
    }
}

/// What a file says.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct AuthFile {
    auths: Option<Entries>,
    #[serde(rename = "credsStore")]
    creds_store: Option<String>,
    #[serde(rename = "credHelpers")]
    cred_helpers: Option<BTreeMap<String, String>>,
}

type Entries = BTreeMap<String, Option<Entry>>;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// What docker takes in its variable: no field but these.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    auths: Option<BTreeMap<String, Option<VariableEntry>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariableEntry {
    auth: Option<String>,
}

impl AuthFile {
    /// Reads `config.json` or `auth.json`.
    pub(super) fn parse(bytes: &[u8], place: &str) -> Result<Self, Error> {
        parse(bytes, place)
    }

    /// Reads `.dockercfg`, which is what stands below `auths` elsewhere.
    pub(super) fn parse_legacy(bytes: &[u8], place: &str) -> Result<Self, Error> {
        Ok(Self {
            auths: Some(parse(bytes, place)?),
            ..Self::default()
        })
    }

    /// Reads the value of `DOCKER_AUTH_CONFIG`, of which docker takes no more than `auths` with `auth`.
    pub(super) fn parse_variable(text: &str, place: &str) -> Result<Self, Error> {
        let variable: Variable = parse(text.as_bytes(), place)?;
        let entry = |entry: VariableEntry| Entry {
            auth: entry.auth,
            ..Entry::default()
        };
        let auths = variable.auths.unwrap_or_default().into_iter();
        Ok(Self {
            auths: Some(auths.map(|(key, value)| (key, value.map(entry))).collect()),
            ..Self::default()
        })
    }

    /// The helper that docker asks for the registry: its own, else the one for all.
    pub(super) fn docker_helper(&self, registry: &RegistryName) -> Option<&str> {
        self.own_helper(docker_key(registry))
            .or(self.creds_store.as_deref())
            .filter(|name| !name.is_empty())
    }

    /// The helper that podman asks for the registry: there is none for all.
    pub(super) fn containers_helper(&self, registry: &RegistryName) -> Option<&str> {
        self.own_helper(registry.as_str())
            .filter(|name| !name.is_empty())
    }

    fn own_helper(&self, key: &str) -> Option<&str> {
        Some(self.cred_helpers.as_ref()?.get(key)?.as_str())
    }

    /// Docker's rule: the exact key, else a key that is a URL or a path of the same host.
    ///
    /// Docker takes any of several such keys; here it is the closest one above the repository, else the first.
    pub(super) fn docker_entry(
        &self,
        request: &CredentialRequest<'_>,
        place: &str,
    ) -> Result<Option<Credential>, Error> {
        let Some(auths) = &self.auths else {
            return Ok(None);
        };
        let wanted = hub_as_one(request.registry.as_str());
        let exact = auths.get_key_value(docker_key(request.registry));
        let above = || paths(request).find_map(|path| auths.get_key_value(path.as_str()));
        let same_host = || {
            let mut keys = auths.iter();
            keys.find(|(key, _)| hub_as_one(hostname(key)) == wanted)
        };
        credential(exact.or_else(above).or_else(same_host), place)
    }

    /// The rule of the containers library: the longest key that is the repository or above it, else a key that is a URL
    /// of the same host. In a legacy file every key is a URL, with its scheme or without.
    pub(super) fn containers_entry(
        &self,
        request: &CredentialRequest<'_>,
        place: &str,
        is_legacy: bool,
    ) -> Result<Option<Credential>, Error> {
        let Some(auths) = &self.auths else {
            return Ok(None);
        };
        let wanted = hub_as_one(request.registry.as_str());
        let normalised = || {
            auths.iter().find(|(key, _)| {
                let is_url = is_legacy || without_scheme(key) != *key;
                let host = if is_url { hostname(key) } else { key.as_str() };
                hub_as_one(host) == wanted
            })
        };
        let found = paths(request).find_map(|path| auths.get_key_value(path.as_str()));
        credential(found.or_else(normalised), place)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], place: &str) -> Result<T, Error> {
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

/// The repository with its registry, then what is above it, up to the registry.
fn paths<'a>(request: &CredentialRequest<'a>) -> impl Iterator<Item = String> + use<'a> {
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

fn without_scheme(key: &str) -> &str {
    let stripped = key.strip_prefix("https://");
    stripped
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
}

/// The host, and port if any, of a key: keys may be URLs.
fn hostname(key: &str) -> &str {
    let rest = without_scheme(key);
    rest.split('/').next().unwrap_or(rest)
}

/// One name for Docker Hub's several.
fn hub_as_one(host: &str) -> &str {
    if HUB.contains(&host) { HUB[0] } else { host }
}

fn credential(
    found: Option<(&String, &Option<Entry>)>,
    place: &str,
) -> Result<Option<Credential>, Error> {
    let Some((key, Some(entry))) = found else {
        return Ok(None);
    };
    entry
        .credential()
        .map_err(|Unreadable| ParseAuthSnafu { place, key }.build())
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
            return Ok(Some(Credential::from_pair(
                username,
                password.trim_end_matches('\0'),
            )));
        }
        let pair = filled(&self.username).zip(filled(&self.password));
        Ok(pair.map(|(username, password)| Credential::from_pair(username, password)))
    }
}

/// An entry's `auth` is not what it should be; what it is stays unsaid.
struct Unreadable;
