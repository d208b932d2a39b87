//! `push --no-build`: pushes of the files that cargo reports as up to date. Nothing is compiled.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use e2e::program::{Home, Outcome, Run};
use e2e::sources::{Sources, host_triple};

/// Prepares a push to layouts below `out`.
fn push(home: &Home, sources: &Sources, more: &[&str]) -> Run {
    let fixed = ["push", "--registry=oci:out"];
    home.cargo_oci(fixed.iter().chain(more).copied())
        .within(sources.path())
}

/// Creates a workspace of three packages: a program with features, a library with three crate types, and a procedural
/// macro.
fn workspace() -> Sources {
    let sources = Sources::widgets();
    sources.write(
        "Cargo.toml",
        r#"
            [workspace]
            resolver = "2"
            members = ["app", "shapes", "mac"]
            default-members = ["app", "shapes"]
            [profile.release]
            split-debuginfo = "packed"
            debug = 1
        "#,
    );
    sources.write(
        "app/Cargo.toml",
        r#"
            [package]
            name = "my-app"
            version = "1.2.3"
            edition = "2021"
            [features]
            extra = []
            [dependencies]
            forms = { path = "../shapes", package = "shapes", features = ["round"] }
            mac = { path = "../mac" }
            [[bin]]
            name = "my-app"
            path = "src/main.rs"
            [[bin]]
            name = "my-extra"
            path = "src/extra.rs"
            required-features = ["extra"]
        "#,
    );
    let main = "fn main() { mac::nothing!(); forms::area(); }";
    sources.write("app/src/main.rs", main);
    sources.write("app/src/extra.rs", "fn main() {}");
    sources.write("app/examples/small-demo.rs", "fn main() {}");
    sources.write("app/build.rs", "fn main() {}");
    sources.write(
        "shapes/Cargo.toml",
        r#"
            [package]
            name = "shapes"
            version = "0.4.0"
            edition = "2021"
            [features]
            round = []
            [lib]
            crate-type = ["rlib", "cdylib", "staticlib"]
        "#,
    );
    sources.write("shapes/src/lib.rs", "pub fn area() {}");
    sources.write(
        "mac/Cargo.toml",
        "package = { name = 'mac', version = '0.1.0', edition = '2021' }\n\
         lib = { proc-macro = true }\nfeatures = { noisy = [] }",
    );
    sources.write(
        "mac/src/lib.rs",
        "#[proc_macro] pub fn nothing(_: proc_macro::TokenStream) -> proc_macro::TokenStream \
         { Default::default() }",
    );
    sources
}

/// Asserts that a push was rejected because cargo would compile `target` of `package`.
#[track_caller]
fn assert_not_built(outcome: &Outcome, package: &str, target: &str) {
    let expected = format!(
        "error: `{package}` is not built: cargo would compile its {target}\n\n\
         help: build it in this directory with the same flags, \
         or name the files of another build with `--messages` or `--file`\n"
    );
    assert_eq!(outcome.stderr, expected, "{outcome}");
}

/// Runs a build. Returns the crates that the build compiles.
fn build_and_list_compiled(home: &Home, sources: &Sources) -> String {
    let build = home.cargo(["build", "--release", "--verbose"]);
    let build = build.within(sources.path()).succeeds();
    let lines = build.stderr.lines();
    let lines = lines.filter(|line| line.trim_start().starts_with("Compiling"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Sets the modification time of a file to the current time.
fn touch(path: &Path) {
    let file = fs::File::options().append(true).open(path).expect("a file");
    file.set_modified(std::time::SystemTime::now())
        .expect("the modification time can be set");
}

/// Writes a program that appends its arguments to `log` and then runs them as a command.
fn logging_wrapper(sources: &Sources) -> String {
    let (wrapper, log) = (sources.sibling("wrapper"), sources.sibling("log"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> '{}'\nexec \"$@\"\n",
        log.display()
    );
    fs::write(&wrapper, script).expect("a script");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("a mode");
    wrapper.to_str().expect("text").to_owned()
}

#[test]
fn no_build_with_same_flags_pushes_same_files() {
    let (home, sources) = (Home::new(), workspace());
    let mac = &["-p=mac", "-F=noisy", "--kind=proc-macro,debuginfo"];
    let lib = &["--lib", "-p=my-app", "-p=shapes", "--kind=rlib,cdylib"];
    for flags in [
        &[][..],
        &["-p=my-app", "--examples", "--bin=my-app"],
        &["-p=my-app", "-F=extra", "--profile=dev", "--bin=my-[ae]*"],
        &[
            "--workspace",
            "--exclude=my-app",
            "--kind=staticlib,proc-macro",
        ],
        &["-p=my-app", "--target=host-tuple", "--kind=bin,debuginfo"],
        &["-p=shapes", "--config=profile.release.debug=0"],
        &[&mac[..], &["--target-dir=app/../made"]].concat(),
        &[&lib[..], &["--profile=dev"]].concat(),
    ] {
        let _ = fs::remove_dir_all(sources.path().join("out"));
        let built = push(&home, &sources, flags).succeeds();
        let flags = [flags, &["--no-build"]].concat();
        let again = push(&home, &sources, &flags).succeeds();
        assert_eq!(again.stdout, built.stdout, "{flags:?}");
        let uploads = again.stderr.contains("Uploaded") || again.stderr.contains("Indexed");
        assert!(!uploads, "{flags:?}: {again}");
    }
}

#[test]
fn no_build_uses_target_of_cargo_configuration() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let config = format!("build.target = '{}'", host_triple());
    sources.write(".cargo/config.toml", &config);
    let built = push(&home, &sources, &[]).succeeds();
    let again = push(&home, &sources, &["--no-build"]).succeeds();
    assert_eq!(again.stdout, built.stdout);
    assert!(sources.path().join("target").join(host_triple()).exists());
}

#[test]
fn no_build_before_first_build_compiles_nothing() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let refused = push(&home, &sources, &["--no-build", "--lib"]).fails_with(2);
    assert_not_built(&refused, "widgets", "cdylib target `shapes`");
    assert!(!sources.path().join("out").exists());
    assert!(!sources.path().join("target/release/libshapes.so").exists());
}

#[test]
fn no_build_after_touched_source_reports_not_built() {
    let (home, sources) = (Home::new(), Sources::widgets());
    push(&home, &sources, &[]).succeeds();
    touch(&sources.path().join("src/bin/round.rs"));
    let refused = push(&home, &sources, &["--no-build", "--bins"]).fails_with(2);
    assert_not_built(&refused, "widgets", "bin target `round`");
    let messages = push(&home, &sources, &["--no-build", "--message-format=json"]);
    let messages = messages.fails_with(2);
    let error = messages.last_line();
    assert!(
        error.contains(r#""reason":"oci-error","kind":"invalid_input""#),
        "{error}"
    );

    // The next build compiles the change. The files are then up to date.
    let _ = build_and_list_compiled(&home, &sources);
    push(&home, &sources, &["--no-build"]).succeeds();
}

/// Copies a directory tree and keeps the modification times.
fn copy_tree(from: &Path, to: &Path) {
    let mut copying = Command::new("cp");
    let status = copying.arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp runs").success());
}

#[test]
fn no_build_with_restored_target_directory_reports_not_built() {
    let (home, sources) = (Home::new(), Sources::widgets());
    push(&home, &sources, &[]).succeeds();
    let checkout = Sources::widgets();
    let target = |sources: &Sources| sources.path().join("target");
    copy_tree(&target(&sources), &target(&checkout));
    let refused = push(&home, &checkout, &["--no-build", "--bin=round"]).fails_with(2);
    assert_not_built(&refused, "widgets", "bin target `round`");
}

#[test]
fn no_build_in_copied_workspace_pushes_files_of_copy() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let built = push(&home, &sources, &[]).succeeds();
    let copied = sources.sibling("copy");
    copy_tree(sources.path(), &copied);
    fs::remove_dir_all(sources.path().join("target")).expect("the target directory can be deleted");
    let again = home.cargo_oci(["push", "--no-build", "--registry=oci:out"]);
    let again = again.within(&copied).succeeds();
    assert_eq!(again.stdout, built.stdout);
}

#[test]
fn no_build_runs_stale_build_script_and_compiles_nothing() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let script = "fn main() {\n\
                  println!(\"cargo:rerun-if-changed=never-there\");\n\
                  let log = std::fs::File::options().append(true).create(true).open(\"log\");\n\
                  std::io::Write::write_all(&mut log.unwrap(), b\"ran\\n\").unwrap();\n}\n";
    sources.write("build.rs", script);
    push(&home, &sources, &[]).succeeds();
    let refused = push(&home, &sources, &["--no-build", "--bin=round"]).fails_with(2);
    let library = "cdylib target `shapes`";
    let program = "bin target `round`";
    let target = if refused.stderr.contains(program) {
        program
    } else {
        library
    };
    assert_not_built(&refused, "widgets", target);
    let log = fs::read_to_string(sources.path().join("log")).expect("a log");
    assert_eq!(log, "ran\nran\n");
}

#[test]
fn no_build_does_not_run_user_rustc_wrapper() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let (wrapper, log) = (logging_wrapper(&sources), sources.sibling("log"));
    let push_with = |more: &[&str]| push(&home, &sources, more).with("RUSTC_WRAPPER", &wrapper);
    let built = push_with(&[]).succeeds();
    let before = fs::read_to_string(&log).expect("the wrapper ran");
    assert!(before.contains("--crate-name round"), "{before}");
    let again = push_with(&["--no-build"]).succeeds();
    assert_eq!(again.stdout, built.stdout);
    assert_eq!(fs::read_to_string(&log).expect("a log"), before);

    // Sets the wrapper in cargo's configuration.
    fs::remove_file(&log).expect("a log");
    sources.write(
        ".cargo/config.toml",
        &format!("build.rustc-wrapper = '{wrapper}'"),
    );
    let again = push(&home, &sources, &["--no-build"]).succeeds();
    assert_eq!(again.stdout, built.stdout);
    assert!(!log.exists());
}

#[test]
fn build_after_no_build_recompiles_nothing() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let script = "fn main() { println!(\"cargo:rerun-if-changed=build.rs\") }";
    sources.write("build.rs", script);
    let built = push(&home, &sources, &[]).succeeds();
    let cache = sources.path().join("target/.rustc_info.json");
    let cached = fs::read(&cache).expect("the cached output of rustc can be read");
    let again = push(&home, &sources, &["--no-build"]).succeeds();
    assert_eq!(again.stdout, built.stdout);
    assert_eq!(
        fs::read(&cache).expect("the cached output of rustc can be read"),
        cached
    );
    assert_eq!(build_and_list_compiled(&home, &sources), "");
}

#[test]
fn no_build_runs_probes_of_build_scripts() {
    let (home, sources) = (Home::new(), Sources::widgets());
    // The build script compiles a file through the wrapper, like the build scripts of `anyhow` and `thiserror`.
    let script = "fn main() {\n\
                  println!(\"cargo:rerun-if-changed=trigger\");\n\
                  let out = std::env::var(\"OUT_DIR\").unwrap();\n\
                  let rustc = std::env::var_os(\"RUSTC\").unwrap();\n\
                  let mut probe = match std::env::var_os(\"RUSTC_WRAPPER\") {\n\
                  Some(wrapper) => { let mut c = std::process::Command::new(wrapper); c.arg(rustc); c }\n\
                  None => std::process::Command::new(rustc),\n\
                  };\n\
                  probe.args([\"--crate-type=lib\", \"--emit=metadata\", \"--out-dir\", &out, \"probe.rs\"]);\n\
                  assert!(probe.status().unwrap().success());\n}\n";
    sources.write("build.rs", script);
    sources.write("probe.rs", "pub fn works() {}\n");
    sources.write("trigger", "");
    push(&home, &sources, &[]).succeeds();
    touch(&sources.path().join("trigger"));
    // The script succeeds, so the push is rejected only because of the crate that depends on the script.
    let refused = push(&home, &sources, &["--no-build", "--lib"]).fails_with(2);
    assert_not_built(&refused, "widgets", "cdylib target `shapes`");
}

#[test]
fn no_build_with_invalid_flags_quotes_cargo_error() {
    let (home, sources) = (Home::new(), workspace());
    for (flags, expected) in [
        (&["--bin=my-ap"][..], "no bin target named `my-ap`"),
        (&["--example=tiny"], "no example target named `tiny`"),
        (&["--bin=my-extra"], "requires the features: `extra`"),
        (&["--lib", "-p=my-app"], "no library targets found"),
        (&["--config=build.jobs='x'"], "build.jobs"),
    ] {
        let refused = push(&home, &sources, &[flags, &["--no-build"]].concat()).fails_with(2);
        assert!(refused.stderr.contains(expected), "{refused}");
    }
}
