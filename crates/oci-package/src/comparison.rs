//! Comparison of the files of an artifact with the files in a local directory.
//!
//! A file in the directory may have its cargo name or its title. Callers first open archives and pass the files that
//! the archives contain. Files that the artifact does not list are ignored.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_registry::{Digest, ErrorKind, Failure, FileName, open_regular};
use snafu::{ResultExt, Snafu};

use crate::target::PackageFile;

/// Size of the read buffer, in bytes.
const BUFFER_SIZE: usize = 256 << 10;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read `{}`", path.display()))]
    ReadFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to compute the digest of `{}`", path.display()))]
    ComputeDigest {
        path: PathBuf,
        source: oci_registry::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadFile { .. } => ErrorKind::Io,
            Self::ComputeDigest { source, .. } => source.kind(),
        }
    }
}

/// Result of the comparison of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Comparison {
    /// The file is identical.
    Same(FileName),
    /// The file is missing.
    Missing(FileName),
    /// The file has different content.
    Different(FileName),
}

impl Comparison {
    /// Returns the name of the file.
    pub fn name(&self) -> &FileName {
        match self {
            Self::Same(name) | Self::Missing(name) | Self::Different(name) => name,
        }
    }

    /// Returns the name of the result: `same`, `missing` or `other`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Same(_) => "same",
            Self::Missing(_) => "missing",
            Self::Different(_) => "other",
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(name) => write!(f, "`{name}` is identical"),
            Self::Missing(name) => write!(f, "`{name}` is missing"),
            Self::Different(name) => write!(f, "`{name}` has different content"),
        }
    }
}

/// Compares the files of an artifact with the files in a directory, in the order of `files`. A file in the directory
/// may have its cargo name or its title.
///
/// # Errors
///
/// [`ErrorKind::Io`] if a file cannot be read.
pub async fn compare(files: &[PackageFile], directory: &Path) -> crate::Result<Vec<Comparison>> {
    let mut compared = Vec::new();
    for file in files {
        let (file, directory) = (file.clone(), directory.to_owned());
        let comparison = tokio::task::spawn_blocking(move || compare_file(&file, &directory));
        match comparison.await {
            Ok(comparison) => compared.push(comparison?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(compared)
}

fn compare_file(file: &PackageFile, directory: &Path) -> Result<Comparison, Error> {
    let names = std::iter::once(&file.name).chain(&file.title);
    let mut found = Comparison::Missing(file.name.clone());
    for name in names {
        match compute_digest(&directory.join(name.as_str()), &file.descriptor.digest)? {
            Some(digest) if digest == file.descriptor.digest => {
                return Ok(Comparison::Same(name.clone()));
            }
            Some(_) if matches!(found, Comparison::Missing(_)) => {
                found = Comparison::Different(name.clone());
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Computes the digest of a file with the algorithm of `expected`. Returns `None` if the file does not exist.
fn compute_digest(path: &Path, expected: &Digest) -> Result<Option<Digest>, Error> {
    let mut hasher = expected.verifier().context(ComputeDigestSnafu { path })?;
    let mut content = match open_regular(path) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::ReadFile {
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(Some(hasher.finish())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(Error::ReadFile {
                    path: path.to_owned(),
                    source,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_registry::{Annotations, Blob, MediaType, Packed};

    use super::*;
    use crate::annotation;

    fn layer(content: &'static str, file: &str, title: &str) -> Blob {
        let mut blob = Blob::from_bytes(MediaType::OCTET_STREAM, content);
        let annotations = &mut blob.descriptor_mut().annotations;
        annotations.insert(annotation::FILE.into(), file.into());
        annotations.insert(annotation::TITLE.into(), title.into());
        blob
    }

    #[tokio::test]
    async fn compare_accepts_cargo_name_and_title() {
        let layers = vec![
            layer("one", "one", "one-1.0"),
            layer("two", "two", "two-1.0"),
            layer("three", "examples/three", "three-1.0"),
            layer("four", "four", "four-1.0"),
        ];
        let packed = Packed::new("a/b".into(), Blob::empty(), layers, Annotations::new()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            std::fs::write(directory.path().join(name), content).unwrap();
        };
        write("one", "other");
        write("two-1.0", "two");
        std::fs::create_dir(directory.path().join("examples")).unwrap();
        write("examples/three", "three");
        let files = crate::files(packed.manifest()).unwrap();
        let compared = compare(&files, directory.path()).await.unwrap();
        let name = |text: &str| text.parse::<FileName>().unwrap();
        assert_eq!(
            compared,
            [
                Comparison::Different(name("one")),
                Comparison::Same(name("two-1.0")),
                Comparison::Same(name("examples/three")),
                Comparison::Missing(name("four")),
            ]
        );
        std::fs::create_dir(directory.path().join("four")).unwrap();
        let error = compare(&files, directory.path()).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Io);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn compare_with_fifo_fails() {
        let layers = vec![layer("one", "one", "one-1.0")];
        let packed = Packed::new("a/b".into(), Blob::empty(), layers, Annotations::new()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("one");
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
        let files = crate::files(packed.manifest()).unwrap();
        let error = compare(&files, directory.path()).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Io);
    }
}
