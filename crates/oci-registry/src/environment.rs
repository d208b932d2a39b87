//! Process environment as an argument: variables, home directory, working directory, and the name of the application.
//!
//! A front end may run for as long as a shell session, during which its variables and working directory change.
//! Therefore, the operations of this crate do not read the environment of the process. The exceptions are the keyring,
//! the AWS SDK and the system's directory for temporary files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Variables, home directory and working directory of a caller.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    home: Option<PathBuf>,
    current_dir: PathBuf,
    application: Option<String>,
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
            application: None,
        }
    }

    /// Sets the name of the application. It is the service name of keyring entries and the session name of AWS
    /// requests. The default is the name of this crate.
    #[must_use]
    pub fn with_application(mut self, name: impl Into<String>) -> Self {
        self.application = Some(name.into());
        self
    }

    /// Returns the name of the application.
    pub fn application(&self) -> &str {
        self.application
            .as_deref()
            .unwrap_or(env!("CARGO_PKG_NAME"))
    }

    /// Returns the value of a variable. Returns `None` if it is unset or empty.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Returns all variables, for child processes.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&String, &String)> {
        self.variables.iter()
    }

    /// Returns the home directory; `None` if it is unknown.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Returns the working directory.
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    /// Resolves a relative path against the working directory.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.current_dir.join(path)
    }
}

impl fmt::Debug for Environment {
    /// Prints the names of the variables only, because values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("home", &self.home)
            .field("current_dir", &self.current_dir)
            .field("application", &self.application)
            .finish()
    }
}
