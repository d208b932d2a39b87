//! Errors of reading and writing a tar stream.

use std::io;

use snafu::Snafu;

use crate::error::{ErrorKind, Failure};

#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub(crate) enum Error {
    #[snafu(display("failed to read the tar stream"))]
    Read { source: io::Error },
    #[snafu(display("failed to write the tar stream"))]
    Write { source: io::Error },
    #[snafu(display("invalid tar stream: it ends within an entry, at byte {at}"))]
    Truncated { at: u64 },
    #[snafu(display("invalid tar stream: there is no valid header at byte {at}"))]
    NoHeader { at: u64 },
    #[snafu(display("invalid tar stream: {problem}, at byte {at}"))]
    Malformed { problem: &'static str, at: u64 },
    #[snafu(display("invalid tar entry `{}`: {problem}", path.escape_ascii()))]
    InvalidEntry {
        path: Vec<u8>,
        problem: &'static str,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::Write { .. } => ErrorKind::Io,
            _ => ErrorKind::Protocol,
        }
    }
}
