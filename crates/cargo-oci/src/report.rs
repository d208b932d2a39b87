//! Errors, status lines and data, in the format of cargo.
//!
//! [`Error`] is the error type of all verbs, with an exit code and hints; errors of other modules are converted to it. The
//! objects of `--message-format json` are in [`message`](crate::message), the progress bars in
//! [`progress`](crate::progress), the streams in [`stdio`].

use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anstyle::Style;
use clap::ColorChoice;
use clap_cargo::style;
use oci_registry::{Digest, Environment, ErrorKind, TransferStats};

use crate::cargo;
use crate::finding::Finding;
use crate::message::{Message, MessageFormat, TagUpdate};
use crate::options::Global;
use crate::progress::{Batch, ProgressBars};
use crate::{exit_code, hints, stdio};

/// Maximum length of a printed line, in characters. Lines may contain text from a registry, which is untrusted.
const MAX_LINE_LENGTH: usize = 4000;

/// Kind and message of the error after a signal.
const INTERRUPTED: &str = "interrupted";

/// Error of a command.
#[derive(Debug)]
pub(crate) struct Error {
    exit: u8,
    /// Value of `kind` in JSON.
    kind: &'static str,
    help: Vec<String>,
    /// Absent if the error was already printed.
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error about invalid input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Creates an error of this kind.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let cause: Box<dyn StdError + Send + Sync> = Box::new(MessageError(message.into()));
        Self {
            exit: exit_code::of(kind),
            kind: name(kind),
            help: Vec::new(),
            cause: Some(cause),
        }
    }

    /// Creates an error about a local file that could not be read or written.
    pub(crate) fn of_file(message: impl Into<String>, source: std::io::Error) -> Self {
        let kind = ErrorKind::Io;
        let cause: Box<dyn StdError + Send + Sync> = Box::new(FileError(message.into(), source));
        Self {
            cause: Some(cause),
            ..Self::new(kind, "")
        }
    }

    /// Creates the error after a signal. It is printed only if stderr is not a terminal, because a terminal shows `^C`.
    pub(crate) fn interrupted(signal: u8) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let message: Box<dyn StdError + Send + Sync> =
            Box::new(MessageError(INTERRUPTED.to_owned()));
        Self {
            exit: exit_code::SIGNAL + signal,
            kind: INTERRUPTED,
            help: Vec::new(),
            cause: (!is_terminal).then_some(message),
        }
    }

    /// Replaces the message, and keeps the causes. An error without a cause becomes the cause of the new message.
    #[must_use]
    pub(crate) fn with_message(mut self, message: String) -> Self {
        self.cause = self.cause.map(|error| -> Box<dyn StdError + Send + Sync> {
            Box::new(ReplacedMessage { message, error })
        });
        self
    }

    /// Whether the error has hints.
    pub(crate) fn has_help(&self) -> bool {
        !self.help.is_empty()
    }

    /// Adds a hint.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// Returns the value of `kind` in JSON: the stable code of an error kind without its prefix.
fn name(kind: ErrorKind) -> &'static str {
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

/// Error whose message was replaced.
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

#[derive(Debug)]
struct FileError(String, std::io::Error);

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for FileError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.1)
    }
}

impl From<oci_registry::Error> for Error {
    fn from(error: oci_registry::Error) -> Self {
        Self {
            exit: exit_code::of(error.kind()),
            kind: name(error.kind()),
            help: hints::of(&error),
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
                exit: exit_code::of(error.kind()),
                kind: name(error.kind()),
                help: hints::worded(&error),
                cause: Some(Box::new(error)),
            },
        }
    }
}

impl From<std::io::Error> for Error {
    /// Converts an error of stdout. A closed pipe is a success, because a reader such as `head` may stop early.
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
            exit: exit_code::IO,
            kind: name(ErrorKind::Io),
            help: Vec::new(),
            cause: Some(Box::new(WriteStdout(error))),
        }
    }
}

#[derive(Debug)]
struct WriteStdout(std::io::Error);

impl fmt::Display for WriteStdout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed to write to stdout")
    }
}

impl StdError for WriteStdout {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

/// Output of the process: status lines, notes, data and JSON messages. Copies share their state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reporter(&'static ReporterState);

/// Output settings and state, which live as long as the process.
#[derive(Debug)]
struct ReporterState {
    quiet: bool,
    verbosity: u8,
    color: ColorChoice,
    format: MessageFormat,
    progress: ProgressBars,
    /// Whether errors are also printed as annotations of GitHub Actions.
    is_annotated: bool,
    /// First error of stdout while the command was running.
    stdout_error: Mutex<Option<std::io::Error>>,
    /// Transfer statistics and time of the last `oci-finished` message.
    last_finished: Mutex<(TransferStats, Instant)>,
}

impl Reporter {
    /// Creates the reporter, and decides for the whole process whether output is coloured.
    pub(crate) fn new(flags: &Global, format: MessageFormat, environment: &Environment) -> Self {
        let color = flags
            .color
            .unwrap_or_else(|| match environment.var("CARGO_TERM_COLOR") {
                Some("always") => ColorChoice::Always,
                Some("never") => ColorChoice::Never,
                _ => ColorChoice::Auto,
            });
        let choice = match color {
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::Always,
            ColorChoice::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        let decided = anstream::AutoStream::choice(&std::io::stderr());
        console::set_colors_enabled_stderr(decided != anstream::ColorChoice::Never);
        console::set_colors_enabled(decided != anstream::ColorChoice::Never);
        let quiet = flags.quiet
            || flags.verbose == 0 && environment.var("CARGO_TERM_QUIET") == Some("true");
        Self(Box::leak(Box::new(ReporterState {
            quiet,
            verbosity: flags.verbose,
            color,
            format,
            progress: ProgressBars::new(environment, quiet),
            is_annotated: environment.var("GITHUB_ACTIONS") == Some("true"),
            stdout_error: Mutex::default(),
            last_finished: Mutex::new((TransferStats::default(), Instant::now())),
        })))
    }

    /// Whether only data and errors are printed (`--quiet`).
    pub(crate) fn is_quiet(self) -> bool {
        self.0.quiet
    }

    /// Whether HTTP requests are logged (`--verbose`).
    pub(crate) fn is_verbose(self) -> bool {
        self.0.verbosity > 0
    }

    /// Number of `-v` flags.
    pub(crate) fn verbosity(self) -> u8 {
        self.0.verbosity
    }

    /// Whether the output format is JSON.
    pub(crate) fn is_json(self) -> bool {
        self.0.format == MessageFormat::Json
    }

    /// Value of `--color` for cargo; `None` lets cargo decide.
    pub(crate) fn color(self) -> Option<&'static str> {
        match self.0.color {
            ColorChoice::Auto => None,
            ColorChoice::Always => Some("always"),
            ColorChoice::Never => Some("never"),
        }
    }

    /// Starts a group of transfers, as [`Progress::batch`].
    pub(crate) fn batch(self, verb: &'static str, expected: Option<(usize, u64)>) -> Batch {
        self.0.progress.batch(verb, expected)
    }

    /// Prints the status line of a message, if it has one, and writes the message in JSON format.
    pub(crate) fn emit(self, message: &Message<'_>) {
        if let Some((verb, what)) = message.status_line() {
            self.status(verb, what);
        }
        self.write_json(message);
    }

    /// Writes a finding in JSON format. In human format, the verb prints it.
    pub(crate) fn emit_finding(self, finding: &Finding<'_>) {
        if self.is_json() {
            self.write(|| stdio::json(&finding.to_line()));
        }
    }

    /// Writes a JSON line of another program, such as cargo, in JSON format.
    pub(crate) fn forward(self, line: &str) {
        if self.is_json() && line.starts_with('{') {
            self.write(|| stdio::json(line));
        }
    }

    /// Writes the reference of the result to stdout: the last output for this result.
    pub(crate) fn finished(
        self,
        reference: String,
        digest: &Digest,
        index_digest: Option<&Digest>,
        stats: TransferStats,
    ) -> Result<(), Error> {
        if self.is_json() {
            let now = Instant::now();
            let mut last = self
                .0
                .last_finished
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let (before, then) = std::mem::replace(&mut *last, (stats, now));
            self.write_json(&Message::Finished {
                reference,
                digest,
                index_digest,
                requests: stats.requests - before.requests,
                bytes: stats.sent + stats.received - before.sent - before.received,
                seconds: (now - then).as_secs_f64(),
            });
        } else {
            self.write(|| stdio::line(&reference));
        }
        self.end()
    }

    /// Ends the output to stdout.
    ///
    /// # Errors
    ///
    /// Fails if an earlier line could not be written to stdout.
    pub(crate) fn end(self) -> Result<(), Error> {
        let stdout_error = self.0.stdout_error.lock();
        match stdout_error.unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn write_json(self, message: &Message<'_>) {
        if self.is_json() {
            self.write(|| stdio::json(&message.to_line()));
        }
    }

    /// Writes a line of data. An error does not stop the command; [`Reporter::end`] reports it.
    fn write(self, write: impl FnOnce() -> std::io::Result<()>) {
        if let Err(error) = self.0.progress.suspend(write) {
            let mut stdout_error = self
                .0
                .stdout_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            stdout_error.get_or_insert(error);
        }
    }

    /// Prints a status line as cargo does: a right-aligned verb and its object.
    pub(crate) fn status(self, verb: &str, what: impl fmt::Display) {
        self.print(style::HEADER, &format!("{verb:>12}"), what);
    }

    /// Prints a note, and writes it as a warning in JSON format.
    pub(crate) fn note(self, what: impl fmt::Display) {
        let message = what.to_string();
        self.print(style::NOTE, "note:", &message);
        self.write_json(&Message::Warning { message });
    }

    /// Prints a warning, and writes it in JSON format.
    pub(crate) fn warn(self, what: impl fmt::Display) {
        let message = what.to_string();
        self.print(style::WARN, "warning:", &message);
        self.write_json(&Message::Warning { message });
    }

    /// Returns the action for a tag with this previous digest, which a note reports.
    pub(crate) fn tag_update(self, reference: &str, previous: Option<&Digest>) -> TagUpdate {
        let Some(previous) = previous else {
            return TagUpdate::Tagged;
        };
        self.note(format_args!(
            "`{reference}` previously pointed to {previous}"
        ));
        TagUpdate::Moved
    }

    fn print(self, style: Style, word: &str, what: impl fmt::Display) {
        if !self.0.quiet {
            let what = oci_registry::escape(&what.to_string(), MAX_LINE_LENGTH);
            // A closed stderr does not stop the command.
            let line = format!("{style}{word}{style:#} {what}\n");
            let _ = self.0.progress.suspend(|| stdio::error(&line));
        }
    }

    /// Asks the user for confirmation at the terminal. Any answer except `y` and `yes` means no.
    pub(crate) async fn confirm(self, question: &str) -> Result<bool, Error> {
        let question = oci_registry::escape(question, MAX_LINE_LENGTH);
        // Reads on a blocking thread, so that Ctrl-C is handled while the prompt waits.
        let prompt = tokio::task::spawn_blocking(move || {
            self.0.progress.suspend(|| {
                let mut answer = String::new();
                stdio::error(&format!("{question} [y/N] "))?;
                std::io::stdin().read_line(&mut answer).map(|_| answer)
            })
        });
        let answer = prompt.await.expect("the prompt does not panic")?;
        let answer = answer.trim().to_ascii_lowercase();
        Ok(matches!(answer.as_str(), "y" | "yes"))
    }

    /// Prints an error in all formats, and returns the exit code.
    pub(crate) fn fail(self, error: &Error) -> ExitCode {
        self.emit_error(error);
        fail(error)
    }

    /// Writes an error in JSON format and as an annotation in CI. [`fail`] prints it to stderr.
    pub(crate) fn emit_error(self, error: &Error) {
        if self.0.is_annotated
            && let Some(cause) = &error.cause
        {
            // GitHub Actions shows the command as an annotation of the run.
            let text = causes(cause.as_ref()).join(": ");
            let text = oci_registry::escape(&text, MAX_LINE_LENGTH);
            let _ = stdio::workflow_command("error title=cargo oci", &text);
        }
        // A closed pipe is not a failure, and takes no more output.
        if error.exit != 0 {
            self.write_json(&error.to_message());
        }
    }
}

/// Returns the messages of an error and its causes.
fn causes(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut below = error.source();
    while let Some(cause) = below {
        chain.push(cause.to_string());
        below = cause.source();
    }
    chain
}

impl Error {
    fn to_message(&self) -> Message<'static> {
        let mut causes = self.cause.iter().flat_map(|cause| causes(cause.as_ref()));
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

/// Writes a line of data to stdout.
pub(crate) fn line(text: impl fmt::Display) -> Result<(), Error> {
    Ok(stdio::line(&text.to_string())?)
}

/// Writes JSON to stdout, in one or more lines.
pub(crate) fn json(text: &str) -> Result<(), Error> {
    Ok(stdio::json(text)?)
}

/// Writes bytes to stdout, without any change.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Error> {
    Ok(stdio::bytes(bytes)?)
}

/// Prints an error to stderr, and returns the exit code.
pub(crate) fn fail(error: &Error) -> ExitCode {
    let _ = stdio::error(&chain(error));
    ExitCode::from(error.exit)
}

/// Returns the styled text of an error with its causes and hints.
fn chain(error: &Error) -> String {
    let mut out = String::new();
    let Some(cause) = &error.cause else {
        return out;
    };
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
        let _ = writeln!(out, "{gap}{cyan}help{cyan:#}: {}", line(help));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_message_keeps_causes() {
        let messages = |error: Error| causes(error.cause.expect("a cause").as_ref());
        let file = Error::of_file("failed to read `a`", std::io::Error::other("no disk"));
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
    fn error_is_printed_in_the_format_of_cargo() {
        let reference = "ghcr.io/Acme/x"
            .parse::<oci_registry::Reference>()
            .expect_err("upper case");
        let text = chain(&Error::from(reference).help("more"));
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "error: failed to parse the reference `ghcr.io/Acme/x`: a repository name must be lower case\n\n\
             help: write `ghcr.io/acme/x`\nhelp: more\n"
        );
    }
}
