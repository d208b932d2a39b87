//! Reader and writer for tar streams (POSIX.1-2001 `pax`, and the long names of GNU tar).
//!
//! The writer is deterministic. The reader is strict: it refuses streams that two programs could interpret differently,
//! such as contradicting sizes, names that are stated twice, content of entries that cannot have any, and sparse files.
//! It never allocates memory according to a declared size. This module opens no files and does not interpret names; a
//! name is a sequence of bytes.

pub(crate) mod compression;

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};

use snafu::{OptionExt, ResultExt, Snafu, ensure};

use crate::error::{ErrorKind, Failure};

/// Size of a block in bytes.
const BLOCK: usize = 512;

/// Smallest number that is refused in any field.
const NUMBER_LIMIT: u64 = 1 << 62;

/// Largest extended header or long name in bytes.
const MAX_EXTENDED: u64 = 1 << 20;

/// Largest name in bytes.
const MAX_PATH: usize = 4096;

/// Smallest size that does not fit into the eleven octal digits of a header field.
const OCTAL_SIZE: u64 = 1 << 33;

/// Smallest user or group ID that does not fit into the seven octal digits of a header field.
const OCTAL_OWNER: u64 = 1 << 21;

#[derive(Debug, Snafu)]
pub(crate) enum Error {
    #[snafu(display("failed to read the tar stream"))]
    Read { source: io::Error },
    #[snafu(display("failed to write the tar stream"))]
    Write { source: io::Error },
    #[snafu(display("invalid tar stream: it ends within an entry, at byte {at}"))]
    Truncated { at: u64 },
    #[snafu(display("invalid tar stream: there is no valid header at byte {at}"))]
    NoHeader { at: u64 },
    #[snafu(display("invalid tar stream: {problem}, at byte {at}"))]
    Malformed { problem: &'static str, at: u64 },
    #[snafu(display("invalid tar entry `{}`: {problem}", path.escape_ascii()))]
    InvalidEntry {
        path: Vec<u8>,
        problem: &'static str,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::Write { .. } => ErrorKind::Io,
            _ => ErrorKind::Protocol,
        }
    }
}

/// Type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharacterDevice,
    BlockDevice,
    Fifo,
}

/// Metadata of an entry, which precedes its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Name as written in the stream.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    /// Size of the content in bytes. Only a file has content.
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Modification time in seconds since 1970.
    pub(crate) mtime: u64,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// Extended attributes by name.
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// Creates the entry of a file with default metadata.
    pub(crate) fn file(path: &str, size: u64) -> Self {
        Self {
            path: path.into(),
            kind: Kind::File,
            link: Vec::new(),
            size,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            device: (0, 0),
            attributes: BTreeMap::new(),
        }
    }
}

/// Stream that can skip bytes.
pub(crate) trait Skip: Read {
    /// Skips this many bytes. A seekable stream may skip past its end without an error.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// File, which skips by seeking.
pub(crate) struct Seekable<F>(pub(crate) io::BufReader<F>);

impl<F: Read> Read for Seekable<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<F: Read + Seek> Skip for Seekable<F> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let count = i64::try_from(count).map_err(io::Error::other)?;
        self.0.seek_relative(count)
    }
}

/// Stream that can only be read, and skips by reading.
pub(crate) struct Streamed<R>(pub(crate) R);

impl<R: Read> Read for Streamed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Skip for Streamed<R> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.0.by_ref().take(count), &mut io::sink())?;
        if skipped < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// Reader of entries. The content of an entry can be read before the next entry.
pub(crate) struct Reader<R> {
    inner: R,
    /// Offset of the next byte in the stream.
    position: u64,
    /// Bytes of the content of the last entry that were not read.
    unread: u64,
    padding: u64,
}

/// Fields of extended headers, for the next entry.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: Skip> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            position: 0,
            unread: 0,
            padding: 0,
        }
    }

    /// Returns the offset of the content of the last entry, as long as none of it was read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next entry; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extended = Extended::default();
        let (mut has_pax, mut has_any) = (false, false);
        loop {
            let at = self.position + self.unread + self.padding;
            let Some(header) = self.header()? else {
                let malformed = MalformedSnafu {
                    problem: "an extended header has no entry",
                    at,
                };
                ensure!(!has_any, malformed);
                return Ok(None);
            };
            let malformed = |problem| MalformedSnafu { problem, at };
            let size = header
                .entry_size()
                .ok()
                .filter(|size| *size < NUMBER_LIMIT)
                .context(malformed("a size is not a number"))?;
            let kind = header.as_old().linkflag[0];
            let is_old = header.as_ustar().is_none() && header.as_gnu().is_none();
            ensure!(
                !(is_old && b"xgLK".contains(&kind)),
                malformed("an extended header is in a format without extended headers")
            );
            match kind {
                b'x' => {
                    ensure!(
                        !has_pax,
                        malformed("two extended headers describe one entry")
                    );
                    has_pax = true;
                    let records = self.extension(size, at)?;
                    parse_pax(&records, &mut extended)
                        .map_err(|problem| malformed(problem).build())?;
                }
                b'g' => {
                    // Some programs apply the preceding extended header to this header.
                    ensure!(
                        !has_any,
                        malformed("a global header is between an entry and its extended header")
                    );
                    let records = self.extension(size, at)?;
                    let mut global = Extended::default();
                    parse_pax(&records, &mut global)
                        .map_err(|problem| malformed(problem).build())?;
                    let is_harmless =
                        global.path.is_none() && global.link.is_none() && global.size.is_none();
                    ensure!(is_harmless, malformed("a global header has a name or size"));
                    continue;
                }
                b'L' | b'K' => {
                    let mut name = self.extension(size, at)?;
                    let end = name.iter().position(|byte| *byte == 0);
                    let rest = name.split_off(end.unwrap_or(name.len()));
                    // Programs disagree on whether the name ends at its first zero or at its last byte.
                    ensure!(rest.len() <= 1, malformed("a name contains a zero byte"));
                    let slot = if kind == b'L' {
                        &mut extended.path
                    } else {
                        &mut extended.link
                    };
                    ensure!(
                        slot.replace(name).is_none(),
                        malformed("a name is stated twice")
                    );
                }
                _ => {
                    let entry = entry(&header, size, extended, at)?;
                    self.unread = entry.size;
                    self.padding = padding(entry.size);
                    return Ok(Some(entry));
                }
            }
            has_any = true;
        }
    }

    /// Reads the next header and verifies its checksum. Returns `None` for a block of zeros or at the end of the
    /// stream.
    fn header(&mut self) -> Result<Option<tar::Header>, Error> {
        let rest = self.unread + self.padding;
        self.inner.skip(rest).context(ReadSnafu)?;
        self.position += rest;
        (self.unread, self.padding) = (0, 0);
        let at = self.position;
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { source }),
            }
        }
        self.position += filled as u64;
        // Some writers omit the two blocks of zeros at the end.
        if filled == 0 || (filled == BLOCK && block.iter().all(|byte| *byte == 0)) {
            return Ok(None);
        }
        ensure!(filled == BLOCK, TruncatedSnafu { at });
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let field: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
        let is_header = header
            .cksum()
            .is_ok_and(|said| said == sum - field + 8 * 32);
        ensure!(is_header, NoHeaderSnafu { at });
        Ok(Some(header))
    }

    /// Reads the content of an extended header.
    fn extension(&mut self, size: u64, at: u64) -> Result<Vec<u8>, Error> {
        let problem = "an extended header is too long";
        ensure!(size <= MAX_EXTENDED, MalformedSnafu { problem, at });
        (self.unread, self.padding) = (size, padding(size));
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).context(ReadSnafu)?;
        ensure!(bytes.len() as u64 == size, TruncatedSnafu { at });
        Ok(bytes)
    }
}

impl<R: Read> Read for Reader<R> {
    /// Reads the content of the last entry.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer
            .len()
            .min(usize::try_from(self.unread).unwrap_or(usize::MAX));
        if wanted == 0 {
            // Some readers return no bytes only at their end.
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread -= count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

fn entry(header: &tar::Header, size: u64, extended: Extended, at: u64) -> Result<Entry, Error> {
    let path = extended
        .path
        .unwrap_or_else(|| header.path_bytes().into_owned());
    let kind = match header.as_old().linkflag[0] {
        // Writers of the oldest format mark a directory only by the slash at the end of its name.
        0 if path.ends_with(b"/") => Some(Kind::Directory),
        b'0' | b'7' | 0 => Some(Kind::File),
        b'1' => Some(Kind::HardLink),
        b'2' => Some(Kind::Symlink),
        b'3' => Some(Kind::CharacterDevice),
        b'4' => Some(Kind::BlockDevice),
        b'5' => Some(Kind::Directory),
        b'6' => Some(Kind::Fifo),
        _ => None,
    };
    let is_name = |name: &[u8]| name.len() <= MAX_PATH && !name.contains(&0);
    let link = extended
        .link
        .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
    let link = link.unwrap_or_default();
    let malformed = |problem| InvalidEntrySnafu {
        path: path[..path.len().min(MAX_PATH)].to_vec(),
        problem,
    };
    ensure!(
        is_name(&path) && is_name(&link),
        malformed("its name is too long or contains a zero byte")
    );
    ensure!(
        !path.is_empty(),
        MalformedSnafu {
            problem: "an entry has no name",
            at
        }
    );
    let kind =
        kind.with_context(|| malformed("it is neither a file nor a directory, link or device"))?;
    let is_link = matches!(kind, Kind::Symlink | Kind::HardLink);
    ensure!(
        !is_link || !link.is_empty(),
        malformed("it is a link without a target")
    );
    let size = match extended.size {
        Some(stated) => {
            ensure!(
                stated == size || stated >= OCTAL_SIZE,
                malformed("it has two sizes")
            );
            stated
        }
        None => size,
    };
    ensure!(
        kind == Kind::File || size == 0,
        malformed("it has content but is not a file")
    );
    let owner = |number: Option<u64>| {
        let number = number.unwrap_or_default();
        ensure!(
            number < NUMBER_LIMIT,
            malformed("the number of its owner is too large")
        );
        Ok(number)
    };
    let number = |value: Option<u32>| value.unwrap_or_default();
    let device = (
        number(header.device_major().ok().flatten()),
        number(header.device_minor().ok().flatten()),
    );
    Ok(Entry {
        kind,
        link,
        size,
        mode: header
            .mode()
            .ok()
            .with_context(|| malformed("its mode is not a number"))?
            & 0o7777,
        uid: owner(extended.uid.or(header.uid().ok()))?,
        gid: owner(extended.gid.or(header.gid().ok()))?,
        // GNU tar writes a time before 1970 in a form that is parsed as a very large number.
        mtime: extended
            .mtime
            .or(header.mtime().ok())
            .filter(|seconds| *seconds < NUMBER_LIMIT)
            .unwrap_or_default(),
        device,
        attributes: extended.attributes,
        path,
    })
}

/// Parses the records of an extended header: `LENGTH KEY=VALUE\n`.
fn parse_pax(mut bytes: &[u8], extended: &mut Extended) -> Result<(), &'static str> {
    const MALFORMED: &str = "an extended header is malformed";
    const TWICE: &str = "an extended header has a key twice";
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or(MALFORMED)?;
        let length = decimal(&bytes[..space]).and_then(|length| usize::try_from(length).ok());
        let length = length
            .filter(|length| *length > space + 1)
            .ok_or(MALFORMED)?;
        let record = bytes.get(space + 1..length).ok_or(MALFORMED)?;
        bytes = &bytes[length..];
        let record = record.strip_suffix(b"\n").ok_or(MALFORMED)?;
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or(MALFORMED)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let once = |is_first: bool| if is_first { Ok(()) } else { Err(TWICE) };
        let number = || decimal(value).ok_or(MALFORMED);
        match key {
            b"path" => once(extended.path.replace(value.to_vec()).is_none())?,
            b"linkpath" => once(extended.link.replace(value.to_vec()).is_none())?,
            b"size" => once(extended.size.replace(number()?).is_none())?,
            b"uid" => once(extended.uid.replace(number()?).is_none())?,
            b"gid" => once(extended.gid.replace(number()?).is_none())?,
            b"mtime" => {
                let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                // A time before 1970 is read as 1970.
                let seconds = if whole.starts_with(b"-") {
                    0
                } else {
                    decimal(whole).ok_or(MALFORMED)?
                };
                once(extended.mtime.replace(seconds).is_none())?;
            }
            _ if key.starts_with(b"GNU.sparse.") => return Err("a file is sparse"),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let previous = extended.attributes.insert(name.to_vec(), value.to_vec());
                    once(previous.is_none())?;
                }
            }
        }
    }
    Ok(())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_plain)?;
    digits.parse().ok().filter(|number| *number < NUMBER_LIMIT)
}

/// Writer of entries.
pub(crate) struct Writer<W> {
    inner: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner }
    }

    /// Writes an entry and its content, whose size must be the one in the entry.
    pub(crate) fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
        let extension = extension_of(entry);
        if !extension.is_empty() {
            let mut header = tar::Header::new_ustar();
            let _ = put(&mut header.as_old_mut().name, b"././@PaxHeader");
            header.as_old_mut().linkflag = [b'x'];
            header.set_mode(0o644);
            header.set_size(extension.len() as u64);
            self.block(header)?;
            self.content(&mut &extension[..], extension.len() as u64)?;
        }
        self.block(header_of(entry))?;
        self.content(content, entry.size)
    }

    /// Writes the end of the archive.
    pub(crate) fn finish(mut self) -> Result<W, Error> {
        self.inner.write_all(&[0; 2 * BLOCK]).context(WriteSnafu)?;
        self.inner.flush().context(WriteSnafu)?;
        Ok(self.inner)
    }

    fn block(&mut self, mut header: tar::Header) -> Result<(), Error> {
        header.set_cksum();
        self.inner.write_all(header.as_bytes()).context(WriteSnafu)
    }

    fn content(&mut self, content: &mut dyn Read, size: u64) -> Result<(), Error> {
        let mut content = content.take(size);
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(256 << 10)];
        let mut written = 0;
        while written < size {
            let count = match content.read(&mut buffer) {
                Ok(0) => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).context(ReadSnafu);
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(Error::Read { source }),
            };
            self.inner.write_all(&buffer[..count]).context(WriteSnafu)?;
            written += count as u64;
        }
        let padding = usize::try_from(padding(size)).unwrap_or_default();
        self.inner
            .write_all(&[0; BLOCK][..padding])
            .context(WriteSnafu)
    }
}

/// Copies a name into a field and truncates it if necessary. Returns whether all of it fits.
fn put(field: &mut [u8; 100], name: &[u8]) -> bool {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
    length == name.len()
}

fn header_of(entry: &Entry) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    let old = header.as_old_mut();
    // The extended header has names that do not fit.
    let _ = put(&mut old.name, &entry.path);
    let _ = put(&mut old.linkname, &entry.link);
    old.linkflag = [match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharacterDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }];
    let fitting = |value: u64, limit: u64| if value < limit { value } else { 0 };
    header.set_mode(entry.mode);
    header.set_uid(fitting(entry.uid, OCTAL_OWNER));
    header.set_gid(fitting(entry.gid, OCTAL_OWNER));
    header.set_mtime(fitting(entry.mtime, OCTAL_SIZE));
    header.set_size(fitting(entry.size, OCTAL_SIZE));
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.set_device_major(entry.device.0);
        ustar.set_device_minor(entry.device.1);
    }
    header
}

/// Returns the extended header with the fields that do not fit into the header of an entry.
fn extension_of(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let mut record = |key: &[u8], value: &[u8]| {
        // The length includes its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        records.extend_from_slice(length.to_string().as_bytes());
        records.push(b' ');
        records.extend_from_slice(key);
        records.push(b'=');
        records.extend_from_slice(value);
        records.push(b'\n');
    };
    if entry.path.len() > 100 {
        record(b"path", &entry.path);
    }
    if entry.link.len() > 100 {
        record(b"linkpath", &entry.link);
    }
    for (key, value, limit) in [
        (&b"size"[..], entry.size, OCTAL_SIZE),
        (b"uid", entry.uid, OCTAL_OWNER),
        (b"gid", entry.gid, OCTAL_OWNER),
        (b"mtime", entry.mtime, OCTAL_SIZE),
    ] {
        if value >= limit {
            record(key, value.to_string().as_bytes());
        }
    }
    for (name, value) in &entry.attributes {
        record(&[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    records
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
        let mut reader = Reader::new(Streamed(bytes));
        let mut entries = Vec::new();
        while let Some(entry) = reader.next()? {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).context(ReadSnafu)?;
            entries.push((entry, content));
        }
        Ok(entries)
    }

    fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, content) in entries {
            writer.entry(entry, &mut &content[..]).unwrap();
        }
        writer.finish().unwrap()
    }

    fn rich() -> Vec<(Entry, Vec<u8>)> {
        let file = |path: &str, content: &[u8]| {
            (Entry::file(path, content.len() as u64), content.to_vec())
        };
        let other = |path: &str, kind, link: &str| {
            let entry = Entry {
                kind,
                link: link.into(),
                ..Entry::file(path, 0)
            };
            (entry, Vec::new())
        };
        let mut odd = file("odd", &[1; 512]);
        odd.0.mode = 0o4755;
        odd.0.uid = 1 << 31;
        odd.0.gid = 1000;
        odd.0.mtime = 1_700_000_000;
        odd.0
            .attributes
            .insert(b"security.capability".into(), vec![0, b'\n', 255]);
        let mut device = other("dev/null", Kind::CharacterDevice, "");
        device.0.device = (1, 3);
        vec![
            other("dev/", Kind::Directory, ""),
            device,
            file("empty", b""),
            file(&"long/".repeat(40), b"x"),
            other("link", Kind::Symlink, &"../".repeat(50)),
            other("same", Kind::HardLink, "empty"),
            odd,
            file("\u{fc}", b"name"),
        ]
    }

    #[test]
    fn written_entries_read_back() {
        let entries = rich();
        assert_eq!(read(&write(&entries)).unwrap(), entries);
    }

    #[test]
    fn tar_crate_reads_written_entries() {
        let entries = rich();
        let bytes = write(&entries);
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((
                entry.path_bytes().into_owned(),
                entry.header().entry_type().as_byte(),
                content,
            ));
        }
        let expected: Vec<_> = entries
            .iter()
            .map(|(entry, content)| {
                (
                    entry.path.clone(),
                    header_of(entry).entry_type().as_byte(),
                    content.clone(),
                )
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn gnu_long_names_and_links_are_read() {
        let mut builder = tar::Builder::new(Vec::new());
        let long = "d/".repeat(120) + "file";
        for (path, content) in [("short", "one"), (long.as_str(), "two")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            builder
                .append_data(&mut header, path, content.as_bytes())
                .unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        builder
            .append_link(&mut header, "link", "t/".repeat(80))
            .unwrap();
        let found = read(&builder.into_inner().unwrap()).unwrap();
        let paths: Vec<_> = found.iter().map(|(entry, _)| entry.path.clone()).collect();
        assert_eq!(
            paths,
            [b"short".to_vec(), long.into_bytes(), b"link".to_vec()]
        );
        assert_eq!(found[1].1, b"two");
        assert_eq!(found[2].0.link, "t/".repeat(80).into_bytes());
    }

    /// Creates an entry with this type, name and size in its header, followed by its content.
    fn raw(kind: u8, name: &str, size: u64, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        assert!(put(&mut header.as_old_mut().name, name.as_bytes()));
        header.as_old_mut().linkflag = [kind];
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    /// Removes the magic of newer formats from the header.
    fn old(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[257..265].fill(0);
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&bytes[..BLOCK]);
        header.set_cksum();
        bytes[..BLOCK].copy_from_slice(header.as_bytes());
        bytes
    }

    fn pax(records: &str) -> Vec<u8> {
        raw(b'x', "pax", records.len() as u64, records.as_bytes())
    }

    #[test]
    fn ambiguous_streams_are_refused() {
        let smuggled = raw(b'0', "smuggled", 0, b"");
        let long = format!("{} comment={}\n", 1_100_000, "x".repeat(1_100_000 - 17));
        for (why, parts) in [
            (
                "hidden by a size",
                vec![pax("12 size=512\n"), raw(b'0', "a", 0, b""), smuggled],
            ),
            (
                "size that is none",
                vec![pax("9 size=-\n"), raw(b'0', "a", 0, b"")],
            ),
            (
                "two sizes",
                vec![pax("10 size=0\n10 size=0\n"), raw(b'0', "a", 0, b"")],
            ),
            (
                "two names",
                vec![
                    pax("10 path=b\n"),
                    raw(b'L', "l", 2, b"c\0"),
                    raw(b'0', "a", 0, b""),
                ],
            ),
            (
                "two headers",
                vec![
                    pax("10 path=b\n"),
                    pax("10 path=c\n"),
                    raw(b'0', "a", 0, b""),
                ],
            ),
            ("no record", vec![pax("10 path"), raw(b'0', "a", 0, b"")]),
            (
                "long record",
                vec![pax("99 path=b\n"), raw(b'0', "a", 0, b"")],
            ),
            (
                "short record",
                vec![pax("1 path=b\n"), raw(b'0', "a", 0, b"")],
            ),
            (
                "names for all",
                vec![raw(b'g', "g", 10, b"10 path=b\n"), raw(b'0', "a", 0, b"")],
            ),
            ("an owner that is too large", vec![owned_by(u64::MAX)]),
            (
                "a global header in between",
                vec![
                    raw(b'L', "l", 2, b"b\0"),
                    raw(b'g', "g", 12, b"12 comment=\n"),
                    raw(b'0', "a", 0, b""),
                ],
            ),
            (
                "sparse",
                vec![pax("22 GNU.sparse.major=1\n"), raw(b'0', "a", 0, b"")],
            ),
            ("old sparse", vec![raw(b'S', "a", 0, b"")]),
            ("unknown", vec![raw(b'V', "a", 0, b"")]),
            ("link with content", vec![raw(b'5', "a", 3, b"abc")]),
            ("link to nothing", vec![raw(b'2', "a", 0, b"")]),
            ("no name", vec![raw(b'0', "", 0, b"")]),
            (
                "a zero in a name",
                vec![pax("12 path=a\0b\n"), raw(b'0', "a", 0, b"")],
            ),
            (
                "a zero in a long name",
                vec![raw(b'L', "l", 4, b"b\0c\0"), raw(b'0', "a", 0, b"")],
            ),
            (
                "a long name in an old header",
                vec![old(raw(b'L', "l", 2, b"b\0")), raw(b'0', "a", 0, b"")],
            ),
            (
                "an extended header without an entry",
                vec![pax("10 path=b\n")],
            ),
            (
                "a header too long",
                vec![pax(&long), raw(b'0', "a", 0, b"")],
            ),
        ] {
            let error = read(&parts.concat()).expect_err(why);
            assert_eq!(error.kind(), ErrorKind::Protocol, "{why}: {error}");
        }
    }

    /// Creates an entry whose owner is written in the base-256 format of GNU tar.
    fn owned_by(uid: u64) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().linkflag = [b'0'];
        header.as_old_mut().name[0] = b'a';
        header.set_mode(0o644);
        header.set_uid(uid);
        header.set_size(0);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    #[test]
    fn truncated_or_damaged_streams_are_refused() {
        let whole = write(&rich());
        let mut flipped = whole.clone();
        flipped[0] ^= 1;
        assert!(matches!(read(&flipped), Err(Error::NoHeader { at: 0 })));
        assert!(matches!(
            read(&whole[..700]),
            Err(Error::Truncated { at: 512 })
        ));
        assert!(read(&raw(b'0', "a", 1 << 40, b"abc")).is_err());
        assert!(read(&raw(b'x', "a", 600, b"abc")).is_err());
        assert!(read(b"").unwrap().is_empty());
    }

    #[test]
    fn write_of_content_that_ends_early_fails() {
        let mut writer = Writer::new(Vec::new());
        let error = writer
            .entry(&Entry::file("a", 4), &mut &b"abc"[..])
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }

    proptest! {
        #[test]
        fn reader_with_arbitrary_bytes_does_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2048), fix: bool) {
            if fix && bytes.len() >= BLOCK {
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(&bytes[..BLOCK]);
                header.set_cksum();
                bytes[..BLOCK].copy_from_slice(header.as_bytes());
            }
            let _ = read(&bytes);
        }

        #[test]
        fn pax_parser_with_arbitrary_text_does_not_panic(text in "[0-9]{0,3} ?(path|size|x)?=?[a-z0-9\\n]{0,9}\\n?") {
            let _ = parse_pax(text.as_bytes(), &mut Extended::default());
        }

        #[test]
        fn written_names_read_back(path in "[^\\x00]{1,300}", link in "[^\\x00]{1,300}") {
            prop_assume!(path.len() <= MAX_PATH && link.len() <= MAX_PATH);
            let entry = Entry { kind: Kind::Symlink, link: link.into(), ..Entry::file(&path, 0) };
            let entries = vec![(entry, Vec::new())];
            prop_assert_eq!(read(&write(&entries)).unwrap(), entries);
        }
    }
}
