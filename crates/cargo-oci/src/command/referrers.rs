//! `cargo oci referrers`: print the referrers of a manifest as a tree.

use std::sync::Arc;

use clap::Args;
use futures_util::TryStreamExt;
use oci_package::{ReferrerNode, annotation, referrer_tree};
use oci_registry::{Digest, LocationText, MediaType, Source, escape};

use super::find::{self, SelectorFlags};
use crate::message::FormatFlag;
use crate::options::parse_location;
use crate::query_result::QueryResult;
use crate::report::{self, Error};
use crate::session::Session;
use crate::table::{Cell, Column, Table};

/// Maximum width of the column of artifact types, so that a table of 100 columns has room for date and digest.
const MAX_TYPE_WIDTH: usize = 68;

/// Maximum length of a printed artifact type, in characters.
const MAX_TYPE_LENGTH: usize = 200;

/// List artifacts that refer to this one (SBOMs, signatures, attestations)
///
/// Prints a tree of the manifests whose `subject` is the given manifest, and of the referrers of these manifests.
#[derive(Debug, Args)]
#[command(
    visible_alias = "discover",
    after_help = "Examples:\n  cargo oci referrers ghcr.io/acme/widgets:1.2.3\n  cargo oci referrers ghcr.io/acme/widgets:1.2.3 --target x86_64-unknown-linux-musl\n  cargo oci referrers oci:widgets:1.2.3 --artifact-type application/spdx+json"
)]
pub(crate) struct Flags {
    /// Artifact to list the referrers of (default tag: the highest release)
    ///
    /// REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or an archive. An archive is oci-archive:FILE[:TAG] or
    /// docker-archive:FILE[:NAME[:TAG]].
    #[arg(value_name = "REFERENCE", value_parser = parse_location)]
    reference: LocationText,

    #[command(flatten)]
    selector: SelectorFlags,

    /// Show only referrers of this artifact type, with their own referrers
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Fetches the referrers, and prints them as a tree or as JSON.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let source = session.open_source(&reference).await?;
    let root = find::resolve_identifier(&*source, &reference).await?;
    let selector = flags.selector.manifest_selector();
    let manifest = find::resolve_manifest(&*source, &reference, &root, selector.as_ref()).await?;
    let artifact_type = flags.artifact_type.as_deref().map(MediaType::from);
    let digest = manifest.digest();
    let tree = ReferrerTree::fetch(&source, digest.clone(), artifact_type).await?;
    if session.reporter.is_json() {
        for ReferrerNode {
            subject, referrer, ..
        } in &tree.branches
        {
            let result = QueryResult::for_referrer(&reference, subject, referrer);
            session.reporter.emit_query_result(&result);
        }
        return session.reporter.finish();
    }
    let lines: Vec<_> = tree.format_lines().collect();
    let subject = reference.with(root).to_string();
    let types = lines.iter().chain([&subject]);
    let table = Table::new([
        Column::text("ARTIFACT TYPE").fit(MAX_TYPE_WIDTH, types),
        Column::date("CREATED (UTC)"),
        Column::digest("DIGEST"),
    ]);
    if table.is_short() {
        let created = manifest.annotations().get(annotation::CREATED);
        table.print_header()?;
        table.print_row([
            Cell::Verbatim(&subject),
            Cell::Date(created.map(String::as_str)),
            Cell::Digest(Some(digest)),
        ])?;
    } else {
        report::write_line(reference.with(digest.clone()))?;
    }
    for (line, ReferrerNode { referrer, .. }) in lines.iter().zip(&tree.branches) {
        table.print_row([
            Cell::Verbatim(line),
            Cell::Date(referrer.annotation(annotation::CREATED)),
            Cell::Digest(Some(&referrer.digest)),
        ])?;
    }
    if tree.branches.is_empty() {
        session.reporter.note("no referrers");
    }
    Ok(())
}

/// Referrers of a manifest, their referrers, and so on.
struct ReferrerTree {
    /// Nodes, in depth-first order.
    branches: Vec<ReferrerNode>,
}

impl ReferrerTree {
    /// Fetches all referrers, one level of the tree after the other.
    async fn fetch(
        source: &Arc<dyn Source>,
        subject: Digest,
        artifact_type: Option<MediaType>,
    ) -> Result<Self, Error> {
        let tree = referrer_tree(Arc::clone(source), subject, artifact_type);
        let branches = tree.try_collect().await?;
        Ok(Self { branches })
    }

    /// Returns the branch and the artifact type of each node.
    fn format_lines(&self) -> impl Iterator<Item = String> {
        self.branches.iter().enumerate().map(
            |(
                at,
                ReferrerNode {
                    depth, referrer, ..
                },
            )| {
                let mut line = String::new();
                for level in 0..*depth {
                    line.push_str(if self.has_next_sibling(at, level) {
                        "│   "
                    } else {
                        "    "
                    });
                }
                line.push_str(if self.has_next_sibling(at, *depth) {
                    "├── "
                } else {
                    "└── "
                });
                let kind = referrer
                    .artifact_type
                    .as_ref()
                    .unwrap_or(&referrer.media_type);
                // The artifact type is untrusted and may contain control characters.
                line.push_str(&escape(kind.as_str(), MAX_TYPE_LENGTH));
                line
            },
        )
    }

    /// Whether the node at index `at`, or its ancestor at this depth, has a later sibling.
    fn has_next_sibling(&self, at: usize, depth: usize) -> bool {
        let later = self.branches[at + 1..].iter();
        let mut later = later.map(|branch| branch.depth);
        later.find(|found| *found <= depth) == Some(depth)
    }
}

#[cfg(test)]
mod tests {
    use oci_registry::Descriptor;

    use super::*;

    #[test]
    fn tree_lines_show_depth_and_siblings() {
        let entry = |name: &str| {
            let digest = Digest::sha256(name.as_bytes());
            let mut entry = Descriptor::new(MediaType::MANIFEST, digest, 1);
            entry.artifact_type = Some(name.into());
            entry
        };
        let branches = [(0, "a"), (1, "b"), (2, "c"), (1, "d"), (0, "e"), (1, "f")];
        let branches = branches.map(|(depth, name)| ReferrerNode {
            depth,
            subject: Digest::sha256(b"subject"),
            referrer: entry(name),
        });
        let tree = ReferrerTree {
            branches: branches.into(),
        };
        assert_eq!(
            tree.format_lines().collect::<Vec<_>>(),
            [
                "├── a",
                "│   ├── b",
                "│   │   └── c",
                "│   └── d",
                "└── e",
                "    └── f"
            ]
        );
    }
}
