//! Whose turn it is to change a file of credentials.
//!
//! Owns the lock that stands for such a file: a file of its own beside it, since the one that is changed is replaced, and
//! its directory may be locked by whoever reads it.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::Duration;

use snafu::Snafu;
use tokio::time::Instant;

use super::file::{behind_links, own_directory};
use crate::error::{ErrorKind, Failure, Hint};

/// How long another process may take to change a file.
const LONGEST_TURN: Duration = Duration::from_secs(5);

/// How soon it is looked again whether it has.
const TRY_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display(
        "failed to change `{}`: another process has been changing it for {} seconds",
        path.display(),
        LONGEST_TURN.as_secs()
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
                "wait until the process that has locked `{}` has ended, and try again",
                lock_path.display()
            )
            .into(),
        ]
    }
}

/// Keeps others out of a file while it is read and replaced: others of this program, since docker's own tools keep nobody
/// out. Where there are no such locks, as on some network file systems, the last one to write wins as it does with docker.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: Option<std::fs::File>,
}

impl Turn {
    /// Waits until nobody else is at the file, for as long as a change may take.
    pub(super) async fn wait(path: &Path) -> Result<Self, Error> {
        // What is wrong with the place is said by the writing.
        let Ok((lock, lock_path)) = open_lock(path) else {
            return Ok(Self { _lock: None });
        };
        let end = Instant::now() + LONGEST_TURN;
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
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }
}

/// Opens the file whose lock stands for a file, for its owner only. It stays: one that is removed could be locked by one
/// process while another one makes it anew.
fn open_lock(path: &Path) -> std::io::Result<(std::fs::File, PathBuf)> {
    let path = behind_links(path)?;
    own_directory(&path)?;
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
    async fn whoever_is_at_a_file_is_waited_for_and_not_without_end() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".docker/config.json");
        let first = Turn::wait(&path).await.unwrap();
        let begun = Instant::now();
        let error = Turn::wait(&path).await.unwrap_err();
        let waited = begun.elapsed();
        assert!(
            (LONGEST_TURN..LONGEST_TURN * 2).contains(&waited),
            "{waited:?}"
        );
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
        // Whoever may read the directory may lock it, and is in nobody's way.
        #[cfg(unix)]
        let directory = std::fs::File::open(home.path().join(".docker")).unwrap();
        #[cfg(unix)]
        directory.lock().unwrap();
        let begun = Instant::now();
        let _turn = Turn::wait(&path).await.unwrap();
        assert!(begun.elapsed().is_zero());
        let held = std::fs::File::open(&lock).unwrap().try_lock();
        assert!(matches!(held, Err(TryLockError::WouldBlock)), "{held:?}");
    }
}
