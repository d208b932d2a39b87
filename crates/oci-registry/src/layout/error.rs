//! Errors of layouts and their hints.

use std::path::{Path, PathBuf};

use snafu::Snafu;

use super::marker::VERSION;
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Hint};
use crate::reference::{Identifier, Tag};

#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub(super) enum Error {
    #[snafu(display("failed to open the layout `{}`: there is no `oci-layout` in it", directory.display()))]
    NoLayout { directory: PathBuf },
    #[snafu(display("failed to find layouts in `{}`: it does not exist", directory.display()))]
    NoDirectory { directory: PathBuf },
    #[snafu(display("failed to create a layout in `{}`: it contains `{}`", directory.display(), found.escape_debug()))]
    Occupied { directory: PathBuf, found: String },
    #[snafu(display("failed to create the layout `{}`", directory.display()))]
    CreateLayout {
        directory: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to read `{}`", path.display()))]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to read `{}`: it has more than {limit} bytes", path.display()))]
    TooLarge { path: PathBuf, limit: u64 },
    #[snafu(display("failed to read `{}`: it is not a regular file", path.display()))]
    NotAFile { path: PathBuf },
    #[snafu(display("failed to read `{}`", path.display()))]
    Parse {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[snafu(display("failed to open the layout `{}`: its version is `{}`, expected `{VERSION}`", directory.display(), version.escape_debug()))]
    OtherVersion { directory: PathBuf, version: String },
    #[snafu(display("failed to write `{}`", path.display()))]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to remove `{}`", path.display()))]
    Remove {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to lock `{}`", path.display()))]
    Lock {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to find the manifest `{identifier}` in the layout `{}`", directory.display()))]
    NoManifest {
        directory: PathBuf,
        identifier: Identifier,
    },
    #[snafu(display("failed to find the manifest `{}` in the layout `{}`", name.escape_debug(), directory.display()))]
    NoName { directory: PathBuf, name: String },
    #[snafu(display("failed to find the manifest `{tag}` in the layout `{}`: {} names end with this tag", directory.display(), names.len()))]
    Ambiguous {
        directory: PathBuf,
        tag: Tag,
        names: Vec<String>,
    },
    #[snafu(display("failed to find the blob {digest} in the layout `{}`", directory.display()))]
    NoBlob { directory: PathBuf, digest: Digest },
    #[snafu(display("failed to delete the blob {digest} in the layout `{}`: it is a manifest", directory.display()))]
    IsManifest { directory: PathBuf, digest: Digest },
    #[snafu(display("failed to read `{}`: its content has the digest {actual}", path.display()))]
    WrongDigest { path: PathBuf, actual: Digest },
}

impl Failure for Error {
    fn hints(&self) -> Vec<Hint> {
        let advice = match self {
            Self::NoLayout { directory } => return layouts_below(directory),
            Self::NoDirectory { .. } => "check the path".to_owned(),
            Self::Ambiguous {
                directory, names, ..
            } => full_name_hint("oci", directory, names),
            Self::IsManifest { .. } => "delete the manifest instead of the blob".to_owned(),
            Self::Parse { .. } | Self::TooLarge { .. } | Self::NotAFile { .. } => {
                "copy the layout again to another directory: this directory is damaged or is not a layout"
                    .to_owned()
            }
            Self::OtherVersion { .. } => "create the layout again with a tool that writes version 1.0.0, the only supported version".to_owned(),
            Self::Occupied { .. } => "choose a new or empty directory".to_owned(),
            _ => return Vec::new(),
        };
        vec![advice.into()]
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoLayout { .. }
            | Self::NoDirectory { .. }
            | Self::NoManifest { .. }
            | Self::NoName { .. }
            | Self::Ambiguous { .. }
            | Self::NoBlob { .. }
            | Self::IsManifest { .. } => ErrorKind::NotFound,
            Self::Parse { .. } | Self::TooLarge { .. } | Self::NotAFile { .. } => {
                ErrorKind::Protocol
            }
            Self::OtherVersion { .. } => ErrorKind::Unsupported,
            Self::Occupied { .. } => ErrorKind::InvalidInput,
            Self::WrongDigest { .. } => ErrorKind::Mismatch,
            Self::CreateLayout { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Remove { .. }
            | Self::Lock { .. } => ErrorKind::Io,
        }
    }
}

/// Returns a hint that lists the layouts below a directory that is not a layout itself. Pushing several packages
/// creates such a directory.
fn layouts_below(directory: &Path) -> Vec<Hint> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let layouts = entries
        .map(|entry| entry.path())
        .filter(|path| path.join("oci-layout").is_file());
    let mut names: Vec<_> = layouts
        .map(|path| format!("`oci:{}`", path.display()))
        .collect();
    names.sort();
    names.truncate(10);
    if names.is_empty() {
        vec!["check the path: a layout is a directory that contains a file `oci-layout`".into()]
    } else {
        vec![
            format!(
                "use one of the layouts below this directory: {}",
                names.join(", ")
            )
            .into(),
        ]
    }
}

/// Returns a hint to write a name in full, with up to five possible names.
pub(crate) fn full_name_hint(scheme: &str, path: &Path, names: &[String]) -> String {
    let names = names.iter().take(5);
    let names = names.map(|name| format!("`{scheme}:{}:{}`", path.display(), name.escape_debug()));
    format!(
        "write the name in full: {}",
        names.collect::<Vec<_>>().join(" or ")
    )
}
