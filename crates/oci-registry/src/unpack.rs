//! Files of an artifact, written into one directory.
//!
//! A name from a registry reaches the disk only as a [`FileName`], relative to the handle of its directory
//! ([`directory`]). Files are fetched and verified beside their final names ([`staging`]) and then moved, so that a file
//! under its final name is complete. Nothing outside the directory is changed, and nothing in it is replaced unless
//! [`UnpackOptions::replace`] is set. An interrupted fetch of a large file is continued by the next call.

mod directory;
mod staging;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use futures_util::stream::{StreamExt, TryStreamExt};
use icu_normalizer::DecomposingNormalizerBorrowed as DecomposingNormalizer;
use snafu::{IntoError, OptionExt, ResultExt, Snafu, ensure};

use crate::blob::{Meter, PartialBlob};
use crate::error::{ErrorKind, Failure};
use crate::escape::is_active;
use crate::manifest::Descriptor;
use crate::storage::Source;
use directory::{Directory, Entry, Missing, Parents};
use staging::{Fetched, Staged, Staging};

/// Largest component of a name in bytes that file systems accept.
const MAX_COMPONENT: usize = 255;

/// Largest name in bytes.
const MAX_NAME: usize = 1024;

/// Maximum number of components of a name, including the file name.
const MAX_PARTS: usize = 32;

/// Maximum number of directories that one set of files needs.
const MAX_DIRECTORIES: usize = 32_768;

/// Maximum number of files that are flushed one by one, which takes about a millisecond each. For more files, the whole
/// file system is flushed once where the system supports it.
const MAX_SINGLE_FLUSHES: usize = 64;

/// Names of configuration files and directories that make git, cargo or rustup run other programs.
const COMMAND_FILES: [&str; 4] = [".git", ".cargo", "rust-toolchain", "rust-toolchain.toml"];

/// Names of devices on Windows, which are reserved with any extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("invalid file name `{}`: {problem}", name.escape_debug()))]
    UnsafeName { name: String, problem: &'static str },
    #[snafu(display(
        "failed to write `{first}` and `{second}`: some file systems treat them as the same file"
    ))]
    Clash { first: FileName, second: FileName },
    #[snafu(display(
        "failed to write the files: they need more than {MAX_DIRECTORIES} directories"
    ))]
    TooManyDirectories,
    #[snafu(display("failed to write below `{}`: it is not a directory", path.display()))]
    NotADirectory { path: PathBuf },
    #[snafu(display("failed to write `{}`: it exists with different content", path.display()))]
    Occupied { path: PathBuf },
    #[snafu(display("failed to write `{}`: it exists and is not a regular file", path.display()))]
    NotAFile { path: PathBuf },
    #[snafu(display("failed to create the directory `{}`", path.display()))]
    MakeDirectory {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to write `{}`", path.display()))]
    WriteFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to fetch `{name}`"))]
    Fetch {
        name: FileName,
        source: crate::Error,
    },
    #[snafu(display("failed to compare `{}` with the published file", path.display()))]
    Compare { path: PathBuf, source: crate::Error },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnsafeName { .. } | Self::Clash { .. } | Self::TooManyDirectories => {
                ErrorKind::Mismatch
            }
            Self::Occupied { .. } => ErrorKind::Conflict,
            Self::NotADirectory { .. }
            | Self::NotAFile { .. }
            | Self::MakeDirectory { .. }
            | Self::WriteFile { .. } => ErrorKind::Io,
            Self::Fetch { source, .. } | Self::Compare { source, .. } => source.kind(),
        }
    }
}

/// Relative file name whose components are valid and safe on every system: `demo`, `examples/demo`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(String);

impl FileName {
    /// Returns the name, with components separated by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that the files can be in one directory on every file system. Fails for two equal names, for a name that
    /// is a directory of another, and for names that need more than 32,768 directories.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`]; the message states both names of a clash.
    pub fn check_together<'a>(names: impl IntoIterator<Item = &'a Self>) -> crate::Result<()> {
        Ok(check_clashes(names)?)
    }

    /// Returns the name in a form for comparison: without case, with decomposed accents and without invisible
    /// characters. Some file systems treat names with the same form as the same file.
    pub fn folded(&self) -> String {
        fold(&self.0)
    }

    fn path_in(&self, directory: &Path) -> PathBuf {
        self.0
            .split('/')
            .fold(directory.to_owned(), |path, part| path.join(part))
    }

    /// Splits the name into the directory, which may be empty, and the name of the file in it.
    fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

fn fold(name: &str) -> String {
    let decomposed = DecomposingNormalizer::new_nfd();
    // Some letters have several lower-case forms, such as the two of sigma. Their upper-case form is the same.
    let capitals = decomposed.normalize(name).to_uppercase();
    let folded = capitals.to_lowercase();
    let seen = folded.chars().filter(|character| !is_ignorable(*character));
    decomposed.normalize_iter(seen).collect()
}

/// Whether file systems that compare names by their visible characters ignore this one (Unicode,
/// "`Default_Ignorable_Code_Point`").
fn is_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

impl FromStr for FileName {
    type Err = crate::Error;

    fn from_str(name: &str) -> crate::Result<Self> {
        let problem = name
            .split('/')
            .find_map(problem_of)
            .or((name.len() > MAX_NAME).then_some("it is too long"))
            .or((name.split('/').count() > MAX_PARTS).then_some("it is nested too deeply"));
        match problem {
            None => Ok(Self(name.to_owned())),
            Some(problem) => {
                let name: String = name.chars().take(MAX_COMPONENT).collect();
                Err(UnsafeNameSnafu { name, problem }.build().into())
            }
        }
    }
}

/// Returns the reason why a component is not a valid file name on every system.
fn problem_of(part: &str) -> Option<&'static str> {
    let folded = fold(part);
    let stem = part
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_lowercase();
    let is_port = |prefix: &str| {
        let number = stem.strip_prefix(prefix);
        number.is_some_and(|number| {
            matches!(
                number,
                "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
            )
        })
    };
    if part.is_empty() {
        Some("it has an empty component")
    } else if part == "." || part == ".." {
        Some("it contains `.` or `..`")
    } else if part.len() > MAX_COMPONENT {
        Some("a component is too long")
    } else if part.contains(is_active) {
        Some("it contains control characters")
    } else if part.contains(['\\', ':', '*', '?', '"', '<', '>', '|']) {
        Some("it contains characters that some systems do not allow")
    } else if part.ends_with(['.', ' ']) || part.starts_with(' ') {
        Some("it starts or ends with a character that some systems remove")
    } else if COMMAND_FILES.contains(&folded.as_str()) {
        Some("programs run commands from this file or directory")
    } else if is_staging(&folded) {
        Some("it is reserved for partial downloads")
    } else if is_short_name(part) {
        Some("it may be the short name of another file on Windows")
    } else if DEVICES.contains(&stem.as_str()) || is_port("com") || is_port("lpt") {
        Some("it is the name of a device on Windows")
    } else {
        None
    }
}

/// Whether this module uses a name, in its folded form, for files that are being fetched.
fn is_staging(folded: &str) -> bool {
    folded == staging::PARTIAL_DIRECTORY || folded.starts_with(staging::TEMPORARY_PREFIX)
}

/// Whether a name has the form of a short name on Windows: `GIT~1`, `CARGO~1.TOM`.
fn is_short_name(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default();
    let number = stem.rsplit_once('~').map(|(_, number)| number);
    stem.len() <= 8
        && number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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
    check_clashes(files.iter().map(|file| &file.name))?;
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

/// Refuses names that are the same on some systems, and a file whose name is also a directory of another.
fn check_clashes<'a>(files: impl IntoIterator<Item = &'a FileName>) -> Result<(), Error> {
    let mut names: BTreeMap<String, &FileName> = BTreeMap::new();
    for name in files {
        if let Some(first) = names.insert(name.folded(), name) {
            return ClashSnafu {
                first: first.clone(),
                second: name.clone(),
            }
            .fail();
        }
    }
    let mut directories = BTreeSet::new();
    for (folded, name) in &names {
        let parents = folded.rmatch_indices('/').map(|(at, _)| &folded[..at]);
        for parent in parents {
            // The parents of a known directory are known, too.
            if !directories.insert(parent) {
                break;
            }
            if let Some(first) = names.get(parent) {
                return ClashSnafu {
                    first: (*first).clone(),
                    second: (*name).clone(),
                }
                .fail();
            }
        }
    }
    ensure!(
        directories.len() <= MAX_DIRECTORIES,
        TooManyDirectoriesSnafu
    );
    Ok(())
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
                make_runnable(&there).context(WriteFileSnafu { path })?;
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

/// Adds the permission to execute for all who may read the file.
#[cfg(unix)]
fn runnable(mode: u32) -> u32 {
    mode | ((mode & 0o444) >> 2)
}

#[cfg(unix)]
fn make_runnable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode();
    if runnable(mode) == mode {
        return Ok(());
    }
    file.set_permissions(std::fs::Permissions::from_mode(runnable(mode)))
}

#[cfg(not(unix))]
fn make_runnable(_: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::blob::Blob;
    use crate::manifest::MediaType;
    use crate::memory::Memory;
    use crate::storage::Target;

    async fn artifact(files: &[(&str, &'static str)]) -> (Memory, Vec<FileEntry>) {
        let memory = Memory::new();
        let mut entries = Vec::new();
        for (name, content) in files {
            let blob = Blob::from_bytes(MediaType::OCTET_STREAM, *content);
            memory.push_blob(&blob).await.unwrap();
            let name = name.parse().unwrap();
            entries.push(FileEntry {
                descriptor: blob.descriptor().clone(),
                name,
                executable: *content == "run",
            });
        }
        (memory, entries)
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn unsafe_file_names_are_refused() {
        let long = "a".repeat(256);
        let deep = format!("{}x", "a/".repeat(MAX_PARTS));
        for name in [
            "",
            ".",
            "..",
            "../x",
            "/x",
            "a//b",
            "a/",
            "a/../b",
            r"a\b",
            ".oci-partial/sha256-x",
            ".OCI-Partial",
            ".partial-x/1",
            "GIT~1/hooks/x",
            "cargo~12.tom",
            "C:x",
            "con",
            "CON.txt",
            "nul.tar.gz",
            "COM1",
            "lpt9.x",
            "a\u{202e}b",
            "a\0",
            "a\n",
            "a.",
            "a ",
            " a",
            "a?",
            ".git/hooks/pre-commit",
            ".g\u{206a}it/config",
            ".oci-part\u{131}al/x",
            "x/.Cargo/config.toml",
            "rust-toolchain",
            "x/Rust-Toolchain.TOML",
            &long,
            &deep,
            "aux .c",
        ] {
            assert_eq!(
                name.parse::<FileName>().unwrap_err().kind(),
                ErrorKind::Mismatch,
                "{name:?}"
            );
        }
        for name in [
            "demo",
            "examples/demo",
            "lib.so.1",
            "console",
            "com",
            "com10",
            ".hidden",
            "rust-toolchain.md",
            "ü",
            "a b",
            &format!("{}x", "a/".repeat(MAX_PARTS - 1)),
        ] {
            assert_eq!(name.parse::<FileName>().unwrap().as_str(), name);
        }
    }

    #[tokio::test]
    async fn unpack_writes_files_and_skips_existing_ones() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("new/out");
        let (memory, files) = artifact(&[("demo", "run"), ("examples/x", "data")]).await;
        let started = std::sync::Mutex::new(Vec::new());
        let note = |file: &FileEntry, meter: &Meter| {
            let mut started = started.lock().unwrap();
            started.push((file.name.to_string(), meter.clone()));
        };
        for _ in 0..2 {
            let options = UnpackOptions {
                started: &note,
                ..UnpackOptions::default()
            };
            unpack(&memory, &files, &directory, options).await.unwrap();
        }
        let started = started.into_inner().unwrap();
        let started: Vec<_> = started
            .iter()
            .map(|(name, meter)| (name.as_str(), meter.passed()))
            .collect();
        assert_eq!(
            started,
            [("demo", 3), ("examples/x", 4)],
            "existing files are not fetched"
        );
        assert_eq!(
            std::fs::read_to_string(directory.join("examples/x")).unwrap(),
            "data"
        );
        assert_eq!(names(&directory), ["demo", "examples"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |name: &str| {
                std::fs::metadata(directory.join(name))
                    .unwrap()
                    .permissions()
                    .mode()
            };
            assert_eq!(mode("demo") & 0o700, 0o700);
            assert_eq!(mode("examples/x") & 0o111, 0);
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn unpack_closes_fetched_files() {
        let home = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..40).map(|number| format!("{number}")).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), "data")).collect();
        let (memory, files) = artifact(&all).await;
        let most = std::sync::atomic::AtomicUsize::new(0);
        let count = || {
            let open = std::fs::read_dir("/proc/self/fd").unwrap();
            let open = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
            let open = open.filter(|path| path.starts_with(home.path())).count();
            most.fetch_max(open, std::sync::atomic::Ordering::Relaxed);
        };
        let options = UnpackOptions {
            concurrency: 2,
            started: &|_, _| count(),
            observer: &|_, _| count(),
            ..UnpackOptions::default()
        };
        unpack(&memory, &files, home.path(), options).await.unwrap();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), files.len());
        // The files that are being fetched, each with at most three handles.
        let most = most.into_inner();
        assert!(most <= 6, "{most} were open at once");
    }

    #[tokio::test]
    async fn unpack_replaces_files_only_if_requested() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("b"), "mine").unwrap();
        let (memory, files) = artifact(&[("a", "1"), ("b", "2")]).await;
        let error = unpack(&memory, &files, home.path(), UnpackOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(names(home.path()), ["b"]);
        let options = UnpackOptions {
            replace: true,
            ..UnpackOptions::default()
        };
        unpack(&memory, &files, home.path(), options).await.unwrap();
        assert_eq!(std::fs::read_to_string(home.path().join("b")).unwrap(), "2");
    }

    #[tokio::test]
    async fn unpack_with_a_missing_blob_leaves_no_file() {
        let home = tempfile::tempdir().unwrap();
        let (memory, mut files) = artifact(&[("a", "1")]).await;
        let absent = Blob::from_bytes(MediaType::OCTET_STREAM, "absent")
            .descriptor()
            .clone();
        files.push(FileEntry {
            descriptor: absent,
            name: "b".parse().unwrap(),
            executable: false,
        });
        let error = unpack(&memory, &files, home.path(), UnpackOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(names(home.path()).is_empty());
    }

    #[tokio::test]
    async fn names_of_the_same_file_are_refused() {
        let home = tempfile::tempdir().unwrap();
        for clash in [
            ["a", "a"],
            ["a", "A"],
            ["a/b", "a"],
            ["A", "a/b"],
            // The accented letter, and the letter with a combining accent.
            ["caf\u{e9}", "cafe\u{301}"],
            ["CAF\u{c9}/x", "cafe\u{301}"],
            ["\u{1e69}", "s\u{307}\u{323}"],
            ["\u{3c3}", "\u{3c2}"],
            ["stra\u{df}e", "STRASSE"],
            ["\u{212a}", "k"],
            ["a\u{fe0f}", "a"],
        ] {
            let (memory, files) = artifact(&[(clash[0], "1"), (clash[1], "2")]).await;
            let error = unpack(&memory, &files, home.path(), UnpackOptions::default())
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Mismatch, "{clash:?}");
        }
        assert!(names(home.path()).is_empty());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn unpack_does_not_follow_links() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(elsewhere.path(), home.path().join("link")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("x"), home.path().join("file")).unwrap();
        let options = || UnpackOptions {
            replace: true,
            ..UnpackOptions::default()
        };
        let (memory, files) = artifact(&[("link/x", "1")]).await;
        assert_eq!(
            unpack(&memory, &files, home.path(), options())
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::Io
        );
        let (memory, files) = artifact(&[("file", "1")]).await;
        unpack(&memory, &files, home.path(), options())
            .await
            .unwrap();
        assert!(names(elsewhere.path()).is_empty());
        assert!(!home.path().join("file").is_symlink());
    }

    #[test]
    fn names_with_too_many_directories_are_refused() {
        let name = |number: usize| format!("{number}/{}x", "a/".repeat(30)).parse().unwrap();
        let names: Vec<FileName> = (0..=MAX_DIRECTORIES / 31).map(name).collect();
        let error = check_clashes(&names).unwrap_err();
        assert!(matches!(error, Error::TooManyDirectories));
        check_clashes(&names[1..]).unwrap();
    }

    #[tokio::test]
    async fn many_files_are_unpacked_with_one_flush() {
        let home = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..=MAX_SINGLE_FLUSHES)
            .map(|number| format!("{}/{number}", number % 3))
            .collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), "data")).collect();
        let (memory, files) = artifact(&all).await;
        unpack(&memory, &files, home.path(), UnpackOptions::default())
            .await
            .unwrap();
        for name in names {
            assert_eq!(std::fs::read(home.path().join(name)).unwrap(), b"data");
        }
        assert_eq!(super::tests::names(home.path()), ["0", "1", "2"]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn fifo_is_not_replaced() {
        use std::os::unix::fs::FileTypeExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let (memory, files) = artifact(&[("a", "1")]).await;
        let options = UnpackOptions {
            replace: true,
            ..UnpackOptions::default()
        };
        let error = unpack(&memory, &files, home.path(), options).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Io);
        let kind = std::fs::symlink_metadata(path).unwrap().file_type();
        assert!(kind.is_fifo());
    }

    #[cfg(unix)]
    #[test]
    fn move_into_directory_swapped_for_link_stays_inside() {
        for replaces in [true, false] {
            let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let at = |name: &str| home.path().join(name);
            std::fs::write(at("fetched"), "content").unwrap();
            let root = Directory::open(home.path()).unwrap();
            let name: FileName = "a/b/x".parse().unwrap();
            let parent = Parents::new(&root, Missing::Create).open(&name).unwrap();
            std::fs::rename(at("a/b"), at("moved")).unwrap();
            std::os::unix::fs::symlink(elsewhere.path(), at("a/b")).unwrap();
            root.move_file("fetched", &parent.unwrap(), "x", replaces)
                .unwrap();
            assert!(names(elsewhere.path()).is_empty());
            assert_eq!(std::fs::read(at("moved/x")).unwrap(), b"content");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn unpack_against_swapped_parent_stays_inside() {
        use std::sync::atomic::{AtomicBool, Ordering};

        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (directory, link) = (home.path().join("d"), home.path().join("link"));
        std::fs::create_dir(&directory).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (memory, files) = runtime.block_on(artifact(&[("d/x", "run")]));
        let is_over = AtomicBool::new(false);
        let swap = || {
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, &directory, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        };
        let mut escaped = false;
        std::thread::scope(|scope| {
            scope.spawn(swap);
            for _ in 0..300 {
                let options = UnpackOptions {
                    replace: true,
                    ..UnpackOptions::default()
                };
                // Fails if the directory is the link at this moment.
                let _ = runtime.block_on(unpack(&memory, &files, home.path(), options));
                escaped |= elsewhere.path().join("x").exists();
                for place in [&directory, &link] {
                    let _ = std::fs::remove_file(place.join("x"));
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert!(!escaped);
    }

    proptest! {
        #[test]
        fn parsed_name_stays_inside_the_directory(name in "[a-c./\\\\: ]{0,12}") {
            if let Ok(name) = name.parse::<FileName>() {
                let path = name.path_in(Path::new("/base"));
                prop_assert!(path.starts_with("/base") && path != Path::new("/base"));
                let is_plain = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
                prop_assert!(path.components().all(is_plain));
            }
        }
    }
}
