//! Error type of the libraries: opaque, with a kind for programs and hints for front ends.
//!
//! The error enum of each module holds its messages. It implements [`Failure`], and thereby converts into [`Error`].

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;

/// Shorthand for a result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Category of an error, from which a program can decide what to do next.
///
/// The enum is exhaustive on purpose: each front end maps every kind to an exit code or a label, and a new kind must not
/// compile until both have done so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An argument, setting or file of the user is invalid, for example a malformed reference.
    InvalidInput,
    /// Authentication failed: no credential was found, or the registry rejected it.
    Unauthenticated,
    /// The registry denied access to an authenticated user.
    Denied,
    /// The repository, tag, manifest or blob does not exist.
    NotFound,
    /// The name already refers to other content.
    Conflict,
    /// The registry could not be reached, stopped responding or reported an internal error.
    Network,
    /// The registry limits the rate of requests, and the requested delay is too long to wait for.
    RateLimited,
    /// The received bytes do not have the expected digest or size.
    Mismatch,
    /// The registry does not support the operation.
    Unsupported,
    /// A response or document violates its specification.
    Protocol,
    /// A file or directory of this machine could not be read or written.
    Io,
}

impl ErrorKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 11] = [
        Self::InvalidInput,
        Self::Unauthenticated,
        Self::Denied,
        Self::NotFound,
        Self::Conflict,
        Self::Network,
        Self::RateLimited,
        Self::Mismatch,
        Self::Unsupported,
        Self::Protocol,
        Self::Io,
    ];

    /// Returns the stable code of this kind, for scripts: `oci::not_found`, `oci::network`, …
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
}

/// Advice about an error, as facts that a front end words for its users.
///
/// Exhaustive for the same reason as [`ErrorKind`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Advice that is the same for users of every front end, as a sentence without a full stop.
    Advice(Cow<'static, str>),
    /// No credential was found for the registry.
    NoCredential {
        /// Registry that requested authentication.
        registry: String,
        /// Sources that were searched, in order.
        searched: Vec<String>,
    },
    /// The registry rejected the credential that was found.
    RejectedCredential {
        /// Registry that rejected it.
        registry: String,
        /// Source that it was read from.
        source: String,
    },
    /// A login to the registry may help.
    LogIn {
        /// Registry to log in to.
        registry: String,
    },
    /// The certificate of the registry is not signed by a trusted authority.
    TrustCertificate,
    /// The registry requires a client certificate.
    ClientCertificate,
    /// The server answered a TLS handshake with something else.
    UsePlainHttp,
    /// The server reported that it expects TLS and received plain HTTP.
    UseTls,
    /// The first request over plain HTTP got no HTTP response, so the server may expect TLS.
    TryTls,
    /// A released version has other files, or the tag refers to something else: a new version, or an explicit overwrite.
    OverwriteVersion,
    /// A tag refers to a manifest that is not a package for the same target: an explicit overwrite replaces it.
    OverwriteTag,
    /// A tag refers to something other than the index of a package: another tag, or a push without an index.
    SkipIndex,
    /// The registry does not allow changes of a tag, so the index of a release must be complete when it is written.
    DeclareTargets,
    /// The manifest of the target is stored, and an index has to be assembled.
    AssembleIndex {
        /// Tag of the index.
        tag: String,
    },
    /// The archives of a package can be downloaded as they are, without unpacking them.
    KeepArchives,
    /// The package needs a repository.
    SetRepository,
    /// The repository does not exist: its name may be misspelled, or a login may be necessary.
    CheckRepository {
        /// Registry that reported it missing.
        registry: String,
        /// Name of the repository.
        repository: String,
    },
    /// A list of the tags shows the existing content.
    ListTags {
        /// Repository, layout or archive without tag and digest.
        location: String,
    },
    /// The template for file names has to be changed.
    SetNameTemplate {
        /// Template that solves the problem, if one is known.
        example: Option<&'static str>,
    },
}

impl From<&'static str> for Hint {
    fn from(advice: &'static str) -> Self {
        Self::Advice(advice.into())
    }
}

impl From<String> for Hint {
    fn from(advice: String) -> Self {
        Self::Advice(advice.into())
    }
}

/// End of a copy that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Source, which is read.
    Source,
    /// Target, which is written.
    Target,
}

/// Entry of a registry's error response (distribution-spec, "Error Codes").
///
/// Registries send codes that no specification lists. The texts are untrusted: escape them before they reach a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// Code, such as `MANIFEST_UNKNOWN`.
    pub code: String,
    /// Message, possibly empty.
    pub message: String,
    /// `detail` as JSON text; empty when absent.
    pub detail: String,
}

/// Error of the libraries.
///
/// `{}` prints what failed, and [`std::error::Error::source`] leads to the causes. [`Error::hints`] has the advice, which
/// is never part of a message.
pub struct Error(Box<dyn Failure>);

impl Error {
    /// Creates the error of a [`Source`](crate::Source) or [`Target`](crate::Target) that is implemented in another crate,
    /// with the message of `error`.
    pub fn new(kind: ErrorKind, error: impl StdError + Send + Sync + 'static) -> Self {
        ExternalError {
            kind,
            error: Box::new(error),
        }
        .into()
    }

    /// Returns the category.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    /// Returns the message and those of all causes as one line, for places with little room. It may contain text of the
    /// registry.
    pub fn in_one_line(&self) -> String {
        let causes = std::iter::successors(Some(self as &dyn StdError), |error| (*error).source());
        causes
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    }

    /// Returns advice about this error and about its cause, if that is of the same kind.
    pub fn hints(&self) -> Vec<Hint> {
        let mut hints = self.0.hints();
        if let Some(cause) = self.cause().filter(|cause| cause.kind() == self.kind()) {
            hints.extend(cause.hints());
        }
        hints
    }

    /// Returns the entries of the registry's error response that caused this error, as sent.
    pub fn registry_errors(&self) -> &[RegistryError] {
        match (self.0.registry_errors(), self.cause()) {
            ([], Some(cause)) => cause.registry_errors(),
            (entries, _) => entries,
        }
    }

    /// Returns the end of a copy that failed, if the error was in a copy.
    pub fn side(&self) -> Option<Side> {
        self.0.side().or_else(|| self.cause()?.side())
    }

    /// Returns the range of the offending bytes in the parsed text, if parsing a text failed.
    pub fn span(&self) -> Option<Range<usize>> {
        self.0.span()
    }

    /// Returns the same error with further advice.
    #[must_use]
    pub fn with_hints(self, hints: impl IntoIterator<Item = Hint>) -> Self {
        let hints = hints.into_iter().collect();
        AdvisedError { error: self, hints }.into()
    }

    /// Returns the nearest cause that is an error of the libraries.
    fn cause(&self) -> Option<&Self> {
        let mut causes = std::iter::successors(self.0.source(), |error| (*error).source());
        causes.find_map(|cause| cause.downcast_ref())
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

/// Error of an implementation in another crate.
#[derive(Debug)]
struct ExternalError {
    kind: ErrorKind,
    error: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for ExternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for ExternalError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

impl Failure for ExternalError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Error to which a caller added advice.
#[derive(Debug)]
struct AdvisedError {
    error: Error,
    hints: Vec<Hint>,
}

impl fmt::Display for AdvisedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for AdvisedError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

impl Failure for AdvisedError {
    fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    fn hints(&self) -> Vec<Hint> {
        // Without the hints of the cause, which is also the cause of this error.
        let own = self.error.0.hints().into_iter();
        own.chain(self.hints.iter().cloned()).collect()
    }

    fn registry_errors(&self) -> &[RegistryError] {
        self.error.registry_errors()
    }

    fn side(&self) -> Option<Side> {
        self.error.side()
    }

    fn span(&self) -> Option<Range<usize>> {
        self.error.span()
    }
}

/// Error enum of a module, which converts into [`Error`].
///
/// [`Error`] takes hints, registry errors and side of a variant's cause by itself, if the cause is an [`Error`].
pub trait Failure: StdError + Send + Sync + 'static {
    /// Returns the category; for a variant that only adds context, that of its cause.
    fn kind(&self) -> ErrorKind;

    /// Returns the advice that the cause does not give.
    fn hints(&self) -> Vec<Hint> {
        Vec::new()
    }

    /// Returns the entries of the error response that this error was made from.
    fn registry_errors(&self) -> &[RegistryError] {
        &[]
    }

    /// Returns the end of a copy that failed.
    fn side(&self) -> Option<Side> {
        None
    }

    /// Returns the range of the offending bytes in a parsed text.
    fn span(&self) -> Option<Range<usize>> {
        None
    }
}

/// Conversion of "not found" into an absent value.
pub trait Optional<T> {
    /// Returns `Ok(None)` for [`ErrorKind::NotFound`], and every other result as it is.
    ///
    /// # Errors
    ///
    /// Every error of another kind.
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
