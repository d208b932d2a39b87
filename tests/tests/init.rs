//! `cargo oci init`, and pushes with the settings that it suggests.

use std::fs;

use e2e::program::Home;
use e2e::sources::{Sources, host_triple};
use serde_json::Value;

#[test]
fn init_suggests_settings_that_push_accepts() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let git = |line: &str| {
        let script = format!("git {line}");
        home.bash(&script).within(sources.path()).succeeds();
    };
    git("init -q");
    git("remote add origin https://me:canary@github.com/Acme/widgets.git");
    sources.write(
        ".github/workflows/release.yml",
        &format!(
            "jobs:\n  push:\n    strategy: {{ matrix: {{ target: [{}] }} }}\n    steps:\n\
             \x20     - run: cargo oci push --target ${{{{ matrix.target }}}}\n\
             \x20 test:\n    steps:\n      - run: cargo test --target s390x-unknown-linux-gnu\n",
            host_triple()
        ),
    );
    let init = home.cargo_oci(["init"]).within(sources.path());
    let proposed = init.clone().succeeds();
    assert!(!proposed.stdout.contains("canary"), "{proposed}");
    assert!(
        proposed.stdout.contains("`.github/workflows/release.yml`"),
        "{proposed}"
    );
    let manifest = fs::read_to_string(sources.path().join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("metadata.oci"), "nothing is written");

    sources.append("Cargo.toml", &proposed.stdout);
    let arguments = ["metadata", "--no-deps", "--format-version=1"];
    let metadata = home
        .cargo(arguments)
        .within(sources.path())
        .succeeds()
        .stdout;
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let settings = &metadata["packages"][0]["metadata"]["oci"];
    assert_eq!(settings["registry"], "ghcr.io/acme");
    assert_eq!(settings["release-targets"], Value::Null);
    // The targets are a comment. Without the `# `, a push uses them.
    let manifest = fs::read_to_string(sources.path().join("Cargo.toml")).unwrap();
    let (before, declared) = manifest.split_once("# release-targets").unwrap();
    let declared = declared.replace("\n# ", "\n");
    sources.write("Cargo.toml", &format!("{before}release-targets{declared}"));
    let push = home.cargo_oci([
        "push",
        "--target",
        "s390x-unknown-linux-gnu",
        "--file",
        "x=Cargo.toml",
    ]);
    let refused = push.within(sources.path()).fails_with(2);
    assert!(
        refused.stderr.contains("the target is not declared"),
        "{refused}"
    );
    let again = init.fails_with(2);
    assert!(again.stderr.contains("`package.metadata.oci`"), "{again}");
}

#[test]
fn init_without_remote_prints_commented_settings() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let proposed = home.cargo_oci(["init"]).within(sources.path()).succeeds();
    sources.append("Cargo.toml", &proposed.stdout);
    let refused = home
        .cargo_oci(["push"])
        .within(sources.path())
        .fails_with(2);
    assert!(
        refused.stderr.contains("no registry is configured"),
        "{refused}"
    );
}

#[test]
fn init_write_adds_table_and_keeps_the_manifest() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let read = || fs::read_to_string(sources.path().join("Cargo.toml")).unwrap();
    let init = |more: &[&str]| {
        let run = home.cargo_oci(["init"].iter().chain(more).copied());
        run.within(sources.path())
    };
    sources.append("Cargo.toml", "# a comment   ");
    let before = read();
    let proposed = init(&[]).succeeds();
    assert_eq!(read(), before);
    let written = init(&["--write"]).succeeds();
    assert_eq!(written.stdout, "");
    assert!(
        written.stderr.contains("Added `package.metadata.oci`"),
        "{written}"
    );
    assert_eq!(read(), format!("{before}{}", proposed.stdout));
    // The table has only comments, so it has no settings, but it exists.
    let refused = init(&["--write"]).fails_with(2);
    assert!(refused.stderr.contains("already exists"), "{refused}");
    assert_eq!(read(), format!("{before}{}", proposed.stdout));
}

#[test]
fn former_names_of_release_targets_are_rejected() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let push = home
        .cargo_oci(["push", "--registry", "oci:out"])
        .within(sources.path());
    let variable = push.clone().with("CARGO_OCI_TARGETS", host_triple());
    let variable = variable.fails_with(2).assert_no_work_started();
    assert!(
        variable.stderr.contains("`CARGO_OCI_RELEASE_TARGETS`"),
        "{variable}"
    );
    sources.append(
        "Cargo.toml",
        "[package.metadata.oci]\ntargets = [\"aarch64-apple-darwin\"]",
    );
    let key = push.fails_with(2).assert_no_work_started();
    assert!(
        key.stderr.contains("rename `targets` to `release-targets`"),
        "{key}"
    );
}
