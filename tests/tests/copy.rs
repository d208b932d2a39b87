//! `cargo oci copy` and `cargo oci tag` between registries, layouts and archives.

use e2e::layout::Layout;
use e2e::messages::Schema;
use e2e::program::Home;
use e2e::recorder::{RecordedRequest, Recorder};
use e2e::registry::Registry;
use e2e::release::{ARM, MAC, Release, image_layout, target_tag};
use e2e::require;

#[test]
fn copy_between_all_locations_keeps_digest() {
    require!(DockerRegistry, Skopeo);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let digest = registry.digest("widgets", "1.2.3").unwrap();
    let places = [
        format!("{}/widgets:1.2.3", registry.host()),
        "oci:layout:1.2.3".to_owned(),
        "oci-archive:archive.tar:1.2.3".to_owned(),
        format!("{}/mirror/widgets:1.2.3", registry.host()),
    ];
    for step in places.windows(2) {
        let outcome = home.cargo_oci(["copy", &step[0], &step[1]]).succeeds();
        assert_eq!(outcome.printed_digest(), digest, "{outcome}");
        let location = step[1].strip_suffix(":1.2.3").unwrap();
        assert_eq!(outcome.last_line(), format!("{location}@{digest}"));
    }
    let layout = Layout::open(home.path().join("layout"));
    assert_eq!(layout.digest("1.2.3").unwrap(), digest);
    let archived = home.skopeo(["inspect", "--raw", "oci-archive:archive.tar:1.2.3"]);
    assert_eq!(e2e::sha256(archived.succeeds().stdout.as_bytes()), digest);
    let mirrored = registry.manifest("mirror/widgets", "1.2.3").unwrap();
    assert_eq!(mirrored.0, digest);
    // Skopeo reads the copy from another registry.
    let other = Registry::open();
    let from = format!("{}/mirror/widgets:1.2.3", registry.host());
    let to = format!("{}/widgets", other.host());
    home.cargo_oci(["copy", &from, &to]).succeeds();
    let source = format!("docker://{to}:1.2.3");
    let raw = home.skopeo(["inspect", "--raw", "--tls-verify=false", &source]);
    assert_eq!(e2e::sha256(raw.succeeds().stdout.as_bytes()), digest);
}

#[test]
fn copy_of_existing_content_sends_nothing() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, "oci:out");
    let recorder = Recorder::start(registry.host());
    let target = format!("{}/widgets", recorder.host());
    let copy = ["copy", "oci:out/widgets:1.2.3", &target];
    home.cargo_oci(copy).succeeds();
    assert!(recorder.take().iter().any(RecordedRequest::is_write));
    let outcome = home.cargo_oci(copy).succeeds();
    let requests = recorder.take();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(!requests[0].is_write());
    assert!(outcome.stderr.contains("Unchanged"), "{outcome}");
    // Another repository of the registry already has the blobs.
    let sibling = format!("{}/sibling", recorder.host());
    let outcome = home
        .cargo_oci(["copy", &format!("{target}:1.2.3"), &sibling])
        .succeeds();
    assert!(outcome.stderr.contains("Mounted"), "{outcome}");
    assert!(!outcome.stderr.contains("Uploaded"), "{outcome}");
}

#[test]
fn copy_of_tag_with_other_digest_is_refused() {
    require!(DockerRegistry);
    let (registry, other, home) = (Registry::open(), Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let source = format!("{}/widgets", registry.host());
    let [index, target] = ["1.2.3", &target_tag(MAC)].map(|tag| {
        let digest = registry.digest("widgets", tag).unwrap();
        format!("{source}:1.2.3@{digest}")
    });
    let to = format!("{}/widgets", other.host());
    let outcome = home.cargo_oci(["copy", &target, &to]).fails_with(7);
    let hint = "remove `:1.2.3` from the source, or add a tag to the target";
    assert!(outcome.stderr.contains(hint), "{outcome}");
    assert_eq!(other.digest("widgets", "1.2.3"), None);
    // A tag of the target takes precedence over the tag of the source.
    let named = format!("{to}:mac");
    home.cargo_oci(["copy", &target, &named]).succeeds();
    home.cargo_oci(["copy", &index, &to]).succeeds();
    assert_eq!(
        other.digest("widgets", "1.2.3"),
        registry.digest("widgets", "1.2.3")
    );
}

#[test]
fn copy_of_all_tags_includes_referrers_on_request() {
    require!(DockerRegistry);
    let (registry, other, home) = (Registry::open(), Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let source = format!("{}/widgets", registry.host());
    std::fs::write(home.path().join("widgets.spdx.json"), "{}").unwrap();
    let about = format!("{source}:{}", target_tag(MAC));
    let attached = home
        .cargo_oci(["attach", &about, "widgets.spdx.json"])
        .succeeds()
        .printed_digest();

    let plain = format!("{}/plain", other.host());
    let outcome = home
        .cargo_oci(["copy", &source, &plain, "--all-tags"])
        .succeeds();
    let expected = ["1.2.3".to_owned(), target_tag(MAC), target_tag(ARM)];
    assert_eq!(other.tags("plain"), expected);
    assert!(outcome.stderr.contains("--referrers"), "{outcome}");
    assert_eq!(other.digest("plain", &attached), None);
    assert_eq!(outcome.stdout.lines().count(), 3, "{outcome}");

    let whole = format!("{}/whole", other.host());
    home.cargo_oci(["copy", &source, &whole, "--all-tags", "--referrers"])
        .succeeds();
    assert_eq!(other.digest("whole", &attached), Some(attached.clone()));
    let shown = home
        .cargo_oci(["referrers", &format!("{whole}:{}", target_tag(MAC))])
        .succeeds();
    assert!(shown.stdout.contains(&attached), "{shown}");
    for tag in &expected {
        assert_eq!(
            other.digest("whole", tag),
            registry.digest("widgets", tag),
            "{tag}"
        );
    }
    // Copies to a registry through an archive, which stores no referrer lists.
    let archive = "oci-archive:backup.tar";
    home.cargo_oci(["copy", &source, archive, "--all-tags", "--referrers"])
        .succeeds();
    let restored = format!("{}/restored", other.host());
    home.cargo_oci(["copy", archive, &restored, "--all-tags", "--referrers"])
        .succeeds();
    assert_eq!(other.digest("restored", &attached), Some(attached));
}

#[test]
fn copy_of_one_target_uses_target_tag() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let source = format!("{}/widgets:1.2.3", registry.host());
    home.cargo_oci(["copy", &source, "oci:one", "--target", MAC])
        .succeeds();
    let layout = Layout::open(home.path().join("one"));
    assert_eq!(
        layout.digest(&target_tag(MAC)),
        registry.digest("widgets", &target_tag(MAC))
    );
    assert_eq!(layout.digest("1.2.3"), None);
    // `pull` finds the target in the layout.
    home.cargo_oci(["pull", "oci:one:1.2.3", "--target", MAC, "-o", "pulled"])
        .succeeds();
    // Copies to explicit tags, and to several destinations in one run.
    let targets = ["oci:two:mac", "oci:two:latest", "oci:three:mac"];
    let arguments = ["copy", "--platform", "darwin/arm64", &source];
    home.cargo_oci(arguments.iter().chain(&targets).copied())
        .succeeds();
    let layout = Layout::open(home.path().join("two"));
    assert_eq!(layout.digest("mac"), layout.digest("latest"));
    assert!(
        Layout::open(home.path().join("three"))
            .digest("mac")
            .is_some()
    );
    let absent = [
        "copy",
        &source,
        "oci:four",
        "--target",
        "s390x-unknown-linux-gnu",
    ];
    home.cargo_oci(absent).fails_with(4);
    assert!(!home.path().join("four").exists());
}

#[test]
fn image_is_copied_to_docker_archive_and_back() {
    require!(DockerRegistry, Skopeo);
    let (registry, home) = (Registry::open(), Home::new());
    let digest = image_layout(&home.path().join("image"));
    let docker = "docker-archive:image.tar:acme/image:1.0";
    home.cargo_oci(["copy", "oci:image:1.0", docker]).succeeds();
    let seen = home.skopeo(["inspect", docker]).succeeds();
    let seen: serde_json::Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(seen["Labels"]["org.example"], "x");
    let target = format!("{}/image:1.0", registry.host());
    let outcome = home.cargo_oci(["copy", docker, &target]).succeeds();
    assert_eq!(outcome.printed_digest(), digest);
    assert_eq!(registry.digest("image", "1.0"), Some(digest));

    // Packages and indexes are not images.
    let _release = Release::push(&home, "oci:out");
    let outcome = home
        .cargo_oci(["copy", "oci:out/widgets:1.2.3", "docker-archive:w.tar:w:1"])
        .fails_with(2);
    assert!(outcome.stderr.contains("--platform"), "{outcome}");
    assert!(!home.path().join("w.tar").exists());
}

#[test]
fn invalid_copy_is_rejected_before_any_request() {
    let home = Home::new();
    let digest = e2e::sha256(b"x");
    let by_digest = format!("oci:there@{digest}");
    for arguments in [
        &["copy", "oci:here:1", "oci:here:1"][..],
        &["copy", "oci:here:1", "oci:here"],
        &["copy", "oci:here:1", "oci:./here:1"],
        &["copy", "127.0.0.1:1/a:1", "127.0.0.1:1/a:1"],
        &["copy", "oci:here:1", &by_digest],
        &["copy", "oci:here:1", "docker-archive:there.tar"],
        &["copy", "oci:here:1", "oci:there", "--all-tags"],
        &["copy", "oci:here", "oci:there:1", "--all-tags"],
        &["tag", "oci:here", "latest"],
        &["tag", "oci:here:1", "1"],
        &["tag", "oci:here:1", "127.0.0.1:1/a:2"],
        &["tag", "oci:here:1", &digest],
    ] {
        home.cargo_oci(arguments.iter().copied())
            .fails_with(2)
            .assert_no_work_started();
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 3);
    let outcome = home
        .cargo_oci(["copy", "oci:here:1", "oci:there"])
        .outcome();
    assert_eq!(outcome.code, Some(4), "{outcome}");
    assert!(!home.path().join("there").exists());
}

#[test]
fn tag_command_transfers_no_blobs() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let recorder = Recorder::start(registry.host());
    let location = format!("{}/widgets", recorder.host());
    let of_mac = format!("{location}:{}", target_tag(MAC));
    let outcome = home.cargo_oci(["tag", &of_mac, "mac", "latest"]).succeeds();
    let mac = registry.digest("widgets", &target_tag(MAC)).unwrap();
    assert_eq!(outcome.last_line(), format!("{location}@{mac}"));
    assert_eq!(registry.digest("widgets", "mac"), Some(mac.clone()));
    assert_eq!(registry.digest("widgets", "latest"), Some(mac.clone()));
    let requests = recorder.take();
    assert!(
        requests
            .iter()
            .all(|request| !request.path.contains("/blobs/")),
        "{requests:?}"
    );
    let outcome = home
        .cargo_oci(["tag", &format!("{location}:1.2.3"), "latest"])
        .succeeds();
    assert!(
        outcome.stderr.contains(&mac),
        "the previous digest is printed: {outcome}"
    );
    let index = registry.digest("widgets", "1.2.3");
    assert_eq!(registry.digest("widgets", "latest"), index);
    let _ = recorder.take();
    home.cargo_oci(["tag", &format!("{location}:1.2.3"), "latest"])
        .succeeds();
    assert!(recorder.take().iter().all(|request| !request.is_write()));
    home.cargo_oci(["tag", &format!("{location}:9.9.9"), "latest"])
        .fails_with(4);
    // `tag` does not create a missing layout.
    home.cargo_oci(["tag", "oci:absent:1", "2"]).fails_with(4);
    assert!(!home.path().join("absent").exists());
}

#[test]
fn copy_messages_match_documentation() {
    let home = Home::new();
    let _release = Release::push(&home, "oci:out");
    let copy = ["copy", "oci:out/widgets:1.2.3", "oci:copy"];
    let outcome = home
        .cargo_oci(copy.iter().chain(&["--message-format", "json"]).copied())
        .succeeds();
    let messages = Schema::from_documentation().validate(&outcome.stdout);
    let reasons: Vec<_> = messages.iter().map(|message| &message["reason"]).collect();
    assert_eq!(reasons.last().unwrap().as_str(), Some("oci-finished"));
    assert!(reasons.iter().any(|reason| *reason == "oci-blob"));
    let tag = [
        "tag",
        "oci:copy:1.2.3",
        "latest",
        "--message-format",
        "json",
    ];
    let outcome = home.cargo_oci(tag).succeeds();
    let messages = Schema::from_documentation().validate(&outcome.stdout);
    assert_eq!(messages[0]["reference"], "oci:copy:latest");
    let delete = [
        "delete",
        "oci:copy:latest",
        "--yes",
        "--message-format",
        "json",
    ];
    let outcome = home.cargo_oci(delete).succeeds();
    let messages = Schema::from_documentation().validate(&outcome.stdout);
    let deleted = messages.last().unwrap();
    assert_eq!(deleted["action"], "deleted");
    assert_eq!(deleted["reference"], "oci:copy:latest");
    let remove = ["index", "remove", "oci:out/widgets:1.2.3", MAC];
    let outcome = home
        .cargo_oci(remove.iter().chain(&["--message-format", "json"]).copied())
        .succeeds();
    let messages = Schema::from_documentation().validate(&outcome.stdout);
    let of = |reason: &str| messages.iter().find(|message| message["reason"] == reason);
    let tag = format!("oci:out/widgets:{}", target_tag(MAC));
    assert_eq!(of("oci-delete").unwrap()["reference"], tag);
    assert_eq!(of("oci-index").unwrap()["targets"][0], ARM);
    assert!(of("oci-finished").is_some());
}

#[test]
fn copy_reports_previous_digest_of_moved_tag() {
    let home = Home::new();
    let release = Release::push(&home, "oci:out");
    release.push_with(&home, "oci:out", MAC, "others", &["--tag=nightly"]);
    let schema = Schema::from_documentation();
    let copy = |source: &str| {
        let line = ["copy", source, "oci:other:stable", "--message-format=json"];
        let copied = home.cargo_oci(line).succeeds();
        let messages = schema.validate(&copied.stdout);
        let tags = messages.into_iter();
        let tags = tags.filter(|message| message["reason"] == "oci-tag");
        let actions: Vec<_> = tags.map(|tag| tag["action"].clone()).collect();
        (copied, actions)
    };
    let (first, actions) = copy("oci:out/widgets:1.2.3");
    assert_eq!(actions, ["tagged"], "{first}");
    let before = Layout::open(home.path().join("other"));
    let before = before.digest("stable").unwrap();
    let (second, actions) = copy("oci:out/widgets:nightly");
    assert_eq!(actions, ["moved"], "{second}");
    let note = format!("`oci:other:stable` previously pointed to {before}");
    assert!(second.stderr.contains(&note), "{second}");
    assert!(second.stderr.contains("Moved oci:other:stable"), "{second}");
    let (again, actions) = copy("oci:out/widgets:nightly");
    assert!(actions.is_empty(), "{again}");
}
