//! Files of an artifact, written into one directory.
//!
//! A name from a registry reaches the disk only as a [`FileName`], relative to the handle of its directory
//! ([`directory`]). Files are fetched and verified beside their final names ([`staging`]) and then moved, so that a file
//! under its final name is complete. Nothing outside the directory is changed, and nothing in it is replaced unless
//! [`UnpackOptions::replace`] is set. An interrupted fetch of a large file is continued by the next call.

mod directory;
mod error;
mod executable;
mod file_name;
mod parents;
mod staging;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use futures_util::stream::{StreamExt, TryStreamExt};
use snafu::{IntoError, OptionExt, ResultExt, ensure};

use crate::blob::{Meter, PartialBlob};
use crate::error::ErrorKind;
use crate::manifest::Descriptor;
use crate::storage::Source;
use directory::{Directory, Entry};
use error::{
    CompareSnafu, Error, FetchSnafu, MakeDirectorySnafu, NotADirectorySnafu, NotAFileSnafu,
    OccupiedSnafu, WriteFileSnafu,
};
use executable::make_executable;
pub use file_name::FileName;
use parents::{Missing, Parents};
use staging::{Fetched, Staged, Staging};

/// Maximum number of files that are flushed one by one, which takes about a millisecond each. For more files, the whole
/// file system is flushed once where the system supports it.
const MAX_SINGLE_FLUSHES: usize = 64;

/// File to write.
#[derive(Debug, Clone)]
pub struct FileEntry {
    /// Descriptor of the layer with the content of the file.
    pub descriptor: Descriptor,
    /// Name relative to the directory.
    pub name: FileName,
    /// Whether the file is executable.
    pub executable: bool,
}

/// Options of [`unpack`].
pub struct UnpackOptions<'a> {
    /// Whether existing files with different content are replaced.
    pub replace: bool,
    /// Maximum number of files that are fetched at the same time, at least 1.
    pub concurrency: usize,
    /// Callback for each file before it is fetched, with the meter of its progress.
    pub started: &'a (dyn Fn(&FileEntry, &Meter) + Send + Sync),
    /// Callback for each file that has its final name, with its path.
    pub observer: &'a (dyn Fn(&FileEntry, &Path) + Send + Sync),
}

impl Default for UnpackOptions<'_> {
    fn default() -> Self {
        Self {
            replace: false,
            concurrency: 4,
            started: &|_, _| {},
            observer: &|_, _| {},
        }
    }
}

impl fmt::Debug for UnpackOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnpackOptions")
            .field("replace", &self.replace)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// Writes files of a source into a directory, which is created if it is missing. A file that exists with the same
/// content is not fetched. If the fetch of a large file is interrupted, the part that was fetched is kept in the
/// directory `.oci-partial`, and the next call continues from there.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] if a file exists with different content and `replace` is not set; this is checked before
/// anything is fetched. [`ErrorKind::Mismatch`] for names that clash and for content that does not match its digest; in
/// both cases no file has its final name yet.
pub async fn unpack(
    source: &dyn Source,
    files: &[FileEntry],
    directory: &Path,
    options: UnpackOptions<'_>,
) -> crate::Result<()> {
    FileName::check_together(files.iter().map(|file| &file.name))?;
    tokio::fs::create_dir_all(directory)
        .await
        .context(MakeDirectorySnafu { path: directory })?;
    let root = Directory::open(directory).context(MakeDirectorySnafu { path: directory })?;
    let wanted = missing(files, &root, &options).await?;
    if wanted.is_empty() {
        return Ok(());
    }
    let staging = Staging::within(&root);
    let flushes_together = Directory::CAN_FLUSH && wanted.len() > MAX_SINGLE_FLUSHES;
    let fetched = fetch_all(source, &wanted, &staging, &options, !flushes_together).await?;
    if flushes_together {
        let flushed = flush(&root).await;
        flushed.context(WriteFileSnafu { path: directory })?;
    }
    let mut changed = BTreeSet::new();
    let placed = place(fetched, &wanted, &root, &options, &mut changed);
    // The content of the files is flushed. This makes their names survive a loss of power, if the file system supports
    // it.
    if flushes_together {
        let _ = flush(&root).await;
    } else {
        sync(&changed, &root);
    }
    placed
}

/// Flushes the file system, which may take seconds.
async fn flush(directory: &Directory) -> std::io::Result<()> {
    let directory = directory.clone();
    let flushed = tokio::task::spawn_blocking(move || directory.flush()).await;
    flushed.expect("flushing does not panic")
}

/// Returns the files that do not exist with the same content.
async fn missing<'a>(
    files: &'a [FileEntry],
    root: &Directory,
    options: &UnpackOptions<'_>,
) -> crate::Result<Vec<&'a FileEntry>> {
    let mut parents = Parents::new(root, Missing::Leave);
    let mut wanted = Vec::new();
    for file in files {
        let state = match parents.open(&file.name)? {
            Some(parent) => state(file, &parent).await?,
            None => State::Absent,
        };
        let path = || file.name.path_in(root.path());
        match state {
            State::Same => (options.observer)(file, &path()),
            State::Other if !options.replace => {
                return Err(OccupiedSnafu { path: path() }.build().into());
            }
            State::Other | State::Absent => wanted.push(file),
        }
    }
    Ok(wanted)
}

/// Fetches files, and returns them in the same order.
async fn fetch_all(
    source: &dyn Source,
    wanted: &[&FileEntry],
    staging: &Staging,
    options: &UnpackOptions<'_>,
    syncs: bool,
) -> crate::Result<Vec<Fetched>> {
    let pending = futures_util::stream::iter(0..wanted.len()).map(|number| async move {
        let (file, meter) = (wanted[number], Meter::default());
        (options.started)(file, &meter);
        let staged = staging.open(&file.descriptor, number)?;
        let fetched = fetch(source, file, meter, staged, syncs).await?;
        Ok::<_, crate::Error>((number, fetched))
    });
    let mut fetched: Vec<_> = pending
        .buffer_unordered(options.concurrency.max(1))
        .try_collect()
        .await?;
    fetched.sort_by_key(|(number, _)| *number);
    Ok(fetched.into_iter().map(|(_, fetched)| fetched).collect())
}

/// Moves fetched files to their final names, and adds the names of the changed directories to `changed`.
fn place<'a>(
    fetched: Vec<Fetched>,
    wanted: &[&'a FileEntry],
    root: &Directory,
    options: &UnpackOptions<'_>,
    changed: &mut BTreeSet<&'a str>,
) -> crate::Result<()> {
    let mut parents = Parents::new(root, Missing::Create);
    for (fetched, file) in fetched.into_iter().zip(wanted) {
        let path = file.name.path_in(root.path());
        let (directory, name) = file.name.split();
        let parent = parents.open(&file.name)?;
        let parent = parent.with_context(|| NotADirectorySnafu { path: path.clone() })?;
        if let Err(error) = fetched.place(&parent, name, options.replace) {
            ensure!(
                options.replace || error.kind() != std::io::ErrorKind::AlreadyExists,
                OccupiedSnafu { path }
            );
            return Err(WriteFileSnafu { path }.into_error(error).into());
        }
        changed.insert(directory);
        (options.observer)(file, &path);
    }
    Ok(())
}

/// Flushes directories.
fn sync(directories: &BTreeSet<&str>, root: &Directory) {
    let mut parents = Parents::new(root, Missing::Leave);
    for directory in directories {
        if let Ok(Some(directory)) = parents.open_directory(directory) {
            directory.sync();
        }
    }
}

enum State {
    Absent,
    Same,
    Other,
}

/// Compares a file with the existing one of its name. An existing file with the same content is made executable if
/// required.
async fn state(file: &FileEntry, parent: &Directory) -> crate::Result<State> {
    let (_, name) = file.name.split();
    let path = &*parent.path().join(name);
    let Descriptor { digest, size, .. } = &file.descriptor;
    match parent.entry(name).context(WriteFileSnafu { path })? {
        None => Ok(State::Absent),
        Some(Entry::Directory) => Err(OccupiedSnafu { path }.build().into()),
        Some(Entry::Other) => Err(NotAFileSnafu { path }.build().into()),
        Some(Entry::File(found)) if found == *size => {
            let there = parent.open_file(name).context(WriteFileSnafu { path })?;
            let read = there.try_clone().context(WriteFileSnafu { path })?;
            let found = PartialBlob::of_file(digest, read, path, *size).await;
            if found.context(CompareSnafu { path })?.digest() != *digest {
                return Ok(State::Other);
            }
            if file.executable {
                make_executable(&there).context(WriteFileSnafu { path })?;
            }
            Ok(State::Same)
        }
        Some(Entry::File(_) | Entry::Link) => Ok(State::Other),
    }
}

/// Fetches and verifies one file in the staging directory. If a file that includes an earlier partial fetch fails the
/// verification, all of it is fetched again.
async fn fetch(
    source: &dyn Source,
    file: &FileEntry,
    meter: Meter,
    mut staged: Staged,
    syncs: bool,
) -> Result<Fetched, Error> {
    let mut fetched = fetch_rest(source, file, &meter, &staged, syncs).await;
    let is_wrong = |fetched: &crate::Result<()>| matches!(fetched, Err(error) if error.kind() == ErrorKind::Mismatch);
    if staged.is_kept && is_wrong(&fetched) {
        staged.restart()?;
        fetched = fetch_rest(source, file, &meter, &staged, syncs).await;
        if is_wrong(&fetched) {
            // None of the content can be used by a later call.
            staged.remove();
        }
    }
    fetched.with_context(|_| FetchSnafu {
        name: file.name.clone(),
    })?;
    staged.set_mode(file.executable)?;
    Ok(staged.finish())
}

/// Fetches the missing part of a file.
async fn fetch_rest(
    source: &dyn Source,
    file: &FileEntry,
    meter: &Meter,
    staged: &Staged,
    syncs: bool,
) -> crate::Result<()> {
    let path = &*staged.path();
    let target = staged.file.try_clone();
    let target = target.context(WriteFileSnafu { path })?;
    let bytes = if staged.size == 0 {
        source.blob(&file.descriptor).await?
    } else {
        let begun = staged.file.try_clone().context(WriteFileSnafu { path })?;
        let digest = &file.descriptor.digest;
        let partial = PartialBlob::of_file(digest, begun, path, staged.size).await?;
        source.blob_after(&file.descriptor, partial).await?
    };
    let bytes = bytes.metered(meter);
    if syncs {
        bytes.write_to(target, path).await
    } else {
        bytes.write_unsynced(target, path).await
    }
}
