//! Index of a tar file: the positions of its entries, found in one pass over the headers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use snafu::{ResultExt, ensure};

use super::error::{
    CompressedSnafu, Error, InvalidEntrySnafu, InvalidSnafu, ReadSnafu, ReadTarSnafu,
};
use crate::layout;
use crate::reference::ArchiveFormat;
use crate::tarball::compression::Compression;
use crate::tarball::{Kind, Reader, SkipBySeeking};

/// Maximum number of entries in an archive.
const MAX_ENTRIES: usize = 1_000_000;

/// Maximum total size of the names in an archive, in bytes.
const MAX_NAMES: usize = 64 << 20;

/// Position of an entry's content in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) size: u64,
}

impl Span {
    /// Returns the span without its first `count` bytes.
    pub(super) fn after(self, count: u64) -> Self {
        Self {
            start: self.start + count,
            size: self.size - count,
        }
    }
}

/// Reader of an entry's content. Several sections of one file can be read at the same time.
pub(crate) struct Section<'a> {
    file: &'a File,
    rest: Span,
}

impl<'a> Section<'a> {
    pub(crate) fn new(file: &'a File, rest: Span) -> Self {
        Self { file, rest }
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.rest.size)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = read_at(self.file, &mut buffer[..wanted], self.rest.start)?;
        self.rest = self.rest.after(count as u64);
        Ok(count)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

/// Positions of the files in an archive, keyed by name. A leading `./` is removed from the names.
pub(super) type Spans = BTreeMap<String, Span>;

/// Finds the positions of all files in an archive.
///
/// `docker save` and compatible tools write many links for older programs. Links in docker archives are skipped and
/// never followed: an entry that an image refers to must be a file.
pub(super) fn read(mut file: &File, path: &Path, format: &ArchiveFormat) -> Result<Spans, Error> {
    let length = file.metadata().context(ReadSnafu { path })?.len();
    file.rewind().context(ReadSnafu { path })?;
    let compression = Compression::detect(file).context(ReadSnafu { path })?;
    ensure!(compression.is_none(), CompressedSnafu { path });
    file.rewind().context(ReadSnafu { path })?;
    let mut reader = Reader::new(SkipBySeeking(io::BufReader::new(file)));
    let (mut spans, mut links) = (BTreeMap::new(), BTreeSet::new());
    let has_links = matches!(format, ArchiveFormat::Docker(_));
    let (mut entries, mut names) = (0, 0);
    while let Some(entry) = reader.next().context(ReadTarSnafu { path })? {
        entries += 1;
        names += entry.path.len();
        let problem = "too many entries";
        ensure!(
            entries <= MAX_ENTRIES && names <= MAX_NAMES,
            InvalidSnafu { path, problem }
        );
        let name = String::from_utf8_lossy(&entry.path);
        let invalid = |problem| InvalidEntrySnafu {
            path,
            name: name.as_ref(),
            problem,
        };
        let leads_out = name.starts_with('/') || name.split('/').any(|part| part == "..");
        ensure!(!leads_out, invalid("is an absolute path or contains `..`"));
        if entry.kind == Kind::Directory {
            continue;
        }
        let mut plain = &name[..];
        while let Some(rest) = plain.strip_prefix("./") {
            plain = rest;
        }
        let is_new = !spans.contains_key(plain) && !links.contains(plain);
        ensure!(is_new, invalid("occurs twice"));
        match entry.kind {
            Kind::Symlink | Kind::HardLink if has_links => {
                links.insert(plain.to_owned());
                continue;
            }
            kind => ensure!(kind == Kind::File, invalid("is a link or device")),
        }
        let span = Span {
            start: reader.position(),
            size: entry.size,
        };
        let end = span.start.checked_add(span.size);
        let is_whole = end.is_some_and(|end| end <= length);
        ensure!(is_whole, invalid("is truncated"));
        spans.insert(plain.to_owned(), span);
    }
    Ok(spans)
}

/// Reads a small file of the archive. Returns `None` if the archive does not contain the file.
pub(super) fn read_document(
    file: &File,
    spans: &Spans,
    name: &str,
    path: &Path,
) -> Result<Option<Vec<u8>>, Error> {
    let Some(span) = spans.get(name) else {
        return Ok(None);
    };
    let problem = "is too large";
    ensure!(
        span.size <= layout::MAX_INDEX,
        InvalidEntrySnafu {
            path,
            name,
            problem
        }
    );
    let mut bytes = Vec::new();
    let read = Section::new(file, *span).read_to_end(&mut bytes);
    read.context(ReadSnafu { path })?;
    Ok(Some(bytes))
}
