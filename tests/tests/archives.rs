//! Exchange of archives with Skopeo, in both directions.

use std::path::Path;

use e2e::layout::Layout;
use e2e::program::Home;
use e2e::require;
use oci_registry::{
    Archive, ArchiveFormat, Blob, ExportOptions, Identifier, ImageManifest, Location, LocationText,
    Manifest, MediaType, Source, Target, export,
};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime can be started").block_on(work)
}

/// Opens the archive at a location. Returns the archive and the identifier of its image.
async fn open_archive(text: &str, make: bool) -> (Archive, Identifier) {
    let written: LocationText = text.parse().expect("the text is a location");
    let location = written
        .locate(Path::new(""))
        .await
        .expect("the location can be resolved");
    let Some(identifier) = location.identifier() else {
        panic!("`{text}` does not refer to an image");
    };
    let Location::Archive { file, format, .. } = location else {
        panic!("`{text}` is not an archive");
    };
    let archive = if make {
        Archive::create(file, format).await
    } else {
        Archive::open(file, format).await
    };
    (archive.expect("the archive can be opened"), identifier)
}

/// Returns a tar archive that contains one empty file with this name.
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
async fn write_image(text: &str) -> Manifest {
    let (archive, identifier) = open_archive(text, true).await;
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
        .expect("the archive can be read and written");
    for layer in layers {
        let blob = Blob::from_bytes(LAYER.into(), layer);
        archive
            .push_blob(&blob)
            .await
            .expect("the archive can be read and written");
        image.layers.push(blob.descriptor().clone());
    }
    let manifest = Manifest::from_image(image).expect("the archive can be read and written");
    archive
        .push_manifest(&manifest)
        .await
        .expect("the archive can be read and written");
    archive
        .tag(&manifest, &tag)
        .await
        .expect("the archive can be read and written");
    manifest
}

/// Returns the files in the flattened root filesystem of an archive's image.
async fn flattened_files(text: &str) -> Vec<String> {
    let (archive, identifier) = open_archive(text, false).await;
    let manifest = archive
        .manifest(&identifier)
        .await
        .expect("the archive can be read and written");
    let mut bytes = std::io::Cursor::new(Vec::new());
    export(&archive, &manifest, &mut bytes, ExportOptions::default())
        .await
        .expect("the archive can be read and written");
    let bytes = bytes.into_inner();
    let names = bytes.chunks(512).filter(|block| block[0] != 0);
    let names = names.map(|block| block.split(|byte| *byte == 0).next().unwrap_or_default());
    names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

fn location_text(kind: &str, file: &Path, rest: &str) -> String {
    format!("{kind}:{}:{rest}", file.display())
}

#[test]
fn skopeo_reads_written_archive() {
    require!(Skopeo);
    let home = Home::new();
    for (kind, rest) in [
        ("oci-archive", "1.0"),
        ("docker-archive", "ghcr.io/acme/widgets:1.0"),
    ] {
        let location = location_text(kind, &home.path().join(kind), rest);
        let manifest = block_on(write_image(&location));
        let layers = &manifest.as_image().unwrap().layers;
        let run = home.skopeo(["inspect", &location]).succeeds();
        let seen: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        let expected: Vec<_> = layers
            .iter()
            .map(|layer| layer.digest.to_string())
            .collect();
        assert_eq!(seen["Layers"], serde_json::json!(expected), "{location}");
        if kind == "oci-archive" {
            assert_eq!(seen["Digest"], manifest.digest().to_string());
        }
    }
}

#[test]
fn archive_written_by_skopeo_is_read() {
    require!(Skopeo);
    let home = Home::new();
    let ours = location_text("oci-archive", &home.path().join("ours.tar"), "1.0");
    let manifest = block_on(write_image(&ours));
    for (kind, rest) in [
        ("oci-archive", "2.0"),
        ("docker-archive", "acme/widgets:2.0"),
    ] {
        let theirs = location_text(kind, &home.path().join(kind), rest);
        home.skopeo(["copy", &ours, &theirs]).succeeds();
        assert_eq!(
            block_on(flattened_files(&theirs)),
            ["one", "two"],
            "{theirs}"
        );
    }
    assert_eq!(manifest.as_image().unwrap().layers.len(), 2);
    let format = ArchiveFormat::Docker(None);
    let opened = block_on(Archive::open(home.path().join("docker-archive"), format)).unwrap();
    let found = block_on(opened.manifest(&Identifier::Tag("2.0".parse().unwrap()))).unwrap();
    assert!(found.as_image().is_some());
}

/// Copies an image with Skopeo to a layout or archive, once under each of these full names.
fn copy_with_skopeo(home: &Home, kind: &str, names: &[&str]) {
    let ours = location_text("oci-archive", &home.path().join("ours.tar"), "1.0");
    block_on(write_image(&ours));
    for name in names {
        let theirs = location_text(kind, &home.path().join("theirs"), name);
        home.skopeo(["copy", &ours, &theirs]).succeeds();
    }
}

#[test]
fn full_names_of_skopeo_are_listed_and_copied_as_tags() {
    require!(Skopeo);
    for kind in ["oci", "oci-archive"] {
        let home = Home::new();
        copy_with_skopeo(&home, kind, &["localhost/acme/f:1.0.0"]);
        let cargo_oci = |arguments: &[&str]| {
            let run = home.cargo_oci(arguments.iter().copied());
            run.within(home.path()).succeeds().stdout
        };
        let location = format!("{kind}:theirs");
        assert_eq!(cargo_oci(&["tags", &location]), "1.0.0\n", "{kind}");
        let manifest = |location: &str| cargo_oci(&["manifest", location]);
        let full = manifest(&format!("{location}:localhost/acme/f:1.0.0"));
        assert_eq!(full, manifest(&format!("{location}:1.0.0")));
        assert_eq!(full, manifest(&location), "highest release");
        cargo_oci(&["copy", "--all-tags", &location, "oci:mirror"]);
        assert_eq!(cargo_oci(&["tags", "oci:mirror"]), "1.0.0\n");
        cargo_oci(&[
            "copy",
            &format!("{location}:localhost/acme/f:1.0.0"),
            "oci:other",
        ]);
        assert_eq!(cargo_oci(&["tags", "oci:other"]), "1.0.0\n");
    }
}

#[test]
fn skopeo_names_without_unique_tag_are_listed_with_digest() {
    require!(Skopeo);
    let home = Home::new();
    copy_with_skopeo(&home, "oci", &["acme/f:1", "acme/g:1", "acme/h", "2.0.0"]);
    let run = home.cargo_oci(["tags", "oci:theirs"]);
    let run = run.within(home.path()).succeeds();
    let layout = Layout::open(home.path().join("theirs"));
    let digest = layout.digest("acme/g:1").unwrap();
    let digest = digest.as_str();
    let expected = format!("2.0.0\nacme/f:1@{digest}\nacme/g:1@{digest}\nacme/h@{digest}\n");
    assert_eq!(run.stdout, expected);
    assert!(
        run.stderr.contains("note: 3 names listed by `oci:"),
        "{run}"
    );
    let long = home.cargo_oci(["tags", "oci:theirs", "--long"]);
    let long = long.within(home.path()).succeeds().stdout;
    assert_eq!(long.lines().filter(|line| line.contains(digest)).count(), 4);
    let listed = home.cargo_oci(["manifest", &format!("oci:theirs:acme/f:1@{digest}")]);
    listed.within(home.path()).succeeds();
    let unclear = home.cargo_oci(["manifest", "oci:theirs:1"]);
    let unclear = unclear.within(home.path()).fails_with(4);
    assert!(
        unclear.stderr.contains("2 names end with this tag"),
        "{unclear}"
    );
    for (name, problem) in [
        ("acme/f:1".to_owned(), "several names end with `:1`"),
        (format!("acme/f:1@{digest}"), "has both a tag and a digest"),
    ] {
        let delete = home.cargo_oci(["delete", "--yes", &format!("oci:theirs:{name}")]);
        let delete = delete.within(home.path()).fails_with(2);
        assert!(delete.stderr.contains(problem), "{delete}");
    }
    let mirror = home.cargo_oci(["copy", "--all-tags", "oci:theirs", "oci:mirror"]);
    let mirror = mirror.within(home.path()).succeeds();
    assert!(
        mirror.stderr.contains("note: 3 names listed by `oci:"),
        "{mirror}"
    );
}

#[test]
fn layout_entry_name_without_tag_resolves_if_given_in_full() {
    require!(Skopeo);
    let home = Home::new();
    copy_with_skopeo(&home, "oci", &["localhost/acme/f"]);
    let bare = home.cargo_oci(["manifest", "oci:theirs"]);
    let bare = bare.within(home.path()).fails_with(4);
    let help = "use the full name of an entry, such as `oci:theirs:localhost/acme/f`";
    assert!(bare.stderr.contains(help), "{bare}");
    let full = home.cargo_oci(["manifest", "oci:theirs:localhost/acme/f"]);
    full.within(home.path()).succeeds();
}

#[test]
fn new_layout_or_archive_accepts_only_a_tag() {
    let home = Home::new();
    let ours = location_text("oci-archive", &home.path().join("ours.tar"), "1.0");
    block_on(write_image(&ours));
    for target in ["oci:new:acme/f", "oci-archive:new:acme/f"] {
        let copy = home.cargo_oci(["copy", &ours, target]);
        copy.within(home.path()).fails_with(2);
        assert!(!home.path().join("new").exists());
    }
}
