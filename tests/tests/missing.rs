//! Hints in errors about missing content.

use e2e::program::Home;
use e2e::recorder::Recorder;
use e2e::registry::Registry;
use e2e::release::{ARM, MAC, Release, target_tag};
use e2e::require;

/// All commands that read. The test replaces `{}` with a reference.
const READING_COMMANDS: [&str; 9] = [
    "pull {} --output out",
    "install {} --root out",
    "inspect {}",
    "manifest {}",
    "config {}",
    "verify {}",
    "referrers {}",
    "export {} --output out",
    "copy {} oci:copied",
];

fn command_line(command: &str, reference: &str) -> Vec<String> {
    let words = command.split(' ').map(|word| word.replace("{}", reference));
    words.collect()
}

#[test]
fn missing_repository_suggests_the_catalog() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let host = registry.host();
    let _release = Release::push(&home, host);
    let advice = format!("`widgts`, or run `cargo oci catalog {host}`");
    for tag in ["", ":1.2.3"] {
        let reference = format!("{host}/widgts{tag}");
        for command in READING_COMMANDS {
            let refused = home
                .cargo_oci(command_line(command, &reference))
                .fails_with(4);
            assert!(refused.stderr.contains(&advice), "{refused}");
        }
    }
    let whole = format!("{host}/widgts");
    let target = format!("{host}/widgts:{}", target_tag(MAC));
    let index = format!("{host}/widgts:1.2.3");
    for line in [
        &["tags", &whole][..],
        &["copy", &whole, "oci:copied", "--all-tags"],
        &["install", &whole, "--version=1"],
        &["tag", &index, "stable"],
        &["delete", &target, "--yes"],
        &["index", "remove", &index, MAC],
        &["index", "assemble", &index],
        &[
            "attach",
            &index,
            "--artifact-type=a/b",
            ".docker/config.json",
        ],
    ] {
        let home = Home::for_user(host);
        let refused = home.cargo_oci(line.iter().copied()).fails_with(4);
        assert!(refused.stderr.contains(&advice), "{refused}");
    }
}

#[test]
fn missing_tag_suggests_similar_tag_with_one_request() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let recorder = Recorder::start(registry.host());
    let location = format!("{}/widgets", recorder.host());
    let near = format!("a tag with a similar name exists: `{location}:1.2.3`");
    let look = format!("run `cargo oci tags {location}` to list the tags");
    for command in READING_COMMANDS {
        let reference = format!("{location}:1.2.4");
        let refused = home
            .cargo_oci(command_line(command, &reference))
            .fails_with(4);
        assert!(refused.stderr.contains(&near), "{refused}");
        assert!(refused.stderr.contains(&look), "{refused}");
        let lists = recorder.take();
        let lists = lists
            .iter()
            .filter(|request| request.path.contains("/tags/list"));
        assert_eq!(lists.count(), 1, "{command}");
    }
    // No existing tag is similar.
    let not_similar = home.cargo_oci(["manifest", &format!("{location}:nightly")]);
    let not_similar = not_similar.fails_with(4);
    assert!(!not_similar.stderr.contains("similar"), "{not_similar}");
    assert!(not_similar.stderr.contains(&look), "{not_similar}");

    // The error about a missing target lists the existing targets. The list needs no further request.
    let _ = recorder.take();
    let pull = ["pull", &format!("{location}:1.2.3"), "--target", "x-y-z"];
    let other = home.cargo_oci(pull).fails_with(4);
    let offered = format!("choose an available target: `{MAC}`, `{ARM}`");
    assert!(other.stderr.contains(&offered), "{other}");
    let requests = recorder.take();
    assert!(
        requests
            .iter()
            .all(|request| !request.path.contains("/tags/list")),
        "{requests:#?}"
    );
}

#[test]
fn missing_tag_of_layout_suggests_similar_tag() {
    let home = Home::new();
    let _release = Release::push(&home, "oci:out");
    let refused = home.cargo_oci(["pull", "oci:out/widgets:1.2.4"]);
    let refused = refused.fails_with(4);
    assert!(
        refused.stderr.contains("exists: `oci:out/widgets:1.2.3`"),
        "{refused}"
    );
    let tags = home.cargo_oci(["tags", "oci:out/widgts"]).fails_with(4);
    assert!(tags.stderr.contains("check the path"), "{tags}");
}
