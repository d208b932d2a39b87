//! Tests of `oci index`, `oci config`, `oci reference`, `oci inspect`, `oci referrers`, `oci ping` and `oci blob`.

use std::sync::Arc;

use nu_plugin_oci::OciPlugin;
use nu_protocol::Value;
use oci_package::{annotation, platform};
use oci_registry::{
    Annotations, Blob, CopyOptions, Descriptor, Digest, Identifier, ImageManifest, Index, Layout,
    Manifest, MediaType, Packed, Platform, Source, Target, copy,
};
use testkit::server::Response;

use crate::{Directory, INDEX, cell, columns, eval, eval_in, manifest, ok, serve, shell, texts};

/// Artifact type of a package for one target.
const PACKAGE_TARGET: &str = "application/vnd.cargo-oci.package-target.v1";

pub(crate) fn annotations(pairs: &[(&str, &str)]) -> Annotations {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Creates the layer that contains a file.
pub(crate) fn layer(title: &str, kind: &str, content: &str) -> Blob {
    let mut layer = Blob::from_bytes(MediaType::OCTET_STREAM, content.to_owned());
    layer.descriptor_mut().annotations = annotations(&[
        ("org.opencontainers.image.title", title),
        ("dev.cargo-oci.file", title.split('-').next().unwrap()),
        ("dev.cargo-oci.kind", kind),
    ]);
    layer
}

pub(crate) async fn push(layout: &Layout, packed: Packed) -> Manifest {
    let manifest = packed.manifest().clone();
    let root = Identifier::from(manifest.digest().clone());
    let source: Arc<dyn Source> = Arc::new(packed);
    copy(&source, &root, layout, CopyOptions::default())
        .await
        .unwrap();
    manifest
}

/// Pushes release 1.0.0 of widgets for two targets, each with a program and a file.
pub(crate) async fn release(layout: Layout) {
    let mut entries = Vec::new();
    for (target, architecture) in [
        ("x86_64-unknown-linux-musl", "amd64"),
        ("aarch64-unknown-linux-musl", "arm64"),
    ] {
        let layers = vec![
            layer("widgets-1.0.0", "bin", &format!("program of {target}")),
            layer("LICENSE", "file", "MIT"),
        ];
        let of_target = annotations(&[
            ("dev.cargo-oci.target", target),
            ("dev.cargo-oci.platform", &format!("linux/{architecture}")),
            ("org.opencontainers.image.title", "widgets"),
            ("org.opencontainers.image.version", "1.0.0"),
        ]);
        let config = Blob::from_bytes(
            "application/x".into(),
            r#"{"rustc":"1.95.0","name":"widgets"}"#,
        );
        let packed = Packed::new(PACKAGE_TARGET.into(), config, layers, of_target.clone()).unwrap();
        let manifest = push(&layout, packed).await;
        let mut entry = manifest.descriptor();
        entry.annotations = annotations(&[
            ("dev.cargo-oci.target", target),
            ("dev.cargo-oci.size", "60"),
        ]);
        entry.platform = Some(Platform {
            architecture: architecture.into(),
            os: "linux".into(),
            os_version: None,
            os_features: Vec::new(),
            variant: None,
        });
        entries.push(entry);
    }
    let mut index = Index::new(None, entries);
    index.annotations = annotations(&[
        ("org.opencontainers.image.title", "widgets"),
        ("org.opencontainers.image.version", "1.0.0"),
        ("org.opencontainers.image.licenses", "MIT"),
        ("org.opencontainers.image.created", "2026-01-02T03:04:05Z"),
    ]);
    let index = Manifest::from_index(index).unwrap();
    layout.push_manifest(&index).await.unwrap();
    layout.tag(&index, &"1.0.0".parse().unwrap()).await.unwrap();
}

#[test]
fn tables_escape_characters_that_change_direction() {
    let directory = Directory::new("direction");
    let description = "a\u{202e}b\u{1b}[31m\nc";
    directory.layout("widgets", async |layout| {
        let stated = annotations(&[
            ("dev.cargo-oci.target", "x\u{2066}y"),
            ("org.opencontainers.image.title", "wid\u{200f}gets"),
            ("org.opencontainers.image.description", description),
        ]);
        let layers = vec![layer("widgets-1.0.0", "bin", "a program")];
        let packed = Packed::new(PACKAGE_TARGET.into(), Blob::empty(), layers, stated).unwrap();
        let manifest = push(&layout, packed).await;
        layout
            .tag(&manifest, &"1.0.0".parse().unwrap())
            .await
            .unwrap();
    });
    let mut shell = directory.shell();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let shown = "a\\u{202e}b\\u{1b}[31m\nc";
    let page = eval_in(&mut shell, "oci inspect oci:widgets:1.0.0").unwrap();
    assert_eq!(text(cell(&page, "name")), "wid\\u{200f}gets");
    assert_eq!(text(cell(&page, "description")), shown);
    assert_eq!(texts(cell(&page, "targets"), "target"), ["x\\u{2066}y"]);
    let tags = eval_in(&mut shell, "oci tags oci:widgets --long").unwrap();
    let tag = &tags.as_list().unwrap()[0];
    let stated = cell(tag, "annotations");
    let key = "org.opencontainers.image.description";
    assert_eq!(text(cell(stated, key)), shown);
    let targets = cell(tag, "targets").as_list().unwrap();
    assert_eq!(text(&targets[0]), "x\\u{2066}y");
    let raw = eval_in(&mut shell, "oci manifest oci:widgets:1.0.0 --raw").unwrap();
    assert!(text(&raw).contains('\u{202e}'), "a document is not escaped");
}

#[test]
fn index_returns_document_unchanged() {
    let directory = Directory::new("index");
    directory.layout("widgets", release);
    let mut shell = directory.shell();
    let document = eval_in(&mut shell, "oci index oci:widgets:1.0.0").unwrap();
    assert_eq!(
        columns(&document),
        ["schemaVersion", "mediaType", "manifests", "annotations"]
    );
    assert_eq!(*cell(&document, "schemaVersion"), Value::test_int(2));
    let entries = cell(&document, "manifests").as_list().unwrap();
    assert_eq!(entries.len(), 2);
    let raw = eval_in(&mut shell, "oci index oci:widgets:1.0.0 --raw").unwrap();
    let manifest = eval_in(&mut shell, "oci manifest oci:widgets:1.0.0").unwrap();
    assert_eq!(
        Digest::sha256(raw.as_str().unwrap().as_bytes()).to_string(),
        cell(&manifest, "digest").as_str().unwrap()
    );
    let child = cell(&entries[0], "digest").as_str().unwrap();
    let error = eval_in(&mut shell, &format!("oci index oci:widgets@{child}")).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::invalid_input"));
    assert!(
        error.help.unwrap().contains("oci manifest"),
        "{}",
        error.msg
    );
}

#[test]
fn config_of_target_is_record() {
    let directory = Directory::new("config");
    directory.layout("widgets", release);
    let mut shell = directory.shell();
    for source in [
        "oci config oci:widgets --target aarch64-unknown-linux-musl",
        "oci config oci:widgets:1.0.0 --platform linux/amd64",
    ] {
        let config = eval_in(&mut shell, source).unwrap();
        assert_eq!(columns(&config), ["rustc", "name"]);
        assert_eq!(cell(&config, "rustc").as_str().unwrap(), "1.95.0");
        let raw = eval_in(&mut shell, &format!("{source} --raw")).unwrap();
        assert_eq!(
            raw.as_str().unwrap(),
            r#"{"rustc":"1.95.0","name":"widgets"}"#
        );
    }
    let source = "oci config oci:widgets --target x86_64-pc-windows-msvc";
    let error = eval_in(&mut shell, source).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::not_found"));
}

#[test]
fn config_that_is_not_json_requires_raw() {
    let config = Digest::sha256(b"not json");
    let body = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{config}","size":8}},"layers":[]}}"#
    );
    let registry = serve(move |request| match request {
        "GET /v2/x/manifests/1" => manifest(body.clone()),
        _ if request.contains("/blobs/") => ok("not json"),
        _ => Response::error(404, "MANIFEST_UNKNOWN"),
    });
    let source = format!("oci config {}/x:1", registry.host());
    let error = eval(&source).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::protocol"));
    assert!(error.help.unwrap().contains("--raw"));
    let raw = eval(&format!("{source} --raw")).unwrap();
    assert_eq!(raw.as_str().unwrap(), "not json");
}

#[test]
fn examples_return_documented_results() {
    let mut shell = shell();
    let commands = nu_plugin::Plugin::commands(&OciPlugin::default());
    let mut count = 0;
    for command in &commands {
        for example in command.examples() {
            if let Some(expected) = example.result {
                let value = eval_in(&mut shell, example.example).unwrap();
                assert_eq!(value, expected, "{}", example.example);
                count += 1;
            }
        }
    }
    assert!(count >= 2, "only {count}");
}

#[test]
fn reference_is_split_and_parse_error_has_span() {
    let rows = eval("[{reference: 'a.b/c:1'} {reference: 'a.b:80/c/d'}] | oci reference").unwrap();
    assert_eq!(texts(&rows, "registry"), ["a.b", "a.b:80"]);
    assert!(cell(&rows.as_list().unwrap()[1], "tag").is_nothing());
    let mut shell = shell();
    let error = eval_in(&mut shell, "oci reference ghcr.io/acme/Widgets").unwrap_err();
    let part = shell.engine_state().get_span_contents(error.labels[0].span);
    assert_eq!(part, b"W");
    assert_eq!(error.help.as_deref(), Some("write `ghcr.io/acme/widgets`"));
}

#[test]
fn inspect_of_release_returns_all_columns() {
    let directory = Directory::new("inspect");
    directory.layout("widgets", release);
    let mut shell = directory.shell();
    let page = eval_in(&mut shell, "oci inspect oci:widgets").unwrap();
    assert_eq!(
        columns(&page),
        [
            "name",
            "version",
            "description",
            "licenses",
            "source",
            "revision",
            "created",
            "targets",
            "reference"
        ]
    );
    assert_eq!(cell(&page, "name").as_str().unwrap(), "widgets");
    assert_eq!(cell(&page, "licenses").as_str().unwrap(), "MIT");
    assert!(cell(&page, "revision").is_nothing());
    assert_eq!(
        cell(&page, "created").as_date().unwrap().timestamp(),
        1_767_323_045
    );
    let targets = cell(&page, "targets");
    assert_eq!(
        texts(targets, "target"),
        ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"]
    );
    assert_eq!(texts(targets, "platform"), ["linux/amd64", "linux/arm64"]);
    let first = &targets.as_list().unwrap()[0];
    let content = [
        r#"{"rustc":"1.95.0","name":"widgets"}"#,
        "program of x86_64-unknown-linux-musl",
        "MIT",
    ];
    let size = i64::try_from(content.concat().len()).unwrap();
    assert_eq!(*cell(first, "size"), Value::test_filesize(size));
    // `oci inspect` accepts the reference of a target row. Its table then has only this row.
    let pages = eval_in(
        &mut shell,
        "(oci inspect oci:widgets).targets | oci inspect",
    )
    .unwrap();
    assert_eq!(texts(&pages, "version"), ["1.0.0", "1.0.0"]);
    let own = cell(&pages.as_list().unwrap()[1], "targets");
    assert_eq!(texts(own, "target"), ["aarch64-unknown-linux-musl"]);
    assert_eq!(texts(own, "digest"), texts(targets, "digest")[1..]);
}

#[test]
fn inspect_reads_image_labels_without_annotations() {
    let config = r#"{"os":"linux","architecture":"arm64","created":"2026-01-02T03:04:05Z",
        "config":{"Labels":{"org.opencontainers.image.version":"7.1","org.opencontainers.image.source":"https://a.b"}}}"#;
    let body = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[]}}"#,
        Digest::sha256(config.as_bytes()),
        config.len()
    );
    let registry = serve(move |request| match request {
        "GET /v2/x/manifests/1" => manifest(body.clone()),
        _ if request.contains("/blobs/") => ok(config),
        _ => Response::error(404, "MANIFEST_UNKNOWN"),
    });
    let page = eval(&format!("oci inspect {}/x:1", registry.host())).unwrap();
    assert_eq!(cell(&page, "version").as_str().unwrap(), "7.1");
    assert_eq!(cell(&page, "source").as_str().unwrap(), "https://a.b");
    assert!(cell(&page, "name").is_nothing());
    assert!(cell(&page, "created").as_date().is_ok());
    assert_eq!(texts(cell(&page, "targets"), "platform"), ["linux/arm64"]);
}

#[test]
fn attestations_are_not_listed_as_platforms_or_targets() {
    let directory = Directory::new("attestations");
    directory.layout("image", async |layout| {
        let mut entries = Vec::new();
        for (os, architecture) in [("linux", "amd64"), ("unknown", "unknown")] {
            let config = format!(r#"{{"os":"{os}","architecture":"{architecture}"}}"#);
            let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, config);
            layout.push_blob(&config).await.unwrap();
            let mut image = ImageManifest::new(MediaType::EMPTY, config.descriptor().clone());
            image.artifact_type = None;
            let image = Manifest::from_image(image).unwrap();
            layout.push_manifest(&image).await.unwrap();
            let mut entry = image.descriptor();
            entry.platform = platform::parse(&format!("{os}/{architecture}")).ok();
            entries.push(entry);
        }
        let marks = [(annotation::REFERENCE_TYPE, "attestation-manifest")];
        entries[1].annotations = annotations(&marks);
        let index = Manifest::from_index(Index::new(None, entries)).unwrap();
        layout.push_manifest(&index).await.unwrap();
        layout.tag(&index, &"1".parse().unwrap()).await.unwrap();
    });
    let mut shell = directory.shell();
    let page = eval_in(&mut shell, "oci inspect oci:image:1").unwrap();
    assert_eq!(texts(cell(&page, "targets"), "platform"), ["linux/amd64"]);
    let rows = eval_in(&mut shell, "oci tags oci:image --long").unwrap();
    let row = &rows.as_list().unwrap()[0];
    let platforms = cell(row, "platforms").as_list().unwrap();
    assert_eq!(platforms, [Value::test_string("linux/amd64")]);
    let configs = [
        r#"{"os":"linux","architecture":"amd64"}"#,
        r#"{"os":"unknown","architecture":"unknown"}"#,
    ];
    let size = cell(row, "size").as_filesize().unwrap().get();
    assert_eq!(usize::try_from(size).unwrap(), configs.concat().len());
}

#[test]
fn referrer_rows_are_valid_input_of_other_commands() {
    let directory = Directory::new("referrers");
    directory.layout("widgets", async |layout| {
        let subject = push(
            &layout,
            Packed::new(
                "a/subject".into(),
                Blob::empty(),
                vec![],
                Annotations::new(),
            )
            .unwrap(),
        )
        .await;
        layout.tag(&subject, &"1".parse().unwrap()).await.unwrap();
        let about = |artifact_type: &'static str, subject: Descriptor, note: &str| {
            let config = Blob::empty();
            let mut image = ImageManifest::new(artifact_type.into(), config.descriptor().clone());
            image.subject = Some(subject);
            image.annotations = annotations(&[
                ("note", note),
                ("org.opencontainers.image.created", "2026-01-02T03:04:05Z"),
            ]);
            Manifest::from_image(image).unwrap()
        };
        let sbom = about("a/sbom", subject.descriptor(), "contents");
        let signature = about("a/signature", subject.descriptor(), "signed");
        let deeper = about("a/signature", sbom.descriptor(), "signed contents");
        for manifest in [&sbom, &signature, &deeper] {
            layout.push_manifest(manifest).await.unwrap();
        }
    });
    let mut shell = directory.shell();
    let rows = eval_in(&mut shell, "oci referrers oci:widgets:1").unwrap();
    let mut types = texts(&rows, "artifact_type");
    types.sort_unstable();
    assert_eq!(types, ["a/sbom", "a/signature"]);
    for row in rows.as_list().unwrap() {
        assert_eq!(
            columns(row),
            [
                "artifact_type",
                "size",
                "created",
                "annotations",
                "reference",
                "digest"
            ]
        );
        assert_eq!(*cell(row, "size"), Value::test_filesize(2));
        assert!(cell(row, "created").as_date().is_ok());
    }
    let sboms = "oci referrers oci:widgets:1 --artifact-type a/sbom";
    let rows = eval_in(&mut shell, sboms).unwrap();
    assert_eq!(texts(&rows, "artifact_type"), ["a/sbom"]);
    let about_sboms = eval_in(&mut shell, &format!("{sboms} | oci referrers")).unwrap();
    let note = cell(
        cell(&about_sboms.as_list().unwrap()[0], "annotations"),
        "note",
    );
    assert_eq!(note.as_str().unwrap(), "signed contents");
    // With `--all`, the row of a referrer is followed by the rows of its own referrers.
    let all = eval_in(&mut shell, &format!("{sboms} --all")).unwrap();
    assert_eq!(texts(&all, "artifact_type"), ["a/sbom", "a/signature"]);
    assert_eq!(texts(&all, "subject")[1], texts(&all, "reference")[0]);
    let all = eval_in(&mut shell, "oci referrers oci:widgets:1 -a").unwrap();
    assert_eq!(all.as_list().unwrap().len(), 3);
}

#[test]
fn referrers_of_missing_subject_are_listed() {
    let digest = Digest::sha256(b"subject");
    let gone = Digest::sha256(b"gone");
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{}","digest":"{gone}","size":9,
        "artifactType":"a/b","annotations":{{"org.opencontainers.image.created":"2026-01-02T03:04:05Z"}}}}]}}"#,
        crate::MANIFEST
    );
    let registry = serve(move |request| {
        if request.contains("/referrers/") {
            return ok(list.clone()).header("Content-Type", INDEX);
        }
        Response::error(404, "MANIFEST_UNKNOWN")
    });
    let rows = eval(&format!("oci referrers {}/x@{digest}", registry.host())).unwrap();
    let [row] = rows.as_list().unwrap() else {
        panic!("{rows:?}")
    };
    // The referrers list may be outdated: the row has the values of the list, and its size is unknown.
    assert!(cell(row, "size").is_nothing());
    assert!(cell(row, "created").as_date().is_ok());
    let requests = registry.request_lines();
    assert!(requests[0].contains("/referrers/"), "{requests:?}");
}

#[test]
fn unreadable_referrer_row_has_no_size() {
    let (digest, broken) = (Digest::sha256(b"subject"), Digest::sha256(b"broken"));
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{}","digest":"{broken}","size":9,
        "artifactType":"a/b"}}]}}"#,
        crate::MANIFEST
    );
    let registry = serve(move |request| {
        if request.contains("/referrers/") {
            return ok(list.clone()).header("Content-Type", INDEX);
        }
        manifest("something else")
    });
    let rows = eval(&format!("oci referrers {}/x@{digest}", registry.host())).unwrap();
    assert_eq!(texts(&rows, "artifact_type"), ["a/b"]);
    assert!(cell(&rows.as_list().unwrap()[0], "size").is_nothing());
}

#[test]
fn ping_reports_authentication_and_latency() {
    let open = serve(|_| ok("{}").header("RateLimit-Limit", "100;w=21600"));
    let row = eval(&format!("oci ping {}", open.host())).unwrap();
    assert_eq!(
        columns(&row),
        [
            "reference",
            "access",
            "authenticated",
            "credential_source",
            "rate_limit",
            "latency"
        ]
    );
    assert_eq!(cell(&row, "access").as_str().unwrap(), "anonymous");
    let rate_limit = cell(&row, "rate_limit");
    assert_eq!(*cell(rate_limit, "limit"), Value::test_int(100));
    assert!(cell(rate_limit, "remaining").is_nothing());
    let six_hours = Value::test_duration(6 * 3600 * 1_000_000_000);
    assert_eq!(*cell(rate_limit, "window"), six_hours);
    assert_eq!(cell(&row, "reference").as_str().unwrap(), open.host());
    assert_eq!(*cell(&row, "authenticated"), Value::test_bool(false));
    assert!(cell(&row, "credential_source").is_nothing());
    assert!(cell(&row, "latency").as_duration().unwrap() > 0);
    let large = serve(|_| ok("{}").header("RateLimit-Limit", "9223372036854775808;w=21600"));
    let row = eval(&format!("oci ping {}", large.host())).unwrap();
    assert!(cell(&row, "rate_limit").is_nothing());
    let none = serve(|_| Response::new(404).body("<html>"));
    let error = eval(&format!("oci ping {}", none.host())).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::not_found"));
    let source = format!("[{} {}] | oci ping", open.host(), open.host());
    assert_eq!(eval(&source).unwrap().as_list().unwrap().len(), 2);
}

#[test]
fn blob_is_verified_before_it_is_returned_or_written() {
    let (right, wrong) = (Digest::sha256(b"content"), Digest::sha256(b"other"));
    let large = Digest::sha256(b"large");
    let name = large.to_string();
    let registry = serve(move |request| match request.split_once(' ').unwrap() {
        (_, path) if !path.contains("/blobs/") => Response::error(404, "NAME_UNKNOWN"),
        ("HEAD", path) if path.ends_with(&name) => {
            Response::new(200).header("Content-Length", 65 << 20)
        }
        ("HEAD", _) => Response::new(200).header("Content-Length", "7"),
        (_, _) => ok("content"),
    });
    let host = registry.host();
    let bytes = eval(&format!("oci blob {host}/x@{right}")).unwrap();
    assert_eq!(bytes, Value::test_binary(*b"content"));
    let list = eval(&format!("[{host}/x@{right} {host}/x@{right}] | oci blob")).unwrap();
    assert_eq!(list.as_list().unwrap().len(), 2);

    let directory = Directory::new("blob");
    let mut shell = directory.shell();
    let fetch = |digest: &Digest| format!("oci blob {host}/x@{digest} --output out");
    let error = eval_in(&mut shell, &fetch(&wrong)).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::mismatch"));
    assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 0);
    let row = eval_in(&mut shell, &fetch(&right)).unwrap();
    let file = directory.0.join("out");
    assert_eq!(columns(&row), ["path", "size", "digest"]);
    assert_eq!(cell(&row, "path").as_str().unwrap(), file.to_str().unwrap());
    assert_eq!(std::fs::read(&file).unwrap(), b"content");
    std::fs::write(&file, "mine").unwrap();
    let error = eval_in(&mut shell, &fetch(&right)).unwrap_err();
    assert_eq!(error.code.as_deref(), Some("oci::conflict"));
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    eval_in(&mut shell, &format!("{} --force", fetch(&right))).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"content");
    assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 1);
    #[cfg(unix)]
    {
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/null", &file).unwrap();
        eval_in(&mut shell, &format!("{} --force", fetch(&right))).unwrap();
        assert!(file.is_symlink(), "the link to a device is not replaced");
    }

    for (source, help) in [
        (format!("oci blob {host}/x@{large}"), "--output"),
        (format!("oci blob {host}/x:1"), "@DIGEST"),
        (
            format!("[{host}/x@{right}] | oci blob --output out"),
            "each",
        ),
    ] {
        let error = eval_in(&mut shell, &source).unwrap_err();
        assert_eq!(
            error.code.as_deref(),
            Some("oci::invalid_input"),
            "{source}"
        );
        assert!(error.help.unwrap().contains(help), "{source}");
    }
}
