//! Credential helpers: programs that keep credentials for docker (docker-credential-helpers, "Development").
//!
//! The name comes from a configuration file that others may have written, so it must be a plain name; the program is
//! searched on the path only; it gets little time, and little of what it prints is read and nothing of it is shown.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use snafu::{OptionExt, ResultExt, Snafu, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{Credential, Secret};
use crate::environment::Environment;

/// How long a helper may take: it may ask a person to unlock something.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How much of a helper's answer is read, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// The user name under which a helper hands out an identity token.
const TOKEN_USER: &str = "<token>";

/// What a helper says when it has nothing.
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display("refused to run the credential helper `{}`: it is not a plain name", name.escape_debug()))]
    Name { name: String },
    #[snafu(display("failed to find `{program}` on the path"))]
    Absent { program: String },
    #[snafu(display("failed to run `{}`", program.display()))]
    Run {
        program: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("gave up on `{}` after {} seconds", program.display(), TIMEOUT.as_secs()))]
    Hangs { program: PathBuf },
    #[snafu(display("`{}` failed", program.display()))]
    Failed { program: PathBuf },
    #[snafu(display("`{}` answered something that is no credential", program.display()))]
    Unreadable { program: PathBuf },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// One helper, as the environment finds it.
pub(super) struct Helper<'a> {
    name: &'a str,
    environment: &'a Environment,
}

impl<'a> Helper<'a> {
    pub(super) fn new(name: &'a str, environment: &'a Environment) -> Self {
        Self { name, environment }
    }

    fn program(&self) -> Result<PathBuf, Error> {
        let is_plain = self
            .name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        ensure!(
            is_plain && !self.name.is_empty(),
            NameSnafu { name: self.name }
        );
        let program = format!(
            "docker-credential-{}{}",
            self.name,
            std::env::consts::EXE_SUFFIX
        );
        let path = self.environment.var("PATH").unwrap_or_default();
        let mut directories =
            std::env::split_paths(path).filter(|directory| directory.is_absolute());
        let found = directories
            .find_map(|directory| Some(directory.join(&program)).filter(|path| path.is_file()));
        found.context(AbsentSnafu { program })
    }

    /// Asks for the credential of a server; `None` when the helper has none.
    pub(super) async fn get(&self, server: &str) -> Result<Option<Credential>, Error> {
        let program = self.program()?;
        let mut child = Command::new(&program)
            .arg("get")
            .env_clear()
            .envs(self.environment.variables())
            .current_dir(self.environment.current_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context(RunSnafu {
                program: program.clone(),
            })?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let talk = async {
            if let Some(mut stdin) = stdin {
                // A helper that does not read its input may still answer.
                let _ = stdin.write_all(server.as_bytes()).await;
            }
            let mut answer = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(MAX_ANSWER).read_to_end(&mut answer).await?;
            }
            Ok((answer, child.wait().await?))
        };
        let talked = tokio::time::timeout(TIMEOUT, talk)
            .await
            .ok()
            .context(HangsSnafu {
                program: program.clone(),
            })?;
        let (answer, status) = talked.context(RunSnafu {
            program: program.clone(),
        })?;
        if !status.success() {
            let nothing = String::from_utf8_lossy(&answer).trim() == NOT_FOUND;
            ensure!(nothing, FailedSnafu { program });
            return Ok(None);
        }
        let answer: Option<Answer> = serde_json::from_slice(&answer).ok();
        let Answer { username, secret } = answer.context(UnreadableSnafu { program })?;
        let secret = Secret::new(secret);
        Ok(Some(match username.as_str() {
            TOKEN_USER => Credential::Identity(secret),
            _ => Credential::Basic {
                username,
                password: secret,
            },
        }))
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn ask(script: &str) -> Result<Option<Credential>, Error> {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("docker-credential-test");
        std::fs::write(&program, format!("#!/bin/sh\n{script}")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let environment = Environment::new([("PATH".to_owned(), path)], None, "/".into());
        Helper::new("test", &environment).get("a.b").await
    }

    #[tokio::test]
    async fn answers_are_read() {
        let basic = ask(r#"read -r server; echo "{\"ServerURL\":\"$server\",\"Username\":\"$server\",\"Secret\":\"s\"}""#).await;
        let expected = Credential::Basic {
            username: "a.b".into(),
            password: Secret::new("s"),
        };
        assert_eq!(basic.unwrap(), Some(expected));
        let token = ask(r#"echo '{"Username":"<token>","Secret":"s"}'"#)
            .await
            .unwrap();
        assert_eq!(token, Some(Credential::Identity(Secret::new("s"))));
        assert_eq!(
            ask(&format!("echo {NOT_FOUND}; exit 1")).await.unwrap(),
            None
        );
    }

    #[tokio::test]
    async fn failures_are_failures_and_say_no_secret() {
        let failed = ask("echo canary; exit 1").await.unwrap_err();
        assert!(matches!(failed, Error::Failed { .. }) && !failed.to_string().contains("canary"));
        let garbage = ask("echo canary").await.unwrap_err();
        assert!(
            matches!(garbage, Error::Unreadable { .. }) && !garbage.to_string().contains("canary")
        );
        assert!(matches!(
            ask("yes canary").await.unwrap_err(),
            Error::Failed { .. } | Error::Unreadable { .. }
        ));
    }

    #[tokio::test]
    async fn names_with_paths_are_refused() {
        let environment = Environment::new(
            [("PATH".to_owned(), "/usr/bin".to_owned())],
            None,
            "/".into(),
        );
        for name in ["../evil", "a/b", "", "a b", "a\0"] {
            let asked = Helper::new(name, &environment).get("a.b").await;
            assert!(matches!(asked, Err(Error::Name { .. })), "{name:?}");
        }
        assert!(matches!(
            Helper::new("nope", &environment).get("a.b").await,
            Err(Error::Absent { .. })
        ));
    }
}
