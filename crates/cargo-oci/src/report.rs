//! What people read: errors as cargo prints them, a line for each thing done, data on stdout.
//!
//! The only place that prints. Turns the errors of all rooms into one, with its exit code and its help.

use std::error::Error as StdError;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use anstyle::Style;
use clap::ColorChoice;
use clap_cargo::style;

use crate::cargo;

/// What shells add to the number of the signal that ended a process: Ctrl-C is 130.
const SIGNALLED: u8 = 128;

/// How many characters of one line are shown; a stranger's text may be part of any.
const LONGEST_LINE: usize = 4000;

/// What cargo exits with when it fails.
const BUILD_FAILED: u8 = 101;

/// A failure on its way to the user.
#[derive(Debug)]
pub(crate) struct Error {
    exit: u8,
    help: Vec<String>,
    /// Absent when everything has been said already.
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// What the user asked for cannot be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(oci_registry::ErrorKind::InvalidInput, message)
    }

    /// A failure of this kind.
    pub(crate) fn new(kind: oci_registry::ErrorKind, message: impl Into<String>) -> Self {
        let cause: Box<dyn StdError + Send + Sync> = Box::new(Message(message.into()));
        Self {
            exit: kind.exit_code(),
            help: Vec::new(),
            cause: Some(cause),
        }
    }

    /// Stopped by this signal.
    pub(crate) fn interrupted(signal: u8) -> Self {
        Self {
            exit: SIGNALLED + signal,
            help: Vec::new(),
            cause: None,
        }
    }

    /// The same failure with a piece of advice.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

#[derive(Debug)]
struct Message(String);

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Message {}

impl From<oci_registry::Error> for Error {
    fn from(error: oci_registry::Error) -> Self {
        Self {
            exit: error.kind().exit_code(),
            help: error.help(),
            cause: Some(Box::new(error)),
        }
    }
}

impl From<oci_package::Error> for Error {
    fn from(error: oci_package::Error) -> Self {
        Self {
            exit: error.kind().exit_code(),
            help: error.help(),
            cause: Some(Box::new(error)),
        }
    }
}

impl From<cargo::Error> for Error {
    fn from(error: cargo::Error) -> Self {
        let help = error.help().into_iter().collect();
        match error.class() {
            // Cargo has said what is wrong.
            cargo::ErrorClass::Build => Self {
                exit: BUILD_FAILED,
                help,
                cause: None,
            },
            cargo::ErrorClass::Usage => Self {
                exit: oci_registry::ErrorKind::InvalidInput.exit_code(),
                help,
                cause: Some(Box::new(error)),
            },
            cargo::ErrorClass::Io => Self {
                exit: oci_registry::ErrorKind::Io.exit_code(),
                help,
                cause: Some(Box::new(error)),
            },
        }
    }
}

impl From<std::io::Error> for Error {
    /// Failures of stdout only. A reader that has seen enough is no failure.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self {
                exit: 0,
                help: Vec::new(),
                cause: None,
            };
        }
        let exit = oci_registry::ErrorKind::Io.exit_code();
        Self {
            exit,
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

/// Prints, as much as was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reporter {
    quiet: bool,
    color: ColorChoice,
}

impl Reporter {
    /// A reporter; colours are decided here for the whole process.
    pub(crate) fn new(quiet: bool, color: ColorChoice) -> Self {
        let choice = match color {
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::Always,
            ColorChoice::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        Self { quiet, color }
    }

    /// Whether only data and errors are wanted.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// What to tell cargo about colours; nothing when it is to decide itself.
    pub(crate) fn color(self) -> Option<&'static str> {
        match self.color {
            ColorChoice::Auto => None,
            ColorChoice::Always => Some("always"),
            ColorChoice::Never => Some("never"),
        }
    }

    /// One thing done, as cargo says it: a verb in a column of its own, then what.
    pub(crate) fn status(self, verb: &str, what: impl fmt::Display) {
        self.say(style::HEADER, &format!("{verb:>12}"), what);
    }

    /// Something worth knowing that is no failure.
    pub(crate) fn note(self, what: impl fmt::Display) {
        self.say(style::NOTE, "note:", what);
    }

    fn say(self, style: Style, word: &str, what: impl fmt::Display) {
        if !self.quiet {
            // A closed stderr takes no news, and is no reason to stop.
            let _ = writeln!(
                anstream::stderr().lock(),
                "{style}{word}{style:#} {}",
                oci_registry::escape(&what.to_string(), LONGEST_LINE)
            );
        }
    }
}

/// Data: one line on stdout.
pub(crate) fn line(text: impl fmt::Display) -> Result<(), Error> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Data: bytes on stdout, exactly as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    Ok(stdout.write_all(bytes).and_then(|()| stdout.flush())?)
}

/// Says what went wrong, and how this process ends.
pub(crate) fn fail(error: &Error) -> ExitCode {
    let _ = write_error(&mut anstream::stderr().lock(), error);
    ExitCode::from(error.exit)
}

fn write_error(out: &mut impl Write, error: &Error) -> std::io::Result<()> {
    let Some(cause) = &error.cause else {
        return Ok(());
    };
    let red = style::ERROR;
    let line = |text: &dyn fmt::Display| oci_registry::escape(&text.to_string(), LONGEST_LINE);
    writeln!(out, "{red}error{red:#}: {}", line(cause))?;
    let mut below = cause.source();
    while let Some(cause) = below {
        writeln!(out, "\nCaused by:")?;
        for part in cause.to_string().lines() {
            writeln!(out, "  {}", line(&part))?;
        }
        below = cause.source();
    }
    let cyan = style::NOTE;
    for (at, help) in error.help.iter().enumerate() {
        writeln!(
            out,
            "{}{cyan}help{cyan:#}: {}",
            if at == 0 { "\n" } else { "" },
            line(help)
        )?;
    }
    Ok(())
}

/// A number of bytes as people read it.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut unit = 0;
        let mut scale = 1024_u64;
        while unit + 1 < UNITS.len() && self.0 / scale >= 1024 {
            scale *= 1024;
            unit += 1;
        }
        // In tenths, rounded, without a detour through floating point.
        let tenths = (u128::from(self.0) * 10 + u128::from(scale) / 2) / u128::from(scale);
        write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_look_like_cargo_s() {
        let reference = "ghcr.io/Acme/x"
            .parse::<oci_registry::Reference>()
            .expect_err("upper case");
        let mut out = Vec::new();
        write_error(&mut out, &Error::from(reference).help("more")).expect("memory takes it");
        let text = String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec())
            .expect("errors are text");
        assert_eq!(
            text,
            "error: failed to parse the reference `ghcr.io/Acme/x`: a repository name is lower case\n\n\
             help: write `ghcr.io/acme/x`\nhelp: more\n"
        );
    }

    #[test]
    fn sizes_have_one_decimal() {
        let shown = [0, 1023, 1024, 1536, 1_048_576, 1_063_256_064, u64::MAX]
            .map(|size| Size(size).to_string());
        assert_eq!(
            shown,
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "1.5 KiB",
                "1.0 MiB",
                "1014.0 MiB",
                "16777216.0 TiB"
            ]
        );
    }
}
