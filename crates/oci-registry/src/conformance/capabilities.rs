//! Capabilities that a target declares.

/// Behavior in which targets may differ. The default describes the strictest target, which accepts all valid content.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the capabilities are independent of each other"
)]
pub struct Capabilities {
    /// Whether a manifest is refused if content that it refers to is missing. Otherwise it is accepted.
    pub refuses_incomplete: bool,
    /// Whether a tag on a missing manifest is refused. Otherwise setting the tag pushes the manifest.
    pub refuses_tag_on_absent: bool,
    /// Whether content may have a sha512 digest. Otherwise it is refused.
    pub sha512: bool,
    /// Whether a tag may refer to an index. Otherwise it is refused.
    pub indexes: bool,
    /// Whether a tag may refer to an artifact that is not an image. Otherwise it is refused.
    pub artifacts: bool,
    /// Whether tags can be deleted. Otherwise that fails with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    pub deletes_tags: bool,
    /// Whether manifests can be deleted. Otherwise that fails with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    pub deletes_manifests: bool,
    /// Whether blobs can be deleted. Otherwise that fails with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    pub deletes_blobs: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            refuses_incomplete: true,
            refuses_tag_on_absent: true,
            sha512: true,
            indexes: true,
            artifacts: true,
            deletes_tags: true,
            deletes_manifests: true,
            deletes_blobs: true,
        }
    }
}
