//! Facts about a workspace from cargo, rustc and git.
//!
//! Decides nothing about registries, names or tags, prints nothing, and reads no variable of the process: an
//! [`Environment`] holds everything that it uses.
//!
//! | question | file | processes |
//! | --- | --- | --- |
//! | which of cargo's flags were given | [`selection`] | – |
//! | what is in this workspace | [`metadata`] | `cargo metadata --no-deps` |
//! | what do its manifests set | [`settings`] | – |
//! | how is it built | [`mod@build`] | `cargo build`, one for each target |
//! | which files do the messages of a build name | [`messages`] | – |
//! | where is a file of the container of cross | [`container`] | – |
//! | what is in the `.crate` file | [`crate_file`] | `cargo package` |
//! | what did an earlier build write | [`mod@existing`] | `cargo build`, which compiles nothing |
//! | which compiler is used | [`toolchain`] | `rustc -vV`, `cargo -V` |
//! | which programs are installed, and where | [`installed`] | – |
//! | commit and state of the work tree | [`git`] | `git ls-files`, `git log`, `git config`, `git status` |
//!
//! Every child process ends when the future that waits for it is dropped.

mod artifact;
mod build;
mod container;
mod crate_file;
mod existing;
mod git;
mod installed;
mod messages;
mod metadata;
mod nearest;
mod process;
mod selection;
mod settings;
mod toolchain;

#[cfg(test)]
mod scratch;

use std::{collections::BTreeMap, error::Error as StdError, ffi::OsString, fmt, path::PathBuf};

pub(crate) use artifact::{Built, Output, PackageOutput, Request};
pub(crate) use build::{BuildTool, Shell, build};
pub(crate) use crate_file::{CrateOptions, check_crates, crate_files};
pub(crate) use existing::{existing, wrap_rustc};
pub(crate) use git::{
    Provenance, executables, origin, provenance, source_date_epoch, source_repository,
    tracking_work_tree,
};
pub(crate) use installed::{Installed, Record, cargo_home, install_root, source_of};
pub(crate) use messages::replay;
pub(crate) use metadata::Workspace;
pub(crate) use nearest::nearest;
pub(crate) use selection::Selection;
pub(crate) use settings::{Settings, declared_target};
pub(crate) use toolchain::Toolchain;

/// What the room may know of the process it runs in.
#[derive(Clone)]
pub(crate) struct Environment {
    /// Where commands run; relative paths in flags are relative to this. Absolute.
    pub(crate) directory: PathBuf,
    /// Every variable; children see these and no others.
    pub(crate) variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// An environment of a working directory and variables.
    pub(crate) fn new(
        directory: PathBuf,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        Self {
            directory,
            variables: variables.into_iter().collect(),
        }
    }

    /// The value of a variable that is set, not empty, and text.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .get(OsString::from(name).as_os_str())
            .and_then(|value| value.to_str())
            .filter(|value| !value.is_empty())
    }

    /// The cargo that called us, else the one on the path.
    fn cargo(&self) -> OsString {
        self.program("CARGO", "cargo")
    }

    /// The rustc that cargo would use, as far as variables say.
    fn rustc(&self) -> OsString {
        self.program("RUSTC", "rustc")
    }

    fn program(&self, variable: &str, otherwise: &str) -> OsString {
        self.variables
            .get(OsString::from(variable).as_os_str())
            .filter(|value| !value.is_empty())
            .cloned()
            .unwrap_or_else(|| otherwise.into())
    }
}

impl fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Environment")
            .field("directory", &self.directory)
            .field("variables", &self.variables.keys())
            .finish()
    }
}

/// What kind of failure an [`Error`] is; a front end turns it into an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// What was asked for, or what a manifest says, cannot be.
    Usage,
    /// A program is there that somebody else put there.
    Conflict,
    /// Cargo failed to build and has already said why on stderr: exit as cargo does, say nothing again.
    Build,
    /// A program or file let us down.
    Io,
}

/// A failure to learn something from cargo, rustc or git.
#[derive(Debug)]
pub(crate) struct Error(Box<dyn Fault>);

impl Error {
    /// What kind of failure this is.
    pub(crate) fn class(&self) -> ErrorClass {
        self.0.class()
    }

    /// What to do about it, where that is known.
    pub(crate) fn help(&self) -> Option<String> {
        self.0.help()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// The private error of one file of this room.
trait Fault: StdError + Send + Sync + 'static {
    fn class(&self) -> ErrorClass;

    fn help(&self) -> Option<String> {
        None
    }
}

impl<F: Fault> From<F> for Error {
    fn from(fault: F) -> Self {
        Self(Box::new(fault))
    }
}
