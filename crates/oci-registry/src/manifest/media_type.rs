//! Media types, with constants for those that this crate interprets.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::escape::escape;

/// Media type of content, such as `application/vnd.oci.image.manifest.v1+json`. Any string is allowed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(Cow<'static, str>);

impl MediaType {
    /// OCI image manifest. Other artifacts use it, too.
    pub const MANIFEST: Self = Self::new_static("application/vnd.oci.image.manifest.v1+json");
    /// OCI image index.
    pub const INDEX: Self = Self::new_static("application/vnd.oci.image.index.v1+json");
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: Self =
        Self::new_static("application/vnd.docker.distribution.manifest.v2+json");
    /// Docker manifest list.
    pub const DOCKER_LIST: Self =
        Self::new_static("application/vnd.docker.distribution.manifest.list.v2+json");
    /// OCI image configuration.
    pub const IMAGE_CONFIG: Self = Self::new_static("application/vnd.oci.image.config.v1+json");
    /// Docker image configuration.
    pub const DOCKER_IMAGE_CONFIG: Self =
        Self::new_static("application/vnd.docker.container.image.v1+json");
    /// Empty JSON object, for required descriptors without content.
    pub const EMPTY: Self = Self::new_static("application/vnd.oci.empty.v1+json");
    /// Bytes of an unknown type.
    pub const OCTET_STREAM: Self = Self::new_static("application/octet-stream");

    /// Media types of all manifests and indexes.
    pub const MANIFESTS: [Self; 4] = [
        Self::MANIFEST,
        Self::INDEX,
        Self::DOCKER_MANIFEST,
        Self::DOCKER_LIST,
    ];

    /// Creates a media type from a constant.
    pub const fn new_static(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// Returns the media type as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether content of this type is a manifest or an index, and not a blob.
    pub fn is_manifest(&self) -> bool {
        Self::MANIFESTS.contains(self)
    }

    /// Whether content of this type is an index.
    pub fn is_index(&self) -> bool {
        *self == Self::INDEX || *self == Self::DOCKER_LIST
    }

    /// Whether content of this type is the configuration of an OCI or Docker image.
    pub fn is_image_config(&self) -> bool {
        *self == Self::IMAGE_CONFIG || *self == Self::DOCKER_IMAGE_CONFIG
    }

    /// Whether content of this type is a layer of an image: a tar stream, compressed or not (image-spec, `layer.md`).
    pub(crate) fn is_layer(&self) -> bool {
        const KINDS: [(&str, &str); 2] = [
            ("application/vnd.oci.image.layer.", "v1.tar"),
            ("application/vnd.docker.image.rootfs.", "diff.tar"),
        ];
        // The image specification lists gzip and zstd only; other tools write xz and bzip2.
        let is_compression = |suffix: &str| {
            let name = suffix.strip_prefix(['+', '.']);
            name.is_some_and(|name| matches!(name, "gzip" | "zstd" | "xz" | "bzip2"))
        };
        KINDS.iter().any(|(prefix, kind)| {
            let rest = self.0.strip_prefix(prefix).map(|rest| {
                rest.trim_start_matches("nondistributable.")
                    .trim_start_matches("foreign.")
            });
            let suffix = rest.and_then(|rest| rest.strip_prefix(kind));
            suffix.is_some_and(|suffix| suffix.is_empty() || is_compression(suffix))
        })
    }

    /// Whether content of this type is a non-distributable layer. Registries and copies often lack such layers
    /// (image-spec, `layer.md`, "Non-Distributable Layers").
    pub fn is_nondistributable(&self) -> bool {
        [
            "application/vnd.oci.image.layer.nondistributable.",
            "application/vnd.docker.image.rootfs.foreign.",
        ]
        .iter()
        .any(|prefix| self.0.starts_with(prefix))
    }

    /// Returns the media type of a `Content-Type` header, without its parameters.
    pub fn from_content_type(header: &str) -> Self {
        header
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .into()
    }
}

impl From<String> for MediaType {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0, 255))
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_layer_accepts_compressed_layers_only_of_known_formats() {
        for layer in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.v1.tar+xz",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.bzip2",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            assert!(MediaType::from(layer).is_layer(), "{layer}");
        }
        for other in [
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.oci.image.layer.v1.tarball",
            "application/vnd.docker.image.rootfs.v1.tar",
            "application/x-tar",
        ] {
            assert!(!MediaType::from(other).is_layer(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn content_type_is_parsed_without_its_parameters(header in "\\PC*", parameter in "[a-z]{1,5}=[a-z\"]{0,5}") {
            let media_type = MediaType::from_content_type(&header);
            let text = media_type.as_str();
            prop_assert!(!text.contains(';') && text == text.trim() && text == text.to_ascii_lowercase());
            prop_assert_eq!(&MediaType::from_content_type(text), &media_type);
            let more = format!("{header}; {parameter}");
            prop_assert_eq!(MediaType::from_content_type(&more), media_type.clone());
            prop_assert!(!media_type.to_string().contains(crate::escape::needs_escape));
        }
    }
}
