use std::io::Read;

use proptest::prelude::*;
use snafu::ResultExt;

use super::error::ReadSnafu;
use super::header::BLOCK;
use super::reader::{ExtendedFields, MAX_PATH, parse_pax};
use super::writer::{copy_name, to_header};
use super::*;
use crate::error::{ErrorKind, Failure};

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    let mut reader = Reader::new(SkipByReading(bytes));
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
        writer.write_entry(entry, &mut &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

fn sample_entries() -> Vec<(Entry, Vec<u8>)> {
    let file =
        |path: &str, content: &[u8]| (Entry::file(path, content.len() as u64), content.to_vec());
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
fn written_entries_are_read_unchanged() {
    let entries = sample_entries();
    assert_eq!(read(&write(&entries)).unwrap(), entries);
}

#[test]
fn tar_crate_reads_written_entries() {
    let entries = sample_entries();
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
                to_header(entry).entry_type().as_byte(),
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
    assert!(copy_name(&mut header.as_old_mut().name, name.as_bytes()));
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

/// Removes the magic bytes of newer formats from the header.
fn without_magic(mut bytes: Vec<u8>) -> Vec<u8> {
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
fn ambiguous_tar_stream_is_rejected() {
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
        ("an owner that is too large", vec![entry_owned_by(u64::MAX)]),
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
            vec![
                without_magic(raw(b'L', "l", 2, b"b\0")),
                raw(b'0', "a", 0, b""),
            ],
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
fn entry_owned_by(uid: u64) -> Vec<u8> {
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
fn truncated_or_damaged_streams_are_rejected() {
    let whole = write(&sample_entries());
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
        .write_entry(&Entry::file("a", 4), &mut &b"abc"[..])
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
        let _ = parse_pax(text.as_bytes(), &mut ExtendedFields::default());
    }

    #[test]
    fn written_random_names_are_read_unchanged(path in "[^\\x00]{1,300}", link in "[^\\x00]{1,300}") {
        prop_assume!(path.len() <= MAX_PATH && link.len() <= MAX_PATH);
        let entry = Entry { kind: Kind::Symlink, link: link.into(), ..Entry::file(&path, 0) };
        let entries = vec![(entry, Vec::new())];
        prop_assert_eq!(read(&write(&entries)).unwrap(), entries);
    }
}
