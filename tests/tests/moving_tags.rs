//! Pushes to tags other than the version, with one or more `--tag` options or with the key `tags`.

use e2e::messages::Schema;
use e2e::program::{Home, Run};
use e2e::recorder::Recorder;
use e2e::registry::Registry;
use e2e::require;
use e2e::sources::{Sources, host_triple};

/// Prepares a push of the file `made`.
fn push(home: &Home, sources: &Sources, host: &str, more: &[&str]) -> Run {
    let fixed = [
        "push",
        "--file=round=made",
        "--target",
        host_triple(),
        "--registry",
        host,
    ];
    home.cargo_oci(fixed.iter().chain(more).copied())
        .within(sources.path())
}

/// Returns these tags, each with its target tag for the host.
fn tags_with_target_tags(tags: &[&str]) -> Vec<String> {
    let targets = tags.iter().map(|tag| format!("{tag}__{}", host_triple()));
    let mut all: Vec<_> = tags.iter().map(|tag| (*tag).to_owned()).collect();
    all.extend(targets);
    all.sort();
    all
}

fn tags(registry: &Registry) -> Vec<String> {
    let mut tags = registry.tags("widgets");
    tags.sort();
    tags
}

#[test]
fn push_with_several_tags_moves_each_tag() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let host = registry.host();
    sources.write("made", "first");
    let both = ["--tag=nightly", "--tag", "commit-1", "--tag=nightly"];
    let json = [&both[..], &["--message-format=json"]].concat();
    let first = push(&home, &sources, host, &json).succeeds();
    assert_eq!(
        tags(&registry),
        tags_with_target_tags(&["commit-1", "nightly"])
    );
    let messages = Schema::from_documentation().validate(&first.stdout);
    let finished: Vec<_> = messages
        .iter()
        .filter(|message| message["reason"] == "oci-finished")
        .collect();
    assert_eq!(finished.len(), 1, "one push has one name: {first}");
    let named = |tag: &str| registry.digest("widgets", tag).unwrap();
    assert_eq!(finished[0]["index-digest"], named("nightly"));
    assert!(
        first
            .stderr
            .contains(&format!("to {host}/widgets:nightly, :commit-1\n")),
        "{first}"
    );

    // A second push sends no content, and its messages contain both tags.
    let recorder = Recorder::start(host);
    let again = push(&home, &sources, &recorder.host(), &both).succeeds();
    let requests = recorder.take();
    assert!(
        requests.len() <= 4
            && !requests
                .iter()
                .any(e2e::recorder::RecordedRequest::is_write),
        "{requests:#?}"
    );
    assert!(
        again.stderr.contains("widgets:nightly, :commit-1 for"),
        "{again}"
    );

    // A push to one tag moves that tag only.
    let before = named("commit-1");
    sources.write("made", "second");
    let moved = push(&home, &sources, host, &["--tag=nightly"]).succeeds();
    assert_eq!(named("commit-1"), before);
    let target = format!("nightly__{}", host_triple());
    assert_eq!(named(&target), moved.printed_digest());
}

#[test]
fn tags_key_is_overridden_by_command_line() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let host = registry.host();
    sources.write("made", "x");
    let manifest = std::fs::read_to_string(sources.path().join("Cargo.toml")).unwrap();
    let with = |table: &str| sources.write("Cargo.toml", &format!("{manifest}\n{table}\n"));

    with("[workspace.metadata.oci]\ntags = [\"edge\", \"main\"]");
    push(&home, &sources, host, &[]).succeeds();
    assert_eq!(tags(&registry), tags_with_target_tags(&["edge", "main"]));
    let refused = push(&home, &sources, host, &["--floating"]).fails_with(2);
    assert!(
        refused
            .stderr
            .contains("`tags` of `workspace.metadata.oci`"),
        "{refused}"
    );

    // A tag on the command line, in either form, replaces all tags in the key.
    push(&home, &sources, host, &["--tag=flag"]).succeeds();
    let expected = tags_with_target_tags(&["edge", "flag", "main"]);
    assert_eq!(tags(&registry), expected);
    home.cargo_oci([
        "push",
        "--file=round=made",
        "--target",
        host_triple(),
        &format!("{host}/widgets:named"),
    ])
    .within(sources.path())
    .succeeds();
    assert_eq!(
        tags(&registry),
        tags_with_target_tags(&["edge", "flag", "main", "named"])
    );

    // An empty list in the package overrides the list of the workspace, so the version is the tag.
    with("[workspace.metadata.oci]\ntags = [\"edge\"]\n[package.metadata.oci]\ntags = []");
    push(&home, &sources, host, &[]).succeeds();
    assert_eq!(
        tags(&registry),
        tags_with_target_tags(&["1.2.3", "edge", "flag", "main", "named"])
    );

    // An invalid tag fails before the build and before any request. The error names the key.
    with("[package.metadata.oci]\ntags = [\"a b\"]");
    let refused = home.cargo_oci(["push", "--registry", "127.0.0.1:1"]);
    let refused = refused.within(sources.path()).fails_with(2);
    assert!(
        refused.stderr.contains("`tags` of `package.metadata.oci`"),
        "{refused}"
    );
    assert!(!sources.has_build_output());
    let twice = push(&home, &sources, host, &["--tag=a__b"]).fails_with(2);
    assert!(twice.stderr.contains("`__`"), "{twice}");
}
