//! Staging of files that are being fetched: beside their final location, under temporary names.
//!
//! If the fetch of a large file is interrupted, the file is kept in the directory [`PARTIAL_DIRECTORY`] under its
//! digest, and the next fetch continues it. The content of a kept file is not trusted: it is hashed and verified together with the
//! rest. It is used only if no other user could have written it, and by one process at a time. All other files are in a
//! directory that is removed when the value is dropped.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::OnceLock;

use snafu::ResultExt;

use super::directory::Directory;
use super::error::{Error, MakeDirectorySnafu, WriteFileSnafu};
#[cfg(unix)]
use super::executable::executable_mode;
use super::file_name::{PARTIAL_DIRECTORY, TEMPORARY_PREFIX};
use crate::digest::Digest;
use crate::manifest::Descriptor;

/// Smallest file that is kept, in bytes. Fetching a smaller one again takes no longer than continuing it.
const KEEP_FROM: u64 = 2 << 20;

/// Staging area of one call.
#[derive(Debug)]
pub(super) struct Staging {
    directory: Directory,
    /// Directory of this call, created when it is needed.
    own: OnceLock<TemporaryDirectory>,
}

/// Temporary directory of one call.
#[derive(Debug)]
struct TemporaryDirectory {
    directory: Directory,
    /// Mode bits of a new file, as determined by the umask and the default permissions of the directory.
    mode: u32,
    _removed_on_drop: tempfile::TempDir,
}

/// File that is being fetched.
#[derive(Debug)]
pub(super) struct Staged {
    directory: Directory,
    name: String,
    pub(super) file: File,
    /// Number of bytes that were fetched earlier. A kept file is locked until this value and all clones of the file are
    /// dropped.
    pub(super) size: u64,
    pub(super) is_kept: bool,
    /// Mode bits of a new file.
    mode: u32,
}

/// File that is fetched and does not have its final name yet.
#[derive(Debug)]
pub(super) struct Fetched {
    directory: Directory,
    name: String,
    /// Lock of a kept file. Other files are closed, because the number of open files is limited.
    _lock: Option<File>,
}

impl Staging {
    pub(super) fn within(directory: &Directory) -> Self {
        Self {
            directory: directory.clone(),
            own: OnceLock::new(),
        }
    }

    fn own(&self) -> Result<&TemporaryDirectory, Error> {
        if let Some(own) = self.own.get() {
            return Ok(own);
        }
        let path = self.directory.path();
        let own =
            TemporaryDirectory::create(&self.directory).context(MakeDirectorySnafu { path })?;
        // Another task may have created one meanwhile; that one is used.
        Ok(self.own.get_or_init(|| own))
    }

    /// Opens the staging file of the file with this number in the call.
    pub(super) fn open(&self, descriptor: &Descriptor, number: usize) -> Result<Staged, Error> {
        if descriptor.size >= KEEP_FROM
            && let Some(staged) = self.open_kept(descriptor)
        {
            return Ok(staged);
        }
        let TemporaryDirectory {
            directory, mode, ..
        } = self.own()?;
        let name = number.to_string();
        let path = directory.path().join(&name);
        let file = directory
            .create_file(&name)
            .context(WriteFileSnafu { path })?;
        Ok(Staged {
            directory: directory.clone(),
            name,
            file,
            size: 0,
            is_kept: false,
            mode: *mode,
        })
    }

    /// Opens the kept file of a blob; `None` if it is not trustworthy or another process uses it.
    fn open_kept(&self, descriptor: &Descriptor) -> Option<Staged> {
        let directory = self.directory.private_child(PARTIAL_DIRECTORY)?;
        let mode = mode_of_new_file(&directory).ok()?;
        let name = file_name(&descriptor.digest);
        let mut file = directory.lock_file(&name)?;
        if file.metadata().ok()?.len() > descriptor.size {
            file.set_len(0).ok()?;
        }
        let size = file.seek(SeekFrom::End(0)).ok()?;
        Some(Staged {
            directory,
            name,
            file,
            size,
            is_kept: true,
            mode,
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.directory.remove_child(PARTIAL_DIRECTORY);
    }
}

impl TemporaryDirectory {
    fn create(parent: &Directory) -> std::io::Result<Self> {
        let created = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .tempdir_in(parent.path())?;
        let name = created.path().file_name().unwrap_or_default();
        let directory = parent.child(&name.to_string_lossy())?;
        let mode = mode_of_new_file(&directory)?;
        Ok(Self {
            directory,
            mode,
            _removed_on_drop: created,
        })
    }
}

/// Creates a file to determine its mode, and removes it. The name contains the process ID, because processes share
/// [`PARTIAL_DIRECTORY`].
#[cfg(unix)]
fn mode_of_new_file(directory: &Directory) -> std::io::Result<u32> {
    let name = format!("mode-{}", std::process::id());
    let metadata = directory.create_file(&name)?.metadata()?;
    directory.remove_file(&name);
    Ok(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o666)
}

#[cfg(not(unix))]
fn mode_of_new_file(_: &Directory) -> std::io::Result<u32> {
    Ok(0)
}

impl Staged {
    /// Returns the path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join(&self.name)
    }

    /// Sets the mode of the file; a kept file may have another one.
    #[cfg(unix)]
    pub(super) fn set_mode(&self, executable: bool) -> Result<(), Error> {
        use std::os::unix::fs::PermissionsExt as _;
        if !executable && !self.is_kept {
            return Ok(());
        }
        let mode = if executable {
            executable_mode(self.mode)
        } else {
            self.mode
        };
        let permissions = std::fs::Permissions::from_mode(mode);
        let set = self.file.set_permissions(permissions);
        set.with_context(|_| WriteFileSnafu { path: self.path() })
    }

    #[cfg(not(unix))]
    pub(super) fn set_mode(&self, _: bool) -> Result<(), Error> {
        let _ = self.mode;
        Ok(())
    }

    /// Finishes writing.
    pub(super) fn finish(self) -> Fetched {
        Fetched {
            directory: self.directory,
            name: self.name,
            _lock: self.is_kept.then_some(self.file),
        }
    }

    /// Discards the content.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        self.size = 0;
        emptied.with_context(|_| WriteFileSnafu { path: self.path() })
    }

    /// Removes the file.
    pub(super) fn remove(&self) {
        self.directory.remove_file(&self.name);
    }
}

impl Fetched {
    /// Moves the file to its final name, or removes it if that fails.
    pub(super) fn place(
        self,
        directory: &Directory,
        name: &str,
        replaces: bool,
    ) -> std::io::Result<()> {
        let placed = self
            .directory
            .move_file(&self.name, directory, name, replaces);
        if placed.is_err() {
            self.directory.remove_file(&self.name);
        }
        placed
    }
}

fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm_name(), digest.encoded())
}
