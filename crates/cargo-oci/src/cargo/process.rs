//! Children: started in the environment that was handed in, captured whole, and killed when nobody waits.
//!
//! Knows nothing of what the programs print.

use std::{
    ffi::OsStr,
    process::{ExitStatus, Output, Stdio},
};

use snafu::{ResultExt, Snafu};
use tokio::process::Command;

use super::{Environment, ErrorClass, Fault};

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display("failed to run `{command}`"))]
    Run {
        command: String,
        source: std::io::Error,
    },
    #[snafu(display("`{command}` failed ({status})"))]
    Fail {
        command: String,
        status: ExitStatus,
        source: Words,
    },
    #[snafu(display("`{command}` printed what is not UTF-8"))]
    Decode {
        command: String,
        source: std::string::FromUtf8Error,
    },
}

impl Error {
    /// The program ran and refused; the reason is in its own words.
    pub(super) fn is_refusal(&self) -> bool {
        self.refusal().is_some()
    }

    /// The words of a program that ran and refused.
    pub(super) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Fail { source, .. } => Some(&source.words),
            _ => None,
        }
    }
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        ErrorClass::Io
    }
}

/// What a program said on stderr, quoted as the cause of its failure.
#[derive(Debug, Snafu)]
#[snafu(display("{words}"))]
pub(super) struct Words {
    words: String,
}

impl Words {
    fn of(stderr: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stderr);
        let text = text.trim();
        let words = text.strip_prefix("error: ").unwrap_or(text);
        Self {
            words: if words.is_empty() {
                "it did not say why".to_owned()
            } else {
                words.to_owned()
            },
        }
    }
}

/// A command that runs in the environment, and no longer than anybody waits for it.
pub(super) fn command(environment: &Environment, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(&environment.directory)
        .env_clear()
        .envs(&environment.variables)
        .kill_on_drop(true);
    command
}

/// Runs a command without input and returns its stdout.
pub(super) async fn capture(command: Command) -> Result<String, Error> {
    let shown = shown(&command);
    let output = capture_bytes(command).await?;
    String::from_utf8(output).context(DecodeSnafu { command: shown })
}

/// Runs a command without input and returns its stdout, in any encoding.
pub(super) async fn capture_bytes(command: Command) -> Result<Vec<u8>, Error> {
    let finished = run(command).await?;
    finished.check()?;
    Ok(finished.output.stdout)
}

/// A command that ran, with all that it printed.
pub(super) struct Finished {
    command: String,
    output: Output,
}

impl Finished {
    /// The bytes that the command printed on stdout.
    pub(super) fn stdout(&self) -> &[u8] {
        &self.output.stdout
    }

    /// Returns an error if the command failed.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.output.status.success() {
            return Ok(());
        }
        Err(Words::of(&self.output.stderr)).context(FailSnafu {
            command: &self.command,
            status: self.output.status,
        })
    }
}

/// Runs a command without input to its end, whether it succeeds or fails.
pub(super) async fn run(mut command: Command) -> Result<Finished, Error> {
    let shown = shown(&command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .context(RunSnafu { command: &shown })?;
    Ok(Finished {
        command: shown,
        output,
    })
}

/// A command as a person would type it, for messages.
pub(super) fn shown(command: &Command) -> String {
    let command = command.as_std();
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
