//! The verbs, a file each: its flags, and what it does with the core.

pub(crate) mod catalog;
mod find;
pub(crate) mod manifest;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod tags;

use oci_registry::Location;

use crate::report::Error;

/// Parses a place that artifacts are in, for clap.
fn location(text: &str) -> Result<Location, Complaint> {
    text.parse().map_err(Complaint)
}

/// What is wrong with a name on the command line, on its way through clap.
#[derive(Debug)]
pub(crate) struct Complaint(oci_registry::Error);

impl From<oci_registry::Error> for Complaint {
    fn from(error: oci_registry::Error) -> Self {
        Self(error)
    }
}

impl Complaint {
    /// The complaint that made clap fail, when it was one.
    pub(crate) fn within(error: &clap::Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// The same, as every other error is shown.
    pub(crate) fn to_error(&self) -> Error {
        let error = Error::usage(self.0.to_string());
        self.0.help().into_iter().fold(error, Error::help)
    }
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Complaint {}
