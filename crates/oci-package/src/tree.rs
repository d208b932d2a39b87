//! What is about a manifest, and what is about that: a signature about an SBOM about a release.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use oci_registry::{Descriptor, Digest, MediaType, Result, Source};

/// How deep the tree is followed.
const MAX_DEPTH: usize = 16;

/// A referrer, and where it hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// How many are between it and the manifest that was asked about.
    pub depth: usize,
    /// What it is about.
    pub subject: Digest,
    /// The referrer itself.
    pub referrer: Descriptor,
}

/// Everything that is about a manifest, from the top down, each followed by what is about it. Of the uppermost only those
/// of this type are taken, with all that is about them. The next list is asked for when the stream is polled.
pub fn referrer_tree(
    source: Arc<dyn Source>,
    subject: Digest,
    artifact_type: Option<MediaType>,
) -> BoxStream<'static, Result<Branch>> {
    let walk = Walk {
        source,
        artifact_type,
        // What is looked into next is the last.
        stack: vec![Next::List { subject, depth: 0 }],
        seen: HashSet::new(),
    };
    stream::try_unfold(walk, Walk::next).boxed()
}

struct Walk {
    source: Arc<dyn Source>,
    artifact_type: Option<MediaType>,
    stack: Vec<Next>,
    seen: HashSet<Digest>,
}

enum Next {
    Give(Box<Branch>),
    List { subject: Digest, depth: usize },
}

impl Walk {
    async fn next(mut self) -> Result<Option<(Branch, Self)>> {
        while let Some(next) = self.stack.pop() {
            match next {
                Next::Give(branch) => {
                    if branch.depth + 1 < MAX_DEPTH {
                        self.stack.push(Next::List {
                            subject: branch.referrer.digest.clone(),
                            depth: branch.depth + 1,
                        });
                    }
                    return Ok(Some((*branch, self)));
                }
                // They may go round in a circle.
                Next::List { subject, .. } if !self.seen.insert(subject.clone()) => {}
                Next::List { subject, depth } => {
                    let wanted = self.artifact_type.as_ref().filter(|_| depth == 0);
                    let listed: Vec<_> = self
                        .source
                        .referrers(&subject, wanted)
                        .try_collect()
                        .await?;
                    let branches = listed.into_iter().rev().map(|referrer| {
                        let subject = subject.clone();
                        Next::Give(Box::new(Branch {
                            depth,
                            subject,
                            referrer,
                        }))
                    });
                    self.stack.extend(branches);
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

    async fn about(memory: &Memory, artifact_type: &str, subject: Option<&Manifest>) -> Manifest {
        let config = oci_registry::Blob::empty();
        memory.push_blob(&config).await.unwrap();
        let mut image = ImageManifest::new(artifact_type.into(), config.descriptor().clone());
        image.subject = subject.map(Manifest::descriptor);
        let manifest = Manifest::from_image(image).unwrap();
        memory.push_manifest(&manifest).await.unwrap();
        manifest
    }

    #[tokio::test]
    async fn what_is_about_something_follows_it() {
        let memory = Memory::new();
        let release = about(&memory, "a/release", None).await;
        let sbom = about(&memory, "a/sbom", Some(&release)).await;
        about(&memory, "a/signature", Some(&sbom)).await;
        about(&memory, "a/attestation", Some(&release)).await;
        let source: Arc<dyn Source> = Arc::new(memory);
        let walk = |artifact_type: Option<&'static str>| {
            let (source, digest) = (Arc::clone(&source), release.digest().clone());
            async move {
                let wanted = artifact_type.map(MediaType::from);
                let branches: Vec<_> = referrer_tree(source, digest, wanted)
                    .try_collect()
                    .await
                    .unwrap();
                let shown = branches.into_iter().map(|branch| {
                    let kind = branch.referrer.artifact_type.unwrap().to_string();
                    (branch.depth, kind, branch.subject)
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
}
