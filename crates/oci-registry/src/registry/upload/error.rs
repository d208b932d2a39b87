//! Errors of uploads.

use snafu::Snafu;

use crate::error::{ErrorKind, Failure, Hint};
use crate::exchange::origin;

#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub(super) enum Error {
    #[snafu(display("failed to start an upload"))]
    Start { source: crate::Error },
    #[snafu(display("failed to read the upload URL of the registry"))]
    Location { source: origin::Error },
    #[snafu(display("the registry sent no upload URL"))]
    NoLocation,
    #[snafu(display("the upload failed in each of {attempts} attempts"))]
    Exhausted { attempts: u32, source: crate::Error },
    #[snafu(display("the registry answered before the whole content was sent"))]
    EarlyResponse,
}

impl Error {
    fn cause(&self) -> Option<&crate::Error> {
        match self {
            Self::Start { source } | Self::Exhausted { source, .. } => Some(source),
            Self::NoLocation | Self::Location { .. } | Self::EarlyResponse => None,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::EarlyResponse => ErrorKind::Network,
            _ => self.cause().map_or(ErrorKind::Protocol, crate::Error::kind),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Start { source } if source.kind() == ErrorKind::NotFound => vec![
                "create the repository first: some registries, such as Amazon ECR, require this"
                    .into(),
            ],
            _ => Vec::new(),
        }
    }
}
