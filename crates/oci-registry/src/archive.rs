//! Archives: repositories in one tar file, as a layout (image-spec, `image-layout.md`) or in the format of
//! `docker save`.
//!
//! An archive is read without being unpacked. One pass over the tar file records the position of each entry, and blobs
//! are read from these positions, so memory use stays small. Names in the archive are only looked up and never used as
//! paths. Links are not followed. Devices and duplicate names are rejected.
//!
//! Pushed blobs are stored in temporary files until a tag is set or [`Archive::finish`] is called. Then the whole
//! archive is written to a temporary file, flushed and renamed. Entries are sorted and have neither owners nor times,
//! so the same content always results in the same file. A docker archive is also a layout, so manifests are stored
//! unchanged. In addition, it contains the `manifest.json` that Docker reads. The module [`state`] reads and writes the
//! file.

mod docker;
mod error;
mod index;
mod state;
mod stored_content;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use snafu::{OptionExt, ResultExt, ensure};
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use self::error::{
    AmbiguousImageSnafu, AmbiguousNameSnafu, ArchiveNotFoundSnafu, BlobNotFoundSnafu,
    DigestMismatchSnafu, Error, InvalidSnafu, ManifestNotFoundSnafu, MissingImageNameSnafu,
    NameNotFoundSnafu, NotAnImageSnafu, ReadSnafu, WriteSnafu,
};
pub(crate) use self::index::{Section, Span};
use self::state::ArchiveState;
use self::stored_content::{BUFFER_SIZE, StoredContent};
use crate::blob::{Blob, BlobStream};
use crate::digest::Digest;
use crate::error::Optional;
use crate::event::{Observer, OmittedNames};
use crate::layout::{self, NamedEntry};
use crate::manifest::{self, Descriptor, Manifest, MediaType};
use crate::reference::{ArchiveFormat, Identifier, Location, Tag};
use crate::referrers::{self, DescriptorStream, walk::ManifestStore as _};
use crate::storage::{Delivery, OtherName, Source, TagStream, Target};

/// Repository in one tar file. Clones share the state.
#[derive(Debug, Clone)]
pub struct Archive {
    inner: Arc<Inner>,
    observer: Observer,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    format: ArchiveFormat,
    state: Mutex<ArchiveState>,
    /// Whether only [`Archive::finish`] writes the file. If `false`, setting a tag also writes the file.
    has_single_write: bool,
    /// Lock that is held while a tag is set or the file is written.
    write_lock: tokio::sync::Mutex<()>,
}

impl Archive {
    /// Opens an existing archive.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the file does not exist;
    /// [`ErrorKind::Protocol`](crate::ErrorKind::Protocol) if it is not an archive of this format or contains invalid
    /// entries.
    pub async fn open(path: impl Into<PathBuf>, format: ArchiveFormat) -> crate::Result<Self> {
        let path = path.into();
        let state = {
            let (path, format) = (path.clone(), format.clone());
            run_blocking(move || ArchiveState::read(&path, &format)).await?
        };
        let path_of = path.clone();
        let state = state.context(ArchiveNotFoundSnafu { path: path_of })?;
        Ok(Self::from_state(path, format, state))
    }

    /// Opens an archive, or creates one. The file of a new archive does not exist before a tag is set.
    ///
    /// # Errors
    ///
    /// The errors of [`Archive::open`] for an existing file.
    pub async fn create(path: impl Into<PathBuf>, format: ArchiveFormat) -> crate::Result<Self> {
        let path = path.into();
        let state = {
            let (path, format) = (path.clone(), format.clone());
            run_blocking(move || ArchiveState::read(&path, &format)).await?
        };
        Ok(Self::from_state(
            path,
            format,
            state.unwrap_or_else(ArchiveState::empty),
        ))
    }

    /// Returns an archive whose file is written only by [`Archive::finish`]. Setting a tag does not write the file. If
    /// `finish` is not called, the file is not changed and pushed content is lost.
    #[must_use]
    pub fn with_single_write(self) -> Self {
        let state = self.state().clone();
        let Inner { path, format, .. } = &*self.inner;
        let inner = Arc::new(Inner {
            path: path.clone(),
            format: format.clone(),
            state: Mutex::new(state),
            has_single_write: true,
            write_lock: tokio::sync::Mutex::new(()),
        });
        let observer = self.observer;
        Self { inner, observer }
    }

    /// Sets the observer. It receives the names that are not available as tags
    /// ([`ClientEvent::OmittedNames`](crate::ClientEvent::OmittedNames)).
    #[must_use]
    pub fn with_observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Finds the entry with exactly this name. The name may be a tag or a full name such as
    /// `localhost/acme/widgets:1.0.0`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if no entry of the archive has this name.
    pub(crate) fn find_name(&self, name: &str) -> crate::Result<NamedEntry> {
        let named = NamedEntry::find(&self.state().listing, name);
        Ok(named.with_context(|| NameNotFoundSnafu {
            path: self.path(),
            name,
        })?)
    }

    fn from_state(path: PathBuf, format: ArchiveFormat, state: ArchiveState) -> Self {
        let inner = Arc::new(Inner {
            path,
            format,
            state: Mutex::new(state),
            has_single_write: false,
            write_lock: tokio::sync::Mutex::new(()),
        });
        let observer = Observer::default();
        Self { inner, observer }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Writes the file, unless it already contains all pushed content and tags. Setting a tag also writes the file, so
    /// this call is needed only for an artifact that has no tag, or after [`Archive::with_single_write`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if another process has changed the file;
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if it cannot be written. In both cases the file is not changed.
    pub async fn finish(&self) -> crate::Result<()> {
        let _guard = self.inner.write_lock.lock().await;
        let state = self.state().clone();
        self.write(state).await
    }

    fn add_to_listing(&self, manifest: &Manifest) {
        let mut state = self.state();
        let is_new = state.listing.add(manifest.descriptor());
        state.has_unwritten_entries |= is_new;
    }

    fn state(&self) -> MutexGuard<'_, ArchiveState> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn stored_content(&self, digest: &Digest) -> Option<StoredContent> {
        self.state().stored.get(digest).cloned()
    }

    fn contains(&self, descriptor: &Descriptor) -> bool {
        let stored = self.stored_content(&descriptor.digest);
        stored.is_some_and(|stored| stored.size() == descriptor.size)
    }

    /// Writes this state to the file, unless the file already contains it. Content that is pushed during the write is
    /// included in the next write.
    async fn write(&self, state: ArchiveState) -> crate::Result<()> {
        let is_in_archive = |stored: &StoredContent| matches!(stored, StoredContent::Archive(..));
        let is_written = {
            let now = self.state();
            let is_same =
                now.images == state.images && now.listing.entries() == state.listing.entries();
            is_same
                && !state.has_unwritten_entries
                && now.version.is_some()
                && state.stored.values().all(is_in_archive)
        };
        if is_written {
            return Ok(());
        }
        let path = self.path();
        let directory = state::directory_of(path);
        let temporary = layout::new_temporary(directory).context(WriteSnafu { path })?;
        // If this future is dropped, the temporary files are deleted: this file at once, and the files of the pushed
        // content when the cancelled blocking task ends. A flush may take seconds, so its task owns no temporary file.
        let (file, name) = temporary.into_parts();
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        let inner = Arc::clone(&self.inner);
        let write = move || {
            state.write(&file, &inner.path, &inner.format, &cancelled)?;
            Ok::<_, Error>((state, file))
        };
        let (state, file) = run_blocking(write).await?;
        let flush = move || file.sync_all().map(|()| file);
        let file = run_blocking(flush).await.context(WriteSnafu { path })?;
        let inner = Arc::clone(&self.inner);
        let replace = move || {
            let temporary = NamedTempFile::from_parts(file, name);
            state.replace(temporary, &inner.path, &inner.format)
        };
        let written = run_blocking(replace).await?;
        let mut now = self.state();
        let since = std::mem::replace(&mut *now, written);
        for (digest, stored) in since.stored {
            now.stored.entry(digest).or_insert(stored);
        }
        for listed in since.listing.into_entries() {
            if listed.annotation(layout::REF_NAME).is_none() {
                now.has_unwritten_entries |= now.listing.add(listed);
            }
        }
        Ok(())
    }

    /// Returns the digest that an identifier refers to, and the media type of its entry.
    fn find(&self, identifier: &Identifier) -> Result<(Digest, Option<String>), Error> {
        let state = self.state();
        let digest = match (identifier, &self.inner.format) {
            (Identifier::Digest(digest), _) => Some(digest.clone()),
            (Identifier::Tag(tag), ArchiveFormat::Oci) => {
                let listed = state.listing.find(tag);
                let names = state.listing.full_names(tag);
                let (path, is_ambiguous) = (self.path(), listed.is_none() && !names.is_empty());
                ensure!(
                    !is_ambiguous,
                    AmbiguousNameSnafu {
                        path,
                        tag: tag.clone(),
                        names
                    }
                );
                listed.map(|listed| listed.digest.clone())
            }
            (Identifier::Tag(tag), ArchiveFormat::Docker(name)) => {
                let found = state.images.find(name.as_ref(), tag);
                let path = self.path();
                found.map_err(|()| {
                    AmbiguousImageSnafu {
                        path,
                        tag: tag.clone(),
                    }
                    .build()
                })?
            }
        };
        let digest = digest.with_context(|| self.manifest_not_found(identifier))?;
        let listed = state.listing.find_digest(&digest);
        let media_type = listed.map(|listed| listed.media_type.to_string());
        Ok((digest, media_type))
    }

    fn manifest_not_found(
        &self,
        identifier: &Identifier,
    ) -> ManifestNotFoundSnafu<PathBuf, Identifier> {
        ManifestNotFoundSnafu {
            path: self.path().to_owned(),
            identifier: identifier.clone(),
        }
    }
}

impl Inner {
    /// Sets a tag on a manifest. `is_complete` is true if the archive contains all successors of the manifest.
    fn set_tag(
        &self,
        state: &mut ArchiveState,
        manifest: &Manifest,
        tag: &Tag,
        is_complete: bool,
    ) -> Result<(), Error> {
        let ArchiveFormat::Docker(name) = &self.format else {
            state.listing.set_tag(manifest.descriptor(), tag);
            return Ok(());
        };
        let path = &self.path;
        let name = name.as_ref().with_context(|| MissingImageNameSnafu {
            path,
            tag: tag.clone(),
        })?;
        let is_image = is_complete && state.images.set_name(manifest, name, tag);
        let digest = manifest.digest();
        ensure!(
            is_image,
            NotAnImageSnafu {
                path,
                digest: digest.clone()
            }
        );
        state.images.update_listing(&mut state.listing, manifest);
        Ok(())
    }
}

/// Runs blocking work on the thread pool for blocking tasks.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.expect("work on an archive does not panic")
}

#[async_trait]
impl Source for Archive {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        let (digest, media_type) = self.find(identifier)?;
        let stored = self
            .stored_content(&digest)
            .with_context(|| self.manifest_not_found(identifier))?;
        let path = self.path().to_owned();
        let limit = manifest::MAX_READ as u64;
        let problem = "a manifest is too large";
        ensure!(
            stored.size() <= limit,
            InvalidSnafu {
                path: path.clone(),
                problem
            }
        );
        let bytes = run_blocking(move || {
            let mut bytes = Vec::new();
            stored.open()?.read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        let bytes = bytes.await.context(ReadSnafu { path: path.clone() })?;
        let mut hasher = digest.verifier()?;
        hasher.update(&bytes);
        let (expected, actual) = (digest.clone(), hasher.finish());
        ensure!(
            actual == expected,
            DigestMismatchSnafu {
                path,
                expected,
                actual
            }
        );
        Ok(Manifest::parse(bytes.into(), media_type.as_deref())?.with_digest(digest))
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        let (path, digest) = (self.path().to_owned(), descriptor.digest.clone());
        let stored = self.stored_content(&digest).context(BlobNotFoundSnafu {
            path: path.clone(),
            digest,
        })?;
        match stored {
            StoredContent::TemporaryFile(file, _) => BlobStream::from_file(descriptor, &file).await,
            StoredContent::Memory(bytes) => BlobStream::new(
                descriptor,
                futures_util::stream::once(async { Ok(bytes) }).boxed(),
            ),
            StoredContent::Archive(file, span) => {
                let chunks = futures_util::stream::unfold(Some((file, span)), move |rest| {
                    let path = path.clone();
                    async move {
                        let (file, span) = rest.filter(|(_, span)| span.size > 0)?;
                        let read = run_blocking(move || {
                            read_chunk(&file, span).map(|chunk| (chunk, file))
                        });
                        match read.await.context(ReadSnafu { path }) {
                            Ok((chunk, file)) => {
                                let rest = span.after(chunk.len() as u64);
                                Some((Ok(chunk), Some((file, rest))))
                            }
                            Err(error) => Some((Err(error.into()), None)),
                        }
                    }
                });
                BlobStream::new(descriptor, chunks.boxed())
            }
        }
    }

    fn tags(&self) -> TagStream {
        let state = self.state();
        let tags: Vec<Tag> = match &self.inner.format {
            ArchiveFormat::Oci => {
                let names = state.listing.names();
                names.report_others(self.name(), &self.observer);
                names.tags().to_vec()
            }
            ArchiveFormat::Docker(name) => {
                let mut omitted = OmittedNames::new(self.name());
                for (name, digest) in state.images.invalid_names() {
                    omitted.add(name, Some(digest));
                }
                omitted.report(&self.observer);
                state.images.tags(name.as_ref())
            }
        };
        futures_util::stream::iter(tags.into_iter().map(Ok)).boxed()
    }

    async fn other_names(&self) -> crate::Result<Vec<OtherName>> {
        let state = self.state();
        Ok(match &self.inner.format {
            ArchiveFormat::Oci => state.listing.names().others().to_vec(),
            ArchiveFormat::Docker(_) => {
                let names = state.images.invalid_names();
                let names = names.map(|(name, digest)| OtherName {
                    name: name.to_owned(),
                    digest: digest.clone(),
                });
                names.collect()
            }
        })
    }

    async fn find_blob(&self, digest: &Digest) -> crate::Result<Descriptor> {
        let (path, missing) = (self.path().to_owned(), digest.clone());
        let stored = self.stored_content(digest).context(BlobNotFoundSnafu {
            path,
            digest: missing,
        })?;
        let media_type = MediaType::OCTET_STREAM;
        Ok(Descriptor::new(media_type, digest.clone(), stored.size()))
    }

    fn referrers(&self, subject: &Digest, artifact_type: Option<&MediaType>) -> DescriptorStream {
        referrers::walk::list(self.clone(), subject.clone(), artifact_type.cloned())
    }

    fn describe(&self, identifier: &Identifier) -> String {
        let location = Location::archive(self.path(), self.inner.format.clone());
        location.with(identifier.clone()).to_string()
    }
}

/// Reads the next chunk of a blob.
fn read_chunk(file: &File, span: Span) -> std::io::Result<Bytes> {
    let length = usize::try_from(span.size)
        .unwrap_or(usize::MAX)
        .min(BUFFER_SIZE);
    let mut chunk = BytesMut::zeroed(length);
    Section::new(file, span).read_exact(&mut chunk)?;
    Ok(chunk.freeze())
}

#[async_trait]
impl Target for Archive {
    async fn exists(&self, descriptor: &Descriptor) -> crate::Result<bool> {
        Ok(self.contains(descriptor))
    }

    async fn push_blob(&self, blob: &Blob) -> crate::Result<Delivery> {
        if self.contains(blob.descriptor()) {
            return Ok(Delivery::Existed);
        }
        let path = self.path();
        let directory = state::directory_of(path);
        let made = tokio::fs::create_dir_all(directory).await;
        made.context(WriteSnafu { path: directory })?;
        let temporary = layout::new_temporary(directory).context(WriteSnafu { path: directory })?;
        let file = temporary
            .as_file()
            .try_clone()
            .context(WriteSnafu { path })?;
        blob.open().await?.write_to(file, temporary.path()).await?;
        let stored =
            StoredContent::TemporaryFile(Arc::new(temporary.into_temp_path()), blob.size());
        self.state()
            .stored
            .entry(blob.digest().clone())
            .or_insert(stored);
        Ok(Delivery::Uploaded)
    }

    async fn push_manifest(&self, manifest: &Manifest) -> crate::Result<()> {
        if !self.contains(&manifest.descriptor()) {
            let stored = StoredContent::Memory(manifest.bytes().clone());
            self.state()
                .stored
                .insert(manifest.digest().clone(), stored);
        }
        if manifest.subject().is_some() {
            // Other programs find a referrer only if the index of the archive lists it.
            self.add_to_listing(manifest);
        }
        Ok(())
    }

    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
        let _guard = self.inner.write_lock.lock().await;
        let descriptor = manifest.descriptor();
        let digest = manifest.digest();
        ensure!(
            self.contains(&descriptor),
            self.manifest_not_found(&digest.clone().into())
        );
        let is_complete = manifest
            .successors()
            .into_iter()
            .all(|successor| self.contains(successor));
        if self.inner.has_single_write {
            // The state is changed in place. A modified copy would not contain content that is pushed at the same time.
            let mut state = self.state();
            self.inner.set_tag(&mut state, manifest, tag, is_complete)?;
            state.has_unwritten_entries = true;
            return Ok(());
        }
        let mut state = self.state().clone();
        self.inner.set_tag(&mut state, manifest, tag, is_complete)?;
        self.write(state).await
    }

    async fn complete(&self, untagged: Option<&Manifest>) -> crate::Result<()> {
        if let Some(manifest) = untagged {
            self.add_to_listing(manifest);
        }
        self.finish().await
    }
}

impl referrers::walk::ManifestStore for Archive {
    async fn roots(&self) -> crate::Result<Vec<Descriptor>> {
        let entries = self.state().listing.entries().to_vec().into_iter();
        Ok(entries.map(layout::ListingEntry::into_descriptor).collect())
    }

    async fn read(&self, listed: &Descriptor) -> crate::Result<Option<Manifest>> {
        let digest = Identifier::Digest(listed.digest.clone());
        self.manifest(&digest).await.optional()
    }

    fn name(&self) -> String {
        Location::archive(self.path(), self.inner.format.clone()).to_string()
    }
}

#[cfg(test)]
mod tests;
