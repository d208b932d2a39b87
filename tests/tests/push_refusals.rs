//! Pushes that would publish the wrong content. The client rejects such a push before it sends a request.

use e2e::layout::Layout;
use e2e::program::{Home, Outcome, Run};
use e2e::registry::Registry;
use e2e::require;
use e2e::sources::Sources;

/// Prepares a push to layouts below `out`.
fn push(home: &Home, sources: &Sources, more: &[&str]) -> Run {
    let fixed = ["push", "--registry=oci:out"];
    home.cargo_oci(fixed.iter().chain(more).copied())
        .within(sources.path())
}

/// Asserts that a rejected push wrote nothing.
#[track_caller]
fn assert_nothing_written(sources: &Sources, outcome: &Outcome) {
    assert!(
        !sources.path().join("out").exists(),
        "a layout was written: {outcome}"
    );
}

/// Creates a git repository and commits all sources.
fn commit_sources(home: &Home, sources: &Sources) {
    sources.write(".gitignore", "target\nCargo.lock\nout\nmade\n");
    let who = "-c user.name=A -c user.email=a@example.org";
    let script = format!("git init --quiet && git add . && git {who} commit --quiet -m all");
    home.bash(&script).within(sources.path()).succeeds();
}

/// Returns the names of the files in the `.crate` file of `widgets`.
fn crate_files(home: &Home, sources: &Sources) -> String {
    let list = home.bash("tar -tzf target/package/widgets-1.2.3.crate");
    list.within(sources.path()).succeeds().stdout
}

#[test]
fn crate_with_untracked_file_is_rejected_before_the_build() {
    let (home, sources) = (Home::new(), Sources::widgets());
    commit_sources(&home, &sources);
    sources.write(".env", "SECRET=1");
    sources.write("made", "x");
    for more in [
        &["--crate"][..],
        &["--crate", "--dry-run"],
        &["--crate", "--tag=nightly"],
        &["--crate", "--file=round=made"],
        &["--crate", "--messages=made"],
    ] {
        let refused = push(&home, &sources, more)
            .fails_with(2)
            .assert_no_work_started();
        assert!(refused.stderr.contains("\n  .env\n"), "{refused}");
        assert!(refused.stderr.contains("`--allow-dirty`"), "{refused}");
        assert!(
            !sources.has_build_output(),
            "the command built the package: {refused}"
        );
        assert_nothing_written(&sources, &refused);
    }
    // The push fails before it contacts the registry.
    let elsewhere = ["push", "--crate", "127.0.0.1:1/widgets:nightly"];
    let refused = home.cargo_oci(elsewhere).within(sources.path());
    refused.fails_with(2).assert_no_work_started();

    let handed = ["--file=round=made", "--crate"];
    push(&home, &sources, &[&handed[..], &["--allow-dirty"]].concat()).succeeds();
    assert!(crate_files(&home, &sources).contains("widgets-1.2.3/.env\n"));
    sources.write(".git/info/exclude", ".env\n");
    push(&home, &sources, &[&handed[..], &["--tag=clean"]].concat()).succeeds();
    assert!(!crate_files(&home, &sources).contains(".env"));
    sources.append("src/lib.rs", "// changed");
    let changed = push(&home, &sources, &handed)
        .fails_with(2)
        .assert_no_work_started();
    assert!(changed.stderr.contains("\n  src/lib.rs\n"), "{changed}");
}

#[test]
fn crate_that_the_build_makes_dirty_is_rejected() {
    let (home, sources) = (Home::new(), Sources::widgets());
    sources.write(
        "build.rs",
        "fn main() { std::fs::write(\"src/made.rs\", \"\").unwrap() }",
    );
    commit_sources(&home, &sources);
    let refused = push(&home, &sources, &["--crate"]).fails_with(2);
    assert!(refused.stderr.contains("\n  src/made.rs\n"), "{refused}");
    assert_nothing_written(&sources, &refused);
}

/// Prepares a push to a registry.
fn push_to(home: &Home, sources: &Sources, host: &str, more: &[&str]) -> Run {
    let fixed = ["push", "--registry", host];
    home.cargo_oci(fixed.iter().chain(more).copied())
        .within(sources.path())
}

#[test]
fn version_from_dirty_tree_is_rejected_before_the_build() {
    let (home, sources) = (Home::new(), Sources::widgets());
    commit_sources(&home, &sources);
    sources.write("made", "x");
    sources.append("src/lib.rs", "// changed");
    for more in [
        &[][..],
        &["--dry-run"],
        &["--no-build"],
        &["--file=round=made"],
        &["--messages=made"],
        &["--tag=v1.2.3", "--tag=nightly"],
        &["--no-index"],
    ] {
        let refused = push_to(&home, &sources, "127.0.0.1:1", more)
            .fails_with(2)
            .assert_no_work_started();
        let expected = "the work tree has uncommitted changes: `src/lib.rs`\n\n\
             help: commit the changes, or pass `--allow-dirty` to publish them and record `dirty: true`\n";
        assert!(refused.stderr.ends_with(expected), "{refused}");
        assert!(!sources.has_build_output(), "{refused}");
    }
    // A moving tag is not rejected, so the push contacts the registry.
    let moving = ["--file=round=made", "--tag=nightly", "--retries=0"];
    push_to(&home, &sources, "127.0.0.1:1", &moving).fails_with(6);
}

#[test]
fn version_from_dirty_tree_is_published_with_allow_dirty() {
    require!(DockerRegistry, Nu);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let host = registry.host();
    commit_sources(&home, &sources);
    sources.write("made", "x");
    sources.write("untracked", "x");
    let file = "--file=round=made";
    push_to(&home, &sources, host, &[file]).succeeds();
    let reference = format!("{host}/widgets:1.2.3");
    let head = home.bash("git rev-parse HEAD").within(sources.path());
    let head = head.succeeds().stdout.trim().to_owned();
    let clean = home.cargo_oci(["inspect", &reference]).succeeds();
    let revision = format!("revision   {}\n", &head[..8]);
    assert!(clean.stdout.contains(&revision), "{clean}");

    sources.append("src/lib.rs", "// changed");
    let dirty = push_to(
        &home,
        &sources,
        host,
        &[file, "--allow-dirty", "--overwrite"],
    )
    .succeeds();
    assert!(!dirty.stderr.contains("uncommitted"), "{dirty}");
    let (_, manifest) = registry.manifest("widgets", &sources.target_tag()).unwrap();
    assert_eq!(manifest["annotations"]["dev.cargo-oci.vcs.dirty"], "true");
    let inspected = home.cargo_oci(["inspect", &reference]).succeeds();
    let revision = format!("revision   {} (dirty)\n", &head[..8]);
    assert!(inspected.stdout.contains(&revision), "{inspected}");
    let json = home.cargo_oci(["inspect", &reference, "--message-format=json"]);
    let json: serde_json::Value = serde_json::from_str(&json.succeeds().stdout).unwrap();
    assert_eq!(
        (&json["revision"], &json["dirty"]),
        (&head.into(), &true.into())
    );
    let shown = home.nu_value(&format!("oci inspect {reference} | get dirty"));
    assert_eq!(shown, true);
}

#[test]
fn version_from_tree_that_the_build_changes_is_rejected() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    sources.write("generated.txt", "old");
    sources.write(
        "build.rs",
        "fn main() { std::fs::write(\"generated.txt\", \"new\").unwrap() }",
    );
    commit_sources(&home, &sources);
    let refused = push_to(&home, &sources, registry.host(), &[]).fails_with(2);
    let expected = "the work tree has uncommitted changes after the build: `generated.txt`\n";
    assert!(refused.stderr.contains(expected), "{refused}");
    assert!(sources.has_build_output());
    assert_eq!(registry.tags("widgets"), Vec::<String>::new());
}

#[test]
fn dirty_tree_prints_warning_for_layout_and_moving_tag() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    commit_sources(&home, &sources);
    sources.write("made", "x");
    let file = "--file=round=made";
    let warning = "warning: the work tree has uncommitted changes: `src/lib.rs`\n";
    let clean = push(&home, &sources, &[file]).succeeds();
    assert!(!clean.stderr.contains("uncommitted"), "{clean}");

    sources.append("src/lib.rs", "// changed");
    let layout = push(&home, &sources, &[file]).succeeds();
    let moving = push_to(&home, &sources, registry.host(), &[file, "--tag=nightly"]).succeeds();
    for pushed in [layout, moving] {
        assert_eq!(pushed.stderr.matches(warning).count(), 1, "{pushed}");
    }
    let allowed = push(&home, &sources, &[file, "--allow-dirty"]).succeeds();
    assert!(!allowed.stderr.contains("uncommitted"), "{allowed}");

    // Changes are checked only if git tracks the manifest of the package.
    let untrack = home.bash("git rm --quiet --cached Cargo.toml");
    untrack.within(sources.path()).succeeds();
    push_to(&home, &sources, registry.host(), &[file]).succeeds();
    let (_, manifest) = registry.manifest("widgets", &sources.target_tag()).unwrap();
    assert_eq!(
        manifest["annotations"]["dev.cargo-oci.vcs.dirty"],
        serde_json::Value::Null
    );
}

#[test]
fn overwrite_corrects_revision_of_same_files() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let host = registry.host();
    commit_sources(&home, &sources);
    sources.write("made", "x");
    let file = "--file=round=made";
    let first = push_to(&home, &sources, host, &[file]).succeeds();
    sources.append("src/lib.rs", "// changed");
    let who = "-c user.name=A -c user.email=a@example.org";
    let commit = home.bash(&format!(
        "git {who} commit --quiet -am more && git rev-parse HEAD"
    ));
    let head = commit.within(sources.path()).succeeds().stdout;
    let kept = push_to(&home, &sources, host, &[file]).succeeds();
    assert_eq!(kept.printed_digest(), first.printed_digest());

    let target_tag = sources.target_tag();
    let old = registry.digest("widgets", &target_tag).unwrap();
    let pushed = push_to(&home, &sources, host, &[file, "--overwrite"]).succeeds();
    let warning = format!(
        "warning: replaced the manifest of `{target_tag}`; {old} and its referrers are no longer tagged\n"
    );
    assert!(pushed.stderr.contains(&warning), "{pushed}");
    let (_, manifest) = registry.manifest("widgets", &target_tag).unwrap();
    let revision = &manifest["annotations"]["org.opencontainers.image.revision"];
    assert_eq!(revision, head.trim());
}

#[test]
fn push_of_two_binaries_with_same_output_path_is_rejected() {
    let (home, sources) = (Home::new(), Sources::workspace(["tool", "tool"]));
    for more in [&["--workspace"][..], &["--workspace", "--dry-run"]] {
        let refused = push(&home, &sources, more).fails_with(2);
        for part in [
            "target/release/tool`",
            "bin `tool` of `client`, bin `tool` of `server`",
        ] {
            assert!(refused.stderr.contains(part), "{refused}");
        }
        assert_nothing_written(&sources, &refused);
    }
    push(&home, &sources, &["--package=server"]).succeeds();
    assert_eq!(sources.run_built("tool"), "server\n");
}

#[test]
fn packages_with_one_repository_and_tag_are_rejected() {
    let (home, sources) = (Home::new(), Sources::workspace(["one", "two"]));
    sources.append(
        "Cargo.toml",
        "[workspace.metadata.oci]\nrepository = \"suite\"",
    );
    for (more, tag) in [
        (&["--workspace"][..], "1.2.3"),
        (&["--workspace", "--dry-run"], "1.2.3"),
        (&["--workspace", "--tag=nightly"], "nightly"),
        (&["--workspace", "--tag=a", "--tag=nightly", "-n"], "a"),
    ] {
        let refused = push(&home, &sources, more)
            .fails_with(2)
            .assert_no_work_started();
        let expected = format!(
            "failed to push `client` and `server`: both would be published as `oci:out/suite:{tag}`"
        );
        assert!(refused.stderr.contains(&expected), "{refused}");
        assert!(
            !sources.has_build_output(),
            "the command built the package: {refused}"
        );
        assert_nothing_written(&sources, &refused);
    }
    // Both paths refer to the same layout directory.
    for (package, layout) in [("client", "oci:out"), ("server", "oci:./x/../out")] {
        let metadata = format!("[package.metadata.oci]\nregistry = \"{layout}\"\n");
        sources.append(&format!("{package}/Cargo.toml"), &metadata);
    }
    let refused = home
        .cargo_oci(["push", "--workspace", "--tag=nightly"])
        .within(sources.path())
        .fails_with(2)
        .assert_no_work_started();
    assert!(refused.stderr.contains("both would be"), "{refused}");
    assert_nothing_written(&sources, &refused);
    // If the arguments name programs, only the build shows which packages have files.
    let both = ["--workspace", "--bin=one", "--bin=two", "--tag=nightly"];
    let refused = push(&home, &sources, &both).fails_with(2);
    assert!(refused.stderr.contains("both would be"), "{refused}");
    assert_nothing_written(&sources, &refused);
    let one = push(
        &home,
        &sources,
        &["--workspace", "--bin=one", "--tag=nightly"],
    )
    .succeeds();
    assert!(!one.stderr.contains("share the repository"), "{one}");
}

#[test]
fn packages_that_share_only_a_repository_print_note() {
    let (home, sources) = (Home::new(), Sources::workspace(["one", "two"]));
    sources.append(
        "Cargo.toml",
        "[workspace.metadata.oci]\nrepository = \"suite\"",
    );
    let manifest = std::fs::read_to_string(sources.path().join("server/Cargo.toml")).unwrap();
    sources.write("server/Cargo.toml", &manifest.replace("1.2.3", "2.0.0"));
    let pushed = push(&home, &sources, &["--workspace"]).succeeds();
    let note = "`client`, `server` share the repository `oci:out/suite`";
    assert_eq!(pushed.stderr.matches(note).count(), 1, "{pushed}");
    let layout = Layout::open(sources.path().join("out/suite"));
    assert!(layout.digest("1.2.3").is_some() && layout.digest("2.0.0").is_some());
}

#[test]
fn messages_with_byte_order_mark_name_all_files() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let build = ["build", "--release", "--message-format=json"];
    let messages = home.cargo(build).within(sources.path()).succeeds().stdout;
    sources.write("messages", &format!("\u{feff}{messages}"));
    push(&home, &sources, &["--messages=messages"]).succeeds();
    let layout = Layout::open(sources.path().join("out/widgets"));
    let (_, manifest) = layout.manifest(&sources.target_tag()).unwrap();
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 3);

    // Every file that a message names must exist.
    let program = sources.path().join("target/release/round");
    std::fs::rename(&program, sources.path().join("round")).unwrap();
    let absent = push(&home, &sources, &["--messages=messages", "--tag=a"]).fails_with(1);
    let expected = format!(
        "`{}`, which cargo reported, does not exist",
        program.display()
    );
    assert!(absent.stderr.contains(&expected), "{absent}");
    std::fs::rename(sources.path().join("round"), &program).unwrap();

    // If a message follows other text in a line, the push fails and shows the line.
    sources.write(
        "messages",
        &messages.replacen("{\"reason\"", "12:00 {\"reason\"", 1),
    );
    let refused = push(&home, &sources, &["--messages=messages", "--tag=b"]).fails_with(2);
    let refused = refused.assert_no_work_started();
    assert!(
        refused
            .stderr
            .contains("failed to parse line 1 of cargo's messages"),
        "{refused}"
    );
}

#[cfg(unix)]
#[test]
fn cargo_oci_variable_with_invalid_utf8_is_rejected() {
    use std::os::unix::ffi::OsStringExt as _;

    let (home, sources) = (Home::new(), Sources::widgets());
    let invalid = std::ffi::OsString::from_vec(b"oci:\xff".to_vec());
    let push = || home.cargo_oci(["push"]).within(sources.path());
    let run = push().with("CARGO_OCI_REGISTRY", invalid.clone());
    let refused = run.fails_with(2).assert_no_work_started();
    let expected = "failed to read the environment variable `CARGO_OCI_REGISTRY`: it is not UTF-8";
    assert!(refused.stderr.contains(expected), "{refused}");
    assert!(!sources.has_build_output(), "{refused}");

    let run = home.cargo_oci(["config", "--help"]).with("OTHER", invalid);
    run.succeeds();
}

#[test]
fn conflict_of_one_of_several_packages_names_it() {
    require!(DockerRegistry);
    let (home, registry) = (Home::new(), Registry::open());
    let sources = Sources::workspace(["alpha", "beta"]);
    let host = registry.host();
    let push = |more: &[&str]| {
        let fixed = ["push", "--registry", host];
        home.cargo_oci(fixed.iter().chain(more).copied())
            .within(sources.path())
    };
    push(&[]).succeeds();
    let main = "fn main() { println!(\"other\") }\n";
    sources.write("client/src/main.rs", main);
    let advice = "or pass `--package client --overwrite` to replace the released version\n";
    let planned = push(&["--dry-run"]).fails_with(5);
    assert!(planned.stderr.contains(advice), "{planned}");
    let refused = push(&[]).fails_with(5);
    assert!(refused.stderr.contains(advice), "{refused}");
    let nothing = "help: nothing was published; `--package NAME` pushes the other packages alone\n";
    assert!(refused.stderr.contains(nothing), "{refused}");
    let single = push(&["--package=client"]).fails_with(5);
    assert!(single.stderr.contains("or pass `--overwrite`"), "{single}");
    assert!(!single.stderr.contains("nothing was published"), "{single}");
}
