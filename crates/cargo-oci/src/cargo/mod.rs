//! Interface to cargo, rustc and git.
//!
//! This module does not depend on registries, references or tags. It prints nothing, and does not read the environment
//! of the process: callers pass a [`CargoEnvironment`] instead.
//!
//! | subject | file | processes |
//! | --- | --- | --- |
//! | cargo flags | [`selection`] | – |
//! | packages of the workspace | [`metadata`] | `cargo metadata --no-deps` |
//! | settings in manifests | [`settings`] | – |
//! | build | [`mod@build`] | `cargo build`, once per target |
//! | files in build messages | [`messages`] | – |
//! | paths in the container of cross | [`container`] | – |
//! | `.crate` files | [`crate_file`] | `cargo package` |
//! | files of an earlier build | [`mod@existing`] | `cargo build`, which compiles nothing |
//! | version of the compiler | [`toolchain`] | `rustc -vV`, `cargo -V` |
//! | installed programs | [`installed`] | – |
//! | tracked files and the remote | [`git`] | `git ls-files`, `git remote` |
//! | commit and state of the work tree | [`provenance`] | `git log`, `git config`, `git status`, `git check-attr` |
//!
//! A child process is killed when the future that waits for the process is dropped.

mod artifact;
mod build;
mod changes;
mod container;
mod crate_file;
mod existing;
mod git;
mod installed;
mod messages;
mod metadata;
mod process;
mod provenance;
mod selection;
mod settings;
mod toolchain;

#[cfg(test)]
mod scratch;

use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf};

use oci_registry::Failure;

pub(crate) use artifact::{BuildOutput, BuildRequest, BuiltFile, PackageOutput};
pub(crate) use build::{BuildTool, OutputOptions, build};
pub(crate) use crate_file::{CrateOptions, check_crates, crate_files};
pub(crate) use existing::{find_existing, wrap_rustc};
pub(crate) use git::{find_executables, origin, tracking_work_tree};
pub(crate) use installed::{
    InstallRecord, InstalledPackage, InstalledPackages, cargo_home, describe_package, install_root,
    source_of,
};
pub(crate) use messages::replay;
pub(crate) use metadata::Workspace;
pub(crate) use provenance::{Provenance, read_provenance, source_date_epoch, source_repository};
pub(crate) use selection::Selection;
pub(crate) use settings::{PackageSettings, declared_target};
pub(crate) use toolchain::Toolchain;

/// Working directory and environment variables for cargo, rustc and git.
#[derive(Clone)]
pub(crate) struct CargoEnvironment {
    /// Absolute working directory of commands, to which relative paths in flags refer.
    pub(crate) directory: PathBuf,
    /// Environment variables. Child processes inherit these variables and no others.
    pub(crate) variables: BTreeMap<OsString, OsString>,
}

impl CargoEnvironment {
    /// Creates an environment from a working directory and variables.
    pub(crate) fn new(
        directory: PathBuf,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        Self {
            directory,
            variables: variables.into_iter().collect(),
        }
    }

    /// Returns the value of a variable, or `None` if the variable is not set, empty or not UTF-8.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .get(OsString::from(name).as_os_str())
            .and_then(|value| value.to_str())
            .filter(|value| !value.is_empty())
    }

    /// Returns the cargo executable that runs this program (`CARGO`), or else `cargo` in PATH.
    fn cargo(&self) -> OsString {
        self.program("CARGO", "cargo")
    }

    /// Returns the rustc executable that `RUSTC` names, or else `rustc` in PATH.
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

impl fmt::Debug for CargoEnvironment {
    /// Formats only the names of variables, because values may be secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CargoEnvironment")
            .field("directory", &self.directory)
            .field("variables", &self.variables.keys())
            .finish()
    }
}

/// Error of an operation that runs cargo, rustc or git, or reads their files.
#[derive(Debug)]
pub(crate) enum Error {
    /// Cargo failed to build or to package, and has already printed the error to stderr.
    BuildFailed,
    /// Any other error, with its kind and hints.
    Other(oci_registry::Error),
}

impl<F: Failure> From<F> for Error {
    fn from(failure: F) -> Self {
        Self::Other(failure.into())
    }
}
