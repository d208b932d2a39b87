//! Tests of `oci pull` for layers and archives.

use nu_protocol::Value;
use oci_package::{FileKind, annotation};
use oci_registry::{
    Annotations, Blob, BundleFile, Digest, Layout, MediaType, Packed, Source as _, Tag, Target,
    bundle,
};

use crate::documents::{annotations, layer, push, release};
use crate::{Directory, cell, columns, eval_in, texts};

#[test]
fn pull_returns_one_row_per_file() {
    let directory = Directory::new("pull");
    directory.layout("widgets", release);
    let mut shell = directory.shell();
    let pull = "oci pull oci:widgets --target x86_64-unknown-linux-musl --output out";
    let rows = eval_in(&mut shell, pull).unwrap();
    for row in rows.as_list().unwrap() {
        assert_eq!(columns(row), ["path", "kind", "size", "digest"]);
    }
    let out = directory.0.join("out");
    let paths = ["widgets", "LICENSE"].map(|name| out.join(name).display().to_string());
    assert_eq!(texts(&rows, "path"), paths);
    assert_eq!(texts(&rows, "kind"), ["bin", "file"]);
    let written = std::fs::read(out.join("widgets")).unwrap();
    assert_eq!(written, b"program of x86_64-unknown-linux-musl");
    let digests = texts(&rows, "digest");
    assert_eq!(digests[0], Digest::sha256(&written).to_string());
    // A repeated pull changes nothing. Without `--force`, it does not replace a file that has different content.
    assert_eq!(eval_in(&mut shell, pull).unwrap(), rows);
    std::fs::write(out.join("widgets"), "mine").unwrap();
    let error = eval_in(&mut shell, pull).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::conflict"));
    assert!(error.help.unwrap().contains("--force"));
    assert_eq!(
        eval_in(&mut shell, &format!("{pull} --force")).unwrap(),
        rows
    );
    assert_eq!(std::fs::read(out.join("widgets")).unwrap(), written);
    let titled = eval_in(&mut shell, &format!("{pull} --titles")).unwrap();
    assert!(texts(&titled, "path")[0].ends_with("/widgets-1.0.0"));
    assert!(!std::fs::read_dir(&out).unwrap().any(|entry| {
        entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".partial")
    }));
}

#[test]
fn pull_of_release_with_tag_of_other_version_is_rejected() {
    let directory = Directory::new("pull-other-version");
    directory.layout("widgets", async |layout| {
        release(layout.clone()).await;
        let index = layout
            .manifest(&"1.0.0".parse::<Tag>().unwrap().into())
            .await;
        let tag = "2.0.0".parse().unwrap();
        layout.tag(&index.unwrap(), &tag).await.unwrap();
    });
    let mut shell = directory.shell();
    let pull = "oci pull oci:widgets:2.0.0 --target x86_64-unknown-linux-musl --output out";
    let error = eval_in(&mut shell, pull).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::mismatch"));
    let conflict = "the version is `2.0.0` in the tag and `1.0.0` in the index";
    assert!(error.msg.contains(conflict), "{}", error.msg);
    assert!(!directory.0.join("out").exists());
    let page = eval_in(&mut shell, "oci inspect oci:widgets:2.0.0").unwrap();
    assert_eq!(
        cell(&page, "conflicts").as_list().unwrap(),
        [Value::test_string(conflict)]
    );
}

#[test]
fn pull_of_artifact_without_files_is_rejected() {
    let directory = Directory::new("pull-nothing");
    directory.layout("empty", async |layout| {
        let packed = Packed::new("a/b".into(), Blob::empty(), vec![], Annotations::new());
        let manifest = push(&layout, packed.unwrap()).await;
        layout.tag(&manifest, &"1".parse().unwrap()).await.unwrap();
    });
    let error = eval_in(&mut directory.shell(), "oci pull oci:empty:1").unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::not_found"));
    assert!(error.help.unwrap().contains("oci manifest"));
}

/// Pushes a package whose only layer is an archive, as `cargo oci push --archive` does.
async fn push_archive(layout: Layout, files: Vec<BundleFile>) {
    let media_type = MediaType::from("application/vnd.oci.image.layer.v1.tar");
    let mut tar = bundle(media_type, files).await.unwrap();
    tar.descriptor_mut().annotations = annotations(&[
        (annotation::TITLE, "widgets-1.0.0.tar"),
        (annotation::FILE, "widgets.tar"),
        (annotation::KIND, FileKind::Archive.as_str()),
    ]);
    let packed = Packed::new("a/b".into(), Blob::empty(), vec![tar], Annotations::new());
    let manifest = push(&layout, packed.unwrap()).await;
    layout.tag(&manifest, &"1".parse().unwrap()).await.unwrap();
}

#[test]
fn pull_unpacks_files_of_archive() {
    let directory = Directory::new("pull-archive");
    let files = [("widgets", true), ("LICENSE", false)].map(|(name, executable)| {
        let path = directory.0.join(format!("{name}.source"));
        std::fs::write(&path, format!("content of {name}")).unwrap();
        let name = name.parse().unwrap();
        BundleFile {
            name,
            path,
            executable,
        }
    });
    directory.layout("archive", |layout| push_archive(layout, files.to_vec()));
    let mut shell = directory.shell();
    let rows = eval_in(&mut shell, "oci pull oci:archive:1 --output out").unwrap();
    let out = directory.0.join("out");
    let paths = ["LICENSE", "widgets"].map(|name| out.join(name).display().to_string());
    assert_eq!(texts(&rows, "path"), paths);
    assert_eq!(texts(&rows, "kind"), ["file", "bin"]);
    let written = std::fs::read(out.join("widgets")).unwrap();
    assert_eq!(written, b"content of widgets");
    assert_eq!(
        texts(&rows, "digest")[1],
        Digest::sha256(&written).to_string()
    );
    let some = eval_in(
        &mut shell,
        "oci pull oci:archive:1 --output some --include LIC*",
    )
    .unwrap();
    assert_eq!(texts(&some, "kind"), ["file"]);
    let left: Vec<_> = std::fs::read_dir(directory.0.join("some"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    // With `--titles`, `oci pull` writes the archive itself.
    let whole = eval_in(&mut shell, "oci pull oci:archive:1 --output whole --titles").unwrap();
    assert!(texts(&whole, "path")[0].ends_with("/widgets-1.0.0.tar"));
}

#[test]
fn pull_with_include_writes_only_matching_files() {
    let directory = Directory::new("pull-some");
    directory.layout("widgets", release);
    let mut shell = directory.shell();
    let mut pull = |flags: &str| {
        let pull =
            format!("oci pull oci:widgets --target x86_64-unknown-linux-musl --output out {flags}");
        eval_in(&mut shell, &pull)
    };
    let rows = pull("--include LIC*").unwrap();
    assert_eq!(texts(&rows, "kind"), ["file"]);
    assert!(!directory.0.join("out/widgets").exists());
    assert_eq!(
        texts(&pull("--include [w* LIC*]").unwrap(), "kind"),
        ["bin", "file"]
    );
    // With `--titles`, `--include` patterns match the titles.
    let titled = pull("--titles --include *-1.0.0").unwrap();
    assert!(texts(&titled, "path")[0].ends_with("/widgets-1.0.0"));
    let error = pull("--include *.exe").unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::not_found"));
    assert_eq!(error.labels[0].text, "matches no file");
    assert_eq!(
        error.help.as_deref(),
        Some("choose from these files: `widgets`, `LICENSE`")
    );
    let error = pull("--include '[a'").unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::invalid_input"));
}

#[test]
fn tar_layer_of_other_tool_is_pulled_as_file() {
    let directory = Directory::new("pull-tar");
    directory.layout("tar", async |layout| {
        let tar = layer("data.tar", "file", "no tar at all");
        let packed = Packed::new("a/b".into(), Blob::empty(), vec![tar], Annotations::new());
        let manifest = push(&layout, packed.unwrap()).await;
        layout.tag(&manifest, &"1".parse().unwrap()).await.unwrap();
    });
    let rows = eval_in(&mut directory.shell(), "oci pull oci:tar:1 --output out").unwrap();
    assert!(texts(&rows, "path")[0].ends_with("/data.tar"));
}
