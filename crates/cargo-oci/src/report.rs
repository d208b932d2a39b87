//! What people read: errors as cargo prints them, a line for each thing done, data on stdout.
//!
//! Turns the errors of all modules into one, with its exit code and its help. The objects of `--message-format json` are
//! in [`message`](crate::message), progress bars in [`progress`](crate::progress), the streams in [`stdio`].

use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anstyle::Style;
use clap::ColorChoice;
use clap_cargo::style;
use oci_registry::{Digest, Environment, ErrorKind, Traffic};

use crate::cargo;
use crate::finding::Finding;
use crate::message::{Message, MessageFormat};
use crate::options::Global;
use crate::progress::{Batch, Progress};
use crate::{exit_code, hints, stdio};

/// How many characters of one line are shown; a stranger's text may be part of any.
const LONGEST_LINE: usize = 4000;

/// What is said where somebody asked to stop.
const INTERRUPTED: &str = "interrupted";

/// A failure on its way to the user.
#[derive(Debug)]
pub(crate) struct Error {
    exit: u8,
    /// What kind of failure it is, for programs.
    kind: &'static str,
    help: Vec<String>,
    /// Absent when everything has been said already.
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// What the user asked for cannot be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// A failure of this kind.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let cause: Box<dyn StdError + Send + Sync> = Box::new(Words(message.into()));
        Self {
            exit: exit_code::of(kind),
            kind: name(kind),
            help: Vec::new(),
            cause: Some(cause),
        }
    }

    /// A file of this machine could not be read or written, for this reason.
    pub(crate) fn of_file(message: impl Into<String>, reason: std::io::Error) -> Self {
        let kind = ErrorKind::Io;
        let cause: Box<dyn StdError + Send + Sync> = Box::new(FileFailure(message.into(), reason));
        Self {
            cause: Some(cause),
            ..Self::new(kind, "")
        }
    }

    /// Stopped by this signal. A terminal shows that it was; a log has to be told.
    pub(crate) fn interrupted(signal: u8) -> Self {
        let is_shown = std::io::stderr().is_terminal();
        let words: Box<dyn StdError + Send + Sync> = Box::new(Words(INTERRUPTED.to_owned()));
        Self {
            exit: exit_code::SIGNAL + signal,
            kind: INTERRUPTED,
            help: Vec::new(),
            cause: (!is_shown).then_some(words),
        }
    }

    /// Whether what was looked for is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        self.kind == name(ErrorKind::NotFound)
    }

    /// Whether it says what could be done.
    pub(crate) fn has_help(&self) -> bool {
        !self.help.is_empty()
    }

    /// The same failure with a piece of advice.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// A kind's name for programs: its stable code without the prefix.
fn name(kind: ErrorKind) -> &'static str {
    kind.code().trim_start_matches("oci::")
}

#[derive(Debug)]
struct Words(String);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Words {}

#[derive(Debug)]
struct FileFailure(String, std::io::Error);

impl fmt::Display for FileFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for FileFailure {
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
        let help = error.help().into_iter().collect();
        let kind = match error.class() {
            // Cargo has already printed the error.
            cargo::ErrorClass::Build => {
                return Self {
                    exit: exit_code::BUILD_FAILED,
                    kind: "build",
                    help,
                    cause: None,
                };
            }
            cargo::ErrorClass::Usage => ErrorKind::InvalidInput,
            cargo::ErrorClass::Conflict => ErrorKind::Conflict,
            cargo::ErrorClass::Io => ErrorKind::Io,
        };
        Self {
            exit: exit_code::of(kind),
            kind: name(kind),
            help,
            cause: Some(Box::new(error)),
        }
    }
}

impl From<std::io::Error> for Error {
    /// Failures of stdout only. A reader that has seen enough is no failure.
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

/// Prints, as much as was asked for. There is one in a process, and copies are the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reporter(&'static Voice);

/// How this process talks, as long as it lasts.
#[derive(Debug)]
struct Voice {
    quiet: bool,
    verbosity: u8,
    color: ColorChoice,
    format: MessageFormat,
    progress: Progress,
    /// Whether GitHub's runner reads along.
    is_annotated: bool,
    /// Why stdout took no more, in the midst of things.
    unwritten: Mutex<Option<std::io::Error>>,
    /// What had been exchanged when a name was last said, and when that was.
    last: Mutex<(Traffic, Instant)>,
}

impl Reporter {
    /// A reporter; colours are decided here for the whole process.
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
        Self(Box::leak(Box::new(Voice {
            quiet,
            verbosity: flags.verbose,
            color,
            format,
            progress: Progress::new(environment, quiet),
            is_annotated: environment.var("GITHUB_ACTIONS") == Some("true"),
            unwritten: Mutex::default(),
            last: Mutex::new((Traffic::default(), Instant::now())),
        })))
    }

    /// Whether only data and errors are wanted.
    pub(crate) fn is_quiet(self) -> bool {
        self.0.quiet
    }

    /// Whether it is wanted to know what is asked of whom.
    pub(crate) fn is_verbose(self) -> bool {
        self.0.verbosity > 0
    }

    /// How often more was asked for.
    pub(crate) fn verbosity(self) -> u8 {
        self.0.verbosity
    }

    /// Whether programs are told what is done.
    pub(crate) fn is_json(self) -> bool {
        self.0.format == MessageFormat::Json
    }

    /// What to tell cargo about colours; nothing when it is to decide itself.
    pub(crate) fn color(self) -> Option<&'static str> {
        match self.0.color {
            ColorChoice::Auto => None,
            ColorChoice::Always => Some("always"),
            ColorChoice::Never => Some("never"),
        }
    }

    /// Transfers that belong together, as [`Progress::batch`].
    pub(crate) fn batch(self, verb: &'static str, expected: Option<(usize, u64)>) -> Batch {
        self.0.progress.batch(verb, expected)
    }

    /// Something done: told to programs, and to people as one line where it is a line's worth.
    pub(crate) fn tell(self, message: &Message<'_>) {
        if let Some((verb, what)) = message.for_people() {
            self.status(verb, what);
        }
        self.send(message);
    }

    /// Something found: told to programs, who asked for it; people are shown it otherwise.
    pub(crate) fn found(self, finding: &Finding<'_>) {
        if self.is_json() {
            self.write(|| stdio::json(&finding.to_line()));
        }
    }

    /// A line for programs that another program wrote.
    pub(crate) fn pass_on(self, line: &str) {
        if self.is_json() && line.starts_with('{') {
            self.write(|| stdio::json(line));
        }
    }

    /// The name of what was made or got, which is the last thing said of it: a line of stdout.
    pub(crate) fn finished(
        self,
        reference: String,
        digest: &Digest,
        index_digest: Option<&Digest>,
        traffic: Traffic,
    ) -> Result<(), Error> {
        if self.is_json() {
            let now = Instant::now();
            let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
            let (before, then) = std::mem::replace(&mut *last, (traffic, now));
            self.send(&Message::Finished {
                reference,
                digest,
                index_digest,
                requests: traffic.requests - before.requests,
                bytes: traffic.sent + traffic.received - before.sent - before.received,
                seconds: (now - then).as_secs_f64(),
            });
        } else {
            self.write(|| stdio::line(&reference));
        }
        self.end()
    }

    /// Nothing more is said on stdout; whether all of it could be written.
    pub(crate) fn end(self) -> Result<(), Error> {
        let unwritten = self.0.unwritten.lock();
        match unwritten.unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn send(self, message: &Message<'_>) {
        if self.is_json() {
            self.write(|| stdio::json(&message.to_line()));
        }
    }

    /// Writes a line of data. That it cannot be written stops nothing that is under way, and is said at the end.
    fn write(self, write: impl FnOnce() -> std::io::Result<()>) {
        if let Err(error) = self.0.progress.suspend(write) {
            let mut unwritten = self
                .0
                .unwritten
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            unwritten.get_or_insert(error);
        }
    }

    /// One thing done, as cargo says it: a verb in a column of its own, then what.
    pub(crate) fn status(self, verb: &str, what: impl fmt::Display) {
        self.say(style::HEADER, &format!("{verb:>12}"), what);
    }

    /// Something worth knowing that is no failure.
    pub(crate) fn note(self, what: impl fmt::Display) {
        let message = what.to_string();
        self.say(style::NOTE, "note:", &message);
        self.send(&Message::Warning { message });
    }

    fn say(self, style: Style, word: &str, what: impl fmt::Display) {
        if !self.0.quiet {
            let what = oci_registry::escape(&what.to_string(), LONGEST_LINE);
            // A closed stderr takes no news, and is no reason to stop.
            let line = format!("{style}{word}{style:#} {what}\n");
            let _ = self.0.progress.suspend(|| stdio::error(&line));
        }
    }

    /// Asks whoever sits at the terminal; anything but a yes is a no.
    pub(crate) async fn ask(self, question: &str) -> Result<bool, Error> {
        let question = oci_registry::escape(question, LONGEST_LINE);
        // On a thread of its own, so that Ctrl-C is heard while nobody answers.
        let asked = tokio::task::spawn_blocking(move || {
            self.0.progress.suspend(|| {
                let mut answer = String::new();
                stdio::error(&format!("{question} [y/N] "))?;
                std::io::stdin().read_line(&mut answer).map(|_| answer)
            })
        });
        let answer = asked.await.expect("asking does not panic")?;
        let answer = answer.trim().to_ascii_lowercase();
        Ok(matches!(answer.as_str(), "y" | "yes"))
    }

    /// Says what went wrong, and how this process ends.
    pub(crate) fn fail(self, error: &Error) -> ExitCode {
        self.mark(error);
        fail(error)
    }

    /// Says what went wrong to programs and to CI; people are told otherwise.
    pub(crate) fn mark(self, error: &Error) {
        if self.0.is_annotated
            && let Some(cause) = &error.cause
        {
            // The runner makes it a mark in the margin of the run.
            let words = causes(cause.as_ref()).join(": ");
            let words = oci_registry::escape(&words, LONGEST_LINE);
            let _ = stdio::workflow_command("error title=cargo oci", &words);
        }
        // A reader that has seen enough is no failure, and is told nothing more.
        if error.exit != 0 {
            self.send(&error.to_message());
        }
    }
}

/// An error, what caused it, and what caused that.
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

/// Data: one line on stdout.
pub(crate) fn line(text: impl fmt::Display) -> Result<(), Error> {
    Ok(stdio::line(&text.to_string())?)
}

/// Data: JSON on stdout, in one line or several.
pub(crate) fn json(text: &str) -> Result<(), Error> {
    Ok(stdio::json(text)?)
}

/// Data: bytes on stdout, exactly as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Error> {
    Ok(stdio::bytes(bytes)?)
}

/// Says what went wrong, and how this process ends.
pub(crate) fn fail(error: &Error) -> ExitCode {
    let _ = stdio::error(&chain(error));
    ExitCode::from(error.exit)
}

/// An error with its causes and its help, styled.
fn chain(error: &Error) -> String {
    let mut out = String::new();
    let Some(cause) = &error.cause else {
        return out;
    };
    let red = style::ERROR;
    let line = |text: &dyn fmt::Display| oci_registry::escape(&text.to_string(), LONGEST_LINE);
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
    fn errors_look_like_cargo_s() {
        let reference = "ghcr.io/Acme/x"
            .parse::<oci_registry::Reference>()
            .expect_err("upper case");
        let text = chain(&Error::from(reference).help("more"));
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "error: failed to parse the reference `ghcr.io/Acme/x`: a repository name is lower case\n\n\
             help: write `ghcr.io/acme/x`\nhelp: more\n"
        );
    }
}
