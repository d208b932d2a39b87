//! Examples in the help of every command. They run unchanged, except for the host, against a registry with matching
//! content.

use e2e::program::Home;
use e2e::registry::Registry;
use e2e::require;
use e2e::sample_registry::{INDEX, MANIFEST, put_blob, put_manifest};
use e2e::sha256;
use serde_json::{Value, json};

/// Hosts in the examples. The test replaces all of them with the host of one registry.
const HOSTS: [&str; 5] = [
    "ghcr.io",
    "quay.io",
    "docker.io",
    "registry.acme.dev",
    "mirror.acme.dev",
];

/// Targets of the releases of `acme/widgets`, each with its platform.
const TARGETS: [(&str, &str); 4] = [
    ("x86_64-unknown-linux-musl", "linux/amd64"),
    ("x86_64-unknown-linux-gnu", "linux/amd64"),
    ("aarch64-unknown-linux-gnu", "linux/arm64"),
    ("aarch64-apple-darwin", "darwin/arm64"),
];

#[test]
fn all_help_examples_succeed() {
    require!(DockerRegistry, Nu);
    let registry = Registry::open();
    push_content(&registry);
    let home = Home::new();
    let commands = home.nu_value(
        "scope commands | where type == plugin and name starts-with 'oci ' | select name examples",
    );
    let mut commands: Vec<_> = commands
        .as_array()
        .expect("the result is a list")
        .iter()
        .collect();
    // `oci catalog` would list layouts that other examples create, and `oci delete` would delete content that other
    // examples read, so these two commands run last.
    commands.sort_by_key(|command| match command["name"].as_str() {
        Some("oci catalog") => 1,
        Some("oci delete") => 2,
        _ => 0,
    });
    let mut count = 0;
    for command in commands {
        let examples = command["examples"]
            .as_array()
            .expect("a command has a list of examples");
        assert!(!examples.is_empty(), "{command}");
        for example in examples {
            let example = example["example"].as_str().expect("the value is a string");
            let mut script = example.to_owned();
            for host in HOSTS {
                script = script.replace(host, registry.host());
            }
            // `collect` reads the whole stream, because an error may follow the first rows.
            let shown = home.nu(&format!("{script} | collect | to json --raw"));
            let shown = shown.succeeds();
            let value: Value = serde_json::from_str(&shown.stdout).expect("JSON");
            assert!(!value.is_null(), "`{example}` gives nothing");
            count += 1;
        }
    }
    assert!(count > 25, "only {count} examples");
}

/// Pushes the content that the examples refer to.
fn push_content(registry: &Registry) {
    for repository in ["acme/widgets", "acme/gadgets", "team-a/app", "ci/builds"] {
        put_package(registry, repository, "1.2.3");
        put_package(registry, repository, "latest");
        put_package(registry, repository, "nightly");
    }
    put_blob(registry, "acme/widgets", b"");
    put_image(registry, "library/nginx");
    put_sbom(registry, "acme/widgets", "1.2.3");
}

/// Pushes a release of a package, for all targets.
fn put_package(registry: &Registry, repository: &str, tag: &str) {
    put_blob(registry, repository, b"MIT");
    let mut entries = Vec::new();
    for (target, platform) in TARGETS
        .into_iter()
        .chain([(e2e::sources::host_triple(), "linux/amd64")])
    {
        let config = json!({
            "name": "widgets",
            "version": "1.2.3",
            "purl": "pkg:cargo/widgets@1.2.3",
            "profile": "release",
            "target": target,
            "rustc": "1.95.0",
        });
        let config = config.to_string().into_bytes();
        put_blob(registry, repository, &config);
        let program = format!("the program for {target}").into_bytes();
        put_blob(registry, repository, &program);
        let layer = |name: &str, kind: &str, content: &[u8]| {
            json!({
                "mediaType": "application/octet-stream",
                "digest": sha256(content),
                "size": content.len(),
                "annotations": {
                    "org.opencontainers.image.title": name,
                    "dev.cargo-oci.file": name,
                    "dev.cargo-oci.kind": kind,
                },
            })
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.cargo-oci.package-target.v1",
            "config": {
                "mediaType": "application/vnd.cargo-oci.config.v1+json",
                "digest": sha256(&config),
                "size": config.len(),
            },
            "layers": [layer("widgets", "bin", &program), layer("LICENSE", "file", b"MIT")],
            "annotations": {
                "dev.cargo-oci.target": target,
                "dev.cargo-oci.platform": platform,
                "org.opencontainers.image.title": "widgets",
                "org.opencontainers.image.version": "1.2.3",
                "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
            },
        });
        let manifest = manifest.to_string().into_bytes();
        let (os, architecture) = platform.split_once('/').expect("a platform");
        entries.push(json!({
            "mediaType": MANIFEST,
            "digest": sha256(&manifest),
            "size": manifest.len(),
            "platform": {"os": os, "architecture": architecture},
            "annotations": {"dev.cargo-oci.target": target},
        }));
        put_manifest(
            registry,
            repository,
            &format!("{tag}__{target}"),
            MANIFEST,
            manifest,
        );
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": entries,
        "annotations": {
            "org.opencontainers.image.version": "1.2.3",
            "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
        },
    });
    put_manifest(
        registry,
        repository,
        tag,
        INDEX,
        index.to_string().into_bytes(),
    );
}

/// Pushes an image for two platforms.
fn put_image(registry: &Registry, repository: &str) {
    let config = json!({"os": "linux", "architecture": "arm64", "config": {"Env": ["PATH=/bin"]}});
    let config = config.to_string().into_bytes();
    put_blob(registry, repository, &config);
    let image = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": sha256(&config),
            "size": config.len(),
        },
        "layers": [],
    });
    let image = image.to_string().into_bytes();
    let entry = json!({
        "mediaType": MANIFEST,
        "digest": sha256(&image),
        "size": image.len(),
        "platform": {"os": "linux", "architecture": "arm64"},
    });
    put_manifest(registry, repository, "one", MANIFEST, image);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    put_manifest(
        registry,
        repository,
        "latest",
        INDEX,
        index.to_string().into_bytes(),
    );
}

/// Pushes an SBOM that refers to a tag's manifest, and the fallback tag for registries that have no referrers API.
fn put_sbom(registry: &Registry, repository: &str, tag: &str) {
    let subject = registry.digest(repository, tag).expect("the tag exists");
    let contents = b"SPDXVersion: SPDX-2.3";
    put_blob(registry, repository, contents);
    put_blob(registry, repository, b"{}");
    let sbom = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/spdx+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": sha256(b"{}"),
            "size": 2,
        },
        "layers": [{
            "mediaType": "application/spdx+json",
            "digest": sha256(contents),
            "size": contents.len(),
            "annotations": {"org.opencontainers.image.title": "sbom.json"},
        }],
        "subject": {"mediaType": INDEX, "digest": subject, "size": 1},
    });
    let sbom = sbom.to_string().into_bytes();
    let entry = json!({
        "mediaType": MANIFEST,
        "digest": sha256(&sbom),
        "size": sbom.len(),
        "artifactType": "application/spdx+json",
    });
    put_manifest(registry, repository, "sbom", MANIFEST, sbom);
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    let fallback = subject.replace(':', "-");
    put_manifest(
        registry,
        repository,
        &fallback,
        INDEX,
        list.to_string().into_bytes(),
    );
}
