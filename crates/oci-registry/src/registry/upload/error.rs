//! Errors of uploads.

use snafu::Snafu;

use crate::error::{ErrorKind, Failure, Hint};
use crate::exchange::origin;

#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub(super) enum Error {
    #[snafu(display("failed to start an upload for {blob_name}"))]
    Start {
        blob_name: String,
        source: crate::Error,
    },
    #[snafu(display("failed to read the upload URL of the registry"))]
    Location { source: origin::Error },
    #[snafu(display("the registry sent no upload URL"))]
    NoLocation,
    #[snafu(display("failed to send {blob_name}"))]
    Send {
        blob_name: String,
        source: crate::Error,
    },
    #[snafu(display("the registry answered before all of {blob_name} was sent"))]
    EarlyResponse { blob_name: String },
}

impl Error {
    fn cause(&self) -> Option<&crate::Error> {
        match self {
            Self::Start { source, .. } | Self::Send { source, .. } => Some(source),
            Self::NoLocation | Self::Location { .. } | Self::EarlyResponse { .. } => None,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::EarlyResponse { .. } => ErrorKind::Network,
            _ => self.cause().map_or(ErrorKind::Protocol, crate::Error::kind),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Start { source, .. } if source.kind() == ErrorKind::NotFound => vec![
                "create the repository first: some registries, such as Amazon ECR, require this"
                    .into(),
            ],
            _ => Vec::new(),
        }
    }
}
