//! Directories that files are written into.
//!
//! On Unix a directory is a handle: names in it are resolved relative to the handle, and no symbolic link is followed.
//! If another process replaces the directory with a link, writes still go to the opened directory. On other systems, a
//! directory is a path that is checked before each use.

mod entry;
#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

pub(super) use self::entry::EntryType;
#[cfg(not(unix))]
pub(super) use self::portable::Directory;
#[cfg(unix)]
pub(super) use self::unix::Directory;
