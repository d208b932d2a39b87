//! The one error of this crate: opaque, classified, with the advice that helps.
//!
//! Owns the public [`Error`] and the crate-private [`Failure`] trait through which the error enum of each module becomes
//! one. Does not own any wording: each message stands in the module that fails. The kinds are the core's, so that a
//! front end turns both crates' errors into a class and an exit code at one place.

use std::fmt;

use oci_registry::{ErrorKind, RegistryError};

/// Shorthand for a result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong in this crate.
///
/// Shown with `{}` it says what was being tried; [`std::error::Error::source`] leads to why. [`Error::help`] holds
/// advice, which is never part of the message.
pub struct Error(Box<dyn Failure>);

impl Error {
    /// What kind of failure this is; that of the registry's answer where one is the cause.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    /// What the reader could do next, a sentence each, possibly none.
    pub fn help(&self) -> Vec<String> {
        let mut help = self.0.help();
        help.extend(
            self.0
                .registry_error()
                .map(oci_registry::Error::help)
                .into_iter()
                .flatten(),
        );
        help
    }

    /// The entries of the registry's own error body, as sent, when a registry's answer is the cause.
    pub fn registry_errors(&self) -> &[RegistryError] {
        self.0
            .registry_error()
            .map_or(&[], oci_registry::Error::registry_errors)
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

/// What the error enum of a module tells about itself, so that it can be an [`Error`].
pub(crate) trait Failure: std::error::Error + Send + Sync + 'static {
    fn kind(&self) -> ErrorKind;

    fn help(&self) -> Vec<String> {
        Vec::new()
    }

    /// The core's error that this one stands on, for its advice and the registry's own words.
    fn registry_error(&self) -> Option<&oci_registry::Error> {
        None
    }
}
