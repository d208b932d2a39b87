//! Deterministic writer of tar streams.

use std::io::{self, Read, Write};

use snafu::ResultExt;

use super::entry::{Entry, Kind};
use super::error::{Error, ReadSnafu, WriteSnafu};
use super::header::{BLOCK, OCTAL_OWNER, OCTAL_SIZE, padding};

/// Writer of entries.
pub(crate) struct Writer<W> {
    inner: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner }
    }

    /// Writes an entry and its content. The content must have the size that the entry states.
    pub(crate) fn write_entry(
        &mut self,
        entry: &Entry,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let extension = extended_header(entry);
        if !extension.is_empty() {
            let mut header = tar::Header::new_ustar();
            let _ = copy_name(&mut header.as_old_mut().name, b"././@PaxHeader");
            header.as_old_mut().linkflag = [b'x'];
            header.set_mode(0o644);
            header.set_size(extension.len() as u64);
            self.write_header(header)?;
            self.write_content(&mut &extension[..], extension.len() as u64)?;
        }
        self.write_header(to_header(entry))?;
        self.write_content(content, entry.size)
    }

    /// Writes the end of the archive.
    pub(crate) fn finish(mut self) -> Result<W, Error> {
        self.inner.write_all(&[0; 2 * BLOCK]).context(WriteSnafu)?;
        self.inner.flush().context(WriteSnafu)?;
        Ok(self.inner)
    }

    fn write_header(&mut self, mut header: tar::Header) -> Result<(), Error> {
        header.set_cksum();
        self.inner.write_all(header.as_bytes()).context(WriteSnafu)
    }

    fn write_content(&mut self, content: &mut dyn Read, size: u64) -> Result<(), Error> {
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
pub(super) fn copy_name(field: &mut [u8; 100], name: &[u8]) -> bool {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
    length == name.len()
}

pub(super) fn to_header(entry: &Entry) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    let old = header.as_old_mut();
    // Names that do not fit are in the extended header.
    let _ = copy_name(&mut old.name, &entry.path);
    let _ = copy_name(&mut old.linkname, &entry.link);
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
fn extended_header(entry: &Entry) -> Vec<u8> {
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
