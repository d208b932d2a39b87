//! Destination files that the user names.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use snafu::{ResultExt, Snafu, ensure};
use tempfile::TempPath;

use super::file::run_blocking;
use super::stream::BlobStream;
use crate::error::{ErrorKind, Failure};
use crate::file::open_special;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to write `{}`: the file exists", path.display()))]
    Exists { path: PathBuf },
    #[snafu(display("failed to write `{}`: it is a directory", path.display()))]
    IsDirectory { path: PathBuf },
    #[snafu(display("failed to write `{}`", path.display()))]
    Write { path: PathBuf, source: io::Error },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists { .. } | Self::IsDirectory { .. } => ErrorKind::Conflict,
            Self::Write { .. } => ErrorKind::Io,
        }
    }
}

/// Time between two attempts to open a pipe that has no reader.
const READER_INTERVAL: Duration = Duration::from_millis(50);

/// Destination file. A regular file is written under a temporary name, and [`OutputFile::finish`] renames it. If this
/// value is dropped before that, the temporary file is deleted. An existing device or pipe is opened and written
/// directly.
///
/// A path such as `/dev/stdout` or `/dev/fd/3` names an open file of a process. If that is a regular file, the content
/// is written at the current position for stdout and stderr, and appended for any other file.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
    /// Temporary name until the content is complete. `None` if the destination is written directly.
    temporary: Option<TempPath>,
    replace: bool,
    is_stdout: bool,
}

impl OutputFile {
    /// Checks that content can be written to a path, so that the user sees the error before any request is sent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] for a directory, and for an existing file or link unless `replace` is set.
    pub fn check(path: &Path, replace: bool) -> crate::Result<()> {
        is_special(path, replace)?;
        Ok(())
    }

    /// Opens the destination.
    ///
    /// # Errors
    ///
    /// The errors of [`OutputFile::check`], and [`ErrorKind::Io`] if the file cannot be opened. Opening a pipe waits
    /// for its reader.
    pub async fn create(path: PathBuf, replace: bool) -> crate::Result<Self> {
        loop {
            let target = path.clone();
            if let Some(output) = run_blocking(move || Self::open(target, replace)).await? {
                return Ok(output);
            }
            tokio::time::sleep(READER_INTERVAL).await;
        }
    }

    /// Opens the destination. Returns `None` for a pipe that has no reader.
    ///
    /// The pipe is opened with `O_NONBLOCK`. Otherwise, opening it would block a thread,
    /// and a blocked thread cannot be cancelled.
    fn open(path: PathBuf, replace: bool) -> Result<Option<Self>, Error> {
        let (file, temporary, is_stdout) = if is_special(&path, replace)? {
            let opened = open_directly(&path).context(WriteSnafu { path: &path })?;
            let Some((file, is_stdout)) = opened else {
                return Ok(None);
            };
            (file, None, is_stdout)
        } else {
            let named = new_temporary(&path).context(WriteSnafu { path: &path })?;
            let (file, temporary) = named.into_parts();
            (file, Some(temporary), false)
        };
        Ok(Some(Self {
            path,
            file,
            temporary,
            replace,
            is_stdout,
        }))
    }

    /// Whether the content is written to stdout of this process. Other output to stdout would become part of the
    /// content.
    pub fn is_stdout(&self) -> bool {
        self.is_stdout
    }

    /// Returns the path of the destination.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a handle of the file, for content that is not a blob.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the handle cannot be duplicated.
    pub fn file(&self) -> crate::Result<File> {
        let file = self.file.try_clone();
        Ok(file.context(WriteSnafu { path: &self.path })?)
    }

    /// Writes a whole blob to the destination.
    ///
    /// # Errors
    ///
    /// The error of the stream, and [`ErrorKind::Io`] if the file cannot be written.
    pub async fn write(&self, content: BlobStream) -> crate::Result<()> {
        content.write_unsynced(self.file()?, &self.path).await
    }

    /// Flushes the content to the disk and renames the file to its final name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if the path was created meanwhile and `replace` is not set; [`ErrorKind::Io`] if the
    /// file cannot be written.
    pub async fn finish(self) -> crate::Result<()> {
        let Self {
            path,
            file,
            temporary,
            replace,
            ..
        } = self;
        let Some(temporary) = temporary else {
            return Ok(());
        };
        // If this future is dropped during the flush, which may take seconds, the temporary file is deleted at once.
        let flushed = run_blocking(move || file.sync_all()).await;
        flushed.context(WriteSnafu { path: &path })?;
        Ok(run_blocking(move || persist(temporary, &path, replace)).await?)
    }
}

/// Renames a temporary file to its final name.
fn persist(temporary: TempPath, path: &Path, replace: bool) -> Result<(), Error> {
    let persisted = if replace {
        ensure!(!is_special(path, true)?, ExistsSnafu { path });
        temporary.persist(path)
    } else {
        temporary.persist_noclobber(path)
    };
    match persisted.map_err(|error| error.error) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => ExistsSnafu { path }.fail(),
        persisted => persisted.context(WriteSnafu { path }),
    }
}

/// Whether a path is a device, a pipe or an open file of a process, or a link to one of these. For any other path, an
/// existing file or link is an error unless `replace` is set. If a link is replaced, its target is kept. A directory is
/// always an error.
fn is_special(path: &Path, replace: bool) -> Result<bool, Error> {
    let metadata = std::fs::metadata(path);
    let is = |test: fn(&Metadata) -> bool| metadata.as_ref().is_ok_and(test);
    ensure!(!is(Metadata::is_dir), IsDirectorySnafu { path });
    if metadata.is_ok() && (!is(Metadata::is_file) || names_open_file(path)) {
        return Ok(true);
    }
    let is_free = replace || path.symlink_metadata().is_err();
    ensure!(is_free, ExistsSnafu { path });
    Ok(false)
}

/// Whether a path is an entry of `/dev`, `/dev/fd` or `/proc`, or a link that leads to such an entry. Replacing an
/// entry of `/dev` would damage the system, and `/dev/stdout` may lead to the regular file to which stdout was
/// redirected.
#[cfg(unix)]
fn names_open_file(path: &Path) -> bool {
    const LONGEST_CHAIN: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LONGEST_CHAIN {
        let Some(name) = path.file_name() else {
            return false;
        };
        let Ok(directory) = directory_of(&path).canonicalize() else {
            return false;
        };
        let is_device = ["/dev", "/dev/fd"].contains(&directory.to_str().unwrap_or_default());
        if is_device || directory.starts_with("/proc") {
            return true;
        }
        match std::fs::read_link(directory.join(name)) {
            Ok(target) => path = directory.join(target),
            Err(_) => return false,
        }
    }
    false
}

#[cfg(not(unix))]
fn names_open_file(_: &Path) -> bool {
    false
}

/// Opens a destination that is written directly, and returns whether it is stdout. Returns `None` for a pipe that has
/// no reader.
///
/// If the destination is stdout or stderr, its handle is duplicated, which keeps the position. Opening `/dev/stdout`
/// again would start at the beginning of the file.
fn open_directly(path: &Path) -> io::Result<Option<(File, bool)>> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd as _;
        use std::os::unix::fs::MetadataExt as _;
        let named = std::fs::metadata(path)?;
        let (stdout, stderr) = (io::stdout(), io::stderr());
        for (stream, is_stdout) in [(stdout.as_fd(), true), (stderr.as_fd(), false)] {
            let stream = File::from(stream.try_clone_to_owned()?);
            let opened = stream.metadata()?;
            if (opened.dev(), opened.ino()) == (named.dev(), named.ino()) {
                return Ok(Some((stream, is_stdout)));
            }
        }
    }
    Ok(open_special(path)?.map(|file| (file, false)))
}

/// Returns the directory that contains a path.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates a file next to its final name, with the permissions that the user's mask allows.
fn new_temporary(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory_of(path))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::blob::Blob;
    use crate::manifest::MediaType;

    /// Writes to a destination as the front ends do.
    async fn write(path: &Path, content: &'static str, replace: bool) -> crate::Result<()> {
        OutputFile::check(path, replace)?;
        let output = OutputFile::create(path.to_owned(), replace).await?;
        let blob = Blob::from_bytes(MediaType::OCTET_STREAM, content);
        output.write(blob.open().await.unwrap()).await?;
        output.finish().await
    }

    fn file_names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn output_replaces_a_file_only_if_requested() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("out");
        write(&path, "new", false).await.unwrap();
        let error = write(&path, "newer", false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        write(&path, "newer", true).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "newer");
        assert_eq!(file_names(home.path()), ["out"]);
    }

    #[tokio::test]
    async fn output_dropped_before_finish_leaves_no_file() {
        let home = tempfile::tempdir().unwrap();
        let output = OutputFile::create(home.path().join("out"), false);
        let output = output.await.unwrap();
        output.file().unwrap().write_all(b"half").unwrap();
        drop(output);
        assert!(file_names(home.path()).is_empty());
    }

    #[tokio::test]
    async fn file_created_before_finish_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("out");
        let output = OutputFile::create(path.clone(), false).await.unwrap();
        std::fs::write(&path, "mine").unwrap();
        let error = output.finish().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(file_names(home.path()), ["out"]);
    }

    #[tokio::test]
    async fn output_to_directory_is_rejected() {
        let home = tempfile::tempdir().unwrap();
        let error = write(home.path(), "x", true).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::{FileTypeExt, symlink};

        use rustix::fs::{CWD, Mode};

        use super::*;

        /// Creates a named pipe and reads it to its end on another thread.
        fn create_pipe(path: &Path) -> std::thread::JoinHandle<String> {
            rustix::fs::mkfifoat(CWD, path, Mode::from(0o600)).unwrap();
            let path = path.to_owned();
            std::thread::spawn(move || std::fs::read_to_string(path).unwrap())
        }

        #[tokio::test]
        async fn output_to_pipe_writes_content_and_keeps_pipe() {
            for replace in [false, true] {
                let home = tempfile::tempdir().unwrap();
                let path = home.path().join("pipe");
                let reader = create_pipe(&path);
                write(&path, "content", replace).await.unwrap();
                assert_eq!(reader.join().unwrap(), "content");
                assert!(path.metadata().unwrap().file_type().is_fifo());
                assert_eq!(file_names(home.path()), ["pipe"]);
            }
        }

        #[tokio::test]
        async fn wait_for_reader_of_a_pipe_can_be_cancelled() {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("pipe");
            rustix::fs::mkfifoat(CWD, &path, Mode::from(0o600)).unwrap();
            let created = OutputFile::create(path, false);
            let waited = tokio::time::timeout(READER_INTERVAL * 3, created).await;
            assert!(waited.is_err());
            // If a thread were blocked in opening the pipe, the test would not finish.
        }

        #[tokio::test]
        async fn output_to_link_to_device_keeps_link() {
            let home = tempfile::tempdir().unwrap();
            let link = home.path().join("link");
            symlink("/dev/null", &link).unwrap();
            write(&link, "content", true).await.unwrap();
            assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("/dev/null"));
            assert_eq!(file_names(home.path()), ["link"]);
        }

        #[cfg(target_os = "linux")]
        #[tokio::test]
        async fn output_to_an_open_file_is_appended() {
            use std::os::fd::AsRawFd as _;
            let home = tempfile::tempdir().unwrap();
            let (path, link) = (home.path().join("file"), home.path().join("link"));
            let mut file = File::create(&path).unwrap();
            file.write_all(b"before ").unwrap();
            let named = format!("/dev/fd/{}", file.as_raw_fd());
            symlink(&named, &link).unwrap();
            write(Path::new(&named), "one ", false).await.unwrap();
            write(&link, "two", true).await.unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "before one two");
            assert!(link.is_symlink());
            assert_eq!(file_names(home.path()), ["file", "link"]);
        }

        #[tokio::test]
        async fn output_to_link_to_file_replaces_link() {
            let home = tempfile::tempdir().unwrap();
            let (file, link) = (home.path().join("file"), home.path().join("link"));
            std::fs::write(&file, "mine").unwrap();
            symlink(&file, &link).unwrap();
            let error = write(&link, "content", false).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            write(&link, "content", true).await.unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
            assert!(!link.is_symlink());
        }

        #[tokio::test]
        async fn output_to_link_to_directory_is_rejected() {
            let home = tempfile::tempdir().unwrap();
            let (directory, link) = (home.path().join("directory"), home.path().join("link"));
            std::fs::create_dir(&directory).unwrap();
            symlink(&directory, &link).unwrap();
            let error = write(&link, "content", true).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(link.is_symlink());
        }
    }
}
