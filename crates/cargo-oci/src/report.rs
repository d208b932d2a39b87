//! Output of errors, status lines and data, in the same format as cargo.
//!
//! [`Error`] is the error type of all commands, with an exit code and hints. Errors of other modules are converted to
//! this type. Related modules define the objects of `--message-format json` ([`message`](crate::message)), the progress
//! bars ([`progress`](crate::progress)) and the streams ([`stdio`]).

use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anstyle::Style;
use clap::ColorChoice;
use clap_cargo::style;
use oci_package::Note;
use oci_registry::{Digest, Environment, ErrorKind, Location, TransferStats};

use crate::cargo;
use crate::figures::Portion;
use crate::message::{FinishedTarget, Message, MessageFormat, TagUpdate};
use crate::options::CommonOptions;
use crate::progress::{Batch, ProgressBars};
use crate::query_result::QueryResult;
use crate::{exit_code, hints, stdio};

/// Maximum length of a printed line, in characters. Lines may contain untrusted text from a registry.
const MAX_LINE_LENGTH: usize = 4000;

/// Kind and message of the error that ends a command after a signal.
const INTERRUPTED: &str = "interrupted";

/// Kind and message of the error after the user declined a confirmation.
const ABORTED: &str = "aborted";

/// Error of a command, with its exit code, hints and causes.
#[derive(Debug)]
pub(crate) struct Error {
    exit: u8,
    /// Value of the field `kind` of the `oci-error` object.
    kind: &'static str,
    help: Vec<String>,
    /// Error with its causes, or `None` if it was already printed.
    cause: Option<Box<dyn StdError + Send + Sync>>,
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

/// Output of the process: status lines, notes, data and JSON messages. All copies of a reporter share one state.
#[derive(Clone, Copy)]
pub(crate) struct Reporter(&'static ReporterState);

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reporter")
    }
}

/// Word for the kept bytes, and a function that returns their number and the total.
type Resumption = (&'static str, Box<dyn Fn() -> (u64, u64) + Send>);

/// Settings and state of the output. The value is leaked, so it exists until the process ends.
struct ReporterState {
    quiet: bool,
    verbosity: u8,
    color: ColorChoice,
    format: MessageFormat,
    progress: ProgressBars,
    /// Whether errors are also printed as GitHub Actions annotations.
    is_annotated: bool,
    /// Function that describes how to continue after an interruption at this moment.
    resumption: Mutex<Option<Resumption>>,
    /// First error that occurred while writing to stdout.
    stdout_error: Mutex<Option<std::io::Error>>,
    /// Transfer statistics at the last `oci-finished` message, and the time of the message.
    last_finished: Mutex<(TransferStats, Instant)>,
}

impl Reporter {
    /// Creates the reporter, and turns coloured output on or off for the whole process.
    pub(crate) fn new(
        flags: &CommonOptions,
        format: MessageFormat,
        environment: &Environment,
    ) -> Self {
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
            resumption: Mutex::default(),
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

    /// Value of `--color` to pass to cargo, or `None` if cargo decides.
    pub(crate) fn color(self) -> Option<&'static str> {
        match self.0.color {
            ColorChoice::Auto => None,
            ColorChoice::Always => Some("always"),
            ColorChoice::Never => Some("never"),
        }
    }

    /// Runs a transfer. If a signal interrupts it, the last line states which part is kept: `count_kept` returns the
    /// number of kept bytes and of all bytes. `state` describes the kept bytes: `kept` or `uploaded`.
    pub(crate) async fn with_resume_advice<T>(
        self,
        state: &'static str,
        count_kept: impl Fn() -> (u64, u64) + Send + 'static,
        transfer: impl Future<Output = T>,
    ) -> T {
        *self.lock_resumption() = Some((state, Box::new(count_kept)));
        let outcome = transfer.await;
        *self.lock_resumption() = None;
        outcome
    }

    /// Returns how to continue after an interruption; `None` outside of transfers.
    pub(crate) fn resumption_advice(self) -> Option<String> {
        let resumption = self.lock_resumption();
        let (state, count_kept) = resumption.as_ref()?;
        let (part, whole) = count_kept();
        let separator = " of ";
        Some(if part == 0 {
            "run the same command again to start over".to_owned()
        } else {
            let kept = Portion {
                part,
                whole,
                separator,
            };
            format!("run the same command again to resume ({kept} {state})")
        })
    }

    fn lock_resumption(self) -> MutexGuard<'static, Option<Resumption>> {
        let resumption = &self.0.resumption;
        resumption.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a group of transfers, each with a progress bar. See [`ProgressBars::start_batch`].
    pub(crate) fn start_batch(self, verb: &'static str, expected: Option<(usize, u64)>) -> Batch {
        self.0.progress.start_batch(verb, expected)
    }

    /// Prints the status line of a message, if it has one. If the output format is JSON, also writes the message to
    /// stdout.
    pub(crate) fn emit(self, message: &Message<'_>) {
        if let Some((verb, object)) = message.status_line() {
            self.status(verb, object);
        }
        self.write_message(message);
    }

    /// Writes a query result to stdout if the output format is JSON. In human format, the command prints the result
    /// itself.
    pub(crate) fn emit_query_result(self, result: &QueryResult<'_>) {
        if self.is_json() {
            self.write(|| stdio::write_json(&result.to_line()));
        }
    }

    /// Writes a line of another program, such as cargo, to stdout, if the line and the output format are JSON.
    pub(crate) fn forward_line(self, line: &str) {
        if self.is_json() && line.starts_with('{') {
            self.write(|| stdio::write_json(line));
        }
    }

    /// Writes the references of a result to stdout, or the first one as JSON. This is the last output about the result.
    pub(crate) fn report_finished(
        self,
        references: &[String],
        digest: &Digest,
        index_digest: Option<&Digest>,
        targets: Option<&[FinishedTarget]>,
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
            self.write_message(&Message::Finished {
                reference: references.first().cloned().unwrap_or_default(),
                digest,
                index_digest,
                targets,
                requests: stats.requests - before.requests,
                bytes: stats.sent + stats.received - before.sent - before.received,
                seconds: (now - then).as_secs_f64(),
            });
        } else {
            for reference in references {
                self.write(|| stdio::write_line(reference));
            }
        }
        self.finish()
    }

    /// Checks that all output was written to stdout. Commands call this function after their last output.
    ///
    /// # Errors
    ///
    /// Returns the first error that occurred while writing to stdout.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let stdout_error = self.0.stdout_error.lock();
        match stdout_error.unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn write_message(self, message: &Message<'_>) {
        if self.is_json() {
            self.write(|| stdio::write_json(&message.to_line()));
        }
    }

    /// Writes to stdout. An error does not stop the command. [`Reporter::finish`] returns the error later.
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

    /// Prints a status line like cargo: a right-aligned verb and its object.
    pub(crate) fn status(self, verb: &str, object: impl fmt::Display) {
        self.print(style::HEADER, &format!("{verb:>12}"), object);
    }

    /// Prints a note. If the output format is JSON, also writes it as a warning to stdout.
    pub(crate) fn note(self, text: impl fmt::Display) {
        let message = text.to_string();
        self.print(style::NOTE, "note:", &message);
        self.write_message(&Message::Warning { message });
    }

    /// Prints a note to stderr only, also if the output format is JSON.
    pub(crate) fn note_on_stderr(self, text: impl fmt::Display) {
        self.print(style::NOTE, "note:", text);
    }

    /// Prints a note of a publication. A detail is printed only with `--verbose`.
    pub(crate) fn publish_note(self, note: &Note) {
        match note {
            Note::Overwritten { .. } => self.warn(note),
            _ if note.is_detail() && !self.is_verbose() => {}
            _ => self.note(note),
        }
    }

    /// Prints a warning. If the output format is JSON, also writes it to stdout.
    pub(crate) fn warn(self, text: impl fmt::Display) {
        let message = text.to_string();
        self.print(style::WARN, "warning:", &message);
        self.write_message(&Message::Warning { message });
    }

    /// Returns whether a tag was created or moved. If the tag was moved, prints a note with the previous digest.
    pub(crate) fn report_tag_update(self, reference: &str, previous: Option<&Digest>) -> TagUpdate {
        let Some(previous) = previous else {
            return TagUpdate::Tagged;
        };
        self.note(format_args!(
            "`{reference}` previously pointed to {previous}"
        ));
        TagUpdate::Moved
    }

    fn print(self, style: Style, label: &str, text: impl fmt::Display) {
        if !self.0.quiet {
            let text = oci_registry::escape(&text.to_string(), MAX_LINE_LENGTH);
            // The error is ignored, because a closed stderr must not stop the command.
            let line = format!("{style}{label}{style:#} {text}\n");
            let _ = self.0.progress.suspend(|| stdio::write_stderr(&line));
        }
    }

    /// Prompts the user for confirmation on the terminal. Any answer except `y` and `yes` means no.
    pub(crate) async fn confirm(self, question: &str) -> Result<bool, Error> {
        let question = oci_registry::escape(question, MAX_LINE_LENGTH);
        // A blocking thread reads the answer, so that Ctrl-C is handled while the prompt waits for input.
        let prompt = tokio::task::spawn_blocking(move || {
            self.0.progress.suspend(|| {
                let mut answer = String::new();
                stdio::write_stderr(&format!("{question} [y/N] "))?;
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

    /// Writes an error as JSON if this is the output format, and as an annotation in GitHub Actions. [`fail`] prints
    /// the error to stderr.
    pub(crate) fn emit_error(self, error: &Error) {
        if self.0.is_annotated
            && let Some(cause) = &error.cause
        {
            // GitHub Actions shows this workflow command as an annotation of the run.
            let text = messages(cause.as_ref()).join(": ");
            let text = oci_registry::escape(&text, MAX_LINE_LENGTH);
            let _ = stdio::write_workflow_command("error title=cargo oci", &text);
        }
        // An error with exit code 0 is a closed pipe. It is not reported, because stdout accepts no more output.
        if error.exit != 0 {
            self.write_message(&error.to_message());
        }
    }
}

/// Returns the messages of an error and its causes.
fn messages(error: &(dyn StdError + 'static)) -> Vec<String> {
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

/// Writes a line of data to stdout.
pub(crate) fn write_line(text: impl fmt::Display) -> Result<(), Error> {
    Ok(stdio::write_line(&text.to_string())?)
}

/// Writes JSON to stdout, in one or more lines.
pub(crate) fn write_json(text: &str) -> Result<(), Error> {
    Ok(stdio::write_json(text)?)
}

/// Writes bytes to stdout unchanged.
pub(crate) fn write_bytes(bytes: &[u8]) -> Result<(), Error> {
    Ok(stdio::write_bytes(bytes)?)
}

/// Prints an error to stderr, and returns the exit code.
pub(crate) fn fail(error: &Error) -> ExitCode {
    let _ = stdio::write_stderr(&format_error(error));
    ExitCode::from(error.exit)
}

/// Formats an error with its causes and hints as styled text.
fn format_error(error: &Error) -> String {
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
