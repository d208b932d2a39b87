//! Fixtures: a release for two targets, which is pushed without a build, and layouts that contain an image or a
//! package.
//!
//! The layouts follow the image specification and are written without code of this project.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::program::Home;
use crate::sha256;
use crate::sources::Sources;

/// First target of the release. It is not the host's target.
pub const MAC: &str = "aarch64-apple-darwin";
/// Second target of the release.
pub const ARM: &str = "aarch64-unknown-linux-musl";

/// Release of `widgets` 1.2.3 for two targets.
#[derive(Debug)]
pub struct Release {
    /// Sources of the crate.
    pub sources: Sources,
}

impl Release {
    /// Pushes the release to `--registry LOCATION`. A relative layout directory is resolved against the home directory.
    #[must_use]
    #[track_caller]
    pub fn push(home: &Home, location: &str) -> Self {
        let release = Self {
            sources: Sources::widgets(),
        };
        release.push_target(home, location, MAC, "round ones");
        release.push_target(home, location, ARM, "round ones, of ours");
        release
    }

    /// Pushes one target. Its only file, `round`, has this content.
    #[track_caller]
    pub fn push_target(&self, home: &Home, location: &str, target: &str, content: &str) {
        self.push_with(home, location, target, content, &[]);
    }

    /// Pushes one target with additional flags.
    #[track_caller]
    pub fn push_with(
        &self,
        home: &Home,
        location: &str,
        target: &str,
        content: &str,
        more: &[&str],
    ) {
        self.sources.write("round.bin", content);
        let location = match location.strip_prefix("oci:") {
            Some(directory) => format!("oci:{}", home.path().join(directory).display()),
            None => location.to_owned(),
        };
        let arguments = [
            "push",
            "--file",
            "round=round.bin",
            "--target",
            target,
            "--registry",
            &location,
        ];
        home.cargo_oci(arguments.iter().chain(more).copied())
            .within(self.sources.path())
            .succeeds();
    }
}

/// Returns the target tag of the release for a target.
#[must_use]
pub fn target_tag(target: &str) -> String {
    format!("1.2.3__{target}")
}

/// Returns a tar archive that contains one empty file with this name.
#[must_use]
pub fn layer(name: &str) -> Vec<u8> {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(b"00000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    [&header[..], &[0; 1024]].concat()
}

/// Stores a blob in a layout, and returns its descriptor.
fn store_blob(layout: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = sha256(bytes);
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    fs::create_dir_all(path.parent().expect("a blob is in a directory"))
        .expect("the directory can be created");
    fs::write(path, bytes).expect("the blob can be written");
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// Stores a manifest under a tag in a layout that has no other manifests. Returns the digest of the manifest.
fn store_manifest(layout: &Path, manifest: &Value, tag: &str) -> String {
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let mut entry = store_blob(layout, media_type, manifest.to_string().as_bytes());
    let digest = entry["digest"].as_str().unwrap_or_default().to_owned();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(layout.join("index.json"), index.to_string()).expect("the index can be written");
    let marker = json!({"imageLayoutVersion": "1.0.0"});
    fs::write(layout.join("oci-layout"), marker.to_string())
        .expect("the `oci-layout` file can be written");
    digest
}

/// Writes a layout that contains an image of two layers with the tag `1.0`. Returns the digest of the image's manifest.
///
/// # Panics
///
/// If the layout cannot be written.
#[must_use]
pub fn image_layout(directory: &Path) -> String {
    let layers = ["one", "two"].map(layer);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"org.example": "x"}},
        "rootfs": {"type": "layers", "diff_ids": layers.each_ref().map(|layer| sha256(layer))},
    });
    let config_type = "application/vnd.oci.image.config.v1+json";
    let layer_type = "application/vnd.oci.image.layer.v1.tar";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": store_blob(directory, config_type, config.to_string().as_bytes()),
        "layers": layers.map(|layer| store_blob(directory, layer_type, &layer)),
    });
    store_manifest(directory, &manifest, "1.0")
}

/// Writes a layout that contains a package for one target. The tag, the name, the version and the file name may have
/// any value. Returns the digest of the package's manifest.
///
/// # Panics
///
/// If the layout cannot be written.
pub fn package_layout(
    directory: &Path,
    tag: &str,
    name: &str,
    version: &str,
    file: &str,
) -> String {
    let mut layer = store_blob(directory, "application/vnd.cargo-oci.bin", b"#!/bin/sh\n");
    layer["annotations"] = json!({
        "org.opencontainers.image.title": "program",
        "dev.cargo-oci.file": file,
        "dev.cargo-oci.kind": "bin",
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.cargo-oci.package-target.v1",
        "config": store_blob(directory, "application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [layer],
        "annotations": {
            "org.opencontainers.image.title": name,
            "org.opencontainers.image.version": version,
            "dev.cargo-oci.target": ARM,
        },
    });
    store_manifest(directory, &manifest, tag)
}
