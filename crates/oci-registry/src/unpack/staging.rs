//! Staging area for files that are being fetched, inside the directory into which the files are unpacked.
//!
//! If the fetch of a large file is interrupted, the file is kept in the directory [`PARTIAL_DIRECTORY`] under its
//! digest, and the next call continues the fetch. The content of a kept file is not trusted: it is hashed and verified
//! together with the rest. A kept file is used only if no other user could have written it, and only by one process at
//! a time. All other files are in a temporary directory, which is removed when the [`Staging`] value is dropped.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use snafu::ResultExt;

use super::directory::Directory;
use super::error::{Error, MakeTemporarySnafu, WriteFileSnafu};
#[cfg(unix)]
use super::executable::executable_mode;
use super::file_name::{PARTIAL_DIRECTORY, TEMPORARY_PREFIX};
use crate::digest::Digest;
use crate::manifest::Descriptor;

/// Minimum size of a file that is kept after an interruption, in bytes. Fetching a smaller file again takes no longer
/// than resuming it.
const MIN_KEPT_SIZE: u64 = 2 << 20;

/// Staging area of one call.
#[derive(Debug)]
pub(super) struct Staging {
    directory: Directory,
    /// Temporary directory of this call, created at its first use.
    temporary: OnceLock<TemporaryDirectory>,
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
pub(super) struct StagedFile {
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

/// File that was fetched and does not have its final name yet.
#[derive(Debug)]
pub(super) struct FetchedFile {
    directory: Directory,
    name: String,
    /// Lock of a kept file. Other files are closed, because the number of open files is limited.
    _lock: Option<File>,
}

impl Staging {
    pub(super) fn new(directory: &Directory) -> Self {
        Self {
            directory: directory.clone(),
            temporary: OnceLock::new(),
        }
    }

    fn temporary_directory(&self) -> Result<&TemporaryDirectory, Error> {
        if let Some(own) = self.temporary.get() {
            return Ok(own);
        }
        let path = self.directory.path();
        let own =
            TemporaryDirectory::create(&self.directory).context(MakeTemporarySnafu { path })?;
        // If another task has created a directory in the meantime, that directory is used.
        Ok(self.temporary.get_or_init(|| own))
    }

    /// Opens the staging file for the file at position `number` of the call.
    pub(super) fn open(&self, descriptor: &Descriptor, number: usize) -> Result<StagedFile, Error> {
        if descriptor.size >= MIN_KEPT_SIZE
            && let Some(staged) = self.open_kept(descriptor)
        {
            return Ok(staged);
        }
        let TemporaryDirectory {
            directory, mode, ..
        } = self.temporary_directory()?;
        let name = number.to_string();
        let path = directory.path().join(&name);
        let file = directory
            .create_file(&name)
            .context(WriteFileSnafu { path })?;
        Ok(StagedFile {
            directory: directory.clone(),
            name,
            file,
            size: 0,
            is_kept: false,
            mode: *mode,
        })
    }

    /// Opens the kept file of a blob; `None` if another user could have written the file or another process uses it.
    fn open_kept(&self, descriptor: &Descriptor) -> Option<StagedFile> {
        let directory = self.directory.open_private_child(PARTIAL_DIRECTORY)?;
        let mode = mode_of_new_file(&directory).ok()?;
        let name = file_name(&descriptor.digest);
        let mut file = directory.open_locked_file(&name)?;
        if file.metadata().ok()?.len() > descriptor.size {
            file.set_len(0).ok()?;
        }
        let size = file.seek(SeekFrom::End(0)).ok()?;
        Some(StagedFile {
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
        let directory = parent.open_child(&name.to_string_lossy())?;
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

impl StagedFile {
    /// Returns the path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join(&self.name)
    }

    /// Sets the mode of the file. A kept file may have the mode of an earlier call.
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
    pub(super) fn finish(self) -> FetchedFile {
        FetchedFile {
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

impl FetchedFile {
    /// Moves the file to its final name, or removes it if that fails.
    pub(super) fn move_into(
        self,
        directory: &Directory,
        name: &str,
        may_replace: bool,
    ) -> std::io::Result<()> {
        let moved = self
            .directory
            .move_file(&self.name, directory, name, may_replace);
        if moved.is_err() {
            self.directory.remove_file(&self.name);
        }
        moved
    }
}

/// Returns the path of the kept file of a blob.
pub(super) fn kept_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join(PARTIAL_DIRECTORY).join(file_name(digest))
}

fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm_name(), digest.encoded())
}
