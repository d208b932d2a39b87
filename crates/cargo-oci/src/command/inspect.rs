//! `cargo oci inspect`: show the metadata, targets and files of an artifact.

use clap::Args;
use oci_package::{InspectedFile, InspectedTarget, Inspection, Libc, ManifestOrigin};
use oci_registry::{Cache, Location, LocationText, Manifest, escape};

use super::find::{self, SelectorFlags};
use crate::figures::Size;
use crate::message::FormatFlag;
use crate::options::parse_location;
use crate::query_result::QueryResult;
use crate::report::{self, Error};
use crate::session::Session;
use crate::table::display_digest;

/// Maximum length of a printed value, in characters.
const MAX_TEXT_LENGTH: usize = 400;

/// Number of digits of a printed commit hash. JSON contains the whole hash.
const ABBREVIATED_HASH_LENGTH: usize = 8;

/// Show a package's metadata, targets and files
///
/// Prints name, version, licenses, source repository, and a table of the targets with their files. For images and other
/// artifacts, the available metadata is printed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci inspect ghcr.io/acme/widgets\n  cargo oci inspect ghcr.io/acme/widgets:1.2.3 --target aarch64-apple-darwin\n  cargo oci inspect oci-archive:widgets.tar:1.2.3"
)]
pub(crate) struct Flags {
    /// Artifact to show (default tag: the highest release)
    ///
    /// REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or an archive. An archive is oci-archive:FILE[:TAG] or
    /// docker-archive:FILE[:NAME[:TAG]].
    #[arg(value_name = "REFERENCE", value_parser = parse_location)]
    reference: LocationText,

    #[command(flatten)]
    selector: SelectorFlags,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Reads and prints the metadata of the artifact.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let source = session.open_source(&reference).await?;
    let source = match Cache::for_user(&session.environment) {
        Some(cache) if source.origin().is_some() => cache.wrap(source),
        _ => source,
    };
    let root = find::resolve_identifier(&*source, &reference).await?;
    let selector = flags.selector.manifest_selector();
    let (manifest, index) =
        find::resolve_manifest_or_target(&*source, &reference, &root, selector).await?;
    let selected = (&manifest, index.as_ref().map(Manifest::digest));
    find::warn_if_incomplete(session.reporter, &*source, &root, selected).await;
    let origin = ManifestOrigin::new(&reference, &root).with_index(index.as_ref());
    let inspection = oci_package::inspect(&source, origin, &manifest).await?;
    if session.reporter.is_json() {
        let result = QueryResult::from_inspection(&reference, &inspection);
        session.reporter.emit_query_result(&result);
        return session.reporter.finish();
    }
    let name = reference.with(inspection.digest.clone());
    report::write_line(format_page(&reference, &name, &inspection).trim_end())
}

/// Escapes untrusted text from a registry. The result is one line without control characters.
fn escape_text(text: &str) -> String {
    escape(text, MAX_TEXT_LENGTH)
}

fn format_page(requested: &Location, name: &Location, inspection: &Inspection) -> String {
    let title = inspection
        .name
        .as_deref()
        .map_or_else(|| requested.whole_repository().to_string(), escape_text);
    let version = inspection.version.as_deref().map(escape_text);
    let mut lines = vec![
        [title]
            .into_iter()
            .chain(version)
            .collect::<Vec<_>>()
            .join(" "),
    ];
    lines.extend(inspection.description.as_deref().map(escape_text));
    lines.push(String::new());
    let kind = inspection
        .artifact_type
        .as_ref()
        .unwrap_or(&inspection.media_type);
    let fields = [
        ("reference", Some(name.to_string())),
        ("licenses", inspection.licenses.as_deref().map(escape_text)),
        ("source", inspection.source.as_deref().map(escape_text)),
        ("revision", format_revision(inspection)),
        ("created", inspection.created.as_deref().map(escape_text)),
        ("type", Some(kind.to_string())),
        ("size", inspection.size.map(|size| Size(size).to_string())),
    ];
    for (label, value) in fields {
        lines.extend(value.map(|value| format!("{label:<11}{value}")));
    }
    for target in &inspection.targets {
        lines.push(String::new());
        lines.push(format_heading(target));
        let conflicts = target.conflicts.iter();
        lines.extend(conflicts.map(|conflict| format!("  conflict: {conflict}")));
        lines.extend(format_files(&target.files));
    }
    lines.join("\n")
}

/// Returns the abbreviated commit, followed by `(dirty)` if a target contains uncommitted changes.
fn format_revision(inspection: &Inspection) -> Option<String> {
    let revision = inspection.revision.as_deref()?;
    let is_hash =
        matches!(revision.len(), 40 | 64) && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    let shown = if is_hash {
        revision[..ABBREVIATED_HASH_LENGTH].to_owned()
    } else {
        escape_text(revision)
    };
    let dirty = if inspection.dirty == Some(true) {
        " (dirty)"
    } else {
        ""
    };
    Some(format!("{shown}{dirty}"))
}

/// Returns the heading of a target, with its name, requirements, size and digest.
fn format_heading(target: &InspectedTarget) -> String {
    let platform = target.platform.as_ref().map(ToString::to_string);
    let platform = platform.as_deref().map(escape_text);
    let triple = target.target.as_deref().map(escape_text);
    let (name, platform) = match (triple, platform) {
        (Some(triple), platform) => (triple, platform),
        (None, Some(platform)) => (platform, None),
        (None, None) => ("any platform".to_owned(), None),
    };
    let libc = match (target.libc, target.glibc) {
        (Some(Libc::Static), _) => Some("static".to_owned()),
        (Some(Libc::Musl), _) => Some("musl".to_owned()),
        (_, Some(glibc)) => Some(format!("glibc {glibc}")),
        (Some(Libc::Glibc), None) => Some("glibc".to_owned()),
        (None, None) => None,
    };
    let requirements: Vec<_> = platform.into_iter().chain(libc).collect();
    let size = match (target.exists, target.size) {
        (false, _) => Some("missing".to_owned()),
        (true, size) => size.map(|size| Size(size).to_string()),
    };
    let parts = [
        Some(name),
        Some(requirements.join(", ")),
        size,
        Some(display_digest(&target.digest).to_owned()),
    ];
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("  ")
}

/// Returns one line per file, with its name, kind, size and digest.
fn format_files(files: &[InspectedFile]) -> Vec<String> {
    let rows: Vec<_> = files
        .iter()
        .map(|file| {
            let name = file.file.as_deref().or(file.title.as_deref());
            let name = name.map_or_else(|| "-".to_owned(), escape_text);
            let kind = file.kind.as_deref().map(escape_text);
            let kind = kind.unwrap_or_else(|| file.media_type.to_string());
            let digest = display_digest(&file.digest);
            (name, kind, Size(file.size).to_string(), digest)
        })
        .collect();
    let longest = |length: fn(&(String, String, String, &str)) -> usize| {
        rows.iter().map(length).max().unwrap_or_default()
    };
    let names = longest(|row| row.0.chars().count());
    let kinds = longest(|row| row.1.chars().count());
    let lines = rows.iter().map(|(name, kind, size, digest)| {
        format!("  {name:<names$}  {kind:<kinds$}  {size:>10}  {digest}")
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use oci_package::{
        Build, FileKind, InputFile, PackOptions, Package, PublishOptions, ReleaseTag,
    };
    use oci_registry::{Memory, Source};

    use super::*;

    #[tokio::test]
    async fn inspect_page_shows_metadata_targets_and_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("widgets");
        std::fs::write(&path, "a program").expect("a file");
        let mut package = Package::new("widgets", "1.2.3".parse().expect("a version"));
        package.description = Some("Round \u{1b}[31mones".into());
        let build = Build::new("x86_64-unknown-linux-musl", "release");
        let files = [InputFile::new(
            "widgets".parse().expect("a name"),
            FileKind::Bin,
            path,
        )];
        let options = PackOptions::default();
        let packed = oci_package::pack(&package, &build, &files, &options).await;
        let artifact = packed.expect("an artifact");
        let memory = Memory::new();
        let tags = [ReleaseTag::parse("1.2.3").expect("a tag")];
        let options = PublishOptions::default();
        let published = oci_package::publish(&artifact, &memory, &tags, &options, &|_| {}).await;
        let published = published.expect("memory takes it");
        let index = published.tags[0].index.clone().expect("an index");
        let source: Arc<dyn Source> = Arc::new(memory);
        let inspection = oci_package::inspect(&source, ManifestOrigin::default(), &index).await;
        let inspection = inspection.expect("all is there");
        let requested = Location::Registry("a.b/widgets:1.2.3".parse().expect("a reference"));
        let name = requested.with(index.digest().clone());
        let shown = format_page(&requested, &name, &inspection);
        let size = Size(inspection.size.expect("a size"));
        let expected = [
            "widgets 1.2.3".to_owned(),
            "Round \\u{1b}[31mones".to_owned(),
            String::new(),
            format!("reference  {name}"),
            "type       application/vnd.cargo-oci.package.v1".to_owned(),
            format!("size       {size}"),
            String::new(),
            format!(
                "x86_64-unknown-linux-musl  linux/amd64, musl  {size}  {}",
                published.manifest.digest()
            ),
            format!(
                "  widgets  bin         9 B  {}",
                oci_registry::Digest::sha256(b"a program")
            ),
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    }
}
