//! Files of credentials, as docker writes them and podman reads them too.
//!
//! Owns the format, the reading of one bounded file that may be absent, and the two ways to look a registry up in it:
//! docker's (docker/cli, `cli/config/credentials/file_store.go`) and that of the containers library (containers-auth.json(5),
//! "FORMAT"). Does not own where the files lie. A file holds secrets, so what is wrong in one is said by place and never
//! by content.

use std::collections::BTreeMap;
use std::io::{ErrorKind as IoErrorKind, Write as _};
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
use crate::file::open_input;
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
pub(crate) enum Error {
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
    fn help(&self) -> Vec<String> {
        match self {
            Self::Read { .. } => vec!["check its permissions".into()],
            Self::TooLarge { .. } | Self::Parse { .. } => vec![
                "mend it or take it away: it is JSON, as docker writes it to its `config.json`"
                    .into(),
            ],
            Self::ParseAuth { key, .. } => vec![format!(
                "take the entry away, and log in to `{}` again",
                key.escape_debug()
            )],
        }
    }

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
    let file = match open_input(path) {
        Ok(file) => tokio::fs::File::from_std(file),
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

/// The registries that a file names; none where it cannot be read.
pub(super) async fn registries(
    path: &Path,
    parse: impl Fn(&[u8], &str) -> Result<AuthFile, Error>,
) -> Vec<RegistryName> {
    let bytes = read(path, "").await.ok().flatten();
    let file = bytes.and_then(|bytes| parse(&bytes, "").ok());
    file.map(|file| file.registries()).unwrap_or_default()
}

/// The directory of a file, made for nobody but its owner where it is not there.
pub(super) fn own_directory(path: &Path) -> std::io::Result<&Path> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    Ok(directory)
}

/// Gives a file this content at once, readable for its owner only. A link stays, and what it leads to is replaced.
pub(super) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let path = behind_links(path)?;
    let directory = own_directory(&path)?;
    // Made with mode 0600 where there are modes.
    let mut staged = tempfile::NamedTempFile::new_in(directory)?;
    staged.write_all(content)?;
    staged.as_file().sync_all()?;
    staged.persist(&path)?;
    Ok(())
}

/// Where a path leads, which need not be there.
pub(super) fn behind_links(path: &Path) -> std::io::Result<PathBuf> {
    const LONGEST_CHAIN: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LONGEST_CHAIN {
        match std::fs::read_link(&path) {
            Ok(next) => path = path.parent().unwrap_or(Path::new(".")).join(next),
            // No link, or nothing at all.
            Err(_) => return Ok(path),
        }
    }
    Err(std::io::Error::other("too many links"))
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
pub(crate) struct AuthFile {
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

/// Whether a key of docker's file stands for a whole registry: its name, or a URL of it.
pub(super) fn is_key_of(key: &str, registry: &RegistryName) -> bool {
    let path = key
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let rest = path
        .split_once('/')
        .map(|(_, rest)| rest.trim_end_matches('/'));
    let is_whole = matches!(rest, None | Some("" | "v1" | "v2"));
    is_whole && hub_as_one(hostname(key)) == hub_as_one(registry.as_str())
}

impl AuthFile {
    /// Reads `config.json` or `auth.json`.
    pub(crate) fn parse(bytes: &[u8], place: &str) -> Result<Self, Error> {
        parse(bytes, place)
    }

    /// Reads `.dockercfg`, which is what stands below `auths` elsewhere.
    pub(crate) fn parse_legacy(bytes: &[u8], place: &str) -> Result<Self, Error> {
        Ok(Self {
            auths: Some(parse(bytes, place)?),
            ..Self::default()
        })
    }

    /// Reads the value of `DOCKER_AUTH_CONFIG`, of which docker takes no more than `auths` with `auth`.
    pub(crate) fn parse_variable(text: &str, place: &str) -> Result<Self, Error> {
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

    /// The registries that have an entry or a helper of their own. An entry is there also where a helper has the credential.
    pub(super) fn registries(&self) -> Vec<RegistryName> {
        let auths = self.auths.iter().flat_map(BTreeMap::keys);
        let helpers = self.cred_helpers.iter().flat_map(BTreeMap::keys);
        let hosts = auths.chain(helpers).map(|key| hub_as_one(hostname(key)));
        hosts.filter_map(|host| host.parse().ok()).collect()
    }

    /// The helper that docker asks for the registry: its own, else the one for all.
    pub(crate) fn docker_helper(&self, registry: &RegistryName) -> Option<&str> {
        self.own_helper(docker_key(registry))
            .or(self.creds_store.as_deref())
            .filter(|name| !name.is_empty())
    }

    /// The helper that podman asks for the registry: there is none for all.
    pub(crate) fn containers_helper(&self, registry: &RegistryName) -> Option<&str> {
        self.own_helper(registry.as_str())
            .filter(|name| !name.is_empty())
    }

    fn own_helper(&self, key: &str) -> Option<&str> {
        Some(self.cred_helpers.as_ref()?.get(key)?.as_str())
    }

    /// Docker's rule: the exact key, else a key that is a URL or a path of the same host.
    ///
    /// Docker takes any of several such keys; here it is the closest one above the repository, else the first.
    pub(crate) fn docker_entry(
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
    pub(crate) fn containers_entry(
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

#[cfg(test)]
mod tests {
    use super::super::home::{AUTH, Home};
    use super::*;

    /// The user in whose name the entry is that a rule finds in a file of these keys, each with itself as the user.
    fn finds(
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
    fn docker_s_rule() {
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
            // A path stands for its host, and the repository's own goes first.
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
            (&[], "ghcr.io", None),
        ] {
            let found = finds(docker, keys, name);
            assert_eq!(found.as_deref(), expected, "{keys:?} {name}");
        }
    }

    #[test]
    fn podman_s_rule() {
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
            // A path is for what is below it only.
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
        ] {
            let found = finds(of(false), keys, name);
            assert_eq!(found.as_deref(), expected, "{keys:?} {name}");
        }
        // In a legacy file a path is what is left of a URL.
        for (keys, name, expected) in [
            (&["quay.io/v1/"][..], "quay.io/org", Some("quay.io/v1/")),
            (
                &["https://quay.io/v1/"],
                "quay.io",
                Some("https://quay.io/v1/"),
            ),
            (&["quay.io"], "quay.io.example", None),
        ] {
            let found = finds(of(true), keys, name);
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
    fn entries() {
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
            // Zeros behind it, and no padding.
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
            // Azure's way of saying that the password is an identity token.
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
    fn what_is_broken_is_named_and_not_quoted() {
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
    fn the_variable_has_no_field_but_docker_s() {
        let parse = |text: &str| AuthFile::parse_variable(text, "a variable");
        let good = format!(r#"{{"auths":{{"a.b":{{"auth":"{AUTH}"}}}}}}"#);
        for text in [&good, r#"{"auths":{}}"#, "{}"] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in [
            &format!("{good}{good}"),
            r#"{"auths":{},"credsStore":"x"}"#,
            r#"{"auths":{"a.b":{"auth":"","identitytoken":"x"}}}"#,
            "[",
            "x",
        ] {
            assert!(matches!(parse(text), Err(Error::Parse { .. })), "{text}");
        }
    }

    #[tokio::test]
    async fn absent_files_are_no_files_and_large_ones_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.json");
        assert_eq!(read(&path, "p").await.unwrap(), None);
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path, "p").await.unwrap().unwrap(), b"{}");
        assert_eq!(read(&path.join("below"), "p").await.unwrap(), None);
        assert!(matches!(
            read(home.path(), "p").await,
            Err(Error::Read { .. })
        ));
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(
            read(&path, "p").await,
            Err(Error::TooLarge { .. })
        ));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_and_the_file_is_its_owner_s() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let home = Home::new();
        let at = |name: &str| home.path().join(name);
        symlink("real/file", at("link")).unwrap();
        for content in ["one", "two"] {
            replace(&at("link"), content.as_bytes()).unwrap();
            assert!(at("link").is_symlink());
            assert_eq!(std::fs::read_to_string(at("real/file")).unwrap(), content);
        }
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("real/file"), mode("real")), (0o600, 0o700));
        symlink("loop", at("loop")).unwrap();
        assert!(replace(&at("loop"), b"x").is_err());
    }
}
