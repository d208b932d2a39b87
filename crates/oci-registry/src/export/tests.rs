use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::blob::Blob;
use crate::manifest::{ImageManifest, Index};
use crate::memory::Memory;
use crate::storage::Target;
use crate::tarball::compression::tests::compress_all;

const LAYER: MediaType = MediaType::new_static("application/vnd.oci.image.layer.v1.tar");

/// Entry of a test layer.
#[derive(Debug, Clone)]
enum LayerEntry {
    File(String, &'static str, u32),
    Directory(String),
    Symlink(String, String),
    HardLink(String, String),
    Whiteout(String),
    Opaque(String),
}

use LayerEntry::{Directory, HardLink, Opaque, Symlink, Whiteout};

fn file(path: &str, content: &'static str) -> LayerEntry {
    LayerEntry::File(path.into(), content, 0o644)
}

fn directory(path: &str) -> LayerEntry {
    Directory(path.into())
}

fn symlink(path: &str, target: &str) -> LayerEntry {
    Symlink(path.into(), target.into())
}

fn hard_link(path: &str, target: &str) -> LayerEntry {
    HardLink(path.into(), target.into())
}

fn whiteout(path: &str) -> LayerEntry {
    Whiteout(path.into())
}

fn opaque(path: &str) -> LayerEntry {
    Opaque(path.into())
}

/// Returns the whiteout name for a path: `d/.wh.x` hides `d/x`.
fn whiteout_name(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((directory, name)) => format!("{directory}/.wh.{name}"),
        None => format!(".wh.{path}"),
    }
}

/// Builds a layer with the tar crate, as other tools do.
fn build_tar(ops: &[LayerEntry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for op in ops {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Regular);
        match op {
            LayerEntry::File(path, content, mode) => {
                header.set_mode(*mode);
                header.set_size(content.len() as u64);
                builder
                    .append_data(&mut header, path, content.as_bytes())
                    .unwrap();
            }
            Directory(path) => {
                header.set_mode(0o755);
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, path, io::empty()).unwrap();
            }
            Symlink(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, path, target).unwrap();
            }
            HardLink(path, target) => {
                header.set_entry_type(tar::EntryType::Link);
                builder.append_link(&mut header, path, target).unwrap();
            }
            Whiteout(path) => {
                builder
                    .append_data(&mut header, whiteout_name(path), io::empty())
                    .unwrap();
            }
            Opaque(path) => {
                let path = format!("{path}/.wh..wh..opq");
                builder.append_data(&mut header, path, io::empty()).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

async fn create_image(layers: Vec<Vec<u8>>) -> (Memory, Manifest) {
    let memory = Memory::new();
    let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, "{}");
    memory.push_blob(&config).await.unwrap();
    let mut image = ImageManifest::new(MediaType::EMPTY, config.descriptor().clone());
    for layer in layers {
        let blob = Blob::from_bytes(LAYER, layer);
        memory.push_blob(&blob).await.unwrap();
        image.layers.push(blob.descriptor().clone());
    }
    (memory, Manifest::from_image(image).unwrap())
}

async fn export_layers(layers: Vec<Vec<u8>>, options: ExportOptions) -> crate::Result<Vec<u8>> {
    let (memory, manifest) = create_image(layers).await;
    let mut bytes = Cursor::new(Vec::new());
    let outcome = export(&memory, &manifest, &mut bytes, options).await;
    let bytes = bytes.into_inner();
    assert!(
        outcome.is_ok() || bytes.is_empty(),
        "no bytes of a rejected image are written"
    );
    outcome.map(|()| bytes)
}

async fn export_entries(layers: &[&[LayerEntry]]) -> crate::Result<Vec<u8>> {
    let layers = layers.iter().map(|layer| build_tar(layer)).collect();
    export_layers(layers, ExportOptions::default()).await
}

/// Lists the entries of a stream in order, each with its type, target or content.
fn list_entries(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let link = entry
            .link_name_bytes()
            .map(|link| String::from_utf8(link.into_owned()).unwrap());
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        match (entry.header().entry_type(), link) {
            (tar::EntryType::Directory, _) => path,
            (tar::EntryType::Symlink, Some(link)) => format!("{path} -> {link}"),
            (tar::EntryType::Link, Some(link)) => format!("{path} = {link}"),
            _ => format!("{path}: {content}"),
        }
    });
    entries.collect()
}

async fn list_exported(layers: &[&[LayerEntry]]) -> Vec<String> {
    list_entries(&export_entries(layers).await.unwrap())
}

#[tokio::test]
async fn upper_layers_replace_merge_and_hide_lower_entries() {
    let found = list_exported(&[
        &[
            directory("etc"),
            file("etc/a", "1"),
            file("etc/b", "1"),
            file("old/x/y", "1"),
            file("gone", "1"),
        ],
        &[
            file("etc/a", "2"),
            whiteout("etc/b"),
            whiteout("gone"),
            opaque("old"),
            file("old/new", "2"),
        ],
        &[file("etc/c", "3"), whiteout("absent/x"), file("gone", "3")],
    ])
    .await;
    assert_eq!(
        found,
        [
            "etc/",
            "old/",
            "etc/a: 2",
            "old/new: 2",
            "etc/c: 3",
            "gone: 3"
        ]
    );
}

#[tokio::test]
async fn whiteout_hides_entries_of_lower_layers_only() {
    let lower = [file("d/old", "1"), file("d/sub/old", "1"), file("f", "1")];
    for upper in [
        [
            opaque("d"),
            whiteout("f"),
            file("d/sub/new", "2"),
            file("f", "2"),
        ],
        [
            file("d/sub/new", "2"),
            file("f", "2"),
            opaque("d"),
            whiteout("f"),
        ],
        [
            whiteout("d"),
            whiteout("f"),
            file("d/sub/new", "2"),
            file("f", "2"),
        ],
        [
            file("f", "2"),
            file("d/sub/new", "2"),
            whiteout("f"),
            whiteout("d"),
        ],
    ] {
        let mut found = list_exported(&[&lower, &upper]).await;
        found.sort();
        assert_eq!(found, ["d/", "d/sub/", "d/sub/new: 2", "f: 2"], "{upper:?}");
    }
}

#[tokio::test]
async fn hard_link_keeps_content_of_a_replaced_target() {
    let found = list_exported(&[
        &[
            file("a", "old"),
            hard_link("b", "a"),
            hard_link("z/c", "./a"),
        ],
        &[file("a", "new")],
        &[hard_link("d", "b"), whiteout("b")],
    ])
    .await;
    assert_eq!(found, ["z/", "d: old", "z/c = d", "a: new"]);
}

#[tokio::test]
async fn entry_of_other_type_replaces_lower_entry() {
    let found = list_exported(&[
        &[
            file("a/b", "1"),
            file("c", "1"),
            symlink("l", "a"),
            directory("real"),
            symlink("lib", "real"),
        ],
        &[
            file("a", "2"),
            directory("c"),
            file("c/d", "2"),
            directory("l"),
            file("l/x", "2"),
            file("lib/y", "2"),
        ],
    ])
    .await;
    let expected = [
        "c/",
        "l/",
        "real/",
        "lib -> real",
        "a: 2",
        "c/d: 2",
        "l/x: 2",
        "real/y: 2",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn symbolic_links_in_paths_resolve_within_the_root() {
    let lower = [
        symlink("up", "../../.."),
        symlink("abs", "/etc"),
        directory("etc"),
    ];
    let upper = [
        file("up/a", "1"),
        file("abs/b", "1"),
        file("/c", "1"),
        file("./d//e", "1"),
    ];
    let layers = vec![build_tar(&lower), build_unchecked_tar(&upper)];
    let found = export_layers(layers, ExportOptions::default())
        .await
        .unwrap();
    let found = list_entries(&found);
    let expected = [
        "d/",
        "etc/",
        "up -> ../../..",
        "abs -> /etc",
        "a: 1",
        "etc/b: 1",
        "c: 1",
        "d/e: 1",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn export_keeps_metadata_and_attributes() {
    let mut entry = Entry::file("bin/ping", 4);
    entry.mode = 0o4755;
    (entry.uid, entry.gid, entry.mtime) = (1000, 1 << 30, 1_700_000_000);
    entry
        .attributes
        .insert(b"security.capability".to_vec(), vec![0, 1, 255]);
    let device = Entry {
        kind: Kind::CharacterDevice,
        device: (1, 3),
        ..Entry::file("dev/null", 0)
    };
    let mut writer = Writer::new(Vec::new());
    writer.write_entry(&entry, &mut &b"ping"[..]).unwrap();
    writer.write_entry(&device, &mut io::empty()).unwrap();
    let layer = writer.finish().unwrap();
    let bytes = export_layers(vec![layer], ExportOptions::default())
        .await
        .unwrap();
    let mut reader = Reader::new(SkipByReading(&bytes[..]));
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        found.push(entry);
    }
    assert_eq!(found[2..], [entry, device]);
    assert_eq!(
        (found[0].kind, found[0].mode, &found[0].path[..]),
        (Kind::Directory, 0o755, &b"bin/"[..])
    );
}

#[tokio::test]
async fn compressed_layer_exports_to_same_bytes_as_plain_layer() {
    let large = "content".repeat(30_000).leak();
    let layer = build_tar(&[directory("d"), file("d/f", large)]);
    let options = ExportOptions::default();
    let plain = export_layers(vec![layer.clone()], options.clone()).await;
    let plain = plain.unwrap();
    assert_eq!(
        list_entries(&plain),
        ["d/".to_owned(), format!("d/f: {large}")]
    );
    for (compression, layer) in compress_all(&layer) {
        let bytes = export_layers(vec![layer], options.clone()).await;
        assert!(bytes.unwrap() == plain, "{compression:?}");
    }
}

#[tokio::test]
async fn export_of_index_artifact_or_absent_layer_fails() {
    let (memory, manifest) = create_image(vec![Vec::new()]).await;
    let index = Manifest::from_index(Index::new(None, vec![manifest.descriptor()])).unwrap();
    let kind = |outcome: crate::Result<()>| outcome.unwrap_err().kind();
    let outcome = export(&memory, &index, io_sink(), ExportOptions::default()).await;
    assert_eq!(kind(outcome), ErrorKind::InvalidInput);
    let mut artifact = manifest.as_image().unwrap().clone();
    artifact.layers[0].media_type = "text/plain".into();
    let artifact = Manifest::from_image(artifact).unwrap();
    let outcome = export(&memory, &artifact, io_sink(), ExportOptions::default()).await;
    assert_eq!(kind(outcome), ErrorKind::Unsupported);
    let absent = Blob::from_bytes(LAYER, "absent");
    let mut image = manifest.as_image().unwrap().clone();
    image.layers.push(absent.descriptor().clone());
    let image = Manifest::from_image(image).unwrap();
    let outcome = export(&memory, &image, io_sink(), ExportOptions::default()).await;
    assert_eq!(kind(outcome), ErrorKind::NotFound);
}

fn io_sink() -> Cursor<Vec<u8>> {
    Cursor::new(Vec::new())
}

#[tokio::test]
async fn malformed_layers_are_rejected() {
    let deep = "d/".repeat(1500) + "f";
    for (why, layers) in [
        ("out of the root", vec![vec![empty_file("../x")]]),
        (
            "out of the root in the middle of a path",
            vec![vec![empty_file("a/../../x")]],
        ),
        (
            "a link to a missing file",
            vec![vec![hard_link("a", "absent")]],
        ),
        (
            "a link to itself",
            vec![vec![file("a", ""), hard_link("a", "a")]],
        ),
        (
            "a link to a directory",
            vec![vec![directory("d"), hard_link("a", "d")]],
        ),
        (
            "a link out of the root",
            vec![vec![empty_file("x"), hard_link("a", "../x")]],
        ),
        (
            "below a file",
            vec![vec![file("a", "")], vec![file("a/b", "")]],
        ),
        (
            "links in a circle",
            vec![vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "")]],
        ),
        (
            "a whiteout without a name",
            vec![vec![empty_file("d/.wh.")]],
        ),
        (
            "a whiteout of its own directory",
            vec![vec![empty_file("d/.wh..")]],
        ),
        (
            "a whiteout of the parent",
            vec![vec![empty_file("d/.wh...")]],
        ),
        ("the root is a file", vec![vec![empty_file("./")]]),
        ("too deep", vec![vec![file(&deep, "")]]),
    ] {
        let layers = layers
            .iter()
            .map(|layer| build_unchecked_tar(layer))
            .collect();
        let options = ExportOptions {
            max_entries: 1000,
            ..ExportOptions::default()
        };
        let error = export_layers(layers, options).await.expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{why}: {error}");
    }
    for (why, layer) in [
        ("no tar", b"x".repeat(2000)),
        ("broken gzip", [&[0x1f, 0x8b, 8, 0][..], &[7; 100]].concat()),
        (
            "broken zstd",
            [&[0x28, 0xb5, 0x2f, 0xfd][..], &[7; 100]].concat(),
        ),
        ("broken xz", [&b"\xfd7zXZ\0"[..], &[7; 100]].concat()),
        ("broken bzip2", [&b"BZh91AY&SY"[..], &[7; 100]].concat()),
        (
            "cut off",
            build_tar(&[file("a", "content")])[..520].to_vec(),
        ),
    ] {
        let error = export_layers(vec![layer], ExportOptions::default())
            .await
            .expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{why}: {error}");
    }
}

/// Creates an entry for an empty file. The name may be invalid if the layer is built by [`build_unchecked_tar`].
fn empty_file(name: &str) -> LayerEntry {
    file(name, "")
}

/// Builds a layer without the checks of the tar crate, so that it can contain invalid names.
fn build_unchecked_tar(ops: &[LayerEntry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for op in ops {
        let mut bytes = "";
        let (path, kind, link) = match op {
            LayerEntry::File(path, content, _) => {
                bytes = content;
                (path.clone(), Kind::File, "")
            }
            Directory(path) => (path.clone(), Kind::Directory, ""),
            Symlink(path, link) => (path.clone(), Kind::Symlink, link.as_str()),
            HardLink(path, link) => (path.clone(), Kind::HardLink, link.as_str()),
            Whiteout(path) => (whiteout_name(path), Kind::File, ""),
            Opaque(path) => (format!("{path}/.wh..wh..opq"), Kind::File, ""),
        };
        let entry = Entry {
            kind,
            link: link.into(),
            ..Entry::file(&path, bytes.len() as u64)
        };
        writer.write_entry(&entry, &mut bytes.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

#[tokio::test]
async fn image_over_a_limit_is_rejected_before_any_output() {
    let names: Vec<_> = (0..100).map(|at| file(&format!("f{at}"), "x")).collect();
    let of = |max_entries| ExportOptions {
        max_entries,
        ..ExportOptions::default()
    };
    assert!(
        export_layers(vec![build_tar(&names)], of(100))
            .await
            .is_ok()
    );
    let error = export_layers(vec![build_tar(&names)], of(99))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    // Whiteouts and directories that exist only as parents are counted, too.
    let hidden: Vec<_> = (0..100).map(|at| whiteout(&format!("f{at}"))).collect();
    assert!(
        export_layers(vec![build_tar(&names), build_tar(&hidden)], of(199))
            .await
            .is_err()
    );
    assert!(
        export_layers(vec![build_tar(&[file("a/b/c/d", "")])], of(3))
            .await
            .is_err()
    );

    let mut zeros = Writer::new(Vec::new());
    zeros
        .write_entry(&Entry::file("zeros", 2 << 20), &mut io::repeat(0))
        .unwrap();
    for (compression, bomb) in compress_all(&zeros.finish().unwrap()) {
        assert!(bomb.len() < 1 << 17, "{compression:?}");
        let of = |limit| ExportOptions {
            max_decompressed: Some(limit),
            ..ExportOptions::default()
        };
        let error = export_layers(vec![bomb.clone()], of((2 << 20) - 1)).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(
            error.to_string().contains("the limit of 2097151 bytes"),
            "{error}"
        );
        // The limit applies to all layers together.
        let both = vec![bomb.clone(), bomb.clone()];
        assert!(export_layers(vec![bomb], of(3 << 20)).await.is_ok());
        assert!(export_layers(both, of(3 << 20)).await.is_err());
    }
}

#[tokio::test]
async fn write_error_aborts_export_and_removes_temporary_files() {
    #[derive(Debug)]
    struct Full;
    impl AsyncWrite for Full {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &[u8],
        ) -> std::task::Poll<io::Result<usize>> {
            std::task::Poll::Ready(Err(io::ErrorKind::StorageFull.into()))
        }
        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let options = ExportOptions {
        scratch: Some(scratch.path().to_owned()),
        ..ExportOptions::default()
    };
    let (memory, manifest) = create_image(vec![build_tar(&[file("a", "x")])]).await;
    let error = export(&memory, &manifest, Full, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(error.to_string(), "failed to write the root filesystem");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

/// Reference implementation on a real filesystem: unpacks each layer over the previous layer, as a container runtime
/// does.
#[cfg(unix)]
mod reference {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    /// Resolves the parent directory of a name. Creates missing directories if `make` is set.
    fn parent(root: &Path, name: &str, make: bool) -> io::Result<Option<PathBuf>> {
        let mut at = root.to_owned();
        let parts: Vec<_> = name.split('/').collect();
        for part in &parts[..parts.len() - 1] {
            at.push(part);
            // If a link refers to a missing directory, the directory is created at the target of the link.
            let mut end = at.clone();
            while let Ok(target) = std::fs::read_link(&end) {
                if std::fs::metadata(&end).is_ok() {
                    break;
                }
                match std::fs::metadata(&end) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => return other.map(|_| None),
                }
                end = end.parent().unwrap().join(target);
            }
            match std::fs::metadata(&end) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if !make {
                        return Ok(None);
                    }
                    std::fs::create_dir(&end)?;
                }
                Err(error) => return Err(error),
            }
            at = end;
        }
        Ok(Some(at))
    }

    fn remove(path: &Path) -> io::Result<()> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
            Ok(_) => std::fs::remove_file(path),
            Err(_) => Ok(()),
        }
    }

    fn apply(root: &Path, op: &LayerEntry) -> io::Result<()> {
        let last = |name: &str| name.rsplit('/').next().unwrap().to_owned();
        let resolve = |name: &str| -> io::Result<PathBuf> {
            let parent = parent(root, name, true)?.expect("it was created");
            Ok(parent.join(last(name)))
        };
        match op {
            LayerEntry::File(name, content, mode) => {
                let path = resolve(name)?;
                remove(&path)?;
                std::fs::write(&path, content)?;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode))
            }
            Directory(name) => {
                let path = resolve(name)?;
                if !std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                    remove(&path)?;
                    std::fs::create_dir(&path)?;
                }
                Ok(())
            }
            Symlink(name, target) => {
                let path = resolve(name)?;
                remove(&path)?;
                symlink(target, path)
            }
            HardLink(name, target) => {
                let path = resolve(name)?;
                remove(&path)?;
                let parent = parent(root, target, false)?.ok_or(io::ErrorKind::NotFound)?;
                std::fs::hard_link(parent.join(last(target)), path)
            }
            Whiteout(name) => match parent(root, name, false)? {
                Some(parent) => remove(&parent.join(last(name))),
                None => Ok(()),
            },
            Opaque(name) => {
                let Some(directory) = parent(root, &format!("{name}/x"), false)? else {
                    return Ok(());
                };
                for entry in std::fs::read_dir(directory)? {
                    remove(&entry?.path())?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn unpack(layers: &[Vec<LayerEntry>], root: &Path) -> io::Result<()> {
        layers.iter().flatten().try_for_each(|op| apply(root, op))
    }

    /// Returns a description of each path below a directory: its type, its content, and all hard links of the same
    /// file.
    pub(super) fn describe_tree(root: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut first = BTreeMap::new();
        let mut rest = vec![PathBuf::new()];
        while let Some(directory) = rest.pop() {
            for entry in std::fs::read_dir(root.join(&directory)).unwrap() {
                let name = directory.join(entry.unwrap().file_name());
                let path = root.join(&name);
                let metadata = std::fs::symlink_metadata(&path).unwrap();
                let what = if metadata.is_dir() {
                    rest.push(name.clone());
                    "a directory".to_owned()
                } else if metadata.is_symlink() {
                    format!("a link to {}", std::fs::read_link(&path).unwrap().display())
                } else {
                    first
                        .entry(metadata.ino())
                        .or_insert_with(Vec::new)
                        .push(name.clone());
                    let content = std::fs::read_to_string(&path).unwrap();
                    format!("{content} {:o}", metadata.mode() & 0o777)
                };
                found.insert(name.display().to_string(), what);
            }
        }
        for mut names in first.into_values().filter(|names| names.len() > 1) {
            names.sort();
            for name in &names {
                let what = found.get_mut(&name.display().to_string()).unwrap();
                *what = format!("{what} {names:?}");
            }
        }
        found
    }
}

#[cfg(unix)]
fn path_strategy() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "c"], 1..4).prop_map(|parts| parts.join("/"))
}

#[cfg(unix)]
fn layer_strategy() -> impl Strategy<Value = Vec<LayerEntry>> {
    let hidden = prop_oneof![
        path_strategy().prop_map(Whiteout),
        path_strategy().prop_map(Opaque)
    ];
    let content = prop_oneof!["", "one", "two"].prop_map(|text| match text.as_str() {
        "" => "",
        "one" => "one",
        _ => "two",
    });
    let mode = prop_oneof![Just(0o644), Just(0o755)];
    let shown = prop_oneof![
        4 => (path_strategy(), content, mode).prop_map(|(name, content, mode)| LayerEntry::File(name, content, mode)),
        3 => path_strategy().prop_map(Directory),
        2 => (path_strategy(), "[abc]").prop_map(|(name, target)| Symlink(name, target)),
        2 => (path_strategy(), path_strategy()).prop_map(|(name, target)| HardLink(name, target)),
    ];
    let hidden = proptest::collection::vec(hidden, 0..3);
    (hidden, proptest::collection::vec(shown, 0..6))
        .prop_map(|(hidden, shown)| [hidden, shown].concat())
}

#[cfg(unix)]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn export_matches_layers_unpacked_to_a_filesystem(layers in proptest::collection::vec(layer_strategy(), 1..4)) {
        let home = tempfile::tempdir().unwrap();
        let (expected, actual) = (home.path().join("expected"), home.path().join("actual"));
        std::fs::create_dir(&expected).unwrap();
        let applied = reference::unpack(&layers, &expected);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let tars = layers.iter().map(|layer| build_tar(layer)).collect();
        let flat = runtime.block_on(export_layers(tars, ExportOptions::default()));
        prop_assert_eq!(applied.is_ok(), flat.is_ok(), "{:?} {:?}", applied, flat.err());
        if applied.is_ok() {
            let tars = layers.iter().map(|layer| build_tar(layer)).collect();
            let flat = runtime.block_on(export_layers(tars, ExportOptions::default())).unwrap();
            tar::Archive::new(&flat[..]).unpack(&actual).unwrap();
            prop_assert_eq!(reference::describe_tree(&expected), reference::describe_tree(&actual));
        }
    }
}
