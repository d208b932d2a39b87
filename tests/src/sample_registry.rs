//! Generated content of a registry: many small artifacts whose properties are known.
//!
//! Five teams have ten repositories each, `team-a/app-0` to `team-e/app-9`. Each repository has forty tags: the
//! releases `1.0.0` to `1.3.7`, created one hour apart; `latest`, the same manifest as `1.3.7`; and `nightly`, an index
//! of `1.0.0` for `linux/amd64` and `1.0.1` for `linux/arm64`.

use hyper::{Method, Request};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::loopback::send;
use crate::registry::Registry;
use crate::sha256;

/// Number of repositories.
pub const REPOSITORIES: usize = 50;
/// Number of releases in a repository. Each repository has two more tags, `latest` and `nightly`.
pub const RELEASES: usize = 38;
/// Layer sizes in bytes, which the releases use in rotation.
pub const LAYER_SIZES: [usize; 3] = [1_000, 20_000, 300_000];

/// Media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Release of an artifact in a repository.
#[derive(Clone, Debug)]
pub struct SampleRelease {
    /// Repository, such as `team-a/app-0`.
    pub repository: String,
    /// Version, such as `1.0.0`.
    pub version: String,
    /// Creation time.
    pub created: Timestamp,
    /// Size of the layer in bytes.
    pub layer: usize,
}

/// Returns the name of the repository with this index.
#[must_use]
pub fn repository(number: usize) -> String {
    let team = char::from(b"abcde"[number / 10]);
    format!("team-{team}/app-{}", number % 10)
}

/// Returns the releases of a repository, oldest first.
#[must_use]
pub fn releases(number: usize) -> Vec<SampleRelease> {
    let first = number * RELEASES;
    let release = |at: usize| SampleRelease::new(&repository(number), at, first + at);
    (0..RELEASES).map(release).collect()
}

impl SampleRelease {
    /// Returns the release of a repository with this index. Releases are created one hour apart.
    #[must_use]
    pub fn new(repository: &str, number: usize, hours: usize) -> Self {
        let first: Timestamp = "2026-01-01T00:00:00Z".parse().expect("the date is valid");
        Self {
            repository: repository.to_owned(),
            version: format!("1.{}.{}", number / 10, number % 10),
            created: first
                + i64::try_from(hours)
                    .expect("the number of hours is small")
                    .hours(),
            layer: LAYER_SIZES[number % LAYER_SIZES.len()],
        }
    }

    /// Returns the content of the layer. Layers of the same size have the same content.
    fn content(size: usize) -> Vec<u8> {
        std::iter::repeat_n(b'x', size).collect()
    }

    /// Returns the bytes of the manifest.
    #[must_use]
    pub fn manifest(&self) -> Vec<u8> {
        let layer = Self::content(self.layer);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.acme.app",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": sha256(b"{}"),
                "size": 2,
            },
            "layers": [{
                "mediaType": "text/plain",
                "digest": sha256(&layer),
                "size": layer.len(),
                "annotations": {"org.opencontainers.image.title": "app.txt"},
            }],
            "annotations": {
                "org.opencontainers.image.title": self.repository.rsplit('/').next(),
                "org.opencontainers.image.version": self.version,
                "org.opencontainers.image.created": self.created.to_string(),
            },
        });
        manifest.to_string().into_bytes()
    }

    /// Returns the digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> String {
        sha256(&self.manifest())
    }
}

/// Writes all repositories into a registry.
pub fn fill(registry: &Registry) {
    for number in 0..REPOSITORIES {
        fill_repository(registry, number);
    }
}

/// Writes the releases of one repository into the data directory of a registry. Thousands of requests would take most
/// of the test's run time.
pub fn put_releases(registry: &Registry, repository: &str, releases: &[SampleRelease]) {
    registry.write_blob(repository, b"{}");
    for size in LAYER_SIZES {
        registry.write_blob(repository, &SampleRelease::content(size));
    }
    for release in releases {
        registry.write_manifest(repository, &release.version, &release.manifest());
    }
}

fn fill_repository(registry: &Registry, number: usize) {
    let (name, releases) = (repository(number), releases(number));
    put_releases(registry, &name, &releases);
    let last = &releases[RELEASES - 1];
    registry.write_manifest(&name, "latest", &last.manifest());
    let entry = |release: &SampleRelease, architecture: &str| -> Value {
        json!({
            "mediaType": MANIFEST,
            "digest": release.digest(),
            "size": release.manifest().len(),
            "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [entry(&releases[0], "amd64"), entry(&releases[1], "arm64")],
    });
    registry.write_manifest(&name, "nightly", index.to_string().as_bytes());
}

/// Pushes a blob.
///
/// # Panics
///
/// If the registry rejects the blob.
pub fn put_blob(registry: &Registry, repository: &str, content: &[u8]) {
    let started = registry.request(Method::POST, &format!("/v2/{repository}/blobs/uploads/"));
    let location = started.headers()["Location"]
        .to_str()
        .expect("a URL is ASCII");
    let sign = if location.contains('?') { '&' } else { '?' };
    let put = Request::put(format!("{location}{sign}digest={}", sha256(content)))
        .header("Content-Length", content.len())
        .body(content.to_vec());
    let response = send(put.expect("the request is valid"));
    assert_eq!(response.status(), 201, "{}", registry.log());
}

/// Pushes a manifest under a tag.
///
/// # Panics
///
/// If the registry rejects the manifest.
pub fn put_manifest(
    registry: &Registry,
    repository: &str,
    tag: &str,
    media_type: &str,
    document: Vec<u8>,
) {
    let host = registry.host();
    let put = Request::put(format!("http://{host}/v2/{repository}/manifests/{tag}"))
        .header("Content-Type", media_type)
        .header("Content-Length", document.len())
        .body(document);
    let response = send(put.expect("the request is valid"));
    assert_eq!(response.status(), 201, "{}", registry.log());
}
