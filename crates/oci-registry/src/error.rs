//! The one error of this crate: opaque, classified, with the advice that helps.
//!
//! Owns the public [`Error`], its [`ErrorKind`] and the crate-private [`Failure`] trait through which the error
//! enum of each module becomes one. Does not own any wording: each message stands in the module that fails.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;

/// Shorthand for a result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong: enough for a program to decide what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What the caller gave cannot be right: a malformed reference, a broken configuration file.
    InvalidInput,
    /// The registry wants to know who asks, and no credential was found or the one found was refused.
    Unauthenticated,
    /// The registry knows who asks, and says no.
    Denied,
    /// The repository, tag, manifest or blob is not there.
    NotFound,
    /// There is already other content under that name.
    Conflict,
    /// The registry could not be reached, or stopped answering, or answered with a fault of its own.
    Network,
    /// The registry asked to be left alone for longer than is reasonable to wait.
    RateLimited,
    /// Bytes arrived that are not the bytes that were asked for.
    Mismatch,
    /// The registry does not offer this operation.
    Unsupported,
    /// The registry answered something that the protocol does not allow.
    Protocol,
    /// A file or directory of this machine could not be read or written.
    Io,
}

impl ErrorKind {
    /// The stable code of this kind, for scripts: `oci::not_found`, `oci::network`, …
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidInput => "oci::invalid_input",
            Self::Unauthenticated => "oci::unauthenticated",
            Self::Denied => "oci::denied",
            Self::NotFound => "oci::not_found",
            Self::Conflict => "oci::conflict",
            Self::Network => "oci::network",
            Self::RateLimited => "oci::rate_limited",
            Self::Mismatch => "oci::mismatch",
            Self::Unsupported => "oci::unsupported",
            Self::Protocol => "oci::protocol",
            Self::Io => "oci::io",
        }
    }

    /// The process exit code that stands for this kind in a command-line program.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Io => 1,
            Self::InvalidInput => 2,
            Self::Unauthenticated | Self::Denied => 3,
            Self::NotFound => 4,
            Self::Conflict => 5,
            Self::Network | Self::RateLimited => 6,
            Self::Mismatch => 7,
            Self::Unsupported | Self::Protocol => 8,
        }
    }
}

/// Which end of a copy failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end that is read.
    Source,
    /// The end that is written.
    Target,
}

/// One entry of a registry's error body, as the registry sent it (distribution-spec, "Error codes").
///
/// The code is an open set: registries send codes that no specification lists. All texts are a stranger's: escape them before they reach a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// The registry's code, such as `MANIFEST_UNKNOWN`.
    pub code: String,
    /// The registry's message, possibly empty.
    pub message: String,
    /// The registry's `detail`, as JSON text; empty when absent.
    pub detail: String,
}

/// Anything that can go wrong in this crate.
///
/// Shown with `{}` it says what was being tried; [`std::error::Error::source`] leads to why. [`Error::help`] holds advice, which is never part of the message.
pub struct Error(Box<dyn Failure>);

impl Error {
    /// A failure of a [`Source`](crate::Source) or [`Target`](crate::Target) that is implemented elsewhere; it is shown
    /// as `error` shows itself.
    pub fn new(kind: ErrorKind, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Elsewhere {
            kind,
            error: Box::new(error),
        }
        .into()
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    /// The message and those of all causes, where there is room for one line. A stranger's text may be part of it.
    pub fn in_one_line(&self) -> String {
        let causes = std::iter::successors(Some(self as &dyn StdError), |error| (*error).source());
        causes
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    }

    /// What the reader could do next, a sentence each, possibly none.
    pub fn help(&self) -> Vec<String> {
        self.0.help()
    }

    /// The entries of the registry's own error body, as sent, when a registry's answer is the cause.
    pub fn registry_errors(&self) -> &[RegistryError] {
        self.0.registry_errors()
    }

    /// Which end of a copy failed, when the failure was in a copy.
    pub fn side(&self) -> Option<Side> {
        self.0.side()
    }

    /// Which bytes of the text that was parsed are to blame, when parsing a text failed.
    pub fn span(&self) -> Option<Range<usize>> {
        self.0.span()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl<F: Failure> From<F> for Error {
    fn from(failure: F) -> Self {
        Self(Box::new(failure))
    }
}

/// A failure outside this crate.
#[derive(Debug)]
struct Elsewhere {
    kind: ErrorKind,
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Elsewhere {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl Failure for Elsewhere {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// What the error enum of a module tells about itself, so that it can be an [`Error`].
///
/// A variant that wraps an [`Error`] hands the questions on to it.
pub(crate) trait Failure: std::error::Error + Send + Sync + 'static {
    fn kind(&self) -> ErrorKind;

    fn help(&self) -> Vec<String> {
        Vec::new()
    }

    fn registry_errors(&self) -> &[RegistryError] {
        &[]
    }

    fn side(&self) -> Option<Side> {
        None
    }

    fn span(&self) -> Option<Range<usize>> {
        None
    }
}

/// Turns "it is not there" into `None`, and leaves every other failure a failure.
pub trait Optional<T> {
    /// `Ok(None)` for [`ErrorKind::NotFound`]; anything else as it was.
    fn optional(self) -> Result<Option<T>>;
}

impl<T> Optional<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
