//! Editor of docker's `config.json`, which keeps all other members and their order.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::value::RawValue;
use snafu::{ResultExt, Snafu};

use super::auth_file::{self, AuthFile};
use super::file_lock::FileLock;
use super::{Credential, private_file, registry_key};
use crate::error::{ErrorKind, Failure};
use crate::reference::RegistryName;

/// Member that holds the entries of registries.
const AUTHS: &str = "auths";

#[derive(Debug, Snafu)]
#[snafu(display("failed to write {place}"))]
struct Error {
    place: String,
    source: std::io::Error,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Io
    }
}

/// Docker's `config.json`. Unchanged members keep their exact text.
pub(super) struct DockerConfig {
    auth_file: AuthFile,
    members: IndexMap<String, Value>,
}

/// Value that is kept unchanged, or a table whose entries can be changed.
#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    Raw(Box<RawValue>),
    Table(IndexMap<String, Self>),
}

impl Value {
    fn table(&self) -> Option<&IndexMap<String, Self>> {
        match self {
            Self::Table(entries) => Some(entries),
            Self::Raw(_) => None,
        }
    }

    fn table_mut(&mut self) -> Option<&mut IndexMap<String, Self>> {
        match self {
            Self::Table(entries) => Some(entries),
            Self::Raw(_) => None,
        }
    }
}

impl DockerConfig {
    /// Reads a file. An absent one is read as empty.
    pub(super) async fn read(path: &Path, place: &str) -> crate::Result<Self> {
        let bytes = private_file::read(path, place).await?.unwrap_or_default();
        // An empty file is read like an absent one.
        let bytes = if bytes.trim_ascii().is_empty() {
            b"{}".to_vec()
        } else {
            bytes
        };
        let auth_file = AuthFile::parse(&bytes, place)?;
        let raw: IndexMap<String, Box<RawValue>> = auth_file::parse(&bytes, place)?;
        let mut members = IndexMap::new();
        for (key, value) in raw {
            let value = if key.eq_ignore_ascii_case(AUTHS) {
                let entries: Option<IndexMap<String, Box<RawValue>>> =
                    auth_file::parse(value.get().as_bytes(), place)?;
                let entries = entries.unwrap_or_default().into_iter();
                Value::Table(
                    entries
                        .map(|(key, entry)| (key, Value::Raw(entry)))
                        .collect(),
                )
            } else {
                Value::Raw(value)
            };
            members.insert(key, value);
        }
        Ok(Self { auth_file, members })
    }

    /// Returns the file as credential sources read it.
    pub(super) fn auth_file(&self) -> &AuthFile {
        &self.auth_file
    }

    /// Changes a file under its lock. `change` returns whether it has changed anything.
    pub(super) async fn update(
        path: &Path,
        place: &str,
        change: impl FnOnce(&mut Self) -> bool,
    ) -> crate::Result<()> {
        let _lock = FileLock::acquire(path).await?;
        let mut config = Self::read(path, place).await?;
        if change(&mut config) {
            config.write(path, place)?;
        }
        Ok(())
    }

    /// Whether there is an entry that [`DockerConfig::remove_entries`] would remove.
    pub(super) fn has_entry(&self, registry: &RegistryName) -> bool {
        let mut keys = self.members.values().filter_map(Value::table).flatten();
        keys.any(|(key, _)| registry_key::is_key_of(key, registry))
    }

    /// Adds an entry to the first member that has entries, which is added if there is none. Without a credential, the
    /// entry is empty: a helper has the credential.
    pub(super) fn set_entry(&mut self, key: &str, credential: Option<&Credential>) {
        let entry = credential.map(entry).unwrap_or_default();
        let mut tables = self.members.values_mut().filter_map(Value::table_mut);
        if let Some(entries) = tables.next() {
            entries.insert(key.to_owned(), Value::Table(entry));
        } else {
            let entries = IndexMap::from([(key.to_owned(), Value::Table(entry))]);
            self.members.insert(AUTHS.to_owned(), Value::Table(entries));
        }
    }

    /// Removes the entries of a registry under all its names, except those of single repositories. Returns whether
    /// there were any.
    pub(super) fn remove_entries(&mut self, registry: &RegistryName) -> bool {
        let mut is_changed = false;
        for entries in self.members.values_mut().filter_map(Value::table_mut) {
            let before = entries.len();
            entries.retain(|key, _| !registry_key::is_key_of(key, registry));
            is_changed |= entries.len() < before;
        }
        is_changed
    }

    fn write(&self, path: &Path, place: &str) -> Result<(), Error> {
        let mut text = Vec::new();
        // docker indents with tabs.
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        self.members
            .serialize(&mut serializer)
            .expect("what was read as JSON can be written");
        private_file::replace(path, &text).context(Snafu { place })
    }
}

/// Returns the entry for docker's file.
fn entry(credential: &Credential) -> IndexMap<String, Value> {
    let (key, text) = match credential {
        Credential::Basic { username, password } => {
            let pair = format!("{username}:{}", password.expose());
            ("auth", STANDARD.encode(pair))
        }
        Credential::Identity(token) | Credential::Registry(token) => {
            ("identitytoken", token.expose().to_owned())
        }
    };
    let text = serde_json::value::to_raw_value(&text).expect("a text is JSON");
    IndexMap::from([(key.to_owned(), Value::Raw(text))])
}
