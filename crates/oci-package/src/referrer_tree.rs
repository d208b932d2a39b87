//! Tree of referrers: the referrers of a manifest, their referrers, and so on.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use oci_registry::{Descriptor, Digest, ErrorKind, Failure, MediaType, Source};
use snafu::{ResultExt, Snafu, ensure};

/// Maximum depth of the tree.
const MAX_DEPTH: usize = 16;

/// Maximum number of referrers in a tree.
const MAX_REFERRERS: usize = 10_000;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to list the referrers of {subject}"))]
    List {
        subject: Digest,
        source: oci_registry::Error,
    },
    #[snafu(display(
        "failed to list the referrers of {subject}: there are more than {MAX_REFERRERS}"
    ))]
    TooMany { subject: Digest },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::List { source, .. } => source.kind(),
            Self::TooMany { .. } => ErrorKind::Protocol,
        }
    }
}

/// Referrer and its position in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerNode {
    /// Number of referrers between this referrer and the root manifest.
    pub depth: usize,
    /// Digest of the `subject`: the manifest that the referrer refers to.
    pub subject: Digest,
    /// Descriptor of the referrer.
    pub referrer: Descriptor,
}

/// Lists the referrers of a manifest recursively, in depth-first order: each referrer is followed by its own referrers.
/// `artifact_type` filters the direct referrers only. Requests are sent as the stream is polled.
///
/// # Errors
///
/// The error of the source. [`ErrorKind::Protocol`] if there are more than 10,000 referrers.
pub fn referrer_tree(
    source: Arc<dyn Source>,
    subject: Digest,
    artifact_type: Option<MediaType>,
) -> BoxStream<'static, crate::Result<ReferrerNode>> {
    let traversal = Traversal {
        source,
        artifact_type,
        // The traversal processes the last element next.
        stack: vec![Step::List { subject, depth: 0 }],
        seen: HashSet::new(),
        found: 0,
    };
    stream::try_unfold(traversal, Traversal::next_referrer).boxed()
}

/// State of a depth-first traversal.
struct Traversal {
    source: Arc<dyn Source>,
    artifact_type: Option<MediaType>,
    stack: Vec<Step>,
    seen: HashSet<Digest>,
    /// Number of referrers listed so far.
    found: usize,
}

/// Pending step of a traversal.
enum Step {
    Yield(Box<ReferrerNode>),
    List { subject: Digest, depth: usize },
}

impl Traversal {
    async fn next_referrer(mut self) -> crate::Result<Option<(ReferrerNode, Self)>> {
        while let Some(step) = self.stack.pop() {
            match step {
                Step::Yield(node) => {
                    if node.depth + 1 < MAX_DEPTH {
                        self.stack.push(Step::List {
                            subject: node.referrer.digest.clone(),
                            depth: node.depth + 1,
                        });
                    }
                    return Ok(Some((*node, self)));
                }
                // Subjects may form a cycle.
                Step::List { subject, .. } if !self.seen.insert(subject.clone()) => {}
                Step::List { subject, depth } => {
                    let wanted = self.artifact_type.as_ref().filter(|_| depth == 0);
                    let remaining = MAX_REFERRERS - self.found;
                    let listed = self.source.referrers(&subject, wanted).take(remaining + 1);
                    let listed: Vec<_> =
                        listed.try_collect().await.with_context(|_| ListSnafu {
                            subject: subject.clone(),
                        })?;
                    ensure!(listed.len() <= remaining, TooManySnafu { subject });
                    self.found += listed.len();
                    let nodes = listed.into_iter().rev().map(|referrer| {
                        let subject = subject.clone();
                        Step::Yield(Box::new(ReferrerNode {
                            depth,
                            subject,
                            referrer,
                        }))
                    });
                    self.stack.extend(nodes);
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use oci_registry::{ImageManifest, Manifest, Memory, Target};

    use super::*;

    async fn push_referrer(
        memory: &Memory,
        artifact_type: &str,
        subject: Option<&Manifest>,
    ) -> Manifest {
        let config = oci_registry::Blob::empty();
        memory.push_blob(&config).await.unwrap();
        let mut image = ImageManifest::new(artifact_type.into(), config.descriptor().clone());
        image.subject = subject.map(Manifest::descriptor);
        let manifest = Manifest::from_image(image).unwrap();
        memory.push_manifest(&manifest).await.unwrap();
        manifest
    }

    #[tokio::test]
    async fn referrer_tree_lists_nested_referrers_after_parent() {
        let memory = Memory::new();
        let release = push_referrer(&memory, "a/release", None).await;
        let sbom = push_referrer(&memory, "a/sbom", Some(&release)).await;
        push_referrer(&memory, "a/signature", Some(&sbom)).await;
        push_referrer(&memory, "a/attestation", Some(&release)).await;
        let source: Arc<dyn Source> = Arc::new(memory);
        let walk = |artifact_type: Option<&'static str>| {
            let (source, digest) = (Arc::clone(&source), release.digest().clone());
            async move {
                let wanted = artifact_type.map(MediaType::from);
                let nodes: Vec<_> = referrer_tree(source, digest, wanted)
                    .try_collect()
                    .await
                    .unwrap();
                let shown = nodes.into_iter().map(|node| {
                    let kind = node.referrer.artifact_type.unwrap().to_string();
                    (node.depth, kind, node.subject)
                });
                shown.collect::<Vec<_>>()
            }
        };
        let all = walk(None).await;
        let of = |depth, kind: &str, subject: &Manifest| {
            (depth, kind.to_owned(), subject.digest().clone())
        };
        assert_eq!(all.len(), 3);
        let at = all
            .iter()
            .position(|found| *found == of(0, "a/sbom", &release))
            .unwrap();
        assert_eq!(all[at + 1], of(1, "a/signature", &sbom));
        assert!(all.contains(&of(0, "a/attestation", &release)));
        let some = walk(Some("a/sbom")).await;
        assert_eq!(
            some,
            [of(0, "a/sbom", &release), of(1, "a/signature", &sbom)]
        );
    }

    /// Source that returns 100 referrers for every digest.
    #[derive(Debug)]
    struct EndlessReferrers(Memory);

    #[async_trait::async_trait]
    #[deny(clippy::missing_trait_methods)]
    impl Source for EndlessReferrers {
        async fn manifest(
            &self,
            identifier: &oci_registry::Identifier,
        ) -> oci_registry::Result<Manifest> {
            self.0.manifest(identifier).await
        }

        async fn resolve(
            &self,
            identifier: &oci_registry::Identifier,
        ) -> oci_registry::Result<Descriptor> {
            self.0.resolve(identifier).await
        }

        async fn blob(
            &self,
            descriptor: &Descriptor,
        ) -> oci_registry::Result<oci_registry::BlobStream> {
            self.0.blob(descriptor).await
        }

        fn tags(&self) -> oci_registry::TagStream {
            self.0.tags()
        }

        fn referrers(
            &self,
            subject: &Digest,
            _: Option<&MediaType>,
        ) -> oci_registry::DescriptorStream {
            let subject = subject.clone();
            let entry = move |number: usize| {
                let digest = Digest::sha256(format!("{subject} {number}").as_bytes());
                Ok(Descriptor::new(MediaType::MANIFEST, digest, 1))
            };
            stream::iter((0..100).map(entry)).boxed()
        }

        fn describe(&self, identifier: &oci_registry::Identifier) -> String {
            self.0.describe(identifier)
        }

        async fn blob_after(
            &self,
            descriptor: &Descriptor,
            partial: oci_registry::PartialBlob,
        ) -> oci_registry::Result<oci_registry::BlobStream> {
            self.0.blob_after(descriptor, partial).await
        }

        async fn find_blob(&self, digest: &Digest) -> oci_registry::Result<Descriptor> {
            self.0.find_blob(digest).await
        }

        fn origin(&self) -> Option<&oci_registry::Reference> {
            self.0.origin()
        }

        async fn other_names(&self) -> oci_registry::Result<Vec<oci_registry::OtherName>> {
            self.0.other_names().await
        }
    }

    #[tokio::test]
    async fn referrer_tree_with_endless_referrers_fails_at_limit() {
        let source: Arc<dyn Source> = Arc::new(EndlessReferrers(Memory::new()));
        let mut tree = referrer_tree(source, Digest::sha256(b"root"), None);
        let mut count = 0;
        let error = loop {
            match tree.try_next().await {
                Ok(Some(_)) => count += 1,
                Ok(None) => unreachable!("the source has endless referrers"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(count <= MAX_REFERRERS, "{count}");
    }
}
