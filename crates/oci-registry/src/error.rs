//! Error type of the libraries: opaque, with a kind for programs and hints for front ends.
//!
//! Each module defines an error enum with its messages. The enum implements [`Failure`], so it converts into [`Error`].

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;

/// Shorthand for a result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Category of an error, from which a program can decide what to do next.
///
/// The enum is exhaustive on purpose: each front end maps every kind to an exit code or a label, and must not compile
/// until it handles a new kind.
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
    /// All kinds, in the order of declaration.
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

/// Advice about an error, as data. Each front end writes the text for its users.
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
        /// Registry that rejected the credential.
        registry: String,
        /// Source of the credential.
        source: String,
    },
    /// A login to the registry may help.
    LogIn {
        /// Registry to log in to.
        registry: String,
    },
    /// A CI job accessed the registry of the forge that runs it. The forge issues a registry token to each job.
    JobToken {
        /// Forge that runs the job.
        forge: Forge,
        /// Registry of the forge.
        registry: String,
        /// Whether the request was sent with a credential, which the registry rejected.
        has_credential: bool,
        /// Whether write access was requested.
        is_write: bool,
    },
    /// The certificate of the registry is not signed by a trusted authority.
    TrustCertificate,
    /// The registry requires a client certificate.
    ClientCertificate,
    /// The response of the server to a TLS handshake was not TLS, so the server probably expects plain HTTP.
    UsePlainHttp,
    /// The server reported that it expects TLS and received plain HTTP.
    UseTls,
    /// The first request over plain HTTP got no HTTP response, so the server may expect TLS.
    TryTls,
    /// The tag of a version refers to other content. The user can release a new version, or overwrite the tag
    /// explicitly.
    OverwriteVersion,
    /// A tag refers to a manifest that is not a package for the same target. The user can overwrite the tag explicitly.
    OverwriteTag,
    /// A tag refers to a manifest that is not the index of a package. The user can choose another tag, or push without
    /// an index.
    SkipIndex,
    /// The registry does not allow changes of a tag, so the index of a release must be complete when it is written.
    DeclareTargets,
    /// The manifest of a target was pushed, but the index does not list it. The user must assemble the index.
    AssembleIndex {
        /// Tag of the index.
        tag: String,
    },
    /// The archives of a package can be downloaded without being unpacked.
    KeepArchives,
    /// No valid repository name can be derived from the package name, so the user must set the repository.
    SetRepository,
    /// The repository does not exist: its name may be misspelled, or a login may be necessary.
    CheckRepository {
        /// Registry that reported the repository as missing.
        registry: String,
        /// Name of the repository.
        repository: String,
    },
    /// The existing content can be found by listing the tags.
    ListTags {
        /// Repository, layout or archive, as a reference that has neither tag nor digest.
        location: String,
    },
    /// The template for file names must be changed.
    SetNameTemplate {
        /// Template that solves the problem, if it is known.
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

/// Software forge with a container registry and a CI system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forge {
    /// GitHub, with GitHub Actions and `ghcr.io`.
    GitHub,
    /// GitLab, with GitLab CI and the registry in `CI_REGISTRY`.
    GitLab,
}

/// Side of a copy, for an error of the source or of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The source of the copy.
    Source,
    /// The target of the copy.
    Target,
}

/// Entry of a registry's error response (distribution-spec, "Error Codes").
///
/// Registries also send codes that the specification does not list. All fields are untrusted text, so escape them
/// before printing them to a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// Code, such as `MANIFEST_UNKNOWN`.
    pub code: String,
    /// Message, possibly empty.
    pub message: String,
    /// `detail` as JSON text. Empty if the entry has no detail.
    pub detail: String,
}

/// Error of the libraries.
///
/// `{}` prints the message without its causes, which [`std::error::Error::source`] returns. Advice is never part of a
/// message: [`Error::hints`] returns it.
pub struct Error(Box<dyn Failure>);

impl Error {
    /// Creates the error of a [`Source`](crate::Source) or [`Target`](crate::Target) that is implemented in another
    /// crate. It has the message of `error`.
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

    /// Returns the messages of the error and of all its causes in one line, for example for a cell of a table. The line
    /// may contain text from the registry.
    pub fn in_one_line(&self) -> String {
        let causes = std::iter::successors(Some(self as &dyn StdError), |error| (*error).source());
        causes
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    }

    /// Returns the advice about this error, and about its cause if the cause has the same kind.
    pub fn hints(&self) -> Vec<Hint> {
        let mut hints = self.0.hints();
        if let Some(cause) = self.cause().filter(|cause| cause.kind() == self.kind()) {
            hints.extend(cause.hints());
        }
        hints
    }

    /// Returns the entries of the registry's error response, if such a response caused this error. The entries are not
    /// escaped.
    pub fn registry_errors(&self) -> &[RegistryError] {
        match (self.0.registry_errors(), self.cause()) {
            ([], Some(cause)) => cause.registry_errors(),
            (entries, _) => entries,
        }
    }

    /// Returns the side of the copy that failed, source or target; `None` for other errors.
    pub fn side(&self) -> Option<Side> {
        self.0.side().or_else(|| self.cause()?.side())
    }

    /// Returns the byte range of the invalid input for a parse error, and `None` for other errors.
    pub fn span(&self) -> Option<Range<usize>> {
        self.0.span()
    }

    /// Adds advice to the error.
    #[must_use]
    pub fn with_hints(self, hints: impl IntoIterator<Item = Hint>) -> Self {
        let hints = hints.into_iter().collect();
        AdvisedError { error: self, hints }.into()
    }

    /// Returns the private error of the module that created this error.
    pub(crate) fn failure(&self) -> &(dyn StdError + 'static) {
        &*self.0
    }

    /// Returns the nearest cause that is an [`Error`].
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
    /// Returns the cause. A cause that is only "failed to VERB `NAME`" is omitted if the message of this error contains
    /// NAME.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let mut cause = self.0.source()?;
        while let Some(error) = cause.downcast_ref::<Self>()
            && let Some(object_name) = error.0.object_name()
            && let Some(next) = error.0.source()
            && self.to_string().contains(&object_name)
        {
            cause = next;
        }
        Some(cause)
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
        // The hints of the cause are omitted here, because [`Error::hints`] adds them.
        let hints = self.error.0.hints().into_iter();
        hints.chain(self.hints.iter().cloned()).collect()
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

    fn object_name(&self) -> Option<String> {
        self.error.0.object_name()
    }
}

/// Error enum of a module, which converts into [`Error`].
///
/// If the cause of a variant is an [`Error`], the methods of [`Error`] include its hints, registry errors and side.
pub trait Failure: StdError + Send + Sync + 'static {
    /// Returns the category. A variant that only adds context returns the category of its cause.
    fn kind(&self) -> ErrorKind;

    /// Returns the advice about this error, without the advice of its cause.
    fn hints(&self) -> Vec<Hint> {
        Vec::new()
    }

    /// Returns the entries of the registry's error response, if such a response caused this error.
    fn registry_errors(&self) -> &[RegistryError] {
        &[]
    }

    /// Returns the side of the copy that failed; `None` for other errors.
    fn side(&self) -> Option<Side> {
        None
    }

    /// Returns the byte range of the invalid input for a parse error, and `None` for other errors.
    fn span(&self) -> Option<Range<usize>> {
        None
    }

    /// Returns NAME if the message is only "failed to VERB `NAME`" and the cause states the reason. Otherwise returns
    /// `None`.
    fn object_name(&self) -> Option<String> {
        None
    }
}

/// Conversion of [`ErrorKind::NotFound`] errors into `None`.
pub trait Optional<T> {
    /// Converts [`ErrorKind::NotFound`] into `Ok(None)`. Other results are not changed.
    ///
    /// # Errors
    ///
    /// All errors of other kinds.
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

#[cfg(test)]
mod tests {
    use snafu::{IntoError, Snafu};

    use super::*;

    #[derive(Debug, Snafu)]
    enum Failed {
        #[snafu(display("failed to verify `{name}`"))]
        Verify { name: &'static str, source: Error },
        #[snafu(display("failed to fetch `{name}`"))]
        Fetch { name: &'static str, source: Error },
        #[snafu(display("not found"))]
        NotFound,
    }

    impl Failure for Failed {
        fn kind(&self) -> ErrorKind {
            ErrorKind::NotFound
        }

        fn object_name(&self) -> Option<String> {
            match self {
                Self::Fetch { name, .. } => Some((*name).to_owned()),
                Self::Verify { .. } | Self::NotFound => None,
            }
        }
    }

    #[test]
    fn cause_with_repeated_object_name_is_omitted() {
        let verify = |fetched| {
            let source = FetchSnafu { name: fetched }.into_error(NotFoundSnafu.build().into());
            Error::from(VerifySnafu { name: "a.b/c" }.into_error(source.into())).in_one_line()
        };
        assert_eq!(verify("a.b/c"), "failed to verify `a.b/c`: not found");
        assert_eq!(
            verify("a.b/d"),
            "failed to verify `a.b/c`: failed to fetch `a.b/d`: not found"
        );
    }
}
