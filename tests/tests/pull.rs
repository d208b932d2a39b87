//! `cargo oci pull`, and other clients that pull pushed packages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::program::Home;
use e2e::recorder::Recorder;
use e2e::registry::Registry;
use e2e::require;
use e2e::sha256;
use e2e::sources::{Sources, host_triple};
use serde_json::json;

/// Returns the name, the content and the executable bit of each file in a directory, sorted by name.
fn files(directory: &Path) -> Vec<(String, Vec<u8>, bool)> {
    let entries = fs::read_dir(directory).expect("the output directory exists");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("the output can be read");
            let mode = entry
                .metadata()
                .expect("a file has a mode")
                .permissions()
                .mode();
            let bytes = fs::read(entry.path()).expect("the output can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, bytes, mode & 0o111 == 0o111)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn pull_writes_pushed_files() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    home.cargo_oci(["push", "--registry", registry.host()])
        .within(sources.path())
        .succeeds();
    let built = |name: &str| sources.built_file(name);
    let expected = [
        ("libshapes.so".to_owned(), built("libshapes.so"), false),
        ("round".to_owned(), built("round"), true),
        ("square".to_owned(), built("square"), true),
    ];
    // The references contain the version, the target tag or no tag. A reference that has no tag selects the highest
    // release.
    for tag in [
        ":1.2.3".to_owned(),
        format!(":{}", sources.target_tag()),
        String::new(),
    ] {
        let reference = format!("{}/widgets{tag}", registry.host());
        let directory = sources.sibling(&format!("pulled{}", tag.len()));
        home.cargo_oci(["pull", &reference, "--output", directory.to_str().unwrap()])
            .succeeds();
        let mut found = files(&directory);
        // The executable bit of the library depends on the build and is not compared.
        found[0].2 = false;
        assert_eq!(found, expected, "of `{reference}`");
    }
}

#[test]
fn pull_with_selection_fetches_selected_files_only() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    home.cargo_oci(["push", "--registry", registry.host()])
        .within(sources.path())
        .succeeds();
    let recorder = Recorder::start(registry.host());
    let reference = format!("{}/widgets:1.2.3", recorder.host());
    let pull = |more: &[&str]| {
        let arguments = ["pull", &reference, "--output"].into_iter();
        home.cargo_oci(arguments.chain(more.iter().copied()))
    };
    let names = |directory: &str| {
        let files = files(&home.path().join(directory));
        files.into_iter().map(|(name, ..)| name).collect::<Vec<_>>()
    };
    pull(&["some", "--include=r*", "--include=*.so"]).succeeds();
    assert_eq!(names("some"), ["libshapes.so", "round"]);
    let blobs = recorder.take();
    let blobs = blobs
        .iter()
        .filter(|request| request.path.contains("/blobs/"));
    assert_eq!(blobs.count(), 3, "the config and the two files");
    let title = format!("square-1.2.3-{}", host_triple());
    pull(&["titled", "--titles", "--include=square-*"]).succeeds();
    assert_eq!(names("titled"), [title]);
    let refused = pull(&["none", "--include=*.exe"]).fails_with(4);
    assert!(refused.stderr.contains("`round`, `square`"), "{refused}");
    assert!(!home.path().join("none").exists());
}

#[test]
fn pull_with_titles_uses_published_file_names() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    home.cargo_oci(["push", "--bin", "round", "--registry", registry.host()])
        .within(sources.path())
        .succeeds();
    let reference = format!("{}/widgets:1.2.3", registry.host());
    let directory = sources.sibling("pulled");
    home.cargo_oci([
        "pull",
        &reference,
        "--titles",
        "--output",
        directory.to_str().unwrap(),
    ])
    .succeeds();
    let title = format!("round-1.2.3-{}", host_triple());
    assert_eq!(
        files(&directory),
        [(title, sources.built_file("round"), true)]
    );
}

#[test]
fn pull_from_layout_writes_pushed_files() {
    require!(Shellharden);
    let (home, sources) = (Home::new(), Sources::shellharden());
    home.cargo_oci(["push", "--registry", "oci:out"])
        .within(sources.path())
        .succeeds();
    let reference = format!("oci:out/shellharden:{}", sources.version());
    home.cargo_oci(["pull", &reference, "-o", "pulled"])
        .within(sources.path())
        .succeeds();
    let found = files(&sources.path().join("pulled"));
    assert_eq!(
        found,
        [(
            "shellharden".to_owned(),
            sources.built_file("shellharden"),
            true
        )]
    );
}

#[test]
fn skopeo_pulls_same_content() {
    require!(DockerRegistry, Skopeo, Shellharden);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::shellharden());
    home.cargo_oci(["push", "--registry", registry.host()])
        .within(sources.path())
        .succeeds();
    let output = sources.sibling("copied");
    let source = format!(
        "docker://{}/shellharden:{}",
        registry.host(),
        sources.target_tag()
    );
    let target = format!("dir:{}", output.display());
    home.skopeo(["copy", "--src-tls-verify=false", &source, &target])
        .succeeds();
    let built = sources.built_file("shellharden");
    let digest = e2e::sha256(&built);
    let hex = digest.strip_prefix("sha256:").unwrap();
    assert_eq!(fs::read(output.join(hex)).unwrap(), built);
    let manifest = fs::read(output.join("manifest.json")).unwrap();
    let stored = registry.digest("shellharden", &sources.target_tag());
    assert_eq!(Some(e2e::sha256(&manifest)), stored);
}

#[test]
fn pull_of_missing_content_fails_and_writes_nothing() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    home.cargo_oci(["push", "--registry", registry.host()])
        .within(sources.path())
        .succeeds();
    let output = sources.sibling("pulled");
    for name in ["widgets:9.9.9", "gadgets:1.2.3"] {
        let reference = format!("{}/{name}", registry.host());
        home.cargo_oci(["pull", &reference, "--output", output.to_str().unwrap()])
            .fails_with(4);
    }
    let reference = format!("{}/widgets:1.2.3", registry.host());
    let directory = output.to_str().unwrap();
    home.cargo_oci([
        "pull",
        &reference,
        "--target",
        "s390x-unknown-linux-gnu",
        "-o",
        directory,
    ])
    .fails_with(4);
    assert!(!output.exists() || files(&output).is_empty());
}

#[test]
fn directory_packed_by_oras_is_pulled_as_a_directory() {
    let home = Home::new();
    let dist = home.path().join("dist");
    fs::create_dir_all(dist.join("docs")).unwrap();
    fs::write(dist.join("docs/use.md"), "use").unwrap();
    fs::write(dist.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dist.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    let tar = std::process::Command::new("tar")
        .args(["--create", "--gzip", "--file", "dist.tar.gz", "dist"])
        .current_dir(home.path())
        .status();
    assert!(tar.unwrap().success());
    let blobs = home.path().join("layout/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let store = |media_type: &str, bytes: &[u8]| {
        let digest = sha256(bytes);
        fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let layer = fs::read(home.path().join("dist.tar.gz")).unwrap();
    let mut layer = store("application/vnd.oci.image.layer.v1.tar+gzip", &layer);
    layer["annotations"] = json!({
        "org.opencontainers.image.title": "dist", "io.deis.oras.content.unpack": "true",
    });
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let image = json!({
        "schemaVersion": 2, "mediaType": manifest, "artifactType": "application/x",
        "config": store("application/vnd.oci.empty.v1+json", b"{}"), "layers": [layer],
    });
    let mut entry = store(manifest, image.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    let layout = home.path().join("layout");
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();

    home.cargo_oci(["pull", "oci:layout:1", "--output", "out"])
        .succeeds();
    let out = home.path().join("out");
    let expected = [("run".to_owned(), b"#!/bin/sh\n".to_vec(), true)];
    fs::rename(out.join("dist/docs"), home.path().join("docs")).unwrap();
    assert_eq!(files(&out.join("dist")), expected);
    assert_eq!(fs::read(home.path().join("docs/use.md")).unwrap(), b"use");
    fs::rename(home.path().join("docs"), out.join("dist/docs")).unwrap();
    home.cargo_oci(["verify", "oci:layout:1", "out"]).succeeds();
    home.cargo_oci(["pull", "oci:layout:1", "--titles", "--output", "packed"])
        .succeeds();
    assert!(home.path().join("packed/dist").is_file());
}
