//! The laws that every [`Target`] obeys, as code (feature `conformance`).
//!
//! Another place for content is a file that implements [`Target`] and passes [`run`]. Owns what is the same for all
//! places: a registry, a directory, an archive and plain memory are held to one list. Where places may rightly differ, a
//! place declares what it does in [`Capabilities`], and is held to that. Does not own what is particular to one place,
//! such as who may write to a directory at the same time; that is tested where the place is. A place that lets go of
//! content passes [`run_deletions`] as well.
//!
//! ```
//! # async fn check() -> oci_registry::Result<()> {
//! use std::sync::Arc;
//! use oci_registry::{Memory, Target, conformance};
//!
//! let fresh = async || Ok(Arc::new(Memory::new()) as Arc<dyn Target>);
//! let report = conformance::run(conformance::Capabilities::default(), fresh).await?;
//! println!("{} laws hold", report.laws.len());
//! # Ok(())
//! # }
//! ```

/// The laws of a kind of place, by the sentences that say them.
macro_rules! laws {
    ($place:ident: $($sentence:literal => $law:path,)+) => {
        type Law = for<'a> fn(&'a $place) -> BoxFuture<'a, Verdict>;

        const LAWS: &[(&str, Law)] = &[$(($sentence, |place| Box::pin($law(place)))),+];
    };
}

mod blob;
mod delete;
mod graph;
mod manifest;
mod sample;
mod tag;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::TryStreamExt;
use snafu::{ResultExt, Snafu, ensure};

pub use self::delete::run_deletions;
use self::sample::{Sample, Script, Scripted, named};
use crate::blob::Blob;
use crate::error::{ErrorKind, Failure, Optional};
use crate::manifest::{Descriptor, Manifest};
use crate::reference::{Identifier, Tag};
use crate::storage::{Delivery, Target};

/// More than a whole blob of these laws, small or large.
const LIMIT: usize = 16 << 20;

/// How many writers race.
const WRITERS: usize = 16;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to make a fresh target for the law `{law}`"))]
    Make {
        law: &'static str,
        source: crate::Error,
    },
    #[snafu(display("the target breaks the law `{law}`"))]
    Law { law: &'static str, source: Breach },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Make { source, .. } => source.kind(),
            Self::Law { .. } => ErrorKind::Protocol,
        }
    }
}

/// How a law is broken.
#[derive(Debug, Snafu)]
enum Breach {
    #[snafu(display("failed to {step}"))]
    Step {
        step: &'static str,
        source: crate::Error,
    },
    #[snafu(display("expected {expected}"))]
    Outcome { expected: &'static str },
    #[snafu(display("expected {step} to fail as {expected:?}"))]
    OtherKind {
        step: &'static str,
        expected: ErrorKind,
        source: crate::Error,
    },
    #[snafu(display("expected {step} to fail as {expected:?}, and it succeeded"))]
    NoFailure {
        step: &'static str,
        expected: ErrorKind,
    },
}

type Verdict<T = ()> = Result<T, Breach>;

/// What a place does where places may differ. The default is the strictest place, which takes everything it should.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own, answered yes or no"
)]
pub struct Capabilities {
    /// Whether a manifest is refused while something that it names is missing; else it is taken.
    pub refuses_incomplete: bool,
    /// Whether a tag on a manifest that is not here is refused; else it brings the manifest along.
    pub refuses_tag_on_absent: bool,
    /// Whether content may be named by sha512; else it is refused.
    pub sha512: bool,
    /// Whether a tag may name an index; else that is refused.
    pub indexes: bool,
    /// Whether a tag may name an artifact that is no image; else that is refused.
    pub artifacts: bool,
    /// Whether a tag can be deleted; else that is [`ErrorKind::Unsupported`], as it is below.
    pub deletes_tags: bool,
    /// Whether a manifest can be deleted.
    pub deletes_manifests: bool,
    /// Whether a blob can be deleted.
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

/// What was found out about a place that broke no law.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The laws that hold, as sentences.
    pub laws: Vec<&'static str>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} laws hold", self.laws.len())
    }
}

/// Holds a kind of place to all laws, each in a fresh and empty place of its own. Fresh is what says so: the repositories
/// of one registry may share content behind its back, so no two laws refuse what another one pushes.
///
/// # Errors
///
/// The first law that is broken, by name, and how. [`ErrorKind::Protocol`], or what `make` fails with.
pub async fn run(
    capabilities: Capabilities,
    make: impl AsyncFn() -> crate::Result<Arc<dyn Target>>,
) -> crate::Result<Report> {
    let mut laws = Vec::new();
    for (law, holds) in LAWS.iter().copied() {
        let target = make().await.context(MakeSnafu { law })?;
        let place = Place {
            target,
            capabilities,
        };
        holds(&place).await.context(LawSnafu { law })?;
        laws.push(law);
    }
    Ok(Report { laws })
}

/// A fresh target and what it says of itself.
struct Place {
    target: Arc<dyn Target>,
    capabilities: Capabilities,
}

laws! {
    Place:
    "an empty place says that nothing is there" => blob::empty_place,
    "a pushed blob reads back exactly" => blob::blob_reads_back,
    "a blob without bytes is a blob" => blob::empty_blob,
    "a large blob streams in and out" => blob::large_blob,
    "a blob named by sha512 is kept under that name, or refused" => blob::sha512_blob,
    "a pushed file is the blob that it says" => blob::pushed_file,
    "pushing a blob that is there opens nothing and changes nothing" => blob::blob_again,
    "writers of one blob do not hinder each other" => blob::blob_race,
    "content with another digest is refused and leaves nothing" => blob::wrong_digest,
    "content that is too short is refused and leaves nothing" => blob::too_short,
    "content that goes on is refused and leaves nothing" => blob::too_long,
    "content that breaks off fails as its source failed and leaves nothing" => blob::broken_off,
    "content that cannot be verified is neither taken nor given" => blob::unverifiable,
    "a blob is not given under another size" => blob::other_size,
    "a manifest is found by its digest" => manifest::manifest_by_digest,
    "a manifest is found by its tag" => manifest::manifest_by_tag,
    "a manifest's bytes stay as they are" => manifest::exact_bytes,
    "a manifest that does not say what it is stays as it is" => manifest::silent_manifest,
    "docker's manifests are kept as they are" => manifest::docker_manifest,
    "pushing a manifest again changes nothing" => manifest::manifest_again,
    "manifests share what they have in common" => manifest::shared_content,
    "a manifest about an absent subject is taken" => manifest::absent_subject,
    "an artifact is kept, or no tag names it" => manifest::artifact,
    "a manifest whose content is missing is refused, or taken, as declared" => manifest::incomplete,
    "a tag moves and leaves the old manifest" => tag::tag_moves,
    "a tag is set again without harm" => tag::tag_again,
    "a tag that is set once is set" => tag::tag_once,
    "a manifest has as many tags as it is given" => tag::many_tags,
    "a tag never names what is not there" => tag::tag_on_absent,
    "tags are listed, each once" => tag::tags_listed,
    "writers of different tags lose none" => tag::tag_race,
    "an index finds its manifests, or no tag names it" => manifest::index,
    "an index within an index is an index" => manifest::nested_index,
    "an index whose manifest is missing is refused, or taken, as declared" => manifest::incomplete_index,
    "a copy to it is the original" => graph::copy_to,
    "a copy to it again sends nothing" => graph::copy_again,
    "a copy from it is the original" => graph::copy_from,
    "what is read is named as a person would" => graph::described,
}

impl Place {
    async fn push_blob(&self, blob: &Blob) -> Verdict<Delivery> {
        let pushed = self.target.push_blob(blob).await;
        pushed.context(StepSnafu {
            step: "push a blob",
        })
    }

    async fn push(&self, sample: &Sample) -> Verdict {
        for blob in &sample.blobs {
            self.push_blob(blob).await?;
        }
        self.push_manifest(&sample.manifest).await
    }

    async fn push_manifest(&self, manifest: &Manifest) -> Verdict {
        let pushed = self.target.push_manifest(manifest).await;
        pushed.context(StepSnafu {
            step: "push a manifest",
        })
    }

    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> Verdict {
        let tagged = self.target.tag(manifest, tag).await;
        tagged.context(StepSnafu {
            step: "tag a manifest",
        })
    }

    async fn manifest(&self, identifier: &Identifier) -> Verdict<Manifest> {
        let found = self.target.manifest(identifier).await;
        found.context(StepSnafu {
            step: "fetch a manifest",
        })
    }

    async fn exists(&self, descriptor: &Descriptor) -> Verdict<bool> {
        let exists = self.target.exists(descriptor).await;
        exists.context(StepSnafu {
            step: "ask whether content is there",
        })
    }

    async fn read(&self, descriptor: &Descriptor) -> crate::Result<Bytes> {
        self.target.blob(descriptor).await?.read_to_end(LIMIT).await
    }

    async fn expect_blob(&self, descriptor: &Descriptor, content: &[u8]) -> Verdict {
        let read = self.read(descriptor).await;
        let read = read.context(StepSnafu {
            step: "read a blob back",
        })?;
        expect(
            read == content,
            "a blob's bytes to be those that were pushed",
        )?;
        let exists = self.exists(descriptor).await?;
        expect(exists, "a blob that reads to exist")
    }

    /// The very manifest, by this name, in all that can be asked about it.
    async fn expect_manifest(&self, identifier: &Identifier, expected: &Manifest) -> Verdict {
        let found = self.manifest(identifier).await?;
        expect(
            found.bytes() == expected.bytes(),
            "a manifest's bytes to be those that were pushed",
        )?;
        expect(
            found.digest() == expected.digest(),
            "a manifest's digest to be what it was pushed with",
        )?;
        expect(
            found.media_type() == expected.media_type(),
            "a manifest's media type to be what it was pushed as",
        )?;
        let resolved = self.target.resolve(identifier).await;
        let resolved = resolved.context(StepSnafu {
            step: "resolve a manifest",
        })?;
        let descriptor = expected.descriptor();
        let told = (&resolved.digest, resolved.size, &resolved.media_type);
        let wanted = (&descriptor.digest, descriptor.size, &descriptor.media_type);
        expect(
            told == wanted,
            "resolving to tell digest, size and media type of the manifest",
        )?;
        let exists = self.exists(&descriptor).await?;
        expect(exists, "a manifest that is found to exist")
    }

    async fn expect_no_blob(&self, descriptor: &Descriptor) -> Verdict {
        let exists = self.exists(descriptor).await?;
        expect(!exists, "a blob that is not there not to exist")?;
        let read = self.read(descriptor).await;
        fails(
            read,
            ErrorKind::NotFound,
            "reading a blob that is not there",
        )
    }

    async fn expect_no_manifest(&self, identifier: &Identifier) -> Verdict {
        let found = self.target.manifest(identifier).await;
        fails(
            found,
            ErrorKind::NotFound,
            "fetching a manifest that is not there",
        )?;
        let resolved = self.target.resolve(identifier).await;
        fails(
            resolved,
            ErrorKind::NotFound,
            "resolving a manifest that is not there",
        )
    }

    /// The tags, in byte order. A registry may say that an empty repository is none.
    async fn tags(&self) -> Verdict<Vec<Tag>> {
        let tags: crate::Result<Vec<Tag>> = self.target.tags().try_collect().await;
        let tags = tags.optional().context(StepSnafu { step: "list tags" })?;
        let mut tags = tags.unwrap_or_default();
        tags.sort();
        Ok(tags)
    }

    /// What is refused leaves no trace, and the right content is welcome afterwards.
    async fn expect_refused(
        &self,
        content: &'static str,
        script: Script,
        kind: ErrorKind,
    ) -> Verdict {
        let right = sample::blob(content);
        let wrong = Scripted::blob(right.descriptor().clone(), script);
        let pushed = self.target.push_blob(&wrong).await;
        fails(pushed, kind, "pushing what is not the promised content")?;
        self.expect_no_blob(right.descriptor()).await?;
        self.push_blob(&right).await?;
        self.expect_blob(right.descriptor(), content.as_bytes())
            .await
    }

    /// A tag that is refused names nothing, neither this nor anything else.
    async fn expect_tag_refused(&self, manifest: &Manifest, tag: &Tag) -> Verdict {
        let tagged = self.target.tag(manifest, tag).await;
        expect(tagged.is_err(), "a tag to be refused, as was declared")?;
        self.expect_no_manifest(&named(tag)).await?;
        expect(
            !self.tags().await?.contains(tag),
            "a refused tag not to be listed",
        )
    }
}

fn expect(holds: bool, expected: &'static str) -> Verdict {
    ensure!(holds, OutcomeSnafu { expected });
    Ok(())
}

fn fails<T>(outcome: crate::Result<T>, expected: ErrorKind, step: &'static str) -> Verdict {
    match outcome {
        Ok(_) => NoFailureSnafu { step, expected }.fail(),
        Err(error) if error.kind() == expected => Ok(()),
        Err(error) => Err(error).context(OtherKindSnafu { step, expected }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::stream::StreamExt;

    use super::*;
    use crate::archive::Archive;
    use crate::blob::BlobStream;
    use crate::layout::Layout;
    use crate::memory::Memory;
    use crate::reference::ArchiveFormat;
    use crate::storage::Source;

    #[tokio::test]
    async fn memory_obeys_all_laws() {
        let make = async || Ok(Arc::new(Memory::new()) as Arc<dyn Target>);
        let report = run(Capabilities::default(), make).await.unwrap();
        println!("memory: {report}");
        assert_eq!(report.laws.len(), LAWS.len());
    }

    #[tokio::test]
    async fn a_layout_obeys_all_laws() {
        let home = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicUsize::new(0);
        let make = async || {
            let at = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let layout = Layout::create(home.path().join(at.to_string())).await?;
            Ok(Arc::new(layout) as Arc<dyn Target>)
        };
        let capabilities = Capabilities {
            refuses_incomplete: false,
            ..Capabilities::default()
        };
        let report = run(capabilities, make).await.unwrap();
        println!("layout: {report}");
        assert_eq!(report.laws.len(), LAWS.len());
    }

    async fn archive(format: ArchiveFormat, capabilities: Capabilities) -> Report {
        let home = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicUsize::new(0);
        let make = async || {
            let at = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let path = home.path().join(format!("{at}.tar"));
            Ok(Arc::new(Archive::create(path, format.clone()).await?) as Arc<dyn Target>)
        };
        let report = run(capabilities, make).await.unwrap();
        assert_eq!(report.laws.len(), LAWS.len());
        report
    }

    #[tokio::test]
    async fn an_archive_of_a_layout_obeys_all_laws() {
        let capabilities = Capabilities {
            refuses_incomplete: false,
            ..Capabilities::default()
        };
        println!(
            "oci archive: {}",
            archive(ArchiveFormat::Oci, capabilities).await
        );
    }

    #[tokio::test]
    async fn a_docker_archive_obeys_all_laws() {
        let capabilities = Capabilities {
            refuses_incomplete: false,
            indexes: false,
            artifacts: false,
            ..Capabilities::default()
        };
        let format = ArchiveFormat::Docker(Some("acme/widgets".parse().unwrap()));
        println!("docker archive: {}", archive(format, capabilities).await);
    }

    #[tokio::test]
    async fn laws_have_names_of_their_own() {
        let names: BTreeSet<_> = LAWS.iter().map(|(law, _)| law).collect();
        assert_eq!(names.len(), LAWS.len());
    }

    /// A place that is wrong in one way.
    #[derive(Debug, Default)]
    struct Broken {
        memory: Memory,
        flaw: Flaw,
    }

    #[derive(Debug, Default, Clone, Copy, PartialEq)]
    enum Flaw {
        #[default]
        TagsLinger,
        BlobsReadBackwards,
        AbsentIsAnError,
        PushesBlindly,
    }

    #[async_trait::async_trait]
    impl Source for Broken {
        async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
            let found = self.memory.manifest(identifier).await;
            if self.flaw == Flaw::AbsentIsAnError {
                return found.map_err(|error| crate::Error::new(ErrorKind::Network, error));
            }
            found
        }

        async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
            let stream = self.memory.blob(descriptor).await?;
            if self.flaw == Flaw::BlobsReadBackwards {
                let mut bytes = stream.read_to_end(LIMIT).await?.to_vec();
                bytes.reverse();
                let pieces = futures_util::stream::once(async { Ok(bytes.into()) });
                return BlobStream::new(descriptor, pieces.boxed());
            }
            Ok(stream)
        }

        fn tags(&self) -> crate::storage::TagStream {
            self.memory.tags()
        }

        fn describe(&self, identifier: &Identifier) -> String {
            self.memory.describe(identifier)
        }
    }

    #[async_trait::async_trait]
    impl Target for Broken {
        async fn exists(&self, descriptor: &Descriptor) -> crate::Result<bool> {
            self.memory.exists(descriptor).await
        }

        async fn push_blob(&self, blob: &Blob) -> crate::Result<Delivery> {
            if self.flaw == Flaw::PushesBlindly {
                blob.open().await?.read_to_end(LIMIT).await?;
            }
            self.memory.push_blob(blob).await
        }

        async fn push_manifest(&self, manifest: &Manifest) -> crate::Result<()> {
            self.memory.push_manifest(manifest).await
        }

        async fn tag(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
            let is_there = self
                .memory
                .tags()
                .any(async |held| held.is_ok_and(|held| held == *tag))
                .await;
            if self.flaw == Flaw::TagsLinger && is_there {
                return Ok(());
            }
            self.memory.tag(manifest, tag).await
        }
    }

    #[tokio::test]
    async fn each_flaw_breaks_the_law_that_forbids_it() {
        for (flaw, law) in [
            (Flaw::TagsLinger, "a tag moves and leaves the old manifest"),
            (Flaw::BlobsReadBackwards, "a pushed blob reads back exactly"),
            (
                Flaw::AbsentIsAnError,
                "an empty place says that nothing is there",
            ),
            (
                Flaw::PushesBlindly,
                "pushing a blob that is there opens nothing and changes nothing",
            ),
        ] {
            let make = async || {
                let memory = Memory::new();
                Ok(Arc::new(Broken { memory, flaw }) as Arc<dyn Target>)
            };
            let error = run(Capabilities::default(), make).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the target breaks the law `{law}`")
            );
            assert!(std::error::Error::source(&error).is_some());
        }
    }
}
