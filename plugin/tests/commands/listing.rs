//! `oci catalog` and `oci tags`, of what is not as it should be, and of what is no registry.

use crate::documents::release;
use crate::scripted::{Answer, Registry};
use crate::{Directory, artifact, cell, columns, eval, eval_in, manifest, tags, texts};

#[test]
fn a_tag_that_cannot_be_read_is_a_row_all_the_same() {
    let good = artifact("");
    let registry = Registry::start(move |request| match request.split('?').next().unwrap() {
        "GET /v2/x/tags/list" => tags(r#""1.0.0","html","mine","2.0.0""#),
        "GET /v2/x/manifests/html" => Answer::ok("<html>").header("Content-Type", "text/html"),
        "GET /v2/x/manifests/mine" => Answer::error(403, "DENIED"),
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
    // Asked about by itself it is an error that says why.
    let error = eval(&format!("oci manifest {}/x:mine", registry.host())).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::denied"));
}

#[test]
fn the_layouts_of_a_directory_are_a_catalog() {
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
