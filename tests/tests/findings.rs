//! JSON messages of the commands that read: validation against `MESSAGES.md`.

use std::fs;

use e2e::messages::Schema;
use e2e::program::Home;
use e2e::registry::Registry;
use e2e::release::{ARM, MAC, Release, image_layout, target_tag};
use e2e::require;
use serde_json::{Value, json};

/// Runs a command. Validates its JSON messages against `MESSAGES.md` and returns them.
fn run_for_messages(home: &Home, line: &[&str]) -> Vec<Value> {
    let arguments = line.iter().copied().chain(["--message-format=json"]);
    let outcome = home.cargo_oci(arguments).succeeds();
    Schema::from_documentation().validate(&outcome.stdout)
}

fn string_values<'a>(messages: &'a [Value], field: &str) -> Vec<&'a str> {
    let texts = messages.iter().map(|message| message[field].as_str());
    texts
        .map(|text| text.expect("the value is a string"))
        .collect()
}

#[test]
fn tags_and_catalog_print_objects() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let host = registry.host();
    let _release = Release::push(&home, host);
    let location = format!("{host}/widgets");
    let index = registry.digest("widgets", "1.2.3").unwrap();
    let short = run_for_messages(&home, &["tags", &location]);
    assert_eq!(string_values(&short, "name"), ["1.2.3"]);
    assert_eq!(short[0]["incomplete"], false);
    assert_eq!(short[0]["reference"], format!("{location}:1.2.3"));
    assert_eq!(short[0]["digest"], Value::Null);
    assert_eq!(short[0]["targets"], Value::Null);

    let all = run_for_messages(&home, &["tags", &location, "--all"]);
    let mut names = string_values(&all, "name");
    names.sort_unstable();
    assert_eq!(names, ["1.2.3", &target_tag(MAC), &target_tag(ARM)]);
    assert!(all.iter().all(|tag| tag["incomplete"].is_null()), "{all:?}");
    registry.remove_tag("widgets", "1.2.3");
    let incomplete = run_for_messages(&home, &["tags", &location, "--long"]);
    assert_eq!(incomplete[0]["name"], "1.2.3");
    assert_eq!(incomplete[0]["incomplete"], true);
    assert_eq!(incomplete[0]["targets"], json!([MAC, ARM]));
    assert_eq!(incomplete[0]["digest"], Value::Null);
    let restored = format!("{location}@{index}");
    home.cargo_oci(["tag", &restored, "1.2.3"]).succeeds();

    let long = run_for_messages(&home, &["tags", &location, "--long"]);
    assert_eq!(long.len(), 1);
    assert_eq!(long[0]["digest"], index);
    assert_eq!(long[0]["targets"], json!([MAC, ARM]));
    assert_eq!(long[0]["platforms"], json!(["darwin/arm64", "linux/arm64"]));
    assert!(long[0]["size"].as_u64().unwrap() > 0);

    let catalog = run_for_messages(&home, &["catalog", host]);
    assert_eq!(string_values(&catalog, "reference"), [location.as_str()]);
    assert_eq!(string_values(&catalog, "name"), ["widgets"]);
    let _here = Release::push(&home, "oci:out/team");
    let layouts = run_for_messages(&home, &["catalog", "oci:out"]);
    assert_eq!(string_values(&layouts, "name"), ["team/widgets"]);
    assert_eq!(
        string_values(&layouts, "reference"),
        ["oci:out/team/widgets"]
    );
}

#[test]
fn inspect_prints_json_object_with_targets_and_files() {
    let home = Home::new();
    let _release = Release::push(&home, "oci:out");
    let page = run_for_messages(&home, &["inspect", "oci:out/widgets"]);
    let [page] = &page[..] else {
        panic!("one page: {page:?}");
    };
    assert_eq!(
        (&page["name"], &page["version"]),
        (&json!("widgets"), &json!("1.2.3"))
    );
    assert_eq!(page["licenses"], "MIT");
    let targets = page["targets"].as_array().unwrap();
    assert_eq!(string_values(targets, "target"), [MAC, ARM]);
    assert_eq!(targets[1]["platform"], "linux/arm64");
    assert_eq!(targets[1]["exists"], true);
    let file = &targets[0]["files"][0];
    assert_eq!(
        (&file["name"], &file["kind"]),
        (&json!("round"), &json!("bin"))
    );
    assert_eq!(file["digest"], e2e::sha256(b"round ones"));
    // For an image that is not a package, the message has only some of the fields.
    let digest = image_layout(&home.path().join("image"));
    let image = run_for_messages(&home, &["inspect", "oci:image:1.0"]);
    assert_eq!(image[0]["name"], Value::Null);
    assert_eq!(image[0]["digest"], digest);
    assert_eq!(image[0]["targets"][0]["files"].as_array().unwrap().len(), 2);
}

#[test]
fn referrers_messages_name_their_subject() {
    let home = Home::new();
    let _release = Release::push(&home, "oci:out");
    let subject = "oci:out/widgets:1.2.3";
    fs::write(home.path().join("a.spdx.json"), "{}").unwrap();
    fs::write(home.path().join("b.sarif"), "{}").unwrap();
    let first = home
        .cargo_oci(["attach", subject, "a.spdx.json"])
        .succeeds();
    home.cargo_oci(["attach", first.last_line(), "b.sarif"])
        .succeeds();
    let found = run_for_messages(&home, &["referrers", subject]);
    assert_eq!(
        string_values(&found, "artifact-type"),
        ["application/spdx+json", "application/sarif+json"]
    );
    assert_eq!(found[0]["reference"], first.last_line());
    assert_eq!(found[1]["subject"], found[0]["digest"]);
    let raw = home.cargo_oci(["manifest", "--raw", subject]).succeeds();
    assert_eq!(found[0]["subject"], e2e::sha256(raw.stdout.as_bytes()));
}

#[test]
fn verify_messages_contain_results_and_differences() {
    let home = Home::new();
    let _release = Release::push(&home, "oci:out");
    let reference = "oci:out/widgets:1.2.3";
    home.cargo_oci(["pull", reference, "--target", MAC, "-o", "pulled"])
        .succeeds();
    let verify = ["verify", reference, "pulled", "--target", MAC];
    let good = run_for_messages(&home, &verify);
    assert_eq!(
        string_values(&good, "reason"),
        ["oci-comparison", "oci-finished"]
    );
    assert_eq!(
        (&good[0]["name"], &good[0]["action"]),
        (&json!("round"), &json!("same"))
    );

    fs::write(home.path().join("pulled/round"), "others").unwrap();
    let json = verify.iter().copied().chain(["--message-format=json"]);
    let other = home.cargo_oci(json).fails_with(7);
    let other = Schema::from_documentation().validate(&other.stdout);
    assert_eq!(
        string_values(&other, "reason"),
        ["oci-comparison", "oci-error"]
    );
    assert_eq!(other[0]["action"], "other");

    let digest = e2e::sha256(b"round ones");
    let hex = digest.trim_start_matches("sha256:");
    let blob = home.path().join("out/widgets/blobs/sha256").join(hex);
    fs::write(blob, "round 0nes").unwrap();
    let broken = home.cargo_oci(["verify", reference, "--message-format=json"]);
    let broken = broken.fails_with(7);
    let broken = Schema::from_documentation().validate(&broken.stdout);
    assert_eq!(string_values(&broken, "reason"), ["oci-wrong", "oci-error"]);
    assert_eq!(broken[0]["digest"], digest);
    assert_eq!(broken[1]["code"], 7);
}
