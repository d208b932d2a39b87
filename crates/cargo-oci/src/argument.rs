//! Names on the command line, as clap reads them: strictly, and with more to say of a wrong one than clap can.

use oci_registry::{LocationText, RegistryName};

/// Parses the location of artifacts, for clap.
pub(crate) fn location(text: &str) -> Result<LocationText, Complaint> {
    text.parse().map_err(Complaint)
}

/// Parses the name of a registry, for clap.
pub(crate) fn registry(text: &str) -> Result<RegistryName, Complaint> {
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

    /// What is wrong, and what to do about it.
    pub(crate) fn error(&self) -> &oci_registry::Error {
        &self.0
    }
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Complaint {}
