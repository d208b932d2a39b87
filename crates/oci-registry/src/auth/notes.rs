//! Which registries have an entry in the keyring: a small file, so that the keyring is not opened for the others.
//!
//! One registry a line. It holds nothing secret, and lies where the operating system's conventions have configuration.

use std::collections::BTreeSet;
use std::path::PathBuf;

use snafu::{ResultExt, Snafu};

use super::file;
use super::turn::Turn;
use crate::environment::Environment;
use crate::error::{ErrorKind, Failure};
use crate::reference::RegistryName;

#[derive(Debug, Snafu)]
#[snafu(display("failed to write `{}`, where it is noted whose credentials are in the keyring", path.display()))]
struct Error {
    path: PathBuf,
    source: std::io::Error,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Io
    }
}

/// The notes of one user.
#[derive(Debug, Clone)]
pub(super) struct Notes {
    /// Absent where there is no place for them: then there are none.
    path: Option<PathBuf>,
}

impl Notes {
    pub(super) fn of_user(environment: &Environment) -> Self {
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

    /// Whether there is a place for them.
    pub(super) fn can_be_kept(&self) -> bool {
        self.path.is_some()
    }

    /// All registries that are noted. A line that is none is passed over.
    pub(super) async fn read(&self) -> crate::Result<BTreeSet<RegistryName>> {
        let Some(path) = &self.path else {
            return Ok(BTreeSet::new());
        };
        let bytes = file::read(path, "the notes about the keyring").await?;
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    pub(super) async fn add(&self, registry: &RegistryName) -> crate::Result<()> {
        self.change(|names| names.insert(registry.clone())).await
    }

    pub(super) async fn remove(&self, registry: &RegistryName) -> crate::Result<()> {
        self.change(|names| names.remove(registry)).await
    }

    /// Changes them while no other process of this program does.
    async fn change(
        &self,
        change: impl FnOnce(&mut BTreeSet<RegistryName>) -> bool,
    ) -> crate::Result<()> {
        let _turn = match &self.path {
            Some(path) => Some(Turn::wait(path).await?),
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
        file::replace(path, lines.collect::<String>().as_bytes()).context(Snafu { path })
    }
}

#[cfg(test)]
mod tests {
    use super::super::home::Home;
    use super::*;

    #[tokio::test]
    async fn what_is_noted_is_read_by_whoever_comes_later() {
        let home = Home::new();
        let notes = Notes::of_user(&home.environment());
        let name = |text: &str| text.parse::<RegistryName>().unwrap();
        assert!(notes.read().await.unwrap().is_empty());
        notes.add(&name("c.d:5000")).await.unwrap();
        notes.add(&name("a.b")).await.unwrap();
        let read = Notes::of_user(&home.environment()).read().await.unwrap();
        assert_eq!(read, [name("a.b"), name("c.d:5000")].into());
        notes.remove(&name("a.b")).await.unwrap();
        assert_eq!(notes.read().await.unwrap(), [name("c.d:5000")].into());
        let nowhere = Notes::of_user(&Environment::default());
        assert!(!nowhere.can_be_kept() && nowhere.read().await.unwrap().is_empty());
    }
}
