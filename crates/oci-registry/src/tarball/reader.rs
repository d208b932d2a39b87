//! Strict reader of tar streams.

use std::collections::BTreeMap;
use std::io::{self, Read};

use snafu::{OptionExt, ResultExt, ensure};

use super::entry::{Entry, Kind};
use super::error::{
    Error, InvalidEntrySnafu, MalformedSnafu, NoHeaderSnafu, ReadSnafu, TruncatedSnafu,
};
use super::header::{BLOCK, OCTAL_SIZE, padding};
use super::skip::Skip;

/// Smallest number that the reader rejects in any field.
const NUMBER_LIMIT: u64 = 1 << 62;

/// Maximum size of an extended header or a long name, in bytes.
const MAX_EXTENDED: u64 = 1 << 20;

/// Maximum length of a name, in bytes.
pub(super) const MAX_PATH: usize = 4096;

/// Reader of entries. [`Read`] reads the content of the last entry.
pub(crate) struct Reader<R> {
    inner: R,
    /// Offset of the next byte in the stream.
    position: u64,
    /// Number of unread content bytes of the last entry.
    unread: u64,
    padding: u64,
}

/// Fields that extended headers set for the next entry.
#[derive(Default)]
pub(super) struct ExtendedFields {
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

    /// Returns the offset of the next byte. Directly after [`Self::next`], this is the offset of the content of the
    /// returned entry.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next entry; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extended = ExtendedFields::default();
        let (mut has_pax, mut has_any) = (false, false);
        loop {
            let at = self.position + self.unread + self.padding;
            let Some(header) = self.read_header()? else {
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
                    let records = self.read_extension(size, at)?;
                    parse_pax(&records, &mut extended)
                        .map_err(|problem| malformed(problem).build())?;
                }
                b'g' => {
                    // Some programs apply the preceding extended header to the global header.
                    ensure!(
                        !has_any,
                        malformed("a global header is between an entry and its extended header")
                    );
                    let records = self.read_extension(size, at)?;
                    let mut global = ExtendedFields::default();
                    parse_pax(&records, &mut global)
                        .map_err(|problem| malformed(problem).build())?;
                    let is_harmless =
                        global.path.is_none() && global.link.is_none() && global.size.is_none();
                    ensure!(is_harmless, malformed("a global header has a name or size"));
                    continue;
                }
                b'L' | b'K' => {
                    let mut name = self.read_extension(size, at)?;
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
                    let entry = parse_entry(&header, size, extended, at)?;
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
    fn read_header(&mut self) -> Result<Option<tar::Header>, Error> {
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
            .is_ok_and(|stated| stated == sum - field + 8 * 32);
        ensure!(is_header, NoHeaderSnafu { at });
        Ok(Some(header))
    }

    /// Reads the content of an extended header.
    fn read_extension(&mut self, size: u64, at: u64) -> Result<Vec<u8>, Error> {
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
            // The inner reader is not called, because a read of zero bytes would count as an unexpected end of the
            // stream.
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

fn parse_entry(
    header: &tar::Header,
    size: u64,
    extended: ExtendedFields,
    at: u64,
) -> Result<Entry, Error> {
    let path = extended
        .path
        .unwrap_or_else(|| header.path_bytes().into_owned());
    let kind = match header.as_old().linkflag[0] {
        // The oldest format marks a directory only by a slash at the end of its name.
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
            malformed("the ID of its owner is too large")
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
        // The format in which GNU tar writes a time before 1970 is parsed as a very large number.
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
pub(super) fn parse_pax(
    mut bytes: &[u8],
    extended: &mut ExtendedFields,
) -> Result<(), &'static str> {
    const MALFORMED: &str = "an extended header is malformed";
    const DUPLICATE_KEY: &str = "an extended header has a key twice";
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or(MALFORMED)?;
        let length = parse_decimal(&bytes[..space]).and_then(|length| usize::try_from(length).ok());
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
        let once = |is_first: bool| if is_first { Ok(()) } else { Err(DUPLICATE_KEY) };
        let number = || parse_decimal(value).ok_or(MALFORMED);
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
                    parse_decimal(whole).ok_or(MALFORMED)?
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

fn parse_decimal(digits: &[u8]) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_plain)?;
    digits.parse().ok().filter(|number| *number < NUMBER_LIMIT)
}
