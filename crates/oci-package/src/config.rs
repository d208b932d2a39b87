//! Config document: metadata of a package for one target, as JSON.
//!
//! The document is written with sorted keys, so equal metadata produces equal bytes. Metadata that readers need before
//! they fetch the document is in annotations.

use oci_registry::{Blob, Digest, Failure};
use serde::{Deserialize, Serialize};
use snafu::{ResultExt, Snafu};

use crate::kind::FileKind;
use crate::media;
use crate::package::{Build, Package};

/// Maximum size of a config document that is read, in bytes. A config with 500 files is smaller than a tenth of this
/// size.
pub const MAX_SIZE: usize = 4 << 20;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to parse the config of a package"))]
    ParseConfig { source: serde_json::Error },
}

impl Failure for Error {
    fn kind(&self) -> oci_registry::ErrorKind {
        oci_registry::ErrorKind::Protocol
    }
}

/// Config document of a package for one target.
// serde writes the fields in the order of declaration, so they are declared in alphabetical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PackageConfig {
    /// Version of cargo, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cargo: Option<String>,
    /// Crate types that were built, sorted.
    #[serde(default)]
    pub crate_types: Vec<String>,
    /// Enabled features, sorted.
    #[serde(default)]
    pub features: Vec<String>,
    /// The files, in the order in which they are packed: by kind, then by name.
    #[serde(default)]
    pub files: Vec<ConfigFile>,
    /// Name of the package.
    pub name: String,
    /// Cargo profile.
    pub profile: String,
    /// Package URL, `pkg:cargo/NAME@VERSION`.
    pub purl: String,
    /// Version of rustc, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rustc: Option<String>,
    /// Target triple.
    pub target: String,
    /// Version control revision of the sources, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcs: Option<Vcs>,
    /// Version of the package.
    pub version: String,
}

/// Entry of [`PackageConfig::files`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConfigFile {
    /// Digest of the file.
    pub digest: Digest,
    /// [`FileKind`] of the file, as in [`FileKind::as_str`].
    pub kind: String,
    /// File mode, in octal digits.
    pub mode: String,
    /// Size in bytes.
    pub size: u64,
    /// Title of the file.
    pub title: String,
}

/// Version control revision of the sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Vcs {
    /// Whether there were uncommitted changes; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
    /// Full hash of the commit.
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

    /// Parses a config document. Unknown keys are ignored.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`](oci_registry::ErrorKind::Protocol) if `bytes` is not a config document.
    pub fn parse(bytes: &[u8]) -> crate::Result<Self> {
        Ok(serde_json::from_slice(bytes).context(ParseConfigSnafu)?)
    }

    pub(crate) fn to_blob(&self) -> Blob {
        let bytes = serde_json::to_vec(self).expect("the config is serializable");
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

/// Returns the file mode in octal digits.
pub(crate) const fn file_mode(executable: bool) -> &'static str {
    if executable { "0755" } else { "0644" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::package::Revision;

    #[test]
    fn config_has_sorted_keys_and_parses_back() {
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
    fn config_with_unknown_key_is_parsed() {
        let text =
            r#"{"name":"a","profile":"dev","purl":"p","target":"t","version":"1.0.0","zz":[1]}"#;
        assert_eq!(PackageConfig::parse(text.as_bytes()).unwrap().name, "a");
    }

    #[test]
    fn config_without_required_keys_is_rejected() {
        assert!(PackageConfig::parse(b"{}").is_err());
        assert!(PackageConfig::parse(b"<html>").is_err());
    }
}
