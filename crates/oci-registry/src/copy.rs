//! Copying an artifact from a source to a target: push, pull, mirror and backup at once.
//!
//! Goes through the graph from its root: what is at the target already is not looked into, blobs go before the manifests
//! that name them, and a tag last, so that nothing at the target ever names what is not there. Bytes are never altered.
//!
//! What is about an artifact, such as a signature, comes along when it is asked for, and before the tag: whoever follows a
//! tag finds it signed. Several tags are copied at the same time, and what they share moves once.

mod source_blob;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, Either, FutureExt};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use snafu::{IntoError, ResultExt, Snafu, ensure};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore};

use crate::blob::{Blob, Meter};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Optional, Side};
use crate::graph::{Budget, Excess, MAX_DEPTH, MAX_MANIFESTS};
use crate::manifest::{Descriptor, Manifest};
use crate::reference::{Identifier, Tag};
use crate::referrers;
use crate::storage::{Delivery, Source, Target};
use source_blob::SourceBlob;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read `{place}`"))]
    Read { place: String, source: crate::Error },
    #[snafu(display("failed to list the tags to copy"))]
    ListTags { source: crate::Error },
    #[snafu(display("failed to list what is about `{place}`"))]
    ListReferrers { place: String, source: crate::Error },
    #[snafu(display("failed to write `{place}`"))]
    Write { place: String, source: crate::Error },
    #[snafu(display(
        "refused to copy `{place}`: its indexes are nested more than {MAX_DEPTH} deep"
    ))]
    TooDeep { place: String },
    #[snafu(display("refused to copy `{place}`: it has {excess}"))]
    TooMany { place: String, excess: Excess },
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
            Self::Read { source, .. }
            | Self::ListTags { source }
            | Self::ListReferrers { source, .. }
            | Self::Write { source, .. } => Some(source),
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
    /// A blob is about to be brought to the target; the meter tells how far it has come. A blob that turns out to be
    /// there, or next door, moves no byte.
    BlobStarted(Descriptor, Meter),
    /// A blob is at the target.
    Blob(Descriptor, Delivery),
    /// A blob that may not be passed on is not at the source, and was left out
    /// ([`MediaType::is_nondistributable`](crate::MediaType::is_nondistributable)).
    Skipped(Descriptor),
    /// A manifest is at the target, under its digest.
    Manifest(Descriptor),
    /// A tag of the target names the manifest; the last is the digest of what it named before, if it was there.
    Tag(Tag, Descriptor, Option<Digest>),
    /// A tag of the source was left aside: it keeps a list of referrers, which the target keeps itself.
    LeftAside(Tag),
}

/// How to copy.
pub struct CopyOptions<'a> {
    /// The tags that name the root at the target when everything is there; of a whole repository, the tags that are copied,
    /// all of them when none is given.
    pub tags: Vec<Tag>,
    /// Whether what is about the artifact comes along: the manifests whose subject is one of its own, and what is about
    /// those.
    pub referrers: bool,
    /// How many blobs move at the same time, at least 1.
    pub concurrency: usize,
    /// Told of each thing done.
    pub observer: &'a (dyn Fn(CopyEvent) + Send + Sync),
}

impl Default for CopyOptions<'_> {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            referrers: false,
            concurrency: 4,
            observer: &|_| {},
        }
    }
}

impl fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOptions")
            .field("tags", &self.tags)
            .field("referrers", &self.referrers)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// Copies the artifact that `root` names, with everything it needs, and returns its manifest. Layers that may not be passed
/// on are copied where the source has them, and left out where it does not; other places that they name are not asked.
///
/// # Errors
///
/// What either end fails with; [`crate::Error::side`] tells which end it was. [`ErrorKind::Unsupported`] when referrers
/// are to come along and the source cannot tell them.
pub async fn copy(
    source: &Arc<dyn Source>,
    root: &Identifier,
    target: &dyn Target,
    options: CopyOptions<'_>,
) -> crate::Result<Manifest> {
    let copy = Copy::new(source, target, &options);
    let manifest = copy.read(root).await?;
    copy.root(&manifest, &options.tags).await?;
    copy.finish(root).await?;
    Ok(manifest)
}

/// Copies the tags of a whole repository, with everything they name, and returns what each of them names.
///
/// A tag that is gone since it was listed is left out. So is one that keeps a list of referrers: the target keeps its own.
///
/// # Errors
///
/// As [`copy`]. What was copied until then stays, and copying again goes on from there.
pub async fn copy_all(
    source: &Arc<dyn Source>,
    target: &dyn Target,
    options: CopyOptions<'_>,
) -> crate::Result<Vec<(Tag, Manifest)>> {
    let copy = Copy::new(source, target, &options);
    let mut tags = options.tags.clone();
    if tags.is_empty() {
        let mut listed = source.tags();
        while let Some(tag) = listed.try_next().await.context(ListTagsSnafu)? {
            if referrers::is_fallback_tag(&tag) && copy.is_referrers_list(&tag).await? {
                (options.observer)(CopyEvent::LeftAside(tag));
            } else {
                tags.push(tag);
            }
        }
    }
    // A list, because a lazy iterator over borrowed things would make the whole not `Send`.
    let work: Vec<_> = tags.iter().map(|tag| copy.tag(tag)).collect();
    let copied = stream::iter(work).buffered(options.concurrency.max(1));
    let copied: Vec<_> = copied.try_collect().await?;
    if let Some(first) = tags.first() {
        copy.finish(&first.clone().into()).await?;
    }
    let copied = tags.into_iter().zip(copied);
    Ok(copied
        .filter_map(|(tag, manifest)| Some((tag, manifest?)))
        .collect())
}

/// Something that is done once, and the manifests that were come by.
type Once = Arc<OnceCell<Vec<Digest>>>;

/// One copy: what is shared by all that is copied in it.
struct Copy<'a> {
    source: &'a Arc<dyn Source>,
    target: &'a dyn Target,
    options: &'a CopyOptions<'a>,
    /// Leave to move a blob.
    moving: Semaphore,
    /// Indexes are written when no other manifest is: some registries do not find a manifest while it is written again.
    writing: RwLock<()>,
    /// What was begun, manifests and blobs apart, so that nothing moves twice; whoever comes second waits for the first.
    begun: Mutex<HashMap<(Digest, bool), Once>>,
    /// Whether blobs that may be absent are at the source. Whoever else names one may not do without it.
    present: Mutex<HashMap<Digest, Arc<OnceCell<bool>>>>,
    /// The manifests whose referrers were begun; whoever comes second waits here, too.
    asked: Mutex<HashMap<Digest, Once>>,
}

/// What is known of one artifact, or of a part of it, while it is copied.
#[derive(Default)]
struct Graph {
    /// Its manifests, as they are come by.
    manifests: Mutex<Vec<Digest>>,
    /// How large the whole may still be.
    budget: Arc<Budget>,
}

impl Graph {
    /// A part of it, whose manifests are noted apart.
    fn part(&self) -> Self {
        Self {
            manifests: Mutex::default(),
            budget: Arc::clone(&self.budget),
        }
    }

    fn into_manifests(self) -> Vec<Digest> {
        self.manifests
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Copy<'a> {
    fn new(
        source: &'a Arc<dyn Source>,
        target: &'a dyn Target,
        options: &'a CopyOptions<'a>,
    ) -> Self {
        Self {
            source,
            target,
            options,
            moving: Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            writing: RwLock::default(),
            begun: Mutex::default(),
            present: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    async fn read(&self, identifier: &Identifier) -> Result<Manifest, Error> {
        let read = self.source.manifest(identifier).await;
        read.with_context(|_| ReadSnafu {
            place: self.source.describe(identifier),
        })
    }

    /// Whether a tag of the form of a fallback tag names a list of referrers, and not an artifact.
    async fn is_referrers_list(&self, tag: &Tag) -> Result<bool, Error> {
        let named = Identifier::Tag(tag.clone());
        let read = self.source.manifest(&named).await.optional();
        let read = read.with_context(|_| ReadSnafu {
            place: self.source.describe(&named),
        })?;
        Ok(read.is_some_and(|manifest| referrers::is_list_under(&manifest, tag)))
    }

    fn written(&self, identifier: &Identifier) -> WriteSnafu<String> {
        WriteSnafu {
            place: self.target.describe(identifier),
        }
    }

    /// Leave to write a manifest, for as long as it is kept.
    async fn turn(
        &self,
        manifest: &Manifest,
    ) -> Either<RwLockWriteGuard<'_, ()>, RwLockReadGuard<'_, ()>> {
        match manifest.as_index() {
            Some(_) => Either::Left(self.writing.write().await),
            None => Either::Right(self.writing.read().await),
        }
    }

    async fn finish(&self, root: &Identifier) -> Result<(), Error> {
        let finished = self.target.finish().await;
        finished.with_context(|_| self.written(root))
    }

    /// Copies what a listed tag names; nothing if it is gone.
    async fn tag(&self, tag: &Tag) -> Result<Option<Manifest>, Error> {
        let named = Identifier::Tag(tag.clone());
        let read = self.source.manifest(&named).await;
        let read = if self.options.tags.is_empty() {
            read.optional()
        } else {
            read.map(Some)
        };
        let read = read.with_context(|_| ReadSnafu {
            place: self.source.describe(&named),
        })?;
        if let Some(manifest) = &read {
            self.root(manifest, std::slice::from_ref(tag)).await?;
        }
        Ok(read)
    }

    /// Copies an artifact, what is about it if that is wanted, and lets the tags name it.
    async fn root(&self, manifest: &Manifest, tags: &[Tag]) -> Result<(), Error> {
        // What has its tag is whole, so a tag that names the root already settles everything with one question.
        let mut wanting = Vec::new();
        for tag in tags {
            let named = Identifier::Tag(tag.clone());
            let held = self.target.resolve(&named).await.optional();
            let held = held.with_context(|_| self.written(&named))?;
            let held = held.map(|held| held.digest);
            if held.as_ref() != Some(manifest.digest()) {
                wanting.push((tag, held));
            }
        }
        let is_whole = wanting.is_empty() && !tags.is_empty();
        if is_whole && !self.options.referrers {
            return Ok(());
        }
        let graph = Graph::default();
        self.manifest(manifest.clone(), 0, is_whole, &graph).await?;
        if self.options.referrers {
            self.referrers(&graph).await?;
        }
        if tags.is_empty() {
            let listed = self.target.list(manifest).await;
            listed.with_context(|_| self.written(&manifest.digest().clone().into()))?;
        }
        for (tag, held) in wanting {
            let turn = self.turn(manifest).await;
            let tagged = self.target.tag(manifest, tag).await;
            drop(turn);
            tagged.with_context(|_| self.written(&tag.clone().into()))?;
            (self.options.observer)(CopyEvent::Tag(tag.clone(), manifest.descriptor(), held));
        }
        Ok(())
    }

    /// Copies what is about the manifests of a graph, and what is about that.
    async fn referrers(&self, graph: &Graph) -> Result<(), Error> {
        let mut subjects: VecDeque<Digest> = lock(&graph.manifests).drain(..).collect();
        let (mut count, mut seen) = (subjects.len(), HashSet::new());
        while let Some(subject) = subjects.pop_front() {
            if !seen.insert(subject.clone()) {
                continue;
            }
            let once = Arc::clone(lock(&self.asked).entry(subject.clone()).or_default());
            let found = once.get_or_try_init(|| self.about(&subject, graph)).await?;
            count += found.len();
            ensure!(
                count <= MAX_MANIFESTS,
                TooManySnafu {
                    place: self.source.describe(&subject.into()),
                    excess: Excess::Manifests
                }
            );
            subjects.extend(found.iter().cloned());
        }
        Ok(())
    }

    /// Copies what is about one manifest, and says which manifests that is made of.
    async fn about(&self, subject: &Digest, graph: &Graph) -> Result<Vec<Digest>, Error> {
        let place = || self.source.describe(&subject.clone().into());
        let listed = self.source.referrers(subject, None);
        let listed: Vec<_> = listed
            .try_collect()
            .await
            .with_context(|_| ListReferrersSnafu { place: place() })?;
        let graph = graph.part();
        for entry in listed {
            let about = Identifier::Digest(entry.digest);
            let read = self.source.manifest(&about).await.optional();
            // A list may name what was deleted since.
            if let Some(manifest) = read.with_context(|_| ReadSnafu { place: place() })? {
                self.manifest(manifest, 0, false, &graph).await?;
            }
        }
        Ok(graph.into_manifests())
    }

    /// What is done once for this content, whoever asks for it.
    fn once(&self, digest: &Digest, is_manifest: bool) -> Once {
        let mut begun = lock(&self.begun);
        Arc::clone(begun.entry((digest.clone(), is_manifest)).or_default())
    }

    /// Copies a manifest and all that it names, unless it is there. What is whole at the target is only looked through.
    fn manifest<'b>(
        &'b self,
        manifest: Manifest,
        depth: usize,
        is_whole: bool,
        graph: &'b Graph,
    ) -> BoxFuture<'b, Result<(), Error>> {
        async move {
            let place = || self.source.describe(&manifest.digest().clone().into());
            ensure!(depth <= MAX_DEPTH, TooDeepSnafu { place: place() });
            let once = self.once(manifest.digest(), true);
            let below = once
                .get_or_try_init(|| self.bring(&manifest, depth, is_whole, graph))
                .await?;
            let count = {
                let mut manifests = lock(&graph.manifests);
                manifests.push(manifest.digest().clone());
                manifests.extend(below.iter().cloned());
                manifests.len()
            };
            ensure!(
                count <= MAX_MANIFESTS,
                TooManySnafu {
                    place: place(),
                    excess: Excess::Manifests
                }
            );
            Ok(())
        }
        .boxed()
    }

    /// Brings a manifest and all that it names, and says which manifests are below it.
    async fn bring(
        &self,
        manifest: &Manifest,
        depth: usize,
        is_whole: bool,
        graph: &Graph,
    ) -> Result<Vec<Digest>, Error> {
        let graph = graph.part();
        let identifier = Identifier::Digest(manifest.digest().clone());
        let descriptor = manifest.descriptor();
        let written = || self.written(&identifier);
        let is_whole = is_whole || {
            let exists = self.target.exists(&descriptor).await;
            exists.with_context(|_| written())?
        };
        if is_whole {
            if manifest.subject().is_some() {
                // An earlier copy may have ended before its subject was told of it.
                let _turn = self.turn(manifest).await;
                let pushed = self.target.push_manifest(manifest).await;
                pushed.with_context(|_| written())?;
            }
            if !self.options.referrers {
                return Ok(Vec::new());
            }
        }
        if let Err(excess) = graph.budget.announce(manifest) {
            let place = self.source.describe(&identifier);
            return TooManySnafu { place, excess }.fail();
        }
        // What an index names is a manifest and what a manifest names is a blob, whatever their media types say.
        let (children, blobs) = match manifest.as_index() {
            Some(_) => (manifest.successors(), Vec::new()),
            None => (Vec::new(), manifest.successors()),
        };
        let children: Vec<_> = children
            .into_iter()
            .map(|child| self.child(child, depth, is_whole, &graph))
            .collect();
        let concurrency = self.options.concurrency.max(1);
        let children = stream::iter(children).buffer_unordered(concurrency);
        children.try_collect::<()>().await?;
        if is_whole {
            return Ok(graph.into_manifests());
        }
        let blobs: Vec<_> = blobs
            .into_iter()
            .map(|blob| self.blob(blob, &identifier))
            .collect();
        let blobs = stream::iter(blobs).buffer_unordered(concurrency);
        blobs.try_collect::<()>().await?;
        let turn = self.turn(manifest).await;
        let pushed = self.target.push_manifest(manifest).await;
        drop(turn);
        pushed.with_context(|_| written())?;
        (self.options.observer)(CopyEvent::Manifest(descriptor));
        Ok(graph.into_manifests())
    }

    /// Copies an entry of an index.
    async fn child(
        &self,
        child: &Descriptor,
        depth: usize,
        is_whole: bool,
        graph: &Graph,
    ) -> Result<(), Error> {
        let identifier = Identifier::Digest(child.digest.clone());
        let manifest = self.read(&identifier).await?;
        let (expected, actual) = (child.size, manifest.bytes().len() as u64);
        ensure!(
            expected == actual,
            WrongSizeSnafu {
                place: self.source.describe(&identifier),
                expected,
                actual
            }
        );
        self.manifest(manifest, depth + 1, is_whole, graph).await
    }

    async fn blob(&self, descriptor: &Descriptor, owner: &Identifier) -> Result<(), Error> {
        if descriptor.media_type.is_nondistributable() && !self.is_present(descriptor).await? {
            return Ok(());
        }
        let once = self.once(&descriptor.digest, false);
        once.get_or_try_init(|| self.bring_blob(descriptor, owner))
            .await?;
        Ok(())
    }

    /// Whether a blob that may be absent is at the source; told once when it is not.
    async fn is_present(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        let once = Arc::clone(
            lock(&self.present)
                .entry(descriptor.digest.clone())
                .or_default(),
        );
        let look = || async {
            let _leave = self.moving.acquire().await;
            let found = self.source.blob(descriptor).await.optional();
            let found = found.with_context(|_| ReadSnafu {
                place: self.source.describe(&descriptor.digest.clone().into()),
            })?;
            if found.is_none() {
                (self.options.observer)(CopyEvent::Skipped(descriptor.clone()));
            }
            Ok(found.is_some())
        };
        once.get_or_try_init(look).await.copied()
    }

    async fn bring_blob(
        &self,
        descriptor: &Descriptor,
        owner: &Identifier,
    ) -> Result<Vec<Digest>, Error> {
        let _leave = self.moving.acquire().await;
        let content = Arc::new(SourceBlob::new(self.source, descriptor));
        let blob = Blob::from_content(descriptor.clone(), Arc::clone(&content) as _)
            .with_origin(self.source.origin().cloned());
        let meter = Meter::default();
        let blob = blob.metered(&meter);
        (self.options.observer)(CopyEvent::BlobStarted(descriptor.clone(), meter));
        let delivery = match self.target.push_blob(&blob).await {
            Ok(delivery) => delivery,
            Err(error) => {
                let place = || self.source.describe(&descriptor.digest.clone().into());
                return Err(match content.failure_behind(&error) {
                    Some(source) => ReadSnafu { place: place() }.into_error(source),
                    None => self.written(owner).into_error(error),
                });
            }
        };
        (self.options.observer)(CopyEvent::Blob(descriptor.clone(), delivery));
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests;
