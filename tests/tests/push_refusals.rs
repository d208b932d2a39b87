//! Pushes that would publish the wrong content are refused before anything is sent.

use e2e::layout::Layout;
use e2e::program::{Home, Outcome, Run};
use e2e::sources::Sources;

/// A push into the layouts below `out`.
fn push(home: &Home, sources: &Sources, more: &[&str]) -> Run {
    let fixed = ["push", "--registry=oci:out"];
    home.cargo_oci(fixed.iter().chain(more).copied())
        .within(sources.path())
}

/// Fails if a refused push has written something.
#[track_caller]
fn nothing_was_sent(sources: &Sources, outcome: &Outcome) {
    assert!(
        !sources.path().join("out").exists(),
        "something was sent: {outcome}"
    );
}

/// Puts the sources under git, all of them committed.
fn commit(home: &Home, sources: &Sources) {
    sources.write(".gitignore", "target\nCargo.lock\nout\nmade\n");
    let who = "-c user.name=A -c user.email=a@example.org";
    let script = format!("git init --quiet && git add . && git {who} commit --quiet -m all");
    home.bash(&script).within(sources.path()).succeeds();
}

/// The names of the files in the `.crate` file of `widgets`.
fn packaged(home: &Home, sources: &Sources) -> String {
    let list = home.bash("tar -tzf target/package/widgets-1.2.3.crate");
    list.within(sources.path()).succeeds().stdout
}

#[test]
fn crate_with_untracked_file_is_refused_before_the_build() {
    let (home, sources) = (Home::new(), Sources::widgets());
    commit(&home, &sources);
    sources.write(".env", "SECRET=1");
    sources.write("made", "x");
    for more in [
        &["--crate"][..],
        &["--crate", "--dry-run"],
        &["--crate", "--tag=nightly"],
        &["--crate", "--file=round=made"],
        &["--crate", "--messages=made"],
    ] {
        let refused = push(&home, &sources, more).fails_with(2).at_once();
        assert!(refused.stderr.contains("\n  .env\n"), "{refused}");
        assert!(refused.stderr.contains("`--allow-dirty`"), "{refused}");
        assert!(!sources.is_touched(), "something was built: {refused}");
        nothing_was_sent(&sources, &refused);
    }
    // No registry is contacted before.
    let elsewhere = ["push", "--crate", "127.0.0.1:1/widgets:nightly"];
    let refused = home.cargo_oci(elsewhere).within(sources.path());
    refused.fails_with(2).at_once();

    let handed = ["--file=round=made", "--crate"];
    push(&home, &sources, &[&handed[..], &["--allow-dirty"]].concat()).succeeds();
    assert!(packaged(&home, &sources).contains("widgets-1.2.3/.env\n"));
    sources.write(".git/info/exclude", ".env\n");
    push(&home, &sources, &[&handed[..], &["--tag=clean"]].concat()).succeeds();
    assert!(!packaged(&home, &sources).contains(".env"));
    sources.append("src/lib.rs", "// changed");
    let changed = push(&home, &sources, &handed).fails_with(2).at_once();
    assert!(changed.stderr.contains("\n  src/lib.rs\n"), "{changed}");
}

#[test]
fn crate_that_the_build_makes_dirty_is_refused() {
    let (home, sources) = (Home::new(), Sources::widgets());
    sources.write(
        "build.rs",
        "fn main() { std::fs::write(\"src/made.rs\", \"\").unwrap() }",
    );
    commit(&home, &sources);
    let refused = push(&home, &sources, &["--crate"]).fails_with(2);
    assert!(refused.stderr.contains("\n  src/made.rs\n"), "{refused}");
    nothing_was_sent(&sources, &refused);
}

#[test]
fn program_of_two_packages_is_refused() {
    let (home, sources) = (Home::new(), Sources::suite(["tool", "tool"]));
    for more in [&["--workspace"][..], &["--workspace", "--dry-run"]] {
        let refused = push(&home, &sources, more).fails_with(2);
        for part in [
            "target/release/tool`",
            "bin `tool` of `client`, bin `tool` of `server`",
        ] {
            assert!(refused.stderr.contains(part), "{refused}");
        }
        nothing_was_sent(&sources, &refused);
    }
    push(&home, &sources, &["--package=server"]).succeeds();
    assert_eq!(sources.ran("tool"), "server\n");
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

    // A message behind other text is an error, with its line.
    sources.write(
        "messages",
        &messages.replacen("{\"reason\"", "12:00 {\"reason\"", 1),
    );
    let refused = push(&home, &sources, &["--messages=messages", "--tag=b"]).fails_with(2);
    let refused = refused.at_once();
    assert!(
        refused
            .stderr
            .contains("failed to parse line 1 of the messages of cargo"),
        "{refused}"
    );
}
