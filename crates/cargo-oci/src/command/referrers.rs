//! `cargo oci referrers`: print the referrers of a manifest as a tree.

use std::fmt::Write as _;
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

/// List artifacts that refer to this one (SBOMs, signatures, attestations)
///
/// Prints a tree of the manifests whose `subject` is the given manifest, and of the referrers of these manifests.
#[derive(Debug, Args)]
#[command(
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
    report::write_line(reference.with(digest.clone()))?;
    for line in tree.format_lines() {
        report::write_line(line)?;
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
                let _ = write!(line, "{kind}  {}", referrer.digest);
                if let Some(created) = referrer.annotation(annotation::CREATED) {
                    // Annotations are untrusted and may contain control characters.
                    let _ = write!(line, "  {}", escape(created, 25));
                }
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
        let lines = tree.format_lines().map(|line| {
            let (drawn, _) = line.split_once("  sha256:").expect("a digest");
            drawn.to_owned()
        });
        assert_eq!(
            lines.collect::<Vec<_>>(),
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
