//! A temporary directory of programs, which is deleted even if one of them is still ending.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a process that was killed may take to end.
const LIMIT: Duration = Duration::from_secs(10);

/// A temporary directory.
#[derive(Debug)]
pub(crate) struct Directory(TempDir);

impl Directory {
    /// Creates an empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Directory {
    /// Deletes the directory. A child of a program that has ended, such as a cargo that was killed with a push, can add
    /// or delete files meanwhile, so the deletion is repeated until the directory is gone.
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
