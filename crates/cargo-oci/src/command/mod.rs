//! The verbs, a file each: its flags, and what it does with the core.

pub(crate) mod attach;
pub(crate) mod blob;
pub(crate) mod catalog;
pub(crate) mod completions;
pub(crate) mod config;
mod contents;
pub(crate) mod copy;
pub(crate) mod delete;
pub(crate) mod export;
mod filter;
mod find;
pub(crate) mod index;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod install;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod man;
pub(crate) mod manifest;
mod missing;
mod naming;
mod output;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod referrers;
pub(crate) mod tag;
pub(crate) mod tags;
pub(crate) mod uninstall;
pub(crate) mod verify;
pub(crate) mod whoami;

use oci_registry::{Location, RegistryName};

use crate::report::Error;

/// Parses a place that artifacts are in, for clap.
fn location(text: &str) -> Result<Location, Complaint> {
    text.parse().map_err(Complaint)
}

/// Whether a text has the form `type/subtype` (RFC 6838, 4.2).
fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}

/// Parses the name of a registry, for clap.
fn registry(text: &str) -> Result<RegistryName, Complaint> {
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
