//! Directories as paths, for systems that have no functions relative to a directory handle.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::entry::EntryType;

/// Directory, identified by its path.
#[derive(Debug, Clone)]
pub(in crate::unpack) struct Directory(PathBuf);

impl Directory {
    /// Whether [`Directory::flush`] has an effect on this system.
    pub(in crate::unpack) const CAN_FLUSH: bool = false;

    /// Opens the directory at a path that the user names. Links in this path are followed.
    pub(in crate::unpack) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(path.to_owned()))
    }

    pub(in crate::unpack) fn path(&self) -> &Path {
        &self.0
    }

    /// Opens a subdirectory.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotADirectory`] for a link, regardless of its target.
    pub(in crate::unpack) fn open_child(&self, name: &str) -> io::Result<Self> {
        match self.entry_type(name)? {
            Some(EntryType::Directory) => Ok(Self(self.0.join(name))),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(in crate::unpack) fn create_child(&self, name: &str) -> io::Result<()> {
        std::fs::create_dir(self.0.join(name))
    }

    /// Opens a subdirectory, and creates it if it is missing.
    pub(in crate::unpack) fn open_private_child(&self, name: &str) -> Option<Self> {
        let _ = self.create_child(name);
        self.open_child(name).ok()
    }

    /// Removes a subdirectory if it is empty.
    pub(in crate::unpack) fn remove_child(&self, name: &str) {
        let _ = std::fs::remove_dir(self.0.join(name));
    }

    /// Returns the type of an entry; `None` if it does not exist.
    pub(in crate::unpack) fn entry_type(&self, name: &str) -> io::Result<Option<EntryType>> {
        let metadata = match std::fs::symlink_metadata(self.0.join(name)) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(if metadata.is_file() {
            EntryType::File(metadata.len())
        } else if metadata.is_dir() {
            EntryType::Directory
        } else if metadata.is_symlink() {
            EntryType::Link
        } else {
            EntryType::Other
        }))
    }

    /// Opens a file for reading.
    pub(in crate::unpack) fn open_file(&self, name: &str) -> io::Result<File> {
        crate::file::open_regular(&self.0.join(name))
    }

    /// Creates a file that must not exist, for reading and writing.
    pub(in crate::unpack) fn create_file(&self, name: &str) -> io::Result<File> {
        File::create_new(self.0.join(name))
    }

    /// Opens a file for reading and writing, locked against other processes. Creates it if it is missing.
    pub(in crate::unpack) fn open_locked_file(&self, name: &str) -> Option<File> {
        let path = self.0.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).ok()?;
        file.try_lock().ok()?;
        // The previous holder of the lock may have moved the file away.
        let is_file = matches!(self.entry_type(name), Ok(Some(EntryType::File(_))));
        is_file.then_some(file)
    }

    pub(in crate::unpack) fn remove_file(&self, name: &str) {
        let _ = std::fs::remove_file(self.0.join(name));
    }

    /// Moves a file into another directory. If an entry with the new name exists, the move replaces it if `may_replace`
    /// is set, and otherwise fails with [`io::ErrorKind::AlreadyExists`].
    pub(in crate::unpack) fn move_file(
        &self,
        name: &str,
        to: &Self,
        new_name: &str,
        may_replace: bool,
    ) -> io::Result<()> {
        let file = tempfile::TempPath::try_from_path(self.0.join(name))?;
        let path = to.0.join(new_name);
        let moved = if may_replace {
            file.persist(path)
        } else {
            file.persist_noclobber(path)
        };
        moved.map_err(|error| error.error)
    }

    /// Does nothing, because this system cannot flush a directory.
    pub(in crate::unpack) fn sync(&self) {}

    /// Does nothing on this system.
    pub(in crate::unpack) fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
