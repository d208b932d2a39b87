//! Commands that read: `inspect`, `manifest`, `config`, `blob`, `tags`, `catalog`, `referrers`, `verify`, `export`.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;

use e2e::loopback::ClosedPort;
use e2e::program::Home;
use e2e::registry::Registry;
use e2e::release::{ARM, MAC, Release, image_layout, target_tag};
use e2e::require;
use e2e::server::{Response, Server};
use e2e::token::TokenPolicy;
use serde_json::Value;
use testkit::registry::{FakeRegistry, Switches};
use testkit::tcp::TcpServer;

#[test]
fn inspect_prints_release() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let location = format!("{}/widgets", registry.host());
    let digest = registry.digest("widgets", "1.2.3").unwrap();
    let shown = home.cargo_oci(["inspect", &location]).succeeds().stdout;
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[..2], ["widgets 1.2.3", "Round ones and square ones"]);
    assert!(
        lines.contains(&&*format!("reference  {location}@{digest}")),
        "{shown}"
    );
    assert!(lines.contains(&"licenses   MIT"), "{shown}");
    for target in [MAC, ARM] {
        let digest = registry.digest("widgets", &target_tag(target)).unwrap();
        let is_row = |line: &&&str| line.starts_with(target) && line.ends_with(&digest);
        assert!(lines.iter().any(|line| is_row(&line)), "{shown}");
    }
    let file = e2e::sha256(b"round ones");
    assert!(shown.contains(&file), "{shown}");
    let one = home
        .cargo_oci(["inspect", &location, "--target", ARM])
        .succeeds()
        .stdout;
    assert!(!one.contains(&file), "{one}");
    // Inspects an image that is not a package.
    let digest = image_layout(&home.path().join("image"));
    let shown = home.cargo_oci(["inspect", "oci:image:1.0"]).succeeds();
    assert!(shown.stdout.contains("linux/amd64"), "{shown}");
    assert!(shown.stdout.contains(&digest), "{shown}");
}

#[test]
fn manifest_config_and_blob_print_exact_bytes() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let release = Release::push(&home, registry.host());
    let location = format!("{}/widgets", registry.host());
    let version = format!("{location}:1.2.3");
    let raw = home.cargo_oci(["manifest", &version, "--raw"]).succeeds();
    let digest = registry.digest("widgets", "1.2.3").unwrap();
    assert_eq!(e2e::sha256(raw.stdout.as_bytes()), digest);
    let (_, manifest) = registry.manifest("widgets", &target_tag(MAC)).unwrap();
    let shown = home
        .cargo_oci(["manifest", &version, "--target", MAC])
        .succeeds();
    assert_eq!(
        serde_json::from_str::<Value>(&shown.stdout).unwrap(),
        manifest
    );

    let config = home
        .cargo_oci(["config", &version, "--platform", "darwin/arm64"])
        .succeeds();
    let config: Value = serde_json::from_str(&config.stdout).unwrap();
    assert_eq!(config["target"], MAC);
    // None of the targets runs on this machine.
    home.cargo_oci(["config", &version]).fails_with(4);

    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let blob = format!("{location}@{layer}");
    let bytes = home.cargo_oci(["blob", &blob]).succeeds();
    assert_eq!(bytes.stdout, "round ones");
    home.cargo_oci(["blob", &blob, "--output", "round"])
        .succeeds();
    assert_eq!(fs::read(home.path().join("round")).unwrap(), b"round ones");
    home.cargo_oci(["blob", &version])
        .fails_with(2)
        .assert_no_work_started();
    let outcome = home
        .cargo_oci(["blob", &format!("{location}@{digest}")])
        .fails_with(4);
    assert!(outcome.stderr.contains("cargo oci manifest"), "{outcome}");

    // If content on disk is corrupt, the error is reported and the output file is not written.
    release.push_target(&home, "oci:out", MAC, "round ones");
    let path = layer.replace(':', "/");
    fs::write(
        home.path().join("out/widgets/blobs").join(path),
        "wrong ones",
    )
    .unwrap();
    let blob = format!("oci:out/widgets@{layer}");
    let outcome = home.cargo_oci(["blob", &blob, "-o", "wrong"]).outcome();
    assert_eq!(outcome.code, Some(7), "{outcome}");
    assert!(!home.path().join("wrong").exists());
    assert_eq!(home.cargo_oci(["blob", &blob]).outcome().code, Some(7));
}

#[test]
fn tags_and_catalog_are_ordered_and_filtered() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let location = format!("{}/widgets", registry.host());
    let of_mac = format!("{location}:{}", target_tag(MAC));
    home.cargo_oci(["tag", &of_mac, "latest", "1.10.0", "1.9.0", "1.10.0-rc.1"])
        .succeeds();
    let tags = |flags: &[&str]| {
        let arguments = ["tags", &location].into_iter().chain(flags.iter().copied());
        let shown = home.cargo_oci(arguments).succeeds().stdout;
        shown.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(tags(&["--all"]).len(), 7);
    assert_eq!(tags(&["--all", "--include", "1.9*"]), ["1.9.0"]);
    let expected = ["1.10.0", "1.10.0-rc.1", "1.9.0", "1.2.3", "latest"];
    assert_eq!(tags(&[]), expected);
    assert_eq!(
        tags(&["--include", "1.2.3", "--include", "*__*"]),
        ["1.2.3", &target_tag(MAC), &target_tag(ARM)]
    );
    assert_eq!(
        tags(&["--include", "1.*", "--exclude", "*__*", "--exclude", "*-*"]),
        ["1.10.0", "1.9.0", "1.2.3"]
    );
    let long = tags(&["--long", "--include", "1.9.0"]);
    let mac = registry.digest("widgets", "1.9.0").unwrap();
    assert!(long.len() == 1 && long[0].contains(&mac), "{long:?}");
    assert_eq!(long[0].split('\t').count(), 5, "{long:?}");

    let copy = format!("{}/team-a/tools/widgets", registry.host());
    home.cargo_oci(["copy", &format!("{location}:1.2.3"), &copy])
        .succeeds();
    let catalog = |flags: &[&str]| {
        let arguments = ["catalog", registry.host()].into_iter();
        let arguments = arguments.chain(flags.iter().copied());
        home.cargo_oci(arguments).succeeds().stdout
    };
    assert_eq!(catalog(&[]), format!("{copy}\n{location}\n"));
    assert_eq!(catalog(&["--include", "team-a/*"]), format!("{copy}\n"));
    assert_eq!(catalog(&["--exclude", "team-a/*"]), format!("{location}\n"));

    // A directory of layouts can be used as a registry.
    for name in ["team-a/tools", "widgets"] {
        let layout = format!("oci:out/{name}");
        home.cargo_oci(["copy", &format!("{location}:1.2.3"), &layout])
            .succeeds();
    }
    let shown = home.cargo_oci(["catalog", "oci:out"]).succeeds().stdout;
    assert_eq!(shown, "oci:out/team-a/tools\noci:out/widgets\n");
    let shown = home.cargo_oci(["catalog", "oci:out", "--include", "team-a/*"]);
    assert_eq!(shown.succeeds().stdout, "oci:out/team-a/tools\n");
    home.cargo_oci(["catalog", "oci:absent"]).fails_with(4);
}

#[test]
fn attached_files_are_listed_as_tree_of_referrers() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    fs::write(home.path().join("widgets.spdx.json"), "{\"spdx\":1}").unwrap();
    fs::write(home.path().join("signature"), "signed").unwrap();
    for location in [
        format!("{}/widgets", registry.host()),
        "oci:out/widgets".into(),
    ] {
        if location.starts_with("oci:") {
            let from = format!("{}/widgets:1.2.3", registry.host());
            home.cargo_oci(["copy", &from, &location]).succeeds();
        }
        let version = format!("{location}:1.2.3");
        let attach = |reference: &str, more: &[&str]| {
            let arguments = ["attach", reference].into_iter();
            let arguments = arguments.chain(more.iter().copied());
            home.cargo_oci(arguments).succeeds()
        };
        let list = attach(&version, &["widgets.spdx.json", "--annotation", "a=b"]);
        let again = attach(&version, &["widgets.spdx.json", "--annotation", "a=b"]);
        let list = list.printed_digest();
        assert_eq!(
            again.printed_digest(),
            list,
            "the same files have the same digest"
        );
        let signature = [
            "--artifact-type",
            "application/vnd.acme.signature",
            "signature",
        ];
        let on_list = attach(&format!("{location}@{list}"), &signature).printed_digest();
        let on_index = attach(&version, &signature).printed_digest();
        let on_mac = attach(&version, &[&signature[..], &["--target", MAC]].concat());

        let shown = home.cargo_oci(["referrers", &version]).succeeds().stdout;
        let lines: Vec<_> = shown.lines().collect();
        let index = registry.digest("widgets", "1.2.3").unwrap();
        assert_eq!(lines[0], format!("{location}@{index}"));
        assert_eq!(lines.len(), 4, "{shown}");
        let line_of_list = lines
            .iter()
            .position(|line| line.ends_with(&format!("application/spdx+json\t-\t{list}")))
            .unwrap_or_else(|| panic!("{shown}"));
        assert!(lines[line_of_list + 1].ends_with(&on_list), "{shown}");
        assert!(lines[line_of_list + 1].contains("   └── "), "{shown}");
        let filter = ["--artifact-type", "application/vnd.acme.signature"];
        let shown = home.cargo_oci(["referrers", &version, filter[0], filter[1]]);
        let shown = shown.succeeds().stdout;
        assert!(
            shown.contains(&on_index) && !shown.contains(&list),
            "{shown}"
        );
        let shown = home.cargo_oci(["referrers", &version, "--target", MAC]);
        assert!(shown.succeeds().stdout.contains(&on_mac.printed_digest()));

        // Pulls the attached file again.
        let pull = [
            "pull",
            &format!("{location}@{list}"),
            "-o",
            "pulled",
            "--force",
        ];
        home.cargo_oci(pull).succeeds();
        let pulled = fs::read(home.path().join("pulled/widgets.spdx.json")).unwrap();
        assert_eq!(pulled, b"{\"spdx\":1}");
    }
    home.cargo_oci(["attach", "oci:out/widgets:1.2.3", "signature"])
        .fails_with(2)
        .assert_no_work_started();
    home.cargo_oci(["attach", "oci:out/widgets", "widgets.spdx.json"])
        .fails_with(2)
        .assert_no_work_started();
}

#[test]
fn verify_reports_all_differences() {
    let home = Home::new();
    let _release = Release::push(&home, "oci:out");
    let outcome = home
        .cargo_oci(["verify", "oci:out/widgets:1.2.3"])
        .succeeds();
    assert!(
        outcome.stderr.contains("3 manifests and 4 blobs"),
        "{outcome}"
    );
    // Compares the package with a directory.
    let directory = home.path().join("pulled");
    home.cargo_oci(["pull", "oci:out/widgets", "--target", MAC, "-o", "pulled"])
        .succeeds();
    let verify = ["verify", "oci:out/widgets", "pulled", "--target", MAC];
    home.cargo_oci(verify).succeeds();
    fs::write(directory.join("round"), "other ones").unwrap();
    let outcome = home.cargo_oci(verify).fails_with(7);
    assert!(outcome.stderr.contains("Changed round"), "{outcome}");
    let advice = format!(" --output {}`", directory.display());
    assert!(outcome.stderr.contains(&advice), "{outcome}");
    fs::remove_file(directory.join("round")).unwrap();
    let outcome = home.cargo_oci(verify).fails_with(7);
    assert!(outcome.stderr.contains("Missing round"), "{outcome}");

    let blobs = home.path().join("out/widgets/blobs");
    let damaged = [
        e2e::sha256(b"round ones"),
        e2e::sha256(b"round ones, of ours"),
    ];
    fs::write(blobs.join(damaged[0].replace(':', "/")), "round 0nes").unwrap();
    fs::remove_file(blobs.join(damaged[1].replace(':', "/"))).unwrap();
    let outcome = home
        .cargo_oci(["verify", "oci:out/widgets:1.2.3"])
        .outcome();
    assert_eq!(outcome.code, Some(7), "{outcome}");
    for digest in &damaged {
        assert!(outcome.stderr.contains(digest), "{outcome}");
    }
    assert_eq!(outcome.stdout, "");
}

#[test]
fn export_writes_root_filesystem() {
    let home = Home::new();
    let _digest = image_layout(&home.path().join("image"));
    let run = ["export", "oci:image:1.0", "--platform", "linux/amd64"];
    let streamed = home.cargo_oci(run).succeeds().stdout;
    home.cargo_oci(run.iter().chain(&["--output", "root.tar"]).copied())
        .succeeds();
    let written = fs::read(home.path().join("root.tar")).unwrap();
    assert_eq!(written, streamed.as_bytes());
    // Without a flag that allows overwriting, an existing file is kept. The check precedes any request.
    fs::write(home.path().join("root.tar"), "mine").unwrap();
    let unreachable =
        "127.0.0.1:1/image@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for command in ["export", "blob"] {
        let refused = home.cargo_oci([command, unreachable, "--output", "root.tar"]);
        let refused = refused.fails_with(5).assert_no_work_started();
        assert!(refused.stderr.contains("--force"), "{refused}");
    }
    assert_eq!(fs::read(home.path().join("root.tar")).unwrap(), b"mine");
    let force = ["--output", "root.tar", "--force"];
    home.cargo_oci(run.iter().chain(&force).copied()).succeeds();
    assert_eq!(fs::read(home.path().join("root.tar")).unwrap(), written);
    let names = written.chunks(512).filter(|block| block[0] != 0);
    let names = names.map(|block| block.split(|byte| *byte == 0).next().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), [&b"one"[..], b"two"]);
    // Exporting content that is not an image fails and creates no file.
    let _release = Release::push(&home, "oci:out");
    let package = [
        "export",
        "oci:out/widgets:1.2.3",
        "--target",
        MAC,
        "-o",
        "no.tar",
    ];
    let outcome = home.cargo_oci(package).outcome();
    assert_eq!(outcome.code, Some(8), "{outcome}");
    assert!(!home.path().join("no.tar").exists());
}

#[test]
fn output_to_named_pipe_does_not_replace_the_pipe() {
    let home = Home::new();
    let _digest = image_layout(&home.path().join("image"));
    let pipe = home.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let layer = e2e::sha256(&e2e::release::layer("one"));
    let blob = format!("oci:image@{layer}");
    for run in [
        &["blob", &blob][..],
        &["export", "oci:image:1.0", "--platform", "linux/amd64"],
    ] {
        let streamed = home.cargo_oci(run.iter().copied()).succeeds().stdout;
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::read(pipe).unwrap())
        };
        let output = ["--output", "pipe", "--force"];
        let run = home.cargo_oci(run.iter().chain(&output).copied());
        run.succeeds();
        assert_eq!(reader.join().unwrap(), streamed.as_bytes());
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }
}

#[test]
fn failures_exit_with_documented_codes() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let version = format!("{}/widgets:1.2.3", registry.host());
    let code = |arguments: &[&str]| {
        let outcome = home.cargo_oci(arguments.iter().copied()).outcome();
        assert!(outcome.stderr.contains("error: "), "{outcome}");
        outcome.code.unwrap()
    };
    let (_, manifest) = registry.manifest("widgets", &target_tag(MAC)).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let blob = format!("{}/widgets@{layer}", registry.host());
    fs::write(home.path().join("file"), "in the way").unwrap();
    assert_eq!(code(&["blob", &blob, "--output", "file/below"]), 1);
    assert_eq!(code(&["copy", &version, "oci:file"]), 1);
    assert_eq!(code(&["copy", &version, &version]), 2);
    let passwords = Registry::with_passwords();
    let closed = format!("{}/widgets:1.2.3", passwords.host());
    for arguments in [
        &["copy", &version, &closed][..],
        &["inspect", &closed],
        &["delete", &closed, "--yes"],
        &["verify", &closed],
    ] {
        assert_eq!(code(arguments), 3, "{arguments:?}");
    }
    let absent = format!("{}/widgets:9.9.9", registry.host());
    for command in [
        "inspect",
        "manifest",
        "config",
        "referrers",
        "verify",
        "export",
    ] {
        let outcome = home.cargo_oci([command, &absent]).fails_with(4);
        assert!(outcome.stderr.contains("cargo oci tags"), "{outcome}");
    }
    home.cargo_oci(["copy", &absent, "oci:copy"]).fails_with(4);
    home.cargo_oci(["copy", &absent, &format!("{}/copy", registry.host())])
        .fails_with(4);
    let unreachable = ClosedPort::new();
    let dead = format!("{}/widgets:1.2.3", unreachable.host());
    assert_eq!(code(&["--retries", "0", "copy", &version, &dead]), 6);
    assert_eq!(code(&["--retries", "0", "inspect", &dead]), 6);
}

#[test]
fn every_command_uses_credentials() {
    require!(DockerRegistry);
    let registry = Registry::with_tokens(TokenPolicy::default());
    let home = Home::for_user(registry.host());
    let _release = Release::push(&home, registry.host());
    let version = format!("{}/widgets:1.2.3", registry.host());
    let copy = format!("{}/copy", registry.host());
    home.cargo_oci(["copy", &version, &copy, "--referrers"])
        .succeeds();
    home.cargo_oci(["tag", &format!("{copy}:1.2.3"), "latest"])
        .succeeds();
    home.cargo_oci(["verify", &format!("{copy}:latest")])
        .succeeds();
    home.cargo_oci(["inspect", &copy]).succeeds();
    home.cargo_oci(["delete", &format!("{copy}:latest"), "--yes"])
        .succeeds();
    assert_eq!(registry.tags("copy"), ["1.2.3"]);
}

#[test]
fn attached_file_missing_in_referrers_prints_note() {
    let registry = FakeRegistry::start_with(Switches::default(), |request, _, _| {
        let list = Response::new(200)
            .header("Content-Type", "application/vnd.oci.image.index.v1+json")
            .body(r#"{"schemaVersion":2,"manifests":[]}"#);
        request.target.contains("/referrers/").then_some(list)
    });
    let home = Home::new();
    let image = image_layout(&home.path().join("image"));
    let location = format!("{}/acme/widgets", registry.server.host());
    let tagged = format!("{location}:1.0");
    home.cargo_oci(["copy", "oci:image:1.0", &tagged])
        .succeeds();
    fs::write(home.path().join("a.spdx.json"), "{}").unwrap();
    let attached = home
        .cargo_oci(["attach", &tagged, "a.spdx.json"])
        .succeeds();
    let name = format!("{location}@{}", attached.printed_digest());
    let note = format!(
        "note: the registry accepted `{name}`, but does not list it as a referrer of {image}\n"
    );
    assert!(attached.stderr.contains(&note), "{attached}");
    let fallback = image.replace(':', "-");
    assert_eq!(registry.tagged_manifest(&fallback), None);
}

/// Starts a registry with two targets of the incomplete version 0.3.0, and one signature.
fn registry_with_incomplete_version() -> Server {
    let signature = format!("sha256-{}.sig", "ab".repeat(32));
    Server::start(move |_, _| {
        let names = [
            "0.3.0__b",
            "latest",
            "0.2.0",
            "0.3.0__a",
            "0.2.0__a",
            "nightly__a",
        ];
        let names: Vec<_> = names.into_iter().chain([signature.as_str()]).collect();
        Response::new(200).body(serde_json::json!({ "tags": names }).to_string())
    })
}

#[test]
fn tags_by_default_notes_incomplete_and_hidden_tags() {
    let server = registry_with_incomplete_version();
    let (home, location) = (Home::new(), format!("{}/acme/some", server.host()));
    let tags = home.cargo_oci(["tags", &location]).succeeds();
    assert_eq!(tags.stdout, "0.3.0\n0.2.0\nlatest\n");
    let notes = "note: 0.3.0 is incomplete: it has target tags but no version tag\n\
                 note: 4 target tags and 1 referrers tag hidden; --all shows them\n";
    assert_eq!(tags.stderr, notes);
    let quiet = home.cargo_oci(["tags", &location, "--quiet"]).succeeds();
    assert_eq!(quiet.stderr, "");
}

#[test]
fn tags_all_lists_hidden_tags_without_notes() {
    let server = registry_with_incomplete_version();
    let (home, location) = (Home::new(), format!("{}/acme/some", server.host()));
    let all = home.cargo_oci(["tags", &location, "--all"]).succeeds();
    assert!(all.stdout.starts_with("0.3.0__b\nlatest\n0.2.0\n"), "{all}");
    assert_eq!((all.stdout.lines().count(), &all.stderr[..]), (7, ""));
}

#[test]
fn tags_include_lists_incomplete_version_and_its_targets() {
    let server = registry_with_incomplete_version();
    let (home, location) = (Home::new(), format!("{}/acme/some", server.host()));
    let long = ["tags", &location, "--long", "--include", "0.3.0"];
    let long = home.cargo_oci(long).succeeds();
    assert_eq!(long.stdout, "0.3.0\t-\t-\t-\ta,b\n");
    let targets = ["tags", &location, "--include", "0.3.0__*"];
    let targets = home.cargo_oci(targets).succeeds();
    assert_eq!(targets.stdout, "0.3.0__a\n0.3.0__b\n");
    assert_eq!(targets.stderr, "");
}

#[test]
fn tables_on_terminal_have_header_and_short_digests() {
    let home = Home::new();
    let _release = Release::push(&home, "oci:out");
    let piped = home.cargo_oci(["tags", "oci:out/widgets", "--long"]);
    let piped = piped.succeeds().stdout;
    let digest = piped.split('\t').nth(3).unwrap().to_owned();
    let lines = |arguments: &str| {
        let shown = home.cargo_oci_at_terminal(arguments).succeeds().stdout;
        assert!(shown.lines().all(|line| line.chars().count() <= 100));
        shown.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let short = &digest["sha256:".len()..][..12];
    let tags = lines("tags oci:out/widgets --long");
    assert!(
        tags[0].starts_with("TAG    ") && tags[0].ends_with("TARGETS"),
        "{tags:?}"
    );
    assert!(tags[1].starts_with("1.2.3  "), "{tags:?}");
    assert!(
        tags[1].contains(short) && !tags[1].contains(&digest),
        "{tags:?}"
    );
    assert!(tags[1].ends_with(&format!("{MAC}, {ARM}")), "{tags:?}");
    assert_eq!(
        lines("catalog oci:out")[..2],
        ["REPOSITORY", "oci:out/widgets"]
    );
    let referrers = lines("referrers oci:out/widgets:1.2.3");
    assert!(referrers[0].starts_with("ARTIFACT TYPE"), "{referrers:?}");
    assert!(referrers[1].ends_with(short), "{referrers:?}");
    let page = lines("inspect oci:out/widgets");
    assert!(page.iter().any(|line| line.ends_with(&digest)), "{page:?}");
    assert_eq!(
        page.iter().filter(|line| line.contains("sha256:")).count(),
        1
    );
}

#[test]
fn closed_plain_http_connection_hints_at_tls() {
    let server = TcpServer::start(|stream, _| async move { drop(stream) });
    let location = format!("{}/acme/widgets", server.host());
    let home = Home::new();
    let tags = home
        .cargo_oci(["tags", &location, "--retries", "0"])
        .outcome();
    let help = "help: pass `--plain-http=false` if the server expects TLS on this port\n";
    assert!(tags.stderr.ends_with(help), "{tags}");
}

#[test]
fn invalid_names_are_omitted_with_one_note() {
    let server = Server::start(|request, _| {
        Response::new(200).body(if request.path().ends_with("/tags/list") {
            r#"{"tags":["1.0.0","<none>","a b"]}"#
        } else {
            r#"{"repositories":["acme/some","Acme"]}"#
        })
    });
    let (home, host) = (Home::new(), server.host());
    let location = format!("{host}/acme/some");
    let tags = home.cargo_oci(["tags", &location]).succeeds();
    assert_eq!(tags.stdout, "1.0.0\n");
    let note =
        format!("note: 2 names listed by `{location}` are invalid and omitted: `<none>`, `a b`\n");
    assert_eq!(tags.stderr, note);
    let catalog = home.cargo_oci(["catalog", &host]).succeeds();
    assert_eq!(catalog.stdout, format!("{location}\n"));
    let note = format!("note: 1 name listed by `{host}` is invalid and omitted: `Acme`\n");
    assert_eq!(catalog.stderr, note);
}
