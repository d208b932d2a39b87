//! Manifests: documents that refer to other content by descriptors (image-spec, `manifest.md`, `image-index.md`).
//!
//! [`Manifest`] contains the exact bytes and a parsed view of them. A manifest that was received is never serialized
//! again; its bytes are passed on unchanged. A new manifest is serialized once, with its keys in the order of the
//! struct fields and its annotations sorted.

mod descriptor;
mod media_type;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use snafu::{ResultExt, Snafu, ensure};

pub(crate) use descriptor::null_is_empty;
pub use descriptor::{Annotations, Descriptor, Platform};
pub use media_type::MediaType;

use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Hint};

/// Maximum size of a manifest that is read, in bytes.
pub(crate) const MAX_READ: usize = 8 << 20;

/// Maximum size of a manifest that is written, in bytes. Every registry must accept this size (distribution-spec,
/// "Pushing Manifests").
pub(crate) const MAX_WRITE: usize = 4 << 20;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to parse the manifest {digest} as JSON"))]
    ParseManifest {
        digest: Digest,
        source: serde_json::Error,
    },
    #[snafu(display(
        "invalid manifest {digest}: it has both `manifests` and `{other}`, so clients disagree on its type"
    ))]
    Ambiguous { digest: Digest, other: &'static str },
    #[snafu(display(
        "invalid manifest {digest}: its `mediaType` is `{document}`, but its `Content-Type` is `{served}`"
    ))]
    MediaTypeMismatch {
        digest: Digest,
        document: MediaType,
        served: MediaType,
    },
    #[snafu(display(
        "invalid manifest {digest}: its media type is `{media_type}`, but it has the key `{key}`"
    ))]
    UnexpectedKey {
        digest: Digest,
        media_type: MediaType,
        key: &'static str,
    },
    #[snafu(display("invalid manifest {digest}: its key `{key}` differs from a standard key only in case, and case-insensitive clients read it as that key", key = key.escape_debug()))]
    MiscasedKey { digest: Digest, key: String },
    #[snafu(display("unsupported manifest {digest}: schema 1 is obsolete"))]
    Schema1 { digest: Digest },
    #[snafu(display("unsupported manifest {digest}: `schemaVersion` is {version}, expected 2"))]
    SchemaVersion { digest: Digest, version: u64 },
    #[snafu(display(
        "failed to write the manifest: its size of {size} bytes exceeds the limit of {MAX_WRITE}"
    ))]
    TooLarge { size: usize },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ParseManifest { .. } | Self::SchemaVersion { .. } => ErrorKind::Protocol,
            Self::Ambiguous { .. }
            | Self::MediaTypeMismatch { .. }
            | Self::UnexpectedKey { .. }
            | Self::MiscasedKey { .. } => ErrorKind::Mismatch,
            Self::Schema1 { .. } => ErrorKind::Unsupported,
            Self::TooLarge { .. } => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Schema1 { .. } => vec!["push the image again with a current client".into()],
            _ => Vec::new(),
        }
    }
}

/// Manifest of one artifact: a config and layers (image-spec, `manifest.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// Version of the manifest schema, always 2.
    #[serde(rename = "schemaVersion")]
    schema_version: u64,
    /// Media type that the document states.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// Type of the artifact; absent for images.
    #[serde(
        rename = "artifactType",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<MediaType>,
    /// Descriptor of the configuration.
    pub config: Descriptor,
    /// Descriptors of the layers, in order.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// Descriptor of the manifest that this manifest refers to (`subject`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations of the artifact.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Annotations::is_empty"
    )]
    pub annotations: Annotations,
}

impl ImageManifest {
    /// Creates a manifest that has this artifact type and config, and no layers.
    pub fn new(artifact_type: MediaType, config: Descriptor) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST),
            artifact_type: Some(artifact_type),
            config,
            layers: Vec::new(),
            subject: None,
            annotations: Annotations::new(),
        }
    }
}

/// List of manifests, for example one for each platform (image-spec, `image-index.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Version of the manifest schema, always 2.
    #[serde(rename = "schemaVersion")]
    schema_version: u64,
    /// Media type that the document states.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// Type of the artifact that the index represents.
    #[serde(
        rename = "artifactType",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<MediaType>,
    /// Descriptors of the manifests. If several match a platform, clients use the first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// Descriptor of the manifest that this index refers to (`subject`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations of the index.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Annotations::is_empty"
    )]
    pub annotations: Annotations,
}

impl Index {
    /// Creates an index of these manifests.
    pub fn new(artifact_type: Option<MediaType>, manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::INDEX),
            artifact_type,
            manifests,
            subject: None,
            annotations: Annotations::new(),
        }
    }
}

/// Parsed content of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "stored in an `Arc`")]
pub enum Document {
    /// Manifest of one artifact.
    Image(ImageManifest),
    /// Index of manifests.
    Index(Index),
    /// Document of an unknown type. It can be copied, but not interpreted.
    Unknown,
}

/// Manifest or index: exact bytes, media type, digest and parsed content.
#[derive(Clone)]
pub struct Manifest {
    bytes: Bytes,
    media_type: MediaType,
    digest: Digest,
    document: Arc<Document>,
}

impl Manifest {
    /// Parses a manifest that was served with this `Content-Type`. `content_type` is `None` if the header was missing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`] for documents that two clients could interpret differently: `manifests` together with
    /// `layers` or `config`, or a `mediaType` that differs from the `Content-Type`. [`ErrorKind::Protocol`] for a
    /// document that is not a manifest, [`ErrorKind::Unsupported`] for schema 1.
    pub fn parse(bytes: Bytes, content_type: Option<&str>) -> crate::Result<Self> {
        let digest = Digest::sha256(&bytes);
        Ok(parse_manifest(bytes, digest, content_type)?)
    }

    /// Replaces the digest with `digest`, which may have another algorithm. The caller has verified it.
    pub(crate) fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = digest;
        self
    }

    /// Serializes the manifest of an artifact.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it exceeds 4 MiB.
    pub fn from_image(image: ImageManifest) -> crate::Result<Self> {
        Ok(serialize_manifest(Document::Image(image))?)
    }

    /// Serializes an index.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it exceeds 4 MiB.
    pub fn from_index(index: Index) -> crate::Result<Self> {
        Ok(serialize_manifest(Document::Index(index))?)
    }

    /// Returns the exact bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the media type of the document. A registry serves the manifest with this `Content-Type`.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the parsed content.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Returns the manifest of an artifact; `None` for an index or an unknown document.
    pub fn as_image(&self) -> Option<&ImageManifest> {
        match &*self.document {
            Document::Image(image) => Some(image),
            _ => None,
        }
    }

    /// Returns the index; `None` for any other document.
    pub fn as_index(&self) -> Option<&Index> {
        match &*self.document {
            Document::Index(index) => Some(index),
            _ => None,
        }
    }

    /// Returns the annotations of the document; empty for an unknown document.
    pub fn annotations(&self) -> &Annotations {
        static NONE: Annotations = Annotations::new();
        match &*self.document {
            Document::Image(image) => &image.annotations,
            Document::Index(index) => &index.annotations,
            Document::Unknown => &NONE,
        }
    }

    /// Returns the artifact type: `artifactType`, or else the media type of the config.
    pub fn artifact_type(&self) -> Option<&MediaType> {
        match &*self.document {
            Document::Image(image) => image
                .artifact_type
                .as_ref()
                .or(Some(&image.config.media_type)),
            Document::Index(index) => index.artifact_type.as_ref(),
            Document::Unknown => None,
        }
    }

    /// Returns the descriptor in the `subject` field.
    pub fn subject(&self) -> Option<&Descriptor> {
        match &*self.document {
            Document::Image(image) => image.subject.as_ref(),
            Document::Index(index) => index.subject.as_ref(),
            Document::Unknown => None,
        }
    }

    /// Returns the descriptors of all content that a target must have before this manifest: config and layers, or the
    /// manifests of an index.
    ///
    /// The subject is not included, because it may be missing (distribution-spec, "Pushing Manifests with Subject").
    pub fn successors(&self) -> Vec<&Descriptor> {
        match &*self.document {
            Document::Image(image) => std::iter::once(&image.config)
                .chain(&image.layers)
                .collect(),
            Document::Index(index) => index.manifests.iter().collect(),
            Document::Unknown => Vec::new(),
        }
    }

    /// Returns the descriptor of this manifest. It has neither a platform nor annotations.
    pub fn descriptor(&self) -> Descriptor {
        let mut descriptor = Descriptor::new(
            self.media_type.clone(),
            self.digest.clone(),
            self.bytes.len() as u64,
        );
        descriptor.artifact_type = match &*self.document {
            Document::Image(image) => image.artifact_type.clone(),
            Document::Index(index) => index.artifact_type.clone(),
            Document::Unknown => None,
        };
        descriptor
    }
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        self.media_type == other.media_type && self.bytes == other.bytes
    }
}

impl Eq for Manifest {}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("media_type", &self.media_type)
            .field("digest", &self.digest)
            .field("size", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Fields that determine how the document is parsed.
#[derive(Deserialize)]
struct DocumentFields {
    #[serde(rename = "schemaVersion", default)]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType", default)]
    media_type: Option<MediaType>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(rename = "fsLayers", default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

fn parse_manifest(
    bytes: Bytes,
    digest: Digest,
    content_type: Option<&str>,
) -> Result<Manifest, Error> {
    let fields: DocumentFields =
        serde_json::from_slice(&bytes).with_context(|_| ParseManifestSnafu {
            digest: digest.clone(),
        })?;
    if fields.schema_version == Some(1) || fields.fs_layers.is_some() {
        return Schema1Snafu { digest }.fail();
    }
    if let Some(key) = find_miscased_key(&bytes) {
        return MiscasedKeySnafu { digest, key }.fail();
    }
    let other = match (&fields.layers, &fields.config) {
        (Some(_), _) => Some("layers"),
        (None, Some(_)) => Some("config"),
        (None, None) => None,
    };
    if let (Some(_), Some(other)) = (&fields.manifests, other) {
        return AmbiguousSnafu { digest, other }.fail();
    }
    let served = content_type
        .map(MediaType::from_content_type)
        .filter(|served| !is_generic(served));
    if let (Some(document), Some(served)) = (&fields.media_type, &served) {
        ensure!(
            document.as_str().eq_ignore_ascii_case(served.as_str()),
            MediaTypeMismatchSnafu {
                digest,
                document: document.clone(),
                served: served.clone()
            }
        );
    }
    let media_type = fields
        .media_type
        .or(served)
        .unwrap_or(match fields.manifests {
            Some(_) => MediaType::INDEX,
            None => MediaType::MANIFEST,
        });
    let unexpected = match (&fields.manifests, other) {
        (Some(_), _) if media_type.is_manifest() && !media_type.is_index() => Some("manifests"),
        (_, Some(other)) if media_type.is_index() => Some(other),
        _ => None,
    };
    if let Some(key) = unexpected {
        return UnexpectedKeySnafu {
            digest,
            media_type,
            key,
        }
        .fail();
    }
    let document = if media_type.is_index() {
        serde_json::from_slice(&bytes).map(Document::Index)
    } else if media_type.is_manifest() {
        serde_json::from_slice(&bytes).map(Document::Image)
    } else {
        Ok(Document::Unknown)
    };
    let document = document.with_context(|_| ParseManifestSnafu {
        digest: digest.clone(),
    })?;
    let version = match &document {
        Document::Image(image) => image.schema_version,
        Document::Index(index) => index.schema_version,
        Document::Unknown => 2,
    };
    ensure!(version == 2, SchemaVersionSnafu { digest, version });
    Ok(Manifest {
        bytes,
        media_type,
        digest,
        document: Arc::new(document),
    })
}

/// Returns the first key that differs from a standard key only in case. Some JSON parsers ignore case, such as Go's.
fn find_miscased_key(bytes: &[u8]) -> Option<String> {
    const KEYS: [&str; 6] = [
        "schemaVersion",
        "mediaType",
        "manifests",
        "layers",
        "config",
        "subject",
    ];
    #[expect(
        clippy::zero_sized_map_values,
        reason = "only the keys of the JSON object are needed"
    )]
    let keys: BTreeMap<String, serde::de::IgnoredAny> = serde_json::from_slice(bytes).ok()?;
    let is_miscased = |key: &String| {
        KEYS.iter()
            .any(|known| known != key && known.eq_ignore_ascii_case(key))
    };
    keys.into_keys().find(is_miscased)
}

/// Whether a `Content-Type` does not specify the kind of manifest. Storage servers behind registries often send such
/// types.
fn is_generic(media_type: &MediaType) -> bool {
    matches!(
        media_type.as_str(),
        "" | "application/json" | "application/octet-stream" | "binary/octet-stream" | "text/plain"
    )
}

fn serialize_manifest(document: Document) -> Result<Manifest, Error> {
    // A document without a media type gets the media type that matches its content.
    let (bytes, media_type, own) = match &document {
        Document::Image(image) => (
            serde_json::to_vec(image),
            &image.media_type,
            MediaType::MANIFEST,
        ),
        Document::Index(index) => (
            serde_json::to_vec(index),
            &index.media_type,
            MediaType::INDEX,
        ),
        Document::Unknown => unreachable!("only images and indexes are written"),
    };
    let bytes =
        Bytes::from(bytes.expect("strings, numbers and maps with text keys always serialise"));
    ensure!(
        bytes.len() <= MAX_WRITE,
        TooLargeSnafu { size: bytes.len() }
    );
    let media_type = media_type.clone().unwrap_or(own);
    Ok(Manifest {
        digest: Digest::sha256(&bytes),
        bytes,
        media_type,
        document: Arc::new(document),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn parse(text: &str, content_type: Option<&str>) -> crate::Result<Manifest> {
        Manifest::parse(Bytes::from(text.to_owned()), content_type)
    }

    fn config() -> String {
        format!(
            r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{DIGEST}","size":2}}"#
        )
    }

    #[test]
    fn parse_keeps_exact_bytes_and_ignores_unknown_fields() {
        let text = format!(
            r#"{{ "schemaVersion":2, "future": [1], "config":{}, "layers":null }}"#,
            config()
        );
        let manifest = parse(
            &text,
            Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
        )
        .unwrap();
        assert_eq!(manifest.bytes(), text.as_bytes());
        assert_eq!(*manifest.digest(), Digest::sha256(text.as_bytes()));
        assert_eq!(manifest.successors().len(), 1);
        assert_eq!(manifest.artifact_type().unwrap(), &MediaType::EMPTY);
    }

    #[test]
    fn parse_of_ambiguous_document_fails_with_mismatch() {
        let both = format!(
            r#"{{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}}"#,
            config()
        );
        assert_eq!(parse(&both, None).unwrap_err().kind(), ErrorKind::Mismatch);
        let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert_eq!(
            parse(index, Some(MediaType::MANIFEST.as_str()))
                .unwrap_err()
                .kind(),
            ErrorKind::Mismatch
        );
        assert!(
            parse(index, Some("application/octet-stream"))
                .unwrap()
                .as_index()
                .is_some()
        );
        let twice = r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#;
        assert_eq!(parse(twice, None).unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[test]
    fn parse_with_conflicting_media_type_or_keys_fails() {
        let image = format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, config());
        for served in [MediaType::INDEX, MediaType::DOCKER_LIST] {
            assert_eq!(
                parse(&image, Some(served.as_str())).unwrap_err().kind(),
                ErrorKind::Mismatch
            );
        }
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(
            parse(index, Some(MediaType::MANIFEST.as_str()))
                .unwrap_err()
                .kind(),
            ErrorKind::Mismatch
        );
        for text in [
            r#"{"schemaVersion":2,"manifests":[],"Layers":[]}"#,
            r#"{"schemaVersion":2,"MANIFESTS":[]}"#,
        ] {
            assert_eq!(
                parse(text, None).unwrap_err().kind(),
                ErrorKind::Mismatch,
                "{text}"
            );
        }
    }

    #[test]
    fn parse_of_unknown_schema_version_or_invalid_json_fails() {
        assert_eq!(
            parse(r#"{"schemaVersion":1,"fsLayers":[]}"#, None)
                .unwrap_err()
                .kind(),
            ErrorKind::Unsupported
        );
        assert_eq!(
            parse("<html>", None).unwrap_err().kind(),
            ErrorKind::Protocol
        );
        assert_eq!(
            parse(r#"{"schemaVersion":3,"manifests":[]}"#, None)
                .unwrap_err()
                .kind(),
            ErrorKind::Protocol
        );
    }

    #[test]
    fn parse_of_unknown_media_type_succeeds() {
        let manifest = parse(
            r#"{"schemaVersion":2,"mediaType":"application/x"}"#,
            Some("application/x"),
        )
        .unwrap();
        assert_eq!(*manifest.document(), Document::Unknown);
        assert!(manifest.successors().is_empty());
    }

    #[test]
    fn parse_of_invalid_descriptors_fails() {
        for (digest, size) in [
            (DIGEST, "-1"),
            (DIGEST, "9223372036854775808"),
            (DIGEST, "1.5"),
            ("sha256:../../x", "1"),
            ("x", "1"),
            ("sha512:44136f", "1"),
        ] {
            let text = format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{digest}","size":{size}}},"layers":[]}}"#
            );
            assert_eq!(
                parse(&text, None).unwrap_err().kind(),
                ErrorKind::Protocol,
                "{digest} {size}"
            );
        }
    }

    #[test]
    fn written_manifest_parses_to_the_same_value() {
        let config = Descriptor::new(MediaType::EMPTY, DIGEST.parse().unwrap(), 2);
        let mut image = ImageManifest::new("application/x".into(), config);
        image.annotations.insert("b".into(), "2".into());
        image.annotations.insert("a".into(), "1".into());
        let written = Manifest::from_image(image.clone()).unwrap();
        let read =
            Manifest::parse(written.bytes().clone(), Some(written.media_type().as_str())).unwrap();
        assert_eq!(read.as_image(), Some(&image));
        assert_eq!(read.digest(), written.digest());
        let text = String::from_utf8(written.bytes().to_vec()).unwrap();
        assert!(text.starts_with(r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"#));
        assert!(text.ends_with(r#""annotations":{"a":"1","b":"2"}}"#));
    }

    #[test]
    fn index_without_media_type_is_written_as_an_index() {
        let untyped = parse(r#"{"schemaVersion":2,"manifests":[]}"#, None).unwrap();
        let written = Manifest::from_index(untyped.as_index().unwrap().clone()).unwrap();
        assert_eq!(written.media_type(), &MediaType::INDEX);
        assert_eq!(written, untyped);
    }
}
