//! Error type of all commands, with an exit code and hints. Errors of other modules are converted to this type.

use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;

use clap_cargo::style;
use oci_registry::{ErrorKind, Location};

use super::MAX_LINE_LENGTH;
use crate::message::Message;
use crate::{cargo, exit_code, hints};

/// Kind and message of the error that ends a command after a signal.
const INTERRUPTED: &str = "interrupted";

/// Kind and message of the error after the user declined a confirmation.
const ABORTED: &str = "aborted";

/// Error of a command, with its exit code, hints and causes.
#[derive(Debug)]
pub(crate) struct Error {
    pub(super) exit: u8,
    /// Value of the field `kind` of the `oci-error` object.
    kind: &'static str,
    help: Vec<String>,
    /// Error with its causes, or `None` if it was already printed.
    pub(super) cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error about invalid input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Creates an error of this kind, with the corresponding exit code.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let cause: Box<dyn StdError + Send + Sync> = Box::new(MessageError(message.into()));
        Self {
            exit: exit_code::from_kind(kind),
            kind: json_kind(kind),
            help: Vec::new(),
            cause: Some(cause),
        }
    }

    /// Creates the last error of a command of which several operations failed. It has the exit code of the first failure.
    pub(crate) fn summary(message: impl Into<String>, first: &Self) -> Self {
        Self {
            exit: first.exit,
            kind: first.kind,
            ..Self::usage(message)
        }
    }

    /// Whether stdout is closed, so that the command stops without an error.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.exit == 0
    }

    /// Creates an error of the kind `Io` with this message and this I/O error as cause.
    pub(crate) fn from_io(message: impl Into<String>, source: std::io::Error) -> Self {
        Self {
            cause: Some(ErrorContext::boxed(message, source)),
            ..Self::new(ErrorKind::Io, "")
        }
    }

    /// Creates the error that ends a command after a signal. If there is no advice on how to continue and stderr is a
    /// terminal, the error is not printed, because the terminal shows `^C`.
    pub(crate) fn interrupted(signal: u8, advice: Option<String>) -> Self {
        let is_silent = advice.is_none() && std::io::stderr().is_terminal();
        let message: Box<dyn StdError + Send + Sync> =
            Box::new(MessageError(INTERRUPTED.to_owned()));
        Self {
            exit: exit_code::SIGNAL + signal,
            kind: INTERRUPTED,
            help: advice.into_iter().collect(),
            cause: (!is_silent).then_some(message),
        }
    }

    /// Converts an error of a push. Its message names the destination and states that the push failed. An error without
    /// causes is not changed, because its message is the reason.
    pub(crate) fn for_push(error: oci_registry::Error, destination: &Location) -> Self {
        let message = format!("failed to push `{destination}`");
        let is_reason = error.source().is_none() || error.kind() == ErrorKind::Conflict;
        let names_destination = error.to_string().contains(&format!("`{destination}`"));
        let error = Self::from(error);
        if is_reason {
            return error;
        }
        if names_destination {
            return error.with_message(message);
        }
        Self {
            cause: error.cause.map(|cause| ErrorContext::boxed(message, cause)),
            ..error
        }
    }

    /// Creates the error for a declined confirmation. `consequence` states what the command has not done.
    pub(crate) fn aborted(consequence: &str) -> Self {
        Self {
            exit: exit_code::OTHER,
            kind: ABORTED,
            ..Self::usage(format!("{ABORTED}; {consequence}"))
        }
    }

    /// Replaces the message, and keeps the causes. If the error has no cause, its old message becomes the cause.
    #[must_use]
    pub(crate) fn with_message(mut self, message: String) -> Self {
        self.cause = self.cause.map(|error| -> Box<dyn StdError + Send + Sync> {
            Box::new(ReplacedMessage { message, error })
        });
        self
    }

    /// Adds the package to the flags in the hints of an error that concerns one of several pushed packages.
    #[must_use]
    pub(crate) fn for_package(mut self, package: &str) -> Self {
        for help in &mut self.help {
            *help = help.replace(
                "`--overwrite`",
                &format!("`--package {package} --overwrite`"),
            );
        }
        self
    }

    /// Whether at least one hint was added to the error.
    pub(crate) fn has_help(&self) -> bool {
        !self.help.is_empty()
    }

    /// Adds a hint. Hints are printed below the causes.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// Returns the value of `kind` in JSON: the stable code of an error kind, without the prefix `oci::`.
fn json_kind(kind: ErrorKind) -> &'static str {
    kind.code().trim_start_matches("oci::")
}

#[derive(Debug)]
struct MessageError(String);

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for MessageError {}

/// Error with a replaced message and the causes of the original error.
#[derive(Debug)]
struct ReplacedMessage {
    message: String,
    error: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for ReplacedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for ReplacedMessage {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source().or(Some(self.error.as_ref()))
    }
}

/// Error with an additional outer message.
#[derive(Debug)]
struct ErrorContext {
    message: String,
    error: Box<dyn StdError + Send + Sync>,
}

impl ErrorContext {
    fn boxed(
        message: impl Into<String>,
        error: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Box<dyn StdError + Send + Sync> {
        Box::new(Self {
            message: message.into(),
            error: error.into(),
        })
    }
}

impl fmt::Display for ErrorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for ErrorContext {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.error.as_ref())
    }
}

impl From<oci_registry::Error> for Error {
    fn from(error: oci_registry::Error) -> Self {
        Self {
            exit: exit_code::from_kind(error.kind()),
            kind: json_kind(error.kind()),
            help: hints::describe_or_advise(&error),
            cause: Some(Box::new(error)),
        }
    }
}

impl From<cargo::Error> for Error {
    fn from(error: cargo::Error) -> Self {
        match error {
            // Cargo has already printed the error.
            cargo::Error::BuildFailed => Self {
                exit: exit_code::BUILD_FAILED,
                kind: "build",
                help: Vec::new(),
                cause: None,
            },
            cargo::Error::Other(error) => Self {
                exit: exit_code::from_kind(error.kind()),
                kind: json_kind(error.kind()),
                help: hints::describe(&error),
                cause: Some(Box::new(error)),
            },
        }
    }
}

impl From<std::io::Error> for Error {
    /// Converts an error that occurred while writing to stdout. A closed pipe becomes an error with exit code 0,
    /// because a reader such as `head` may stop early.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self {
                exit: 0,
                kind: "closed",
                help: Vec::new(),
                cause: None,
            };
        }
        Self {
            exit: exit_code::OTHER,
            kind: json_kind(ErrorKind::Io),
            help: Vec::new(),
            cause: Some(ErrorContext::boxed("failed to write to stdout", error)),
        }
    }
}

/// Returns the messages of an error and its causes.
pub(super) fn messages(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut below = error.source();
    while let Some(cause) = below {
        chain.push(cause.to_string());
        below = cause.source();
    }
    chain
}

impl Error {
    pub(super) fn to_message(&self) -> Message<'static> {
        let mut causes = self.cause.iter().flat_map(|cause| messages(cause.as_ref()));
        let message = causes.next().unwrap_or_else(|| match self.exit {
            exit_code::BUILD_FAILED => "cargo failed to build".to_owned(),
            _ => INTERRUPTED.to_owned(),
        });
        Message::Error {
            kind: self.kind,
            code: self.exit,
            message,
            causes: causes.collect(),
            help: self.help.clone(),
        }
    }
}

/// Formats an error with its causes and hints as styled text.
pub(super) fn format_error(error: &Error) -> String {
    let mut out = String::new();
    let Some(cause) = &error.cause else {
        return out;
    };
    if let (INTERRUPTED, Some(advice)) = (error.kind, error.help.first()) {
        let _ = writeln!(out, "Interrupted; {advice}");
        return out;
    }
    let red = style::ERROR;
    let line = |text: &dyn fmt::Display| oci_registry::escape(&text.to_string(), MAX_LINE_LENGTH);
    let _ = writeln!(out, "{red}error{red:#}: {}", line(cause));
    let mut below = cause.source();
    while let Some(cause) = below {
        out.push_str("\nCaused by:\n");
        for part in cause.to_string().lines() {
            let _ = writeln!(out, "  {}", line(&part));
        }
        below = cause.source();
    }
    let cyan = style::NOTE;
    for (at, help) in error.help.iter().enumerate() {
        let gap = if at == 0 { "\n" } else { "" };
        let mut lines = help.lines();
        let first = lines.next().unwrap_or_default();
        let _ = writeln!(out, "{gap}{cyan}help{cyan:#}: {}", line(&first));
        for more in lines {
            let text = more.trim_start();
            let indent = 2 + more.len() - text.len();
            let _ = writeln!(out, "{:indent$}{}", "", line(&text));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_message_keeps_causes() {
        let messages = |error: Error| messages(error.cause.expect("a cause").as_ref());
        let file = Error::from_io("failed to read `a`", std::io::Error::other("no disk"));
        let file = file.with_message("failed to push `b`".to_owned());
        assert_eq!(messages(file), ["failed to push `b`", "no disk"]);
        let usage =
            Error::usage("failed to read `a`").with_message("failed to push `b`".to_owned());
        assert_eq!(
            messages(usage),
            ["failed to push `b`", "failed to read `a`"]
        );
    }

    #[test]
    fn error_is_printed_in_cargo_format() {
        let reference = "ghcr.io/Acme/x"
            .parse::<oci_registry::Reference>()
            .expect_err("upper case");
        let text = format_error(&Error::from(reference).help("more"));
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "error: failed to parse the reference `ghcr.io/Acme/x`: a repository name must be lower case\n\n\
             help: write `ghcr.io/acme/x`\nhelp: more\n"
        );
    }
}
