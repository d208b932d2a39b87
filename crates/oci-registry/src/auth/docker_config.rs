//! Editor of docker's `config.json`. Members that are not edited keep their text and their order.

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

/// Member that contains the entries of registries.
const AUTHS: &str = "auths";

#[derive(Debug, Snafu)]
#[snafu(display("failed to write the credentials in {location}"))]
struct Error {
    location: String,
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
    members: IndexMap<String, MemberValue>,
}

/// Value of a member: JSON text that is kept unchanged, or an object whose entries can be changed.
#[derive(Serialize)]
#[serde(untagged)]
enum MemberValue {
    Raw(Box<RawValue>),
    Object(IndexMap<String, Self>),
}

impl MemberValue {
    fn as_object(&self) -> Option<&IndexMap<String, Self>> {
        match self {
            Self::Object(entries) => Some(entries),
            Self::Raw(_) => None,
        }
    }

    fn as_object_mut(&mut self) -> Option<&mut IndexMap<String, Self>> {
        match self {
            Self::Object(entries) => Some(entries),
            Self::Raw(_) => None,
        }
    }
}

impl DockerConfig {
    /// Reads a file. A missing file is read as an empty object.
    pub(super) async fn read(path: &Path, location: &str) -> crate::Result<Self> {
        let bytes = private_file::read(path, location)
            .await?
            .unwrap_or_default();
        // An empty file is read like a missing file.
        let bytes = if bytes.trim_ascii().is_empty() {
            b"{}".to_vec()
        } else {
            bytes
        };
        let auth_file = AuthFile::parse(&bytes, location)?;
        let raw: IndexMap<String, Box<RawValue>> = auth_file::parse(&bytes, location)?;
        let mut members = IndexMap::new();
        for (key, value) in raw {
            let value = if key.eq_ignore_ascii_case(AUTHS) {
                let entries: Option<IndexMap<String, Box<RawValue>>> =
                    auth_file::parse(value.get().as_bytes(), location)?;
                let entries = entries.unwrap_or_default().into_iter();
                MemberValue::Object(
                    entries
                        .map(|(key, entry)| (key, MemberValue::Raw(entry)))
                        .collect(),
                )
            } else {
                MemberValue::Raw(value)
            };
            members.insert(key, value);
        }
        Ok(Self { auth_file, members })
    }

    /// Returns the parsed file, which the credential sources use as well.
    pub(super) fn auth_file(&self) -> &AuthFile {
        &self.auth_file
    }

    /// Locks a file, applies `change` to its content, and writes the file if `change` returns `true`.
    pub(super) async fn update(
        path: &Path,
        location: &str,
        change: impl FnOnce(&mut Self) -> bool,
    ) -> crate::Result<()> {
        let _lock = FileLock::acquire(path).await?;
        let mut config = Self::read(path, location).await?;
        if change(&mut config) {
            config.write(path, location)?;
        }
        Ok(())
    }

    /// Whether the file has an entry that [`DockerConfig::remove_entries`] would remove.
    pub(super) fn has_entry(&self, registry: &RegistryName) -> bool {
        let mut keys = self
            .members
            .values()
            .filter_map(MemberValue::as_object)
            .flatten();
        keys.any(|(key, _)| registry_key::is_key_of(key, registry))
    }

    /// Adds an entry to the member `auths`, and adds this member if it is missing. If `credential` is `None`, the entry
    /// is empty, which means that a helper stores the credential.
    pub(super) fn set_entry(&mut self, key: &str, credential: Option<&Credential>) {
        let entry = credential.map(new_entry).unwrap_or_default();
        let mut objects = self
            .members
            .values_mut()
            .filter_map(MemberValue::as_object_mut);
        if let Some(entries) = objects.next() {
            entries.insert(key.to_owned(), MemberValue::Object(entry));
        } else {
            let entries = IndexMap::from([(key.to_owned(), MemberValue::Object(entry))]);
            self.members
                .insert(AUTHS.to_owned(), MemberValue::Object(entries));
        }
    }

    /// Removes the entries of a registry under all its names, except entries of single repositories. Returns whether an
    /// entry was removed.
    pub(super) fn remove_entries(&mut self, registry: &RegistryName) -> bool {
        let mut is_changed = false;
        for entries in self
            .members
            .values_mut()
            .filter_map(MemberValue::as_object_mut)
        {
            let before = entries.len();
            entries.retain(|key, _| !registry_key::is_key_of(key, registry));
            is_changed |= entries.len() < before;
        }
        is_changed
    }

    fn write(&self, path: &Path, location: &str) -> Result<(), Error> {
        let mut text = Vec::new();
        // docker indents with tabs.
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        self.members
            .serialize(&mut serializer)
            .expect("members that were parsed from JSON serialize");
        private_file::replace(path, &text).context(Snafu { location })
    }
}

/// Creates the entry for a credential, in docker's format.
fn new_entry(credential: &Credential) -> IndexMap<String, MemberValue> {
    let (key, text) = match credential {
        Credential::Basic { username, password } => {
            let pair = format!("{username}:{}", password.expose());
            ("auth", STANDARD.encode(pair))
        }
        Credential::Identity(token) | Credential::Registry(token) => {
            ("identitytoken", token.expose().to_owned())
        }
    };
    let text = serde_json::value::to_raw_value(&text).expect("a string serializes");
    IndexMap::from([(key.to_owned(), MemberValue::Raw(text))])
}
