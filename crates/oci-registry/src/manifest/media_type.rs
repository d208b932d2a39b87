//! Media types: what kind some content is, by names that this crate knows and by any other.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::escape::escape;

/// The kind of some content, an open set: `application/vnd.oci.image.manifest.v1+json`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(Cow<'static, str>);

impl MediaType {
    /// An OCI image manifest, which is also the manifest of any other artifact.
    pub const MANIFEST: Self = Self::new_static("application/vnd.oci.image.manifest.v1+json");
    /// An OCI index.
    pub const INDEX: Self = Self::new_static("application/vnd.oci.image.index.v1+json");
    /// Docker's image manifest, schema 2.
    pub const DOCKER_MANIFEST: Self =
        Self::new_static("application/vnd.docker.distribution.manifest.v2+json");
    /// Docker's manifest list.
    pub const DOCKER_LIST: Self =
        Self::new_static("application/vnd.docker.distribution.manifest.list.v2+json");
    /// An OCI image's configuration.
    pub const IMAGE_CONFIG: Self = Self::new_static("application/vnd.oci.image.config.v1+json");
    /// Docker's image configuration.
    pub const DOCKER_IMAGE_CONFIG: Self =
        Self::new_static("application/vnd.docker.container.image.v1+json");
    /// The empty JSON object, where something has to be and nothing is to be said.
    pub const EMPTY: Self = Self::new_static("application/vnd.oci.empty.v1+json");
    /// Bytes of no known kind.
    pub const OCTET_STREAM: Self = Self::new_static("application/octet-stream");

    /// The media types of all documents that name further content.
    pub const MANIFESTS: [Self; 4] = [
        Self::MANIFEST,
        Self::INDEX,
        Self::DOCKER_MANIFEST,
        Self::DOCKER_LIST,
    ];

    /// A media type known when the program is compiled.
    pub const fn new_static(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// The media type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether content of this type is a manifest or index, to be fetched and sent as such.
    pub fn is_manifest(&self) -> bool {
        Self::MANIFESTS.contains(self)
    }

    /// Whether content of this type is an index.
    pub fn is_index(&self) -> bool {
        *self == Self::INDEX || *self == Self::DOCKER_LIST
    }

    /// Whether content of this type is an image's configuration, OCI's or Docker's.
    pub fn is_image_config(&self) -> bool {
        *self == Self::IMAGE_CONFIG || *self == Self::DOCKER_IMAGE_CONFIG
    }

    /// Whether content of this type is a layer of an image: a tar stream, compressed or not (image-spec, `layer.md`).
    pub(crate) fn is_layer(&self) -> bool {
        const KINDS: [(&str, &str); 2] = [
            ("application/vnd.oci.image.layer.", "v1.tar"),
            ("application/vnd.docker.image.rootfs.", "diff.tar"),
        ];
        // The image specification names gzip and zstd only; other builders write the other two.
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

    /// Whether content of this type may be kept from places that would pass it on, and is often only where its licence
    /// lets it be (image-spec, `layer.md`, "Non-Distributable Layers").
    pub fn is_nondistributable(&self) -> bool {
        [
            "application/vnd.oci.image.layer.nondistributable.",
            "application/vnd.docker.image.rootfs.foreign.",
        ]
        .iter()
        .any(|prefix| self.0.starts_with(prefix))
    }

    /// The media type of a `Content-Type` header, its parameters ignored.
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
    fn layers_of_every_compression_are_layers() {
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
        fn a_content_type_is_a_media_type_without_its_parameters(header in "\\PC*", parameter in "[a-z]{1,5}=[a-z\"]{0,5}") {
            let media_type = MediaType::from_content_type(&header);
            let text = media_type.as_str();
            prop_assert!(!text.contains(';') && text == text.trim() && text == text.to_ascii_lowercase());
            prop_assert_eq!(&MediaType::from_content_type(text), &media_type);
            let more = format!("{header}; {parameter}");
            prop_assert_eq!(MediaType::from_content_type(&more), media_type.clone());
            prop_assert!(!media_type.to_string().contains(crate::escape::is_active));
        }
    }
}
