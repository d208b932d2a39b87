//! Directories as handles.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::entry::EntryType;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Open directory. Clones share the handle.
#[derive(Debug, Clone)]
pub(in crate::unpack) struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Path at which the directory was opened, for messages.
    path: PathBuf,
    handle: File,
}

impl Directory {
    /// Whether [`Directory::flush`] has an effect on this system.
    pub(in crate::unpack) const CAN_FLUSH: bool =
        cfg!(any(target_os = "linux", target_os = "android"));

    /// Opens the directory at a path that the user names. Links in this path are followed.
    pub(in crate::unpack) fn open(path: &Path) -> io::Result<Self> {
        let handle = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self::new(path.to_owned(), handle.into()))
    }

    fn new(path: PathBuf, handle: File) -> Self {
        Self(Arc::new(Inner { path, handle }))
    }

    pub(in crate::unpack) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Opens a subdirectory.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotADirectory`] for a link, regardless of its target.
    pub(in crate::unpack) fn open_child(&self, name: &str) -> io::Result<Self> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let opened = rustix::fs::openat(&self.0.handle, name, flags, Mode::empty());
        let handle = opened.map_err(|error| match error {
            // The error for a link depends on the system.
            Errno::LOOP | Errno::MLINK | Errno::NOTDIR => Errno::NOTDIR,
            other => other,
        })?;
        Ok(Self::new(self.path().join(name), handle.into()))
    }

    pub(in crate::unpack) fn create_child(&self, name: &str) -> io::Result<()> {
        let mode = Mode::from_raw_mode(0o777);
        Ok(rustix::fs::mkdirat(&self.0.handle, name, mode)?)
    }

    /// Opens a subdirectory that only its owner may write to, and creates it if it is missing.
    pub(in crate::unpack) fn open_private_child(&self, name: &str) -> Option<Self> {
        let mode = Mode::from_raw_mode(0o700);
        match rustix::fs::mkdirat(&self.0.handle, name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(_) => return None,
        }
        let child = self.open_child(name).ok()?;
        let metadata = child.0.handle.metadata().ok()?;
        let is_private = is_owned_by_this_user(&metadata) && metadata.mode() & 0o022 == 0;
        is_private.then_some(child)
    }

    /// Removes a subdirectory if it is empty.
    pub(in crate::unpack) fn remove_child(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.0.handle, name, AtFlags::REMOVEDIR);
    }

    /// Returns the type of an entry; `None` if it does not exist.
    pub(in crate::unpack) fn entry_type(&self, name: &str) -> io::Result<Option<EntryType>> {
        let stat = match rustix::fs::statat(&self.0.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                EntryType::File(u64::try_from(stat.st_size).unwrap_or(u64::MAX))
            }
            FileType::Directory => EntryType::Directory,
            FileType::Symlink => EntryType::Link,
            _ => EntryType::Other,
        }))
    }

    /// Opens a file for reading without blocking.
    pub(in crate::unpack) fn open_file(&self, name: &str) -> io::Result<File> {
        self.openat(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// Creates a file that must not exist, for reading and writing.
    pub(in crate::unpack) fn create_file(&self, name: &str) -> io::Result<File> {
        self.openat(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Opens a file of this user that has no other hard link, for reading and writing, locked against other processes.
    /// Creates it if it is missing.
    pub(in crate::unpack) fn open_locked_file(&self, name: &str) -> Option<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK;
        let file = self.openat(name, flags).ok()?;
        file.try_lock().ok()?;
        let opened = file.metadata().ok()?;
        // The previous holder of the lock may have moved the file away.
        let current = rustix::fs::statat(&self.0.handle, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_current = rustix::fs::fstat(&file)
            .is_ok_and(|opened| (opened.st_dev, opened.st_ino) == (current.st_dev, current.st_ino));
        let is_alone = opened.is_file() && opened.nlink() == 1 && is_owned_by_this_user(&opened);
        (is_current && is_alone).then_some(file)
    }

    fn openat(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o666);
        Ok(rustix::fs::openat(&self.0.handle, name, flags, mode)?.into())
    }

    pub(in crate::unpack) fn remove_file(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.0.handle, name, AtFlags::empty());
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
        let (from, to) = (&self.0.handle, &to.0.handle);
        if may_replace {
            return Ok(rustix::fs::renameat(from, name, to, new_name)?);
        }
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(from, name, to, new_name, flags) {
                // Some file systems and old kernels do not support the flag.
                Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP) => {}
                done => return Ok(done?),
            }
        }
        rustix::fs::linkat(from, name, to, new_name, AtFlags::empty())?;
        self.remove_file(name);
        Ok(())
    }

    /// Flushes the directory, so that new names in it survive a loss of power if the file system supports it. The
    /// content of files is not included.
    pub(in crate::unpack) fn sync(&self) {
        let _ = self.0.handle.sync_all();
    }

    /// Flushes all files and directories of the file system.
    pub(in crate::unpack) fn flush(&self) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        rustix::fs::syncfs(&self.0.handle)?;
        Ok(())
    }
}

fn is_owned_by_this_user(metadata: &std::fs::Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw()
}
