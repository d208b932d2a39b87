//! Nushell queries against a registry with generated content and known results.

use e2e::program::Home;
use e2e::registry::Registry;
use e2e::require;
use e2e::sample_registry::{self, LAYERS, RELEASES, REPOSITORIES, Release};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Number of tags other than releases in a repository: `latest` and `nightly`.
const OTHERS: usize = 2;

#[test]
fn queries_return_expected_results() {
    require!(DockerRegistry, Nu);
    let registry = Registry::open();
    sample_registry::fill(&registry);
    let script = Home::new()
        .nu(include_str!("queries.nu"))
        .with("REGISTRY", registry.host())
        .succeeds();
    let asked: Vec<Value> = serde_json::from_str(&script.stdout)
        .unwrap_or_else(|error| panic!("no answers ({error}): {script}"));
    let known = [expected_from_lists(), expected_from_manifests()].concat();
    assert!(known.len() > 20, "only {}", known.len());
    assert_eq!(asked.len(), known.len(), "{script}");
    for (asked, (question, answer)) in asked.iter().zip(known) {
        assert_eq!(asked["question"], question);
        assert_eq!(asked["answer"], answer, "{question}?");
    }
}

fn date(text: &str) -> Timestamp {
    text.parse().expect("a date")
}

/// Returns the expected results of queries that need lists only, computed from the generated content.
fn expected_from_lists() -> Vec<(&'static str, Value)> {
    let app = sample_registry::releases(0);
    let versions = |wanted: &dyn Fn(&Release) -> bool| -> Vec<String> {
        let releases = app.iter().filter(|release| wanted(release));
        releases.map(|release| release.version.clone()).collect()
    };
    let newest: Vec<_> = app
        .iter()
        .rev()
        .take(4)
        .map(|it| it.version.as_str())
        .collect();
    let stored: usize = app.iter().map(|release| release.layer + "{}".len()).sum();
    // `latest` has the creation time of the last release.
    let is_new = |number: &usize| {
        sample_registry::releases(*number)[RELEASES - 1].created >= date("2026-03-19T00:00:00Z")
    };
    let new = (0..REPOSITORIES).filter(is_new).count();
    let teams = ["a", "b", "c", "d", "e"];
    let noon = date("2026-01-01T12:00:00Z");
    vec![
        ("how many repositories are there", json!(REPOSITORIES)),
        (
            "how many has each team",
            json!(teams.map(|team| json!({"team": format!("team-{team}"), "apps": 10}))),
        ),
        (
            "how many tags are there in all",
            json!(REPOSITORIES * (RELEASES + OTHERS)),
        ),
        (
            "which repositories have anything new since 19 March",
            json!(new),
        ),
        (
            "what are the newest tags",
            json!([&["latest"][..], &newest].concat()),
        ),
        ("how much is stored", json!(stored)),
        (
            "which releases are large and old",
            json!(versions(
                &|release| release.layer == LAYERS[2] && release.created < noon
            )),
        ),
        (
            "how many releases were there each day",
            json!([
                {"day": "2026-01-01", "releases": 24},
                {"day": "2026-01-02", "releases": RELEASES - 24},
            ]),
        ),
        (
            "which tags are one and the same",
            json!([["1.3.7", "latest"]]),
        ),
        (
            "which files does each release have",
            json!([
                {"name": "1.0.0", "files": ["app.txt"]},
                {"name": "1.0.1", "files": ["app.txt"]},
            ]),
        ),
        (
            "which version is the latest of each team",
            json!(teams.map(|_| json!({"name": "app-0", "version": "1.3.7"}))),
        ),
        (
            "what is the highest release of a team's repositories",
            json!([{"version": "1.3.7", "apps": 10}]),
        ),
    ]
}

/// Returns the expected results of queries that read manifests, and of changes.
fn expected_from_manifests() -> Vec<(&'static str, Value)> {
    let first_hours = date("2026-01-01T03:00:00Z");
    let app = sample_registry::releases(0).into_iter();
    let mut would_go: Vec<_> = app
        .filter(|release| release.created < first_hours)
        .map(|release| release.version)
        .collect();
    // The creation time of `nightly` is the later one of its two manifests.
    would_go.push("nightly".to_owned());
    vec![
        (
            "for which platforms is the nightly",
            json!(["linux/amd64", "linux/arm64"]),
        ),
        ("which version is the nightly for ARM", json!("1.0.1")),
        ("what are three of the tags", json!(3)),
        ("is a layer what its digest says", json!(true)),
        (
            "which files does a pull write",
            json!([{"kind": "file", "size": LAYERS[1], "written": true}]),
        ),
        (
            "what does mirroring a team's latest do",
            json!([{"value": "copied", "count": 10}]),
        ),
        (
            "and doing it again",
            json!([{"value": "unchanged", "count": 10}]),
        ),
        ("has the mirror the same digests", json!(true)),
        (
            "can a release be promoted",
            json!([{"action": "tagged"}, {"action": "unchanged"}]),
        ),
        (
            "what would go with the releases of the first hours",
            json!(
                would_go
                    .iter()
                    .map(|name| json!({"name": name, "action": "would delete"}))
                    .collect::<Vec<_>>()
            ),
        ),
        ("is it all still there", json!(RELEASES + OTHERS)),
        (
            "what goes with a tag",
            json!({"gone": ["deleted"], "left": ["latest"]}),
        ),
        (
            "what went wrong",
            json!([
                "oci::not_found",
                "oci::invalid_input",
                "oci::network",
                "oci::invalid_input",
            ]),
        ),
        (
            "which word of a list was wrong",
            json!({"help": "write `ghcr.io/acme/widgets`", "label": "this part"}),
        ),
    ]
}
