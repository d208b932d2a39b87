//! Exit codes of `cargo oci`, which are part of its interface.

use oci_registry::ErrorKind;

/// A file or directory could not be read or written, or a program could not be run.
pub(crate) const IO: u8 = 1;

/// An argument, setting or file of the user is invalid.
pub(crate) const INVALID_INPUT: u8 = 2;

/// The registry rejected the credential, or denied access.
pub(crate) const ACCESS_DENIED: u8 = 3;

/// The repository, tag, manifest, blob or file does not exist.
pub(crate) const NOT_FOUND: u8 = 4;

/// The name already refers to other content.
pub(crate) const CONFLICT: u8 = 5;

/// The registry could not be reached, or limits the rate of requests.
pub(crate) const NETWORK: u8 = 6;

/// Content does not have the expected digest, size or facts.
pub(crate) const MISMATCH: u8 = 7;

/// The registry does not support the operation, or violates the specification.
pub(crate) const UNSUPPORTED: u8 = 8;

/// Cargo failed to build. Cargo exits with the same code.
pub(crate) const BUILD_FAILED: u8 = 101;

/// Added to the number of the signal that ended the process, as shells do: 130 after Ctrl-C.
pub(crate) const SIGNAL: u8 = 128;

/// Returns the exit code for an error of the libraries.
pub(crate) fn of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Io => IO,
        ErrorKind::InvalidInput => INVALID_INPUT,
        ErrorKind::Unauthenticated | ErrorKind::Denied => ACCESS_DENIED,
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Conflict => CONFLICT,
        ErrorKind::Network | ErrorKind::RateLimited => NETWORK,
        ErrorKind::Mismatch => MISMATCH,
        ErrorKind::Unsupported | ErrorKind::Protocol => UNSUPPORTED,
    }
}
