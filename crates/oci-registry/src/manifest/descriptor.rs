//! Descriptors: what names content, by kind, digest and size (image-spec, `descriptor.md`), and for which platform it is.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::media_type::MediaType;
use crate::digest::Digest;

/// Annotations: plain texts by key, sorted.
pub type Annotations = BTreeMap<String, String>;

/// What some content needs to run, in Go's names (image-spec, `image-index.md`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `linux`, `darwin`, …
    #[serde(default)]
    pub os: String,
    /// The version of the operating system, for those that care.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// What the operating system must offer, such as `libc.glibc`.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// `v7` and the like, for arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    /// `os/architecture[/variant]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Names content by kind, digest and size, and says a little about it (image-spec, `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What kind of content it is.
    #[serde(rename = "mediaType")]
    pub media_type: MediaType,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size in bytes.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// Other places of the content. Never followed.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
    /// What kind of artifact a manifest is.
    #[serde(
        rename = "artifactType",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<MediaType>,
    /// What the content needs to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What else is said about it.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Annotations::is_empty"
    )]
    pub annotations: Annotations,
    /// The content itself in base64, for small content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Descriptor {
    /// A descriptor that says no more than it must.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            artifact_type: None,
            platform: None,
            annotations: Annotations::new(),
            data: None,
        }
    }

    /// The annotation under this key.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}

/// Some registries and writers send `null` for an empty list or map.
pub(crate) fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A size is an `int64` that is not negative.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = i64::deserialize(deserializer)?;
    u64::try_from(size).map_err(|_| serde::de::Error::custom("a size is not negative"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn platforms_use_the_dotted_keys() {
        let platform: Platform = serde_json::from_str(
            r#"{"architecture":"arm","os":"linux","os.features":["libc.musl"],"variant":"v7"}"#,
        )
        .unwrap();
        assert_eq!(platform.to_string(), "linux/arm/v7");
        assert!(
            serde_json::to_string(&platform)
                .unwrap()
                .contains(r#""os.features":["libc.musl"]"#)
        );
    }

    proptest! {
        #[test]
        fn platforms_read_back(
            words in proptest::array::uniform2("\\PC{0,8}"),
            more in proptest::array::uniform2(proptest::option::of("\\PC{0,8}")),
            os_features in proptest::collection::vec("\\PC{0,8}", 0..3),
        ) {
            let [architecture, os] = words;
            let [os_version, variant] = more;
            let platform = Platform { architecture, os, os_version, os_features, variant };
            let text = serde_json::to_string(&platform).unwrap();
            prop_assert_eq!(serde_json::from_str::<Platform>(&text).unwrap(), platform);
        }
    }
}
