//! Separate debug symbols in saved cargo messages. For macOS, the symbols are a directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use e2e::program::Home;
use e2e::sources::Sources;
use serde_json::{Value, json};

const MAC: &str = "aarch64-apple-darwin";

/// Writes the output of a cargo build for macOS: the program, and a symlink to the directory that contains its symbols.
fn write_build_output(sources: &Sources) {
    let release = format!("target/{MAC}/release");
    sources.write(&format!("{release}/round"), "a program of a Mac");
    let real = format!("{release}/deps/round-0123.dSYM/Contents");
    sources.write(&format!("{real}/Info.plist"), "<plist/>");
    sources.write(&format!("{real}/Resources/DWARF/round-0123"), "symbols");
    let link = sources.path().join(&release).join("round.dSYM");
    symlink("deps/round-0123.dSYM", link).expect("a link");
}

/// Returns cargo's messages for this build output.
fn cargo_messages(home: &Home, sources: &Sources) -> String {
    let metadata = home.cargo(["metadata", "--format-version=1", "--no-deps"]);
    let metadata = metadata.within(sources.path()).succeeds().stdout;
    let metadata: Value = serde_json::from_str(&metadata).expect("metadata is JSON");
    let package = &metadata["packages"][0];
    let target = package["targets"]
        .as_array()
        .expect("a package has a list of targets");
    let target = target.iter().find(|target| target["name"] == "round");
    let release = sources.path().join("target").join(MAC).join("release");
    let path = |name: &str| release.join(name).to_str().expect("text").to_owned();
    let artifact = json!({
        "reason": "compiler-artifact",
        "package_id": package["id"],
        "manifest_path": package["manifest_path"],
        "target": target.expect("the program"),
        "profile": {"opt_level": "3", "debuginfo": 2, "debug_assertions": false,
            "overflow_checks": false, "test": false},
        "features": [],
        "filenames": [path("round"), path("round.dSYM")],
        "executable": path("round"),
        "fresh": false,
    });
    let end = json!({"reason": "build-finished", "success": true});
    format!("{artifact}\n{end}\n")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
}

#[test]
fn symbol_directory_is_pushed_as_tar_and_unpacked_by_pull() {
    let home = Home::new();
    let mut names = Vec::new();
    for _ in 0..2 {
        let sources = Sources::widgets();
        write_build_output(&sources);
        let stream = cargo_messages(&home, &sources);
        let arguments = ["push", "--registry", "oci:out", "--kind=bin,debuginfo"];
        let more = ["--target", MAC, "--messages", "-"];
        let push = home.cargo_oci(arguments.iter().chain(&more).copied());
        let pushed = push.within(sources.path()).stdin(&stream).succeeds();
        names.push(pushed.printed_digest());

        let reference = "oci:out/widgets:1.2.3";
        let run = |arguments: &[&str]| {
            let run = home.cargo_oci(arguments.iter().copied());
            run.within(sources.path())
        };
        let pull = ["pull", reference, "--target", MAC, "--output"];
        run(&[&pull[..], &["pulled"]].concat()).succeeds();
        let pulled = sources.path().join("pulled");
        assert_eq!(read(&pulled.join("round")), "a program of a Mac");
        let contents = pulled.join("round.dSYM/Contents");
        assert_eq!(read(&contents.join("Info.plist")), "<plist/>");
        let dwarf = contents.join("Resources/DWARF/round-0123");
        assert_eq!(read(&dwarf), "symbols");
        let verify = ["verify", reference, "pulled", "--target", MAC];
        run(&verify).succeeds();
        fs::write(&dwarf, "others").unwrap();
        run(&verify).fails_with(7);

        // The title ends with `.dSYM.tar`. Other clients use the title as the file name.
        run(&[&pull[..], &["titled", "--titles"]].concat()).succeeds();
        let tar = format!("titled/round-1.2.3-{MAC}.dSYM.tar");
        let bytes = fs::read(sources.path().join(tar)).unwrap();
        assert_eq!(&bytes[257..262], b"ustar");
        run(&["verify", reference, "titled", "--target", MAC]).succeeds();

        // `install` does not install symbols.
        let root = ["install", reference, "--target", MAC, "--root", "root"];
        run(&root).succeeds();
        let installed = fs::read_dir(sources.path().join("root/bin")).unwrap();
        assert_eq!(installed.count(), 1);
    }
    assert_eq!(names[0], names[1], "the digests differ");
}
