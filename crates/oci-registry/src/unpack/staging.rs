//! Where files are while they are fetched: beside their final places, and not under their final names.
//!
//! What is large is kept when its fetch ends early, whatever ended it, in the directory [`KEPT`] under its digest: the
//! next fetch of it goes on from there. What is found there is believed to be nothing but the beginning of a file, to be
//! hashed and verified with the rest; it is used only when nobody but this user could have put it there, and by one
//! process at a time. Everything else lives in a directory of its own that goes when it is dropped.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use snafu::ResultExt;

use super::{Error, MakeDirectorySnafu, WriteFileSnafu};
use crate::digest::Digest;
use crate::manifest::Descriptor;

/// The directory, within the one that is written to, that keeps what was begun.
pub(super) const KEPT: &str = ".oci-partial";

/// How the names of directories begin that go with the call that made them.
pub(super) const OWN: &str = ".partial-";

/// What is smaller, in bytes, is fetched anew as quickly.
const KEEP_FROM: u64 = 2 << 20;

/// The place of the files of one call.
#[derive(Debug)]
pub(super) struct Staging {
    directory: PathBuf,
    /// Made when it is needed.
    own: OnceLock<tempfile::TempDir>,
    kept: PathBuf,
}

/// A file that is being fetched.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// How many bytes are there already. What is kept under a digest is locked as long as this value, or a clone of the
    /// file, lives.
    pub(super) size: u64,
    pub(super) is_kept: bool,
}

/// A file that is fetched and on the disk, and has no final name yet.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) path: PathBuf,
    /// Keeps others away from what they could find; what is in a directory of its own is closed, since a system lets no
    /// program have many files open.
    _lock: Option<File>,
}

impl Staging {
    pub(super) fn within(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            own: OnceLock::new(),
            kept: directory.join(KEPT),
        }
    }

    fn own(&self) -> Result<&Path, Error> {
        if self.own.get().is_none() {
            let own = tempfile::Builder::new()
                .prefix(OWN)
                .tempdir_in(&self.directory);
            let own = own.context(MakeDirectorySnafu {
                path: &self.directory,
            })?;
            // Another file may have been quicker; one directory is enough.
            let _ = self.own.set(own);
        }
        Ok(self.own.get().expect("it was just set").path())
    }

    /// Opens the place of a file, which is the `number`th of this call.
    pub(super) fn open(&self, descriptor: &Descriptor, number: usize) -> Result<Staged, Error> {
        if descriptor.size >= KEEP_FROM
            && let Some(staged) = self.open_kept(descriptor)
        {
            return Ok(staged);
        }
        let path = self.own()?.join(number.to_string());
        let file = File::create_new(&path).context(WriteFileSnafu { path: &path })?;
        Ok(Staged {
            path,
            file,
            size: 0,
            is_kept: false,
        })
    }

    /// What is kept of a blob; none when it is not to be trusted, or someone else is at it.
    fn open_kept(&self, descriptor: &Descriptor) -> Option<Staged> {
        make_private(&self.kept)?;
        let path = self.kept.join(file_name(&descriptor.digest));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(
            &mut options,
            rustix::fs::OFlags::NOFOLLOW.bits().cast_signed(),
        );
        let mut file = options.open(&path).ok()?;
        file.try_lock().ok()?;
        let metadata = file.metadata().ok()?;
        if !is_mine_alone(&metadata) || !is_still_there(&path, &metadata) {
            return None;
        }
        if metadata.len() > descriptor.size {
            file.set_len(0).ok()?;
        }
        let size = file.seek(SeekFrom::End(0)).ok()?;
        Some(Staged {
            path,
            file,
            size,
            is_kept: true,
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Only when it is empty.
        let _ = std::fs::remove_dir(&self.kept);
    }
}

impl Staged {
    /// Nothing more is written to it.
    pub(super) fn finish(self) -> Fetched {
        Fetched {
            path: self.path,
            _lock: self.is_kept.then_some(self.file),
        }
    }

    /// Forgets what is there.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        self.size = 0;
        emptied.context(WriteFileSnafu { path: &self.path })
    }
}

fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm_name(), digest.encoded())
}

/// Makes a directory that only this user can write to, unless it is there.
fn make_private(path: &Path) -> Option<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return None,
        _ => {}
    }
    let metadata = std::fs::symlink_metadata(path).ok()?;
    is_mine(&metadata).then_some(())
}

/// Whether it is a directory that this user made and nobody else may write to.
#[cfg(unix)]
fn is_mine(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let is_owner = metadata.uid() == rustix::process::geteuid().as_raw();
    metadata.is_dir() && is_owner && metadata.mode() & 0o022 == 0
}

/// Whether it is a file of this user that has no other name; who may write to it is up to its directory.
#[cfg(unix)]
fn is_mine_alone(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let is_owner = metadata.uid() == rustix::process::geteuid().as_raw();
    metadata.is_file() && metadata.nlink() == 1 && is_owner
}

/// Whether the name still is that file's: whoever had the lock before may have given it its final name.
#[cfg(unix)]
fn is_still_there(path: &Path, opened: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path)
        .is_ok_and(|there| there.ino() == opened.ino() && there.dev() == opened.dev())
}

#[cfg(not(unix))]
fn is_mine(metadata: &std::fs::Metadata) -> bool {
    metadata.is_dir()
}

#[cfg(not(unix))]
fn is_mine_alone(metadata: &std::fs::Metadata) -> bool {
    metadata.is_file()
}

#[cfg(not(unix))]
fn is_still_there(path: &Path, _: &std::fs::Metadata) -> bool {
    path.exists()
}
