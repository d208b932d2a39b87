use std::io::Write;

use futures_util::TryStreamExt;

use super::*;
use crate::copy::{CopyOptions, copy};
use crate::error::ErrorKind;
use crate::manifest::{Annotations, ImageManifest, Index, MediaType};
use crate::memory::Memory;
use crate::reference::ImageName;
use crate::tarball::compression::tests::compress_all;

const LAYER: MediaType = MediaType::new_static("application/vnd.oci.image.layer.v1.tar");

fn docker(name: &str) -> ArchiveFormat {
    ArchiveFormat::Docker(Some(name.parse().unwrap()))
}

fn tag_identifier(tag: &str) -> Identifier {
    Identifier::Tag(tag.parse().unwrap())
}

async fn push(target: &dyn Target, content: &'static str, tag: &str) -> Manifest {
    let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, "{}");
    let layer = Blob::from_bytes(LAYER, content);
    let mut image = ImageManifest::new(MediaType::EMPTY, config.descriptor().clone());
    image.artifact_type = None;
    image.layers = vec![layer.descriptor().clone()];
    image.annotations = Annotations::from([("made.by".into(), "a test".into())]);
    let manifest = Manifest::from_image(image).unwrap();
    for blob in [config, layer] {
        target.push_blob(&blob).await.unwrap();
    }
    target.push_manifest(&manifest).await.unwrap();
    target.tag(&manifest, &tag.parse().unwrap()).await.unwrap();
    manifest
}

async fn tags(source: &dyn Source) -> Vec<String> {
    let tags = source.tags().map_ok(|tag| tag.to_string());
    tags.try_collect().await.unwrap()
}

fn file_names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn tagged_artifact_is_found_after_reopening() {
    for format in [ArchiveFormat::Oci, docker("acme/widgets")] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/archive.tar");
        let archive = Archive::create(&path, format.clone()).await.unwrap();
        assert!(!path.exists());
        let one = push(&archive, "one", "1").await;
        let two = push(&archive, "two", "2").await;
        archive.tag(&two, &"latest".parse().unwrap()).await.unwrap();
        for archive in [
            &archive,
            &Archive::open(&path, format.clone()).await.unwrap(),
        ] {
            assert_eq!(tags(archive).await, ["1", "2", "latest"]);
            assert_eq!(archive.manifest(&tag_identifier("1")).await.unwrap(), one);
            let latest = archive.manifest(&tag_identifier("latest")).await.unwrap();
            assert_eq!((latest.digest(), &latest), (two.digest(), &two));
            let layer = &latest.as_image().unwrap().layers[0];
            let content = archive.blob(layer).await.unwrap();
            assert_eq!(content.read_to_end(10).await.unwrap(), "two");
        }
        assert_eq!(file_names(path.parent().unwrap()), ["archive.tar"]);
    }
}

#[tokio::test]
async fn cancelled_write_leaves_no_temporary_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("archive.tar");
    let archive = Archive::create(&path, ArchiveFormat::Oci).await.unwrap();
    let archive = archive.with_single_write();
    push(&archive, "one", "1").await;
    let mut writing = Box::pin(archive.finish());
    assert!(futures_util::poll!(&mut writing).is_pending());
    drop(writing);
    drop(archive);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !file_names(home.path()).is_empty() {
        let names = file_names(home.path());
        assert!(std::time::Instant::now() < deadline, "{names:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn archives_with_same_content_are_identical() {
    for format in [ArchiveFormat::Oci, docker("widgets")] {
        let home = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        for order in [["1", "2"], ["2", "1"]] {
            let path = home.path().join(order.concat());
            for tag in order {
                // The archive is opened again for each write, as separate processes do.
                let archive = Archive::create(&path, format.clone()).await.unwrap();
                push(&archive, if tag == "1" { "one" } else { "two" }, tag).await;
            }
            files.push(std::fs::read(path).unwrap());
        }
        assert!(files[0] == files[1]);
        let mut entries = tar::Archive::new(&files[0][..]);
        let mut last = String::new();
        for entry in entries.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            let owned = (
                header.mtime().unwrap(),
                header.uid().unwrap(),
                header.gid().unwrap(),
            );
            assert_eq!((owned, header.mode().unwrap()), ((0, 0, 0), 0o644));
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            assert!(last < name);
            last = name;
        }
    }
}

#[tokio::test]
async fn docker_archive_is_read_by_image_name_and_as_layout() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.tar");
    let archive = Archive::create(&path, docker("widgets")).await.unwrap();
    let image = push(&archive, "one", "1").await;
    let other = Archive::create(&path, docker("ghcr.io/acme/other"))
        .await
        .unwrap();
    push(&other, "two", "1").await;
    let all = Archive::open(&path, ArchiveFormat::Docker(None))
        .await
        .unwrap();
    assert_eq!(tags(&all).await, ["1"]);
    let error = all.manifest(&tag_identifier("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let full = docker("docker.io/library/widgets");
    let archive = Archive::open(&path, full).await.unwrap();
    assert_eq!(archive.manifest(&tag_identifier("1")).await.unwrap(), image);
    let layout = Archive::open(&path, ArchiveFormat::Oci).await.unwrap();
    assert_eq!(
        layout
            .manifest(&image.digest().clone().into())
            .await
            .unwrap(),
        image
    );

    let bytes = std::fs::read(&path).unwrap();
    let mut entries = tar::Archive::new(&bytes[..]);
    let entry = entries.entries().unwrap().map(Result::unwrap);
    let mut entry = entry
        .into_iter()
        .find(|entry| &*entry.path_bytes() == b"manifest.json")
        .unwrap();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    let config = image.as_image().unwrap().config.digest.encoded().to_owned();
    assert!(
        text.contains(&format!(r#""Config":"blobs/sha256/{config}""#)),
        "{text}"
    );
    assert!(text.contains(r#""RepoTags":["widgets:1"]"#), "{text}");
    assert!(
        text.contains(r#""RepoTags":["ghcr.io/acme/other:1"]"#),
        "{text}"
    );
}

#[tokio::test]
async fn docker_archive_rejects_index_and_missing_image_name() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.tar");
    let archive = Archive::create(&path, docker("widgets")).await.unwrap();
    let image = push(&archive, "one", "1").await;
    let before = std::fs::read(&path).unwrap();
    let index = Manifest::from_index(Index::new(None, vec![image.descriptor()])).unwrap();
    archive.push_manifest(&index).await.unwrap();
    let tag: Tag = "2".parse().unwrap();
    assert_eq!(
        archive.tag(&index, &tag).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let nameless = Archive::create(&path, ArchiveFormat::Docker(None))
        .await
        .unwrap();
    let error = nameless.tag(&image, &tag).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(format!("{:?}", error.hints()).contains(":NAME:2"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn copy_without_tag_is_found_by_digest_after_reopening() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.tar");
    let memory = Memory::new();
    let manifest = push(&memory, "one", "1").await;
    let source: Arc<dyn Source> = Arc::new(memory);
    let archive = Archive::create(&path, ArchiveFormat::Oci).await.unwrap();
    let root = manifest.digest().clone().into();
    copy(&source, &root, &archive, CopyOptions::default())
        .await
        .unwrap();
    let written = std::fs::metadata(&path).unwrap().modified().unwrap();
    let again = Archive::open(&path, ArchiveFormat::Oci).await.unwrap();
    assert_eq!(again.manifest(&root).await.unwrap(), manifest);
    let listed: Vec<_> = again.state().listing.entries().to_vec();
    assert_eq!(listed[0].digest, *manifest.digest());
    assert!(tags(&again).await.is_empty());
    again.finish().await.unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().modified().unwrap(),
        written
    );
    assert_eq!(file_names(home.path()), ["a.tar"]);
}

#[tokio::test]
async fn write_after_change_by_another_process_is_a_conflict() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.tar");
    let archives = [
        Archive::create(&path, ArchiveFormat::Oci).await.unwrap(),
        Archive::create(&path, ArchiveFormat::Oci).await.unwrap(),
    ];
    push(&archives[0], "one", "1").await;
    let written = std::fs::read(&path).unwrap();
    let blob = Blob::from_bytes(LAYER, "two");
    archives[1].push_blob(&blob).await.unwrap();
    assert_eq!(
        archives[1].finish().await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(std::fs::read(&path).unwrap(), written);
    drop(archives);
    assert_eq!(file_names(home.path()), ["a.tar"]);
}

#[tokio::test]
async fn open_stream_reads_old_content_after_rewrite() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.tar");
    let archive = Archive::create(&path, ArchiveFormat::Oci).await.unwrap();
    let one = push(&archive, "one", "1").await;
    let layer = one.as_image().unwrap().layers[0].clone();
    let open = archive.blob(&layer).await.unwrap();
    push(&archive, "another that comes before or after", "2").await;
    assert_eq!(open.read_to_end(10).await.unwrap(), "one");
    assert_eq!(
        archive
            .blob(&layer)
            .await
            .unwrap()
            .read_to_end(10)
            .await
            .unwrap(),
        "one"
    );
}

/// Creates a tar file with these entries.
fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

async fn open(
    bytes: &[u8],
    format: ArchiveFormat,
) -> (tempfile::NamedTempFile, crate::Result<Archive>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let archive = Archive::open(file.path(), format).await;
    (file, archive)
}

#[tokio::test]
async fn docker_image_without_manifest_gets_generated_manifest() {
    let [(_, gzip), _, (_, xz), (_, bzip2)] = compress_all(b"a tar");
    let config = br#"{"architecture":"amd64","os":"linux"}"#;
    let saved = br#"[{"Config":"c.json","RepoTags":["widgets:1","localhost:5000/w:2","odd"],"Layers":["a/layer.tar","b/layer.tar","a/layer.tar","xz","bzip2"]},{"Config":"c.json","RepoTags":null,"Layers":["b/layer.tar"]}]"#;
    let bytes = tar_of(&[
        ("a/", b""),
        ("./a/layer.tar", b"plain"),
        ("b/layer.tar", &gzip),
        ("xz", &xz),
        ("bzip2", &bzip2),
        ("c.json", config),
        ("repositories", b"{}"),
        ("manifest.json", saved),
    ]);
    let (file, archive) = open(&bytes, ArchiveFormat::Docker(None)).await;
    let archive = archive.unwrap();
    assert_eq!(tags(&archive).await, ["1", "2"]);
    let manifest = archive.manifest(&tag_identifier("1")).await.unwrap();
    let image = manifest.as_image().unwrap();
    assert_eq!(image.config.digest, Digest::sha256(config));
    let kinds: Vec<_> = image
        .layers
        .iter()
        .map(|layer| layer.media_type.as_str())
        .collect();
    let suffixes = kinds.iter().map(|kind| kind.strip_prefix(LAYER.as_str()));
    let suffixes: Vec<_> = suffixes.map(Option::unwrap).collect();
    assert_eq!(suffixes, ["", "+gzip", "", "+xz", "+bzip2"]);
    assert_eq!(image.layers[0], image.layers[2]);
    let content = archive.blob(&image.layers[1]).await.unwrap();
    assert_eq!(content.read_to_end(100).await.unwrap(), gzip);
    let only = |name: &str| ArchiveFormat::Docker(Some(name.parse::<ImageName>().unwrap()));
    let scoped = Archive::open(file.path(), only("localhost:5000/w"))
        .await
        .unwrap();
    assert_eq!(tags(&scoped).await, ["2"]);
    assert_eq!(
        scoped
            .manifest(&tag_identifier("1"))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );

    // Existing content keeps its digests when an image is added.
    let archive = Archive::create(file.path(), only("widgets")).await.unwrap();
    push(&archive, "new", "3").await;
    let again = Archive::open(file.path(), ArchiveFormat::Docker(None))
        .await
        .unwrap();
    assert_eq!(tags(&again).await, ["1", "2", "3"]);
    assert_eq!(
        again.manifest(&tag_identifier("1")).await.unwrap(),
        manifest
    );
}

#[tokio::test]
async fn invalid_archives_are_rejected() {
    let marker = (
        &b"oci-layout"[..],
        &br#"{"imageLayoutVersion":"1.0.0"}"#[..],
    );
    let marker = (std::str::from_utf8(marker.0).unwrap(), marker.1);
    let with = |header: &dyn Fn(&mut tar::Header)| {
        let mut bytes = tar_of(&[marker]);
        bytes.truncate(1024);
        let mut entry = tar::Header::new_ustar();
        entry.set_path("x").unwrap();
        entry.set_mode(0o644);
        entry.set_size(0);
        header(&mut entry);
        entry.set_cksum();
        bytes.extend_from_slice(entry.as_bytes());
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    };
    let link = |kind| {
        with(&move |header| {
            header.set_entry_type(kind);
            header.set_link_name("oci-layout").unwrap();
        })
    };
    let (good, archive) = open(&tar_of(&[marker]), ArchiveFormat::Oci).await;
    assert!(archive.is_ok() && good.path().exists());
    let saved = br#"[{"Config":"../../etc/passwd","Layers":[]}]"#;
    for (why, bytes) in [
        ("symlink", link(tar::EntryType::Symlink)),
        ("hard link", link(tar::EntryType::Link)),
        (
            "device",
            with(&|header| header.set_entry_type(tar::EntryType::Block)),
        ),
        (
            "fifo",
            with(&|header| header.set_entry_type(tar::EntryType::Fifo)),
        ),
        (
            "sparse",
            with(&|header| header.set_entry_type(tar::EntryType::GNUSparse)),
        ),
        ("twice", tar_of(&[marker, marker])),
        (
            "twice, written otherwise",
            tar_of(&[marker, ("./oci-layout", marker.1)]),
        ),
        ("out of it", tar_of(&[marker, ("a/../../x", b"")])),
        ("absolute", tar_of(&[marker, ("/x", b"")])),
        ("cut off", with(&|header| header.set_size(1 << 40))),
        ("no layout", tar_of(&[("x", b"")])),
        (
            "other version",
            tar_of(&[("oci-layout", br#"{"imageLayoutVersion":"2"}"#)]),
        ),
        ("no json", tar_of(&[marker, ("index.json", b"<")])),
        ("no tar", b"x".repeat(2000)),
        ("nothing", Vec::new()),
        ("names out of it", tar_of(&[("manifest.json", saved)])),
    ] {
        let format = if why.starts_with("names") {
            ArchiveFormat::Docker(None)
        } else {
            ArchiveFormat::Oci
        };
        let error = open(&bytes, format).await.1.expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{why}: {error}");
    }
    let (_, zipped) = open(&[0x1f, 0x8b, 8, 0], ArchiveFormat::Oci).await;
    assert_eq!(zipped.unwrap_err().kind(), ErrorKind::Unsupported);
    let absent = Archive::open(
        good.path()
            .join("x")
            .parent()
            .unwrap()
            .with_extension("absent"),
        ArchiveFormat::Oci,
    );
    assert_eq!(absent.await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn links_in_docker_archives_are_skipped() {
    let mut header = tar::Header::new_ustar();
    header.set_path("x").unwrap();
    header.set_mode(0o777);
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_link_name("c.json").unwrap();
    header.set_cksum();
    let link = [&header.as_bytes()[..], &[0; 1024]].concat();
    let entries: [(&str, &[u8]); 2] = [
        ("c.json", b"{}"),
        ("manifest.json", br#"[{"Config":"c.json","Layers":["x"]}]"#),
    ];
    let mut bytes = tar_of(&entries);
    bytes.truncate(bytes.len() - 1024);
    bytes.extend_from_slice(&link);
    let error = open(&bytes, ArchiveFormat::Docker(None))
        .await
        .1
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(
        error
            .to_string()
            .contains("`x` is missing, but an image refers to it"),
        "{error}"
    );
    let entries = [
        entries[0],
        ("manifest.json", br#"[{"Config":"c.json","Layers":[]}]"#),
    ];
    let mut bytes = tar_of(&entries);
    bytes.truncate(bytes.len() - 1024);
    bytes.extend_from_slice(&link);
    assert!(open(&bytes, ArchiveFormat::Docker(None)).await.1.is_ok());
}

#[tokio::test]
async fn corrupt_content_fails_with_mismatch() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.tar");
    let archive = Archive::create(&path, ArchiveFormat::Oci).await.unwrap();
    let manifest = push(&archive, "some content", "1").await;
    let bytes = std::fs::read(&path).unwrap();
    let flip = |what: &[u8]| {
        let at = bytes
            .windows(what.len())
            .position(|window| window == what)
            .unwrap();
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    };
    let (_file, flipped) = open(&flip(b"some content"), ArchiveFormat::Oci).await;
    let layer = manifest.as_image().unwrap().layers[0].clone();
    let read = flipped
        .unwrap()
        .blob(&layer)
        .await
        .unwrap()
        .read_to_end(100)
        .await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Mismatch);
    let (_file, flipped) = open(&flip(b"a test"), ArchiveFormat::Oci).await;
    let read = flipped.unwrap().manifest(&tag_identifier("1")).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Mismatch);
}

#[tokio::test]
async fn referrer_is_found_after_reopening() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("archive.tar");
    let archive = Archive::create(&path, ArchiveFormat::Oci).await.unwrap();
    let subject = push(&archive, "one", "1").await;
    let mut image = ImageManifest::new("a/list".into(), Blob::empty().descriptor().clone());
    image.subject = Some(subject.descriptor());
    let about = Manifest::from_image(image).unwrap();
    archive.push_blob(&Blob::empty()).await.unwrap();
    archive.push_manifest(&about).await.unwrap();
    archive.finish().await.unwrap();
    let listed = async |artifact_type: Option<MediaType>| {
        let archive = Archive::open(&path, ArchiveFormat::Oci).await.unwrap();
        let listed = archive.referrers(subject.digest(), artifact_type.as_ref());
        let digests = listed.map_ok(|listed| listed.digest);
        digests.try_collect::<Vec<_>>().await.unwrap()
    };
    assert_eq!(listed(None).await, [about.digest().clone()]);
    assert_eq!(listed(Some("a/list".into())).await.len(), 1);
    assert!(listed(Some("a/other".into())).await.is_empty());

    // Pushing the same referrer again does not change the file.
    let before = std::fs::read(&path).unwrap();
    let again = Archive::open(&path, ArchiveFormat::Oci).await.unwrap();
    again.push_manifest(&about).await.unwrap();
    again.finish().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn blob_is_found_by_its_digest() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("archive.tar");
    let archive = Archive::create(&path, ArchiveFormat::Oci).await.unwrap();
    push(&archive, "one", "1").await;
    let digest = Digest::sha256(b"one");
    let opened = Archive::open(&path, ArchiveFormat::Oci).await.unwrap();
    for archive in [archive, opened] {
        assert_eq!(archive.find_blob(&digest).await.unwrap().size, 3);
        let absent = archive.find_blob(&Digest::sha256(b"two")).await;
        assert_eq!(absent.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn archive_with_single_write_is_written_by_finish_only() {
    for format in [ArchiveFormat::Oci, docker("acme/widgets")] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("archive.tar");
        let archive = Archive::create(&path, format.clone()).await.unwrap();
        let archive = archive.with_single_write();
        let one = push(&archive, "one", "1").await;
        let two = push(&archive, "two", "2").await;
        assert!(!path.exists());
        assert_eq!(archive.manifest(&tag_identifier("1")).await.unwrap(), one);
        archive.finish().await.unwrap();
        let opened = Archive::open(&path, format.clone()).await.unwrap();
        assert_eq!(tags(&opened).await, ["1", "2"]);
        assert_eq!(opened.manifest(&tag_identifier("2")).await.unwrap(), two);
        // A new tag without new content is written, too.
        let opened = opened.with_single_write();
        opened.tag(&two, &"3".parse().unwrap()).await.unwrap();
        opened.finish().await.unwrap();
        let opened = Archive::open(&path, format).await.unwrap();
        assert_eq!(tags(&opened).await, ["1", "2", "3"]);
    }
}

#[tokio::test]
async fn docker_archive_reports_names_that_are_not_tags() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("image.tar");
    let archive = Archive::create(&path, docker("acme/f")).await.unwrap();
    let image = push(&archive, "one", "1").await;
    // The replacement has the same length, so the tar file stays valid.
    let (from, to) = (br#"["acme/f:1"]"#, br#"["<n>:<n>x"]"#);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from);
    bytes[at.unwrap()..][..from.len()].copy_from_slice(to);
    std::fs::write(&path, bytes).unwrap();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reports);
    let observer = Observer::new(move |event| seen.lock().unwrap().push(event.clone()));
    let archive = Archive::open(&path, ArchiveFormat::Docker(None)).await;
    let archive = archive.unwrap().with_observer(observer);
    assert!(tags(&archive).await.is_empty());
    let others = archive.other_names().await.unwrap();
    assert_eq!(others.len(), 1);
    assert_eq!(
        (&*others[0].name, &others[0].digest),
        ("<n>:<n>x", image.digest())
    );
    assert_eq!(reports.lock().unwrap().len(), 1);
}
