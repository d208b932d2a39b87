//! Installation of several packages and versions, the list of installed packages, and upgrades.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use e2e::messages::Schema;
use e2e::program::{Home, Outcome, Run};
use e2e::sources::{Sources, host_triple};

/// Publishes a release to the layout `out/widgets` of the home directory. The programs of the release are scripts.
fn publish(home: &Home, version: &str, programs: &[&str], more: &[&str]) {
    let sources = Sources::widgets();
    let manifest = fs::read_to_string(sources.path().join("Cargo.toml"));
    let manifest = manifest.expect("the manifest can be read");
    sources.write("Cargo.toml", &manifest.replace("1.2.3", version));
    sources.write("made", &format!("#!/bin/sh\necho {version}\n"));
    let registry = format!("oci:{}", home.path().join("out").display());
    let files = programs
        .iter()
        .map(|program| format!("--file={program}=made"));
    let fixed = ["push", "--registry", &registry, "--target", host_triple()];
    let fixed = fixed.into_iter().chain(more.iter().copied());
    home.cargo_oci(fixed.map(str::to_owned).chain(files))
        .within(sources.path())
        .succeeds();
}

fn run(home: &Home, arguments: &[&str]) -> Run {
    home.cargo_oci(arguments.iter().copied())
}

/// Name of the layout in messages.
fn location(home: &Home) -> String {
    let path = home.path().join("out/widgets").canonicalize();
    let path = path.expect("the layout exists");
    format!("oci:{}", path.display())
}

fn assert_status(outcome: &Outcome, expected: &str) {
    assert!(outcome.stderr.contains(expected), "{expected}\n{outcome}");
}

#[test]
fn install_over_other_version_prints_replaced_package() {
    let home = Home::new();
    publish(&home, "0.1.0", &["round", "square"], &[]);
    publish(&home, "0.2.0", &["round"], &[]);
    let place = location(&home);
    let first = run(&home, &["install", "oci:out/widgets@0.1.0"]).succeeds();
    let shown = format!(
        "   Installed package `widgets v0.1.0 ({place})` (executables `round`, `square`)\n"
    );
    assert_status(&first, &shown);
    let listed = run(&home, &["install", "--list"]).succeeds();
    let expected = format!("widgets v0.1.0 ({place}):\n    round\n    square\n");
    assert_eq!(listed.stdout, expected);

    let second = run(&home, &["install", "oci:out/widgets"]).succeeds();
    let replaced = format!(
        "    Replaced package `widgets v0.1.0 ({place})` with `widgets v0.2.0 ({place})` (executable `round`)\n"
    );
    assert_status(&second, &replaced);
    let bin = home.path().join(".cargo/bin");
    assert_status(
        &second,
        &format!("    Removing {}\n", bin.join("square").display()),
    );
    assert!(!bin.join("square").exists());
    let mode = fs::metadata(bin.join("round"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111);

    let json = ["install", "--list", "--message-format=json"];
    let listed = run(&home, &json).succeeds();
    let messages = Schema::from_documentation().validate(&listed.stdout);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["version"], "0.2.0");
    assert_eq!(messages[0]["reference"], place);
    assert_eq!(messages[0]["programs"], serde_json::json!(["round"]));
}

#[test]
fn list_escapes_control_characters_of_foreign_records() {
    let home = Home::new();
    let root = home.path().join(".cargo");
    fs::create_dir_all(&root).unwrap();
    let key = r"a\u001b[2J\u202eb 1.0.0 (registry+oci://a.b/c)";
    let records = format!("[v1]\n\"{key}\" = [\"one\\u200b\"]\n");
    fs::write(root.join(".crates.toml"), records).unwrap();
    let details = format!(r#"{{"installs":{{"{key}":{{"oci-tag":null}}}}}}"#);
    fs::write(root.join(".crates2.json"), details).unwrap();
    let listed = run(&home, &["install", "--list"]).succeeds();
    let expected = "a\\u{1b}[2J\\u{202e}b v1.0.0 (a.b/c):\n    one\\u{200b}\n";
    assert_eq!(listed.stdout, expected);
}

#[test]
fn failure_of_one_package_does_not_stop_the_others() {
    let home = Home::new();
    publish(&home, "0.1.0", &["round"], &[]);
    let arguments = ["install", "oci:out/widgets@9.0.0", "oci:out/widgets"];
    let failed = run(&home, &arguments).fails_with(4);
    let summary = "     Summary Successfully installed oci:out/widgets! Failed to install oci:out/widgets@9.0.0 (see error(s) above).\n";
    assert_status(&failed, summary);
    assert_status(&failed, "error: failed to install 1 of 2 packages\n");
    assert!(home.path().join(".cargo/bin/round").exists());
    let both = ["install", "oci:out/widgets:0.1.0@0.1.0"];
    run(&home, &both).fails_with(2);
}

#[test]
fn version_argument_selects_tag_with_v_if_it_is_the_only_one() {
    let home = Home::new();
    publish(&home, "0.1.0", &["round"], &[]);
    publish(&home, "0.2.0", &["round"], &[]);
    let tag = ["tag", "oci:out/widgets:0.1.0", "v0.1.0"];
    run(&home, &tag).succeeds();
    let delete = ["delete", "oci:out/widgets:0.1.0", "--yes"];
    run(&home, &delete).succeeds();
    run(&home, &["install", "oci:out/widgets@0.1.0"]).succeeds();
    let listed = run(&home, &["install", "--list"]).succeeds();
    assert!(listed.stdout.starts_with("widgets v0.1.0 "), "{listed}");
}

#[test]
fn upgrade_installs_newer_release_only() {
    let home = Home::new();
    publish(&home, "0.1.0", &["round", "square"], &[]);
    let place = location(&home);
    run(&home, &["install", "oci:out/widgets"]).succeeds();
    let current = run(&home, &["upgrade", "widgets"]).succeeds();
    let shown = format!("  Up to date package `widgets v0.1.0 ({place})`\n");
    assert_status(&current, &shown);
    assert_eq!(current.stdout, "");

    // A package that cargo installed is never changed.
    let sources = Sources::widgets();
    let bin = home.path().join(".cargo/bin");
    home.cargo(["install", "--debug", "--path", ".", "--root", "other"])
        .within(sources.path())
        .succeeds();
    let other = sources.path().join("other");
    let foreign = ["upgrade", "widgets", "--root", other.to_str().unwrap()];
    let refused = run(&home, &foreign).fails_with(4);
    assert_status(&refused, "it was installed by `cargo install`");

    publish(&home, "0.2.0", &["round"], &[]);
    publish(&home, "0.3.0-rc.1", &["round"], &[]);
    let json = ["upgrade", "--all", "--message-format=json"];
    let upgraded = run(&home, &json).succeeds();
    let messages = Schema::from_documentation().validate(&upgraded.stdout);
    let package = messages.iter().find(|one| one["reason"] == "oci-package");
    let package = package.unwrap();
    assert_eq!(package["action"], "replaced");
    assert_eq!(package["previous-version"], "0.1.0");
    assert_eq!(package["version"], "0.2.0");
    assert!(bin.join("round").exists() && !bin.join("square").exists());
    let list = home.cargo(["install", "--list"]).succeeds();
    assert!(list.stdout.starts_with("widgets v0.2.0 "), "{list}");
    run(&home, &["upgrade", "oci:out/widgets:0.1.0"]).fails_with(2);
    run(&home, &["upgrade", "gadgets"]).fails_with(4);
}

#[test]
fn upgrade_with_recorded_requirement_stays_within_it() {
    let home = Home::new();
    publish(&home, "0.1.0", &["round"], &[]);
    publish(&home, "0.2.0", &["round"], &[]);
    let narrow = ["install", "oci:out/widgets", "--version", "~0.1"];
    run(&home, &narrow).succeeds();
    let held = run(&home, &["upgrade", "widgets"]).succeeds();
    assert_status(&held, "for `--version ~0.1`\n");
    publish(&home, "0.1.1", &["round"], &[]);
    run(&home, &["upgrade", "widgets"]).succeeds();
    let listed = run(&home, &["install", "--list"]).succeeds();
    assert!(listed.stdout.starts_with("widgets v0.1.1 "), "{listed}");
}

#[test]
fn upgrade_after_install_of_moving_tag_follows_it() {
    let home = Home::new();
    publish(&home, "0.5.0", &["round"], &[]);
    publish(&home, "0.3.0", &["round"], &["--tag=nightly"]);
    run(&home, &["install", "oci:out/widgets:nightly"]).succeeds();
    publish(&home, "0.4.0", &["round"], &["--tag=nightly"]);
    run(&home, &["upgrade", "oci:out/widgets"]).succeeds();
    let listed = run(&home, &["install", "--list"]).succeeds();
    assert!(listed.stdout.starts_with("widgets v0.4.0 "), "{listed}");
}

#[test]
fn upgrade_with_invalid_recorded_limit_fails() {
    let home = Home::new();
    publish(&home, "0.1.0", &["round"], &[]);
    let narrow = ["install", "oci:out/widgets", "--version", "~0.1"];
    run(&home, &narrow).succeeds();
    publish(&home, "0.2.0", &["round"], &[]);
    let path = home.path().join(".cargo/.crates2.json");
    let details = fs::read_to_string(&path).unwrap();
    for (valid, invalid, message) in [
        (r#""~0.1""#, r#""~x""#, "invalid version requirement `~x`"),
        (r#""~0.1""#, "[1]", "invalid version requirement `[1]`"),
        (
            r#""oci-tag":null"#,
            r#""oci-tag":"a b""#,
            "invalid tag `a b`",
        ),
    ] {
        assert!(details.contains(valid), "{details}");
        fs::write(&path, details.replace(valid, invalid)).unwrap();
        let failed = run(&home, &["upgrade", "widgets"]).fails_with(1);
        assert_status(&failed, message);
        let listed = run(&home, &["install", "--list"]).succeeds();
        assert!(listed.stdout.starts_with("widgets v0.1.0 "), "{listed}");
    }
}

#[test]
fn uninstall_with_other_version_tag_fails() {
    let home = Home::new();
    publish(&home, "0.1.0", &["round"], &[]);
    run(&home, &["install", "oci:out/widgets"]).succeeds();
    let other = run(&home, &["uninstall", "oci:out/widgets:0.2.0"]).fails_with(4);
    assert_status(&other, "the installed version is 0.1.0\n");
    let program = home.path().join(".cargo/bin/round");
    assert!(program.exists());
    run(&home, &["uninstall", "oci:out/widgets:0.1.0"]).succeeds();
    assert!(!program.exists());
}

#[test]
fn uninstall_by_name_removes_programs() {
    let home = Home::new();
    publish(&home, "0.1.0", &["round"], &[]);
    run(&home, &["install", "oci:out/widgets"]).succeeds();
    let program = home.path().join(".cargo/bin/round");
    assert!(program.exists());
    let both = run(&home, &["uninstall", "gadgets", "widgets"]).fails_with(4);
    assert_status(
        &both,
        "Successfully uninstalled widgets! Failed to uninstall gadgets",
    );
    assert!(!program.exists());
}

#[test]
fn upgrade_of_deleted_version_warns_and_keeps_the_programs() {
    let home = Home::new();
    publish(&home, "0.1.0", &["round"], &[]);
    publish(&home, "0.2.0", &["round"], &[]);
    let place = location(&home);
    run(&home, &["install", "oci:out/widgets"]).succeeds();
    let current = run(&home, &["upgrade", "--all"]).succeeds();
    assert!(!current.stderr.contains("warning:"), "{current}");
    let delete = ["delete", "oci:out/widgets:0.2.0", "--yes"];
    run(&home, &delete).succeeds();
    let upgraded = run(&home, &["upgrade", "widgets"]).succeeds();
    let warning = format!(
        "warning: `widgets v0.2.0` is no longer in `{place}`; its highest release is 0.1.0: run `cargo oci install {place}@0.1.0` to install it\n"
    );
    assert_eq!(upgraded.stderr, warning);
    let listed = run(&home, &["install", "--list"]).succeeds().stdout;
    assert!(listed.starts_with("widgets v0.2.0 "), "{listed}");
}

#[test]
fn upgrade_of_unchanged_followed_tag_prints_up_to_date() {
    let home = Home::new();
    publish(&home, "0.3.0", &["round"], &["--tag=nightly"]);
    run(&home, &["install", "oci:out/widgets:nightly"]).succeeds();
    let upgraded = run(&home, &["upgrade", "widgets"]).succeeds();
    let expected = format!(
        "  Up to date package `widgets v0.3.0 ({})`\n",
        location(&home)
    );
    assert_eq!(upgraded.stderr, expected);
    // A program with other content is installed again.
    fs::write(home.path().join(".cargo/bin/round"), "x").unwrap();
    let repaired = run(&home, &["upgrade", "widgets"]).succeeds();
    assert_status(&repaired, "Installing widgets v0.3.0");
}

#[test]
fn summary_and_path_note_are_printed_once_for_changes_only() {
    let home = Home::new();
    publish(&home, "0.1.0", &["round"], &[]);
    let copy = ["copy", "oci:out/widgets", "oci:out/gadgets", "--all-tags"];
    run(&home, &copy).succeeds();
    let install = ["install", "--force", "oci:out/widgets", "oci:out/gadgets"];
    let count = |outcome: &Outcome| outcome.stderr.matches("to your PATH").count();
    assert_eq!(count(&run(&home, &install).succeeds()), 1);
    let both = ["upgrade", "oci:out/gadgets", "oci:out/gadgets"];
    let upgraded = run(&home, &both).succeeds();
    assert_status(
        &upgraded,
        "     Summary Unchanged: oci:out/gadgets, oci:out/gadgets.\n",
    );
    assert_eq!(count(&upgraded), 0, "{upgraded}");
    let again = run(&home, &["install", "oci:out/gadgets"]).succeeds();
    assert_eq!(count(&again), 0, "{again}");
}

#[test]
fn package_in_other_root_is_not_found_and_root_is_named() {
    let home = Home::new();
    let listed = run(&home, &["install", "--list"]).succeeds();
    let root = home.path().join(".cargo");
    let empty = format!("installed no package in `{}`", root.display());
    assert_status(&listed, &format!("note: `cargo oci install` {empty}\n"));
    assert_eq!(listed.stdout, "");
    publish(&home, "0.1.0", &["round"], &[]);
    let install = ["install", "oci:out/widgets", "--root", "other"];
    run(&home, &install).succeeds();
    for verb in ["upgrade", "uninstall"] {
        let absent = run(&home, &[verb, "widgets"]).fails_with(4);
        assert_status(&absent, &empty);
        assert_status(&absent, "pass `--root` if");
    }
    run(&home, &["install", "oci:out/widgets"]).succeeds();
    let absent = run(&home, &["uninstall", "gadgets"]).fails_with(4);
    let choice = format!("choose from the packages in `{}`: ", root.display());
    assert_status(&absent, &choice);
}

#[test]
fn invalid_or_missing_version_argument_has_advice() {
    let home = Home::new();
    for version in ["0.1.0", "0.2.0", "0.3.0"] {
        publish(&home, version, &["round"], &[]);
    }
    let partial = run(&home, &["install", "a.b/widgets@0.2"]).fails_with(2);
    let advice = "write `@0.2.0`, or pass `--version ^0.2`\n";
    assert_status(&partial, advice);
    let absent = run(&home, &["install", "oci:out/widgets@0.4.0"]).fails_with(4);
    let similar = "a tag with a similar name exists: `oci:out/widgets:0.3.0`\n";
    assert_status(&absent, similar);
}
