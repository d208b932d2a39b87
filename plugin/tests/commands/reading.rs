//! Tests of `oci tags`, `oci catalog` and `oci manifest`, and of behaviour that all commands share.

use std::path::Path;

use nu_plugin::Plugin;
use nu_plugin_oci::OciPlugin;
use nu_protocol::{PipelineData, ShellError, Span, Value};
use oci_registry::{Blob, Digest, ImageManifest, Layout, Manifest, Target};
use testkit::server::{Response, Server};

use crate::{
    INDEX, MANIFEST, artifact, cell, columns, eval, eval_in, manifest, ok, serve, shell, tags,
    texts,
};

pub(crate) const LONG: [&str; 8] = [
    "size",
    "created",
    "platforms",
    "targets",
    "artifact_type",
    "media_type",
    "annotations",
    "digest",
];
const MANIFEST_COLUMNS: [&str; 10] = [
    "reference",
    "media_type",
    "artifact_type",
    "size",
    "annotations",
    "config",
    "subject",
    "layers",
    "manifests",
    "digest",
];
const LAYERS: [&str; 7] = [
    "title",
    "kind",
    "media_type",
    "size",
    "annotations",
    "reference",
    "digest",
];
const MANIFESTS: [&str; 8] = [
    "platform",
    "target",
    "artifact_type",
    "media_type",
    "size",
    "annotations",
    "reference",
    "digest",
];

#[test]
fn oci_without_subcommand_lists_commands() {
    let help = eval("oci").unwrap();
    for command in OciPlugin::default().commands() {
        assert!(help.as_str().unwrap().contains(command.name()), "{help:?}");
    }
}

#[test]
fn examples_of_all_commands_parse() {
    let mut shell = shell();
    let mut count = 0;
    for command in OciPlugin::default().commands() {
        for example in command.examples() {
            // The test shell has only the commands of the language and of the plugin.
            for part in example
                .example
                .split(" | ")
                .filter(|part| part.starts_with("oci "))
            {
                shell.eval(&format!("def example [] {{ {part} }}")).unwrap();
                count += 1;
            }
        }
    }
    assert!(count > 5, "only {count} parts");
    assert!(
        shell
            .eval("def example [] { oci tags --no-such-flag }")
            .is_err()
    );
}

#[test]
fn tags_of_several_pages_return_rows() {
    let registry = serve(|request| match request {
        "GET /v2/acme/widgets/tags/list?n=1000" => tags(r#""1.0.0","1.1.0""#).header(
            "Link",
            r#"</v2/acme/widgets/tags/list?n=1000&last=1.1.0>; rel="next""#,
        ),
        "GET /v2/acme/widgets/tags/list?n=1000&last=1.1.0" => tags(r#""latest""#),
        _ => Response::error(404, "NAME_UNKNOWN"),
    });
    let host = registry.host();
    let rows = eval(&format!("oci tags {host}/acme/widgets")).unwrap();
    assert_eq!(texts(&rows, "name"), ["1.0.0", "1.1.0", "latest"]);
    let row = &rows.as_list().unwrap()[2];
    assert_eq!(columns(row), ["name", "reference"]);
    assert_eq!(
        cell(row, "reference").as_str().unwrap(),
        format!("{host}/acme/widgets:latest")
    );
    assert_eq!(registry.request_lines().len(), 2);
}

/// Starts a registry with two repositories: `small`, and `endless`, whose tag list never ends and has pages of 200
/// tags.
fn start_endless_registry() -> Server {
    serve(|request| {
        if request.starts_with("GET /v2/small/") {
            return tags(r#""latest""#);
        }
        let page = request.rsplit('=').next().unwrap().parse::<usize>();
        let page = page.ok().filter(|page| *page != 1000).unwrap_or_default();
        let names: Vec<_> = (0..200).map(|row| format!(r#""{page}.{row}""#)).collect();
        let next = format!(r#"</v2/endless/tags/list?page={}>; rel="next""#, page + 1);
        tags(&names.join(",")).header("Link", next)
    })
}

#[test]
fn first_row_of_long_list_requests_one_page() {
    let registry = start_endless_registry();
    let (host, mut shell) = (registry.host(), shell());
    let rows = shell.eval(&format!("oci tags {host}/endless")).unwrap();
    let first = rows.into_iter().next().unwrap();
    assert_eq!(cell(&first, "name").as_str().unwrap(), "0.0");
    // A second request for the list would arrive at the registry before this command finishes.
    eval_in(&mut shell, &format!("oci tags {host}/small")).unwrap();
    assert_eq!(registry.count("GET /v2/endless/"), 1);
}

#[test]
fn row_of_third_page_requests_no_later_pages() {
    let registry = start_endless_registry();
    let rows = shell().eval(&format!("oci tags {}/endless", registry.host()));
    let row = rows.unwrap().into_iter().nth(450).unwrap();
    assert_eq!(cell(&row, "name").as_str().unwrap(), "2.50");
    let requests = registry.request_lines();
    assert!(requests.len() <= 4, "{requests:?}");
}

#[test]
fn error_of_registry_has_code_label_and_causes() {
    let registry = serve(|_| Response::error(404, "NAME_UNKNOWN"));
    let source = format!("oci tags {}/acme/nothing", registry.host());
    let error = eval(&source).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::not_found"));
    assert_eq!(
        error.msg,
        format!(
            "failed to list the tags of `{}/acme/nothing`",
            registry.host()
        )
    );
    let [cause] = &error.inner[..] else {
        panic!("{error:?}")
    };
    assert!(
        cause
            .to_string()
            .contains("404 Not Found NAME_UNKNOWN: says the registry"),
        "{cause}"
    );
    let [label] = &error.labels[..] else {
        panic!("{error:?}")
    };
    assert_eq!(label.span.end - label.span.start, "acme/nothing".len());
}

#[test]
fn parse_error_label_marks_invalid_part() {
    for (source, part) in [
        ("oci tags ghcr.io/acme/Widgets", "W"),
        ("oci tags 'ghcr.io/acme/wid gets'", " "),
        ("[ghcr.io/a ghcr.io/b:c:d] | oci manifest", ":"),
        ("oci catalog ghcr.io:port", "port"),
    ] {
        let mut shell = shell();
        let error = eval_in(&mut shell, source).unwrap_err();
        assert_eq!(error.code.as_deref(), Some("oci::invalid_input"));
        let shown = shell.engine_state().get_span_contents(error.labels[0].span);
        assert_eq!(String::from_utf8_lossy(shown), part, "{source}");
    }
}

#[test]
fn tags_command_rejects_reference_with_tag() {
    let error = eval("oci tags ghcr.io/acme/widgets:1").unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::invalid_input"));
    assert_eq!(
        error.help.as_deref(),
        Some("leave out `1`: `ghcr.io/acme/widgets`")
    );
}

fn two_repositories() -> Server {
    serve(|request| match request.split('?').next() {
        Some("GET /v2/_catalog") => ok(r#"{"repositories":["one","two"]}"#),
        Some("GET /v2/one/tags/list") => tags(r#""1""#),
        Some("GET /v2/two/tags/list") => tags(r#""1","2""#),
        _ => Response::error(404, "NAME_UNKNOWN"),
    })
}

#[test]
fn references_are_read_from_arguments_or_input() {
    let registry = two_repositories();
    let host = registry.host();
    for source in [
        format!("oci tags {host}/one {host}/two"),
        format!("[{host}/one {host}/two] | oci tags"),
        format!("[{{reference: '{host}/one'}} {{reference: '{host}/two'}}] | oci tags"),
        format!("oci catalog {host} | oci tags"),
        format!("'{host}' | oci catalog | oci tags"),
    ] {
        let rows = eval(&source).unwrap();
        assert_eq!(texts(&rows, "name"), ["1", "1", "2"], "{source}");
        let repositories = ["one", "two", "two"].map(|name| format!("{host}/{name}"));
        assert_eq!(texts(&rows, "repository"), repositories, "{source}");
    }
    for source in [
        format!("'{host}/two' | oci tags"),
        format!("{{reference: '{host}/two'}} | oci tags"),
        // The first command of a closure receives the input of the closure.
        format!("'two' | do {{|| oci tags {host}/two }}"),
    ] {
        let rows = eval(&source).unwrap();
        assert_eq!(texts(&rows, "name"), ["1", "2"], "{source}");
        assert_eq!(columns(&rows.as_list().unwrap()[0]), ["name", "reference"]);
    }
}

#[test]
fn input_without_reference_is_rejected() {
    for (source, code) in [
        ("oci tags", Some("oci::invalid_input")),
        ("[a.b/c] | oci tags a.b/d", Some("oci::invalid_input")),
        ("[{name: a.b/c}] | oci tags", Some("oci::invalid_input")),
        ("{reference: 5} | oci manifest", Some("oci::invalid_input")),
        (
            "oci manifest a.b/c:1 --retries 1000",
            Some("oci::invalid_input"),
        ),
        (
            "oci manifest a.b/c:1 --platform linux",
            Some("oci::invalid_input"),
        ),
        (
            "oci manifest a.b/c:1 --platform a/b --target c",
            Some("oci::invalid_input"),
        ),
    ] {
        let error = eval(source).unwrap_err();
        assert_eq!(error.code.as_deref(), code, "{source}: {error:?}");
        assert!(!error.labels.is_empty(), "{source}");
    }
}

#[test]
fn catalog_of_a_registry_returns_rows() {
    let registry = two_repositories();
    let host = registry.host();
    let rows = eval(&format!("oci catalog {host}")).unwrap();
    assert_eq!(texts(&rows, "name"), ["one", "two"]);
    assert_eq!(
        texts(&rows, "reference"),
        [format!("{host}/one"), format!("{host}/two")]
    );
    assert_eq!(columns(&rows.as_list().unwrap()[0]), ["name", "reference"]);

    let closed = serve(|_| Response::new(404));
    let error = eval(&format!("oci catalog {}", closed.host())).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::unsupported"));
}

#[test]
fn tags_long_returns_details_of_manifests() {
    let of_target = artifact(
        r#""dev.cargo-oci.target":"x86_64-apple-darwin","dev.cargo-oci.platform":"darwin/amd64",
        "org.opencontainers.image.created":"2026-01-02T03:04:05Z""#,
    );
    let entry = |target: &str, os: &str| {
        let digest = Digest::sha256(target.as_bytes());
        format!(
            r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":9,"platform":{{"os":"{os}","architecture":"amd64"}},
            "annotations":{{"dev.cargo-oci.target":"{target}","dev.cargo-oci.size":"20"}}}}"#
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{},{},{}]}}"#,
        entry("a", "linux"),
        entry("b", "linux"),
        entry("c", "darwin")
    );
    let (served, index_digest) = (of_target.clone(), Digest::sha256(index.as_bytes()));
    let registry = serve(move |request| match request.split('?').next().unwrap() {
        "GET /v2/x/tags/list" => tags(r#""1.0.0","gone","1.0.0__x86_64-apple-darwin""#),
        "GET /v2/x/manifests/1.0.0" => ok(index.clone()).header("Content-Type", INDEX),
        "GET /v2/x/manifests/1.0.0__x86_64-apple-darwin" => manifest(served.clone()),
        _ => Response::error(404, "MANIFEST_UNKNOWN"),
    });
    let source = format!("oci tags {}/x --long --all", registry.host());
    let table = eval(&source).unwrap();
    let rows = table.as_list().unwrap();
    assert_eq!(
        texts(&table, "name"),
        ["1.0.0", "gone", "1.0.0__x86_64-apple-darwin"]
    );
    for row in rows {
        let (short, digest) = LONG.split_at(7);
        let expected = [&["name"][..], short, &["reference"], digest].concat();
        assert_eq!(columns(row), expected);
    }
    let [index, gone, target] = rows else {
        panic!("{rows:?}")
    };
    let span = Span::test_data();
    let list = |texts: &[&str]| {
        Value::list(
            texts
                .iter()
                .map(|text| Value::string(*text, span))
                .collect(),
            span,
        )
    };
    assert_eq!(*cell(index, "size"), Value::filesize(60, span));
    assert_eq!(
        *cell(index, "platforms"),
        list(&["linux/amd64", "darwin/amd64"])
    );
    assert_eq!(*cell(index, "targets"), list(&["a", "b", "c"]));
    assert_eq!(*cell(index, "artifact_type"), Value::nothing(span));
    assert_eq!(cell(index, "media_type").as_str().unwrap(), INDEX);
    assert_eq!(
        cell(index, "digest").as_str().unwrap(),
        index_digest.to_string()
    );
    assert!(
        LONG.iter().all(|column| cell(gone, column).is_nothing()),
        "{gone:?}"
    );
    assert_eq!(*cell(target, "size"), Value::filesize(10, span));
    assert_eq!(
        cell(target, "created").as_date().unwrap().timestamp(),
        1_767_323_045
    );
    assert_eq!(cell(target, "annotations").as_record().unwrap().len(), 3);
}

#[test]
fn rate_limit_error_follows_the_received_rows() {
    let registry = serve(|request| match request.split('?').next().unwrap() {
        "GET /v2/x/tags/list" => tags(r#""1","2","3""#),
        "GET /v2/x/manifests/2" => {
            Response::error(429, "TOOMANYREQUESTS").header("Retry-After", "86400")
        }
        _ => manifest(artifact("")),
    });
    let source = format!("oci tags {}/x --long --concurrency 1", registry.host());
    let rows = shell().eval(&source).unwrap();
    let rows: Vec<_> = rows.into_iter().collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(cell(&rows[0], "name").as_str().unwrap(), "1");
    let Value::Error { error, .. } = &rows[1] else {
        panic!("{rows:?}")
    };
    let ShellError::LabeledError(error) = &**error else {
        panic!("{error:?}")
    };
    assert_eq!(error.code.as_deref(), Some("oci::rate_limited"));
}

#[test]
fn repeated_tags_long_sends_head_requests_only() {
    let body = artifact("");
    let digest = Digest::sha256(body.as_bytes());
    let registry = serve(move |request| match request {
        "GET /v2/x/tags/list?n=1000" => tags(r#""1","2","3""#),
        _ => manifest(&body).header("Docker-Content-Digest", &digest),
    });
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = directory.join(format!("cache-{}", std::process::id()));
    let mut shell = shell();
    let cache = Value::test_string(directory.display().to_string());
    shell
        .engine_state_mut()
        .add_env_var("XDG_CACHE_HOME".into(), cache.clone());
    shell
        .engine_state_mut()
        .add_env_var("LOCALAPPDATA".into(), cache);
    let source = format!("oci tags {}/x --long --concurrency 1", registry.host());
    let first = eval_in(&mut shell, &source).unwrap();
    let requests = registry.requests().len();
    assert_eq!(eval_in(&mut shell, &source).unwrap(), first);
    let again = registry.request_lines().split_off(requests);
    assert_eq!(again.len(), 4, "{again:?}");
    assert!(
        again[1..]
            .iter()
            .all(|request| request.starts_with("HEAD ")),
        "{again:?}"
    );
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn error_of_a_page_follows_the_received_rows() {
    let registry = serve(|request| match request.split('?').next().unwrap() {
        "GET /v2/x/tags/list" if request.contains("last=3") => Response::error(404, "NAME_UNKNOWN"),
        "GET /v2/x/tags/list" => {
            tags(r#""1","2","3""#).header("Link", r#"</v2/x/tags/list?last=3>; rel="next""#)
        }
        _ => manifest(artifact("")),
    });
    for flags in ["", "--long"] {
        let rows = shell().eval(&format!("oci tags {}/x {flags}", registry.host()));
        let rows: Vec<_> = rows.unwrap().into_iter().collect();
        assert_eq!(rows.len(), 4, "{rows:?}");
        assert!(
            rows[..3].iter().all(|row| row.as_record().is_ok()),
            "{rows:?}"
        );
        assert!(matches!(rows[3], Value::Error { .. }), "{rows:?}");
    }
}

#[test]
fn layout_directory_is_read_as_a_repository() {
    let name = format!("layout-{}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let layout = Layout::create(&directory).await.unwrap();
        let config = Blob::empty();
        layout.push_blob(&config).await.unwrap();
        let image = ImageManifest::new("application/x".into(), config.descriptor().clone());
        let image = Manifest::from_image(image).unwrap();
        layout.push_manifest(&image).await.unwrap();
        layout.tag(&image, &"1.0.0".parse().unwrap()).await.unwrap();
    });
    let mut shell = shell();
    let base = Value::test_string(env!("CARGO_TARGET_TMPDIR"));
    shell.engine_state_mut().add_env_var("PWD".into(), base);
    let rows = eval_in(&mut shell, &format!("oci tags oci:./{name} --long")).unwrap();
    assert_eq!(texts(&rows, "name"), ["1.0.0"]);
    assert_eq!(texts(&rows, "artifact_type"), ["application/x"]);
    let reference = format!("oci:{}:1.0.0", directory.display());
    assert_eq!(texts(&rows, "reference"), [reference.as_str()]);
    let record = eval(&format!("oci manifest '{reference}'")).unwrap();
    assert_eq!(*cell(&record, "size"), Value::test_filesize(2));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn manifest_of_tag_is_record() {
    let body = artifact(r#""org.opencontainers.image.title":"widgets""#);
    let (served, digest) = (body.clone(), Digest::sha256(body.as_bytes()));
    let registry = serve(move |request| match request {
        "GET /v2/x/manifests/1" => manifest(served.clone()),
        _ => Response::error(404, "MANIFEST_UNKNOWN"),
    });
    let host = registry.host();
    let record = eval(&format!("oci manifest {host}/x:1")).unwrap();
    assert_eq!(columns(&record), MANIFEST_COLUMNS);
    assert_eq!(
        cell(&record, "reference").as_str().unwrap(),
        format!("{host}/x@{digest}")
    );
    assert_eq!(*cell(&record, "size"), Value::test_filesize(10));
    assert!(cell(&record, "manifests").is_nothing());
    assert!(cell(&record, "subject").is_nothing());
    let layer = &cell(&record, "layers").as_list().unwrap()[0];
    assert_eq!(columns(layer), LAYERS);
    assert_eq!(cell(layer, "kind").as_str().unwrap(), "bin");
    assert_eq!(cell(layer, "title").as_str().unwrap(), "widgets-1.0.0");

    let raw = eval(&format!("oci manifest {host}/x:1 --raw")).unwrap();
    assert_eq!(raw.as_str().unwrap(), body);
    let rows = eval(&format!("[{host}/x:1] | oci manifest")).unwrap();
    assert_eq!(rows.as_list().unwrap().len(), 1);
    let error = eval(&format!("oci manifest {host}/x:2")).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::not_found"));
}

#[test]
fn manifest_of_repository_is_highest_release() {
    let registry = serve(|request| match request.split('?').next().unwrap() {
        "GET /v2/x/tags/list" => tags(r#""1.9.0","latest","1.10.0","2.0.0-rc.1","1.10.0__a""#),
        "GET /v2/none/tags/list" => tags(r#""latest""#),
        "GET /v2/x/manifests/1.10.0" => manifest(artifact("")),
        _ => Response::error(404, "MANIFEST_UNKNOWN"),
    });
    let host = registry.host();
    let record = eval(&format!("oci manifest {host}/x")).unwrap();
    let digest = Digest::sha256(artifact("").as_bytes());
    assert_eq!(
        cell(&record, "digest").as_str().unwrap(),
        digest.to_string()
    );
    let error = eval(&format!("oci manifest {host}/none")).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::not_found"));
}

#[test]
fn manifest_of_an_index_is_selected_by_target_or_platform() {
    const MAC: &str = "aarch64-apple-darwin";
    const LINUX: &str = "x86_64-unknown-linux-musl";
    let of_target = |target: &str| artifact(&format!(r#""dev.cargo-oci.target":"{target}""#));
    let entry = |target: &str, os: &str, architecture: &str| {
        let body = of_target(target);
        format!(
            r#"{{"mediaType":"{MANIFEST}","digest":"{}","size":{},
            "platform":{{"os":"{os}","architecture":"{architecture}"}},
            "annotations":{{"dev.cargo-oci.target":"{target}"}}}}"#,
            Digest::sha256(body.as_bytes()),
            body.len()
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{},{}]}}"#,
        entry(MAC, "darwin", "arm64"),
        entry(LINUX, "linux", "amd64")
    );
    let (mac, linux) = (of_target(MAC), of_target(LINUX));
    let registry = serve(move |request| {
        let name = request.rsplit('/').next().unwrap();
        match name {
            "1.0.0" => ok(index.clone()).header("Content-Type", INDEX),
            _ if name == Digest::sha256(mac.as_bytes()).to_string() => manifest(mac.clone()),
            _ if name == Digest::sha256(linux.as_bytes()).to_string() => manifest(linux.clone()),
            _ => Response::error(404, "MANIFEST_UNKNOWN"),
        }
    });
    let reference = format!("{}/x:1.0.0", registry.host());
    for (choice, expected) in [
        (format!("--target {MAC}"), MAC),
        (format!("--target {LINUX}"), LINUX),
        ("--platform linux/amd64".to_owned(), LINUX),
    ] {
        let record = eval(&format!("oci manifest {reference} {choice}")).unwrap();
        let target = cell(cell(&record, "annotations"), "dev.cargo-oci.target");
        assert_eq!(target.as_str().unwrap(), expected, "{choice}");
    }
    let error = eval(&format!(
        "oci manifest {reference} --target x86_64-pc-windows-msvc"
    ));
    let error = error.unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::not_found"));
    assert!(error.help.unwrap().contains(MAC));
}

#[test]
fn tables_with_null_cells_can_be_assigned_to_variables() {
    let registry = serve(|request| match request.split('?').next().unwrap() {
        "GET /v2/x/tags/list" => tags(r#""gone","1""#),
        "GET /v2/x/manifests/1" => manifest(artifact("")),
        _ => Response::error(404, "MANIFEST_UNKNOWN"),
    });
    let host = registry.host();
    for source in [
        format!("let it = oci tags {host}/x; $it"),
        format!("let it = oci tags {host}/x --long; $it"),
        format!("let it: table<name: string> = oci tags {host}/x --long; $it"),
        format!("for row in (oci tags {host}/x --long) {{ echo $row.size }}; [1]"),
        format!("let it = oci manifest {host}/x:1; [$it]"),
        format!("let it = [{host}/x:1] | oci manifest; $it"),
        format!("let it = oci manifest {host}/x:1 --raw; [$it]"),
    ] {
        let value = eval(&source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
        assert!(!value.as_list().unwrap().is_empty());
    }
}

#[test]
fn manifest_of_index_has_manifests_and_no_layers() {
    let digest = Digest::sha256(b"x");
    let body = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MANIFEST}","digest":"{digest}","size":9,
        "platform":{{"os":"unknown","architecture":"unknown"}}}}]}}"#
    );
    let registry = serve(move |_| ok(body.clone()).header("Content-Type", INDEX));
    let record = eval(&format!("oci manifest {}/x:1", registry.host())).unwrap();
    assert_eq!(columns(&record), MANIFEST_COLUMNS);
    for column in ["config", "layers", "subject", "size"] {
        assert!(cell(&record, column).is_nothing(), "{column}");
    }
    let entry = &cell(&record, "manifests").as_list().unwrap()[0];
    assert_eq!(columns(entry), MANIFESTS);
    assert!(cell(entry, "platform").is_nothing());
    let reference = format!("{}/x@{digest}", registry.host());
    assert_eq!(cell(entry, "reference").as_str().unwrap(), reference);
}

#[test]
fn connection_is_reused_until_the_environment_changes() {
    let registry = two_repositories();
    let (host, mut shell) = (registry.host(), shell());
    for _ in 0..3 {
        eval_in(&mut shell, &format!("oci tags {host}/one")).unwrap();
    }
    assert_eq!(registry.connections(), 1);
    let missing_path = Value::test_string("/nonexistent");
    shell
        .engine_state_mut()
        .add_env_var("DOCKER_CONFIG".into(), missing_path);
    eval_in(&mut shell, &format!("oci tags {host}/one")).unwrap();
    assert_eq!(registry.connections(), 2);
}

#[test]
fn argument_with_null_pipeline_input_is_used() {
    let registry = two_repositories();
    let source = format!("oci tags {}/one", registry.host());
    let rows = shell().eval_with(&source, PipelineData::value(Value::test_nothing(), None));
    assert_eq!(rows.unwrap().into_iter().count(), 1);
}
