//! The files of an artifact, whether each is a layer of its own or several are in a tar, and their way into a
//! directory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_package::{FileSource, PackageFile};
use oci_registry::{Extract, Meter, Source, UnpackOptions, unpack};

use crate::message::{FileAction, Message};
use crate::progress::Batch;
use crate::report::Error;
use crate::session::Session;

/// Files that come from one place.
pub(crate) type Group = (Arc<dyn Source>, Vec<PackageFile>);

/// Opens the archives among the files, and the tars of directories: what is in one comes from it instead. They are
/// fetched into this directory for as long as their groups are there.
pub(crate) async fn open(
    session: &Session,
    source: Arc<dyn Source>,
    files: Vec<PackageFile>,
    directory: &Path,
) -> Result<Vec<Group>, Error> {
    let batch = session.reporter.batch("Fetching", None);
    let started = |file: &PackageFile, meter: &Meter| {
        let name = file.name.as_str();
        batch.start(name, name, file.descriptor.size, meter);
    };
    let contents = oci_package::open_archives(source, files, directory, started).await?;
    let group = |contents: FileSource| (contents.source, contents.files);
    Ok(contents.into_iter().map(group).collect())
}

/// Files on their way into a directory. Each is told of when it is in its place.
pub(crate) struct Placing<'a> {
    session: &'a Session,
    /// What becomes of a file that was not there yet.
    action: FileAction,
    batch: Batch,
    /// The names of the files that were not there yet.
    fetched: Mutex<BTreeSet<String>>,
}

impl<'a> Placing<'a> {
    /// Begins with these files, of which nothing has moved; `verb` is what is being done, in the form `Pulling`.
    pub(crate) fn begin(
        session: &'a Session,
        verb: &'static str,
        action: FileAction,
        files: &[Extract],
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

    /// Writes some of the files.
    pub(crate) async fn write(
        &self,
        source: &dyn Source,
        files: &[Extract],
        directory: &Path,
        replace: bool,
    ) -> oci_registry::Result<()> {
        let started = |file: &Extract, meter: &Meter| {
            let name = file.name.as_str();
            self.fetched().insert(name.to_owned());
            self.batch.start(name, name, file.descriptor.size, meter);
        };
        let observer = |file: &Extract, path: &Path| {
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
            self.session.reporter.tell(&message);
        };
        let options = UnpackOptions {
            replace,
            concurrency: self.session.concurrency,
            started: &started,
            observer: &observer,
        };
        unpack(source, files, directory, options).await
    }

    /// Whether one of them was not there yet.
    pub(crate) fn has_changed(&self) -> bool {
        !self.fetched().is_empty()
    }
}
