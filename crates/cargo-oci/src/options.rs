//! Options that all commands accept, and parsers for values that several commands accept.

use std::path::PathBuf;

use clap::{ArgAction, Args, ColorChoice};
use oci_registry::{Hint, LocationText, RegistryName, Resolve};

/// Options that all commands accept.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Common Options")]
pub(crate) struct CommonOptions {
    /// Print only data and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    /// Log HTTP requests; also passed to cargo (-vv: very verbose cargo output)
    #[arg(long, short, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// When to color the output
    #[arg(long, global = true, value_name = "WHEN")]
    pub(crate) color: Option<ColorChoice>,

    /// Use HTTP instead of HTTPS (default: only for localhost)
    ///
    /// `--plain-http=false` uses HTTPS for all registries. Without the flag, HTTP is used for loopback addresses and
    /// for registries with `plain-http = true` in `oci.toml`.
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub(crate) plain_http: Option<bool>,

    /// Connect to ADDRESS instead of the resolved address of HOST:PORT
    ///
    /// Same format as `curl --resolve`. May be given more than once.
    #[arg(long, global = true, value_name = "HOST:PORT:ADDRESS", value_parser = parse_resolve)]
    pub(crate) resolve: Vec<Resolve>,

    /// Also trust the CA certificates in FILE (forces HTTPS)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Client certificate for mutual TLS (forces HTTPS)
    #[arg(long, global = true, value_name = "FILE", requires = "key_file")]
    pub(crate) cert_file: Option<PathBuf>,

    /// Private key of the certificate in `--cert-file`
    #[arg(long, global = true, value_name = "FILE", requires = "cert_file")]
    pub(crate) key_file: Option<PathBuf>,

    /// Number of retries of a failed request
    #[arg(long, global = true, value_name = "N", default_value_t = 4)]
    pub(crate) retries: u32,

    /// Number of files and manifests to transfer in parallel
    #[arg(long, global = true, value_name = "N", default_value_t = 4, value_parser = parse_positive)]
    pub(crate) concurrency: usize,
}

fn parse_positive(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a number of at least 1".to_owned())
}

fn parse_resolve(text: &str) -> Result<Resolve, ArgumentError> {
    text.parse().map_err(ArgumentError)
}

/// Parses the location of an artifact or repository.
pub(crate) fn parse_location(text: &str) -> Result<LocationText, ArgumentError> {
    text.parse().map_err(ArgumentError)
}

/// Parses a registry name.
pub(crate) fn parse_registry(text: &str) -> Result<RegistryName, ArgumentError> {
    text.parse().map_err(ArgumentError)
}

/// Error about an invalid name on the command line. clap stores it as the source of its error.
#[derive(Debug)]
pub(crate) struct ArgumentError(oci_registry::Error);

impl From<oci_registry::Error> for ArgumentError {
    fn from(error: oci_registry::Error) -> Self {
        Self(error)
    }
}

impl ArgumentError {
    /// Returns the argument error that is the source of a clap error, if any.
    pub(crate) fn find_in(error: &clap::Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// Adds a hint to the error.
    #[must_use]
    pub(crate) fn with_hint(self, hint: impl Into<Hint>) -> Self {
        Self(self.0.with_hints([hint.into()]))
    }

    /// Returns the wrapped error.
    pub(crate) fn error(&self) -> &oci_registry::Error {
        &self.0
    }
}

impl std::fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ArgumentError {}
