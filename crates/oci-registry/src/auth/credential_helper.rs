//! Credential helpers: programs that store credentials for docker (docker-credential-helpers, "Development").
//!
//! The name of a helper comes from a configuration file that another user may have written, so it must not contain a
//! path. The program is searched in `PATH` only. Its running time and the size of its output are limited, and the
//! output is never shown. A credential is reused until the registry rejects it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value};
use snafu::{OptionExt, ResultExt, Snafu, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Mutex;

use super::{Credential, Lookup, auth_entry};
use crate::environment::Environment;
use crate::error::{ErrorKind, Failure, Hint};
use crate::redact::Secret;

/// Timeout of a helper. A helper may prompt the user to unlock its store.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum size of a helper's output, in bytes.
const MAX_OUTPUT_SIZE: u64 = 64 << 10;

/// User name with which a helper marks an identity token.
pub(super) const TOKEN_USER: &str = "<token>";

/// Output of a helper that has no credential.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Action that stores a credential.
const STORE: &str = "store";

/// Action that erases a credential.
const ERASE: &str = "erase";

/// Error of a helper that a configuration file names.
#[derive(Debug, Snafu)]
#[snafu(display("failed to use the credential helper in {location} for `{server}`"))]
pub(super) struct HelperError {
    server: String,
    location: String,
    source: Error,
}

impl Failure for HelperError {
    fn hints(&self) -> Vec<Hint> {
        let location = &self.location;
        let advice = match &self.source {
            Error::ProgramNotFound { program } => format!(
                "install `{program}`, or remove it from `credsStore` or `credHelpers` in {location}"
            ),
            Error::InvalidName { .. } => {
                format!("correct `credsStore` or `credHelpers` in {location}")
            }
            _ => format!(
                "run the helper manually to see the error, or remove it from `credsStore` or `credHelpers` in {location}"
            ),
        };
        vec![advice.into()]
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Unauthenticated
    }
}

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("refusing to run the credential helper `{}`: the name may contain only ASCII letters, digits, `.`, `_` and `-`", name.escape_debug()))]
    InvalidName { name: String },
    #[snafu(display("failed to find `{program}` in `PATH`"))]
    ProgramNotFound { program: String },
    #[snafu(display("failed to run `{}`", program.display()))]
    Run {
        program: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("`{}` did not finish within {} seconds", program.display(), TIMEOUT.as_secs()))]
    TimedOut { program: PathBuf },
    #[snafu(display("`{}` exited with an error", program.display()))]
    Failed { program: PathBuf },
    #[snafu(display("`{}` returned an invalid credential", program.display()))]
    InvalidOutput { program: PathBuf },
}

/// Credential helpers in the `PATH` of an environment.
pub(super) struct Helpers {
    environment: Environment,
    /// Cached credentials, keyed by helper and server. A missing credential is not cached, because it may be added at
    /// any time.
    cached: Mutex<HashMap<(String, String), Credential>>,
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers").finish_non_exhaustive()
    }
}

impl Helpers {
    pub(super) fn new(environment: Environment) -> Self {
        Self {
            environment,
            cached: Mutex::default(),
        }
    }

    /// Runs the helper `name` for each server in order until it returns a credential. `location` is the file that names
    /// the helper.
    pub(super) async fn find_credential(
        &self,
        name: &str,
        servers: &[&str],
        location: &str,
        is_refused: bool,
    ) -> Result<Lookup, HelperError> {
        let mut found = None;
        for server in servers.iter().copied() {
            found = self
                .get(name, server, is_refused)
                .await
                .context(HelperSnafu { server, location })?;
            if found.is_some() {
                break;
            }
        }
        Ok(Lookup::for_source(
            format!("credential helper `{name}` of {location}"),
            found,
        ))
    }

    async fn get(
        &self,
        name: &str,
        server: &str,
        is_refused: bool,
    ) -> Result<Option<Credential>, Error> {
        let key = (name.to_owned(), server.to_owned());
        let known = self.cached.lock().await.get(&key).cloned();
        if known.is_some() && !is_refused {
            return Ok(known);
        }
        // The cache is not locked while the helper runs, so a helper that prompts the user does not block other
        // requests.
        let credential = self.get_from_helper(name, server).await?;
        let mut cached = self.cached.lock().await;
        match &credential {
            Some(credential) => cached.insert(key, credential.clone()),
            None => cached.remove(&key),
        };
        Ok(credential)
    }

    fn find_program(&self, name: &str) -> Result<PathBuf, Error> {
        let is_plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        ensure!(is_plain && !name.is_empty(), InvalidNameSnafu { name });
        let suffix = std::env::consts::EXE_SUFFIX;
        let program = format!("docker-credential-{name}{suffix}");
        let path = self.environment.var("PATH").unwrap_or_default();
        let mut directories =
            std::env::split_paths(path).filter(|directory| directory.is_absolute());
        let found = directories
            .find_map(|directory| Some(directory.join(&program)).filter(|path| path.is_file()));
        found.context(ProgramNotFoundSnafu { program })
    }

    /// Stores a credential with the helper `name`. `location` is the file that names the helper.
    pub(super) async fn store(
        &self,
        name: &str,
        server: &str,
        location: &str,
        (username, secret): (&str, &Secret),
    ) -> Result<(), HelperError> {
        let document = serde_json::json!({
            "ServerURL": server,
            "Username": username,
            "Secret": secret.expose(),
        });
        self.change(name, STORE, server, &document.to_string())
            .await
            .context(HelperSnafu { server, location })
    }

    /// Erases a credential with the helper `name`. Succeeds if the helper has no such credential.
    pub(super) async fn erase(
        &self,
        name: &str,
        server: &str,
        location: &str,
    ) -> Result<(), HelperError> {
        self.change(name, ERASE, server, server)
            .await
            .context(HelperSnafu { server, location })
    }

    async fn change(
        &self,
        name: &str,
        action: &str,
        server: &str,
        input: &str,
    ) -> Result<(), Error> {
        let (program, output, succeeded) = self.run(name, action, input).await?;
        // If the helper reports that it has no such credential, erasing has succeeded and storing has failed.
        let is_erased = action == ERASE && is_not_found(&output);
        ensure!(succeeded || is_erased, FailedSnafu { program });
        let key = (name.to_owned(), server.to_owned());
        self.cached.lock().await.remove(&key);
        Ok(())
    }

    /// Runs a helper for one action. Returns the path of the program, its output, and whether it succeeded.
    async fn run(
        &self,
        name: &str,
        action: &str,
        input: &str,
    ) -> Result<(PathBuf, Vec<u8>, bool), Error> {
        let program = self.find_program(name)?;
        // The helper does not run in the working directory, because shims of version managers select a program by a
        // file in it.
        let directory = program.parent().unwrap_or(Path::new("/"));
        let mut child = Command::new(&program)
            .arg(action)
            .env_clear()
            .envs(self.environment.variables())
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context(RunSnafu {
                program: program.clone(),
            })?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let run = async {
            if let Some(mut stdin) = stdin {
                // A helper that does not read its input may still respond.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            let mut output = Vec::new();
            if let Some(stdout) = stdout {
                stdout
                    .take(MAX_OUTPUT_SIZE)
                    .read_to_end(&mut output)
                    .await?;
            }
            Ok((output, child.wait().await?))
        };
        let outcome = tokio::time::timeout(TIMEOUT, run)
            .await
            .ok()
            .context(TimedOutSnafu {
                program: program.clone(),
            })?;
        let (output, status) = outcome.context(RunSnafu {
            program: program.clone(),
        })?;
        Ok((program, output, status.success()))
    }

    async fn get_from_helper(&self, name: &str, server: &str) -> Result<Option<Credential>, Error> {
        let (program, output, succeeded) = self.run(name, "get", server).await?;
        if !succeeded {
            ensure!(is_not_found(&output), FailedSnafu { program });
            return Ok(None);
        }
        let credential = parse_output(&output).context(InvalidOutputSnafu { program })?;
        Ok(Some(credential).filter(|credential| !is_empty(credential)))
    }
}

/// Whether a helper printed that it has no credential.
fn is_not_found(output: &[u8]) -> bool {
    String::from_utf8_lossy(output).trim() == NOT_FOUND
}

/// Whether both the user name and the password are empty. As in docker, this means that there is no credential.
fn is_empty(credential: &Credential) -> bool {
    *credential == Credential::from_pair("", "")
}

/// Parses the credential that a helper printed. Unused members must be valid JSON, too.
pub(crate) fn parse_output(output: &[u8]) -> Option<Credential> {
    let output: Map<String, Value> = serde_json::from_slice(output).ok()?;
    let text = |name| auth_entry::member(&output, name)?.as_str();
    let (username, secret) = (text("Username")?, text("Secret")?);
    Some(match username {
        TOKEN_USER => Credential::Identity(Secret::new(secret)),
        _ => Credential::from_pair(username, secret),
    })
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn run_script(script: &str) -> Result<Option<Credential>, Error> {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("docker-credential-test");
        std::fs::write(&program, format!("#!/bin/sh\n{script}")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let environment = Environment::new([("PATH".to_owned(), path)], None, "/".into());
        Helpers::new(environment).get("test", "a.b", false).await
    }

    #[tokio::test]
    async fn helper_output_is_parsed() {
        let basic = run_script(r#"read -r server; echo "{\"ServerURL\":\"$server\",\"Username\":\"$server\",\"Secret\":\"s\"}""#).await;
        let expected = Credential::Basic {
            username: "a.b".into(),
            password: Secret::new("s"),
        };
        assert_eq!(basic.unwrap(), Some(expected));
        let token = run_script(r#"echo '{"Username":"<token>","Secret":"s"}'"#)
            .await
            .unwrap();
        assert_eq!(token, Some(Credential::Identity(Secret::new("s"))));
        assert_eq!(
            run_script(&format!("echo {NOT_FOUND}; exit 1"))
                .await
                .unwrap(),
            None
        );
    }

    #[tokio::test]
    async fn empty_user_name_and_secret_count_as_absent() {
        let found = run_script(r#"echo '{"ServerURL":"a.b","Username":"","Secret":""}'"#).await;
        assert_eq!(found.unwrap(), None);
        let found = run_script(r#"echo '{"Username":"u","Secret":""}'"#).await;
        assert_eq!(found.unwrap(), Some(Credential::from_pair("u", "")));
    }

    #[test]
    fn invalid_helper_output_is_rejected() {
        let expected = Some(Credential::from_pair("u", "s"));
        for (output, expected) in [
            (
                r#"{"ServerURL":"a.b","Username":"u","Secret":"s"}"#,
                expected.clone(),
            ),
            (r#"{"username":"u","SECRET":"s"}"#, expected),
            (r#"{"Username":"u","Secret":"s","Secet":"\ud800"}"#, None),
            (r#"{"Username":"u","Secret":"s","x":1e999}"#, None),
            (r#"{"Username":"u","Secret":"s"}{}"#, None),
            (r#"{"Username":"u","Secret":7}"#, None),
            (r#"{"Username":"u"}"#, None),
            (r#"["u","s"]"#, None),
        ] {
            assert_eq!(parse_output(output.as_bytes()), expected, "{output}");
        }
    }

    #[tokio::test]
    async fn helper_runs_outside_the_working_directory() {
        let output = r#"echo "{\"Username\":\"$(ls)\",\"Secret\":\"s\"}""#;
        let expected = Credential::Basic {
            username: "docker-credential-test".into(),
            password: Secret::new("s"),
        };
        assert_eq!(run_script(output).await.unwrap(), Some(expected));
    }

    #[tokio::test]
    async fn helper_failure_is_an_error_without_secret() {
        let failed = run_script("echo canary; exit 1").await.unwrap_err();
        assert!(matches!(failed, Error::Failed { .. }) && !failed.to_string().contains("canary"));
        let garbage = run_script("echo canary").await.unwrap_err();
        assert!(
            matches!(garbage, Error::InvalidOutput { .. })
                && !garbage.to_string().contains("canary")
        );
        assert!(matches!(
            run_script("yes canary").await.unwrap_err(),
            Error::Failed { .. } | Error::InvalidOutput { .. }
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn unresponsive_helper_times_out() {
        let error = run_script("exec sleep 60").await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn helper_name_with_path_is_rejected() {
        let environment = Environment::new(
            [("PATH".to_owned(), "/usr/bin".to_owned())],
            None,
            "/".into(),
        );
        for name in ["../evil", "a/b", "", "a b", "a\0"] {
            let result = Helpers::new(environment.clone())
                .get(name, "a.b", false)
                .await;
            assert!(matches!(result, Err(Error::InvalidName { .. })), "{name:?}");
        }
        assert!(matches!(
            Helpers::new(environment).get("nope", "a.b", false).await,
            Err(Error::ProgramNotFound { .. })
        ));
    }
}
