//! Invalid input: the program exits with the right code and hints before it starts any work.

use e2e::loopback::ClosedPort;
use e2e::program::Home;
use e2e::require;
use e2e::sources::{Sources, host_triple};

/// Runs a push with invalid input. Asserts that the push exits with 2, builds nothing and writes nothing.
#[track_caller]
fn push_error(sources: &Sources, arguments: &[&str]) -> String {
    let push = ["push"].iter().chain(arguments).copied();
    let outcome = Home::new()
        .cargo_oci(push)
        .within(sources.path())
        .fails_with(2)
        .assert_no_work_started();
    assert!(
        !sources.has_build_output(),
        "the command built the package: {outcome}"
    );
    assert!(
        !sources.path().join("out").exists(),
        "the command wrote output: {outcome}"
    );
    outcome.stderr
}

#[test]
fn malformed_reference_is_rejected() {
    let sources = Sources::widgets();
    for reference in [
        "127.0.0.1:5000/acme/../widgets",
        "127.0.0.1:5000/acme/widgets:a b",
    ] {
        let message = push_error(&sources, &[reference]);
        assert!(message.contains(reference), "{message}");
        Home::new()
            .cargo_oci(["pull", reference])
            .fails_with(2)
            .assert_no_work_started();
    }
}

#[test]
fn unknown_package_is_rejected() {
    let message = push_error(
        &Sources::widgets(),
        &["--package", "gadgets", "--registry", "oci:out"],
    );
    assert!(message.contains("gadgets"), "{message}");
}

#[test]
fn package_without_files_is_rejected() {
    let outcome = Home::new()
        .cargo_oci(["push", "--registry", "oci:out"])
        .within(Sources::library_only().path())
        .fails_with(2);
    let count = outcome.stderr.matches("nothing to push").count();
    assert_eq!(count, 1, "the message appears once: {outcome}");
    assert!(outcome.stderr.contains("`plain`"), "{outcome}");
    assert!(outcome.stderr.contains("`--kind rlib`"), "{outcome}");
}

#[test]
fn directory_without_package_is_rejected() {
    let home = Home::new();
    for command in [&["push", "--registry=oci:out"][..], &["init"]] {
        let refused = home.cargo_oci(command.iter().copied());
        let refused = refused.fails_with(2).assert_no_work_started();
        assert!(refused.stderr.contains("`--manifest-path`"), "{refused}");
    }
    let elsewhere = [
        "push",
        "--registry=oci:out",
        "--manifest-path=no/Cargo.toml",
    ];
    let refused = home
        .cargo_oci(elsewhere)
        .fails_with(2)
        .assert_no_work_started();
    assert!(
        refused
            .stderr
            .contains("check the path of `--manifest-path`"),
        "{refused}"
    );
    let sources = Sources::widgets();
    sources.append("Cargo.toml", "[[[");
    let broken = home.cargo_oci(["init"]).within(sources.path());
    let broken = broken.fails_with(2).assert_no_work_started();
    assert!(broken.stderr.contains("run `cargo metadata`"), "{broken}");
}

#[test]
fn invalid_paths_and_values_are_rejected() {
    let home = Home::new();
    std::fs::write(home.path().join("file"), "mine").unwrap();
    let dead = "127.0.0.1:1/widgets:1";
    let sources = Sources::widgets();
    for (line, code, said) in [
        (&["--file=round=nothere"][..], 1, "no such file `nothere`"),
        (&["--file=nothere"], 2, "`nothere`: no such file"),
        (
            &["--messages=nothere", "--no-index"],
            1,
            "json-render-diagnostics",
        ),
        (
            &["--annotation=dev.cargo-oci.x=y"],
            2,
            "remove the annotation",
        ),
        (
            &["--annotation=org.opencontainers.image.title=x"],
            2,
            "remove the annotation",
        ),
    ] {
        let push = ["push", "--registry=oci:out"].iter().chain(line).copied();
        let refused = home.cargo_oci(push).within(sources.path());
        let refused = refused.fails_with(code).assert_no_work_started();
        assert!(refused.stderr.contains(said), "{refused}");
    }
    for (location, said) in [
        ("docker-archive:x.tar:a:b", "use `oci-archive:x.tar`"),
        (
            "--registry=oci-archive:x.tar",
            "an archive can only contain one repository",
        ),
    ] {
        let refused = home.cargo_oci(["push", location]).within(sources.path());
        let refused = refused.fails_with(2).assert_no_work_started();
        assert!(refused.stderr.contains(said), "{refused}");
    }
    let push = home.cargo_oci(["push", "--registry=oci:out"]);
    let late = push.with("SOURCE_DATE_EPOCH", "today");
    let late = late
        .within(sources.path())
        .fails_with(2)
        .assert_no_work_started();
    assert!(late.stderr.contains("seconds since 1970"), "{late}");
    assert!(!sources.has_build_output(), "nothing was built");
    let refused = home.cargo_oci(["pull", dead, "--output=file"]);
    let refused = refused.fails_with(2).assert_no_work_started();
    assert!(
        refused.stderr.contains("into `file`: not a directory"),
        "{refused}"
    );
    let kind = "--artifact-type=a/b";
    for line in [
        &["attach", dead, "nothere.txt"][..],
        &["attach", dead, "nothere.txt:text/plain"],
        &["attach", dead, "file", "tmp", kind],
    ] {
        let refused = home.cargo_oci(line.iter().copied());
        let refused = refused.fails_with(2).assert_no_work_started();
        assert!(refused.stderr.contains("no such file"), "{refused}");
    }
    let unknown = home.cargo_oci(["attach", dead, "file"]);
    let unknown = unknown.fails_with(2).assert_no_work_started();
    assert!(unknown.stderr.contains("`--artifact-type`"), "{unknown}");
    for command in ["tags", "pull", "inspect"] {
        let absent = home.cargo_oci([command, "oci-archive:nothere.tar"]);
        let absent = absent.fails_with(4).assert_no_work_started();
        assert!(absent.stderr.contains("check the path"), "{absent}");
    }
    for location in ["oci-archive:file", "docker-archive:file"] {
        let refused = home
            .cargo_oci(["tags", location])
            .fails_with(8)
            .assert_no_work_started();
        assert!(
            refused.stderr.contains("is a complete archive"),
            "{refused}"
        );
    }
    // A `--ca-file` that contains no certificate is an error.
    let trust = home.cargo_oci(["tags", "127.0.0.1:1/widgets", "--ca-file=file"]);
    let trust = trust.fails_with(2).assert_no_work_started();
    assert!(trust.stderr.contains("no certificate found"), "{trust}");
    let exclude = ["push", "--registry=oci:out", "--exclude=widgets"];
    let alone = home.cargo_oci(exclude).within(sources.path());
    let alone = alone.fails_with(2).assert_no_work_started();
    assert!(alone.stderr.contains("add `--workspace`"), "{alone}");
    home.cargo_oci(["man", "--output=file"]).fails_with(1);
    home.cargo_oci(["uninstall", "a.b/c", "--root=file"])
        .fails_with(1);
    assert_eq!(
        std::fs::read_to_string(home.path().join("file")).unwrap(),
        "mine"
    );
}

#[test]
fn missing_registry_lists_all_settings() {
    let message = push_error(&Sources::widgets(), &[]);
    for setting in ["--registry", "CARGO_OCI_REGISTRY", "metadata.oci"] {
        assert!(
            message.contains(setting),
            "the error shows `{setting}`: {message}"
        );
    }
}

#[test]
fn unknown_key_suggests_similar_key() {
    let sources = Sources::widgets();
    sources.append(
        "Cargo.toml",
        "[package.metadata.oci]\nrepositori = \"acme/widgets\"",
    );
    let message = push_error(&sources, &["--registry", "oci:out"]);
    assert!(
        message.contains("repository"),
        "the error suggests the similar key: {message}"
    );
}

#[test]
fn undeclared_target_is_rejected() {
    let sources = Sources::widgets();
    let declared = "[package.metadata.oci]\nrelease-targets = [\"aarch64-apple-darwin\"]";
    sources.append("Cargo.toml", declared);
    let message = push_error(
        &sources,
        &["--target", host_triple(), "--registry", "oci:out"],
    );
    assert!(message.contains(host_triple()), "{message}");
}

#[test]
fn floating_without_declared_targets_is_rejected() {
    push_error(
        &Sources::widgets(),
        &[
            "--floating",
            "--registry=oci:out",
            "--target=aarch64-apple-darwin",
            "--target=x86_64-apple-darwin",
        ],
    );
}

#[test]
fn tag_in_form_of_target_tag_is_rejected() {
    push_error(
        &Sources::widgets(),
        &["--tag", "nightly__x", "--registry", "oci:out"],
    );
}

#[test]
fn failed_build_returns_cargo_exit_code() {
    let sources = Sources::widgets();
    sources.write("src/bin/round.rs", "fn main() { this is no Rust }\n");
    let outcome = Home::new()
        .cargo_oci(["push", "--registry", "oci:out"])
        .within(sources.path())
        .outcome();
    assert_eq!(outcome.code, Some(101), "{outcome}");
    assert!(outcome.stderr.contains("src/bin/round.rs"), "{outcome}");
    assert!(!sources.path().join("out/widgets/index.json").exists());
}

#[test]
fn unreachable_registry_is_a_network_error() {
    require!(Shellharden);
    let (home, sources, unreachable) = (Home::new(), Sources::shellharden(), ClosedPort::new());
    let host = unreachable.host();
    let outcome = home
        .cargo_oci(["push", "--registry", host])
        .within(sources.path())
        .fails_with(6);
    assert!(outcome.stderr.contains(host), "{outcome}");
    assert_eq!(outcome.stdout, "");
    let reference = format!("{host}/shellharden:1.0.0");
    let output = sources.sibling("pulled");
    home.cargo_oci(["pull", &reference, "--output", output.to_str().unwrap()])
        .fails_with(6);
    assert!(!output.exists() || std::fs::read_dir(&output).unwrap().next().is_none());
}

#[test]
fn verify_of_missing_directory_is_rejected() {
    let refused = Home::new()
        .cargo_oci(["verify", "127.0.0.1:1/widgets:1", "nothere"])
        .fails_with(2)
        .assert_no_work_started();
    assert!(
        refused.stderr.contains("`nothere` is not a directory"),
        "{refused}"
    );
}

#[test]
fn registry_with_path_is_rejected() {
    for command in [
        ["catalog", "127.0.0.1:5000/acme"],
        ["login", "127.0.0.1:5000/acme"],
    ] {
        let refused = Home::new()
            .cargo_oci(command)
            .fails_with(2)
            .assert_no_work_started();
        assert!(
            refused.stderr.contains("a registry has no path"),
            "{refused}"
        );
        assert!(
            refused.stderr.contains("write `127.0.0.1:5000`"),
            "{refused}"
        );
        let advice = "pass `--include 'acme/*'` to list only the repositories of `acme`\n";
        let is_catalog = command[0] == "catalog";
        assert_eq!(refused.stderr.contains(advice), is_catalog, "{refused}");
    }
}

#[test]
fn reference_in_wrong_form_suggests_correct_form() {
    for (given, meant) in [
        ("oci://ghcr.io/acme/widgets", "write `ghcr.io/acme/widgets`"),
        ("oci://127.0.0.1:1/widgets", "write `127.0.0.1:1/widgets`"),
        ("./out", "write `oci:./out`"),
        ("../out/widgets", "write `oci:../out/widgets`"),
        ("/srv/out", "write `oci:/srv/out`"),
    ] {
        let refused = Home::new().cargo_oci(["pull", given]).fails_with(2);
        assert!(refused.stderr.contains(meant), "{refused}");
    }
}

#[test]
fn damaged_layout_is_reported_with_hint() {
    let home = Home::new();
    let write = |path: &str, text: &str| {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let marker = r#"{"imageLayoutVersion":"1.0.0"}"#;
    write("no-index/oci-layout", marker);
    write("no-index/index.json", "{bad");
    write("no-marker/oci-layout", "bad");
    for layout in ["oci:no-index", "oci:no-marker"] {
        let refused = home.cargo_oci(["tags", layout]).fails_with(8);
        assert!(refused.stderr.contains("help: "), "{refused}");
        assert!(
            refused.stderr.contains("copy the layout again"),
            "{refused}"
        );
    }
}
