//! Output files that `--output` names, and the check whether stdout is a terminal.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use oci_registry::{ErrorKind, OutputFile};

use crate::report::Error;

/// Checks that a file can be written at the path. Called before the first request.
pub(crate) fn check(path: &Path, replace: bool) -> Result<(), Error> {
    OutputFile::check(path, replace).map_err(|error| with_help(error, path))
}

/// Creates the output file under a temporary name.
pub(crate) async fn create(path: PathBuf, replace: bool) -> Result<OutputFile, Error> {
    let output = OutputFile::create(path.clone(), replace).await;
    output.map_err(|error| with_help(error, &path))
}

/// Renames the output file to its final name.
pub(crate) async fn finish(output: OutputFile) -> Result<(), Error> {
    let path = output.path().to_owned();
    let finished = output.finish().await;
    finished.map_err(|error| with_help(error, &path))
}

fn with_help(error: oci_registry::Error, path: &Path) -> Error {
    let help = match error.kind() {
        ErrorKind::Conflict if !path.is_dir() => {
            "choose another file with `--output`, or pass `--force`"
        }
        ErrorKind::Conflict => "choose another file with `--output`",
        _ => "choose another path with `--output`",
    };
    Error::from(error).help(help)
}

/// Whether stdout is a terminal.
pub(crate) fn is_stdout_terminal() -> bool {
    std::io::stdout().is_terminal()
}
