use std::path::Path;

use super::*;
use crate::elf::tests::build_program;
use crate::package::Revision;
use crate::target::{self, Difference, PackageTarget};

fn package() -> Package {
    let mut package = Package::new("widgets", "1.2.3".parse().unwrap());
    package.license = Some("MIT/Apache-2.0".into());
    package.repository = Some("https://github.com/acme/widgets".into());
    package
}

fn build(target: &str) -> Build {
    let mut build = Build::new(target, "release");
    build.rustc = Some("1.95.0".into());
    build.crate_types = ["bin", "cdylib"].map(str::to_owned).into();
    build.revision = Some(Revision {
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        dirty: Some(false),
    });
    build.created = Some("2026-03-14T15:09:26Z".into());
    build
}

fn file(directory: &Path, name: &str, kind: FileKind, content: &[u8]) -> InputFile {
    let path = directory.join(name.replace('/', "-"));
    std::fs::write(&path, content).unwrap();
    InputFile::new(name.parse().unwrap(), kind, path)
}

async fn packed(build: &Build, files: &[InputFile]) -> Artifact {
    pack(&package(), build, files, &PackOptions::default())
        .await
        .unwrap()
}

const MUSL: &str = "x86_64-unknown-linux-musl";

#[tokio::test]
async fn pack_is_independent_of_directory_and_file_order() {
    let mut digests = Vec::new();
    for backwards in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let mut files = vec![
            file(
                directory.path(),
                "widgets",
                FileKind::Bin,
                &build_program(None, &[], &[]),
            ),
            file(
                directory.path(),
                "libshapes.so",
                FileKind::Cdylib,
                b"not an ELF file",
            ),
            file(
                directory.path(),
                "README.md",
                FileKind::File,
                b"# widgets\n",
            ),
        ];
        if backwards {
            files.reverse();
        }
        digests.push(
            packed(&build(MUSL), &files)
                .await
                .manifest()
                .digest()
                .to_string(),
        );
    }
    // Published releases depend on this digest. Only a new major version may change it.
    let golden = "sha256:dbe138d598711485b6cb624e05a1b9cac8960dd5df4ec0cf0c4026771c12d939";
    assert_eq!(digests, [golden, golden]);
}

/// Creates a directory `widgets.dSYM` as dsymutil writes it, and a symbolic link to it as cargo creates it.
#[cfg(unix)]
fn symbols(home: &Path) -> InputFile {
    let real = home.join("deps/widgets-0123.dSYM/FileSource");
    std::fs::create_dir_all(real.join("Resources/DWARF")).unwrap();
    std::fs::write(real.join("Info.plist"), "plist").unwrap();
    std::fs::write(real.join("Resources/DWARF/widgets-0123"), "symbols").unwrap();
    let link = home.join("widgets.dSYM");
    std::os::unix::fs::symlink(home.join("deps/widgets-0123.dSYM"), &link).unwrap();
    InputFile::new("widgets.dSYM".parse().unwrap(), FileKind::Debuginfo, link)
}

/// Returns the names of the files in the first layer, a tar stream.
#[cfg(unix)]
async fn names_in(artifact: &Artifact, home: &Path) -> Vec<String> {
    let layer = &artifact.manifest().as_image().unwrap().layers[0];
    let meter = oci_registry::Meter::default();
    let bundle = oci_registry::Bundle::fetch(artifact.packed(), layer, home, &meter).await;
    let bundle = bundle.unwrap();
    let names = bundle.files().iter().map(|file| file.name.to_string());
    names.collect()
}

#[cfg(unix)]
#[tokio::test]
async fn symbol_directory_is_packed_as_reproducible_tar() {
    let mac = build("aarch64-apple-darwin");
    let mut digests = Vec::new();
    for _ in 0..2 {
        let home = tempfile::tempdir().unwrap();
        let artifact = packed(&mac, &[symbols(home.path())]).await;
        let image = artifact.manifest().as_image().unwrap().clone();
        let [layer] = &image.layers[..] else {
            panic!("expected one layer")
        };
        assert_eq!(layer.media_type, media::TAR);
        let title = "widgets-1.2.3-aarch64-apple-darwin.dSYM.tar";
        assert_eq!(layer.annotation(annotation::TITLE), Some(title));
        assert_eq!(layer.annotation(annotation::FILE), Some("widgets.dSYM.tar"));
        assert_eq!(layer.annotation(annotation::KIND), Some("debuginfo"));
        let files = target::files(artifact.manifest()).unwrap();
        assert!(files[0].is_bundle());
        assert_eq!(
            files[0].bundled_directory().as_deref(),
            Some("widgets.dSYM/")
        );
        assert_eq!(
            names_in(&artifact, home.path()).await,
            [
                "widgets.dSYM/FileSource/Info.plist",
                "widgets.dSYM/FileSource/Resources/DWARF/widgets-0123"
            ]
        );
        digests.push(artifact.manifest().digest().clone());

        // An archive of all files also contains the files of the directory.
        let options = PackOptions {
            archive: true,
            ..PackOptions::default()
        };
        std::fs::write(home.path().join("program"), "program").unwrap();
        let program = InputFile::new(
            "widgets".parse().unwrap(),
            FileKind::Bin,
            home.path().join("program"),
        );
        let link = home.path().join("widgets.dSYM");
        let symbols = InputFile::new("widgets.dSYM".parse().unwrap(), FileKind::Debuginfo, link);
        let archive = pack(&package(), &mac, &[program, symbols], &options)
            .await
            .unwrap();
        assert_eq!(names_in(&archive, home.path()).await.len(), 3);
    }
    assert_eq!(digests[0], digests[1]);
}

#[cfg(unix)]
#[tokio::test]
async fn symbolic_link_in_symbol_directory_is_rejected() {
    let home = tempfile::tempdir().unwrap();
    let symbols = symbols(home.path());
    let inside = home.path().join("deps/widgets-0123.dSYM/link");
    std::os::unix::fs::symlink("/etc/hostname", &inside).unwrap();
    let mac = build("aarch64-apple-darwin");
    let rejected = pack(&package(), &mac, &[symbols], &PackOptions::default()).await;
    let rejected = rejected.unwrap_err();
    assert_eq!(rejected.kind(), ErrorKind::InvalidInput);
    assert!(rejected.to_string().contains("link"), "{rejected}");
}

#[tokio::test]
async fn layers_have_media_type_title_name_and_mode() {
    let directory = tempfile::tempdir().unwrap();
    let files = [
        file(directory.path(), "LICENSE", FileKind::File, b"do"),
        file(
            directory.path(),
            "examples/demo",
            FileKind::Example,
            b"demo",
        ),
        file(directory.path(), "widgets", FileKind::Bin, b"widgets"),
    ];
    let artifact = packed(&build(MUSL), &files).await;
    let image = artifact.manifest().as_image().unwrap();
    let layers: Vec<_> = image
        .layers
        .iter()
        .map(|layer| {
            let annotation = |key| layer.annotation(key).unwrap();
            assert_eq!(layer.annotations.len(), 4);
            (
                layer.media_type.as_str(),
                annotation(annotation::TITLE),
                annotation(annotation::FILE),
                annotation(annotation::MODE),
            )
        })
        .collect();
    assert_eq!(
        layers,
        [
            (
                "application/vnd.cargo-oci.bin",
                "widgets-1.2.3-x86_64-unknown-linux-musl",
                "widgets",
                "0755"
            ),
            (
                "application/vnd.cargo-oci.example",
                "demo-1.2.3-x86_64-unknown-linux-musl",
                "examples/demo",
                "0755"
            ),
            ("text/plain", "LICENSE", "LICENSE", "0644"),
        ]
    );
    assert_eq!(
        image.layers[0].digest,
        oci_registry::Digest::sha256(b"widgets")
    );
    assert!(
        image.config.annotations.is_empty(),
        "some registries reject annotations of the config"
    );
    assert_eq!(image.config.media_type, media::CONFIG);

    let read = target::files(artifact.manifest()).unwrap();
    let read: Vec<_> = read
        .iter()
        .map(|file| (file.name.as_str(), file.kind, file.is_executable))
        .collect();
    assert_eq!(
        read,
        [
            ("widgets", FileKind::Bin, true),
            ("examples/demo", FileKind::Example, true),
            ("LICENSE", FileKind::File, false)
        ]
    );
}

#[tokio::test]
async fn archive_is_one_layer_and_config_lists_files() {
    let directory = tempfile::tempdir().unwrap();
    let files = [
        file(
            directory.path(),
            "widgets",
            FileKind::Bin,
            &build_program(None, &[], &[]),
        ),
        file(
            directory.path(),
            "README.md",
            FileKind::File,
            b"# widgets\n",
        ),
    ];
    let options = PackOptions {
        archive: true,
        ..PackOptions::default()
    };
    let artifact = pack(&package(), &build(MUSL), &files, &options)
        .await
        .unwrap();
    let read = target::files(artifact.manifest()).unwrap();
    let [archive] = &read[..] else {
        panic!("{read:?}");
    };
    assert_eq!(archive.name.as_str(), "widgets.tar");
    let title = archive.title.as_ref().unwrap();
    assert_eq!(
        title.as_str(),
        "widgets-1.2.3-x86_64-unknown-linux-musl.tar"
    );
    assert_eq!(
        (archive.kind, archive.is_executable),
        (FileKind::Archive, false)
    );
    assert_eq!(
        archive.descriptor.media_type,
        "application/vnd.oci.image.layer.v1.tar".into()
    );
    let annotations = artifact.manifest().annotations();
    assert_eq!(annotations[annotation::LIBC], "static");
    let mut blobs = artifact.packed().blobs();
    let config = blobs.next().unwrap().open().await.unwrap();
    let config = config.read_to_end(10_000).await.unwrap();
    let config = String::from_utf8(config.to_vec()).unwrap();
    for file in ["widgets-1.2.3-x86_64-unknown-linux-musl", "README.md"] {
        assert!(config.contains(file), "{config}");
    }
}

#[tokio::test]
async fn least_portable_program_determines_libc() {
    let directory = tempfile::tempdir().unwrap();
    let bin = |name: &str, content: &[u8]| file(directory.path(), name, FileKind::Bin, content);
    let fully_static = || bin("a", &build_program(None, &[], &[]));
    let old = || {
        bin(
            "b",
            &build_program(
                Some("/lib64/ld-linux-x86-64.so.2"),
                &["libc.so.6"],
                &["GLIBC_2.17"],
            ),
        )
    };
    let new = || {
        bin(
            "c",
            &build_program(
                Some("/lib64/ld-linux-x86-64.so.2"),
                &["libc.so.6"],
                &["GLIBC_2.34"],
            ),
        )
    };
    let script = || bin("d", b"#!/bin/sh\n");
    let gnu = "x86_64-unknown-linux-gnu";
    for (target, files, libc, glibc) in [
        (MUSL, vec![fully_static()], Some("static"), None),
        (gnu, vec![fully_static()], Some("static"), None),
        (
            gnu,
            vec![fully_static(), new(), old()],
            Some("glibc"),
            Some("2.34"),
        ),
        (gnu, vec![old(), script()], Some("glibc"), Some("2.17")),
        (MUSL, vec![script()], Some("musl"), None),
        (gnu, vec![script()], Some("glibc"), None),
        ("x86_64-unknown-freebsd", vec![fully_static()], None, None),
        ("x86_64-pc-windows-gnu", vec![script()], None, None),
    ] {
        let artifact = packed(&build(target), &files).await;
        let annotations = artifact.manifest().annotations();
        assert_eq!(
            annotations.get(annotation::LIBC).map(String::as_str),
            libc,
            "{target}"
        );
        assert_eq!(
            annotations.get(annotation::GLIBC).map(String::as_str),
            glibc,
            "{target}"
        );
        let read = PackageTarget::read(artifact.manifest()).unwrap();
        let features = read.platform.unwrap().os_features;
        let expected = libc
            .filter(|libc| *libc != "static")
            .map(|libc| format!("libc.{libc}"));
        assert_eq!(features, expected.into_iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn package_target_is_read_back_from_annotations() {
    let directory = tempfile::tempdir().unwrap();
    let files = [file(directory.path(), "widgets", FileKind::Bin, b"content")];
    let artifact = packed(&build("aarch64-apple-darwin"), &files).await;
    let annotations: Vec<_> = artifact.manifest().annotations().iter().collect();
    let annotations: Vec<_> = annotations
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(
        annotations,
        [
            "dev.cargo-oci.platform=darwin/arm64",
            "dev.cargo-oci.profile=release",
            "dev.cargo-oci.target=aarch64-apple-darwin",
            "dev.cargo-oci.vcs.dirty=false",
            "org.opencontainers.image.created=2026-03-14T15:09:26Z",
            "org.opencontainers.image.licenses=MIT OR Apache-2.0",
            "org.opencontainers.image.revision=0123456789abcdef0123456789abcdef01234567",
            "org.opencontainers.image.source=https://github.com/acme/widgets",
            "org.opencontainers.image.title=widgets",
            "org.opencontainers.image.url=https://github.com/acme/widgets",
            "org.opencontainers.image.vendor=acme",
            "org.opencontainers.image.version=1.2.3",
        ]
    );
    let read = PackageTarget::read(artifact.manifest()).unwrap();
    assert_eq!(
        (read.name.as_deref(), read.target.as_str()),
        (Some("widgets"), "aarch64-apple-darwin")
    );
    assert_eq!(read.version, Some("1.2.3".parse().unwrap()));
    assert_eq!(
        read.size,
        artifact.packed().blobs().map(Blob::size).sum::<u64>()
    );
}

#[tokio::test]
async fn reserved_annotations_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let files = [file(directory.path(), "widgets", FileKind::Bin, b"content")];
    let with = async |key: &str| {
        let mut options = PackOptions::default();
        options.annotations.insert(key.into(), "mine".into());
        pack(&package(), &build(MUSL), &files, &options).await
    };
    for key in ["com.example.build", annotation::URL] {
        assert_eq!(
            with(key).await.unwrap().manifest().annotations()[key],
            "mine"
        );
    }
    for key in [
        annotation::TITLE,
        annotation::VERSION,
        annotation::TARGET,
        "dev.cargo-oci.new",
    ] {
        assert_eq!(
            with(key).await.unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "{key}"
        );
    }
}

#[tokio::test]
async fn pack_of_invalid_files_fails_with_file_names() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, kind| file(directory.path(), name, kind, b"x");
    let message = async |files: &[InputFile]| {
        let error = pack(&package(), &build(MUSL), files, &PackOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    };
    assert_eq!(
        message(&[]).await,
        "failed to pack `widgets`: there are no files"
    );
    assert_eq!(
        message(&[
            file("demo", FileKind::Bin),
            file("examples/demo", FileKind::Example)
        ])
        .await,
        "failed to pack `widgets`: `demo` and `examples/demo` both have the title `demo-1.2.3-x86_64-unknown-linux-musl`"
    );
    assert_eq!(
        message(&[file("Demo", FileKind::File), file("demo", FileKind::Crate)]).await,
        "failed to pack `widgets`: the file names `demo` and `Demo` conflict"
    );
    let many = vec![file("x", FileKind::File); MAX_LAYERS + 1];
    assert_eq!(
        message(&many).await,
        "failed to pack `widgets`: it has 501 files, and the limit is 500"
    );

    let missing = [InputFile::new(
        "widgets".parse().unwrap(),
        FileKind::Bin,
        directory.path().join("none"),
    )];
    let error = pack(&package(), &build(MUSL), &missing, &PackOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Io, "failed to pack `widgets`")
    );
    let error = pack(
        &package(),
        &build("acme"),
        &many[..1],
        &PackOptions::default(),
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn differences_compare_name_kind_and_content_only() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, kind, content: &[u8]| file(directory.path(), name, kind, content);
    let stored = packed(
        &build(MUSL),
        &[
            file("a", FileKind::Bin, b"1"),
            file("b", FileKind::Bin, b"1"),
        ],
    )
    .await;
    let mut dirty = build(MUSL);
    dirty.revision = None;
    let same = packed(
        &dirty,
        &[
            file("b", FileKind::Bin, b"1"),
            file("a", FileKind::Bin, b"1"),
        ],
    )
    .await;
    assert_ne!(stored.manifest().digest(), same.manifest().digest());
    assert_eq!(target::differences(stored.manifest(), same.manifest()), []);
    let other = packed(
        &dirty,
        &[
            file("a", FileKind::Example, b"1"),
            file("c", FileKind::Bin, b"1"),
        ],
    )
    .await;
    assert_eq!(
        target::differences(stored.manifest(), other.manifest()),
        [
            Difference::Content("a".into()),
            Difference::OnlyStored("b".into()),
            Difference::OnlyNew("c".into()),
        ]
    );
}

#[tokio::test]
async fn archives_with_same_file_name_are_rejected() {
    let home = tempfile::tempdir().unwrap();
    let memory = oci_registry::Memory::new();
    let options = PackOptions {
        archive: true,
        ..PackOptions::default()
    };
    let mut archives = Vec::new();
    for content in ["one", "two"] {
        let notes = file(home.path(), "NOTES", FileKind::File, content.as_bytes());
        let artifact = pack(&package(), &build(MUSL), &[notes], &options).await;
        let artifact = artifact.unwrap();
        for blob in artifact.packed().blobs() {
            oci_registry::Target::push_blob(&memory, blob)
                .await
                .unwrap();
        }
        archives.extend(target::files(artifact.manifest()).unwrap());
    }
    let opened = |files| {
        let source = Arc::new(memory.clone());
        crate::file_source::open_archives(source, files, home.path(), |_, _| {})
    };
    let one = opened(archives[..1].to_vec()).await.unwrap();
    assert_eq!(one[0].files[0].name.as_str(), "NOTES");
    let rejected = opened(archives).await.unwrap_err();
    assert_eq!(rejected.kind(), ErrorKind::Mismatch);
}
