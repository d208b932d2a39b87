//! Unpacking of artifacts: the files of an artifact are written into one directory.
//!
//! A name from a registry is used only as a [`FileName`], relative to the handle of its directory ([`directory`]).
//! Files are fetched and verified under temporary names ([`staging`]) and then moved, so a file that has its final name
//! is complete. Nothing outside the directory is changed, and nothing in it is replaced unless
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
use directory::{Directory, EntryType};
use error::{
    CompareSnafu, Error, FetchSnafu, MakeDirectorySnafu, NotADirectorySnafu, NotAFileSnafu,
    OccupiedSnafu, OpenDirectorySnafu, WriteFileSnafu,
};
use executable::make_executable;
pub use file_name::FileName;
use parents::{MissingDirectories, Parents};
use staging::{FetchedFile, StagedFile, Staging};

/// Maximum number of files that are flushed one by one, which takes about a millisecond each. For more files, the whole
/// file system is flushed once if the operating system supports this.
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
    /// Callback for each file before it is fetched, with the meter of its download.
    pub started: &'a (dyn Fn(&FileEntry, &Meter) + Send + Sync),
    /// Callback for each file after it was moved to its final name, with its path. It is also called for each file that
    /// existed already.
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

/// Writes files of a source into a directory, and creates the directory if it is missing. A file that exists with the
/// same content is not fetched. If the fetch of a large file is interrupted, the part that was fetched is kept in the
/// directory `.oci-partial`, and the next call continues the fetch.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] if a file exists with different content and `replace` is not set; this is checked before
/// anything is fetched. [`ErrorKind::Mismatch`] for names that clash and for content that does not match its digest; in
/// both cases no fetched file has its final name yet.
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
    let root = Directory::open(directory).context(OpenDirectorySnafu { path: directory })?;
    let wanted = find_missing(files, &root, &options).await?;
    if wanted.is_empty() {
        return Ok(());
    }
    let staging = Staging::new(&root);
    let flushes_together = Directory::CAN_FLUSH && wanted.len() > MAX_SINGLE_FLUSHES;
    let fetched = fetch_all(source, &wanted, &staging, &options, !flushes_together).await?;
    if flushes_together {
        let flushed = flush(&root).await;
        flushed.context(WriteFileSnafu { path: directory })?;
    }
    let mut changed = BTreeSet::new();
    let moved = move_to_final_names(fetched, &wanted, &root, &options, &mut changed);
    // The content of the files was flushed before. Now their directories are flushed, so that the new names survive a
    // loss of power if the file system supports this.
    if flushes_together {
        let _ = flush(&root).await;
    } else {
        sync_directories(&changed, &root);
    }
    moved
}

/// Flushes the file system in a blocking task, because the call may take seconds.
async fn flush(directory: &Directory) -> std::io::Result<()> {
    let directory = directory.clone();
    let flushed = tokio::task::spawn_blocking(move || directory.flush()).await;
    flushed.expect("flushing does not panic")
}

/// Returns the number of bytes of these files that an interrupted [`unpack`] has kept in the directory. The next call
/// continues after these bytes.
pub fn partial_size(files: &[FileEntry], directory: &Path) -> u64 {
    let sizes = files.iter().map(|file| {
        let metadata = std::fs::metadata(staging::kept_path(directory, &file.descriptor.digest));
        metadata.map_or(0, |metadata| metadata.len().min(file.descriptor.size))
    });
    sizes.sum()
}

/// Returns the files that are missing in the directory or have different content in it.
async fn find_missing<'a>(
    files: &'a [FileEntry],
    root: &Directory,
    options: &UnpackOptions<'_>,
) -> crate::Result<Vec<&'a FileEntry>> {
    let mut parents = Parents::new(root, MissingDirectories::Leave);
    let mut wanted = Vec::new();
    for file in files {
        let state = match parents.open(&file.name)? {
            Some(parent) => compare_existing(file, &parent).await?,
            None => ExistingFile::Absent,
        };
        let path = || file.name.path_in(root.path());
        match state {
            ExistingFile::Same => (options.observer)(file, &path()),
            ExistingFile::Other if !options.replace => {
                return Err(OccupiedSnafu { path: path() }.build().into());
            }
            ExistingFile::Other | ExistingFile::Absent => wanted.push(file),
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
) -> crate::Result<Vec<FetchedFile>> {
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

/// Moves fetched files to their final names. Adds the names of the changed directories to `changed`.
fn move_to_final_names<'a>(
    fetched: Vec<FetchedFile>,
    wanted: &[&'a FileEntry],
    root: &Directory,
    options: &UnpackOptions<'_>,
    changed: &mut BTreeSet<&'a str>,
) -> crate::Result<()> {
    let mut parents = Parents::new(root, MissingDirectories::Create);
    for (fetched, file) in fetched.into_iter().zip(wanted) {
        let path = file.name.path_in(root.path());
        let (directory, name) = file.name.split();
        let parent = parents.open(&file.name)?;
        let parent = parent.with_context(|| NotADirectorySnafu { path: path.clone() })?;
        if let Err(error) = fetched.move_into(&parent, name, options.replace) {
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
fn sync_directories(directories: &BTreeSet<&str>, root: &Directory) {
    let mut parents = Parents::new(root, MissingDirectories::Leave);
    for directory in directories {
        if let Ok(Some(directory)) = parents.open_directory(directory) {
            directory.sync();
        }
    }
}

enum ExistingFile {
    Absent,
    Same,
    Other,
}

/// Compares a file with the existing file of the same name. If the content is the same, the existing file is made
/// executable if required.
async fn compare_existing(file: &FileEntry, parent: &Directory) -> crate::Result<ExistingFile> {
    let (_, name) = file.name.split();
    let path = &*parent.path().join(name);
    let Descriptor { digest, size, .. } = &file.descriptor;
    match parent.entry_type(name).context(WriteFileSnafu { path })? {
        None => Ok(ExistingFile::Absent),
        Some(EntryType::Directory) => Err(OccupiedSnafu { path }.build().into()),
        Some(EntryType::Other) => Err(NotAFileSnafu { path }.build().into()),
        Some(EntryType::File(found)) if found == *size => {
            let there = parent.open_file(name).context(WriteFileSnafu { path })?;
            let read = there.try_clone().context(WriteFileSnafu { path })?;
            let found = PartialBlob::from_file(digest, read, path, *size).await;
            if found.context(CompareSnafu { path })?.digest() != *digest {
                return Ok(ExistingFile::Other);
            }
            if file.executable {
                make_executable(&there).context(WriteFileSnafu { path })?;
            }
            Ok(ExistingFile::Same)
        }
        Some(EntryType::File(_) | EntryType::Link) => Ok(ExistingFile::Other),
    }
}

/// Fetches and verifies one file in the staging directory. If the verification of a resumed file fails, the file is
/// fetched again from its first byte.
async fn fetch(
    source: &dyn Source,
    file: &FileEntry,
    meter: Meter,
    mut staged: StagedFile,
    syncs: bool,
) -> Result<FetchedFile, Error> {
    let mut fetched = fetch_rest(source, file, &meter, &staged, syncs).await;
    let is_wrong = |fetched: &crate::Result<()>| matches!(fetched, Err(error) if error.kind() == ErrorKind::Mismatch);
    if staged.is_kept && is_wrong(&fetched) {
        staged.restart()?;
        fetched = fetch_rest(source, file, &meter, &staged, syncs).await;
        if is_wrong(&fetched) {
            // The content is wrong, so a later call must not resume the file.
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
    staged: &StagedFile,
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
        let partial = PartialBlob::from_file(digest, begun, path, staged.size).await?;
        source.blob_after(&file.descriptor, partial).await?
    };
    let bytes = bytes.metered(meter);
    if syncs {
        bytes.write_to(target, path).await
    } else {
        bytes.write_unsynced(target, path).await
    }
}
