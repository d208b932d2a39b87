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
    let lines: Vec<_> = again.stderr.lines().map(str::trim_start).collect();
    let unchanged = |tag: &str| format!("Unchanged {}/widgets:{tag}", recorder.host());
    assert!(
        lines.ends_with(&[&unchanged("nightly"), &unchanged("commit-1")]),
        "{again}"
    );
    let printed_line = |tag: &str| format!("{}/widgets:{tag}@{}\n", recorder.host(), named(tag));
    assert_eq!(
        again.stdout,
        printed_line("nightly") + &printed_line("commit-1")
    );

    // A push to one tag moves that tag only.
    let before = named("commit-1");
    sources.write("made", "second");
    let moved = push(&home, &sources, host, &["--tag=nightly"]).succeeds();
    assert_eq!(named("commit-1"), before);
    assert_eq!(named("nightly"), moved.printed_digest());
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

#[test]
fn tag_of_other_version_is_rejected_before_the_build() {
    let (home, sources) = (Home::new(), Sources::widgets());
    for tag in ["1.2.4", "v1.2.4", "1.2.3-rc.1"] {
        let refused = home.cargo_oci(["push", "--registry=127.0.0.1:1", "--tag", tag]);
        let refused = refused.within(sources.path()).fails_with(2);
        let expected = format!(
            "error: invalid tag `{tag}`: it is a version, but the version of the package is 1.2.3\n\n\
             help: use a moving tag, such as `nightly-2026-11-28`\n"
        );
        assert!(refused.stderr.ends_with(&expected), "{refused}");
        assert!(!sources.has_build_output(), "{refused}");
    }
    let reference = home.cargo_oci(["push", "127.0.0.1:1/widgets:v2.0.0"]);
    reference.within(sources.path()).fails_with(2);
    sources.append("Cargo.toml", "[package.metadata.oci]\ntags = [\"v2.0.0\"]");
    let key = home.cargo_oci(["push", "--registry=127.0.0.1:1"]);
    let key = key.within(sources.path()).fails_with(2);
    assert!(
        key.stderr.contains("`tags` of `package.metadata.oci`"),
        "{key}"
    );
}

#[test]
fn version_tag_with_prefix_is_a_separate_immutable_tag() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let host = registry.host();
    let repository = format!("{host}/widgets");
    sources.write("made", "first");
    push(&home, &sources, host, &["--tag=v1.2.3"]).succeeds();
    assert_eq!(tags(&registry), tags_with_target_tags(&["v1.2.3"]));
    // The tag counts as a version without a tag `1.2.3`.
    home.cargo_oci(["pull", &repository, "-o", "out"])
        .succeeds();
    let read = || std::fs::read_to_string(home.path().join("out/round")).unwrap();
    assert_eq!(read(), "first");
    sources.write("made", "second");
    let refused = push(&home, &sources, host, &["--tag=v1.2.3"]).fails_with(5);
    assert!(
        refused.stderr.contains("`round` has different content"),
        "{refused}"
    );

    push(&home, &sources, host, &[]).succeeds();
    assert_eq!(tags(&registry), tags_with_target_tags(&["1.2.3", "v1.2.3"]));
    // `pull` selects the tag without `v`.
    home.cargo_oci(["pull", &repository, "-o", "out", "--force"])
        .succeeds();
    assert_eq!(read(), "second");
    let both = push(&home, &sources, host, &["--tag=1.2.3", "--tag=v1.2.3"]);
    both.fails_with(5);
    push(&home, &sources, host, &["--tag=1.2.3", "--tag=nightly"]).succeeds();
}

#[test]
fn git_tag_of_another_version_prints_one_warning() {
    let (home, sources) = (Home::new(), Sources::workspace(["one", "two"]));
    let push = |tag: &str| {
        let push = home.cargo_oci(["push", "--workspace", "--registry=oci:out"]);
        let push = push.within(sources.path());
        push.with("GITHUB_REF_TYPE", "tag")
            .with("GITHUB_REF_NAME", tag)
            .succeeds()
    };
    let text = "does not match a pushed version";
    for tag in ["v1.2.3", "client-v1.2.3", "other-v1.2.4", "nightly"] {
        let matching = push(tag);
        assert!(!matching.stderr.contains(text), "{matching}");
    }
    let other = push("v1.2.4");
    let warning = format!(
        "warning: the git tag `v1.2.4` {text}: `client` has version 1.2.3, `server` has version 1.2.3\n"
    );
    assert_eq!(other.stderr.matches(&warning).count(), 1, "{other}");
    let one = push("client-v1.2.4");
    let warning = format!("the git tag `client-v1.2.4` {text}: `client` has version 1.2.3\n");
    assert!(one.stderr.contains(&warning), "{one}");
}
