//! Copies of artifacts from a source to a target. Push, pull, mirror and backup are all copies.
//!
//! [`copy`] traverses the graph from its root and skips content that exists at the target. It pushes blobs before the
//! manifests that refer to them, and tags last, so no manifest or tag at the target ever refers to missing content.
//! Bytes are never altered.
//!
//! Referrers of an artifact, such as signatures, are copied on request. They are copied before the tag is set, so a
//! client that resolves the tag finds the signature. Several tags are copied concurrently, and content that they share
//! is transferred once.

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
    #[snafu(display("failed to list the referrers of `{place}`"))]
    ListReferrers { place: String, source: crate::Error },
    #[snafu(display("failed to write `{place}`"))]
    Write { place: String, source: crate::Error },
    #[snafu(display(
        "failed to copy `{place}`: its indexes are nested more than {MAX_DEPTH} levels deep"
    ))]
    TooDeep { place: String },
    #[snafu(display("failed to copy `{place}`: it has {excess}"))]
    TooMany { place: String, excess: Excess },
    #[snafu(display(
        "failed to copy `{place}`: its size is {actual} bytes, its descriptor states {expected}"
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

/// Progress of a copy.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CopyEvent {
    /// The transfer of a blob starts; the meter counts its bytes. It stays at zero if the blob exists at the target or
    /// is mounted.
    BlobStarted(Descriptor, Meter),
    /// The target has the blob.
    Blob(Descriptor, Delivery),
    /// A blob that may not be distributed is missing at the source and was skipped
    /// ([`MediaType::is_nondistributable`](crate::MediaType::is_nondistributable)).
    Skipped(Descriptor),
    /// The target has the manifest, under its digest.
    Manifest(Descriptor),
    /// The tag of the target refers to the manifest. The last field is the digest of its previous manifest, if it had
    /// one.
    Tag(Tag, Descriptor, Option<Digest>),
    /// A tag of the source was skipped: it holds a list of referrers, which the target maintains itself.
    SkippedTag(Tag),
}

/// Options of [`copy`] and [`copy_all`].
pub struct CopyOptions<'a> {
    /// For [`copy`], the tags to set on the root after everything is copied. For [`copy_all`], the tags to copy; if
    /// empty, all tags.
    pub tags: Vec<Tag>,
    /// Whether to copy referrers: manifests whose subject belongs to the artifact, and the referrers of those.
    pub referrers: bool,
    /// Maximum number of blobs that are transferred at the same time, at least 1.
    pub concurrency: usize,
    /// Callback for each event.
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

/// Copies the artifact that `root` refers to, with everything that it needs, and returns its manifest. Layers that may
/// not be distributed are copied if the source has them and skipped otherwise; the URLs of their descriptors are not
/// used.
///
/// # Errors
///
/// Any error of the source or the target; [`crate::Error::side`] returns which of them failed.
/// [`ErrorKind::Unsupported`] if referrers are requested and the source cannot list them.
pub async fn copy(
    source: &Arc<dyn Source>,
    root: &Identifier,
    target: &dyn Target,
    options: CopyOptions<'_>,
) -> crate::Result<Manifest> {
    let copy = Copy::new(source, target, &options);
    let manifest = copy.read(root).await?;
    copy.root(&manifest, &options.tags).await?;
    let untagged = options.tags.is_empty().then_some(&manifest);
    copy.complete(root, untagged).await?;
    Ok(manifest)
}

/// Copies the tags of a repository with everything they refer to, and returns the tags with their manifests.
///
/// Skips a tag that was deleted after it was listed, and a tag that holds a list of referrers, because the target
/// maintains its own list.
///
/// # Errors
///
/// As [`copy`]. After an error the copied content stays at the target, and another copy continues from there.
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
                (options.observer)(CopyEvent::SkippedTag(tag));
            } else {
                tags.push(tag);
            }
        }
    }
    // A list, because a lazy iterator over borrowed values would make the future not `Send`.
    let work: Vec<_> = tags.iter().map(|tag| copy.tag(tag)).collect();
    let copied = stream::iter(work).buffered(options.concurrency.max(1));
    let copied: Vec<_> = copied.try_collect().await?;
    if let Some(first) = tags.first() {
        copy.complete(&first.clone().into(), None).await?;
    }
    let copied = tags.into_iter().zip(copied);
    Ok(copied
        .filter_map(|(tag, manifest)| Some((tag, manifest?)))
        .collect())
}

/// Work that is done once, with the digests of the manifests that it found.
type Once = Arc<OnceCell<Vec<Digest>>>;

/// State that all tasks of one copy share.
struct Copy<'a> {
    source: &'a Arc<dyn Source>,
    target: &'a dyn Target,
    options: &'a CopyOptions<'a>,
    /// Permits for transfers of blobs.
    moving: Semaphore,
    /// Lock that keeps the push of an index apart from pushes of other manifests, because some registries do not find a
    /// manifest while it is pushed again.
    writing: RwLock<()>,
    /// Transfers that were started, by digest and whether it is a manifest. A second request for the same content waits
    /// for the first.
    begun: Mutex<HashMap<(Digest, bool), Once>>,
    /// Whether the source has a blob that may be absent. Another descriptor of the same blob may require it.
    present: Mutex<HashMap<Digest, Arc<OnceCell<bool>>>>,
    /// Subjects whose referrers were requested. A second request for the same subject waits for the first.
    asked: Mutex<HashMap<Digest, Once>>,
}

/// State of the copy of one artifact or of a part of it.
#[derive(Default)]
struct Graph {
    /// Manifests that were found so far.
    manifests: Mutex<Vec<Digest>>,
    /// Remaining budget of the whole artifact.
    budget: Arc<Budget>,
}

impl Graph {
    /// Creates the state of a part, which has its own list of manifests and shares the budget.
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

    /// Whether a tag in the form of a fallback tag refers to a list of referrers and not to an artifact.
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

    /// Waits until the manifest may be pushed, and returns the guard to hold meanwhile.
    async fn turn(
        &self,
        manifest: &Manifest,
    ) -> Either<RwLockWriteGuard<'_, ()>, RwLockReadGuard<'_, ()>> {
        match manifest.as_index() {
            Some(_) => Either::Left(self.writing.write().await),
            None => Either::Right(self.writing.read().await),
        }
    }

    async fn complete(&self, root: &Identifier, untagged: Option<&Manifest>) -> Result<(), Error> {
        let completed = self.target.complete(untagged).await;
        completed.with_context(|_| match untagged {
            Some(manifest) => self.written(&manifest.digest().clone().into()),
            None => self.written(root),
        })
    }

    /// Copies the manifest of a listed tag. Returns `None` if the tag no longer exists.
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

    /// Copies an artifact, its referrers if requested, and sets the tags.
    async fn root(&self, manifest: &Manifest, tags: &[Tag]) -> Result<(), Error> {
        // A tag is set last, so an artifact with this tag is complete at the target and needs no further check.
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
        for (tag, held) in wanting {
            let turn = self.turn(manifest).await;
            let tagged = self.target.tag(manifest, tag).await;
            drop(turn);
            tagged.with_context(|_| self.written(&tag.clone().into()))?;
            (self.options.observer)(CopyEvent::Tag(tag.clone(), manifest.descriptor(), held));
        }
        Ok(())
    }

    /// Copies the referrers of all manifests of a graph, and the referrers of those.
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

    /// Copies the referrers of one manifest, and returns the digests of all manifests in them.
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
            // The list may contain manifests that were deleted.
            if let Some(manifest) = read.with_context(|_| ReadSnafu { place: place() })? {
                self.manifest(manifest, 0, false, &graph).await?;
            }
        }
        Ok(graph.into_manifests())
    }

    /// Returns the shared state of the transfer of this content.
    fn once(&self, digest: &Digest, is_manifest: bool) -> Once {
        let mut begun = lock(&self.begun);
        Arc::clone(begun.entry((digest.clone(), is_manifest)).or_default())
    }

    /// Copies a manifest and its successors unless they exist. If the target has all of it, the graph is only traversed
    /// to find its manifests.
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

    /// Pushes the successors of a manifest and then the manifest, and returns the digests of the manifests below it.
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
                // An earlier copy may have ended before it updated the list of referrers of the subject.
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
        // Entries of an index are manifests and those of a manifest are blobs, regardless of their media types.
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

    /// Whether the source has a blob that may be absent. Reports a missing one once.
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
