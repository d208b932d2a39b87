//! Exit codes of `cargo oci`.
//!
//! The codes are part of the command-line interface: their numbers and meanings do not change. [`HELP`] and the README
//! list them.

use oci_registry::ErrorKind;

/// Any other error: a file could not be read or written, a program could not be run, or the user declined a
/// confirmation.
pub(crate) const OTHER: u8 = 1;

/// An argument, a setting or a local file is invalid.
pub(crate) const INVALID_INPUT: u8 = 2;

/// The registry rejected the credential, or denied access.
pub(crate) const ACCESS_DENIED: u8 = 3;

/// The repository, tag, manifest, blob or file does not exist.
pub(crate) const NOT_FOUND: u8 = 4;

/// The tag or file exists with different content.
pub(crate) const CONFLICT: u8 = 5;

/// The registry could not be reached, returned a server error, or limits the rate of requests.
pub(crate) const NETWORK: u8 = 6;

/// Content does not have the expected digest or size, or the documents of a package contradict each other.
pub(crate) const MISMATCH: u8 = 7;

/// The registry does not support the operation, or violates the specification.
pub(crate) const UNSUPPORTED: u8 = 8;

/// Cargo failed to build. Cargo exits with the same code.
pub(crate) const BUILD_FAILED: u8 = 101;

/// Base of the exit code after a signal. The signal number is added, as in shells: 130 after Ctrl-C.
pub(crate) const SIGNAL: u8 = 128;

/// List of the exit codes in the help of the program.
pub(crate) const HELP: &str = "\
Exit codes:
  1    any other error, such as a file that cannot be written
  2    invalid argument, setting or manifest
  3    authentication failed or access denied
  4    not found
  5    the tag or file exists with different content
  6    the registry could not be reached, or returned a server error
  7    digest or size mismatch
  8    the registry does not support the operation
  101  cargo failed to build
  130  interrupted";

/// Returns the exit code for an error kind.
pub(crate) fn from_kind(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Io => OTHER,
        ErrorKind::InvalidInput => INVALID_INPUT,
        ErrorKind::Unauthenticated | ErrorKind::Denied => ACCESS_DENIED,
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Conflict => CONFLICT,
        ErrorKind::Network | ErrorKind::RateLimited => NETWORK,
        ErrorKind::Mismatch => MISMATCH,
        ErrorKind::Unsupported | ErrorKind::Protocol => UNSUPPORTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_exit_code() {
        let listed: Vec<u8> = HELP
            .lines()
            .skip(1)
            .map(|line| {
                let code = line.split_whitespace().next().expect("a code");
                code.parse().expect("a number")
            })
            .collect();
        let interrupt = 2;
        assert_eq!(
            listed,
            [
                OTHER,
                INVALID_INPUT,
                ACCESS_DENIED,
                NOT_FOUND,
                CONFLICT,
                NETWORK,
                MISMATCH,
                UNSUPPORTED,
                BUILD_FAILED,
                SIGNAL + interrupt,
            ]
        );
    }
}
