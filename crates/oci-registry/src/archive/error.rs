//! Errors of archives and their hints.

use std::path::PathBuf;

use snafu::Snafu;

use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Hint};
use crate::layout;
use crate::reference::{Identifier, Tag};
use crate::tarball;

#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub(super) enum Error {
    #[snafu(display("failed to find the archive `{}`", path.display()))]
    ArchiveNotFound { path: PathBuf },
    #[snafu(display("failed to read the archive `{}`", path.display()))]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to read the archive `{}`", path.display()))]
    ReadTar {
        path: PathBuf,
        source: tarball::Error,
    },
    #[snafu(display("failed to read the archive `{}`: {problem}", path.display()))]
    Invalid {
        path: PathBuf,
        problem: &'static str,
    },
    #[snafu(display("failed to read the archive `{}`: the entry `{}` {problem}", path.display(), name.escape_debug()))]
    InvalidEntry {
        path: PathBuf,
        name: String,
        problem: &'static str,
    },
    #[snafu(display("failed to read the archive `{}`: it is compressed", path.display()))]
    Compressed { path: PathBuf },
    #[snafu(display("failed to read `{name}` in the archive `{}`", path.display()))]
    Parse {
        path: PathBuf,
        name: &'static str,
        source: serde_json::Error,
    },
    #[snafu(display("failed to write the archive `{}`", path.display()))]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to write the archive `{}`", path.display()))]
    WriteTar {
        path: PathBuf,
        source: tarball::Error,
    },
    #[snafu(display("failed to write the archive `{}`: another process has changed it", path.display()))]
    Changed { path: PathBuf },
    #[snafu(display("failed to find the manifest `{identifier}` in the archive `{}`", path.display()))]
    ManifestNotFound {
        path: PathBuf,
        identifier: Identifier,
    },
    #[snafu(display("failed to find the manifest `{}` in the archive `{}`", name.escape_debug(), path.display()))]
    NameNotFound { path: PathBuf, name: String },
    #[snafu(display("failed to find the manifest `{tag}` in the archive `{}`: {} names end with this tag", path.display(), names.len()))]
    AmbiguousName {
        path: PathBuf,
        tag: Tag,
        names: Vec<String>,
    },
    #[snafu(display("failed to find the blob `{digest}` in the archive `{}`", path.display()))]
    BlobNotFound { path: PathBuf, digest: Digest },
    #[snafu(display("digest mismatch of a manifest in the archive `{}`: expected {expected}, received {actual}", path.display()))]
    DigestMismatch {
        path: PathBuf,
        expected: Digest,
        actual: Digest,
    },
    #[snafu(display("failed to find the tag `{tag}` in the archive `{}`: several images have this tag", path.display()))]
    AmbiguousImage { path: PathBuf, tag: Tag },
    #[snafu(display("failed to set the tag `{tag}` in the archive `{}`: missing image name", path.display()))]
    MissingImageName { path: PathBuf, tag: Tag },
    #[snafu(display("failed to tag `{digest}` in the archive `{}`: a docker archive contains images only", path.display()))]
    NotAnImage { path: PathBuf, digest: Digest },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ArchiveNotFound { .. }
            | Self::ManifestNotFound { .. }
            | Self::NameNotFound { .. }
            | Self::AmbiguousName { .. }
            | Self::BlobNotFound { .. } => ErrorKind::NotFound,
            Self::Invalid { .. } | Self::InvalidEntry { .. } | Self::Parse { .. } => {
                ErrorKind::Protocol
            }
            Self::Compressed { .. } => ErrorKind::Unsupported,
            Self::Changed { .. } => ErrorKind::Conflict,
            Self::DigestMismatch { .. } => ErrorKind::Mismatch,
            Self::AmbiguousImage { .. }
            | Self::MissingImageName { .. }
            | Self::NotAnImage { .. } => ErrorKind::InvalidInput,
            Self::Read { .. } | Self::Write { .. } => ErrorKind::Io,
            Self::ReadTar { source, .. } | Self::WriteTar { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let advice = match self {
            Self::ArchiveNotFound { .. } => {
                "check the path, or create the archive by copying an artifact to it".to_owned()
            }
            Self::ReadTar { path, .. } => {
                format!("check that `{}` is a complete archive", path.display())
            }
            Self::Compressed { path } => format!("decompress `{}`, and try again", path.display()),
            Self::AmbiguousName { path, names, .. } => {
                layout::full_name_hint("oci-archive", path, names)
            }
            Self::AmbiguousImage { path, tag } | Self::MissingImageName { path, tag } => {
                format!(
                    "add the name of the image: `docker-archive:{}:NAME:{tag}`",
                    path.display()
                )
            }
            Self::NotAnImage { path, .. } => {
                return vec![
                    "copy the image of one platform instead of an index".into(),
                    format!(
                        "or use `oci-archive:{}`, which can contain every artifact",
                        path.display()
                    )
                    .into(),
                ];
            }
            Self::Changed { .. } => "run the command again".to_owned(),
            _ => return Vec::new(),
        };
        vec![advice.into()]
    }
}
