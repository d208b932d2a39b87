//! OCI image layouts, which are read and checked according to the image specification, without code of this project.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Layout directory.
#[derive(Debug)]
pub struct Layout {
    directory: PathBuf,
    index: Value,
}

impl Layout {
    /// Opens a layout and checks it against the specification: the `oci-layout` file, the index and the digest of every
    /// blob. All referenced blobs must exist, and all blobs must be referenced.
    ///
    /// # Panics
    ///
    /// If the layout is not valid.
    #[must_use]
    #[track_caller]
    pub fn open(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let marker = json(&directory.join("oci-layout"));
        assert_eq!(
            marker["imageLayoutVersion"],
            "1.0.0",
            "{}",
            directory.display()
        );
        let index = json(&directory.join("index.json"));
        assert_eq!(index["schemaVersion"], 2, "{index}");
        let layout = Self { directory, index };
        let mut reached = BTreeSet::new();
        layout.walk(&layout.index, &mut reached);
        assert_eq!(layout.blobs(), reached, "stored and referenced blobs");
        layout
    }

    /// Returns the digest and the document of a tag's manifest.
    #[must_use]
    pub fn manifest(&self, tag: &str) -> Option<(String, Value)> {
        let digest = self.digest(tag)?;
        let document = serde_json::from_slice(&self.blob(&digest)).expect("a manifest is JSON");
        Some((digest, document))
    }

    /// Returns the digest of a tag.
    #[must_use]
    pub fn digest(&self, tag: &str) -> Option<String> {
        let mut entries = self.index["manifests"].as_array()?.iter();
        let entry = entries
            .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag)?;
        entry["digest"].as_str().map(str::to_owned)
    }

    /// Returns the content of a blob.
    ///
    /// # Panics
    ///
    /// If the blob does not exist or does not match its digest.
    #[must_use]
    pub fn blob(&self, digest: &str) -> Vec<u8> {
        let path = self.directory.join("blobs").join(digest.replace(':', "/"));
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()));
        assert_eq!(crate::sha256(&bytes), digest, "`{}`", path.display());
        bytes
    }

    fn blobs(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.directory.join("blobs/sha256"))
            .expect("the blob directory can be read");
        let names = names.map(|entry| entry.expect("the blob can be written").file_name());
        names
            .map(|name| format!("sha256:{}", name.to_string_lossy()))
            .collect()
    }

    fn walk(&self, manifest: &Value, reached: &mut BTreeSet<String>) {
        let lists = ["manifests", "layers"].map(|key| manifest[key].as_array());
        let config = manifest.get("config");
        for descriptor in lists.into_iter().flatten().flatten().chain(config) {
            let digest = descriptor["digest"]
                .as_str()
                .expect("a descriptor has a digest");
            let bytes = self.blob(digest);
            assert_eq!(descriptor["size"], bytes.len(), "{descriptor}");
            reached.insert(digest.to_owned());
            let media_type = descriptor["mediaType"]
                .as_str()
                .expect("a descriptor has a media type");
            if matches!(
                media_type,
                "application/vnd.oci.image.index.v1+json"
                    | "application/vnd.oci.image.manifest.v1+json"
            ) {
                let inner: Value = serde_json::from_slice(&bytes).expect("a manifest is JSON");
                assert_eq!(inner["mediaType"], media_type, "{inner}");
                self.walk(&inner, reached);
            }
        }
    }
}

fn json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
}
