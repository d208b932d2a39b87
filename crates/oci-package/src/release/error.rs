//! Errors of a publication, with hints.

use oci_registry::{ErrorKind, Failure, Hint, Tag};
use snafu::Snafu;

use crate::target::Difference;

/// Maximum number of differing files that a message lists. The message states the number of the remaining files.
const MAX_LISTED_FILES: usize = 20;

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
        join_differences(differences)
    ))]
    DifferentFiles {
        name: String,
        differences: Vec<Difference>,
    },
    #[snafu(display("refusing to replace `{name}`: it is not a package for `{target}`"))]
    ForeignTarget { name: String, target: String },
    #[snafu(display("refusing to change `{name}`: it is not the index of a package"))]
    ForeignIndex { name: String },
    #[snafu(display(
        "failed to publish `{name}`: another job published it with different files: {}",
        join_differences(differences)
    ))]
    PublishedConcurrently {
        name: String,
        differences: Vec<Difference>,
    },
    #[snafu(display("failed to verify `{name}`: it does not exist after it was written"))]
    MissingAfterWrite { name: String },
    #[snafu(display("failed to upload {blob}"))]
    UploadBlob {
        blob: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to upload the manifest of `{name}`"))]
    UploadManifest {
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
        "failed to write the index `{name}`: other jobs changed it in each of {attempts} attempts"
    ))]
    AttemptsExhausted {
        name: String,
        tag: Tag,
        attempts: usize,
    },
    #[snafu(display("failed to assemble the index `{name}`: no target was pushed"))]
    NoTargets { name: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::DifferentFiles { .. }
            | Self::ForeignTarget { .. }
            | Self::ForeignIndex { .. }
            | Self::PublishedConcurrently { .. }
            | Self::MissingAfterWrite { .. }
            | Self::IndexImmutable { .. }
            | Self::AttemptsExhausted { .. } => ErrorKind::Conflict,
            Self::NoTargets { .. } => ErrorKind::NotFound,
            Self::LookUp { source, .. }
            | Self::CheckBlob { source, .. }
            | Self::UploadBlob { source, .. }
            | Self::UploadManifest { source, .. }
            | Self::SetTag { source, .. }
            | Self::WriteIndex { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::DifferentFiles { .. } => vec![Hint::OverwriteVersion],
            Self::PublishedConcurrently { .. } => {
                vec!["check which other job publishes this version for this target".into()]
            }
            Self::ForeignTarget { .. } => vec![Hint::OverwriteTag],
            Self::ForeignIndex { .. } => vec![Hint::SkipIndex],
            Self::IndexImmutable { .. } => vec![Hint::DeclareTargets],
            Self::AttemptsExhausted { tag, .. } => vec![Hint::AssembleIndex {
                tag: tag.to_string(),
            }],
            _ => Vec::new(),
        }
    }
}

/// Lists the first differences, followed by the number of the remaining files.
fn join_differences(differences: &[Difference]) -> String {
    let mut texts: Vec<_> = differences
        .iter()
        .take(MAX_LISTED_FILES)
        .map(ToString::to_string)
        .collect();
    let rest = differences.len().saturating_sub(MAX_LISTED_FILES);
    if rest > 0 {
        texts.push(format!("and {rest} more files differ"));
    }
    texts.join(", ")
}
