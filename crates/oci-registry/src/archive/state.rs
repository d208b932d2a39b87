//! State of an archive: its content and tags, and the functions that read and write its file.
//!
//! Defines the entries that each archive format needs. A write replaces the whole file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use snafu::{OptionExt, ResultExt, ensure};
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use super::docker::{self, Images};
use super::error::{
    ChangedSnafu, Error, InvalidSnafu, ParseSnafu, ReadSnafu, WriteSnafu, WriteTarSnafu,
};
use super::index::{self, Spans};
use super::stored_content::{BUFFER_SIZE, StoredContent, blob_name, digest_of};
use crate::digest::Digest;
use crate::file::{is_file_type_error, open_regular};
use crate::layout::{self, Listing, Marker};
use crate::reference::ArchiveFormat;
use crate::tarball::{Entry, Writer};

/// Content and tags of an archive: those in the file, and those that were added after the file was read.
#[derive(Debug, Clone)]
pub(super) struct ArchiveState {
    pub(super) stored: BTreeMap<Digest, StoredContent>,
    pub(super) listing: Listing,
    pub(super) images: Images,
    /// Whether the listing contains entries that are not yet in the file.
    pub(super) has_unwritten_entries: bool,
    /// Version of the file that was last read or written. `None` if the file does not exist yet.
    pub(super) version: Option<FileVersion>,
}

/// Version of a file, identified by its size and modification time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FileVersion(u64, SystemTime);

impl FileVersion {
    fn from_metadata(file: &std::fs::Metadata) -> std::io::Result<Self> {
        Ok(Self(file.len(), file.modified()?))
    }
}

impl ArchiveState {
    /// Returns the initial state of an archive whose file does not exist yet.
    pub(super) fn empty() -> Self {
        Self {
            stored: BTreeMap::new(),
            listing: Listing::empty(),
            images: Images::default(),
            has_unwritten_entries: false,
            version: None,
        }
    }

    /// Reads an archive. Returns `None` if the file does not exist.
    pub(super) fn read(path: &Path, format: &ArchiveFormat) -> Result<Option<Self>, Error> {
        let file = match open_regular(path) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if is_file_type_error(&error) => {
                let problem = "not a regular file";
                return InvalidSnafu { path, problem }.fail();
            }
            Err(source) => {
                return Err(Error::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let metadata = file.metadata().context(ReadSnafu { path })?;
        let version = FileVersion::from_metadata(&metadata).context(ReadSnafu { path })?;
        let spans = index::read(&file, path, format)?;
        let mut state = Self {
            stored: blobs_in_file(&file, &spans),
            version: Some(version),
            ..Self::empty()
        };
        let document = |name: &'static str| index::read_document(&file, &spans, name, path);
        if let Some(bytes) = document("index.json")? {
            let name = "index.json";
            state.listing = serde_json::from_slice(&bytes).context(ParseSnafu { path, name })?;
        }
        match format {
            ArchiveFormat::Oci => {
                let name = "oci-layout";
                let problem = "missing `oci-layout`";
                let bytes = document(name)?.context(InvalidSnafu { path, problem })?;
                let marker: Marker =
                    serde_json::from_slice(&bytes).context(ParseSnafu { path, name })?;
                let problem = "unsupported version of the layout";
                ensure!(
                    marker.version == layout::VERSION,
                    InvalidSnafu { path, problem }
                );
            }
            ArchiveFormat::Docker(_) => {
                let problem = "missing `manifest.json`";
                let bytes = document("manifest.json")?.context(InvalidSnafu { path, problem })?;
                let ArchiveState {
                    stored, listing, ..
                } = &mut state;
                state.images = docker::read_images(&bytes, &file, &spans, path, stored, listing)?;
            }
        }
        Ok(Some(state))
    }

    /// Writes the archive to `file`. Fails soon after `cancelled` is cancelled.
    pub(super) fn write(
        &self,
        file: &File,
        path: &Path,
        format: &ArchiveFormat,
        cancelled: &CancellationToken,
    ) -> Result<(), Error> {
        let mut writer = Writer::new(std::io::BufWriter::with_capacity(BUFFER_SIZE, file));
        for (name, stored) in &self.entries(format) {
            let content = stored.open().context(WriteSnafu { path })?;
            let mut content = CancellableReader { content, cancelled };
            let entry = Entry::file(name, stored.size());
            writer
                .write_entry(&entry, &mut content)
                .context(WriteTarSnafu { path })?;
        }
        writer.finish().context(WriteTarSnafu { path })?;
        Ok(())
    }

    /// Renames the temporary file, which is written and flushed, to `path`. Returns the new state. Fails if another
    /// process has changed the archive.
    pub(super) fn replace(
        self,
        temporary: NamedTempFile,
        path: &Path,
        format: &ArchiveFormat,
    ) -> Result<Self, Error> {
        let spans = index::read(temporary.as_file(), path, format)?;
        let file = temporary
            .as_file()
            .try_clone()
            .context(WriteSnafu { path })?;
        let found = match std::fs::metadata(path) {
            Ok(metadata) => {
                Some(FileVersion::from_metadata(&metadata).context(ReadSnafu { path })?)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(source) => {
                return Err(Error::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        ensure!(found == self.version, ChangedSnafu { path });
        layout::persist(temporary, path).context(WriteSnafu { path })?;
        let metadata = file.metadata().context(ReadSnafu { path })?;
        Ok(Self {
            stored: blobs_in_file(&Arc::new(file), &spans),
            has_unwritten_entries: false,
            version: Some(FileVersion::from_metadata(&metadata).context(ReadSnafu { path })?),
            ..self
        })
    }

    /// Returns all entries of the tar file, keyed by name.
    fn entries(&self, format: &ArchiveFormat) -> BTreeMap<String, StoredContent> {
        let blobs = self.stored.iter();
        let mut entries: BTreeMap<_, _> = blobs
            .map(|(digest, stored)| (blob_name(digest), stored.clone()))
            .collect();
        let marker = Marker {
            version: layout::VERSION.to_owned(),
        };
        let mut add_entry = |name: &str, bytes: Vec<u8>| {
            entries.insert(name.to_owned(), StoredContent::Memory(bytes.into()));
        };
        add_entry("oci-layout", layout::json(&marker));
        add_entry("index.json", layout::json(&self.listing));
        if let ArchiveFormat::Docker(_) = format {
            add_entry("manifest.json", self.images.to_json());
        }
        entries
    }
}

/// Reader of an entry's content. It fails after `cancelled` is cancelled.
struct CancellableReader<'a, R> {
    content: R,
    cancelled: &'a CancellationToken,
}

impl<R: Read> Read for CancellableReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.cancelled.is_cancelled() {
            return Err(std::io::Error::other("cancelled"));
        }
        self.content.read(buffer)
    }
}

/// Returns the directory that contains an archive. Temporary files are created in this directory, too.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Returns the blobs of an archive and their positions in it.
fn blobs_in_file(file: &Arc<File>, spans: &Spans) -> BTreeMap<Digest, StoredContent> {
    let blobs = spans.iter().filter_map(|(name, span)| {
        let digest = digest_of(name)?;
        Some((digest, StoredContent::Archive(Arc::clone(file), *span)))
    });
    blobs.collect()
}
