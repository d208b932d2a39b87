//! Advisory lock for updates of a credential file.
//!
//! The lock is a separate file next to the credential file, for two reasons: each update replaces the credential file,
//! and a directory can be locked by every process that can read the directory.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::Duration;

use snafu::Snafu;
use tokio::time::Instant;

use super::private_file::{create_parent_directory, resolve_links};
use crate::error::{ErrorKind, Failure, Hint};

/// Maximum time to wait until another process releases the lock.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between two attempts to lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display(
        "failed to lock `{}`: another process has held the lock for {} seconds",
        path.display(),
        TIMEOUT.as_secs()
    ))]
    Busy { path: PathBuf, lock_path: PathBuf },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Io
    }

    fn hints(&self) -> Vec<Hint> {
        let Self::Busy { lock_path, .. } = self;
        vec![
            format!(
                "wait until the process that holds the lock `{}` has ended, and try again",
                lock_path.display()
            )
            .into(),
        ]
    }
}

/// Exclusive lock for reading and replacing a credential file, released on drop. Docker's tools do not use this lock.
/// On file systems that do not support locks, such as some network file systems, concurrent updates can overwrite each
/// other, as with docker.
#[derive(Debug)]
pub(super) struct FileLock {
    _lock: Option<std::fs::File>,
}

impl FileLock {
    /// Acquires the lock of a file. Waits if another process holds it.
    pub(super) async fn acquire(path: &Path) -> Result<Self, Error> {
        // If the lock file cannot be created, writing the credential file fails as well and reports the error.
        let Ok((lock, lock_path)) = open_lock(path) else {
            return Ok(Self { _lock: None });
        };
        let end = Instant::now() + TIMEOUT;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { _lock: Some(lock) }),
                Err(TryLockError::Error(_)) => return Ok(Self { _lock: None }),
                Err(TryLockError::WouldBlock) => {}
            }
            if Instant::now() >= end {
                let path = path.to_owned();
                return BusySnafu { path, lock_path }.fail();
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}

/// Opens the lock file, readable by its owner only. The file is never deleted, because one process could lock the
/// deleted file while another process creates and locks a new file.
fn open_lock(path: &Path) -> std::io::Result<(std::fs::File, PathBuf)> {
    let path = resolve_links(path)?;
    create_parent_directory(&path)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".oci-lock");
    let path = path.with_file_name(name);
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        options.mode(0o600).custom_flags(no_links);
    }
    Ok((options.open(&path)?, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn acquire_of_held_lock_fails_after_timeout() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".docker/config.json");
        let first = FileLock::acquire(&path).await.unwrap();
        let begun = Instant::now();
        let error = FileLock::acquire(&path).await.unwrap_err();
        let waited = begun.elapsed();
        assert!((TIMEOUT..TIMEOUT * 2).contains(&waited), "{waited:?}");
        let lock = home.path().join(".docker/.config.json.oci-lock");
        assert!(error.to_string().contains(&*path.to_string_lossy()));
        assert!(format!("{:?}", error.hints()).contains(&*lock.to_string_lossy()));
        assert_eq!(error.kind(), ErrorKind::Io);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&lock).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        drop(first);
        // A lock of the directory by another process has no effect.
        #[cfg(unix)]
        let directory = std::fs::File::open(home.path().join(".docker")).unwrap();
        #[cfg(unix)]
        directory.lock().unwrap();
        let begun = Instant::now();
        let _lock = FileLock::acquire(&path).await.unwrap();
        assert!(begun.elapsed().is_zero());
        let held = std::fs::File::open(&lock).unwrap().try_lock();
        assert!(matches!(held, Err(TryLockError::WouldBlock)), "{held:?}");
    }
}
