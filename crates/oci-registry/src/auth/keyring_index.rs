//! List of the registries that have an entry in the keyring, so that the keyring is not opened for other registries.
//!
//! The list is a file with one registry per line in the user's configuration directory. It contains no secrets.

use std::collections::BTreeSet;
use std::path::PathBuf;

use snafu::{ResultExt, Snafu};

use super::file_lock::FileLock;
use super::private_file;
use crate::environment::Environment;
use crate::error::{ErrorKind, Failure};
use crate::reference::RegistryName;

#[derive(Debug, Snafu)]
#[snafu(display("failed to write the keyring index `{}`", path.display()))]
struct Error {
    path: PathBuf,
    source: std::io::Error,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Io
    }
}

/// Keyring index of one user.
#[derive(Debug, Clone)]
pub(super) struct KeyringIndex {
    /// Path of the file. `None` if there is no configuration directory.
    path: Option<PathBuf>,
}

impl KeyringIndex {
    /// Returns the keyring index in the user's configuration directory.
    pub(super) fn for_user(environment: &Environment) -> Self {
        let absolute = |name| {
            let path = environment.var(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let at_home = |below: &str| Some(environment.home()?.join(below));
        let base = if cfg!(windows) {
            absolute("APPDATA")
        } else if cfg!(target_os = "macos") {
            absolute("XDG_CONFIG_HOME").or_else(|| at_home("Library/Application Support"))
        } else {
            absolute("XDG_CONFIG_HOME").or_else(|| at_home(".config"))
        };
        Self {
            path: base.map(|base| base.join("oci-registry").join("keyring")),
        }
    }

    /// Whether the path of the index file is known.
    pub(super) fn has_path(&self) -> bool {
        self.path.is_some()
    }

    /// Reads the registries. Lines that are not registry names are ignored.
    pub(super) async fn read(&self) -> crate::Result<BTreeSet<RegistryName>> {
        let Some(path) = &self.path else {
            return Ok(BTreeSet::new());
        };
        let bytes = private_file::read(path, "the keyring index").await?;
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Adds a registry.
    pub(super) async fn add(&self, registry: &RegistryName) -> crate::Result<()> {
        self.change(|names| names.insert(registry.clone())).await
    }

    /// Removes a registry.
    pub(super) async fn remove(&self, registry: &RegistryName) -> crate::Result<()> {
        self.change(|names| names.remove(registry)).await
    }

    /// Locks the index, applies `change`, and writes the index if `change` returns `true`.
    async fn change(
        &self,
        change: impl FnOnce(&mut BTreeSet<RegistryName>) -> bool,
    ) -> crate::Result<()> {
        let _lock = match &self.path {
            Some(path) => Some(FileLock::acquire(path).await?),
            None => None,
        };
        let mut names = self.read().await?;
        if change(&mut names) {
            self.write(&names)?;
        }
        Ok(())
    }

    fn write(&self, names: &BTreeSet<RegistryName>) -> Result<(), Error> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let lines = names.iter().flat_map(|name| [name.as_str(), "\n"]);
        private_file::replace(path, lines.collect::<String>().as_bytes()).context(Snafu { path })
    }
}

#[cfg(test)]
mod tests {
    use super::super::home::Home;
    use super::*;

    #[tokio::test]
    async fn keyring_index_returns_added_registries() {
        let home = Home::new();
        let index = KeyringIndex::for_user(&home.environment());
        let name = |text: &str| text.parse::<RegistryName>().unwrap();
        assert!(index.read().await.unwrap().is_empty());
        index.add(&name("c.d:5000")).await.unwrap();
        index.add(&name("a.b")).await.unwrap();
        let read = KeyringIndex::for_user(&home.environment())
            .read()
            .await
            .unwrap();
        assert_eq!(read, [name("a.b"), name("c.d:5000")].into());
        index.remove(&name("a.b")).await.unwrap();
        assert_eq!(index.read().await.unwrap(), [name("c.d:5000")].into());
        let nowhere = KeyringIndex::for_user(&Environment::default());
        assert!(!nowhere.has_path() && nowhere.read().await.unwrap().is_empty());
    }
}
