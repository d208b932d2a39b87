//! `cargo oci delete` and `cargo oci index`: content that is deleted, content that remains, and confirmation.

use std::net::Ipv4Addr;
use std::sync::Arc;

use e2e::messages::Schema;
use e2e::program::Home;
use e2e::recorder::Recorder;
use e2e::registry::Registry;
use e2e::release::{ARM, MAC, Release, image_layout, target_tag};
use e2e::require;
use ferro_blob_store::InMemoryBlobStore;
use ferro_oci_server::{AppState, InMemoryRegistryMeta, router};

/// Returns the targets in the index that a tag names.
fn targets_in_index(registry: &Registry, tag: &str) -> Vec<String> {
    let index = registry.manifest("widgets", tag);
    let (_, index) = index.expect("the index exists");
    let entries = index["manifests"].as_array().into_iter().flatten();
    let target = |entry: &serde_json::Value| {
        let target = entry["annotations"]["dev.cargo-oci.target"].as_str();
        target.expect("an entry has a target").to_owned()
    };
    entries.map(target).collect()
}

/// Returns the digest of the manifest that `cargo oci manifest --raw` prints for a reference.
fn digest(home: &Home, reference: &str) -> String {
    let raw = home.cargo_oci(["manifest", "--raw", reference]).succeeds();
    e2e::sha256(raw.stdout.as_bytes())
}

#[test]
fn delete_of_tag_keeps_other_tags() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let location = format!("{}/widgets", registry.host());
    let nightly = format!("{location}:nightly");
    home.cargo_oci(["tag", &format!("{location}:1.2.3"), "nightly", "stable"])
        .succeeds();
    let digest = registry.digest("widgets", "1.2.3");

    // Nothing is deleted if there is no terminal for the confirmation, or with `--dry-run`.
    let recorder = Recorder::start(registry.host());
    let asked_for = format!("{}/widgets:nightly", recorder.host());
    home.cargo_oci(["delete", &asked_for])
        .fails_with(2)
        .assert_no_work_started();
    assert!(recorder.take().is_empty());
    let shown = home
        .cargo_oci(["delete", &asked_for, "--dry-run"])
        .succeeds();
    assert_eq!(shown.stdout.trim_end(), asked_for);
    assert!(recorder.take().iter().all(|request| !request.is_write()));

    let outcome = home.cargo_oci(["delete", &nightly, "--yes"]).succeeds();
    assert_eq!(outcome.stdout.trim_end(), nightly);
    assert_eq!(registry.digest("widgets", "nightly"), None);
    for tag in ["1.2.3", "stable"] {
        assert_eq!(registry.digest("widgets", tag), digest, "{tag}");
    }
    home.cargo_oci(["delete", &nightly, "--yes"]).fails_with(4);
}

#[test]
fn delete_of_target_removes_it_from_index() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let release = Release::push(&home, registry.host());
    let location = format!("{}/widgets", registry.host());
    let of_mac = format!("{location}:{}", target_tag(MAC));
    let shown = home.cargo_oci(["delete", &of_mac, "-n"]).succeeds();
    assert_eq!(shown.stdout.trim_end(), of_mac);
    assert_eq!(targets_in_index(&registry, "1.2.3").len(), 2);
    home.cargo_oci(["delete", &of_mac, "--yes"]).succeeds();
    assert_eq!(targets_in_index(&registry, "1.2.3"), [ARM]);
    assert_eq!(registry.digest("widgets", &target_tag(MAC)), None);
    let pull = ["pull", &format!("{location}:1.2.3"), "--target", MAC];
    home.cargo_oci(pull).fails_with(4);

    // A deleted tag's manifest remains until it is deleted by digest.
    release.push_target(&home, registry.host(), MAC, "round ones");
    let mac = registry.digest("widgets", &target_tag(MAC)).unwrap();
    let by_digest = format!("{location}@{mac}");
    let outcome = home.cargo_oci(["delete", &by_digest, "--yes"]).succeeds();
    assert_eq!(
        outcome.stdout.lines().collect::<Vec<_>>(),
        [&of_mac, &by_digest]
    );
    assert_eq!(registry.digest("widgets", &mac), None);
    assert_eq!(targets_in_index(&registry, "1.2.3"), [ARM]);

    // Deleting the last target also deletes the index. The dry run and the deletion both print the index.
    let of_arm = format!("{location}:{}", target_tag(ARM));
    let index = format!("{location}:1.2.3");
    let named = registry.digest("widgets", "1.2.3").unwrap();
    let arm = registry.digest("widgets", &target_tag(ARM)).unwrap();
    let expected = format!("{index}\n{of_arm}\n");
    let shown = home.cargo_oci(["delete", &of_arm, "--dry-run"]).succeeds();
    assert_eq!(shown.stdout, expected);
    let confirmation = home.cargo_oci_at_terminal(&format!("delete {of_arm}"));
    let confirmation = confirmation.answer_prompts(&[("[y/N]", "n\n")]);
    assert!(
        confirmation
            .stdout
            .contains(&format!("and {index}, which has no other entry?")),
        "{confirmation}"
    );
    let delete = ["delete", &of_arm, "--yes", "--message-format=json"];
    let outcome = home.cargo_oci(delete).succeeds();
    let messages = Schema::from_documentation().validate(&outcome.stdout);
    let gone: Vec<_> = messages
        .iter()
        .filter(|message| message["reason"] == "oci-delete")
        .map(|message| [&message["reference"], &message["digest"]])
        .collect();
    assert_eq!(gone, [[&index, &named], [&of_arm, &arm]]);
    assert_eq!(registry.digest("widgets", "1.2.3"), None);
}

#[test]
fn delete_of_target_moves_or_deletes_floating_tags() {
    let home = Home::new();
    let _release = Release::push(&home, "oci:out");
    let location = "oci:out/widgets";
    let [mac, arm] = [MAC, ARM].map(|target| format!("{location}:{}", target_tag(target)));
    let (index, latest) = (format!("{location}:1.2.3"), format!("{location}:latest"));
    home.cargo_oci(["tag", &index, "latest"]).succeeds();
    let shown = home.cargo_oci(["delete", &mac, "--dry-run"]).succeeds();
    assert_eq!(shown.stdout, format!("{mac}\n"));
    let plan =
        format!(" Would index {index} (1 target)\n  Would move {latest}\nWould delete {mac}\n");
    assert!(shown.stderr.contains(&plan), "{shown}");
    let json = ["delete", &mac, "--dry-run", "--message-format=json"];
    let shown = home.cargo_oci(json).succeeds();
    let messages = Schema::from_documentation().validate(&shown.stdout);
    let actions: Vec<_> = messages
        .iter()
        .map(|message| [&message["reference"], &message["action"]])
        .collect();
    assert_eq!(
        actions,
        [
            [&*index, "would-index"],
            [&latest, "would-move"],
            [&mac, "would-delete"]
        ]
    );
    let by_digest = format!("{location}@{}", digest(&home, &index));
    let shown = home.cargo_oci(["delete", &by_digest, "--dry-run"]);
    let shown = shown.succeeds();
    assert_eq!(shown.stdout, format!("{index}\n{latest}\n{by_digest}\n"));
    let kept = "note: kept target tags: `";
    assert!(shown.stderr.contains(kept), "{shown}");

    let done = home.cargo_oci(["delete", &mac, "--yes"]).succeeds();
    assert_eq!(done.stdout, format!("{mac}\n"));
    assert!(done.stderr.contains(&format!("Moved {latest}\n")), "{done}");
    assert_eq!(digest(&home, &latest), digest(&home, &index));
    home.cargo_oci(["pull", &latest, "--target", MAC])
        .fails_with(4);

    let done = home.cargo_oci(["delete", &arm, "--yes"]).succeeds();
    assert_eq!(done.stdout, format!("{latest}\n{index}\n{arm}\n"));
    let tags = home.cargo_oci(["tags", location, "--all"]).succeeds();
    assert_eq!(tags.stdout, "");
}

#[test]
fn delete_of_all_targets_deletes_index() {
    let home = Home::new();
    let _release = Release::push(&home, "oci:out");
    let location = "oci:out/widgets";
    let all = [MAC, ARM].map(|target| format!("{location}:{}", target_tag(target)));
    let expected = format!("{}\n{location}:1.2.3\n{}\n", all[0], all[1]);
    let delete = |flag: &str| {
        home.cargo_oci(["delete", &all[0], &all[1], flag])
            .succeeds()
    };
    assert_eq!(delete("--dry-run").stdout, expected);
    assert_eq!(delete("--yes").stdout, expected);
    let tags = home.cargo_oci(["tags", location, "--all"]).succeeds();
    assert_eq!(tags.stdout, "");
}

#[test]
fn delete_of_manifest_deleted_earlier_succeeds() {
    let location = "oci:out/widgets";
    let [mac, arm] = [MAC, ARM].map(|target| format!("{location}:{}", target_tag(target)));
    let index = format!("{location}:1.2.3");
    let deleting = |named: &[&str], expected: &[&str]| {
        let home = Home::new();
        let _release = Release::push(&home, "oci:out");
        let by_digest = format!("{location}@{}", digest(&home, &mac));
        let with_digest = |name: &&str| name.replace("MAC", &by_digest);
        let named: Vec<_> = named.iter().map(with_digest).collect();
        let expected: String = expected
            .iter()
            .map(|name| with_digest(name) + "\n")
            .collect();
        let delete = |flag| {
            let arguments = ["delete", flag].into_iter();
            let named = named.iter().map(String::as_str);
            home.cargo_oci(arguments.chain(named)).succeeds()
        };
        let shown = delete("--dry-run");
        assert_eq!(shown.stdout, expected, "{named:?}");
        let done = delete("--yes");
        assert_eq!(done.stdout, expected, "{named:?}");
        let left = home.cargo_oci(["tags", location, "--all"]);
        let left = left.succeeds().stdout;
        (left, shown.stderr, done.stderr)
    };
    let note = "kept target tags: ";
    // The index is an argument after its last target. It is deleted with that target and printed once.
    let (left, shown, done) = deleting(&[&mac, &arm, &index], &[&mac, &index, &arm]);
    assert_eq!(left, "");
    assert!(!shown.contains(note) && !done.contains(note), "{shown}");
    // If the index is the first argument, its target tags are deleted before it.
    let (left, shown, done) = deleting(&[&index, &mac, &arm], &[&mac, &arm, &index]);
    assert_eq!(left, "");
    assert!(!shown.contains(note) && !done.contains(note), "{shown}");
    // With `--keep-targets`, a target that is not an argument keeps its tag, and the note names this target only.
    let keep = "--keep-targets";
    let (left, shown, _) = deleting(&[&mac, &index, keep], &[&mac, &index]);
    assert_eq!(left.trim_end(), target_tag(ARM));
    let note_line = shown.lines().find(|line| line.contains(note)).unwrap();
    assert!(
        note_line.ends_with(&format!("{note}`{}`", target_tag(ARM))) && !note_line.contains(MAC),
        "{note_line}"
    );
    // A reference that occurs twice is deleted once. Deleting a manifest also deletes its tag.
    deleting(&[&index, &index], &[&mac, &arm, &index]);
    deleting(&[&mac, &mac], &[&mac]);
    deleting(&["MAC", &mac], &[&mac, "MAC"]);
    deleting(&[&mac, "MAC"], &[&mac, "MAC"]);
}

#[test]
fn delete_by_digest_deletes_manifests_and_blobs() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let digest = image_layout(&home.path().join("image"));
    let location = format!("{}/image", registry.host());
    home.cargo_oci(["copy", "oci:image:1.0", &format!("{location}:1.0")])
        .succeeds();
    let (_, manifest) = registry.manifest("image", "1.0").unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let by_digest = format!("{location}@{digest}");
    home.cargo_oci(["delete", &by_digest, "--yes"]).succeeds();
    assert_eq!(registry.digest("image", "1.0"), None);
    let blob = format!("{location}@{layer}");
    home.cargo_oci(["delete", "--blob", &blob, "--yes"])
        .succeeds();
    home.cargo_oci(["blob", &blob]).fails_with(4);
    // In a layout, deletion has the same result.
    let blob = format!("oci:image@{layer}");
    home.cargo_oci(["delete", &format!("oci:image@{digest}"), "--yes"])
        .succeeds();
    home.cargo_oci(["delete", "--blob", &blob, "--yes"])
        .succeeds();
    home.cargo_oci(["blob", &blob]).fails_with(4);
}

#[test]
fn unsupported_deletion_fails_and_changes_nothing() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::without_deletion(), Home::new());
    let _release = Release::push(&home, registry.host());
    let location = format!("{}/widgets", registry.host());
    let index = registry.digest("widgets", "1.2.3");
    // If the registry does not support deletion, the entry also remains in the index.
    for reference in [
        format!("{location}:1.2.3"),
        format!("{location}:{}", target_tag(MAC)),
        format!("{location}@{}", index.clone().unwrap()),
    ] {
        home.cargo_oci(["delete", &reference, "--yes"])
            .fails_with(8);
    }
    let remove = ["index", "remove", &format!("{location}:1.2.3"), MAC];
    home.cargo_oci(remove).fails_with(8);
    assert_eq!(registry.digest("widgets", "1.2.3"), index);
    assert_eq!(
        registry.tags("widgets"),
        ["1.2.3".to_owned(), target_tag(MAC), target_tag(ARM)]
    );
    let digest = index.unwrap();
    let both = format!("{location}:1.2.3@{digest}");
    for arguments in [
        &["delete", "--yes", &location][..],
        &["delete", "--yes", &both],
        &["delete", "--yes", "--blob", "oci:out:1"],
        &["delete", "--yes", "oci-archive:a.tar:1"],
    ] {
        home.cargo_oci(arguments.iter().copied())
            .fails_with(2)
            .assert_no_work_started();
    }
}

#[test]
fn index_add_and_remove_change_entries() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, "oci:out");
    let index = format!("{}/widgets:1.2.3", registry.host());
    let of = |target: &str| format!("oci:out/widgets:{}", target_tag(target));
    // `index add` creates a missing index, and the target tags.
    home.cargo_oci(["index", "add", &index, &of(MAC)])
        .succeeds();
    assert_eq!(targets_in_index(&registry, "1.2.3"), [MAC]);
    let outcome = home
        .cargo_oci(["index", "add", &index, &of(ARM)])
        .succeeds();
    assert_eq!(targets_in_index(&registry, "1.2.3"), [MAC, ARM]);
    assert_eq!(
        outcome.printed_digest(),
        digest(&home, "oci:out/widgets:1.2.3"),
        "the same manifests give the same index"
    );
    // `index add` replaces the manifest of a released target only with `--overwrite`.
    let other = Release::push(&home, "oci:other");
    other.push_with(&home, "oci:other", MAC, "other ones", &["--overwrite"]);
    let of_other = format!("oci:other/widgets:{}", target_tag(MAC));
    home.cargo_oci(["index", "add", &index, &of_other])
        .fails_with(5);
    home.cargo_oci(["index", "add", &index, &of_other, "--overwrite"])
        .succeeds();
    assert_eq!(
        registry.digest("widgets", &target_tag(MAC)),
        Some(digest(&home, &of_other))
    );

    home.cargo_oci(["index", "remove", &index, "linux/arm64"])
        .succeeds();
    assert_eq!(targets_in_index(&registry, "1.2.3"), [MAC]);
    let outcome = home
        .cargo_oci(["index", "remove", &index, ARM])
        .fails_with(4);
    assert!(
        outcome.stderr.contains(MAC),
        "the error lists the targets: {outcome}"
    );
    let last = ["index", "remove", &index, MAC, "--message-format=json"];
    let outcome = home.cargo_oci(last).succeeds();
    let messages = Schema::from_documentation().validate(&outcome.stdout);
    let gone: Vec<_> = messages
        .iter()
        .filter(|message| message["reason"] == "oci-delete")
        .map(|message| &message["reference"])
        .collect();
    let location = format!("{}/widgets", registry.host());
    assert_eq!(gone, [&format!("{location}:{}", target_tag(MAC)), &index]);
    assert_eq!(registry.digest("widgets", "1.2.3"), None);
    home.cargo_oci(["index", "add", "oci:out/widgets", &of(MAC)])
        .fails_with(2)
        .assert_no_work_started();
}

#[test]
fn index_add_and_remove_accept_images() {
    require!(DockerRegistry, Skopeo);
    let (registry, home) = (Registry::open(), Home::new());
    let digest = image_layout(&home.path().join("image"));
    let index = format!("{}/image:multi", registry.host());
    let added = home.cargo_oci(["index", "add", &index, "oci:image:1.0"]);
    let added = added.succeeds();
    assert!(
        added.stderr.contains(&format!("Indexed {index} (1 entry)")),
        "{added}"
    );
    let (_, document) = registry.manifest("image", "multi").unwrap();
    assert_eq!(document["manifests"][0]["digest"], digest);
    assert_eq!(
        document["manifests"][0]["platform"]["architecture"],
        "amd64"
    );
    let source = format!("docker://{index}");
    let raw = home.skopeo(["inspect", "--raw", "--tls-verify=false", &source]);
    assert!(raw.succeeds().stdout.contains(&digest));
    home.cargo_oci(["index", "remove", &index, &digest])
        .succeeds();
    assert_eq!(registry.digest("image", "multi"), None);
}

#[test]
fn index_is_created_from_target_tags() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let release = Release::push(&home, "oci:out");
    for (target, content) in [(MAC, "round ones"), (ARM, "round ones, of ours")] {
        release.push_with(&home, registry.host(), target, content, &["--no-index"]);
    }
    assert_eq!(registry.digest("widgets", "1.2.3"), None);
    let index = format!("{}/widgets:1.2.3", registry.host());
    let outcome = home.cargo_oci(["index", "assemble", &index]).succeeds();
    let expected = digest(&home, "oci:out/widgets:1.2.3");
    assert_eq!(outcome.printed_digest(), expected);
    assert_eq!(registry.digest("widgets", "1.2.3"), Some(expected));
    let absent = format!("{}/widgets:9.9.9", registry.host());
    home.cargo_oci(["index", "assemble", &absent]).fails_with(4);
}

#[test]
fn ctrl_c_at_confirmation_deletes_nothing() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let tag = registry.digest("widgets", "1.2.3");
    let line = format!("delete {}/widgets:1.2.3; echo \"code $?\"", registry.host());
    let shown = home.cargo_oci_at_terminal(&line);
    let shown = shown.answer_prompts(&[("[y/N]", "\u{3}")]);
    assert!(shown.stdout.contains("code 130"), "{shown}");
    assert_eq!(registry.digest("widgets", "1.2.3"), tag);
}

#[test]
fn delete_of_version_deletes_targets_and_floating_tags() {
    require!(DockerRegistry, Nu);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let location = format!("{}/widgets", registry.host());
    let version = format!("{location}:1.2.3");
    // `1` and `latest` refer to the version. `1.2` refers to another artifact, and `stable` is not a floating tag.
    home.cargo_oci(["tag", &version, "1", "latest", "stable", "v1.2.3"])
        .succeeds();
    let mac = format!("{location}:{}", target_tag(MAC));
    home.cargo_oci(["tag", &mac, "1.2"]).succeeds();
    let index = registry.digest("widgets", "1.2.3").unwrap();

    // The floating tags stay while `v1.2.3` exists.
    let names = |tags: &[&str]| -> String {
        let lines = tags.iter().map(|tag| format!("{location}:{tag}\n"));
        lines.collect()
    };
    let (of_mac, of_arm) = (target_tag(MAC), target_tag(ARM));
    let shown = home.cargo_oci(["delete", &version, "--dry-run"]);
    let shown = shown.succeeds();
    assert_eq!(shown.stdout, names(&[&of_mac, &of_arm, "1.2.3"]));
    let with_v = format!("{location}:v1.2.3");
    home.cargo_oci(["delete", &with_v, "--yes"]).succeeds();

    // The confirmation lists every tag. The answer `n` deletes nothing and fails.
    let line = format!("delete {version}; echo \"code $?\"");
    let asked = home.cargo_oci_at_terminal(&line);
    let asked = asked.answer_prompts(&[("[y/N]", "n\n")]);
    let question =
        format!("Delete the tags {of_mac}, {of_arm}, 1, latest, 1.2.3 of {location}? [y/N]");
    for text in [&*question, "error: aborted; nothing was deleted", "code 1"] {
        assert!(asked.stdout.contains(text), "{text}: {asked}");
    }
    assert_eq!(registry.digest("widgets", "1.2.3"), Some(index.clone()));

    let expected = names(&[&of_mac, &of_arm, "1", "latest", "1.2.3"]);
    let rows = home.nu_value(&format!(
        "oci delete {version} --dry-run | select reference action"
    ));
    let would: Vec<_> = expected
        .lines()
        .map(|name| serde_json::json!({"reference": name, "action": "would delete"}))
        .collect();
    assert_eq!(rows, serde_json::Value::from(would));
    let done = home.cargo_oci(["delete", &version, "--yes"]).succeeds();
    assert_eq!(done.stdout, expected);
    let note = "note: the manifests stay reachable by digest";
    assert!(done.stderr.contains(note), "{done}");
    assert_eq!(registry.tags("widgets"), ["1.2", "stable"]);
    assert!(registry.digest("widgets", &index).is_some());

    // Each command reports that the version does not exist.
    for arguments in [
        &["delete", &version, "--yes"][..],
        &["pull", &version, "--target", MAC],
        &["install", &version, "--target", ARM],
        &["inspect", &version],
    ] {
        home.cargo_oci(arguments.iter().copied()).fails_with(4);
    }
    for command in ["inspect", "delete", "manifest"] {
        let code =
            format!("try {{ oci {command} {version}; 'found' }} catch {{|e| $e.details.code}}");
        assert_eq!(home.nu_value(&code), "oci::not_found", "{command}");
    }
}

#[test]
fn interrupted_deletion_is_completed_by_same_command() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let location = format!("{}/widgets", registry.host());
    let version = format!("{location}:1.2.3");
    home.cargo_oci(["tag", &version, "latest"]).succeeds();
    let (of_mac, of_arm) = (target_tag(MAC), target_tag(ARM));
    // A deletion that was killed after its first tag.
    registry.remove_tag("widgets", &of_mac);
    let done = home.cargo_oci(["delete", &version, "--yes"]).succeeds();
    let tags = [&*of_arm, "latest", "1.2.3"];
    let expected = tags.map(|tag| format!("{location}:{tag}\n")).concat();
    assert_eq!(done.stdout, expected);
    assert_eq!(registry.tags("widgets"), [""; 0]);
}

#[test]
fn delete_without_index_deletes_target_tags() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let version = format!("{}/widgets:1.2.3", registry.host());
    registry.remove_tag("widgets", "1.2.3");
    home.cargo_oci(["delete", &version, "--keep-targets", "--yes"])
        .fails_with(4);
    let done = home.cargo_oci(["delete", &version, "--yes"]).succeeds();
    assert_eq!(done.stdout.lines().count(), 2, "{done}");
    assert_eq!(registry.tags("widgets"), [""; 0]);
}

#[test]
fn version_delete_after_405_deletes_manifests() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    let state = AppState::new(
        Arc::new(InMemoryBlobStore::new()),
        Arc::new(InMemoryRegistryMeta::new()),
    );
    let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = listener.expect("a loopback port is free");
    let host = listener
        .local_addr()
        .expect("the port is known")
        .to_string();
    runtime.spawn(async move { axum::serve(listener, router(state)).await });
    let home = Home::new();
    let _release = Release::push(&home, &host);
    let version = format!("{host}/widgets:1.2.3");

    // Ferro responds to the deletion of a tag with 405, and deletes the manifests by which the client replaces it.
    let done = home.cargo_oci(["delete", &version, "--yes"]).succeeds();
    let tags = [target_tag(MAC), target_tag(ARM), "1.2.3".into()];
    let expected = tags.map(|tag| format!("{host}/widgets:{tag}\n")).concat();
    assert_eq!(done.stdout, expected);
    let left = home.cargo_oci(["tags", &format!("{host}/widgets")]);
    assert_eq!(left.succeeds().stdout, "");
    home.cargo_oci(["pull", &version, "--target", MAC])
        .fails_with(4);
}
