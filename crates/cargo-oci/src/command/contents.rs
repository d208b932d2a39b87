//! The files of an artifact, whether each is a layer of its own or all of them are in an archive.

use std::path::Path;
use std::sync::Arc;

use oci_package::{Kind, PackageFile};
use oci_registry::{Bundle, Meter, Source};

use crate::report::Error;
use crate::session::Session;

/// Files that come from one place.
pub(super) type Group = (Arc<dyn Source>, Vec<PackageFile>);

/// Opens the archives among the files: what is in one comes from it instead. They are fetched into this directory for as
/// long as their groups are there.
pub(super) async fn open(
    session: &Session,
    source: Arc<dyn Source>,
    files: Vec<PackageFile>,
    directory: &Path,
) -> Result<Vec<Group>, Error> {
    let is_archive = |file: &PackageFile| file.kind == Kind::Archive;
    let (archives, plain): (Vec<_>, Vec<_>) = files.into_iter().partition(is_archive);
    let mut groups = Vec::new();
    for archive in archives {
        let batch = session.reporter.batch("Fetching", None);
        let (content, meter) = (&archive.descriptor, Meter::default());
        let name = archive.name.as_str();
        batch.start(name, name, content.size, &meter);
        let bundle = Bundle::fetch(&*source, content, directory, &meter).await?;
        let files = bundle.files().iter().map(PackageFile::of_archive).collect();
        groups.push((Arc::new(bundle) as Arc<dyn Source>, files));
    }
    if !plain.is_empty() {
        groups.push((source, plain));
    }
    Ok(groups)
}
