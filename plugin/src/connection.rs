//! Cache of the HTTP client, keyed by the environment of the shell.
//!
//! The plugin process keeps running when the shell changes its working directory or environment variables, and is not
//! notified of these changes. Every call therefore requests both from the engine. A call reuses the client, with its
//! connections and tokens, only if both are the same as in the previous call.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nu_plugin::EngineInterface;
use nu_protocol::{LabeledError, Value};
use oci_registry::{Cache, Client, ClientOptions, Environment};

use crate::settings::ConnectionSettings;

/// Environment variables that Nushell itself changes between commands. No registry setting depends on them.
const IGNORED_VARIABLES: [&str; 10] = [
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

/// Client of the last call, and the context for which it was created.
#[derive(Default)]
pub(crate) struct ClientCache(Mutex<Option<(ShellContext, Client)>>);

impl fmt::Debug for ClientCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCache").finish_non_exhaustive()
    }
}

impl ClientCache {
    /// Returns the cached client if the context is unchanged, otherwise a new client.
    pub(crate) fn client(&self, context: &ShellContext) -> Client {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((key, client)) if key == context => client.clone(),
            _ => {
                let client = Client::new(context.options());
                *last = Some((context.clone(), client.clone()));
                client
            }
        }
    }
}

/// Inputs of a client: the shell's environment variables and working directory, and the connection settings.
#[derive(Clone, PartialEq, Default)]
pub(crate) struct ShellContext {
    variables: BTreeMap<String, String>,
    current_dir: PathBuf,
    settings: ConnectionSettings,
}

impl ShellContext {
    /// Requests the current environment from the engine.
    pub(crate) fn read(
        engine: &EngineInterface,
        settings: &ConnectionSettings,
    ) -> Result<Self, LabeledError> {
        let variables = engine.get_env_vars()?.into_iter();
        Ok(Self {
            variables: variables
                .filter_map(|(name, value)| convert_variable(name, &value))
                .collect(),
            current_dir: engine.get_current_dir()?.into(),
            settings: settings.clone(),
        })
    }

    /// Returns the working directory of the shell.
    pub(crate) fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    /// Returns the user's cache of registry content, or `None` if there is no home directory.
    pub(crate) fn cache(&self) -> Option<Cache> {
        Cache::for_user(&self.environment())
    }

    /// Converts the context to the environment type of `oci-registry`.
    pub(crate) fn environment(&self) -> Environment {
        let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        Environment::new(
            self.variables.clone(),
            self.variables.get(home).map(PathBuf::from),
            self.current_dir.clone(),
        )
        // The credentials that `cargo oci login` stored are used.
        .with_application("cargo-oci")
    }

    fn options(&self) -> ClientOptions {
        let environment = self.environment();
        let path = |path: &PathBuf| environment.resolve(expand_home(&environment, path));
        let ConnectionSettings {
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

/// Expands a leading `~`.
///
/// Nushell expands `~` in the values of flags, but not in `$env.config`.
fn expand_home(environment: &Environment, path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), environment.home()) {
        (Ok(inside), Some(home)) => home.join(inside),
        _ => path.to_owned(),
    }
}

/// Converts a variable to the form that an external program receives. Returns `None` for a value, such as a record,
/// that cannot be passed to a program.
fn convert_variable(name: String, value: &Value) -> Option<(String, String)> {
    if IGNORED_VARIABLES.contains(&name.as_str()) {
        return None;
    }
    let text = match value {
        Value::List { vals, .. } => {
            let parts: Result<Vec<_>, _> = vals.iter().map(Value::coerce_str).collect();
            parts.ok()?.join(if cfg!(windows) { ";" } else { ":" })
        }
        other => other.coerce_str().ok()?.into_owned(),
    };
    // Nushell ignores the case of `PATH`, and Windows spells the name `Path`.
    let is_path = name.eq_ignore_ascii_case("PATH");
    Some((if is_path { "PATH".into() } else { name }, text))
}

#[cfg(test)]
mod tests {
    use nu_protocol::{Record, Span};

    use super::*;

    #[test]
    fn expand_home_replaces_leading_tilde_only() {
        let home = Some(PathBuf::from("/home/carol"));
        let environment = Environment::new(BTreeMap::new(), home, PathBuf::from("/work"));
        let path = |path: &str| expand_home(&environment, Path::new(path));
        assert_eq!(path("~/certs/a.pem"), Path::new("/home/carol/certs/a.pem"));
        assert_eq!(path("certs/~/a.pem"), Path::new("certs/~/a.pem"));
        assert_eq!(path("~carol/a.pem"), Path::new("~carol/a.pem"));
    }

    #[test]
    fn variable_has_the_form_for_external_programs() {
        let span = Span::test_data();
        let text = |value: &str| Value::string(value, span);
        let read = |name: &str, value: Value| convert_variable(name.to_owned(), &value);
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
