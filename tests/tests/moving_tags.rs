//! What is published under tags in place of the version: by `--tag`, once and several times, and by the key `tags`.

use e2e::messages::Schema;
use e2e::program::{Home, Run};
use e2e::recorder::Recorder;
use e2e::registry::Registry;
use e2e::require;
use e2e::sources::{Sources, host_triple};

/// Pushes one file, whose content is what was last written to `made`.
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

/// All tags of the repository, and the tags of this machine's target below them.
fn with_targets(tags: &[&str]) -> Vec<String> {
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
fn one_push_goes_under_several_tags_and_they_move() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let host = registry.host();
    sources.write("made", "first");
    let both = ["--tag=nightly", "--tag", "commit-1", "--tag=nightly"];
    let json = [&both[..], &["--message-format=json"]].concat();
    let first = push(&home, &sources, host, &json).succeeds();
    assert_eq!(tags(&registry), with_targets(&["commit-1", "nightly"]));
    let told = Schema::documented().check(&first.stdout);
    let finished: Vec<_> = told
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

    // Again nothing is sent, and what is told names both.
    let recorder = Recorder::before(host);
    let again = push(&home, &sources, &recorder.host(), &both).succeeds();
    let requests = recorder.take();
    assert!(
        requests.len() <= 4 && !requests.iter().any(e2e::recorder::Recorded::writes),
        "{requests:#?}"
    );
    assert!(
        again.stderr.contains("widgets:nightly, :commit-1 for"),
        "{again}"
    );

    // One of them moves, and the other stays.
    let before = named("commit-1");
    sources.write("made", "second");
    let moved = push(&home, &sources, host, &["--tag=nightly"]).succeeds();
    assert_eq!(named("commit-1"), before);
    let target = format!("nightly__{}", host_triple());
    assert_eq!(named(&target), moved.printed_digest());
}

#[test]
fn the_key_stands_for_the_flag_and_the_command_line_goes_before_it() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let host = registry.host();
    sources.write("made", "x");
    let manifest = std::fs::read_to_string(sources.path().join("Cargo.toml")).unwrap();
    let with = |table: &str| sources.write("Cargo.toml", &format!("{manifest}\n{table}\n"));

    with("[workspace.metadata.oci]\ntags = [\"edge\", \"main\"]");
    push(&home, &sources, host, &[]).succeeds();
    assert_eq!(tags(&registry), with_targets(&["edge", "main"]));
    let refused = push(&home, &sources, host, &["--floating"]).fails_with(2);
    assert!(
        refused
            .stderr
            .contains("`tags` of `workspace.metadata.oci`"),
        "{refused}"
    );

    // A tag on the command line, in either form, takes the place of all of them.
    push(&home, &sources, host, &["--tag=flag"]).succeeds();
    let expected = with_targets(&["edge", "flag", "main"]);
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
        with_targets(&["edge", "flag", "main", "named"])
    );

    // A package takes back what its workspace says: it is published as its version.
    with("[workspace.metadata.oci]\ntags = [\"edge\"]\n[package.metadata.oci]\ntags = []");
    push(&home, &sources, host, &[]).succeeds();
    assert_eq!(
        tags(&registry),
        with_targets(&["1.2.3", "edge", "flag", "main", "named"])
    );

    // What is no tag is refused where it stands, before anything is built or asked.
    with("[package.metadata.oci]\ntags = [\"a b\"]");
    let refused = home.cargo_oci(["push", "--registry", "127.0.0.1:1"]);
    let refused = refused.within(sources.path()).fails_with(2);
    assert!(
        refused.stderr.contains("`tags` of `package.metadata.oci`"),
        "{refused}"
    );
    assert!(!sources.is_touched());
    let twice = push(&home, &sources, host, &["--tag=a__b"]).fails_with(2);
    assert!(twice.stderr.contains("`__`"), "{twice}");
}
