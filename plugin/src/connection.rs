//! The client, kept warm while the shell's surroundings stay as they are.
//!
//! A plugin outlives changes of directory and variables, and its own process sees none of them. So they are asked of the
//! engine at every call, and a client with its connections and tokens is used again only while they are the same.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nu_plugin::EngineInterface;
use nu_protocol::{LabeledError, Value};
use oci_registry::{Cache, Client, ClientOptions, Environment};

use crate::settings::Settings;

/// Variables that the shell sets from one command to the next, and that say nothing about registries.
const FLEETING: [&str; 10] = [
    "CMD_DURATION_MS",
    "CURRENT_FILE",
    "DIRS_LIST",
    "DIRS_POSITION",
    "FILE_PWD",
    "LAST_EXIT_CODE",
    "OLDPWD",
    "PROCESS_PATH",
    "PWD",
    "SHLVL",
];

/// The client of the last call.
#[derive(Default)]
pub(crate) struct Connections(Mutex<Option<(Surroundings, Client)>>);

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl Connections {
    /// A client for what the shell is like now.
    pub(crate) fn client(&self, surroundings: &Surroundings) -> Client {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((same, client)) if same == surroundings => client.clone(),
            _ => {
                let client = Client::new(surroundings.options());
                *last = Some((surroundings.clone(), client.clone()));
                client
            }
        }
    }
}

/// Everything that a client is made from.
#[derive(Clone, PartialEq, Default)]
pub(crate) struct Surroundings {
    variables: BTreeMap<String, String>,
    current_dir: PathBuf,
    settings: Settings,
}

impl Surroundings {
    /// What the shell is like now.
    pub(crate) fn read(
        engine: &EngineInterface,
        settings: &Settings,
    ) -> Result<Self, LabeledError> {
        let variables = engine.get_env_vars()?.into_iter();
        Ok(Self {
            variables: variables
                .filter_map(|(name, value)| variable(name, &value))
                .collect(),
            current_dir: engine.get_current_dir()?.into(),
            settings: settings.clone(),
        })
    }

    /// Where relative paths are meant from.
    pub(crate) fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    /// What has been read before, by whoever has this home directory.
    pub(crate) fn cache(&self) -> Option<Cache> {
        Cache::of_user(&self.environment())
    }

    /// The same as the core has it.
    pub(crate) fn environment(&self) -> Environment {
        let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        Environment::new(
            self.variables.clone(),
            self.variables.get(home).map(PathBuf::from),
            self.current_dir.clone(),
        )
    }

    fn options(&self) -> ClientOptions {
        let environment = self.environment();
        let path = |path: &PathBuf| environment.resolve(at_home(&environment, path));
        let Settings {
            ca_file, identity, ..
        } = &self.settings;
        ClientOptions {
            plain_http: self.settings.plain_http,
            attempts: self.settings.retries + 1,
            resolve: self.settings.resolve.clone(),
            ca_file: ca_file.as_ref().map(path),
            identity: identity
                .as_ref()
                .map(|(chain, key)| (path(chain), path(key))),
            ..ClientOptions::new(environment.clone())
        }
    }
}

/// A path of the configuration as the shell means it: there it stays as it was written, of a flag it does not.
fn at_home(environment: &Environment, path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), environment.home()) {
        (Ok(inside), Some(home)) => home.join(inside),
        _ => path.to_owned(),
    }
}

/// A variable as a program would get it; none for what only the shell itself understands.
fn variable(name: String, value: &Value) -> Option<(String, String)> {
    if FLEETING.contains(&name.as_str()) {
        return None;
    }
    let text = match value {
        Value::List { vals, .. } => {
            let parts: Result<Vec<_>, _> = vals.iter().map(Value::coerce_str).collect();
            parts.ok()?.join(if cfg!(windows) { ";" } else { ":" })
        }
        other => other.coerce_str().ok()?.into_owned(),
    };
    // The shell does not mind how it is written, and Windows writes it otherwise.
    let is_path = name.eq_ignore_ascii_case("PATH");
    Some((if is_path { "PATH".into() } else { name }, text))
}

#[cfg(test)]
mod tests {
    use nu_protocol::{Record, Span};

    use super::*;

    #[test]
    fn a_tilde_is_the_home_directory() {
        let home = Some(PathBuf::from("/home/carol"));
        let environment = Environment::new(BTreeMap::new(), home, PathBuf::from("/work"));
        let path = |path: &str| at_home(&environment, Path::new(path));
        assert_eq!(path("~/certs/a.pem"), Path::new("/home/carol/certs/a.pem"));
        assert_eq!(path("certs/~/a.pem"), Path::new("certs/~/a.pem"));
        assert_eq!(path("~carol/a.pem"), Path::new("~carol/a.pem"));
    }

    #[test]
    fn variables_are_what_a_program_would_get() {
        let span = Span::test_data();
        let text = |value: &str| Value::string(value, span);
        let read = |name: &str, value: Value| variable(name.to_owned(), &value);
        let path = Value::list(vec![text("/a"), text("/b")], span);
        let joined = if cfg!(windows) { "/a;/b" } else { "/a:/b" };
        assert_eq!(read("Path", path), Some(("PATH".into(), joined.into())));
        assert_eq!(
            read("N", Value::int(1, span)),
            Some(("N".into(), "1".into()))
        );
        assert_eq!(read("config", Value::record(Record::new(), span)), None);
        assert_eq!(read("PWD", text("/a")), None);
    }
}
