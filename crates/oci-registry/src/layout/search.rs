//! Search for layouts below a directory.

use std::path::{Path, PathBuf};

use snafu::ensure;

use super::Layout;
use super::error::{Error, NoDirectorySnafu};

/// Maximum depth of the search for layouts below a directory. Repository names have fewer components.
const MAX_DEPTH: usize = 16;

impl Layout {
    /// Finds the layouts below a directory, sorted by path. Layouts within another layout are not included, and links
    /// are not followed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the directory does not exist;
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if a directory cannot be read.
    pub async fn find_below(directory: impl Into<PathBuf>) -> crate::Result<Vec<Self>> {
        let directory = directory.into();
        let search = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            let exists = search(&directory, 0, &mut found)?;
            ensure!(exists, NoDirectorySnafu { directory });
            Ok::<_, Error>(found)
        });
        let mut found = match search.await {
            Ok(found) => found?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        found.sort();
        Ok(found.into_iter().map(Self::new).collect())
    }
}

/// Searches a directory for layouts, and returns whether the directory exists.
fn search(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<bool, Error> {
    let failed = |source| Error::Read {
        path: directory.to_owned(),
        source,
    };
    if directory.join("oci-layout").is_file() {
        found.push(directory.to_owned());
        return Ok(true);
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let is_directory = entry.file_type().map_err(failed)?.is_dir();
        if is_directory && depth < MAX_DEPTH {
            search(&entry.path(), depth + 1, found)?;
        }
    }
    Ok(true)
}
