//! Nushell queries whose results are known, against a registry with generated content.

use e2e::program::Home;
use e2e::registry::Registry;
use e2e::require;
use e2e::sample_registry::{self, LAYER_SIZES, RELEASES, REPOSITORIES, SampleRelease};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Number of tags in a repository that are not releases: `latest` and `nightly`.
const OTHERS: usize = 2;

#[test]
fn documented_queries_return_expected_results() {
    require!(DockerRegistry, Nu);
    let registry = Registry::open();
    sample_registry::fill(&registry);
    let script = Home::new()
        .nu(include_str!("queries.nu"))
        .with("REGISTRY", registry.host())
        .succeeds();
    let results: Vec<Value> = serde_json::from_str(&script.stdout)
        .unwrap_or_else(|error| panic!("no results ({error}): {script}"));
    let known = [expected_from_lists(), expected_from_manifests()].concat();
    assert!(known.len() > 20, "only {}", known.len());
    assert_eq!(results.len(), known.len(), "{script}");
    for (actual, (query, expected)) in results.iter().zip(known) {
        assert_eq!(actual["query"], query);
        assert_eq!(actual["result"], expected, "{query}");
    }
}

fn parse_timestamp(text: &str) -> Timestamp {
    text.parse().expect("the date is valid")
}

/// Returns the expected results of queries that read lists only, computed from the generated content.
fn expected_from_lists() -> Vec<(&'static str, Value)> {
    let app = sample_registry::releases(0);
    let versions = |wanted: &dyn Fn(&SampleRelease) -> bool| -> Vec<String> {
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
        sample_registry::releases(*number)[RELEASES - 1].created
            >= parse_timestamp("2026-03-19T00:00:00Z")
    };
    let new = (0..REPOSITORIES).filter(is_new).count();
    let teams = ["a", "b", "c", "d", "e"];
    let noon = parse_timestamp("2026-01-01T12:00:00Z");
    vec![
        ("number of repositories", json!(REPOSITORIES)),
        (
            "repositories of each team",
            json!(teams.map(|team| json!({"team": format!("team-{team}"), "apps": 10}))),
        ),
        ("number of tags", json!(REPOSITORIES * (RELEASES + OTHERS))),
        ("repositories with tags since 19 March", json!(new)),
        ("newest tags", json!([&["latest"][..], &newest].concat())),
        ("total size", json!(stored)),
        (
            "large and old releases",
            json!(versions(
                &|release| release.layer == LAYER_SIZES[2] && release.created < noon
            )),
        ),
        (
            "releases of each day",
            json!([
                {"day": "2026-01-01", "releases": 24},
                {"day": "2026-01-02", "releases": RELEASES - 24},
            ]),
        ),
        ("tags of the same manifest", json!([["1.3.7", "latest"]])),
        (
            "files of each release",
            json!([
                {"name": "1.0.0", "files": ["app.txt"]},
                {"name": "1.0.1", "files": ["app.txt"]},
            ]),
        ),
        (
            "latest version of each team",
            json!(teams.map(|_| json!({"name": "app-0", "version": "1.3.7"}))),
        ),
        (
            "highest releases of a team",
            json!([{"version": "1.3.7", "apps": 10}]),
        ),
    ]
}

/// Returns the expected results of queries that read manifests, and of queries that change content.
fn expected_from_manifests() -> Vec<(&'static str, Value)> {
    let first_hours = parse_timestamp("2026-01-01T03:00:00Z");
    let app = sample_registry::releases(0).into_iter();
    let mut deleted: Vec<_> = app
        .filter(|release| release.created < first_hours)
        .map(|release| release.version)
        .collect();
    // `nightly` has the creation time of the later of its two manifests.
    deleted.push("nightly".to_owned());
    vec![
        (
            "platforms of nightly",
            json!(["linux/amd64", "linux/arm64"]),
        ),
        ("version of nightly for ARM", json!("1.0.1")),
        ("first three tags", json!(3)),
        ("digest of a layer matches", json!(true)),
        (
            "files of a pull",
            json!([{"kind": "file", "size": LAYER_SIZES[1], "written": true}]),
        ),
        (
            "copies of the latest releases of a team",
            json!([{"value": "copied", "count": 10}]),
        ),
        (
            "repeated copies",
            json!([{"value": "unchanged", "count": 10}]),
        ),
        ("digests of copies match", json!(true)),
        (
            "additional tag of a release",
            json!([{"action": "tagged"}, {"action": "unchanged"}]),
        ),
        (
            "dry run of deletion of the first releases",
            json!(
                deleted
                    .iter()
                    .map(|name| json!({"name": name, "action": "would delete"}))
                    .collect::<Vec<_>>()
            ),
        ),
        ("tags after the dry run", json!(RELEASES + OTHERS)),
        (
            "deletion of a tag",
            json!({"gone": ["deleted"], "left": ["latest"]}),
        ),
        (
            "error codes",
            json!([
                "oci::not_found",
                "oci::invalid_input",
                "oci::network",
                "oci::invalid_input",
            ]),
        ),
        (
            "label of an invalid list item",
            json!({"help": "write `ghcr.io/acme/widgets`", "label": "this part"}),
        ),
    ]
}
