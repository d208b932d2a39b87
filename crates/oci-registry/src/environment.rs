//! Process environment, passed as an argument.
//!
//! A front end such as a shell plugin may outlive changes of the working directory and of variables. Therefore this
//! crate does not read the process environment; the caller passes variables, home and working directory.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Environment variables, home directory and working directory of the caller.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    home: Option<PathBuf>,
    current_dir: PathBuf,
}

impl Environment {
    /// Creates an environment.
    pub fn new(
        variables: impl IntoIterator<Item = (String, String)>,
        home: Option<PathBuf>,
        current_dir: PathBuf,
    ) -> Self {
        Self {
            variables: variables.into_iter().collect(),
            home,
            current_dir,
        }
    }

    /// Returns the value of a variable that is set and not empty.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Returns all variables, for programs that are run on behalf of the caller.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&String, &String)> {
        self.variables.iter()
    }

    /// Returns the home directory, if there is one.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Returns the working directory.
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    /// Resolves a path relative to the working directory.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.current_dir.join(path)
    }
}

impl fmt::Debug for Environment {
    /// Prints the names of variables only, because values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("home", &self.home)
            .field("current_dir", &self.current_dir)
            .finish()
    }
}
