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
