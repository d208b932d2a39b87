//! Child processes with captured output.
//!
//! A child process runs in a given environment. It is killed when the future that waits for the process is dropped.

use std::{
    ffi::OsStr,
    process::{ExitStatus, Output, Stdio},
};

use oci_registry::{ErrorKind, Failure};
use snafu::{ResultExt, Snafu};
use tokio::process::Command;

use super::CargoEnvironment;

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
        source: Stderr,
    },
    #[snafu(display("the output of `{command}` is not UTF-8"))]
    Decode {
        command: String,
        source: std::string::FromUtf8Error,
    },
}

impl Error {
    /// Whether the program was started and failed.
    pub(super) fn has_failed(&self) -> bool {
        self.stderr().is_some()
    }

    /// Returns the text that the program printed to stderr, if it was started and failed.
    pub(super) fn stderr(&self) -> Option<&str> {
        match self {
            Self::Fail { source, .. } => Some(&source.text),
            _ => None,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Io
    }
}

/// Text that a failed program printed to stderr. It is the cause of the error about the program.
#[derive(Debug, Snafu)]
#[snafu(display("{text}"))]
pub(super) struct Stderr {
    text: String,
}

impl Stderr {
    fn new(stderr: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stderr);
        let text = text.trim();
        let text = text.strip_prefix("error: ").unwrap_or(text);
        Self {
            text: if text.is_empty() {
                "no error message".to_owned()
            } else {
                text.to_owned()
            },
        }
    }
}

/// Creates a command that runs in the environment. The child is killed when the future that waits for it is dropped.
pub(super) fn command(environment: &CargoEnvironment, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(&environment.directory)
        .env_clear()
        .envs(&environment.variables)
        .kill_on_drop(true);
    command
}

/// Runs a command without input, and returns its stdout as text.
pub(super) async fn capture(command: Command) -> Result<String, Error> {
    let shown = display_command(&command);
    let output = capture_bytes(command).await?;
    String::from_utf8(output).context(DecodeSnafu { command: shown })
}

/// Runs a command without input, and returns the bytes of its stdout.
pub(super) async fn capture_bytes(command: Command) -> Result<Vec<u8>, Error> {
    let finished = run(command).await?;
    finished.check()?;
    Ok(finished.output.stdout)
}

/// Command that has finished, with its output.
pub(super) struct FinishedCommand {
    command: String,
    output: Output,
}

impl FinishedCommand {
    /// Returns the bytes that the command printed to stdout.
    pub(super) fn stdout(&self) -> &[u8] {
        &self.output.stdout
    }

    /// Returns an error if the command failed.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.output.status.success() {
            return Ok(());
        }
        Err(Stderr::new(&self.output.stderr)).context(FailSnafu {
            command: &self.command,
            status: self.output.status,
        })
    }
}

/// Runs a command without input. [`FinishedCommand::check`] returns an error if the command failed.
pub(super) async fn run(mut command: Command) -> Result<FinishedCommand, Error> {
    let shown = display_command(&command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .context(RunSnafu { command: &shown })?;
    Ok(FinishedCommand {
        command: shown,
        output,
    })
}

/// Returns the command line as text for messages.
pub(super) fn display_command(command: &Command) -> String {
    let command = command.as_std();
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
