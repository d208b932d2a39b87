//! Where everything is in a tar file, found in one pass over its headers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use snafu::{ResultExt, ensure};

use super::error::{
    CompressedSnafu, Error, ReadSnafu, ReadTarSnafu, StrangeEntrySnafu, StrangeSnafu,
};
use crate::layout;
use crate::reference::ArchiveFormat;
use crate::tarball::compression::Compression;
use crate::tarball::{Kind, Reader, Seekable};

/// Archives of more entries than this are refused.
const MAX_ENTRIES: usize = 1_000_000;

/// Archives whose names have more bytes than this together are refused.
const MAX_NAMES: usize = 64 << 20;

/// Where the content of an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) size: u64,
}

impl Span {
    /// What is left behind the first bytes.
    pub(super) fn after(self, count: u64) -> Self {
        Self {
            start: self.start + count,
            size: self.size - count,
        }
    }
}

/// The content of an entry. Several can be read from one file at once.
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

/// Where the files of an archive are, by their names without a leading `./`.
pub(super) type Spans = BTreeMap<String, Span>;

/// Finds every file of an archive.
///
/// The archives of `docker save` and of those who imitate it are full of links, for programs that have not been written
/// for years. They are passed over there, and never followed: what is named by an image has to be a file.
pub(super) fn read(mut file: &File, path: &Path, format: &ArchiveFormat) -> Result<Spans, Error> {
    let length = file.metadata().context(ReadSnafu { path })?.len();
    file.rewind().context(ReadSnafu { path })?;
    let compression = Compression::of(file).context(ReadSnafu { path })?;
    ensure!(compression.is_none(), CompressedSnafu { path });
    file.rewind().context(ReadSnafu { path })?;
    let mut reader = Reader::new(Seekable(io::BufReader::new(file)));
    let (mut spans, mut links) = (BTreeMap::new(), BTreeSet::new());
    let has_links = matches!(format, ArchiveFormat::Docker(_));
    let (mut entries, mut names) = (0, 0);
    while let Some(entry) = reader.next().context(ReadTarSnafu { path })? {
        entries += 1;
        names += entry.path.len();
        let problem = "it has too many entries";
        ensure!(
            entries <= MAX_ENTRIES && names <= MAX_NAMES,
            StrangeSnafu { path, problem }
        );
        let name = String::from_utf8_lossy(&entry.path);
        let strange = |problem| StrangeEntrySnafu {
            path,
            name: name.as_ref(),
            problem,
        };
        let leads_out = name.starts_with('/') || name.split('/').any(|part| part == "..");
        ensure!(!leads_out, strange("leads elsewhere"));
        if entry.kind == Kind::Directory {
            continue;
        }
        let mut plain = &name[..];
        while let Some(rest) = plain.strip_prefix("./") {
            plain = rest;
        }
        let is_new = !spans.contains_key(plain) && !links.contains(plain);
        ensure!(is_new, strange("is there twice"));
        match entry.kind {
            Kind::Symlink | Kind::HardLink if has_links => {
                links.insert(plain.to_owned());
                continue;
            }
            kind => ensure!(kind == Kind::File, strange("is a link or device")),
        }
        let span = Span {
            start: reader.position(),
            size: entry.size,
        };
        let end = span.start.checked_add(span.size);
        let is_whole = end.is_some_and(|end| end <= length);
        ensure!(is_whole, strange("is cut off"));
        spans.insert(plain.to_owned(), span);
    }
    Ok(spans)
}

/// Reads a small file of the archive, when it is there.
pub(super) fn document(
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
        StrangeEntrySnafu {
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
