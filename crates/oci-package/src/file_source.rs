//! The files of an artifact where they can be fetched from: a layer of its own each, or in an archive that several share.

use std::path::Path;
use std::sync::Arc;

use oci_registry::{Bundle, Digest, ErrorKind, Failure, FileName, Hint, Meter, Source};
use snafu::{ResultExt, Snafu, ensure};

use crate::PackageFile;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to open `{name}`"))]
    OpenArchive {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display("refused to mix the files of several archives"))]
    Together { source: oci_registry::Error },
    #[snafu(display(
        "refused `{name}` ({digest}): `{inside}` in it does not lie in `{directory}`"
    ))]
    Outside {
        name: String,
        digest: Digest,
        inside: String,
        directory: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::OpenArchive { source, .. } | Self::Together { source } => source.kind(),
            Self::Outside { .. } => ErrorKind::Mismatch,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::OpenArchive { .. } => Vec::new(),
            Self::Together { .. } | Self::Outside { .. } => vec![Hint::KeepArchives],
        }
    }
}

/// Files that come from one place.
#[derive(Debug)]
pub struct FileSource {
    /// Where the content of the files is.
    pub source: Arc<dyn Source>,
    /// The files.
    pub files: Vec<PackageFile>,
}

/// Opens the archives among the files, and the tars of directories: what is in one comes from it instead. They are fetched
/// into this directory, and are gone with what is returned.
///
/// `started` hears of each that is fetched, and gets the meter of how far that is.
///
/// # Errors
///
/// What the source fails with; [`ErrorKind::Mismatch`] when one holds anything but files and directories with names that
/// are safe to write, or the tar of a directory what would lie beside that.
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
        check(&bundle, &file)?;
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
    // Each place is written by itself, and all of them into one directory.
    let names = contents.iter().flat_map(|contents| &contents.files);
    FileName::check_together(names.map(|file| &file.name)).context(TogetherSnafu)?;
    Ok(contents)
}

/// A directory's tar holds what is in the directory, and nothing that would lie beside it.
fn check(bundle: &Bundle, file: &PackageFile) -> Result<(), Error> {
    let Some(directory) = file.bundled_directory() else {
        return Ok(());
    };
    for inside in bundle.files() {
        let inside = inside.name.as_str();
        let (name, digest) = (file.name.as_str(), &file.descriptor.digest);
        ensure!(
            inside.starts_with(&directory),
            OutsideSnafu {
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
    use oci_registry::{Blob, Bundled, ImageManifest, Manifest, MediaType, Memory, Target, bundle};

    use super::*;
    use crate::{annotation, files, media};

    /// Names of the files of a layer that ORAS would write, which holds these files.
    async fn names(title: &str, unpack: &str, inside: &[&str]) -> crate::Result<Vec<String>> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let bundled = inside.iter().map(|name| Bundled {
            name: name.parse().unwrap(),
            path: path.clone(),
            executable: true,
        });
        let mut layer = bundle(media::TAR, bundled.collect()).await.unwrap();
        let said = [(annotation::TITLE, title), (annotation::UNPACK, unpack)];
        let said = said.map(|(key, value)| (key.to_owned(), value.to_owned()));
        layer.descriptor_mut().annotations.extend(said);
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
            assert!(file.is_executable || unpack != "true", "a mode is kept");
            file.name.to_string()
        });
        Ok(names.collect())
    }

    #[tokio::test]
    async fn directory_packed_by_oras_is_opened() {
        let found = names("dist", "true", &["dist/bin/run", "dist/use.md"]).await;
        assert_eq!(found.unwrap(), ["dist/bin/run", "dist/use.md"]);
        let current = names(".", "true", &["bin/run", "use.md"]).await;
        assert_eq!(current.unwrap(), ["bin/run", "use.md"]);
    }

    #[tokio::test]
    async fn directory_packed_by_oras_holds_no_files_beside_it() {
        let refused = names("dist", "true", &["dist/run", "distant"]).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Mismatch);
    }

    #[tokio::test]
    async fn layer_not_marked_for_unpacking_is_one_file() {
        let found = names("dist.tar", "false", &["dist/run"]).await;
        assert_eq!(found.unwrap(), ["dist.tar"]);
        let refused = names(".", "false", &["run"]).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Mismatch);
    }
}
