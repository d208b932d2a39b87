//! Files that only their owner can read: reading with a size limit, and atomic replacement.
//!
//! A file contains secrets, so errors name its path and never quote its content.

use std::io::{ErrorKind as IoErrorKind, Write as _};
use std::path::{Path, PathBuf};

use snafu::{ResultExt, Snafu, ensure};
use tokio::io::AsyncReadExt;

use crate::error::{ErrorKind, Failure, Hint};
use crate::file::open_input;

/// Maximum size of a credential file, in bytes.
const MAX_FILE_SIZE: u64 = 4 << 20;

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display("failed to read the credentials in `{}`", path.display()))]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display(
        "failed to read the credentials in {location}: it has more than {MAX_FILE_SIZE} bytes"
    ))]
    TooLarge { location: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::Io,
            Self::TooLarge { .. } => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Read { .. } => vec!["check the permissions of the file".into()],
            Self::TooLarge { .. } => {
                vec![
                    "correct or remove it: it must have the format of Docker's `config.json`"
                        .into(),
                ]
            }
        }
    }
}

/// Reads a file. Returns `None` if it does not exist.
pub(super) async fn read(path: &Path, location: &str) -> Result<Option<Vec<u8>>, Error> {
    let file = match open_input(path) {
        Ok(file) => tokio::fs::File::from_std(file),
        // Some services set their home directory to `/dev/null`, so a path below it has a parent that is not a
        // directory.
        Err(error)
            if matches!(
                error.kind(),
                IoErrorKind::NotFound | IoErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(source) => {
            return Err(Error::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).await;
    let length = read.context(ReadSnafu { path })? as u64;
    ensure!(length <= MAX_FILE_SIZE, TooLargeSnafu { location });
    Ok(Some(bytes))
}

/// Returns the parent directory of a file. A missing directory is created with access for its owner only.
pub(super) fn create_parent_directory(path: &Path) -> std::io::Result<&Path> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    Ok(directory)
}

/// Replaces the content of a file atomically and makes it readable by its owner only. A symbolic link is kept, and its
/// target is replaced.
pub(super) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let path = resolve_links(path)?;
    let directory = create_parent_directory(&path)?;
    // On Unix, the temporary file has mode 0600.
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    temporary.persist(&path)?;
    Ok(())
}

/// Resolves symbolic links. The target does not have to exist.
pub(super) fn resolve_links(path: &Path) -> std::io::Result<PathBuf> {
    const MAX_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            Ok(next) => path = path.parent().unwrap_or(Path::new(".")).join(next),
            // The path is not a link, or does not exist.
            Err(_) => return Ok(path),
        }
    }
    Err(std::io::Error::other("too many links"))
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use super::super::home::Home;
    use super::*;

    #[tokio::test]
    async fn absent_credential_file_is_none_and_large_one_is_rejected() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.json");
        assert_eq!(read(&path, "p").await.unwrap(), None);
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path, "p").await.unwrap().unwrap(), b"{}");
        assert_eq!(read(&path.join("below"), "p").await.unwrap(), None);
        assert!(matches!(
            read(home.path(), "p").await,
            Err(Error::Read { .. })
        ));
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_FILE_SIZE + 1).unwrap();
        assert!(matches!(
            read(&path, "p").await,
            Err(Error::TooLarge { .. })
        ));
    }

    #[cfg(unix)]
    #[test]
    fn replaced_file_follows_link_and_is_private() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let home = Home::new();
        let at = |name: &str| home.path().join(name);
        symlink("real/file", at("link")).unwrap();
        for content in ["one", "two"] {
            replace(&at("link"), content.as_bytes()).unwrap();
            assert!(at("link").is_symlink());
            assert_eq!(std::fs::read_to_string(at("real/file")).unwrap(), content);
        }
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("real/file"), mode("real")), (0o600, 0o700));
        symlink("loop", at("loop")).unwrap();
        assert!(replace(&at("loop"), b"x").is_err());
    }
}
