//! The config document: what a program may want to know of a package for one target, in one piece of JSON.
//!
//! Owns the document's form, written with sorted keys so that equal facts are equal bytes. What a reader of a registry
//! needs before it fetches anything stands in annotations instead.

use oci_registry::{Blob, Digest, Failure};
use serde::{Deserialize, Serialize};
use snafu::{ResultExt, Snafu};

use crate::kind::FileKind;
use crate::media;
use crate::package::{Build, Package};

/// Largest config that is worth fetching, in bytes: 500 files do not need a tenth of it.
pub const MAX_SIZE: usize = 4 << 20;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read the config of a package as JSON"))]
    ParseConfig { source: serde_json::Error },
}

impl Failure for Error {
    fn kind(&self) -> oci_registry::ErrorKind {
        oci_registry::ErrorKind::Protocol
    }
}

/// The config document of a package for one target.
// The fields stand in the order of their names: they are written in the order in which they stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PackageConfig {
    /// The version of cargo, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cargo: Option<String>,
    /// The crate types that were built, sorted.
    #[serde(default)]
    pub crate_types: Vec<String>,
    /// The features that were on, sorted.
    #[serde(default)]
    pub features: Vec<String>,
    /// The files, in the order of the layers.
    #[serde(default)]
    pub files: Vec<ConfigFile>,
    /// The package's name.
    pub name: String,
    /// The cargo profile.
    pub profile: String,
    /// The package URL, `pkg:cargo/NAME@VERSION`.
    pub purl: String,
    /// The version of rustc, where it is known what built the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rustc: Option<String>,
    /// The target triple.
    pub target: String,
    /// The state of the sources, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcs: Option<Vcs>,
    /// The package's version.
    pub version: String,
}

/// A file, as the config document lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConfigFile {
    /// The digest of the file and of its layer.
    pub digest: Digest,
    /// What it is: the word of a [`FileKind`].
    pub kind: String,
    /// Its mode, in octal digits.
    pub mode: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its title.
    pub title: String,
}

/// The state of the sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Vcs {
    /// Whether there were changes that the commit does not hold; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
    /// The commit's full name.
    pub revision: String,
}

impl PackageConfig {
    pub(crate) fn new(package: &Package, build: &Build, files: Vec<ConfigFile>) -> Self {
        Self {
            cargo: build.cargo.clone(),
            crate_types: build.crate_types.iter().cloned().collect(),
            features: build.features.iter().cloned().collect(),
            files,
            name: package.name.clone(),
            profile: build.profile.clone(),
            purl: package.purl(),
            rustc: build.rustc.clone(),
            target: build.target.clone(),
            vcs: build.revision.as_ref().map(|revision| Vcs {
                dirty: revision.dirty,
                revision: revision.commit.clone(),
            }),
            version: package.version.to_string(),
        }
    }

    /// Reads a config document; keys of later versions are ignored.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`](oci_registry::ErrorKind::Protocol) when it is not one.
    pub fn parse(bytes: &[u8]) -> crate::Result<Self> {
        Ok(serde_json::from_slice(bytes).context(ParseConfigSnafu)?)
    }

    pub(crate) fn to_blob(&self) -> Blob {
        let bytes = serde_json::to_vec(self).expect("texts, numbers and lists always serialise");
        Blob::from_bytes(media::CONFIG, bytes)
    }
}

impl ConfigFile {
    pub(crate) fn new(title: String, kind: FileKind, mode: &str, layer: &Blob) -> Self {
        Self {
            digest: layer.digest().clone(),
            kind: kind.as_str().to_owned(),
            mode: mode.to_owned(),
            size: layer.size(),
            title,
        }
    }
}

/// The mode of an executable or another file, in octal digits.
pub(crate) const fn mode(executable: bool) -> &'static str {
    if executable { "0755" } else { "0644" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::package::Revision;

    #[test]
    fn keys_are_sorted_and_what_is_written_reads_back() {
        let package = Package::new("widgets", "1.2.3".parse().unwrap());
        let mut build = Build::new("x86_64-unknown-linux-musl", "release");
        build.features = ["b", "a"].map(str::to_owned).into();
        build.rustc = Some("1.95.0".into());
        build.cargo = Some("1.95.0".into());
        build.crate_types = ["bin".to_owned()].into();
        build.revision = Some(Revision {
            commit: "abc".into(),
            dirty: Some(true),
        });
        let layer = Blob::from_bytes("application/vnd.cargo-oci.bin".into(), "content");
        let files = vec![ConfigFile::new(
            "widgets-1.2.3".into(),
            FileKind::Bin,
            "0755",
            &layer,
        )];
        let config = PackageConfig::new(&package, &build, files);
        let bytes = serde_json::to_vec(&config).unwrap();
        assert_eq!(PackageConfig::parse(&bytes).unwrap(), config);
        let sorted: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(serde_json::to_vec(&sorted).unwrap(), bytes);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            concat!(
                r#"{"cargo":"1.95.0","crate_types":["bin"],"features":["a","b"],"files":[{"#,
                r#""digest":"sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73","#,
                r#""kind":"bin","mode":"0755","size":7,"title":"widgets-1.2.3"}],"name":"widgets","profile":"release","#,
                r#""purl":"pkg:cargo/widgets@1.2.3","rustc":"1.95.0","target":"x86_64-unknown-linux-musl","#,
                r#""vcs":{"dirty":true,"revision":"abc"},"version":"1.2.3"}"#
            )
        );
    }

    #[test]
    fn later_keys_are_ignored_and_other_documents_refused() {
        let text =
            r#"{"name":"a","profile":"dev","purl":"p","target":"t","version":"1.0.0","zz":[1]}"#;
        assert_eq!(PackageConfig::parse(text.as_bytes()).unwrap().name, "a");
        assert!(PackageConfig::parse(b"{}").is_err());
        assert!(PackageConfig::parse(b"<html>").is_err());
    }
}
