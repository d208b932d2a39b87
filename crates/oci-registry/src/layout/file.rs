//! Files of a layout: atomic writes, and reads of limited size.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use snafu::{ResultExt, ensure};
use tokio::io::AsyncReadExt;

use super::error::{Error, NotAFileSnafu, ReadSnafu, TooLargeSnafu, WriteSnafu};
use crate::file::{is_file_type_error, open_regular};

/// Creates a temporary file in `directory`. [`persist`] moves the file to its final name in the same directory.
pub(crate) fn new_temporary(directory: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask determines the mode, as for other files. By default, only the owner may read a temporary file.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory)
}

/// Moves a finished file to its final name and flushes the directory.
pub(crate) fn persist(temporary: tempfile::NamedTempFile, path: &Path) -> std::io::Result<()> {
    temporary.persist(path).map_err(|error| error.error)?;
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        // A path that is only a file name refers to the working directory.
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Writes a file under a temporary name, flushes it and moves it to its final name.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_temporary(path, bytes)
        .and_then(|temporary| persist(temporary, path))
        .context(WriteSnafu { path })
}

/// Writes the bytes to a temporary file in the directory of `path`, and flushes it.
fn write_temporary(path: &Path, bytes: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let mut temporary = new_temporary(path.parent().unwrap_or(Path::new(".")))?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

/// Creates a file unless it exists. If two processes create the file at the same time, the first file stays.
pub(super) fn create_if_missing(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = write_temporary(path, bytes).context(WriteSnafu { path })?;
    match temporary.persist_noclobber(path) {
        Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error.error).context(WriteSnafu { path })
        }
        _ => Ok(()),
    }
}

pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and maps with text keys always serialise")
}

/// Reads a file of at most `limit` bytes. Returns `None` if the file does not exist.
pub(super) async fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let file = match open_regular(path) {
        Ok(file) => tokio::fs::File::from_std(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_file_type_error(&error) => return NotAFileSnafu { path }.fail(),
        Err(source) => {
            return Err(Error::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes).await;
    read.context(ReadSnafu { path })?;
    ensure!(bytes.len() as u64 <= limit, TooLargeSnafu { path, limit });
    Ok(Some(bytes))
}
