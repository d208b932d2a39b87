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
    #[snafu(display("failed to look for {digest}, which would be sent"))]
    CheckBlob {
        digest: String,
        source: oci_registry::Error,
    },
    #[snafu(display(
        "refused to change `{name}`: it was released with other files: {}",
        named(differences)
    ))]
    Released {
        name: String,
        differences: Vec<Difference>,
    },
    #[snafu(display("refused to replace `{name}`: it is not a package for `{target}`"))]
    ForeignTarget { name: String, target: String },
    #[snafu(display("refused to change `{name}`: it is not the index of a package"))]
    ForeignIndex { name: String },
    #[snafu(display(
        "lost `{name}` to another writer with other files: {}",
        named(differences)
    ))]
    Overtaken {
        name: String,
        differences: Vec<Difference>,
    },
    #[snafu(display("failed to keep `{name}`: it vanished after it was written"))]
    Vanished { name: String },
    #[snafu(display("failed to send {blob}"))]
    SendBlob {
        blob: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to send the manifest of `{name}`"))]
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
        "failed to add a target to the index `{name}`: the registry does not let it change"
    ))]
    IndexImmutable {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display(
        "failed to write the index `{name}`: other writers changed it in each of {rounds} rounds"
    ))]
    RoundsExhausted {
        name: String,
        tag: Tag,
        rounds: usize,
    },
    #[snafu(display(
        "failed to assemble the index `{name}`: there are no manifests for single targets"
    ))]
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
            Self::Overtaken { .. } => vec![
                "find the other job that publishes this version for this target at the same time"
                    .into(),
            ],
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
