//! Interoperability with ORAS and Skopeo: they copy and pull packages from `cargo oci`, and `cargo oci` reads artifacts
//! from them.

use std::fs;

use e2e::program::Home;
use e2e::registry::Registry;
use e2e::release::{MAC, Release, layer, target_tag};
use e2e::{require, sha256};

#[test]
fn oras_and_skopeo_copy_target_with_same_digest() {
    require!(DockerRegistry, Oras, Skopeo);
    let (registry, home) = (Registry::open(), Home::new());
    let _release = Release::push(&home, registry.host());
    let digest = registry.digest("widgets", &target_tag(MAC));
    assert!(digest.is_some());

    let location =
        |repository: &str| format!("{}/{repository}:{}", registry.host(), target_tag(MAC));
    home.oras(["copy", &location("widgets"), &location("by/oras")])
        .succeeds();
    let docker = |repository: &str| format!("docker://{}", location(repository));
    home.skopeo([
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &docker("widgets"),
        &docker("by/skopeo"),
    ])
    .succeeds();
    for copied in ["by/oras", "by/skopeo"] {
        assert_eq!(
            registry.digest(copied, &target_tag(MAC)),
            digest,
            "{copied}"
        );
        home.cargo_oci(["verify", &location(copied)]).succeeds();
    }
    // ORAS pulls the files and names them by their titles.
    home.oras(["pull", &location("widgets"), "out"]).succeeds();
    let title = format!("round-1.2.3-{MAC}");
    assert_eq!(
        fs::read_to_string(home.path().join("out").join(title)).unwrap(),
        "round ones"
    );
}

#[test]
fn artifact_pushed_by_oras_is_read_by_all_commands() {
    require!(DockerRegistry, Oras);
    let (registry, home) = (Registry::open(), Home::new());
    fs::write(home.path().join("notes.txt"), "hello\n").unwrap();
    let location = format!("{}/acme/notes:1.0", registry.host());
    let typed = ["push", &location, "notes.txt:text/plain"];
    home.oras(typed).succeeds();
    let digest = registry.digest("acme/notes", "1.0").unwrap();

    let listed = home
        .cargo_oci(["tags", "--long", &format!("{}/acme/notes", registry.host())])
        .succeeds();
    assert!(
        listed.stdout.starts_with("1.0\t") && listed.stdout.contains(&digest),
        "{listed}"
    );
    let shown = home.cargo_oci(["inspect", &location]).succeeds();
    assert!(
        shown.stdout.contains("notes.txt") && shown.stdout.contains("text/plain"),
        "{shown}"
    );

    home.cargo_oci(["pull", &location, "--output", "out"])
        .succeeds();
    let pulled = fs::read(home.path().join("out/notes.txt")).unwrap();
    assert_eq!(pulled, b"hello\n");
    let blob = format!("{}/acme/notes@{}", registry.host(), sha256(b"hello\n"));
    assert_eq!(home.cargo_oci(["blob", &blob]).succeeds().stdout, "hello\n");

    // The artifact is copied to a layout, then to an archive, then to a registry.
    let back = format!("{}/acme/back:1.0", registry.host());
    for (from, to) in [
        (location.as_str(), "oci:layout:1.0"),
        ("oci:layout:1.0", "oci-archive:notes.tar:1.0"),
        ("oci-archive:notes.tar:1.0", &back),
    ] {
        home.cargo_oci(["copy", from, to]).succeeds();
    }
    assert_eq!(registry.digest("acme/back", "1.0"), Some(digest));
    home.oras(["pull", &back, "again"]).succeeds();
    let again = fs::read(home.path().join("again/notes.txt")).unwrap();
    assert_eq!(again, b"hello\n");
}

#[test]
fn layer_pushed_by_oras_is_exported() {
    require!(DockerRegistry, Oras);
    let (registry, home) = (Registry::open(), Home::new());
    fs::write(home.path().join("root.tar"), layer("etc.conf")).unwrap();
    let location = format!("{}/acme/root:1", registry.host());
    let typed = "root.tar:application/vnd.oci.image.layer.v1.tar";
    home.oras(["push", &location, typed]).succeeds();
    home.cargo_oci(["export", &location, "--output", "all.tar"])
        .succeeds();
    let exported = fs::read(home.path().join("all.tar")).unwrap();
    let name = b"etc.conf";
    assert!(exported.windows(name.len()).any(|window| window == name));
}
