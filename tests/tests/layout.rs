//! Layouts that pushes to `--registry oci:DIR` write, and their use with Skopeo.

use e2e::layout::Layout;
use e2e::program::Home;
use e2e::registry::Registry;
use e2e::require;
use e2e::sources::Sources;

/// Pushes to `out/` next to `Cargo.toml`, like the first command in the README. Returns the sources.
fn push_shellharden(home: &Home) -> Sources {
    let sources = Sources::shellharden();
    home.cargo_oci(["push", "--package", "shellharden", "--registry", "oci:out"])
        .within(sources.path())
        .succeeds();
    sources
}

#[test]
fn push_to_directory_writes_valid_layout() {
    require!(Shellharden);
    let home = Home::new();
    let sources = push_shellharden(&home);
    let layout = Layout::open(sources.path().join("out/shellharden"));
    let (target, manifest) = layout.manifest(&sources.target_tag()).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    assert_eq!(layout.blob(layer), sources.built_file("shellharden"));
    let (_, index) = layout.manifest(&sources.version()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], target);
}

#[test]
fn repeated_push_to_directory_changes_nothing() {
    require!(Shellharden);
    let home = Home::new();
    let sources = push_shellharden(&home);
    let index = sources.path().join("out/shellharden/index.json");
    let before = std::fs::read(&index).unwrap();
    home.cargo_oci(["push", "--no-build", "--registry", "oci:out"])
        .within(sources.path())
        .succeeds();
    assert_eq!(std::fs::read(index).unwrap(), before);
    let _ = Layout::open(sources.path().join("out/shellharden"));
}

#[test]
fn skopeo_reads_and_copies_pushed_layout() {
    require!(DockerRegistry, Skopeo, Shellharden);
    let (registry, home) = (Registry::open(), Home::new());
    let sources = push_shellharden(&home);
    let directory = sources.path().join("out/shellharden");
    let layout = Layout::open(&directory);
    // Skopeo rejects `__` in the tag of a layout, so the test uses the version tag.
    let source = format!("oci:{}:{}", directory.display(), sources.version());
    let raw = home.skopeo(["inspect", "--raw", &source]).succeeds();
    let index = layout.digest(&sources.version()).unwrap();
    assert_eq!(e2e::sha256(raw.stdout.as_bytes()), index);

    let target = format!(
        "docker://{}/acme/copy:{}",
        registry.host(),
        sources.version()
    );
    home.skopeo(["copy", "--all", "--dest-tls-verify=false", &source, &target])
        .succeeds();
    // Skopeo omits the artifact type when it rewrites the index, and does not change the manifests.
    let (digest, manifest) = layout.manifest(&sources.target_tag()).unwrap();
    assert_eq!(
        registry.manifest("acme/copy", &digest),
        Some((digest.clone(), manifest))
    );
    let (_, copied) = registry.manifest("acme/copy", &sources.version()).unwrap();
    assert_eq!(copied["manifests"][0]["digest"], digest);

    // `pull` recognizes a package even if its index has lost the artifact type.
    let reference = format!("{}/acme/copy:{}", registry.host(), sources.version());
    let output = sources.sibling("pulled");
    let output = output.to_str().expect("the path is UTF-8");
    home.cargo_oci(["pull", &reference, "--output", output])
        .succeeds();
    let pulled = std::fs::read(sources.sibling("pulled/shellharden")).unwrap();
    assert_eq!(pulled, sources.built_file("shellharden"));
}
