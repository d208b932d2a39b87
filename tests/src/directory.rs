//! Temporary directories for programs. They are deleted even if a program is still exiting.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Maximum time that a killed process needs to exit.
const LIMIT: Duration = Duration::from_secs(10);

/// Temporary directory for programs.
#[derive(Debug)]
pub(crate) struct Directory(TempDir);

impl Directory {
    /// Creates an empty directory.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be created"))
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Directory {
    /// Deletes the directory. A child process of an exited program, such as the cargo process of a killed push, may
    /// still add or delete files, so the deletion is repeated until the directory no longer exists.
    fn drop(&mut self) {
        let end = Instant::now() + LIMIT;
        while fs::remove_dir_all(self.path()).is_err()
            && self.path().exists()
            && Instant::now() < end
        {
            std::thread::yield_now();
        }
    }
}
