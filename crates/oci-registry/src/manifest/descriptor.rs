//! Descriptors: references to content by media type, digest and size (image-spec, `descriptor.md`), and platforms.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::media_type::MediaType;
use crate::digest::Digest;

/// Annotations: string values, sorted by key.
pub type Annotations = BTreeMap<String, String>;

/// Platform that the content runs on, with the values of Go's `GOOS` and `GOARCH` (image-spec, `image-index.md`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture: `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// Operating system: `linux`, `darwin`, …
    #[serde(default)]
    pub os: String,
    /// Version of the operating system, if the content requires one.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Required features of the operating system, such as `libc.glibc`.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the CPU, such as `v7` for arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    /// Formats the platform as `os/architecture[/variant]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Reference to content by media type, digest and size (image-spec, `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(rename = "mediaType")]
    pub media_type: MediaType,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    #[serde(deserialize_with = "deserialize_size")]
    pub size: u64,
    /// Other URLs of the content. They are never requested.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
    /// Artifact type of the manifest that the descriptor refers to.
    #[serde(
        rename = "artifactType",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<MediaType>,
    /// Platform that the content runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations of the content.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Annotations::is_empty"
    )]
    pub annotations: Annotations,
    /// The content itself in base64. Only small content is embedded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Descriptor {
    /// Creates a descriptor with the required fields only.
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

    /// Returns the annotation with this key.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}

/// Deserializes `null` as an empty list or map, because some registries and tools write `null`.
pub(crate) fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Deserializes a size: an `int64` that is not negative.
fn deserialize_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = i64::deserialize(deserializer)?;
    u64::try_from(size).map_err(|_| serde::de::Error::custom("a size must not be negative"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn platform_serializes_with_dotted_keys() {
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
        fn serialized_platform_parses_to_the_same_value(
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
