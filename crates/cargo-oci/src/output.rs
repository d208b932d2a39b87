//! Destinations of data that is no line of text: a file, or stdout.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use oci_registry::{ErrorKind, OutputFile};

use crate::report::Error;

/// Refuses a path that cannot be written, before anything is requested.
pub(crate) fn check(path: &Path, replace: bool) -> Result<(), Error> {
    OutputFile::check(path, replace).map_err(|error| explain(error, path))
}

/// Opens the destination that a user named.
pub(crate) async fn create(path: PathBuf, replace: bool) -> Result<OutputFile, Error> {
    let output = OutputFile::create(path.clone(), replace).await;
    output.map_err(|error| explain(error, &path))
}

/// Completes the destination.
pub(crate) async fn finish(output: OutputFile) -> Result<(), Error> {
    let path = output.path().to_owned();
    let finished = output.finish().await;
    finished.map_err(|error| explain(error, &path))
}

fn explain(error: oci_registry::Error, path: &Path) -> Error {
    let help = match error.kind() {
        ErrorKind::Conflict if !path.is_dir() => {
            "choose another file with `--output`, or pass `--force`"
        }
        ErrorKind::Conflict => "choose another file with `--output`",
        _ => "choose another place with `--output`",
    };
    Error::from(error).help(help)
}

/// Whether stdout is a terminal, which must not get arbitrary bytes.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
