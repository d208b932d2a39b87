//! Media types of this layout: what its documents and files are called in descriptors.
//!
//! Those of layers built by cargo belong to [`FileKind`](crate::FileKind); here is what other files are called.

use oci_registry::MediaType;

/// The `artifactType` of an index: one version of a package.
pub const PACKAGE: MediaType = MediaType::new_static("application/vnd.cargo-oci.package.v1");
/// The `artifactType` of a manifest: one version of a package, for one target triple.
pub const PACKAGE_TARGET: MediaType =
    MediaType::new_static("application/vnd.cargo-oci.package-target.v1");
/// The media type of the config document.
pub const CONFIG: MediaType = MediaType::new_static("application/vnd.cargo-oci.config.v1+json");
/// A tar of several files: of all of an archive, or of a directory. Those who want a directory know this one.
pub const TAR: MediaType = MediaType::new_static("application/vnd.oci.image.layer.v1.tar");

/// The ordinary media type of a file, by its name.
///
/// Only what accompanies programs is known; everything else is bytes. README and LICENSE files are plain text.
pub fn of_file_name(name: &str) -> MediaType {
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

/// The media type of a document about software, where its name says which kind it is: lists of contents in SPDX or
/// CycloneDX, reports in SARIF, attestations of in-toto.
pub fn of_document(name: &str) -> Option<MediaType> {
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

/// The files that come without an extension, or with a word for one: `LICENSE`, `LICENSE-MIT`, `LICENSE.apache`.
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
    fn documents_are_known_by_their_names() {
        for (name, expected) in [
            ("out/widgets.spdx.json", Some("application/spdx+json")),
            ("widgets.CDX.json", Some("application/vnd.cyclonedx+json")),
            ("bom.xml", Some("application/vnd.cyclonedx+xml")),
            ("clippy.sarif", Some("application/sarif+json")),
            ("widgets.json", None),
            ("mybom.json", None),
        ] {
            let found = of_document(name);
            assert_eq!(found.as_ref().map(MediaType::as_str), expected, "{name}");
        }
    }

    #[test]
    fn files_that_accompany_programs_have_ordinary_types() {
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
            assert_eq!(of_file_name(name).as_str(), expected, "{name}");
        }
    }
}
