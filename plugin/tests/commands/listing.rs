//! Tests of `oci catalog` and `oci tags` with unreadable content and with layouts.
use testkit::server::Response;

use crate::documents::release;
use crate::{Directory, artifact, cell, columns, eval, eval_in, manifest, ok, serve, tags, texts};

#[test]
fn unreadable_tag_row_has_no_details() {
    let good = artifact("");
    let registry = serve(move |request| match request.split('?').next().unwrap() {
        "GET /v2/x/tags/list" => tags(r#""1.0.0","html","mine","2.0.0""#),
        "GET /v2/x/manifests/html" => ok("<html>").header("Content-Type", "text/html"),
        "GET /v2/x/manifests/mine" => Response::error(403, "DENIED"),
        _ => manifest(good.clone()),
    });
    let table = eval(&format!("oci tags {}/x --long", registry.host())).unwrap();
    assert_eq!(texts(&table, "name"), ["1.0.0", "html", "mine", "2.0.0"]);
    let rows = table.as_list().unwrap();
    for (row, is_known) in rows.iter().zip([true, false, false, true]) {
        assert_eq!(columns(row), columns(&rows[0]));
        for column in ["size", "media_type", "annotations", "digest"] {
            assert_eq!(
                !cell(row, column).is_nothing(),
                is_known,
                "{column}: {row:?}"
            );
        }
    }
    // `oci manifest` fails and reports the cause.
    let error = eval(&format!("oci manifest {}/x:mine", registry.host())).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::denied"));
}

#[test]
fn target_tags_are_hidden_and_incomplete_versions_listed() {
    let document = artifact("");
    let registry = serve(move |request| match request.split('?').next().unwrap() {
        "GET /v2/x/tags/list" => tags(r#""0.3.0__b","2.0.0","1.0.0","0.3.0__a","1.0.0__a""#),
        _ => manifest(document.clone()),
    });
    let source = format!("oci tags {}/x", registry.host());
    let table = eval(&source).unwrap();
    assert_eq!(texts(&table, "name"), ["2.0.0", "1.0.0", "0.3.0"]);
    let rows = eval(&format!("{source} --long")).unwrap();
    assert_eq!(texts(&rows, "name"), ["2.0.0", "1.0.0", "0.3.0"]);
    let incomplete = &rows.as_list().unwrap()[2];
    assert_eq!(columns(incomplete), columns(&rows.as_list().unwrap()[0]));
    let targets = cell(incomplete, "targets").as_list().unwrap();
    let targets: Vec<_> = targets
        .iter()
        .map(|target| target.as_str().unwrap())
        .collect();
    assert_eq!(targets, ["a", "b"]);
    assert!(cell(incomplete, "digest").is_nothing());
    let all = eval(&format!("{source} --all")).unwrap();
    assert_eq!(
        texts(&all, "name"),
        ["0.3.0__b", "2.0.0", "1.0.0", "0.3.0__a", "1.0.0__a"]
    );
}

#[test]
fn catalog_of_directory_lists_layouts() {
    let directory = Directory::new("catalog");
    for name in ["b", "team/a"] {
        directory.layout(&format!("all/{name}"), release);
    }
    let mut shell = directory.shell();
    let rows = eval_in(&mut shell, "oci catalog oci:all").unwrap();
    assert_eq!(texts(&rows, "name"), ["b", "team/a"]);
    let path = directory.0.join("all/team/a");
    let reference = format!("oci:{}", path.display());
    assert_eq!(texts(&rows, "reference")[1], reference);
    let tags = eval_in(&mut shell, "oci catalog oci:./all | oci tags").unwrap();
    assert_eq!(texts(&tags, "name"), ["1.0.0", "1.0.0"]);
    assert_eq!(texts(&tags, "repository")[1], reference);
    let itself = eval_in(&mut shell, "oci catalog oci:all/b").unwrap();
    assert_eq!(texts(&itself, "name"), ["."]);
    let error = eval_in(&mut shell, "oci catalog oci:none").unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::not_found"));
}

#[test]
fn name_of_a_layout_entry_is_escaped() {
    let directory = Directory::new("names");
    directory.layout("widgets", release);
    let index = directory.0.join("widgets/index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    let renamed = text.replace(r#""1.0.0""#, r#""a\u001b[31mb\u202ec""#);
    assert_ne!(renamed, text);
    std::fs::write(&index, renamed).unwrap();
    let mut shell = directory.shell();
    for command in ["oci tags oci:widgets", "oci tags oci:widgets --long"] {
        let rows = eval_in(&mut shell, command).unwrap();
        assert_eq!(texts(&rows, "name"), [r"a\u{1b}[31mb\u{202e}c"]);
        let piped = eval_in(&mut shell, &format!("{command} | oci manifest")).unwrap();
        assert_eq!(texts(&piped, "reference"), texts(&rows, "reference"));
    }
}

/// Returns the code of an error, the part of the source that its label marks, and its help text.
fn eval_error(directory: &Directory, source: &str) -> (String, String, String) {
    let mut shell = directory.shell();
    let error = eval_in(&mut shell, source).unwrap_err();
    let under = shell.engine_state().get_span_contents(error.labels[0].span);
    let under = String::from_utf8_lossy(under).into_owned();
    (error.code.unwrap(), under, error.help.unwrap_or_default())
}

#[test]
fn missing_content_error_has_label_and_help() {
    let registry = serve(|request| match request {
        "GET /v2/a/tags/list?n=1000" => tags(r#""1.8""#),
        _ => Response::error(404, "NAME_UNKNOWN"),
    });
    let (host, directory) = (registry.host(), Directory::new("missing"));
    directory.layout("widgets", release);
    let empty = oci_registry::Digest::sha256(b"");
    for (source, under, help) in [
        (
            format!("oci tags {host}/acme/none"),
            "acme/none",
            format!("oci catalog {host}"),
        ),
        (
            format!("oci tags {host}/acme/none"),
            "acme/none",
            format!("oci ping {host}"),
        ),
        (
            format!("oci tags '{host}/acme/none' --long"),
            "acme/none",
            "oci catalog".into(),
        ),
        (
            format!("oci manifest {host}/acme/none"),
            "acme/none",
            "oci catalog".into(),
        ),
        (
            format!("oci manifest {host}/a:1.9"),
            "1.9",
            format!("oci tags {host}/a"),
        ),
        (
            format!("oci manifest {host}/a:1.9"),
            "1.9",
            format!("a tag with a similar name exists: `{host}/a:1.8`"),
        ),
        (
            format!("oci delete {host}/a:1.9"),
            "1.9",
            format!("oci tags {host}/a"),
        ),
        (
            format!("oci copy \"{host}/a:1.9\" oci:x"),
            "1.9",
            format!("oci tags {host}/a"),
        ),
        (
            format!("oci blob {host}/a@{empty}"),
            empty.as_str(),
            "oci manifest".into(),
        ),
        (
            "oci manifest oci:widgets:7".into(),
            "7",
            "oci tags oci:widgets".into(),
        ),
        (
            "oci tags oci:./none".into(),
            "./none",
            "check the path".into(),
        ),
        (
            "oci tags oci-archive:none.tar".into(),
            "none.tar",
            "check the path".into(),
        ),
        (
            "oci pull oci:widgets --target avr-none".into(),
            "--target avr-none",
            "x86_64-unknown-linux-musl".into(),
        ),
        (
            "oci manifest oci:widgets -p linux/riscv64".into(),
            "-p linux/riscv64",
            "x86_64-unknown-linux-musl".into(),
        ),
    ] {
        let (code, label, advice) = eval_error(&directory, &source);
        assert_eq!(code, "oci::not_found", "{source}");
        assert_eq!(label, under, "{source}");
        assert!(advice.contains(&help), "{source}: {advice}");
    }
    // If the source does not contain the name literally, the label marks the whole argument.
    let (_, label, _) = eval_error(
        &directory,
        &format!("let name = '{host}/a:1.9'; oci manifest $name"),
    );
    assert_eq!(label, "$name");
}
