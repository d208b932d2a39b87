//! Copying an artifact from a source to a target: push, pull, mirror and backup at once.
//!
//! Goes through the graph from its root: what is at the target already is not looked into, blobs go before the manifests
//! that name them, and a tag last, so that nothing at the target ever names what is not there. Bytes are never altered.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::TryStreamExt;
use snafu::{ResultExt, Snafu, ensure};

use crate::blob::{Blob, BlobStream, Content};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Optional, RegistryError, Side};
use crate::manifest::{Descriptor, Manifest};
use crate::reference::{Identifier, Tag};
use crate::storage::{Delivery, Source, Target};

/// Indexes within indexes deeper than this are refused.
const MAX_DEPTH: usize = 4;

/// Graphs of more manifests than this are refused.
const MAX_MANIFESTS: usize = 10_000;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read `{place}`"))]
    Read { place: String, source: crate::Error },
    #[snafu(display("failed to write `{place}`"))]
    Write { place: String, source: crate::Error },
    #[snafu(display(
        "refused to copy `{place}`: its indexes are nested more than {MAX_DEPTH} deep"
    ))]
    TooDeep { place: String },
    #[snafu(display("refused to copy `{place}`: it has more than {MAX_MANIFESTS} manifests"))]
    TooMany { place: String },
    #[snafu(display(
        "refused `{place}`: its size is {actual}, and it was announced with {expected}"
    ))]
    WrongSize {
        place: String,
        expected: u64,
        actual: u64,
    },
}

impl Error {
    fn cause(&self) -> Option<&crate::Error> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::WrongSize { .. } => ErrorKind::Mismatch,
            _ => self.cause().map_or(ErrorKind::Protocol, crate::Error::kind),
        }
    }

    fn help(&self) -> Vec<String> {
        self.cause().map(crate::Error::help).unwrap_or_default()
    }

    fn registry_errors(&self) -> &[RegistryError] {
        self.cause()
            .map(crate::Error::registry_errors)
            .unwrap_or_default()
    }

    fn side(&self) -> Option<Side> {
        Some(if matches!(self, Self::Write { .. }) {
            Side::Target
        } else {
            Side::Source
        })
    }
}

/// Something that a copy has done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CopyEvent {
    /// A blob is at the target.
    Blob(Descriptor, Delivery),
    /// A manifest is at the target, under its digest.
    Manifest(Descriptor),
    /// A tag of the target names the manifest.
    Tag(Tag, Descriptor),
}

/// How to copy.
pub struct CopyOptions<'a> {
    /// The tags that name the root at the target when everything is there.
    pub tags: Vec<Tag>,
    /// How many blobs move at the same time, at least 1.
    pub concurrency: usize,
    /// Told of each thing done.
    pub observer: &'a (dyn Fn(CopyEvent) + Send + Sync),
}

impl Default for CopyOptions<'_> {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            concurrency: 4,
            observer: &|_| {},
        }
    }
}

impl fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOptions")
            .field("tags", &self.tags)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// Copies the artifact that `root` names, with everything it needs, and returns its manifest.
///
/// # Errors
///
/// What either end fails with; [`crate::Error::side`] tells which end it was.
pub async fn copy(
    source: &Arc<dyn Source>,
    root: &Identifier,
    target: &dyn Target,
    options: CopyOptions<'_>,
) -> crate::Result<Manifest> {
    let manifest = source.manifest(root).await;
    let manifest = manifest.with_context(|_| ReadSnafu {
        place: source.describe(root),
    })?;
    // What has its tag is whole, so a tag that names the root already settles everything with one question.
    let mut wanting = Vec::new();
    for tag in &options.tags {
        let held = target.resolve(&tag.clone().into()).await.optional();
        let held = held.with_context(|_| WriteSnafu {
            place: target.describe(&tag.clone().into()),
        })?;
        if held.is_none_or(|held| held.digest != *manifest.digest()) {
            wanting.push(tag);
        }
    }
    if wanting.is_empty() && !options.tags.is_empty() {
        return Ok(manifest);
    }
    let graph = Graph {
        source,
        target,
        options: &options,
    };
    graph.copy(&manifest, 0, &mut HashSet::new()).await?;
    for tag in wanting {
        let tagged = target.tag(&manifest, tag).await;
        tagged.with_context(|_| WriteSnafu {
            place: target.describe(&tag.clone().into()),
        })?;
        (options.observer)(CopyEvent::Tag(tag.clone(), manifest.descriptor()));
    }
    Ok(manifest)
}

struct Graph<'a> {
    source: &'a Arc<dyn Source>,
    target: &'a dyn Target,
    options: &'a CopyOptions<'a>,
}

impl Graph<'_> {
    /// Copies a manifest and all that it names, unless it is there.
    fn copy<'b>(
        &'b self,
        manifest: &'b Manifest,
        depth: usize,
        seen: &'b mut HashSet<Digest>,
    ) -> BoxFuture<'b, Result<(), Error>> {
        async move {
            let identifier = Identifier::Digest(manifest.digest().clone());
            let place = || self.source.describe(&identifier);
            ensure!(depth <= MAX_DEPTH, TooDeepSnafu { place: place() });
            ensure!(seen.len() <= MAX_MANIFESTS, TooManySnafu { place: place() });
            let descriptor = manifest.descriptor();
            let written = || WriteSnafu {
                place: self.target.describe(&identifier),
            };
            if !seen.insert(manifest.digest().clone()) {
                return Ok(());
            }
            let exists = self.target.exists(&descriptor).await;
            if exists.with_context(|_| written())? {
                if manifest.subject().is_some() {
                    // An earlier copy may have ended before its subject was told of it.
                    let pushed = self.target.push_manifest(manifest).await;
                    pushed.with_context(|_| written())?;
                }
                return Ok(());
            }
            // What an index names is a manifest and what a manifest names is a blob, whatever their media types say.
            let (children, blobs) = match manifest.as_index() {
                Some(_) => (manifest.successors(), Vec::new()),
                None => (Vec::new(), manifest.successors()),
            };
            for child in children {
                let identifier = Identifier::Digest(child.digest.clone());
                let read = self.source.manifest(&identifier).await;
                let read = read.with_context(|_| ReadSnafu {
                    place: self.source.describe(&identifier),
                })?;
                let (expected, actual) = (child.size, read.bytes().len() as u64);
                ensure!(
                    expected == actual,
                    WrongSizeSnafu {
                        place: self.source.describe(&identifier),
                        expected,
                        actual
                    }
                );
                self.copy(&read, depth + 1, seen).await?;
            }
            let mut unique = HashSet::new();
            let blobs = blobs
                .into_iter()
                .filter(|blob| unique.insert(&blob.digest))
                .map(Ok);
            let concurrency = self.options.concurrency.max(1);
            futures_util::stream::iter(blobs)
                .try_for_each_concurrent(concurrency, |blob| self.copy_blob(blob, &identifier))
                .await?;
            self.target
                .push_manifest(manifest)
                .await
                .with_context(|_| written())?;
            (self.options.observer)(CopyEvent::Manifest(descriptor));
            Ok(())
        }
        .boxed()
    }

    async fn copy_blob(&self, descriptor: &Descriptor, owner: &Identifier) -> Result<(), Error> {
        let content = Borrowed {
            source: Arc::clone(self.source),
            descriptor: descriptor.clone(),
        };
        let blob = Blob::from_content(descriptor.clone(), Arc::new(content))
            .with_origin(self.source.origin().cloned());
        let pushed = self.target.push_blob(&blob).await;
        let delivery = pushed.with_context(|_| WriteSnafu {
            place: self.target.describe(owner),
        })?;
        (self.options.observer)(CopyEvent::Blob(descriptor.clone(), delivery));
        Ok(())
    }
}

/// A blob that is fetched from its source each time it is opened.
#[derive(Debug)]
struct Borrowed {
    source: Arc<dyn Source>,
    descriptor: Descriptor,
}

impl Content for Borrowed {
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
        async move {
            let opened = self.source.blob(&self.descriptor).await;
            let place = || self.source.describe(&self.descriptor.digest.clone().into());
            Ok(opened.with_context(|_| ReadSnafu { place: place() })?)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::manifest::{Annotations, Index, MediaType};
    use crate::memory::Memory;
    use crate::pack::Packed;

    async fn index_of_two() -> (Memory, Manifest) {
        let memory = Memory::new();
        let mut entries = Vec::new();
        for content in ["one", "two"] {
            let layers = vec![Blob::from_bytes(MediaType::OCTET_STREAM, content)];
            let packed =
                Packed::new("a/b".into(), Blob::empty(), layers, Annotations::new()).unwrap();
            let digest = packed.manifest().digest().clone().into();
            entries.push(packed.manifest().descriptor());
            let packed: Arc<dyn Source> = Arc::new(packed);
            copy(&packed, &digest, &memory, CopyOptions::default())
                .await
                .unwrap();
        }
        let index = Manifest::from_index(Index::new(None, entries)).unwrap();
        memory.push_manifest(&index).await.unwrap();
        memory.tag(&index, &"1".parse().unwrap()).await.unwrap();
        (memory, index)
    }

    #[tokio::test]
    async fn a_graph_arrives_whole_and_once() {
        let (from, index) = index_of_two().await;
        let from: Arc<dyn Source> = Arc::new(from);
        let to = Memory::new();
        let tag: Tag = "1".parse().unwrap();
        let events = Mutex::new(Vec::new());
        let observer = |event: CopyEvent| events.lock().unwrap().push(event);
        let options = || CopyOptions {
            tags: vec![tag.clone()],
            concurrency: 2,
            observer: &observer,
        };
        let copied = copy(&from, &tag.clone().into(), &to, options())
            .await
            .unwrap();
        assert_eq!(copied, index);
        assert_eq!(to.manifest(&tag.clone().into()).await.unwrap(), index);
        let count = |wanted: fn(&CopyEvent) -> bool| {
            events
                .lock()
                .unwrap()
                .iter()
                .filter(|event| wanted(event))
                .count()
        };
        assert_eq!(
            count(|event| matches!(event, CopyEvent::Blob(_, Delivery::Uploaded))),
            3
        );
        assert_eq!(
            count(|event| matches!(event, CopyEvent::Blob(_, Delivery::Existed))),
            1
        );
        assert_eq!(count(|event| matches!(event, CopyEvent::Manifest(_))), 3);
        events.lock().unwrap().clear();
        copy(&from, &tag.clone().into(), &to, options())
            .await
            .unwrap();
        assert!(events.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn failures_name_the_end_that_failed() {
        let (from, index) = index_of_two().await;
        let from: Arc<dyn Source> = Arc::new(from);
        let absent = Identifier::Tag("absent".parse().unwrap());
        let error = copy(&from, &absent, &Memory::new(), CopyOptions::default())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.side()),
            (ErrorKind::NotFound, Some(Side::Source))
        );
        let lonely = Memory::new();
        let entry = Descriptor::new(MediaType::MANIFEST, Digest::sha256(b"x"), 1);
        let broken = Manifest::from_index(Index::new(None, vec![entry])).unwrap();
        assert!(lonely.push_manifest(&broken).await.is_err());
        assert_eq!(index.successors().len(), 2);
    }
}
