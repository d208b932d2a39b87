//! Output of errors, status lines and data, in the same format as cargo.
//!
//! [`Error`] is the error type of all commands. Related modules define the objects of `--message-format json`
//! ([`message`](crate::message)), the progress bars ([`progress`](crate::progress)) and the streams ([`stdio`]).

mod error;

use std::fmt;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anstyle::Style;
use clap::ColorChoice;
use clap_cargo::style;
use oci_package::Note;
use oci_registry::{Digest, Environment, TransferStats};

pub(crate) use error::Error;
use error::{format_error, messages};

use crate::figures::Portion;
use crate::message::{FinishedTarget, Message, MessageFormat, TagUpdate};
use crate::options::CommonOptions;
use crate::progress::{Batch, ProgressBars};
use crate::query_result::QueryResult;
use crate::stdio;

/// Maximum length of a printed line, in characters. Lines may contain untrusted text from a registry.
const MAX_LINE_LENGTH: usize = 4000;

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
