//! User defaults for all projects: `oci.toml` in cargo's home directory.
//!
//! ```toml
//! registry = "ghcr.io/acme"
//!
//! [registries."registry.example.com:5000"]
//! plain-http = true
//! ca-file = "ca.pem"
//! cert-file = "me.pem"
//! key-file = "me.key"
//! ```
//!
//! Relative paths refer to the directory of the file. The file has the lowest precedence: flags, environment variables
//! and manifests override it. A connection flag applies to all registries, including those in the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_registry::{RegistryName, RegistryOptions};
use serde::Deserialize;

use crate::cargo;
use crate::options::CommonOptions;
use crate::report::Error;

/// Name of the file in cargo's home directory.
const FILE_NAME: &str = "oci.toml";

/// Maximum size of `oci.toml`, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// Contents of `oci.toml`. A missing file counts as empty.
#[derive(Debug, Default)]
pub(crate) struct Defaults {
    /// Path of `oci.toml`.
    pub(crate) file: PathBuf,
    /// Registry to publish to, if no flag, environment variable or manifest sets one.
    pub(crate) registry: Option<String>,
    registries: BTreeMap<RegistryName, Connection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultsFile {
    registry: Option<String>,
    #[serde(default)]
    registries: BTreeMap<String, Connection>,
}

/// Connection settings of one registry.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Connection {
    plain_http: Option<bool>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

impl DefaultsFile {
    /// Returns a registry or path in the file that contains a control character, if any.
    fn value_with_control_character(&self) -> Option<&str> {
        let files = self.registries.values().flat_map(|connection| {
            [
                &connection.ca_file,
                &connection.cert_file,
                &connection.key_file,
            ]
        });
        let files = files.flatten().filter_map(|file| file.to_str());
        let mut values = files.chain(self.registry.as_deref());
        values.find(|value| value.contains(char::is_control))
    }
}

impl Defaults {
    /// Reads `oci.toml` in cargo's home directory, if it exists.
    pub(crate) fn for_user(environment: &cargo::CargoEnvironment) -> Result<Self, Error> {
        let Some(home) = cargo::cargo_home(environment) else {
            return Ok(Self::default());
        };
        let file = home.join(FILE_NAME);
        match oci_registry::read_input_text(&file, MAX_SIZE) {
            Ok(text) => Self::parse(&text, file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => {
                let message = format!("failed to read `{}`", file.display());
                Err(Error::from_io(message, error).help("check its permissions, or remove it"))
            }
        }
    }

    fn parse(text: &str, file: PathBuf) -> Result<Self, Error> {
        let invalid = |reason: &dyn std::fmt::Display| {
            Error::usage(format!("failed to read `{}`: {reason}", file.display()))
        };
        let document: DefaultsFile = toml::from_str(text).map_err(|error| {
            let at = error.span().map(|span| text[..span.start].matches('\n').count());
            let line = at.map_or_else(String::new, |at| format!(" in line {}", at + 1));
            invalid(&format_args!("{}{line}", error.message())).help(
                "use only the keys `registry`, and `plain-http`, `ca-file`, `cert-file` and `key-file` in `[registries.\"HOST\"]`",
            )
        })?;
        if let Some(value) = document.value_with_control_character() {
            let reason = format!("`{}` contains a control character", value.escape_debug());
            return Err(invalid(&reason).help("write the value in one line"));
        }
        let mut registries = BTreeMap::new();
        for (name, connection) in document.registries {
            let name: RegistryName = name.parse().map_err(|error| {
                invalid(&error).help("write HOST or HOST:PORT, in quotes, after `registries.`")
            })?;
            if connection.cert_file.is_some() != connection.key_file.is_some() {
                let reason = format!("`{name}` has only one of `cert-file` and `key-file`");
                return Err(invalid(&reason).help("set both, or neither"));
            }
            registries.insert(name, connection);
        }
        Ok(Self {
            file,
            registry: document.registry.filter(|registry| !registry.is_empty()),
            registries,
        })
    }

    /// Returns the directory of `oci.toml`, to which relative paths in the file refer.
    pub(crate) fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Returns the connection settings of each registry in the file. A connection flag overrides the corresponding
    /// setting of all registries.
    pub(crate) fn connections(
        &self,
        flags: &CommonOptions,
    ) -> BTreeMap<RegistryName, RegistryOptions> {
        let resolve = |path: PathBuf| self.directory().join(path);
        let has_plain_http = flags.plain_http.is_some();
        let (has_ca, has_identity) = (flags.ca_file.is_some(), flags.cert_file.is_some());
        let options = self.registries.iter().map(|(name, connection)| {
            let connection = connection.clone();
            let identity = connection.cert_file.zip(connection.key_file);
            // Certificates require TLS, which `--plain-http` disables.
            let is_plain = flags.plain_http == Some(true);
            let ca_file = connection.ca_file.filter(|_| !has_ca && !is_plain);
            let options = RegistryOptions {
                plain_http: connection
                    .plain_http
                    .filter(|_| !has_plain_http && !has_ca && !has_identity),
                ca_files: ca_file.map(resolve).into_iter().collect(),
                identity: identity
                    .filter(|_| !has_identity && !is_plain)
                    .map(|(chain, key)| (resolve(chain), resolve(key))),
            };
            (name.clone(), options)
        });
        options.collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn parse(text: &str) -> Result<Defaults, String> {
        let parsed = Defaults::parse(text, "/home/me/.cargo/oci.toml".into());
        parsed.map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn connection_paths_are_resolved_and_flags_override() {
        let defaults = parse(
            "registry = \"ghcr.io/acme\"\n[registries.\"A.b:5000\"]\nplain-http = false\n\
             ca-file = \"ca.pem\"\ncert-file = \"/me.pem\"\nkey-file = \"me.key\"\n",
        );
        let defaults = defaults.expect("a document");
        assert_eq!(defaults.registry.as_deref(), Some("ghcr.io/acme"));
        let with = |flags: &[&str]| {
            let line = ["cargo-oci", "tags", "a.b/c"].iter().chain(flags);
            let cli = Cli::try_parse_from(line).expect("a command line");
            let connections = defaults.connections(&cli.global);
            let name = "a.b:5000".parse().expect("a registry");
            let options = connections[&name].clone();
            (
                options.plain_http,
                options
                    .ca_files
                    .first()
                    .map(|path| path.display().to_string()),
                options
                    .identity
                    .map(|(chain, key)| (chain.display().to_string(), key.display().to_string())),
            )
        };
        let ca = Some("/home/me/.cargo/ca.pem".to_owned());
        let identity = Some(("/me.pem".to_owned(), "/home/me/.cargo/me.key".to_owned()));
        assert_eq!(with(&[]), (Some(false), ca.clone(), identity.clone()));
        assert_eq!(with(&["--plain-http"]), (None, None, None));
        assert_eq!(
            with(&["--plain-http=false"]),
            (None, ca.clone(), identity.clone())
        );
        assert_eq!(with(&["--ca-file=x"]), (None, None, identity));
        assert_eq!(with(&["--cert-file=x", "--key-file=y"]), (None, ca, None));
    }

    #[test]
    fn invalid_file_is_rejected_with_problem_and_path() {
        for (text, expected) in [
            ("registery = \"a\"", "unknown field `registery`"),
            ("registry = \"oci:x\\n\"", "contains a control character"),
            (
                "registries.\"a.b\".ca-file = \"x\\ty\"",
                "contains a control character",
            ),
            ("\n[registries.\"a.b\"]\nplain = true", "in line 3"),
            ("registry = 1", "expected a string"),
            ("[registries.\"a b\"]", "a b"),
            (
                "[registries.\"a.b\"]\ncert-file = \"x\"",
                "`cert-file` and `key-file`",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("oci.toml"), "{error}");
        }
    }
}
