//! Tests of `oci copy`, `oci tag` and `oci delete` between layouts.

use nu_protocol::Value;
use oci_registry::{Annotations, Blob, Layout, Packed, Target};

use crate::documents::{push, release};
use crate::{Directory, cell, columns, eval_in, texts};

const MUSL: &str = "x86_64-unknown-linux-musl";

/// Returns the rows of a result in the form `NAME ACTION`.
fn actions(rows: &Value) -> Vec<String> {
    for row in rows.as_list().unwrap() {
        assert_eq!(columns(row), ["reference", "action", "digest"]);
    }
    let names = texts(rows, "reference").into_iter();
    let actions = texts(rows, "action");
    names
        .zip(actions)
        .map(|(name, action)| {
            let name = match name.rsplit_once('@') {
                Some(_) => "digest",
                None => name.rsplit_once(':').unwrap().1,
            };
            format!("{name} {action}")
        })
        .collect()
}

/// Pushes the release and two tagged artifacts to a layout.
async fn push_artifacts(layout: Layout) {
    release(layout.clone()).await;
    for (name, tags) in [("one", &["1", "latest"][..]), ("two", &["2"])] {
        let config = Blob::from_bytes("a/b".into(), name);
        let packed = Packed::new("a/b".into(), config, vec![], Annotations::new()).unwrap();
        let manifest = push(&layout, packed).await;
        for tag in tags {
            layout.tag(&manifest, &tag.parse().unwrap()).await.unwrap();
        }
    }
}

#[test]
fn copy_keeps_digest_and_tag_and_skips_stored_content() {
    let directory = Directory::new("copy");
    directory.layout("a", push_artifacts);
    let mut shell = directory.shell();
    let copy = "oci copy oci:a:1 oci:b";
    let rows = eval_in(&mut shell, &format!("{copy} --dry-run")).unwrap();
    assert_eq!(actions(&rows), ["1 would copy"]);
    assert!(!directory.0.join("b").exists());
    let rows = eval_in(&mut shell, copy).unwrap();
    assert_eq!(actions(&rows), ["1 copied"]);
    let row = &rows.as_list().unwrap()[0];
    let name = cell(row, "reference").as_str().unwrap().to_owned();
    assert_eq!(name, format!("oci:{}:1", directory.0.join("b").display()));
    let copied = eval_in(&mut shell, &format!("oci manifest '{name}'")).unwrap();
    assert_eq!(cell(&copied, "digest"), cell(row, "digest"));
    for copy in [copy, "oci copy oci:a:1 oci:b --dry-run"] {
        assert_eq!(
            actions(&eval_in(&mut shell, copy).unwrap()),
            ["1 unchanged"]
        );
    }
    // Copies with a new tag, of the highest release, and of one manifest in an index.
    for (copy, expected) in [
        ("oci copy oci:a:1 oci:b:other".to_owned(), "other copied"),
        ("oci copy oci:a oci:c".to_owned(), "1.0.0 copied"),
        (
            format!("oci copy oci:a:1.0.0 oci:d --target {MUSL}"),
            "digest copied",
        ),
        (
            format!("oci copy oci:a:1.0.0 oci:d:mine --target {MUSL}"),
            "mine copied",
        ),
    ] {
        let rows = eval_in(&mut shell, &copy).unwrap();
        assert_eq!(actions(&rows), [expected], "{copy}");
    }
}

#[test]
fn copy_of_tag_rows_copies_each_row() {
    let directory = Directory::new("copy-rows");
    directory.layout("a", push_artifacts);
    let mut shell = directory.shell();
    let rows = eval_in(&mut shell, "oci tags oci:a | oci copy oci:b").unwrap();
    let mut all = actions(&rows);
    all.sort();
    assert_eq!(
        all,
        ["1 copied", "1.0.0 copied", "2 copied", "latest copied"]
    );
}

#[test]
fn copy_with_all_tags_returns_row_for_every_tag() {
    let directory = Directory::new("copy-all-tags");
    directory.layout("a", push_artifacts);
    let mut shell = directory.shell();
    let rows = eval_in(&mut shell, "oci copy oci:a oci:c --all-tags --dry-run").unwrap();
    assert_eq!(rows.as_list().unwrap().len(), 4);
    assert!(!directory.0.join("c").exists());
    eval_in(&mut shell, "oci copy oci:a:2 oci:c").unwrap();
    for _ in 0..2 {
        let rows = eval_in(&mut shell, "oci copy oci:a oci:c --all-tags").unwrap();
        let mut names: Vec<_> = texts(&rows, "reference");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 4, "{rows:?}");
        assert!(
            actions(&rows).contains(&"2 unchanged".to_owned()),
            "{rows:?}"
        );
    }
}

#[test]
fn invalid_copy_is_rejected_with_label_at_argument() {
    let directory = Directory::new("copy-refused");
    directory.layout("a", push_artifacts);
    directory.layout("b", push_artifacts);
    let mut shell = directory.shell();
    for (source, code, part) in [
        ("oci copy oci:a:1", "oci::invalid_input", "oci:a:1"),
        (
            "oci tags oci:a | oci copy oci:c:1",
            "oci::invalid_input",
            "oci:c:1",
        ),
        (
            "oci copy oci:a:1 oci:c --all-tags",
            "oci::invalid_input",
            "oci:a:1",
        ),
        (
            "oci copy oci:a oci:c --all-tags --platform linux/amd64",
            "oci::invalid_input",
            "--all-tags",
        ),
        (
            "oci copy oci:a:1 mirror.example/",
            "oci::invalid_input",
            "oci:a:1",
        ),
        ("oci copy oci:a:none oci:c", "oci::not_found", "none"),
        (
            "oci copy oci:a:1 mirror.example/C",
            "oci::invalid_input",
            "C",
        ),
        (
            "[oci:a:1 oci:b:1] | oci copy oci:c",
            "oci::invalid_input",
            "oci:b:1",
        ),
    ] {
        let error = eval_in(&mut shell, source).unwrap_err();
        assert_eq!(error.code.as_deref(), Some(code), "{source}: {error:?}");
        let shown = shell.engine_state().get_span_contents(error.labels[0].span);
        assert_eq!(String::from_utf8_lossy(shown), part, "{source}");
    }
}

#[test]
fn tag_adds_and_moves_tags() {
    let directory = Directory::new("tag");
    directory.layout("a", push_artifacts);
    let mut shell = directory.shell();
    let tag = "oci tag oci:a:1 latest stable";
    let rows = eval_in(&mut shell, &format!("{tag} --dry-run")).unwrap();
    assert_eq!(actions(&rows), ["latest unchanged", "stable would tag"]);
    assert!(eval_in(&mut shell, "oci manifest oci:a:stable").is_err());
    let rows = eval_in(&mut shell, tag).unwrap();
    assert_eq!(actions(&rows), ["latest unchanged", "stable tagged"]);
    let [of_one, of_stable] = ["1", "stable"].map(|tag| {
        let record = eval_in(&mut shell, &format!("oci manifest oci:a:{tag}")).unwrap();
        cell(&record, "digest").clone()
    });
    assert_eq!(of_one, of_stable);
    // `oci tag` moves an existing tag. The pipeline provides the reference.
    let rows = eval_in(&mut shell, "'oci:a:2' | oci tag stable").unwrap();
    assert_eq!(actions(&rows), ["stable tagged"]);
    let rows = eval_in(
        &mut shell,
        &format!("oci tag oci:a:1.0.0 musl --target {MUSL}"),
    )
    .unwrap();
    assert_eq!(actions(&rows), ["musl tagged"]);
    for (source, part) in [
        ("oci tag oci:a:1", "oci tag"),
        ("oci tag oci:a:1 'no tag'", " "),
        ("[oci:a:1] | oci tag", "oci tag"),
    ] {
        let error = eval_in(&mut shell, source).unwrap_err();
        assert_eq!(
            error.code.as_deref(),
            Some("oci::invalid_input"),
            "{source}"
        );
        let shown = shell.engine_state().get_span_contents(error.labels[0].span);
        assert_eq!(String::from_utf8_lossy(shown), part, "{source}");
    }
}

#[test]
fn delete_of_digest_also_deletes_its_tags() {
    let directory = Directory::new("delete");
    directory.layout("a", push_artifacts);
    let mut shell = directory.shell();
    let rows = eval_in(&mut shell, "oci delete oci:a:1 --dry-run").unwrap();
    assert_eq!(actions(&rows), ["1 would delete"]);
    let rows = eval_in(&mut shell, "oci delete oci:a:1").unwrap();
    assert_eq!(actions(&rows), ["1 deleted"]);
    let digest = cell(&rows.as_list().unwrap()[0], "digest")
        .as_str()
        .unwrap()
        .to_owned();
    let tags = eval_in(&mut shell, "oci tags oci:a").unwrap();
    assert_eq!(texts(&tags, "name"), ["1.0.0", "2", "latest"]);
    let rows = eval_in(&mut shell, &format!("oci delete oci:a@{digest}")).unwrap();
    assert_eq!(actions(&rows), ["digest deleted"]);
    let tags = eval_in(&mut shell, "oci tags oci:a").unwrap();
    assert_eq!(texts(&tags, "name"), ["1.0.0", "2"]);
    // `oci delete` deletes the rows of another command while that command still lists them.
    let rows = eval_in(&mut shell, "oci tags oci:a | oci delete").unwrap();
    assert_eq!(actions(&rows), ["1.0.0 deleted", "2 deleted"]);
    let tags = eval_in(&mut shell, "oci tags oci:a").unwrap();
    assert!(tags.as_list().unwrap().is_empty());
    for (source, code) in [
        ("oci delete oci:a", "oci::invalid_input"),
        (
            "oci delete a.b/c:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "oci::invalid_input",
        ),
        ("oci delete oci:a:none", "oci::not_found"),
        ("oci delete oci-archive:a.tar:1", "oci::unsupported"),
    ] {
        let error = eval_in(&mut shell, source).unwrap_err();
        assert_eq!(error.code.as_deref(), Some(code), "{source}");
    }
}

#[test]
fn delete_of_target_manifest_removes_index_entry() {
    let directory = Directory::new("delete-manifest");
    directory.layout("a", release);
    let mut shell = directory.shell();
    let index = eval_in(&mut shell, "oci manifest oci:a:1.0.0").unwrap();
    let digest = texts(cell(&index, "manifests"), "digest")[0].to_owned();
    let source = format!("oci delete oci:a@{digest}");
    let rows = eval_in(&mut shell, &format!("{source} --dry-run")).unwrap();
    assert_eq!(
        actions(&rows),
        ["1.0.0 would change", "digest would delete"]
    );
    let rows = eval_in(&mut shell, &source).unwrap();
    assert_eq!(actions(&rows), ["1.0.0 changed", "digest deleted"]);
    let left = eval_in(&mut shell, "oci manifest oci:a:1.0.0").unwrap();
    assert_eq!(
        texts(cell(&left, "manifests"), "target"),
        ["aarch64-unknown-linux-musl"]
    );
    assert!(eval_in(&mut shell, &format!("oci manifest oci:a@{digest}")).is_err());
}

#[test]
fn delete_of_target_tag_removes_index_entry() {
    let directory = Directory::new("delete-target");
    directory.layout("a", release);
    let mut shell = directory.shell();
    for target in [MUSL, "aarch64-unknown-linux-musl"] {
        let source = format!("oci tag oci:a:1.0.0 1.0.0__{target} --target {target}");
        eval_in(&mut shell, &source).unwrap();
    }
    let delete = format!("oci delete oci:a:1.0.0__{MUSL}");
    let rows = eval_in(&mut shell, &format!("{delete} --dry-run")).unwrap();
    let tag = format!("1.0.0__{MUSL}");
    assert_eq!(
        actions(&rows),
        [
            format!("{tag} would delete"),
            "1.0.0 would change".to_owned()
        ]
    );
    let rows = eval_in(&mut shell, &delete).unwrap();
    assert_eq!(
        actions(&rows),
        [format!("{tag} deleted"), "1.0.0 changed".to_owned()]
    );
    let index = eval_in(&mut shell, "oci manifest oci:a:1.0.0").unwrap();
    assert_eq!(
        texts(cell(&index, "manifests"), "target"),
        ["aarch64-unknown-linux-musl"]
    );
    assert_eq!(
        cell(&index, "digest"),
        cell(&rows.as_list().unwrap()[1], "digest")
    );
}

#[test]
fn content_deleted_by_an_earlier_row_is_skipped() {
    let musl = format!("1.0.0__{MUSL}");
    let arm = "1.0.0__aarch64-unknown-linux-musl".to_owned();
    let create_layout = |name: &str| {
        let directory = Directory::new(name);
        directory.layout("a", release);
        let mut shell = directory.shell();
        for target in [MUSL, "aarch64-unknown-linux-musl"] {
            let source = format!("oci tag oci:a:1.0.0 1.0.0__{target} --target {target}");
            eval_in(&mut shell, &source).unwrap();
        }
        (directory, shell)
    };
    // One tag occurs twice. The index is deleted with its last target, before the operand that names the index is
    // processed.
    let (_directory, mut shell) = create_layout("delete-along");
    eval_in(&mut shell, &format!("oci tag oci:a:{musl} zoo")).unwrap();
    let source =
        format!("[oci:a:{musl} oci:a:{musl} oci:a:{arm} oci:a:1.0.0 oci:a:zoo] | oci delete");
    for (flag, delete, change) in [
        ("--dry-run", "would delete", "would change"),
        ("", "deleted", "changed"),
    ] {
        let rows = eval_in(&mut shell, &format!("{source} {flag}")).unwrap();
        let expected = [
            format!("{musl} {delete}"),
            format!("1.0.0 {change}"),
            format!("{arm} {delete}"),
            format!("1.0.0 {delete}"),
            format!("zoo {delete}"),
        ];
        assert_eq!(actions(&rows), expected, "{source} {flag}");
    }
    let tags = eval_in(&mut shell, "oci tags oci:a").unwrap();
    assert!(tags.as_list().unwrap().is_empty());
    // If the index is deleted first, the tags of the targets are deleted with it, unless they are kept.
    let (_directory, mut shell) = create_layout("delete-index-first");
    let kept = eval_in(
        &mut shell,
        "oci delete oci:a:1.0.0 --keep-targets --dry-run",
    )
    .unwrap();
    assert_eq!(actions(&kept), ["1.0.0 would delete"]);
    let source = format!("oci delete oci:a:1.0.0 oci:a:{musl} oci:a:{arm}");
    for (flag, delete) in [("--dry-run", "would delete"), ("", "deleted")] {
        let rows = eval_in(&mut shell, &format!("{source} {flag}")).unwrap();
        let expected = [&arm, &musl, "1.0.0"].map(|name| format!("{name} {delete}"));
        assert_eq!(actions(&rows), expected, "{source} {flag}");
    }
}
