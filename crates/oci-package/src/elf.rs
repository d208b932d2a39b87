//! ELF reader: determines the dynamic loader, C library and glibc version that a program or library requires.
//!
//! Reads program headers, `.dynamic` and `.gnu.version_r`. Only the required parts of a file are read, at most 16 MiB
//! in total. A malformed file is treated like a file of another format.

use std::cell::Cell;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::Path;

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind, ReadCache, ReadRef};
use oci_registry::open_regular;

use crate::platform::{GlibcVersion, Libc};

/// Maximum number of bytes that are read from a file. The tables of large programs are much smaller.
const MAX_READ: u64 = 16 << 20;

/// Minimum number of bytes that a read counts towards [`MAX_READ`], so that a malformed file cannot cause millions of
/// small reads.
const MIN_READ: u64 = 64;

/// Dynamic linking information of an ELF program or shared library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// Dynamic loader (`PT_INTERP`). Static programs and shared libraries have none.
    pub interpreter: Option<String>,
    /// Required shared libraries (`DT_NEEDED`).
    pub needed: Vec<String>,
    /// Highest version of glibc that a symbol requires.
    pub glibc: Option<GlibcVersion>,
}

impl Elf {
    /// Reads a file. Returns `None` if it is not an ELF program or shared library. Blocks.
    ///
    /// # Errors
    ///
    /// An I/O error if the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        Ok(Self::read(open_regular(path)?))
    }

    /// Reads an open file or bytes in memory. Returns `None` if the content is not an ELF program or shared library.
    pub fn read(file: impl Read + Seek) -> Option<Self> {
        let cache = ReadCache::new(file);
        let remaining = Cell::new(MAX_READ);
        let data = LimitedFile {
            inner: &cache,
            remaining: &remaining,
        };
        match FileKind::parse(data).ok()? {
            FileKind::Elf32 => parse_file(FileHeader32::<Endianness>::parse(data).ok()?, data),
            FileKind::Elf64 => parse_file(FileHeader64::<Endianness>::parse(data).ok()?, data),
            _ => None,
        }
    }

    /// Returns the C library that a Linux program or library requires; `None` if the loader or the libraries are
    /// unknown.
    pub fn libc(&self) -> Option<Libc> {
        if let Some(interpreter) = &self.interpreter {
            let name = interpreter.rsplit('/').next().unwrap_or_default();
            return if name.starts_with("ld-musl-") {
                Some(Libc::Musl)
            } else if name.starts_with("ld-linux")
                || matches!(name, "ld64.so.1" | "ld64.so.2" | "ld.so.1")
            {
                Some(Libc::Glibc)
            } else {
                None
            };
        }
        let needs = |test: fn(&str) -> bool| self.needed.iter().any(|name| test(name));
        if self.glibc.is_some() || needs(|name| name == "libc.so.6" || name.starts_with("ld-linux"))
        {
            Some(Libc::Glibc)
        } else if needs(|name| name == "libc.so" || name.starts_with("libc.musl-")) {
            Some(Libc::Musl)
        } else if self.needed.is_empty() {
            Some(Libc::Static)
        } else {
            None
        }
    }
}

fn parse_file<'a, H: FileHeader<Endian = Endianness>, R: ReadRef<'a>>(
    header: &'a H,
    data: R,
) -> Option<Elf> {
    let endian = header.endian().ok()?;
    if !matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN) {
        return None;
    }
    let mut found = Elf::default();
    for segment in header.program_headers(endian, data).ok()? {
        if let Some(interpreter) = segment.interpreter(endian, data).ok()? {
            found.interpreter = Some(String::from_utf8_lossy(interpreter).into_owned());
        }
    }
    let sections = header.sections(endian, data).ok()?;
    let dynamic = sections.dynamic_table(endian, data).ok()?;
    for entry in dynamic.iter().filter(|entry| entry.tag == elf::DT_NEEDED) {
        let name = dynamic.string(entry).ok()?;
        found
            .needed
            .push(String::from_utf8_lossy(name).into_owned());
    }
    if let Some((needs, strings)) = sections.gnu_verneed(endian, data).ok()? {
        let strings = sections.strings(endian, data, strings).ok()?;
        for need in needs {
            let (_, versions) = need.ok()?;
            for version in versions {
                let name = version.ok()?.name(endian, strings).ok()?;
                found.glibc = found.glibc.max(parse_symbol_version(name));
            }
        }
    }
    Some(found)
}

/// Parses a symbol version such as `GLIBC_2.34`. `GLIBC_PRIVATE` and other names without a number are not versions.
fn parse_symbol_version(name: &[u8]) -> Option<GlibcVersion> {
    std::str::from_utf8(name)
        .ok()?
        .strip_prefix("GLIBC_")?
        .parse()
        .ok()
}

/// File reader that fails after [`MAX_READ`] bytes.
struct LimitedFile<'a, R: Read + Seek> {
    inner: &'a ReadCache<R>,
    remaining: &'a Cell<u64>,
}

impl<R: Read + Seek> LimitedFile<'_, R> {
    fn consume(&self, size: u64) -> Result<(), ()> {
        let remaining = self.remaining.get();
        let remaining = remaining.checked_sub(size.max(MIN_READ)).ok_or(())?;
        self.remaining.set(remaining);
        Ok(())
    }
}

impl<R: Read + Seek> Clone for LimitedFile<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Read + Seek> Copy for LimitedFile<'_, R> {}

impl<'a, R: Read + Seek> ReadRef<'a> for LimitedFile<'a, R> {
    fn len(self) -> Result<u64, ()> {
        self.inner.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.consume(size)?;
        self.inner.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let bytes = self.inner.read_bytes_at_until(range, delimiter)?;
        self.consume(bytes.len() as u64)?;
        Ok(bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// Builds a minimal 64-bit little-endian program.
    pub(crate) fn build_program(
        interpreter: Option<&str>,
        needed: &[&str],
        versions: &[&str],
    ) -> Vec<u8> {
        let mut strings = vec![0u8];
        let mut add = |text: &str| {
            let at = strings.len() as u64;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let needed: Vec<u64> = needed.iter().map(|name| add(name)).collect();
        let file = add("libc.so.6");
        let versions: Vec<u64> = versions.iter().map(|name| add(name)).collect();
        let mut dynamic = Vec::new();
        for at in needed {
            dynamic.extend_from_slice(&1u64.to_le_bytes());
            dynamic.extend_from_slice(&at.to_le_bytes());
        }
        dynamic.extend_from_slice(&[0; 16]);
        let mut verneed = Vec::new();
        if !versions.is_empty() {
            verneed.extend_from_slice(&1u16.to_le_bytes());
            verneed.extend_from_slice(&u16::try_from(versions.len()).unwrap().to_le_bytes());
            for word in [file, 16, 0] {
                verneed.extend_from_slice(&u32::try_from(word).unwrap().to_le_bytes());
            }
            for (index, at) in versions.iter().enumerate() {
                let next = if index + 1 == versions.len() {
                    0u32
                } else {
                    16
                };
                verneed.extend_from_slice(&[0; 8]);
                verneed.extend_from_slice(&u32::try_from(*at).unwrap().to_le_bytes());
                verneed.extend_from_slice(&next.to_le_bytes());
            }
        }
        let interpreter = interpreter
            .map(|text| [text.as_bytes(), b"\0"].concat())
            .unwrap_or_default();

        // Layout: ELF header, one program header, contents, section headers.
        let (mut body, base) = (Vec::new(), 64 + 56u64);
        let mut append = |content: &[u8]| {
            let at = base + body.len() as u64;
            body.extend_from_slice(content);
            (at, content.len() as u64)
        };
        let interpreter = append(&interpreter);
        let sections = [
            (0u32, (0, 0)),
            (3, append(&strings)),
            (6, append(&dynamic)),
            (0x6fff_fffe, append(&verneed)),
        ];
        let section_count: u16 = if verneed.is_empty() { 3 } else { 4 };
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend_from_slice(&3u16.to_le_bytes());
        file.extend_from_slice(&62u16.to_le_bytes());
        file.extend_from_slice(&1u32.to_le_bytes());
        for word in [0, 64, base + body.len() as u64] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&0u32.to_le_bytes());
        for half in [64u16, 56, 1, 64, section_count, 1] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        let kind = if interpreter.1 == 0 { 0u32 } else { 3 };
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&4u32.to_le_bytes());
        for word in [interpreter.0, 0, 0, interpreter.1, interpreter.1, 1] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&body);
        for (kind, (at, size)) in sections.into_iter().take(section_count.into()) {
            file.extend_from_slice(&0u32.to_le_bytes());
            file.extend_from_slice(&kind.to_le_bytes());
            for word in [0, 0, at, size] {
                file.extend_from_slice(&word.to_le_bytes());
            }
            for word in [u32::from(kind > 3), 0] {
                file.extend_from_slice(&word.to_le_bytes());
            }
            for word in [1u64, 0] {
                file.extend_from_slice(&word.to_le_bytes());
            }
        }
        file
    }

    fn read(bytes: &[u8]) -> Option<Elf> {
        Elf::read(Cursor::new(bytes))
    }

    #[test]
    fn elf_has_loader_libraries_and_highest_glibc_version() {
        let bytes = build_program(
            Some("/lib64/ld-linux-x86-64.so.2"),
            &["libgcc_s.so.1", "libc.so.6"],
            &[
                "GLIBC_2.2.5",
                "GLIBC_2.34",
                "GLIBC_2.9",
                "GLIBC_PRIVATE",
                "GCC_3.0",
            ],
        );
        let elf = read(&bytes).unwrap();
        assert_eq!(
            elf.interpreter.as_deref(),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
        assert_eq!(elf.needed, ["libgcc_s.so.1", "libc.so.6"]);
        assert_eq!(elf.glibc, Some(GlibcVersion::new(2, 34)));
        assert_eq!(elf.libc(), Some(Libc::Glibc));
    }

    #[test]
    fn elf_libc_is_derived_from_loader_then_libraries() {
        let libc = |interpreter, needed: &[&str]| {
            read(&build_program(interpreter, needed, &[]))
                .unwrap()
                .libc()
        };
        assert_eq!(libc(None, &[]), Some(Libc::Static));
        assert_eq!(
            libc(Some("/lib/ld-musl-x86_64.so.1"), &["libc.so"]),
            Some(Libc::Musl)
        );
        assert_eq!(libc(Some("/lib/ld64.so.1"), &[]), Some(Libc::Glibc));
        assert_eq!(libc(Some("/lib/ld-uClibc.so.0"), &["libc.so.0"]), None);
        assert_eq!(libc(None, &["libc.so.6"]), Some(Libc::Glibc));
        assert_eq!(libc(None, &["libc.musl-x86_64.so.1"]), Some(Libc::Musl));
        assert_eq!(libc(None, &["libfoo.so"]), None);
    }

    #[test]
    fn elf_of_running_test_program_has_glibc_on_linux_gnu() {
        let elf = Elf::open(&std::env::current_exe().unwrap()).unwrap();
        if cfg!(target_os = "linux") {
            let elf = elf.unwrap();
            if cfg!(target_env = "gnu") {
                assert_eq!(elf.libc(), Some(Libc::Glibc));
                assert!(elf.glibc.unwrap() >= GlibcVersion::new(2, 2));
                assert!(elf.needed.contains(&"libc.so.6".to_owned()));
            }
        } else {
            assert_eq!(elf, None);
        }
    }

    #[test]
    fn file_of_another_format_is_not_read_as_elf() {
        for bytes in [
            &b""[..],
            b"\x7fELF",
            b"MZ",
            b"#!/bin/sh\n",
            &[0; 64],
            b"\0asm\x01\0\0\0",
        ] {
            assert_eq!(read(bytes), None);
        }
        let mut object = build_program(None, &[], &[]);
        object[16] = 1;
        assert_eq!(read(&object), None, "relocatable object file");
    }

    #[test]
    fn elf_read_stops_at_limit() {
        // A loader name of 64 MiB in a sparse file of 1 GiB exceeds the limit.
        let mut bytes = build_program(Some("/lib/ld.so"), &[], &[]);
        bytes[64 + 32..64 + 40].copy_from_slice(&(64u64 << 20).to_le_bytes());
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        file.set_len(1 << 30).unwrap();
        assert_eq!(Elf::read(file), None);
    }

    proptest! {
        #[test]
        fn elf_read_of_corrupted_file_does_not_panic(
            changes in prop::collection::vec((0usize..2000, any::<u8>()), 0..20),
            cut in 0usize..2000,
        ) {
            let mut bytes = build_program(Some("/lib/ld-linux.so.2"), &["libc.so.6"], &["GLIBC_2.4", "GLIBC_2.5"]);
            let length = bytes.len();
            for (at, byte) in changes {
                bytes[at % length] = byte;
            }
            let _ = read(&bytes);
            let _ = read(&bytes[..cut.min(length)]);
        }

        #[test]
        fn elf_read_of_random_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[&b"\x7fELF\x02\x01\x01"[..], &bytes].concat());
            let _ = read(&[&b"\x7fELF\x01\x02\x01"[..], &bytes].concat());
        }
    }
}
