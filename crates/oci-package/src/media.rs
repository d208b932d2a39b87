//! Media types of documents and files.
//!
//! [`FileKind`](crate::FileKind) defines the media types of files that cargo builds. This module defines all other
//! media types.

use oci_registry::MediaType;

/// `artifactType` of an index: one version of a package.
pub const PACKAGE: MediaType = MediaType::new_static("application/vnd.cargo-oci.package.v1");
/// `artifactType` of a manifest: one version of a package, for one target triple.
pub const PACKAGE_TARGET: MediaType =
    MediaType::new_static("application/vnd.cargo-oci.package-target.v1");
/// Media type of the config document.
pub const CONFIG: MediaType = MediaType::new_static("application/vnd.cargo-oci.config.v1+json");
/// Media type of a tar of several files: an archive of all files, or a packed directory. Clients that unpack layers
/// recognize this media type.
pub const TAR: MediaType = MediaType::new_static("application/vnd.oci.image.layer.v1.tar");

/// Returns the media type of a file, derived from its name.
///
/// The function recognizes the file types that are often published with programs. README and LICENSE files are plain
/// text. All other files are `application/octet-stream`.
pub fn from_file_name(name: &str) -> MediaType {
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    MediaType::new_static(match extension {
        "md" => "text/markdown",
        "txt" | "adoc" | "rst" | "1" | "5" | "8" => "text/plain",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "csv" => "text/csv",
        "js" | "mjs" => "text/javascript",
        "h" | "hpp" => "text/x-c",
        "json" => "application/json",
        "toml" => "application/toml",
        "yaml" | "yml" => "application/yaml",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "tar" => "application/x-tar",
        "gz" | "tgz" | "crate" => "application/gzip",
        "xz" => "application/x-xz",
        "zst" => "application/zstd",
        "zip" => "application/zip",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        _ if is_plain_text(&name) => "text/plain",
        _ => return MediaType::OCTET_STREAM,
    })
}

/// Returns the media type of an SBOM (SPDX, CycloneDX), a report (SARIF) or an attestation (in-toto), derived from its
/// file name. Returns `None` for other names.
pub fn from_document_name(name: &str) -> Option<MediaType> {
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    Some(MediaType::new_static(match name.as_str() {
        _ if ends(&[".spdx.json"]) => "application/spdx+json",
        _ if ends(&[".spdx"]) => "text/spdx",
        "bom.json" => "application/vnd.cyclonedx+json",
        "bom.xml" => "application/vnd.cyclonedx+xml",
        _ if ends(&[".cdx.json", ".cyclonedx.json"]) => "application/vnd.cyclonedx+json",
        _ if ends(&[".cdx.xml", ".cyclonedx.xml"]) => "application/vnd.cyclonedx+xml",
        _ if ends(&[".sarif", ".sarif.json"]) => "application/sarif+json",
        _ if ends(&[".intoto.json", ".intoto.jsonl"]) => "application/vnd.in-toto+json",
        _ => return None,
    }))
}

/// Whether a file name belongs to a text document without a standard extension, such as `LICENSE`, `LICENSE-MIT` or
/// `LICENSE.apache`.
fn is_plain_text(name: &str) -> bool {
    [
        "readme",
        "license",
        "licence",
        "copying",
        "copyright",
        "notice",
        "changelog",
        "authors",
    ]
    .iter()
    .any(|word| name.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_media_type_is_derived_from_name() {
        for (name, expected) in [
            ("out/widgets.spdx.json", Some("application/spdx+json")),
            ("widgets.CDX.json", Some("application/vnd.cyclonedx+json")),
            ("bom.xml", Some("application/vnd.cyclonedx+xml")),
            ("clippy.sarif", Some("application/sarif+json")),
            ("widgets.json", None),
            ("mybom.json", None),
        ] {
            let found = from_document_name(name);
            assert_eq!(found.as_ref().map(MediaType::as_str), expected, "{name}");
        }
    }

    #[test]
    fn file_media_type_is_derived_from_name() {
        for (name, expected) in [
            ("README.md", "text/markdown"),
            ("docs/guide.MD", "text/markdown"),
            ("LICENSE-MIT", "text/plain"),
            ("LICENSE.apache-2.0", "text/plain"),
            ("completions.zsh", "application/octet-stream"),
            ("data", "application/octet-stream"),
            ("a.tar.gz", "application/gzip"),
            ("license/data", "application/octet-stream"),
        ] {
            assert_eq!(from_file_name(name).as_str(), expected, "{name}");
        }
    }
}
