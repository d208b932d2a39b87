//! `cargo oci push` of real packages to a real registry.

use std::collections::BTreeMap;

use e2e::messages::Schema;
use e2e::program::{Home, Outcome};
use e2e::recorder::Recorder;
use e2e::registry::Registry;
use e2e::sources::{Sources, host_triple};
use e2e::{require, sha256};
use serde_json::Value;

const REPOSITORY: &str = "acme/shellharden";

/// Returns the `--registry` argument: `host` with the prefix `acme`.
fn registry_argument(host: &str) -> String {
    format!("{host}/acme")
}

/// Returns the digests of the version tag and the target tag.
fn digests(registry: &Registry, sources: &Sources) -> [Option<String>; 2] {
    [sources.version(), sources.target_tag()].map(|tag| registry.digest(REPOSITORY, &tag))
}

/// Changes the sources so that the next build produces a different binary.
fn change_sources(sources: &Sources) {
    sources.append(
        "src/main.rs",
        "#[used]\nstatic CHANGED: [u8; 7] = *b\"changed\";",
    );
}

#[test]
fn layer_has_bytes_of_the_built_file() {
    require!(DockerRegistry, Shellharden);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::shellharden());
    let pushed = home
        .cargo_oci(["push", "--registry", &registry_argument(registry.host())])
        .within(sources.path())
        .succeeds();

    let binary = sources.built_file("shellharden");
    let (_, manifest) = registry
        .manifest(REPOSITORY, &sources.target_tag())
        .unwrap();
    let index = registry.digest(REPOSITORY, &sources.version()).unwrap();
    let name = format!("{}/{REPOSITORY}:{}", registry.host(), sources.version());
    assert_eq!(pushed.stdout, format!("{name}@{index}\n"));
    let last = pushed.stderr.lines().last().unwrap_or_default();
    assert_eq!(last.trim_start(), format!("Published {name}"));
    assert_eq!(
        manifest["artifactType"],
        "application/vnd.cargo-oci.package-target.v1"
    );
    let layers = manifest["layers"].as_array().unwrap();
    let [layer] = layers.as_slice() else {
        panic!("expected one layer: {manifest}");
    };
    assert_eq!(layer["digest"], sha256(&binary));
    assert_eq!(layer["size"], binary.len());
    assert_eq!(layer["mediaType"], "application/vnd.cargo-oci.bin");
    let title = format!("shellharden-{}-{}", sources.version(), host_triple());
    assert_eq!(
        layer["annotations"]["org.opencontainers.image.title"],
        title
    );
    assert_eq!(layer["annotations"]["dev.cargo-oci.file"], "shellharden");
    assert_eq!(layer["annotations"]["dev.cargo-oci.kind"], "bin");
    assert_eq!(layer["annotations"]["dev.cargo-oci.mode"], "0755");
    assert_eq!(registry.blob(REPOSITORY, &sha256(&binary)), binary);

    let annotations = &manifest["annotations"];
    assert_eq!(
        annotations["org.opencontainers.image.version"],
        sources.version()
    );
    assert_eq!(annotations["org.opencontainers.image.licenses"], "MPL-2.0");
    assert_eq!(annotations["dev.cargo-oci.target"], host_triple());
}

#[test]
fn version_tag_is_an_index_of_targets() {
    require!(DockerRegistry, Shellharden);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::shellharden());
    home.cargo_oci(["push", "--registry", &registry_argument(registry.host())])
        .within(sources.path())
        .succeeds();
    assert_eq!(
        registry.tags(REPOSITORY),
        [sources.version(), sources.target_tag()]
    );
    let (_, index) = registry.manifest(REPOSITORY, &sources.version()).unwrap();
    assert_eq!(
        index["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(
        index["artifactType"],
        "application/vnd.cargo-oci.package.v1"
    );
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{index}");
    let target = registry.digest(REPOSITORY, &sources.target_tag());
    assert_eq!(entries[0]["digest"], target.unwrap());
    assert_eq!(
        entries[0]["annotations"]["dev.cargo-oci.target"],
        host_triple()
    );
    assert_eq!(entries[0]["platform"]["os"], "linux");
}

#[test]
fn repeated_push_sends_nothing() {
    require!(DockerRegistry, Shellharden);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::shellharden());
    let recorder = Recorder::start(registry.host());
    let push = home
        .cargo_oci(["push", "--registry", &registry_argument(&recorder.host())])
        .within(sources.path());
    let first = push.clone().succeeds();
    assert!(
        recorder
            .take()
            .iter()
            .any(e2e::recorder::RecordedRequest::is_write)
    );
    let before = digests(&registry, &sources);

    let second = push.succeeds();
    let requests = recorder.take();
    assert!(requests.len() <= 2, "{requests:#?}");
    assert!(
        !requests
            .iter()
            .any(e2e::recorder::RecordedRequest::is_write),
        "{requests:#?}"
    );
    assert_eq!(second.stdout, first.stdout);
    let last = second.stderr.lines().last().unwrap_or_default();
    assert!(last.trim_start().starts_with("Unchanged "), "{second}");
    assert_eq!(digests(&registry, &sources), before);
}

#[test]
fn large_file_is_read_and_sent_once() {
    require!(DockerRegistry, Shellharden);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::shellharden());
    let recorder = Recorder::start(registry.host());
    let large = "0123456789abcdef".repeat(9 << 16);
    sources.write("made/shellharden", &large);
    let pushed = home
        .cargo_oci([
            "push",
            "--file",
            "shellharden=made/shellharden",
            "--target",
            host_triple(),
            "--registry",
            &registry_argument(&recorder.host()),
        ])
        .within(sources.path())
        .succeeds();
    let digest = sha256(large.as_bytes());
    assert_eq!(registry.blob(REPOSITORY, &digest), large.as_bytes());
    let requests = recorder.take();
    let count = |method: &str, part: &str| {
        let is_one = |request: &&e2e::recorder::RecordedRequest| {
            request.method == method && request.path.contains(part)
        };
        requests.iter().filter(is_one).count()
    };
    assert_eq!(count("PATCH", "/blobs/uploads/"), 1, "{requests:#?}");
    assert_eq!(
        count("HEAD", &format!("/blobs/{digest}")),
        1,
        "{requests:#?}"
    );
    assert!(pushed.stderr.contains("Uploaded shellharden-"), "{pushed}");
}

#[test]
fn repeated_push_restores_deleted_tag() {
    require!(DockerRegistry, Shellharden);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::shellharden());
    let push = home
        .cargo_oci(["push", "--registry", &registry_argument(registry.host())])
        .within(sources.path());
    push.clone().succeeds();
    let before = digests(&registry, &sources);
    for tag in [sources.target_tag(), sources.version()] {
        registry.remove_tag(REPOSITORY, &tag);
        assert_eq!(registry.digest(REPOSITORY, &tag), None);
        push.clone().succeeds();
        assert_eq!(
            digests(&registry, &sources),
            before,
            "after `{tag}` was lost"
        );
    }
}

#[test]
fn changed_files_of_released_version_are_rejected() {
    require!(DockerRegistry, Shellharden);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::shellharden());
    let registry_argument = registry_argument(registry.host());
    let push = home
        .cargo_oci(["push", "--registry", &registry_argument])
        .within(sources.path());
    push.clone().succeeds();
    let before = digests(&registry, &sources);
    let first = sources.built_file("shellharden");

    change_sources(&sources);
    push.fails_with(5);
    assert_ne!(
        sources.built_file("shellharden"),
        first,
        "the change produced a different binary"
    );
    assert_eq!(digests(&registry, &sources), before);

    let pushed = home
        .cargo_oci(["push", "--overwrite", "--registry", &registry_argument])
        .within(sources.path())
        .succeeds();
    let [version, target] = digests(&registry, &sources);
    assert_eq!(version, Some(pushed.printed_digest()));
    assert_ne!([version, target], before);
}

#[test]
fn same_sources_give_same_digest_in_any_directory() {
    require!(DockerRegistry, Shellharden);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::shellharden());
    home.cargo_oci(["push", "--registry", &registry_argument(registry.host())])
        .within(sources.path())
        .succeeds();
    let expected = digests(&registry, &sources);
    assert!(expected.iter().all(Option::is_some));

    // The home directory, the source directory and the registry differ from those of the first push.
    let (other, other_home) = (Registry::open(), Home::new());
    let copy = Sources::shellharden_in("a/much/deeper/location");
    other_home
        .cargo_oci([
            "oci",
            "push",
            "--registry",
            &registry_argument(other.host()),
        ])
        .within(copy.path())
        .succeeds();
    assert_eq!(digests(&other, &copy), expected);

    // `--no-build` pushes the same content as the build.
    let third = Registry::open();
    other_home
        .cargo_oci([
            "push",
            "--no-build",
            "--registry",
            &registry_argument(third.host()),
        ])
        .within(copy.path())
        .succeeds();
    assert_eq!(digests(&third, &copy), expected);

    // A push to a directory results in the same digests.
    home.cargo_oci(["push", "--no-build", "--registry", "oci:out"])
        .within(sources.path())
        .succeeds();
    let layout = e2e::layout::Layout::open(sources.path().join("out/shellharden"));
    let tags = [sources.version(), sources.target_tag()];
    assert_eq!(tags.map(|tag| layout.digest(&tag)), expected);
}

#[test]
fn dry_run_changes_nothing() {
    require!(DockerRegistry, Shellharden);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::shellharden());
    let recorder = Recorder::start(registry.host());
    let shown = home
        .cargo_oci([
            "push",
            "--dry-run",
            "--message-format=json",
            "--registry",
            &registry_argument(&recorder.host()),
        ])
        .within(sources.path())
        .succeeds();
    let layer = sha256(&sources.built_file("shellharden"));
    assert!(
        shown.stdout.contains(&layer),
        "the manifest is shown: {shown}"
    );
    let requests = recorder.take();
    assert!(
        !requests
            .iter()
            .any(e2e::recorder::RecordedRequest::is_write),
        "{requests:#?}"
    );
    assert_eq!(registry.tags(REPOSITORY), [""; 0]);
}

#[test]
fn dry_run_of_rejected_push_exits_with_same_code() {
    let (home, sources) = (Home::new(), Sources::widgets());
    sources.write("made", "first");
    let push = |more: &[&str]| {
        let fixed = ["push", "--file=round=made", "--registry=oci:out"];
        let run = home.cargo_oci(fixed.iter().chain(more).copied());
        run.within(sources.path())
    };
    let first = push(&[]).succeeds().printed_digest();
    sources.write("made", "second");
    let schema = Schema::from_documentation();
    let plan = |outcome: &e2e::program::Outcome| {
        let messages = schema.validate(&outcome.stdout);
        let is_plan = |message: &Value| message["reason"] == "oci-plan";
        let plans: Vec<_> = messages.into_iter().filter(is_plan).collect();
        assert_eq!(plans.len(), 1, "{outcome}");
        let actions = plans[0]["tags"].as_array().unwrap().iter();
        let actions = actions.map(|tag| tag["action"].as_str().unwrap().to_owned());
        (actions.collect::<Vec<_>>(), plans[0].clone())
    };
    let refused = push(&["--dry-run", "--message-format=json"]).fails_with(5);
    assert!(
        refused.stderr.contains("`round` has different content"),
        "{refused}"
    );
    let (actions, shown) = plan(&refused);
    assert_eq!(actions, ["refuse", "write"]);
    assert_ne!(shown["tags"][1]["digest"], first);
    let allowed = push(&["--dry-run", "--message-format=json", "--overwrite"]).succeeds();
    let (actions, overwritten) = plan(&allowed);
    assert_eq!(actions, ["replace", "write"]);
    assert_eq!(overwritten["manifest"], shown["manifest"]);
    // The dry run changed nothing. The real push has the result that the dry run printed.
    sources.write("made", "first");
    assert_eq!(push(&[]).succeeds().printed_digest(), first);
    sources.write("made", "second");
    let done = push(&["--overwrite"]).succeeds();
    assert_eq!(shown["tags"][1]["digest"], done.printed_digest());
}

/// Returns the lines on stderr, with the target triple replaced by `TARGET`.
fn status_lines(outcome: &Outcome) -> Vec<String> {
    let lines = outcome.stderr.lines();
    let lines = lines.map(|line| line.trim().replace(host_triple(), "TARGET"));
    lines.collect()
}

#[test]
fn dry_run_prints_plan_in_status_lines() {
    let (home, sources) = (Home::new(), Sources::widgets());
    sources.write("made", "first");
    sources.write("notes", "text");
    let push = |more: &[&str]| {
        let fixed = [
            "push",
            "--file=round=made",
            "--file=notes=notes",
            "--registry=oci:out",
        ];
        let run = home.cargo_oci(fixed.iter().chain(more).copied());
        run.within(sources.path())
    };
    let new = push(&["--dry-run"]).succeeds();
    assert_eq!(new.stdout, "");
    let mut lines = status_lines(&new);
    lines[..3].sort();
    let config = lines.remove(0);
    assert!(config.starts_with("Would upload config ("), "{new}");
    assert_eq!(
        lines,
        [
            "Would upload notes (4 B)",
            "Would upload round-1.2.3-TARGET (5 B)",
            "Would tag oci:out/widgets:1.2.3__TARGET",
            "Would index oci:out/widgets:1.2.3 (1 target)",
        ]
    );
    assert!(!sources.path().join("out").exists(), "{new}");

    push(&[]).succeeds();
    let same = push(&["--dry-run"]).succeeds();
    assert_eq!(
        status_lines(&same),
        [
            "Unchanged oci:out/widgets:1.2.3__TARGET",
            "Unchanged oci:out/widgets:1.2.3",
        ]
    );
    let two = push(&["--tag=nightly", "--tag=1.2.3", "--dry-run"]).succeeds();
    assert_eq!(
        status_lines(&two),
        [
            "Would tag oci:out/widgets:nightly__TARGET",
            "Would index oci:out/widgets:nightly (1 target)",
            "Unchanged oci:out/widgets:1.2.3__TARGET",
            "Unchanged oci:out/widgets:1.2.3",
        ]
    );

    sources.write("made", "second");
    let refused = push(&["--dry-run"]).fails_with(5);
    assert_eq!(refused.stdout, "");
    assert_eq!(
        status_lines(&refused)[0],
        "Would refuse oci:out/widgets:1.2.3__TARGET: it was released with different files"
    );
    let replaced = push(&["--dry-run", "--overwrite"]).succeeds();
    let lines = status_lines(&replaced);
    assert!(
        lines.contains(&"Exists 1 blob (4 B)".to_owned()),
        "{replaced}"
    );
    let moved = "Would move oci:out/widgets:1.2.3__TARGET".to_owned();
    assert!(lines.contains(&moved), "{replaced}");
}

#[test]
fn overwrite_moves_floating_tags() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let push = |content: &str, flag: &str| {
        sources.write("made", content);
        let line = ["push", "--file=round=made", "--registry=oci:out", flag];
        home.cargo_oci(line).within(sources.path()).succeeds()
    };
    push("first", "--floating");
    sources.write("made", "second");
    let line = ["--file=round=made", "--registry=oci:out", "--overwrite"];
    let line = ["push", "--dry-run"].into_iter().chain(line);
    let shown = home.cargo_oci(line).within(sources.path()).succeeds();
    let end = "  Would move oci:out/widgets:latest\n";
    assert!(shown.stderr.ends_with(end), "{shown}");
    let replaced = push("second", "--overwrite");
    for tag in ["1.2", "1", "latest"] {
        let moved = format!("Moved oci:out/widgets:{tag}\n");
        assert!(replaced.stderr.contains(&moved), "{replaced}");
        let pull = format!("oci:out/widgets:{tag}");
        let pull = home.cargo_oci(["pull", &pull, "--output", tag]);
        pull.within(sources.path()).succeeds();
        let path = sources.path().join(tag).join("round");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "second");
    }
}

#[test]
fn programs_and_libraries_are_pushed_as_layers() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    home.cargo_oci(["push", "--registry", registry.host()])
        .within(sources.path())
        .succeeds();
    let (_, manifest) = registry.manifest("widgets", &sources.target_tag()).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let text = |layer: &Value, key: &str| layer["annotations"][key].as_str().unwrap().to_owned();
    let found: BTreeMap<_, _> = layers
        .iter()
        .map(|layer| {
            let title = text(layer, "org.opencontainers.image.title");
            let file = text(layer, "dev.cargo-oci.file");
            assert_eq!(layer["digest"], sha256(&sources.built_file(&file)));
            (title, (file, text(layer, "dev.cargo-oci.kind")))
        })
        .collect();
    let expected = [
        ("round", "", "round", "bin"),
        ("square", "", "square", "bin"),
        ("libshapes", ".so", "libshapes.so", "cdylib"),
    ];
    let expected = expected.map(|(name, extension, file, kind)| {
        let title = format!("{name}-1.2.3-{}{extension}", host_triple());
        (title, (file.to_owned(), kind.to_owned()))
    });
    assert_eq!(found, BTreeMap::from(expected));
}
