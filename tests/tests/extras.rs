//! Pushes of files that cargo does not build, and of files that other build tools write.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use e2e::messages::Schema;
use e2e::program::{Home, Outcome, Run};
use e2e::registry::Registry;
use e2e::require;
use e2e::sha256;
use e2e::sources::{Sources, host_triple};
use serde_json::Value;

const OTHER: &str = "s390x-unknown-linux-gnu";

fn push(home: &Home, sources: &Sources, host: &str, more: &[&str]) -> Run {
    let arguments = ["push", "--registry", host].into_iter();
    let arguments = arguments.chain(more.iter().copied());
    home.cargo_oci(arguments).within(sources.path())
}

/// Returns the name, the kind and the digest of each layer.
fn layers(registry: &Registry, sources: &Sources) -> Vec<(String, String, String)> {
    let (_, manifest) = registry
        .manifest("widgets", &sources.target_tag())
        .expect("the manifest was pushed");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let layers = manifest["layers"]
        .as_array()
        .expect("a manifest has a list of layers");
    let layers = layers.iter().map(|layer| {
        let annotations = &layer["annotations"];
        (
            text(&annotations["dev.cargo-oci.file"]),
            text(&annotations["dev.cargo-oci.kind"]),
            text(&layer["digest"]),
        )
    });
    layers.collect()
}

#[test]
fn push_includes_readme_license_and_crate() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let host = registry.host();
    sources.write("README.md", "# widgets\n");
    sources.write("docs/use.md", "use\n");
    sources.write("LICENSE", "do\n");
    sources.append(
        "Cargo.toml",
        "[package.metadata.oci]\ninclude = [\"README*\", \"LICENSE\"]\nkinds = [\"bin\"]",
    );
    let missing = push(&home, &sources, host, &["--include", "NOTICE*"]).fails_with(2);
    assert!(missing.assert_no_work_started().stderr.contains("NOTICE*"));
    assert!(!sources.has_build_output(), "nothing was built");

    push(&home, &sources, host, &["--crate"]).succeeds();
    let crate_file = sources.path().join("target/package/widgets-1.2.3.crate");
    let file = |name: &str, content: &[u8]| (name.to_owned(), "file".to_owned(), sha256(content));
    let bin = |name: &str| {
        (
            name.to_owned(),
            "bin".to_owned(),
            sha256(&sources.built_file(name)),
        )
    };
    let packaged = fs::read(&crate_file).unwrap();
    let name = "widgets-1.2.3.crate".to_owned();
    let mut expected = vec![
        bin("round"),
        bin("square"),
        (name, "crate".to_owned(), sha256(&packaged)),
        file("LICENSE", b"do\n"),
        file("README.md", b"# widgets\n"),
    ];
    expected.sort();
    let mut found = layers(&registry, &sources);
    found.sort();
    assert_eq!(found, expected);

    // `--no-build` pushes the same content as long as the `.crate` file exists.
    let again = push(&home, &sources, host, &["--crate", "--no-build"]).succeeds();
    assert!(again.stderr.contains("Unchanged"), "{again}");
    fs::remove_file(crate_file).unwrap();
    push(&home, &sources, host, &["--crate", "--no-build"]).fails_with(2);

    // `--include` overrides the key in `Cargo.toml`, and also applies to `--file`.
    let handed = [
        "--file=round=README.md",
        "--include=docs/*",
        "--tag=nightly",
    ];
    push(&home, &sources, host, &handed).succeeds();
    home.cargo_oci(["pull", &format!("{host}/widgets:nightly"), "-o", "out"])
        .succeeds();
    let pulled = home.path().join("out/docs/use.md");
    assert_eq!(fs::read_to_string(pulled).unwrap(), "use\n");
    assert!(!home.path().join("out/README.md").exists());
}

/// Prepares a push of one file to a layout in the home directory, with additional flags such as `--include`.
fn push_file(home: &Home, sources: &Sources, more: &[&str]) -> Run {
    sources.write("made", "x");
    let registry = format!("oci:{}", home.path().join("out").display());
    push(
        home,
        sources,
        &registry,
        &[&["--file=round=made"], more].concat(),
    )
}

#[test]
fn include_outside_of_the_workspace_is_rejected() {
    let (home, sources) = (Home::new(), Sources::widgets());
    fs::write(sources.sibling("LICENSE"), "do\n").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", sources.path().join("NOTICE")).unwrap();
    for pattern in [
        "../LICENSE",
        "../L*",
        "NOTICE",
        "../../../../../../etc/hostname",
    ] {
        let refused = push_file(&home, &sources, &["--include", pattern]);
        let refused = refused.fails_with(2).assert_no_work_started();
        assert!(
            refused.stderr.contains("is outside of the workspace"),
            "{refused}"
        );
    }
    let track = "git init -q .. && git add Cargo.toml";
    home.bash(track).within(sources.path()).succeeds();
    let included = push_file(&home, &sources, &["--include", "../LICENSE"]).succeeds();
    let license = sources.sibling("LICENSE").canonicalize().unwrap();
    let note = format!(
        "`widgets` includes files from outside of its directory: `{}`",
        license.display()
    );
    assert!(included.stderr.contains(&note), "{included}");
}

#[test]
fn included_script_keeps_its_mode() {
    let (home, sources) = (Home::new(), Sources::widgets());
    sources.write("share/run.sh", "#!/bin/sh\n");
    sources.write("share/deep/read.md", "read\n");
    sources.write("share/.secret", "secret\n");
    let script = sources.path().join("share/run.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let pulled = |tag: &str, more: &[&str]| {
        let fixed = ["--include=share", "--tag", tag];
        push_file(&home, &sources, &[&fixed, more].concat()).succeeds();
        let reference = format!("oci:out/widgets:{tag}");
        home.cargo_oci(["pull", &reference, "-o", tag]).succeeds();
        let directory = home.path().join(tag).join("share");
        assert!(directory.join("deep/read.md").is_file());
        assert!(
            !directory.join(".secret").exists(),
            "the file was not selected"
        );
        let mode = fs::metadata(directory.join("run.sh"))
            .unwrap()
            .permissions();
        mode.mode() & 0o777
    };
    assert_eq!(pulled("files", &[]), 0o755);
    assert_eq!(pulled("archive", &["--archive"]), 0o755);
    // The mode in the git index takes precedence, because CI systems may not preserve file modes.
    home.bash("git init -q && git add .")
        .within(sources.path())
        .succeeds();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(pulled("tracked", &[]), 0o755);
    assert_eq!(pulled("tracked-archive", &["--archive"]), 0o755);
}

#[test]
fn dirty_flag_is_absent_if_git_rejects_the_checkout() {
    let (home, sources) = (Home::new(), Sources::widgets());
    home.bash("git init -q && git add .")
        .within(sources.path())
        .succeeds();
    let pushed = push_file(&home, &sources, &[])
        .with("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        .with("GITHUB_SHA", "0123");
    let pushed = pushed.succeeds();
    let warning = "warning: failed to check for uncommitted changes, so the artifacts do not record `dirty`: ";
    for text in [warning, "detected dubious ownership"] {
        assert!(pushed.stderr.contains(text), "{pushed}");
    }
    let layout = e2e::layout::Layout::open(home.path().join("out/widgets"));
    let (_, manifest) = layout.manifest(&sources.target_tag()).unwrap();
    let annotations = &manifest["annotations"];
    assert_eq!(annotations["org.opencontainers.image.revision"], "0123");
    assert_eq!(annotations["dev.cargo-oci.vcs.dirty"], Value::Null);
}

#[test]
fn push_with_undeclared_or_invalid_target_fails() {
    let (home, sources) = (Home::new(), Sources::widgets());
    sources.write("made", "x");
    let failed = |declared: &str| {
        let file = ["--file=round=made", "--target", OTHER];
        let more = [&file[..], &["--release-targets", declared]].concat();
        push(&home, &sources, "oci:out", &more).fails_with(2)
    };
    let refused = failed(host_triple());
    assert!(refused.stderr.contains("`--release-targets`"), "{refused}");
    let invalid = failed("linux");
    assert!(invalid.stderr.contains("not a target triple"), "{invalid}");
}

#[test]
fn version_tag_is_set_after_all_release_targets() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let host = registry.host();
    sources.write("made", "x");
    let both = format!("{},{OTHER}", host_triple());
    let one = |target: &str, more: &[&str]| {
        let fixed = ["--file", "round=made", "--target", target];
        push(&home, &sources, host, &[&fixed, more].concat())
    };
    let json = ["--release-targets", &both, "--message-format=json"];
    let first = one(OTHER, &json).succeeds();
    assert_eq!(registry.tags("widgets"), [format!("1.2.3__{OTHER}")]);
    let note = format!(
        "1.2.3 is incomplete: {} is missing; until then `pull` and `install` without a version select the release before it",
        host_triple()
    );
    let status = format!("   Published {host}/widgets:1.2.3__{OTHER}\n");
    let end = format!("warning: {note}\n{status}");
    assert!(first.stderr.ends_with(&end), "{first}");
    let messages = Schema::from_documentation().validate(&first.stdout);
    let warned = |message: &serde_json::Value| {
        message["reason"] == "oci-warning" && message["message"] == *note
    };
    assert!(messages.iter().any(warned), "{first}");
    // An incomplete version is not yet a release. The error shows how to select the version.
    let repository = format!("{host}/widgets");
    for line in [
        &["pull", &repository][..],
        &["inspect", &repository],
        &["install", &repository, "--version=^1"],
    ] {
        let absent = home.cargo_oci(line.iter().copied()).fails_with(4);
        assert!(
            absent.stderr.contains("release, 1.2.3, is incomplete"),
            "{absent}"
        );
        assert!(
            absent.stderr.contains(&format!("`{repository}:1.2.3`")),
            "{absent}"
        );
    }
    let other = home.cargo_oci(["install", &repository, "--version=^2"]);
    let other = other.fails_with(4);
    assert!(!other.stderr.contains("is incomplete"), "{other}");
    let named = format!("{repository}:1.2.3");
    let pull = ["pull", &named, "--target", OTHER, "--output=early"];
    let early = home.cargo_oci(pull).succeeds();
    let warning = "warning: 1.2.3 has no version tag yet (targets published so far: 1)";
    assert!(early.stderr.contains(warning), "{early}");

    let incomplete =
        one(OTHER, &["--floating"]).with("CARGO_OCI_RELEASE_TARGETS", both.replace(',', " "));
    let incomplete = incomplete.succeeds();
    assert!(
        incomplete.stderr.contains("the release is incomplete, so"),
        "{incomplete}"
    );
    let dry_run = one(
        OTHER,
        &["--floating", "--dry-run", "--release-targets", &both],
    )
    .succeeds();
    let warning = format!("warning: {note}\n");
    assert!(dry_run.stderr.contains(&warning), "{dry_run}");
    assert!(
        dry_run.stderr.contains("no floating tag would be moved"),
        "{dry_run}"
    );
    let complete = ["--floating", "--release-targets", &both];
    let dry_run = one(host_triple(), &[&complete[..], &["--dry-run"]].concat()).succeeds();
    let json = [&complete[..], &["--dry-run", "--message-format=json"]].concat();
    let json = one(host_triple(), &json).succeeds();
    assert_plan_of_complete_release(&dry_run, &json, host);
    let complete = one(host_triple(), &complete).succeeds();
    assert!(
        complete.stderr.contains("Tagged") && complete.stderr.contains("widgets:latest"),
        "{complete}"
    );
    assert!(!complete.stderr.contains("Moved"), "{complete}");
    assert!(!complete.stderr.contains("incomplete"), "{complete}");
    let (_, index) = registry.manifest("widgets", "1.2.3").unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(
        registry.digest("widgets", "latest"),
        registry.digest("widgets", "1.2.3")
    );
    let refused = one(OTHER, &["--floating"]).fails_with(2);
    let declaration = format!("release-targets = [\"{OTHER}\", \"{}\"]", host_triple());
    assert!(refused.stderr.contains(&declaration), "{refused}");
    let other_job = one(OTHER, &[]).succeeds();
    assert!(
        other_job
            .stderr
            .contains("declare all targets as `release-targets`"),
        "{other_job}"
    );
}

/// Checks the dry run of the push that completes a release, as text and as JSON.
fn assert_plan_of_complete_release(dry_run: &Outcome, json: &Outcome, host: &str) {
    let shown: String = ["1.2", "1", "latest"]
        .map(|tag| format!("   Would tag {host}/widgets:{tag}\n"))
        .concat();
    let index = format!(" Would index {host}/widgets:1.2.3 (2 targets)\n{shown}");
    assert!(dry_run.stderr.ends_with(&index), "{dry_run}");
    let plan = &Schema::from_documentation().validate(&json.stdout)[0];
    assert_eq!(plan["tags"][4]["action"], "create", "{plan}");
    assert_eq!(
        plan["tags"][4]["reference"],
        format!("{host}/widgets:latest")
    );
}

#[test]
fn floating_follows_single_target_without_declaration() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    sources.write("made", "x");
    let one = |more: &[&str]| {
        let fixed = ["--file=round=made", "--target", OTHER, "--floating"];
        push(&home, &sources, registry.host(), &[&fixed, more].concat())
    };
    let moving = one(&["--tag=nightly"]).fails_with(2);
    assert!(moving.stderr.contains("requires a version tag"), "{moving}");
    one(&[]).succeeds();
    let index = registry.digest("widgets", "1.2.3");
    for tag in ["1.2", "1", "latest"] {
        assert_eq!(registry.digest("widgets", tag), index, "{tag}");
    }
}

#[test]
fn printed_names_are_accepted_and_have_the_printed_digest() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    sources.write("made", "x");
    let archive = format!("oci-archive:{}", home.path().join("out.tar").display());
    for to in [registry.host(), "oci:out", &archive] {
        for more in [&["--tag=1.2.3", "--tag=nightly"][..], &["--no-index"]] {
            let fixed = ["push", "--file=round=made", "--target", OTHER];
            let to = if to == archive {
                vec![to]
            } else {
                vec!["--registry", to]
            };
            let line = [&fixed[..], more, &to].concat();
            let pushed = home.cargo_oci(line).within(sources.path()).succeeds();
            assert!(!pushed.stdout.is_empty(), "{pushed}");
            for name in pushed.stdout.lines() {
                let (_, digest) = name.split_once('@').unwrap();
                let shown = home.cargo_oci(["manifest", "--raw", name]);
                let shown = shown.within(sources.path()).succeeds();
                assert_eq!(e2e::sha256(shown.stdout.as_bytes()), digest, "{name}");
                for verb in [
                    &["inspect"][..],
                    &["verify"],
                    &["referrers"],
                    &["config", "--target", OTHER],
                    &["pull", "--target", OTHER, "-o", "pulled"],
                ] {
                    let line = verb.iter().copied().chain([name]);
                    home.cargo_oci(line).within(sources.path()).succeeds();
                }
            }
        }
    }
}

#[test]
fn cross_and_zigbuild_push_same_digest_as_cargo() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let host = registry.host();
    let bin = home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    // Each tool records its arguments and then runs cargo. Cross also prints the paths of its container.
    let tool = |name: &str, script: &str| {
        let path = bin.join(name);
        fs::write(
            &path,
            format!("#!/bin/sh\necho \"$@\" > \"$HOME/{name}\"\n{script}"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    tool(
        "cross",
        "case $ENGINE in\n\
         remote) names=\"s|$PWD|/cross/project|g\" ;;\n\
         foreign) names=\"s|$PWD|/builds|g\" ;;\n\
         *) names=\"s|$PWD/target/|/target/|g; s|$PWD|/project|g\" ;;\n\
         esac\ncargo \"$@\" | sed \"$names\"\n",
    );
    tool(
        "cargo-zigbuild",
        "shift\nset -- $(echo \"$@\" | sed 's/-gnu\\.2\\.17/-gnu/')\nexec cargo build \"$@\"\n",
    );
    let (_, path) = e2e::testbed::toolchain_variables().remove(0);
    let path = format!("{}:{}", bin.display(), path.to_string_lossy());
    let mut digests = Vec::new();
    let old = format!("{}.2.17", host_triple());
    let cross = ["--target", host_triple(), "--build-tool", "cross"];
    for (number, (engine, more)) in [
        ("", &["--target", host_triple()][..]),
        ("local", &cross),
        ("remote", &cross),
        ("", &["--target", &old, "--build-tool", "zigbuild"]),
    ]
    .into_iter()
    .enumerate()
    {
        let sources = Sources::widgets();
        let registry = format!("{host}/{number}");
        let run = push(&home, &sources, &registry, more).with("ENGINE", engine);
        let pushed = run.with("PATH", &path).succeeds();
        digests.push(pushed.printed_digest());
    }
    assert!(
        digests.iter().all(|digest| *digest == digests[0]),
        "{digests:?}"
    );
    let called = |name: &str| fs::read_to_string(home.path().join(name)).unwrap();
    assert!(called("cross").starts_with("build "), "{}", called("cross"));
    let zigbuild = called("cargo-zigbuild");
    assert!(
        zigbuild.starts_with("zigbuild ") && zigbuild.contains(&old),
        "{zigbuild}"
    );

    let sources = Sources::widgets();
    let run = push(&home, &sources, host, &cross).with("PATH", &path);
    let foreign = run.clone().with("ENGINE", "foreign").fails_with(2);
    let file = format!("`/builds/target/{}/release/", host_triple());
    let stays = foreign.stderr.contains("is not on this machine") && foreign.stderr.contains(&file);
    assert!(stays, "{foreign}");
    let skipped = run.with("CROSS_REMOTE_SKIP_BUILD_ARTIFACTS", "1");
    skipped.fails_with(2).assert_no_work_started();
    let missing = push(&home, &sources, host, &["--build-tool", "cross"]).fails_with(1);
    assert!(missing.stderr.contains("cargo install cross"), "{missing}");
}

#[test]
fn every_command_accepts_each_form_of_target() {
    let (home, sources) = (Home::new(), Sources::widgets());
    sources.write("made", "x");
    sources.write(
        "specs/my-board.json",
        r#"{"arch": "riscv64", "os": "linux", "env": "musl", "target-pointer-width": 64}"#,
    );
    sources.append(
        "Cargo.toml",
        "[package.metadata.oci]\nrelease-targets = [\"s390x-unknown-linux-gnu.2.17\", \"specs/my-board.json\"]",
    );
    let old = format!("{OTHER}.2.17");
    for (target, name, more) in [
        (old.as_str(), OTHER, &[][..]),
        ("specs/my-board.json", "my-board", &[]),
        (
            "host-tuple",
            host_triple(),
            &["--release-targets", host_triple()],
        ),
    ] {
        let tag = format!("t-{name}");
        let fixed = ["--file=round=made", "--target", target, "--tag", &tag];
        push(&home, &sources, "oci:out", &[&fixed[..], more].concat()).succeeds();
        let pull = [
            "pull",
            &format!("oci:out/widgets:{tag}__{name}"),
            "-o",
            "out/pulled",
        ];
        home.cargo_oci(pull).within(sources.path()).succeeds();
    }
    let inspect = |tag: &str, target: &str| {
        let reference = format!("oci:out/widgets:{tag}");
        let inspect = ["inspect", &reference, "--target", target];
        let inspect = home.cargo_oci(inspect.iter().chain(&["--message-format=json"]).copied());
        let shown = inspect.within(sources.path()).succeeds();
        let shown: Value = serde_json::from_str(shown.stdout.trim()).unwrap();
        shown["targets"][0]["platform"].as_str().unwrap().to_owned()
    };
    let of_board = inspect("t-my-board__my-board", "my-board.json");
    assert_eq!(of_board, "linux/riscv64");
    let host = format!("t-{}", host_triple());
    assert!(inspect(&host, "host-tuple").starts_with("linux/"));
    let both = ["--target", OTHER, "--target", &old];
    let refused = push(&home, &sources, "oci:out", &both)
        .fails_with(2)
        .assert_no_work_started();
    assert!(refused.stderr.contains("are both built as"), "{refused}");
}

#[test]
fn file_path_with_colon_is_not_split() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let file = "build-2026-11-28T10:40/tool";
    sources.write(file, "x");
    let handed = [&format!("--file=tool={file}")[..], "--tag=nightly"];
    push(&home, &sources, "oci:out", &handed).succeeds();
    let typed = [
        &format!("--file=tool={file}:application/wasm")[..],
        "--tag=typed",
    ];
    push(&home, &sources, "oci:out", &typed).succeeds();
    let unnamed = [&format!("--file={file}")[..], "--tag=unnamed"];
    push(&home, &sources, "oci:out", &unnamed).succeeds();
    let layout = e2e::layout::Layout::open(sources.path().join("out/widgets"));
    let layer = |tag: &str| {
        let (_, manifest) = layout
            .manifest(&format!("{tag}__{}", host_triple()))
            .unwrap();
        manifest["layers"][0].clone()
    };
    assert_eq!(layer("nightly")["digest"], sha256(b"x"));
    assert_eq!(layer("typed")["digest"], sha256(b"x"));
    let unnamed = layer("unnamed");
    assert_eq!(unnamed["annotations"]["dev.cargo-oci.file"], "tool");
    assert_eq!(unnamed["digest"], sha256(b"x"));
    assert_eq!(layer("typed")["mediaType"], "application/wasm");
    let attach = ["attach", "oci:out/widgets:nightly", file];
    let attach = home.cargo_oci(attach.iter().chain(&["--artifact-type=a/b"]).copied());
    let attached = attach.within(sources.path()).succeeds();
    let manifest: Value = serde_json::from_slice(&layout.blob(&attached.printed_digest())).unwrap();
    assert_eq!(manifest["layers"][0]["digest"], sha256(b"x"));
    let absent = [&format!("--file=tool={file}2")[..], "--tag=absent"];
    let refused = push(&home, &sources, "oci:out", &absent).fails_with(1);
    assert!(refused.stderr.contains(&format!("`{file}2`")), "{refused}");
}

#[test]
fn pushed_archive_is_readable_and_unpacked_by_pull() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let host = registry.host();
    sources.write("docs/use.md", "use\n");
    let more = ["--archive", "--include", "docs/*", "--bins"];
    let pushed = push(&home, &sources, host, &more).succeeds();
    let again = push(&home, &sources, host, &more).succeeds();
    assert_eq!(again.stdout, pushed.stdout);
    assert!(again.stderr.contains("Unchanged"), "{again}");
    let [(file, kind, digest)] = &layers(&registry, &sources)[..] else {
        panic!("expected one layer: {pushed}");
    };
    assert_eq!((file.as_str(), kind.as_str()), ("widgets.tar", "archive"));

    // The `tar` program can read the layer.
    fs::write(
        home.path().join("layer.tar"),
        registry.blob("widgets", digest),
    )
    .unwrap();
    let list = home
        .bash("tar --numeric-owner -tvf layer.tar")
        .with("TZ", "UTC");
    let list = list.succeeds().stdout;
    let lines: Vec<_> = list
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .collect();
    let shown: Vec<_> = lines
        .iter()
        .map(|line| (line[0], line[1], line[3], line[5]))
        .collect();
    assert_eq!(
        shown,
        [
            ("drwxr-xr-x", "0/0", "1970-01-01", "docs/"),
            ("-rw-r--r--", "0/0", "1970-01-01", "docs/use.md"),
            ("-rwxr-xr-x", "0/0", "1970-01-01", "round"),
            ("-rwxr-xr-x", "0/0", "1970-01-01", "square"),
        ]
    );

    // `pull` unpacks the archive or keeps it. `install` installs the programs in the archive.
    let reference = format!("{host}/widgets");
    let pull = |more: &[&str]| {
        let arguments = ["pull", &reference, "-o"].into_iter();
        home.cargo_oci(arguments.chain(more.iter().copied()))
    };
    pull(&["out"]).succeeds();
    let out = home.path().join("out");
    assert_eq!(
        fs::read(out.join("round")).unwrap(),
        sources.built_file("round")
    );
    assert_eq!(
        fs::read_to_string(out.join("docs/use.md")).unwrap(),
        "use\n"
    );
    let permissions = fs::metadata(out.join("round")).unwrap().permissions();
    assert_eq!(permissions.mode() & 0o111, 0o111);
    assert_eq!(
        fs::read_dir(&out).unwrap().count(),
        3,
        "no other file remains"
    );
    // `verify` checks the unpacked files, or the archive itself if it was not unpacked.
    let verify = |directory: &str| home.cargo_oci(["verify", &reference, directory]);
    verify("out").succeeds();
    fs::write(out.join("round"), "mine").unwrap();
    let wrong = verify("out").fails_with(7);
    assert!(wrong.stderr.contains("1 of 3 files"), "{wrong}");
    pull(&["out"]).fails_with(5);
    pull(&["titled", "--titles"]).succeeds();
    verify("titled").succeeds();
    let title = format!("titled/widgets-1.2.3-{}.tar", host_triple());
    assert_eq!(sha256(&fs::read(home.path().join(title)).unwrap()), *digest);
    home.cargo_oci(["install", &reference]).succeeds();
    let bin = home.path().join(".cargo/bin");
    assert_eq!(
        fs::read(bin.join("square")).unwrap(),
        sources.built_file("square")
    );
    let list = home.cargo(["install", "--list"]).succeeds();
    assert!(list.stdout.contains("    round\n    square\n"), "{list}");

    // If a version was released as an archive, it cannot be released as files.
    push(&home, &sources, host, &["--include", "docs/*", "--bins"]).fails_with(5);
}

#[test]
fn archive_push_adds_second_tag_of_package() {
    let (home, sources) = (Home::new(), Sources::widgets());
    sources.write("made", "x");
    let push = |location: &str| {
        let run = home.cargo_oci(["push", "--file=round=made", location]);
        run.within(sources.path()).succeeds()
    };
    let first = push("oci-archive:out.tar").printed_digest();
    assert_eq!(push("oci-archive:out.tar:nightly").printed_digest(), first);
    let again = push("oci-archive:out.tar");
    assert!(again.stderr.contains("Unchanged"), "{again}");
    let tags = home.cargo_oci(["tags", "--all", "oci-archive:out.tar"]);
    let tags = tags.within(sources.path()).succeeds();
    let expected = ["1.2.3", "nightly"].map(|tag| format!("{tag}\n{tag}__{}\n", host_triple()));
    assert_eq!(tags.stdout, expected.concat());
    let pull = home.cargo_oci(["pull", "oci-archive:out.tar", "-o", "out"]);
    pull.within(sources.path()).succeeds();
    assert_eq!(
        fs::read_to_string(sources.path().join("out/round")).unwrap(),
        "x"
    );
}
