//! `cargo oci install` and `cargo oci uninstall`, together with the real cargo.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use e2e::messages::Schema;
use e2e::program::{Home, Outcome, Run};
use e2e::registry::Registry;
use e2e::require;
use e2e::sources::{Sources, host_triple};
use serde_json::Value;

/// Returns a script that serves as the program of a release. The script prints its version.
fn version_script(version: &str) -> String {
    format!("#!/bin/sh\necho round {version}\n")
}

/// Publishes a release for one target. The programs of the release are scripts.
fn publish_release(home: &Home, host: &str, version: &str, target: &str, programs: &[&str]) {
    let sources = Sources::widgets();
    let manifest = fs::read_to_string(sources.path().join("Cargo.toml"));
    let manifest = manifest.expect("the manifest can be read");
    sources.write("Cargo.toml", &manifest.replace("1.2.3", version));
    sources.write("made", &version_script(version));
    let files = programs
        .iter()
        .map(|program| format!("--file={program}=made"));
    let fixed = ["push", "--registry", host, "--target", target];
    let arguments = fixed.into_iter().map(str::to_owned).chain(files);
    home.cargo_oci(arguments).within(sources.path()).succeeds();
}

fn installed_program(home: &Home, program: &str) -> PathBuf {
    home.path().join(".cargo/bin").join(program)
}

/// Runs an installed program and returns its output.
fn program_output(home: &Home, program: &str) -> String {
    let path = installed_program(home, program);
    let metadata = fs::metadata(&path).expect("the program is installed");
    let mode = metadata.permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "the program is executable");
    let output = std::process::Command::new(path).output();
    let output = output.expect("it runs");
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

fn list_installed(home: &Home) -> String {
    home.cargo(["install", "--list"]).succeeds().stdout
}

fn install(home: &Home, more: &[&str]) -> Run {
    home.cargo_oci(["install"].iter().chain(more).copied())
}

#[test]
fn install_selects_highest_release_and_records_it_for_cargo() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let (host, target) = (registry.host(), host_triple());
    for version in ["1.9.0", "1.10.0", "2.0.0-rc.1"] {
        publish_release(&home, host, version, target, &["round", "square"]);
    }
    let repository = format!("{host}/widgets");
    let source = format!("registry+oci://{repository}");

    let installed = install(&home, &[&repository]).succeeds();
    assert_eq!(program_output(&home, "round"), "round 1.10.0\n");
    let digest = registry
        .digest("widgets", &format!("1.10.0__{target}"))
        .unwrap();
    assert_eq!(installed.stdout, format!("{repository}@{digest}\n"));
    assert!(installed.stderr.contains("to your PATH"), "{installed}");
    let expected =
        format!("widgets v1.10.0 (registry `oci://{repository}`):\n    round\n    square\n");
    assert_eq!(list_installed(&home), expected);
    let details = fs::read_to_string(home.path().join(".cargo/.crates2.json")).unwrap();
    let details: Value = serde_json::from_str(&details).unwrap();
    let details = &details["installs"][format!("widgets 1.10.0 ({source})")];
    assert_eq!(details["target"], target);
    assert_eq!(details["bins"], serde_json::json!(["round", "square"]));

    // A second install changes nothing. Installing another version replaces the installed version.
    let again = install(&home, &[&repository]).succeeds();
    assert!(
        again
            .stderr
            .contains("Unchanged package `widgets v1.10.0 ("),
        "{again}"
    );
    for (requirement, version) in [
        ("~1.9", "1.9.0"),
        ("2.0.0-rc.1", "2.0.0-rc.1"),
        ("^1", "1.10.0"),
    ] {
        install(&home, &[&repository, "--version", requirement]).succeeds();
        assert_eq!(program_output(&home, "round"), format!("round {version}\n"));
        assert!(
            list_installed(&home).starts_with(&format!("widgets v{version} ")),
            "{}",
            list_installed(&home)
        );
    }
    install(&home, &[&repository, "--version", "^3"]).fails_with(4);
    install(&home, &[&format!("{repository}:1.9.0"), "--version", "1.9"]).fails_with(2);

    // `cargo uninstall` and `cargo oci uninstall` both remove the programs.
    home.cargo(["uninstall", "widgets"]).succeeds();
    assert!(
        !installed_program(&home, "round").exists() && !installed_program(&home, "square").exists()
    );
    assert_eq!(list_installed(&home), "");
    install(&home, &[&format!("{repository}:1.9.0")]).succeeds();
    let other = home.cargo_oci(["uninstall", &format!("{host}/gadgets")]);
    let other = other.fails_with(4);
    assert!(
        other
            .stderr
            .contains(&format!("`widgets` from `{repository}`")),
        "{other}"
    );
    let removed = home.cargo_oci(["uninstall", &repository, "--message-format=json"]);
    let messages = Schema::from_documentation().validate(&removed.succeeds().stdout);
    let gone: Vec<_> = messages.iter().map(|message| &message["path"]).collect();
    assert_eq!(
        gone,
        [
            &installed_program(&home, "round").to_str().unwrap(),
            &installed_program(&home, "square").to_str().unwrap()
        ]
    );
    assert_eq!(
        (&messages[0]["package"], &messages[0]["version"]),
        (&"widgets".into(), &"1.9.0".into())
    );
    assert!(
        !installed_program(&home, "round").exists() && !installed_program(&home, "square").exists()
    );
    assert_eq!(list_installed(&home), "");
    home.cargo_oci(["uninstall", &repository]).fails_with(4);
    home.cargo_oci(["uninstall", "widgets"]).fails_with(4);
}

#[test]
fn install_does_not_replace_other_programs_without_force() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let (host, target) = (registry.host(), host_triple());
    publish_release(&home, host, "1.0.0", target, &["round", "square"]);
    publish_release(&home, host, "1.1.0", target, &["round"]);
    let repository = format!("{host}/widgets");

    // Cargo installs a package that contains a program of the same name.
    let sources = Sources::widgets();
    home.cargo(["install", "--debug", "--bin", "round", "--path", "."])
        .within(sources.path())
        .succeeds();
    let installed_by_cargo = fs::read(installed_program(&home, "round")).unwrap();
    let refused = install(&home, &[&repository, "--version", "1.0.0"]).fails_with(5);
    assert!(
        refused
            .stderr
            .contains("belongs to `widgets 1.2.3 (path+file://"),
        "{refused}"
    );
    assert_eq!(
        fs::read(installed_program(&home, "round")).unwrap(),
        installed_by_cargo
    );
    assert!(
        !installed_program(&home, "square").exists(),
        "no program was installed"
    );
    install(&home, &[&repository, "--version", "1.0.0", "--force"]).succeeds();
    assert_eq!(program_output(&home, "round"), "round 1.0.0\n");
    assert_eq!(
        list_installed(&home).lines().count(),
        3,
        "the other package has no record of the program: {}",
        list_installed(&home)
    );

    // The next version has fewer programs.
    install(&home, &[&repository]).succeeds();
    assert_eq!(program_output(&home, "round"), "round 1.1.0\n");
    assert!(!installed_program(&home, "square").exists());

    // The program exists, but no installation record contains it.
    home.cargo_oci(["uninstall", &repository]).succeeds();
    fs::write(installed_program(&home, "round"), "mine").unwrap();
    install(&home, &[&repository]).fails_with(5);
    assert_eq!(
        fs::read_to_string(installed_program(&home, "round")).unwrap(),
        "mine"
    );
}

#[test]
fn install_of_programs_for_other_targets_is_rejected() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let host = registry.host();
    let foreign = "s390x-unknown-linux-gnu";
    publish_release(&home, host, "1.0.0", foreign, &["round"]);
    let repository = format!("{host}/widgets");
    install(&home, &[&repository]).fails_with(4);
    assert!(!installed_program(&home, "round").exists());
    install(&home, &[&repository, "--target", foreign]).succeeds();
    assert_eq!(program_output(&home, "round"), "round 1.0.0\n");
    // A package that contains only a library cannot be installed.
    let sources = Sources::widgets();
    home.cargo_oci(["push", "--registry", host, "--kind", "cdylib"])
        .within(sources.path())
        .succeeds();
    let refused = install(&home, &[&repository]).fails_with(4);
    assert!(refused.stderr.contains("contains no program"), "{refused}");
}

#[test]
fn install_with_too_old_glibc_selects_static_build() {
    require!(DockerRegistry);
    let musl = host_triple().replace("-gnu", "-musl");
    if musl == host_triple() {
        return;
    }
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let host = registry.host();
    let build = |directory: &str, flags: &str| {
        let arguments = ["build", "--release", "--bin", "round", "--target-dir"];
        home.cargo(arguments.into_iter().chain([directory]))
            .with("RUSTFLAGS", flags)
            .within(sources.path())
            .succeeds();
        sources.path().join(directory).join("release/round")
    };
    let push = |program: &Path, target: &str| {
        let file = format!("round={}", program.display());
        let arguments = [
            "push",
            "--registry",
            host,
            "--file",
            &file,
            "--target",
            target,
        ];
        let run = home.cargo_oci(arguments).within(sources.path());
        run.succeeds();
    };
    // Replaces one of the symbol versions that the program requires with a version of glibc 9.
    let program = build("dynamic", "");
    let mut bytes = fs::read(&program).unwrap();
    let name = b"\0GLIBC_2.";
    let at = bytes.windows(name.len()).position(|window| window == name);
    let version = bytes[at.unwrap() + 1..]
        .iter_mut()
        .take_while(|byte| **byte != 0);
    for digit in version.filter(|byte| byte.is_ascii_digit()) {
        *digit = b'9';
    }
    fs::write(&program, bytes).unwrap();
    push(&program, host_triple());
    let repository = format!("{host}/widgets");
    let pull = |directory: &str| home.cargo_oci(["pull", &repository, "--output", directory]);
    install(&home, &[&repository]).fails_with(4);
    pull("refused").fails_with(4);

    push(&build("static", "-Ctarget-feature=+crt-static"), &musl);
    let fully_static = registry.digest("widgets", &format!("1.2.3__{musl}"));
    let fully_static = fully_static.unwrap();
    assert_eq!(
        install(&home, &[&repository]).succeeds().printed_digest(),
        fully_static
    );
    assert_eq!(
        pull("pulled").succeeds().printed_digest(),
        fully_static,
        "`install` selects the same one"
    );
    assert_eq!(program_output(&home, "round"), "round\n");
}

#[test]
fn install_root_is_selected_as_by_cargo() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    publish_release(&home, registry.host(), "1.0.0", host_triple(), &["round"]);
    let repository = format!("{}/widgets", registry.host());
    let at = |root: &str| home.path().join(root).join("bin/round").exists();
    fs::write(
        home.path().join(".cargo/config.toml"),
        "[install]\nroot = \"configured\"\n",
    )
    .unwrap();
    install(&home, &[&repository]).succeeds();
    assert!(at("configured"));
    let root = home.path().join("named");
    let run = install(&home, &[&repository, "--message-format", "json"]);
    let installed: Outcome = run.with("CARGO_INSTALL_ROOT", &root).succeeds();
    assert!(at("named"));
    let messages = Schema::from_documentation().validate(&installed.stdout);
    let reasons: Vec<_> = messages
        .iter()
        .map(|message| message["reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        reasons,
        ["oci-file", "oci-package", "oci-warning", "oci-finished"]
    );
    assert_eq!(messages[0]["action"], "installed");
    assert_eq!(
        messages[0]["path"],
        root.join("bin/round").to_str().unwrap()
    );
    install(&home, &[&repository, "--root", "flag"])
        .with("CARGO_INSTALL_ROOT", &root)
        .succeeds();
    assert!(at("flag"));

    // Installs from a directory of layouts instead of a registry.
    let sources = Sources::widgets();
    home.cargo_oci(["push", "--registry", "oci:out", "--bin", "round"])
        .within(sources.path())
        .succeeds();
    let run = install(&home, &["oci:out/widgets", "--root", "own"]);
    run.within(sources.path()).succeeds();
    assert!(sources.path().join("own/bin/round").exists());
    let run = home.cargo_oci(["uninstall", "oci:out/widgets", "--root", "own"]);
    run.within(sources.path()).succeeds();
    assert!(!sources.path().join("own/bin/round").exists());
}
