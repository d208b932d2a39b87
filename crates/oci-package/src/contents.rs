//! The files of an artifact where they can be fetched from: a layer of its own each, or in an archive that several share.

use std::path::Path;
use std::sync::Arc;

use oci_registry::{Bundle, Meter, Source};

use crate::{Kind, PackageFile};

/// Files that come from one place.
#[derive(Debug)]
pub struct Contents {
    /// Where the content of the files is.
    pub source: Arc<dyn Source>,
    /// The files.
    pub files: Vec<PackageFile>,
}

/// Opens the archives among the files: what is in one comes from it instead. They are fetched into this directory, and are
/// gone with what is returned.
///
/// `started` hears of each archive that is fetched, and gets the meter of how far that is.
///
/// # Errors
///
/// What the source fails with; [`ErrorKind::Mismatch`](oci_registry::ErrorKind::Mismatch) when an archive holds anything
/// but files and directories with names that are safe to write.
pub async fn contents(
    source: Arc<dyn Source>,
    files: Vec<PackageFile>,
    directory: &Path,
    started: impl Fn(&PackageFile, &Meter) + Send,
) -> oci_registry::Result<Vec<Contents>> {
    let is_archive = |file: &PackageFile| file.kind == Kind::Archive;
    let (archives, files): (Vec<_>, Vec<_>) = files.into_iter().partition(is_archive);
    let mut contents = Vec::new();
    for archive in archives {
        let meter = Meter::default();
        started(&archive, &meter);
        let bundle = Bundle::fetch(&*source, &archive.descriptor, directory, &meter).await?;
        contents.push(Contents {
            files: bundle.files().iter().map(PackageFile::of_archive).collect(),
            source: Arc::new(bundle),
        });
    }
    if !files.is_empty() {
        contents.push(Contents { source, files });
    }
    Ok(contents)
}
