//! What stands in a registry or a directory before a test begins: a release of two targets, pushed without a build, and
//! an image in a layout, written after the specification without our own code.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::program::Home;
use crate::sha256;
use crate::sources::Sources;

/// A target that is not this machine's.
pub const MAC: &str = "aarch64-apple-darwin";
/// Another one.
pub const ARM: &str = "aarch64-unknown-linux-musl";

/// `widgets` 1.2.3, for two targets.
#[derive(Debug)]
pub struct Release {
    /// The crate, and the files beside it.
    pub sources: Sources,
}

impl Release {
    /// Pushes to `--registry PLACE`, from the home's own directory.
    #[must_use]
    #[track_caller]
    pub fn push(home: &Home, place: &str) -> Self {
        let release = Self {
            sources: Sources::widgets(),
        };
        release.push_target(home, place, MAC, "round ones");
        release.push_target(home, place, ARM, "round ones, of ours");
        release
    }

    /// Pushes one target more; the content is that of its one file, `round`.
    #[track_caller]
    pub fn push_target(&self, home: &Home, place: &str, target: &str, content: &str) {
        self.push_with(home, place, target, content, &[]);
    }

    /// The same with more flags.
    #[track_caller]
    pub fn push_with(&self, home: &Home, place: &str, target: &str, content: &str, more: &[&str]) {
        self.sources.write("round.bin", content);
        let place = match place.strip_prefix("oci:") {
            Some(directory) => format!("oci:{}", home.path().join(directory).display()),
            None => place.to_owned(),
        };
        let arguments = [
            "push",
            "--file",
            "round=round.bin",
            "--target",
            target,
            "--registry",
            &place,
        ];
        home.cargo_oci(arguments.iter().chain(more).copied())
            .within(self.sources.path())
            .succeeds();
    }
}

/// The tag of one of its targets.
#[must_use]
pub fn target_tag(target: &str) -> String {
    format!("1.2.3__{target}")
}

/// A tar of one empty file with this name.
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

/// Writes a layout that holds an image of two layers under the tag `1.0`; the digest of its manifest.
///
/// # Panics
///
/// If it cannot be written.
#[must_use]
pub fn image_layout(directory: &Path) -> String {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a directory for blobs");
    let store = |media_type: &str, bytes: &[u8]| -> Value {
        let digest = sha256(bytes);
        let name = digest.trim_start_matches("sha256:");
        fs::write(blobs.join(name), bytes).expect("a blob");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let layers = ["one", "two"].map(layer);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"org.example": "x"}},
        "rootfs": {"type": "layers", "diff_ids": layers.each_ref().map(|layer| sha256(layer))},
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": store("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes()),
        "layers": layers.map(|layer| store("application/vnd.oci.image.layer.v1.tar", &layer)),
    });
    let mut entry = store(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    );
    let digest = entry["digest"].as_str().unwrap_or_default().to_owned();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "1.0"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(directory.join("index.json"), index.to_string()).expect("an index");
    let marker = json!({"imageLayoutVersion": "1.0.0"});
    fs::write(directory.join("oci-layout"), marker.to_string()).expect("a marker");
    digest
}
