//! Files of an artifact, as separate layers or in tar archives, and their extraction into a directory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_package::{FileSource, PackageFile};
use oci_registry::{FileEntry, Meter, Source, UnpackOptions, unpack};

use crate::message::{FileAction, Message};
use crate::progress::Batch;
use crate::report::Error;
use crate::session::Session;

/// Files with a common source.
pub(crate) type FileGroup = (Arc<dyn Source>, Vec<PackageFile>);

/// Replaces tar archives among the files with their contents.
///
/// The archives are downloaded to temporary files in `directory`, which are deleted when the groups are dropped.
pub(crate) async fn open(
    session: &Session,
    source: Arc<dyn Source>,
    files: Vec<PackageFile>,
    directory: &Path,
) -> Result<Vec<FileGroup>, Error> {
    let batch = session.reporter.batch("Fetching", None);
    let started = |file: &PackageFile, meter: &Meter| {
        let name = file.name.as_str();
        batch.start(name, name, file.descriptor.size, meter);
    };
    let contents = oci_package::open_archives(source, files, directory, started).await?;
    let group = |contents: FileSource| (contents.source, contents.files);
    Ok(contents.into_iter().map(group).collect())
}

/// Writer of files into a directory, which reports each written file.
pub(crate) struct FileWriter<'a> {
    session: &'a Session,
    /// Action that is reported for a file that did not exist.
    action: FileAction,
    batch: Batch,
    /// Names of the files that did not exist.
    fetched: Mutex<BTreeSet<String>>,
}

impl<'a> FileWriter<'a> {
    /// Creates the writer for all of the files. `verb` is shown in progress bars, in the form `Pulling`.
    pub(crate) fn new(
        session: &'a Session,
        verb: &'static str,
        action: FileAction,
        files: &[FileEntry],
    ) -> Self {
        let bytes = files.iter().map(|file| file.descriptor.size).sum();
        Self {
            session,
            action,
            batch: session.reporter.batch(verb, Some((files.len(), bytes))),
            fetched: Mutex::default(),
        }
    }

    fn fetched(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Downloads and writes some of the files.
    pub(crate) async fn write(
        &self,
        source: &dyn Source,
        files: &[FileEntry],
        directory: &Path,
        replace: bool,
    ) -> oci_registry::Result<()> {
        let started = |file: &FileEntry, meter: &Meter| {
            let name = file.name.as_str();
            self.fetched().insert(name.to_owned());
            self.batch.start(name, name, file.descriptor.size, meter);
        };
        let observer = |file: &FileEntry, path: &Path| {
            let (name, content) = (file.name.as_str(), &file.descriptor);
            let is_new = self.fetched().contains(name);
            let action = if is_new {
                self.action
            } else {
                FileAction::Exists
            };
            self.batch.finish(name, content.size);
            let here = self.session.environment.current_dir();
            let message = Message::file(path, here, action, file.executable, content);
            self.session.reporter.emit(&message);
        };
        let options = UnpackOptions {
            replace,
            concurrency: self.session.concurrency,
            started: &started,
            observer: &observer,
        };
        unpack(source, files, directory, options).await
    }

    /// Whether at least one file was written.
    pub(crate) fn has_changed(&self) -> bool {
        !self.fetched().is_empty()
    }
}
