//! Archives that others read, and archives that others wrote.

use std::path::Path;

use e2e::program::Home;
use e2e::require;
use oci_registry::{
    Archive, ArchiveFormat, Blob, ExportOptions, Identifier, ImageManifest, Location, Manifest,
    MediaType, Source, Target, export,
};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime starts").block_on(work)
}

/// Opens the archive of a location that is written as people write it.
async fn open(text: &str, make: bool) -> (Archive, Identifier) {
    let location: Location = text.parse().expect("a location");
    let Some(identifier) = location.identifier() else {
        panic!("`{text}` names no image");
    };
    let Location::Archive { file, format, .. } = location else {
        panic!("`{text}` is no archive");
    };
    let archive = if make {
        Archive::create(file, format).await
    } else {
        Archive::open(file, format).await
    };
    (archive.expect("an archive"), identifier)
}

/// A tar of one empty file with this name.
fn layer(name: &str) -> Vec<u8> {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(b"00000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    [&header[..], &[0; 1024]].concat()
}

/// Writes an image of two layers into an archive.
async fn write(text: &str) -> Manifest {
    let (archive, identifier) = open(text, true).await;
    let Identifier::Tag(tag) = identifier else {
        panic!("`{text}` has a tag");
    };
    let layers = [layer("one"), layer("two")];
    let digests = layers.each_ref().map(|layer| e2e::sha256(layer));
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
        digests[0], digests[1]
    );
    let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, config);
    let mut image = ImageManifest::new(MediaType::EMPTY, config.descriptor().clone());
    image.artifact_type = None;
    archive
        .push_blob(&config)
        .await
        .expect("an archive takes and gives what it should");
    for layer in layers {
        let blob = Blob::from_bytes(LAYER.into(), layer);
        archive
            .push_blob(&blob)
            .await
            .expect("an archive takes and gives what it should");
        image.layers.push(blob.descriptor().clone());
    }
    let manifest = Manifest::from_image(image).expect("an archive takes and gives what it should");
    archive
        .push_manifest(&manifest)
        .await
        .expect("an archive takes and gives what it should");
    archive
        .tag(&manifest, &tag)
        .await
        .expect("an archive takes and gives what it should");
    manifest
}

/// The files of an image in an archive, as its flattened root filesystem has them.
async fn files(text: &str) -> Vec<String> {
    let (archive, identifier) = open(text, false).await;
    let manifest = archive
        .manifest(&identifier)
        .await
        .expect("an archive takes and gives what it should");
    let mut bytes = std::io::Cursor::new(Vec::new());
    export(&archive, &manifest, &mut bytes, ExportOptions::default())
        .await
        .expect("an archive takes and gives what it should");
    let bytes = bytes.into_inner();
    let names = bytes.chunks(512).filter(|block| block[0] != 0);
    let names = names.map(|block| block.split(|byte| *byte == 0).next().unwrap_or_default());
    names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

fn at(kind: &str, file: &Path, rest: &str) -> String {
    format!("{kind}:{}:{rest}", file.display())
}

#[test]
fn skopeo_reads_what_is_written() {
    require!(Skopeo);
    let home = Home::new();
    for (kind, rest) in [
        ("oci-archive", "1.0"),
        ("docker-archive", "ghcr.io/acme/widgets:1.0"),
    ] {
        let place = at(kind, &home.path().join(kind), rest);
        let manifest = block_on(write(&place));
        let layers = &manifest.as_image().unwrap().layers;
        let run = home.skopeo(["inspect", &place]).succeeds();
        let seen: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        let expected: Vec<_> = layers
            .iter()
            .map(|layer| layer.digest.to_string())
            .collect();
        assert_eq!(seen["Layers"], serde_json::json!(expected), "{place}");
        if kind == "oci-archive" {
            assert_eq!(seen["Digest"], manifest.digest().to_string());
        }
    }
}

#[test]
fn what_skopeo_writes_is_read() {
    require!(Skopeo);
    let home = Home::new();
    let ours = at("oci-archive", &home.path().join("ours.tar"), "1.0");
    let manifest = block_on(write(&ours));
    for (kind, rest) in [
        ("oci-archive", "2.0"),
        ("docker-archive", "acme/widgets:2.0"),
    ] {
        let theirs = at(kind, &home.path().join(kind), rest);
        home.skopeo(["copy", &ours, &theirs]).succeeds();
        assert_eq!(block_on(files(&theirs)), ["one", "two"], "{theirs}");
    }
    assert_eq!(manifest.as_image().unwrap().layers.len(), 2);
    let format = ArchiveFormat::Docker(None);
    let opened = block_on(Archive::open(home.path().join("docker-archive"), format)).unwrap();
    let found = block_on(opened.manifest(&Identifier::Tag("2.0".parse().unwrap()))).unwrap();
    assert!(found.as_image().is_some());
}
