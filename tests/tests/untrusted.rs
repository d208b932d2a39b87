//! Untrusted content: artifacts whose metadata is contradictory, names that would damage cargo's records, and files in
//! the working directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::program::{Home, Outcome};
use e2e::release::{MAC, Release, image_layout, package_layout};

/// Writes an executable script.
fn write_script(path: &Path, text: &str) {
    let directory = path.parent().expect("a file is in a directory");
    fs::create_dir_all(directory).expect("the directory can be created");
    fs::write(path, text).expect("the file can be written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, executable).expect("the mode can be set");
}

fn install(home: &Home, reference: &str) -> Outcome {
    home.cargo_oci(["install", reference, "--root", "root"])
        .outcome()
}

/// Asserts that an install fails and writes no file.
#[track_caller]
fn assert_refused(home: &Home, reference: &str, code: i32, message: &str) {
    let outcome = install(home, reference).fails_with(code);
    assert!(outcome.stderr.contains(message), "{outcome}");
    assert!(!home.path().join("root").exists());
}

#[test]
fn release_under_tag_of_another_version_is_rejected() {
    let home = Home::new();
    let _release = Release::push(&home, "oci:out");
    home.cargo_oci(["tag", "oci:out/widgets:1.2.3", "9.9.9", "nightly"])
        .succeeds();
    let conflict = "the version is `9.9.9` in the tag and `1.2.3` in the index";
    let other = "oci:out/widgets:9.9.9";
    for command in [
        &["pull", other, "-o", "root", "--target", MAC][..],
        &["install", other, "--root", "root", "--target", MAC],
        &["verify", other],
        &["verify", other, "--target", MAC],
    ] {
        let outcome = home.cargo_oci(command.iter().copied()).fails_with(7);
        assert!(outcome.stderr.contains(conflict), "{outcome}");
        assert_eq!(outcome.stdout, "");
    }
    assert!(!home.path().join("root").exists());
    let page = home.cargo_oci(["inspect", other]).succeeds();
    assert_eq!(page.stdout.matches(conflict).count(), 2, "{page}");
    let page = home.cargo_oci(["inspect", other, "--message-format=json"]);
    let page = page.succeeds();
    let page: serde_json::Value =
        serde_json::from_str(page.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(page["targets"][0]["conflicts"][0], conflict);
    let pull = format!("oci pull {other} --target {MAC} --output root");
    assert_eq!(home.nu_error_code(&pull), "oci::mismatch");
    let conflicts = home.nu_value(&format!("oci inspect {other} | get conflicts"));
    assert_eq!(conflicts, serde_json::json!([conflict]));

    // If a tag is not a version, it may refer to a release of any version.
    for tag in ["1.2.3", "nightly"] {
        let reference = format!("oci:out/widgets:{tag}");
        home.cargo_oci(["verify", &reference]).succeeds();
        home.cargo_oci(["pull", &reference, "-o", "pulled", "--target", MAC])
            .succeeds();
        let page = home.cargo_oci(["inspect", &reference]).succeeds();
        assert!(!page.stdout.contains("conflict"), "{page}");
    }
}

#[test]
fn install_of_invalid_package_name_is_rejected() {
    let home = Home::new();
    for (number, name) in ["a b", "ripgrep 14.0.0 (registry+https://a.b)", "1a"]
        .into_iter()
        .enumerate()
    {
        let layout = format!("layout{number}");
        package_layout(&home.path().join(&layout), "nightly", name, "1.0.0", "tool");
        let message = format!("`{name}` is not a package name");
        assert_refused(&home, &format!("oci:{layout}:nightly"), 7, &message);
    }
}

#[test]
fn install_of_invalid_version_is_rejected() {
    let home = Home::new();
    let version = "1.0.0 (registry+https://a.b)";
    package_layout(
        &home.path().join("layout"),
        "nightly",
        "tool",
        version,
        "tool",
    );
    let message = format!("its version `{version}` is not a semantic version");
    assert_refused(&home, "oci:layout:nightly", 7, &message);
}

#[test]
fn install_of_program_named_like_an_option_is_rejected() {
    let home = Home::new();
    package_layout(&home.path().join("layout"), "1.0.0", "tool", "1.0.0", "-rf");
    assert_refused(&home, "oci:layout:1.0.0", 8, "refusing to install `-rf`");
}

#[test]
fn install_prints_note_about_same_program_on_path() {
    let home = Home::new();
    package_layout(
        &home.path().join("layout"),
        "1.0.0",
        "tool",
        "1.0.0",
        "tool",
    );
    let (bin, other) = (home.path().join("root/bin"), home.path().join("other"));
    let install = |path: &[&Path]| {
        let path = std::env::join_paths(path).unwrap();
        let run = home.cargo_oci(["install", "oci:layout:1.0.0", "--root", "root"]);
        run.with("PATH", path).succeeds().stderr
    };
    let alone = install(&[&bin, &other]);
    assert!(!alone.contains("shadows"), "{alone}");
    write_script(&other.join("tool"), "#!/bin/sh\n");
    let other_tool = other.join("tool").display().to_string();
    let hides = format!("the installed `tool` shadows `{other_tool}`");
    let hidden = format!("`{other_tool}` shadows the installed `tool`");
    let text = install(&[&bin, &other]);
    assert!(text.contains(&hides), "{text}");
    for path in [&[&*other, &*bin][..], &[&*other]] {
        let text = install(path);
        assert!(text.contains(&hidden), "{text}");
    }
    // A symlink to the same file does not shadow the installed program.
    fs::remove_file(other.join("tool")).unwrap();
    std::os::unix::fs::symlink(bin.join("tool"), other.join("tool")).unwrap();
    let linked = install(&[&other, &bin]);
    assert!(!linked.contains("shadows"), "{linked}");
}

#[test]
fn reading_commands_start_no_program() {
    let home = Home::new();
    package_layout(
        &home.path().join("layout"),
        "1.0.0",
        "tool",
        "1.0.0",
        "tool",
    );
    let _image = image_layout(&home.path().join("image"));
    let (work, traces) = (home.path().join("work"), home.path().join("traces"));
    fs::create_dir_all(work.join(".cargo")).unwrap();
    fs::create_dir(&traces).unwrap();
    let trap = format!("#!/bin/sh\necho x > {}/\"${{0##*/}}\"\n", traces.display());
    let programs = [
        "rustc", "cargo", "rustup", "git", "getconf", "ldd", "uname", "sh", "arch",
    ];
    for program in programs {
        write_script(&work.join(program), &trap);
        write_script(&work.join("toolchain/bin").join(program), &trap);
    }
    let toolchain = format!("[toolchain]\npath = \"{}/toolchain\"\n", work.display());
    fs::write(work.join("rust-toolchain.toml"), toolchain).unwrap();
    let rustc = work.join("rustc");
    let configuration = format!("[build]\nrustc = \"{}\"\n", rustc.display());
    fs::write(work.join(".cargo/config.toml"), configuration).unwrap();
    let reference = format!("oci:{}", home.path().join("layout").display());
    let image = format!("oci:{}:1.0", home.path().join("image").display());
    for command in [
        &["pull", &reference, "--force"][..],
        &["install", &reference, "--root", "root"],
        &["verify", &reference, "."],
        &["inspect", &reference],
        &["export", &image, "--output", "image.tar"],
        &["uninstall", &reference, "--root", "root"],
    ] {
        home.cargo_oci(command.iter().copied())
            .within(&work)
            .with("PATH", format!(":.:{}", work.display()))
            .with("CARGO", &rustc)
            .with("RUSTC", &rustc)
            .succeeds();
    }
    let started: Vec<_> = fs::read_dir(&traces).unwrap().collect();
    assert!(started.is_empty(), "{started:?}");
}
