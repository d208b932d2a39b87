//! Errors that occur while the files of an artifact are written.

use std::path::PathBuf;

use snafu::Snafu;

use super::file_name::FileName;
use crate::error::{ErrorKind, Failure};

#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub(super) enum Error {
    #[snafu(display("failed to write below `{}`: it is not a directory", path.display()))]
    NotADirectory { path: PathBuf },
    #[snafu(display("failed to write `{}`: it exists with different content", path.display()))]
    Occupied { path: PathBuf },
    #[snafu(display("failed to write `{}`: it exists and is not a regular file", path.display()))]
    NotAFile { path: PathBuf },
    #[snafu(display("failed to create the directory `{}`", path.display()))]
    MakeDirectory {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to open the directory `{}`", path.display()))]
    OpenDirectory {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to create a temporary directory in `{}`", path.display()))]
    MakeTemporary {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to write `{}`", path.display()))]
    WriteFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to fetch `{name}`"))]
    Fetch {
        name: FileName,
        source: crate::Error,
    },
    #[snafu(display("failed to compare `{}` with the published file", path.display()))]
    Compare { path: PathBuf, source: crate::Error },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Occupied { .. } => ErrorKind::Conflict,
            Self::NotADirectory { .. }
            | Self::NotAFile { .. }
            | Self::MakeDirectory { .. }
            | Self::OpenDirectory { .. }
            | Self::MakeTemporary { .. }
            | Self::WriteFile { .. } => ErrorKind::Io,
            Self::Fetch { source, .. } | Self::Compare { source, .. } => source.kind(),
        }
    }
}
