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
    NoArchive { path: PathBuf },
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
    #[snafu(display("invalid archive `{}`: {problem}", path.display()))]
    Invalid {
        path: PathBuf,
        problem: &'static str,
    },
    #[snafu(display("invalid archive `{}`: the entry `{}` {problem}", path.display(), name.escape_debug()))]
    InvalidEntry {
        path: PathBuf,
        name: String,
        problem: &'static str,
    },
    #[snafu(display("failed to read the archive `{}`: it is compressed as a whole", path.display()))]
    Compressed { path: PathBuf },
    #[snafu(display("failed to read `{name}` of the archive `{}`", path.display()))]
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
    NoManifest {
        path: PathBuf,
        identifier: Identifier,
    },
    #[snafu(display("failed to find the manifest `{}` in the archive `{}`", name.escape_debug(), path.display()))]
    NoNamed { path: PathBuf, name: String },
    #[snafu(display("failed to find the manifest `{tag}` in the archive `{}`: {} names end with this tag", path.display(), names.len()))]
    Unclear {
        path: PathBuf,
        tag: Tag,
        names: Vec<String>,
    },
    #[snafu(display("failed to find the blob {digest} in the archive `{}`", path.display()))]
    NoBlob { path: PathBuf, digest: Digest },
    #[snafu(display("digest mismatch of a manifest in the archive `{}`: expected {expected}, received {actual}", path.display()))]
    WrongDigest {
        path: PathBuf,
        expected: Digest,
        actual: Digest,
    },
    #[snafu(display("failed to find the tag `{tag}` in the archive `{}`: several images have it", path.display()))]
    Ambiguous { path: PathBuf, tag: Tag },
    #[snafu(display("failed to tag `{tag}` in the archive `{}`: the name of the image is missing", path.display()))]
    NoName { path: PathBuf, tag: Tag },
    #[snafu(display("failed to tag {digest} in the archive `{}`: a docker archive contains images only", path.display()))]
    NotAnImage { path: PathBuf, digest: Digest },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoArchive { .. }
            | Self::NoManifest { .. }
            | Self::NoNamed { .. }
            | Self::Unclear { .. }
            | Self::NoBlob { .. } => ErrorKind::NotFound,
            Self::Invalid { .. } | Self::InvalidEntry { .. } | Self::Parse { .. } => {
                ErrorKind::Protocol
            }
            Self::Compressed { .. } => ErrorKind::Unsupported,
            Self::Changed { .. } => ErrorKind::Conflict,
            Self::WrongDigest { .. } => ErrorKind::Mismatch,
            Self::Ambiguous { .. } | Self::NoName { .. } | Self::NotAnImage { .. } => {
                ErrorKind::InvalidInput
            }
            Self::Read { .. } | Self::Write { .. } => ErrorKind::Io,
            Self::ReadTar { source, .. } | Self::WriteTar { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let advice = match self {
            Self::NoArchive { .. } => "check the path; `copy` creates an archive".to_owned(),
            Self::ReadTar { path, .. } => {
                format!("check that `{}` is a complete archive", path.display())
            }
            Self::Compressed { path } => format!("decompress `{}` first", path.display()),
            Self::Unclear { path, names, .. } => layout::full_names("oci-archive", path, names),
            Self::Ambiguous { path, tag } | Self::NoName { path, tag } => {
                format!("write `docker-archive:{}:NAME:{tag}`", path.display())
            }
            Self::NotAnImage { path, .. } => {
                return vec![
                    "choose the image of one platform from an index".into(),
                    format!(
                        "or write `oci-archive:{}`, which can hold every artifact",
                        path.display()
                    )
                    .into(),
                ];
            }
            Self::Changed { .. } => "run it again".to_owned(),
            _ => return Vec::new(),
        };
        vec![advice.into()]
    }
}
