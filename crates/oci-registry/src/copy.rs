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
    #[snafu(display("failed to read `{location}`"))]
    Read {
        location: String,
        source: crate::Error,
    },
    #[snafu(display("failed to list the tags to copy"))]
    ListTags { source: crate::Error },
    #[snafu(display("failed to list the referrers of `{location}`"))]
    ListReferrers {
        location: String,
        source: crate::Error,
    },
    #[snafu(display("failed to write `{location}`"))]
    Write {
        location: String,
        source: crate::Error,
    },
    #[snafu(display(
        "failed to copy `{location}`: its indexes are nested more than {MAX_DEPTH} levels deep"
    ))]
    TooDeep { location: String },
    #[snafu(display("failed to copy `{location}`: it has {excess}"))]
    TooMany { location: String, excess: Excess },
    #[snafu(display(
        "failed to copy `{location}`: its size is {actual} bytes, but its descriptor states {expected} bytes"
    ))]
    WrongSize {
        location: String,
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
    /// The transfer of a blob has started. The meter counts its bytes, and stays at zero if the blob exists at the
    /// target or is mounted.
    BlobStarted(Descriptor, Meter),
    /// The target has the blob.
    Blob(Descriptor, Delivery),
    /// A blob that may not be distributed is missing at the source and was skipped
    /// ([`MediaType::is_nondistributable`](crate::MediaType::is_nondistributable)).
    Skipped(Descriptor),
    /// The target has the manifest under its digest.
    Manifest(Descriptor),
    /// The tag at the target refers to the manifest. The last field is the digest to which the tag referred before, or
    /// `None` if the tag did not exist.
    Tag(Tag, Descriptor, Option<Digest>),
    /// A tag of the source was skipped. It refers to a list of referrers, and the target maintains such a list itself.
    SkippedTag(Tag),
}

/// Options of [`copy`] and [`copy_all`].
pub struct CopyOptions<'a> {
    /// For [`copy`], the tags to set on the root after everything is copied. For [`copy_all`], the tags to copy; if
    /// empty, all tags.
    pub tags: Vec<Tag>,
    /// Whether to copy referrers: manifests whose subject belongs to the artifact, and their referrers.
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

/// Copies the artifact that `root` refers to, with all content that it refers to, and returns its manifest. Layers that
/// may not be distributed are copied if the source has them and skipped otherwise; the URLs of their descriptors are
/// not used.
///
/// # Errors
///
/// Any error of the source or the target. [`crate::Error::side`] returns the side that failed.
/// [`ErrorKind::Unsupported`] if referrers are requested and the source cannot list them.
pub async fn copy(
    source: &Arc<dyn Source>,
    root: &Identifier,
    target: &dyn Target,
    options: CopyOptions<'_>,
) -> crate::Result<Manifest> {
    let copy = Copy::new(source, target, &options);
    let manifest = copy.read_manifest(root).await?;
    copy.copy_root(&manifest, &options.tags).await?;
    let untagged = options.tags.is_empty().then_some(&manifest);
    copy.complete(root, untagged).await?;
    Ok(manifest)
}

/// Copies the tags of a repository with all content that they refer to, and returns the tags with their manifests.
///
/// Skips a tag that was deleted after it was listed. Also skips a tag that refers to a list of referrers, because the
/// target maintains such a list itself.
///
/// # Errors
///
/// The errors of [`copy`]. After an error the copied content stays at the target, and the next copy skips it.
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
    // The iterator is collected, because with a lazy iterator over borrowed values the future would not be `Send`.
    let work: Vec<_> = tags.iter().map(|tag| copy.copy_tag(tag)).collect();
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

/// Task that runs only once. Its result is the digests of the manifests that it found.
type SharedTask = Arc<OnceCell<Vec<Digest>>>;

/// State that all tasks of one copy share.
struct Copy<'a> {
    source: &'a Arc<dyn Source>,
    target: &'a dyn Target,
    options: &'a CopyOptions<'a>,
    /// Permits for concurrent transfers of blobs.
    transfer_permits: Semaphore,
    /// Lock for pushing manifests. While an index is pushed, no other manifest is pushed, because some registries do
    /// not find a manifest while it is pushed again.
    push_lock: RwLock<()>,
    /// Started transfers. The key is the digest, and `true` if the content is a manifest. A second request for the same
    /// content waits for the first transfer.
    transfers: Mutex<HashMap<(Digest, bool), SharedTask>>,
    /// Whether the source has a blob that may not be distributed, keyed by digest. Such a blob may be missing, unless
    /// another descriptor of the same blob requires it.
    in_source: Mutex<HashMap<Digest, Arc<OnceCell<bool>>>>,
    /// Started copies of referrers, keyed by subject. A second request for the same subject waits for the first copy.
    referrer_copies: Mutex<HashMap<Digest, SharedTask>>,
}

/// State of copying an artifact or a part of an artifact.
#[derive(Default)]
struct GraphState {
    /// Manifests that were found so far.
    manifests: Mutex<Vec<Digest>>,
    /// Remaining budget of the whole artifact.
    budget: Arc<Budget>,
}

impl GraphState {
    /// Creates the state of a part of the artifact. The part has a separate list of manifests and shares the budget.
    fn new_part(&self) -> Self {
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
            transfer_permits: Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            push_lock: RwLock::default(),
            transfers: Mutex::default(),
            in_source: Mutex::default(),
            referrer_copies: Mutex::default(),
        }
    }

    async fn read_manifest(&self, identifier: &Identifier) -> Result<Manifest, Error> {
        let read = self.source.manifest(identifier).await;
        read.with_context(|_| ReadSnafu {
            location: self.source.describe(identifier),
        })
    }

    /// Whether a tag that has the form of a fallback tag refers to a list of referrers and not to an artifact.
    async fn is_referrers_list(&self, tag: &Tag) -> Result<bool, Error> {
        let named = Identifier::Tag(tag.clone());
        let read = self.source.manifest(&named).await.optional();
        let read = read.with_context(|_| ReadSnafu {
            location: self.source.describe(&named),
        })?;
        Ok(read.is_some_and(|manifest| referrers::is_list_under(&manifest, tag)))
    }

    fn write_error(&self, identifier: &Identifier) -> WriteSnafu<String> {
        WriteSnafu {
            location: self.target.describe(identifier),
        }
    }

    /// Acquires the lock for pushing a manifest: exclusive for an index, shared for other manifests.
    async fn lock_push(
        &self,
        manifest: &Manifest,
    ) -> Either<RwLockWriteGuard<'_, ()>, RwLockReadGuard<'_, ()>> {
        match manifest.as_index() {
            Some(_) => Either::Left(self.push_lock.write().await),
            None => Either::Right(self.push_lock.read().await),
        }
    }

    async fn complete(&self, root: &Identifier, untagged: Option<&Manifest>) -> Result<(), Error> {
        let completed = self.target.complete(untagged).await;
        completed.with_context(|_| match untagged {
            Some(manifest) => self.write_error(&manifest.digest().clone().into()),
            None => self.write_error(root),
        })
    }

    /// Copies the manifest of a listed tag. Returns `None` if the tag no longer exists.
    async fn copy_tag(&self, tag: &Tag) -> Result<Option<Manifest>, Error> {
        let named = Identifier::Tag(tag.clone());
        let read = self.source.manifest(&named).await;
        let read = if self.options.tags.is_empty() {
            read.optional()
        } else {
            read.map(Some)
        };
        let read = read.with_context(|_| ReadSnafu {
            location: self.source.describe(&named),
        })?;
        if let Some(manifest) = &read {
            self.copy_root(manifest, std::slice::from_ref(tag)).await?;
        }
        Ok(read)
    }

    /// Copies an artifact, and its referrers if requested. Then sets the tags.
    async fn copy_root(&self, manifest: &Manifest, tags: &[Tag]) -> Result<(), Error> {
        // Tags are set last. If a tag at the target already refers to the manifest, the artifact is complete there.
        let mut tags_to_set = Vec::new();
        for tag in tags {
            let named = Identifier::Tag(tag.clone());
            let previous = self.target.resolve(&named).await.optional();
            let previous = previous.with_context(|_| self.write_error(&named))?;
            let previous = previous.map(|previous| previous.digest);
            if previous.as_ref() != Some(manifest.digest()) {
                tags_to_set.push((tag, previous));
            }
        }
        let is_complete = tags_to_set.is_empty() && !tags.is_empty();
        if is_complete && !self.options.referrers {
            return Ok(());
        }
        let graph = GraphState::default();
        self.copy_manifest(manifest.clone(), 0, is_complete, &graph)
            .await?;
        if self.options.referrers {
            self.copy_referrers(&graph).await?;
        }
        for (tag, previous) in tags_to_set {
            let guard = self.lock_push(manifest).await;
            let tagged = self.target.tag(manifest, tag).await;
            drop(guard);
            tagged.with_context(|_| self.write_error(&tag.clone().into()))?;
            (self.options.observer)(CopyEvent::Tag(tag.clone(), manifest.descriptor(), previous));
        }
        Ok(())
    }

    /// Copies the referrers of all manifests of a graph, and their referrers.
    async fn copy_referrers(&self, graph: &GraphState) -> Result<(), Error> {
        let mut subjects: VecDeque<Digest> = lock(&graph.manifests).drain(..).collect();
        let (mut count, mut seen) = (subjects.len(), HashSet::new());
        while let Some(subject) = subjects.pop_front() {
            if !seen.insert(subject.clone()) {
                continue;
            }
            let task = Arc::clone(
                lock(&self.referrer_copies)
                    .entry(subject.clone())
                    .or_default(),
            );
            let found = task
                .get_or_try_init(|| self.copy_direct_referrers(&subject, graph))
                .await?;
            count += found.len();
            ensure!(
                count <= MAX_MANIFESTS,
                TooManySnafu {
                    location: self.source.describe(&subject.into()),
                    excess: Excess::Manifests
                }
            );
            subjects.extend(found.iter().cloned());
        }
        Ok(())
    }

    /// Copies the direct referrers of one manifest. Returns the digests of these referrers and of all manifests below
    /// them.
    async fn copy_direct_referrers(
        &self,
        subject: &Digest,
        graph: &GraphState,
    ) -> Result<Vec<Digest>, Error> {
        let location = || self.source.describe(&subject.clone().into());
        let listed = self.source.referrers(subject, None);
        let listed: Vec<_> = listed
            .try_collect()
            .await
            .with_context(|_| ListReferrersSnafu {
                location: location(),
            })?;
        let graph = graph.new_part();
        for entry in listed {
            let referrer = Identifier::Digest(entry.digest);
            let read = self.source.manifest(&referrer).await.optional();
            // The list may contain manifests that no longer exist.
            if let Some(manifest) = read.with_context(|_| ReadSnafu {
                location: location(),
            })? {
                self.copy_manifest(manifest, 0, false, &graph).await?;
            }
        }
        Ok(graph.into_manifests())
    }

    /// Returns the task that transfers this content. All requests for the content share the task.
    fn shared_task(&self, digest: &Digest, is_manifest: bool) -> SharedTask {
        let mut transfers = lock(&self.transfers);
        Arc::clone(transfers.entry((digest.clone(), is_manifest)).or_default())
    }

    /// Copies a manifest and its successors. If the target already has the manifest, no blob is transferred, and the
    /// graph is traversed only if referrers are requested, to find its manifests.
    fn copy_manifest<'b>(
        &'b self,
        manifest: Manifest,
        depth: usize,
        is_complete: bool,
        graph: &'b GraphState,
    ) -> BoxFuture<'b, Result<(), Error>> {
        async move {
            let location = || self.source.describe(&manifest.digest().clone().into());
            ensure!(
                depth <= MAX_DEPTH,
                TooDeepSnafu {
                    location: location()
                }
            );
            let task = self.shared_task(manifest.digest(), true);
            let below = task
                .get_or_try_init(|| self.push_with_successors(&manifest, depth, is_complete, graph))
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
                    location: location(),
                    excess: Excess::Manifests
                }
            );
            Ok(())
        }
        .boxed()
    }

    /// Pushes the successors of a manifest and then the manifest itself. Returns the digests of the manifests below it.
    async fn push_with_successors(
        &self,
        manifest: &Manifest,
        depth: usize,
        is_complete: bool,
        graph: &GraphState,
    ) -> Result<Vec<Digest>, Error> {
        let graph = graph.new_part();
        let identifier = Identifier::Digest(manifest.digest().clone());
        let descriptor = manifest.descriptor();
        let write_error = || self.write_error(&identifier);
        let is_complete = is_complete || {
            let exists = self.target.exists(&descriptor).await;
            exists.with_context(|_| write_error())?
        };
        if is_complete {
            if manifest.subject().is_some() {
                // The manifest is pushed again, because an earlier copy may have failed before it updated the subject's
                // list of referrers.
                let _guard = self.lock_push(manifest).await;
                let pushed = self.target.push_manifest(manifest).await;
                pushed.with_context(|_| write_error())?;
            }
            if !self.options.referrers {
                return Ok(Vec::new());
            }
        }
        if let Err(excess) = graph.budget.count_successors(manifest) {
            let location = self.source.describe(&identifier);
            return TooManySnafu { location, excess }.fail();
        }
        // The successors of an index are manifests, and the successors of a manifest are blobs, regardless of their
        // media types.
        let (children, blobs) = match manifest.as_index() {
            Some(_) => (manifest.successors(), Vec::new()),
            None => (Vec::new(), manifest.successors()),
        };
        let children: Vec<_> = children
            .into_iter()
            .map(|child| self.copy_index_entry(child, depth, is_complete, &graph))
            .collect();
        let concurrency = self.options.concurrency.max(1);
        let children = stream::iter(children).buffer_unordered(concurrency);
        children.try_collect::<()>().await?;
        if is_complete {
            return Ok(graph.into_manifests());
        }
        let blobs: Vec<_> = blobs
            .into_iter()
            .map(|blob| self.copy_blob(blob, &identifier))
            .collect();
        let blobs = stream::iter(blobs).buffer_unordered(concurrency);
        blobs.try_collect::<()>().await?;
        let guard = self.lock_push(manifest).await;
        let pushed = self.target.push_manifest(manifest).await;
        drop(guard);
        pushed.with_context(|_| write_error())?;
        (self.options.observer)(CopyEvent::Manifest(descriptor));
        Ok(graph.into_manifests())
    }

    /// Copies an entry of an index.
    async fn copy_index_entry(
        &self,
        child: &Descriptor,
        depth: usize,
        is_complete: bool,
        graph: &GraphState,
    ) -> Result<(), Error> {
        let identifier = Identifier::Digest(child.digest.clone());
        let manifest = self.read_manifest(&identifier).await?;
        let (expected, actual) = (child.size, manifest.bytes().len() as u64);
        ensure!(
            expected == actual,
            WrongSizeSnafu {
                location: self.source.describe(&identifier),
                expected,
                actual
            }
        );
        self.copy_manifest(manifest, depth + 1, is_complete, graph)
            .await
    }

    async fn copy_blob(&self, descriptor: &Descriptor, owner: &Identifier) -> Result<(), Error> {
        if descriptor.media_type.is_nondistributable() && !self.is_in_source(descriptor).await? {
            return Ok(());
        }
        let task = self.shared_task(&descriptor.digest, false);
        task.get_or_try_init(|| self.transfer_blob(descriptor, owner))
            .await?;
        Ok(())
    }

    /// Whether the source has a blob that may be missing. Reports a missing blob once.
    async fn is_in_source(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        let task = Arc::clone(
            lock(&self.in_source)
                .entry(descriptor.digest.clone())
                .or_default(),
        );
        let check = || async {
            let _permit = self.transfer_permits.acquire().await;
            let found = self.source.blob(descriptor).await.optional();
            let found = found.with_context(|_| ReadSnafu {
                location: self.source.describe(&descriptor.digest.clone().into()),
            })?;
            if found.is_none() {
                (self.options.observer)(CopyEvent::Skipped(descriptor.clone()));
            }
            Ok(found.is_some())
        };
        task.get_or_try_init(check).await.copied()
    }

    async fn transfer_blob(
        &self,
        descriptor: &Descriptor,
        owner: &Identifier,
    ) -> Result<Vec<Digest>, Error> {
        let _permit = self.transfer_permits.acquire().await;
        let content = Arc::new(SourceBlob::new(self.source, descriptor));
        let blob = Blob::from_content(descriptor.clone(), Arc::clone(&content) as _)
            .with_origin(self.source.origin().cloned());
        let meter = Meter::default();
        let blob = blob.metered(&meter);
        (self.options.observer)(CopyEvent::BlobStarted(descriptor.clone(), meter));
        let delivery = match self.target.push_blob(&blob).await {
            Ok(delivery) => delivery,
            Err(error) => {
                let location = || self.source.describe(&descriptor.digest.clone().into());
                return Err(match content.take_source_error(&error) {
                    Some(source) => ReadSnafu {
                        location: location(),
                    }
                    .into_error(source),
                    None => self.write_error(owner).into_error(error),
                });
            }
        };
        (self.options.observer)(CopyEvent::Blob(descriptor.clone(), delivery));
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests;
