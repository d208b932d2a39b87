//! Extraction of an artifact's files into a directory. A file is a separate layer, or part of a tar archive.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_package::{FileSource, PackageFile};
use oci_registry::{FileEntry, Meter, Source, UnpackOptions, partial_size, unpack};

use crate::message::{FileAction, Message};
use crate::progress::Batch;
use crate::report::Error;
use crate::session::Session;

/// Artifact or opened archive, and the files to read from it.
pub(crate) type FileGroup = (Arc<dyn Source>, Vec<PackageFile>);

/// Opens the tar archives among the files, and replaces each with the files that it contains.
///
/// Downloads the archives to temporary files in `directory`. These files are deleted when the groups are dropped.
pub(crate) async fn open_archives(
    session: &Session,
    source: Arc<dyn Source>,
    files: Vec<PackageFile>,
    directory: &Path,
) -> Result<Vec<FileGroup>, Error> {
    let batch = session.reporter.start_batch("Fetching", None);
    let started = |file: &PackageFile, meter: &Meter| {
        let name = file.name.as_str();
        batch.start(name, name, file.descriptor.size, meter);
    };
    let contents = oci_package::open_archives(source, files, directory, started).await?;
    let group = |contents: FileSource| (contents.source, contents.files);
    Ok(contents.into_iter().map(group).collect())
}

/// Writer that extracts files into a directory and reports each file.
pub(crate) struct FileWriter<'a> {
    session: &'a Session,
    /// Action to report for a new file.
    action: FileAction,
    batch: Batch,
    /// Names of the files that did not exist before.
    new_files: Mutex<BTreeSet<String>>,
}

impl<'a> FileWriter<'a> {
    /// Creates a writer for these files. Progress bars show `verb`, such as `Pulling`.
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
            batch: session
                .reporter
                .start_batch(verb, Some((files.len(), bytes))),
            new_files: Mutex::default(),
        }
    }

    fn lock_new_files(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.new_files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Downloads files from one source and writes them to the directory.
    pub(crate) async fn write(
        &self,
        source: &dyn Source,
        files: &[FileEntry],
        directory: &Path,
        replace: bool,
    ) -> oci_registry::Result<()> {
        let started = |file: &FileEntry, meter: &Meter| {
            let name = file.name.as_str();
            self.lock_new_files().insert(name.to_owned());
            self.batch.start(name, name, file.descriptor.size, meter);
        };
        let observer = |file: &FileEntry, path: &Path| {
            let (name, content) = (file.name.as_str(), &file.descriptor);
            let is_new = self.lock_new_files().contains(name);
            let action = if is_new {
                self.action
            } else {
                FileAction::Exists
            };
            self.batch.finish(name, content.size);
            let working_directory = self.session.environment.current_dir();
            let message =
                Message::for_file(path, working_directory, action, file.executable, content);
            self.session.reporter.emit(&message);
        };
        let options = UnpackOptions {
            replace,
            concurrency: self.session.concurrency,
            started: &started,
            observer: &observer,
        };
        let totals = self.batch.totals();
        let (kept_files, kept_in) = (files.to_vec(), directory.to_owned());
        let count_kept = move || {
            let (finished, expected) = totals();
            (finished + partial_size(&kept_files, &kept_in), expected)
        };
        let unpacking = unpack(source, files, directory, options);
        let reporter = self.session.reporter;
        reporter
            .with_resume_advice("kept", count_kept, unpacking)
            .await
    }

    /// Whether at least one file was written.
    pub(crate) fn has_written_files(&self) -> bool {
        !self.lock_new_files().is_empty()
    }
}
