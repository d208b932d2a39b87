//! The verbs, a file each: its flags, and what it does with the core.

pub(crate) mod catalog;
mod find;
//pub(crate) mod manifest;
//pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod tags;

use oci_registry::Location;

/// Parses a place that artifacts are in, for clap.
fn location(text: &str) -> Result<Location, Complaint> {
    text.parse().map_err(Complaint)
}

/// An error of the core as clap shows it: the message, then the help.
#[derive(Debug)]
struct Complaint(oci_registry::Error);

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        self.0
            .help()
            .iter()
            .try_for_each(|help| write!(f, "\n\n  help: {help}"))
    }
}

impl std::error::Error for Complaint {}
