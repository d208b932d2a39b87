//! Functions that open files without blocking.
//!
//! Opening a FIFO blocks until another process opens its other end, and reading a device may never end. These functions
//! therefore open all files whose paths users or other programs choose. The type is checked after the file is open, so
//! it cannot change between the check and the first access.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

/// Opens a regular file for reading, without blocking.
///
/// # Errors
///
/// The error of [`OpenOptions::open`]; [`io::ErrorKind::IsADirectory`] for a directory and
/// [`io::ErrorKind::InvalidInput`] for a FIFO, a socket or a device.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open_regular_with(OpenOptions::new().read(true), path)
}

/// Opens a regular file with these options, without blocking. Custom flags in the options are overwritten.
///
/// # Errors
///
/// As [`open_regular`].
pub fn open_regular_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let (file, kind) = open_nonblocking(options, path)?;
    if kind.is_file() {
        Ok(file)
    } else {
        Err(file_type_error(kind))
    }
}

/// Opens a file that the user names as input, such as a configuration file. It also accepts character devices such as
/// `/dev/null`, and file descriptors that the process inherited, such as `/dev/stdin` or the `/dev/fd/63` of a process
/// substitution in a shell. Reads from a device or an inherited pipe may block.
///
/// # Errors
///
/// The errors of [`open_regular`], except that character devices and inherited descriptors are accepted.
pub fn open_input(path: &Path) -> io::Result<File> {
    open_user_file(OpenOptions::new().read(true), path)
}

/// Opens a file for appending output, and creates it if it does not exist. Accepts the same types of files as
/// [`open_input`].
///
/// # Errors
///
/// As [`open_input`].
pub fn open_output(path: &Path) -> io::Result<File> {
    open_user_file(OpenOptions::new().append(true).create(true), path)
}

/// Reads the whole text of a regular file of at most `limit` bytes.
///
/// # Errors
///
/// As [`open_regular`]; [`io::ErrorKind::FileTooLarge`] if the file has more bytes, and [`io::ErrorKind::InvalidData`]
/// if they are not UTF-8.
pub fn read_regular_text(path: &Path, limit: u64) -> io::Result<String> {
    into_text(read_limited(&open_regular(path)?, limit)?)
}

/// Reads the whole text of a file of at most `limit` bytes that the user names as input.
///
/// # Errors
///
/// The errors of [`read_regular_text`], except that all types of files that [`open_input`] accepts are read.
pub fn read_input_text(path: &Path, limit: u64) -> io::Result<String> {
    into_text(read_input(path, limit)?)
}

/// Reads a file like [`read_input_text`]. The content need not be text.
pub(crate) fn read_input(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_limited(&open_input(path)?, limit)
}

fn read_limited(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("the file has more than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

fn into_text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| {
        let message = "the file is not valid UTF-8";
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn open_user_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let (file, kind) = open_nonblocking(options, path)?;
    if kind.is_file() {
        Ok(file)
    } else if is_character_device(kind) || (!kind.is_dir() && is_inherited(path)) {
        set_blocking(&file)?;
        Ok(file)
    } else {
        Err(file_type_error(kind))
    }
}

/// Opens a device, a pipe or an open file of a process, such as `/dev/stdout`, for writing. Opening does not block, but
/// writing may block. Returns `None` for a pipe that no process reads. Content is appended to a regular file.
pub(crate) fn open_special(path: &Path) -> io::Result<Option<File>> {
    match open_nonblocking(OpenOptions::new().append(true), path) {
        Ok((file, _)) => {
            set_blocking(&file)?;
            Ok(Some(file))
        }
        Err(error) if is_without_reader(&error, path) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether opening a pipe failed because no process reads it. Opening a device may fail with the same error, so the
/// type of the file is checked.
#[cfg(unix)]
fn is_without_reader(error: &io::Error, path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;

    let is_fifo = || std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) && is_fifo()
}

#[cfg(not(unix))]
fn is_without_reader(_: &io::Error, _: &Path) -> bool {
    false
}

/// Whether a function of this module rejected a file because of its type.
pub(crate) fn is_file_type_error(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput
    )
}

fn file_type_error(kind: std::fs::FileType) -> io::Error {
    if kind.is_dir() {
        io::ErrorKind::IsADirectory.into()
    } else {
        io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
    }
}

fn open_nonblocking(
    options: &mut OpenOptions,
    path: &Path,
) -> io::Result<(File, std::fs::FileType)> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    let kind = file.metadata()?.file_type();
    Ok((file, kind))
}

/// Whether a path names a file descriptor of this process. Opening it does not block, even if it is a pipe.
fn is_inherited(path: &Path) -> bool {
    cfg!(unix)
        && (path == Path::new("/dev/stdin")
            || path.parent().is_some_and(|parent| {
                parent == Path::new("/dev/fd") || parent == Path::new("/proc/self/fd")
            }))
}

#[cfg(unix)]
fn is_character_device(kind: std::fs::FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_char_device(&kind)
}

#[cfg(not(unix))]
fn is_character_device(kind: std::fs::FileType) -> bool {
    // On Windows, consoles and `NUL` are neither files nor directories.
    !kind.is_file() && !kind.is_dir()
}

#[cfg(unix)]
fn set_blocking(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(
        file,
        flags.difference(rustix::fs::OFlags::NONBLOCK),
    )?)
}

#[cfg(not(unix))]
fn set_blocking(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Archive;
    use crate::blob::Blob;
    use crate::error::ErrorKind;
    use crate::manifest::MediaType;
    use crate::reference::ArchiveFormat;

    /// Creates a FIFO that no process has open.
    fn create_fifo(path: &Path) {
        let created = std::process::Command::new("mkfifo").arg(path).status();
        assert!(created.unwrap().success());
    }

    #[test]
    fn open_of_regular_file_succeeds() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        std::fs::write(&path, "content").unwrap();
        for open in [open_regular, open_input] {
            let text = io::read_to_string(open(&path).unwrap()).unwrap();
            assert_eq!(text, "content");
        }
    }

    #[test]
    fn open_of_fifo_is_rejected() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("fifo");
        create_fifo(&path);
        for open in [open_regular, open_input] {
            let error = open(&path).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file");
        }
    }

    #[test]
    fn open_output_of_fifo_without_reader_fails() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("fifo");
        create_fifo(&path);
        let error = open_output(&path).unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::NXIO.raw_os_error())
        );
    }

    #[test]
    fn open_output_creates_and_appends_to_file() {
        use std::io::Write as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        for line in ["one\n", "two\n"] {
            open_output(&path)
                .unwrap()
                .write_all(line.as_bytes())
                .unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        open_output(Path::new("/dev/null"))
            .unwrap()
            .write_all(b"x")
            .unwrap();
    }

    #[test]
    fn open_of_directory_is_rejected() {
        for open in [open_regular, open_input] {
            let error = open(Path::new("/")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        }
    }

    #[test]
    fn null_device_opens_only_as_input() {
        let path = Path::new("/dev/null");
        let mut bytes = Vec::new();
        open_input(path).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"");
        assert!(open_regular(path).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn inherited_pipe_is_read_to_its_end() {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        let input = open_input(Path::new(&path)).unwrap();
        let read = std::thread::spawn(|| io::read_to_string(input).unwrap());
        writer.write_all(b"content").unwrap();
        drop(writer);
        assert_eq!(read.join().unwrap(), "content");
    }

    #[test]
    fn text_longer_than_the_limit_is_rejected() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        std::fs::write(&path, "content").unwrap();
        for read in [read_regular_text, read_input_text] {
            assert_eq!(read(&path, 7).unwrap(), "content");
            let error = read(&path, 6).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
            assert_eq!(error.to_string(), "the file has more than 6 bytes");
        }
        std::fs::write(&path, [0xff]).unwrap();
        let error = read_regular_text(&path, 7).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn endless_device_is_read_up_to_the_limit() {
        let error = read_input(Path::new("/dev/zero"), 1000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[tokio::test]
    async fn archive_that_is_a_fifo_is_rejected() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("archive.tar");
        create_fifo(&path);
        let error = Archive::open(&path, ArchiveFormat::Oci).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[tokio::test]
    async fn blob_from_a_fifo_is_rejected() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("blob");
        create_fifo(&path);
        let error = Blob::from_file(MediaType::OCTET_STREAM, &path).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Io);
    }
}
