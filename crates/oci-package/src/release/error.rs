//! Errors of a publication, with hints.

use oci_registry::{ErrorKind, Failure, Hint, Tag};
use snafu::Snafu;

use crate::target::Difference;

/// Maximum number of differing files that a message names. The others are counted.
const MAX_NAMED: usize = 20;

#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub(super) enum Error {
    #[snafu(display("failed to look up `{name}`"))]
    LookUp {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to check whether {digest} exists"))]
    CheckBlob {
        digest: String,
        source: oci_registry::Error,
    },
    #[snafu(display(
        "refusing to overwrite `{name}`: it was released with different files: {}",
        named(differences)
    ))]
    Released {
        name: String,
        differences: Vec<Difference>,
    },
    #[snafu(display("refusing to replace `{name}`: it is not a package for `{target}`"))]
    ForeignTarget { name: String, target: String },
    #[snafu(display("refusing to change `{name}`: it is not the index of a package"))]
    ForeignIndex { name: String },
    #[snafu(display(
        "failed to publish `{name}`: another job published it with different files: {}",
        named(differences)
    ))]
    Overtaken {
        name: String,
        differences: Vec<Difference>,
    },
    #[snafu(display("failed to verify `{name}`: it does not exist after it was written"))]
    Vanished { name: String },
    #[snafu(display("failed to upload {blob}"))]
    SendBlob {
        blob: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to upload the manifest of `{name}`"))]
    SendManifest {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to set the tag `{name}`"))]
    SetTag {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to write the index `{name}`"))]
    WriteIndex {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display(
        "failed to add a target to the index `{name}`: the registry does not allow changes to it"
    ))]
    IndexImmutable {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display(
        "failed to write the index `{name}`: other jobs changed it in each of {rounds} attempts"
    ))]
    RoundsExhausted {
        name: String,
        tag: Tag,
        rounds: usize,
    },
    #[snafu(display("failed to assemble the index `{name}`: no target was pushed"))]
    NoTargets { name: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Released { .. }
            | Self::ForeignTarget { .. }
            | Self::ForeignIndex { .. }
            | Self::Overtaken { .. }
            | Self::Vanished { .. }
            | Self::IndexImmutable { .. }
            | Self::RoundsExhausted { .. } => ErrorKind::Conflict,
            Self::NoTargets { .. } => ErrorKind::NotFound,
            Self::LookUp { source, .. }
            | Self::CheckBlob { source, .. }
            | Self::SendBlob { source, .. }
            | Self::SendManifest { source, .. }
            | Self::SetTag { source, .. }
            | Self::WriteIndex { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Released { .. } => vec![Hint::OverwriteVersion],
            Self::Overtaken { .. } => {
                vec!["check which other job publishes this version for this target".into()]
            }
            Self::ForeignTarget { .. } => vec![Hint::OverwriteTag],
            Self::ForeignIndex { .. } => vec![Hint::SkipIndex],
            Self::IndexImmutable { .. } => vec![Hint::DeclareTargets],
            Self::RoundsExhausted { tag, .. } => vec![Hint::AssembleIndex {
                tag: tag.to_string(),
            }],
            _ => Vec::new(),
        }
    }
}

/// Joins the first differences into one text.
fn named(differences: &[Difference]) -> String {
    let mut named: Vec<_> = differences
        .iter()
        .take(MAX_NAMED)
        .map(ToString::to_string)
        .collect();
    let rest = differences.len().saturating_sub(MAX_NAMED);
    if rest > 0 {
        named.push(format!("and {rest} more files differ"));
    }
    named.join(", ")
}
