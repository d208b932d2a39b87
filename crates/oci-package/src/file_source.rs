//! File sources: the source of the artifact for files that are layers, and opened archives for the files in archives.

use std::path::Path;
use std::sync::Arc;

use oci_registry::{Bundle, Digest, ErrorKind, Failure, FileName, Hint, Meter, Source};
use snafu::{ResultExt, Snafu, ensure};

use crate::PackageFile;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to open the archive `{name}`"))]
    OpenArchive {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to extract the archives into one directory"))]
    ConflictingNames { source: oci_registry::Error },
    #[snafu(display(
        "refusing to extract `{name}` ({digest}): `{inside}` is outside of `{directory}`"
    ))]
    OutsideDirectory {
        name: String,
        digest: Digest,
        inside: String,
        directory: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::OpenArchive { source, .. } | Self::ConflictingNames { source } => source.kind(),
            Self::OutsideDirectory { .. } => ErrorKind::Mismatch,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::OpenArchive { .. } => Vec::new(),
            Self::ConflictingNames { .. } | Self::OutsideDirectory { .. } => {
                vec![Hint::KeepArchives]
            }
        }
    }
}

/// Files and the source from which they are read.
#[derive(Debug)]
pub struct FileSource {
    /// Source of the file contents.
    pub source: Arc<dyn Source>,
    /// The files.
    pub files: Vec<PackageFile>,
}

/// Opens the archives and packed directories among `files`, and replaces each with the files that it contains. Archives
/// are downloaded into `directory` and deleted when the returned value is dropped.
///
/// `started` is called for each download, with the meter of its progress.
///
/// # Errors
///
/// The error of the source. [`ErrorKind::Mismatch`] if an archive contains anything other than files and directories
/// with safe names, or if a packed directory contains a file outside that directory.
pub async fn open_archives(
    source: Arc<dyn Source>,
    files: Vec<PackageFile>,
    directory: &Path,
    started: impl Fn(&PackageFile, &Meter) + Send,
) -> crate::Result<Vec<FileSource>> {
    let (bundles, files): (Vec<_>, Vec<_>) = files.into_iter().partition(PackageFile::is_bundle);
    let mut contents = Vec::new();
    for file in bundles {
        let meter = Meter::default();
        started(&file, &meter);
        let bundle = Bundle::fetch(&*source, &file.descriptor, directory, &meter).await;
        let bundle = bundle.context(OpenArchiveSnafu {
            name: file.name.as_str(),
        })?;
        check_directory(&bundle, &file)?;
        contents.push(FileSource {
            files: bundle
                .files()
                .iter()
                .map(PackageFile::from_archive)
                .collect(),
            source: Arc::new(bundle),
        });
    }
    if !files.is_empty() {
        contents.push(FileSource { source, files });
    }
    // The sources are extracted separately, but into the same directory, so names must not conflict between sources.
    let names = contents.iter().flat_map(|contents| &contents.files);
    FileName::check_together(names.map(|file| &file.name)).context(ConflictingNamesSnafu)?;
    Ok(contents)
}

/// Checks that the tar of a packed directory contains only files below that directory.
fn check_directory(bundle: &Bundle, file: &PackageFile) -> Result<(), Error> {
    let Some(directory) = file.bundled_directory() else {
        return Ok(());
    };
    for inside in bundle.files() {
        let inside = inside.name.as_str();
        let (name, digest) = (file.name.as_str(), &file.descriptor.digest);
        ensure!(
            inside.starts_with(&directory),
            OutsideDirectorySnafu {
                name,
                digest: digest.clone(),
                inside,
                directory
            }
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use oci_registry::{
        Blob, BundleFile, ImageManifest, Manifest, MediaType, Memory, Target, bundle,
    };

    use super::*;
    use crate::{annotation, files, media};

    /// Packs files with the names `inside` into one layer as ORAS does, opens the layer, and returns the names of its
    /// files.
    async fn open_layer(title: &str, unpack: &str, inside: &[&str]) -> crate::Result<Vec<String>> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let bundled = inside.iter().map(|name| BundleFile {
            name: name.parse().unwrap(),
            path: path.clone(),
            executable: true,
        });
        let mut layer = bundle(media::TAR, bundled.collect()).await.unwrap();
        let annotations = [(annotation::TITLE, title), (annotation::UNPACK, unpack)];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        layer.descriptor_mut().annotations.extend(annotations);
        let memory = Memory::new();
        memory.push_blob(&layer).await.unwrap();
        let config = Blob::empty().descriptor().clone();
        let mut image = ImageManifest::new(MediaType::EMPTY, config);
        image.layers.push(layer.descriptor().clone());
        let files = files(&Manifest::from_image(image).unwrap())?;
        let contents = open_archives(Arc::new(memory), files, home.path(), |_, _| {});
        let files = contents.await?;
        let files = files.iter().flat_map(|contents| &contents.files);
        let names = files.map(|file| {
            assert!(
                file.is_executable || unpack != "true",
                "the executable bit is kept"
            );
            file.name.to_string()
        });
        Ok(names.collect())
    }

    #[tokio::test]
    async fn oras_directory_is_replaced_by_its_files() {
        let found = open_layer("dist", "true", &["dist/bin/run", "dist/use.md"]).await;
        assert_eq!(found.unwrap(), ["dist/bin/run", "dist/use.md"]);
        let current = open_layer(".", "true", &["bin/run", "use.md"]).await;
        assert_eq!(current.unwrap(), ["bin/run", "use.md"]);
    }

    #[tokio::test]
    async fn oras_directory_with_outside_file_is_rejected() {
        let rejected = open_layer("dist", "true", &["dist/run", "distant"]).await;
        assert_eq!(rejected.unwrap_err().kind(), ErrorKind::Mismatch);
    }

    #[tokio::test]
    async fn layer_without_unpack_marker_is_one_file() {
        let found = open_layer("dist.tar", "false", &["dist/run"]).await;
        assert_eq!(found.unwrap(), ["dist.tar"]);
        let rejected = open_layer(".", "false", &["run"]).await;
        assert_eq!(rejected.unwrap_err().kind(), ErrorKind::Mismatch);
    }
}
