//! OCI image layout: a repository in a directory (image-spec, `image-layout.md`).
//!
//! A file under its final name is complete: content is written to a temporary file, verified, flushed and renamed.
//! Content that exists is not written again. Content exists if a file has its name and size. The file is not read
//! for this check, because reading it would take as long as writing it. The digest is verified when the content is
//! read.
//!
//! Several processes may write to one layout: `index.json` is read and replaced under a lock on `oci-layout`. Files of
//! other programs are not changed.
//!
//! A referrer is listed in `index.json` even if it has no tag, because the search for referrers starts there.

mod delete;
mod error;
mod file;
mod listing;
mod marker;
mod named;
mod names;
mod search;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use snafu::{OptionExt, ResultExt, ensure};

use crate::blob::{Blob, BlobStream};
use crate::digest::Digest;
use crate::event::Observer;
use crate::file::open_regular;
use crate::manifest::{self, Descriptor, Manifest, MediaType};
use crate::reference::{Identifier, Location, Tag};
use crate::referrers::{self, DescriptorStream};
use crate::storage::{Delivery, OtherName, Source, TagStream, Target};
pub(crate) use error::full_name_hint;
use error::{
    AmbiguousSnafu, CreateLayoutSnafu, Error, LockSnafu, NoBlobSnafu, NoLayoutSnafu,
    NoManifestSnafu, NoNameSnafu, OccupiedSnafu, OtherVersionSnafu, ParseSnafu, ReadSnafu,
    WriteSnafu, WrongDigestSnafu,
};
use file::{create_if_missing, read, write_atomically};
pub(crate) use file::{json, new_temporary, persist};
pub(crate) use listing::{Listing, ListingEntry};
pub(crate) use marker::{Marker, VERSION};
pub(crate) use named::NamedEntry;
pub(crate) use names::{REF_NAME, tag_in_name};

/// Maximum size of an `index.json` that is read, in bytes.
pub(crate) const MAX_INDEX: u64 = 64 << 20;

/// Repository in a directory. Clones share the parsed index.
#[derive(Debug, Clone)]
pub struct Layout {
    directory: PathBuf,
    observer: Observer,
    cached: Arc<tokio::sync::Mutex<Option<CachedListing>>>,
}

/// Parsed index, and the version of the file from which the index was read.
#[derive(Debug)]
struct CachedListing {
    version: FileVersion,
    listing: Arc<Listing>,
}

/// Version of a file: its length, its modification time and, on Unix, its inode number.
#[derive(Debug, PartialEq)]
struct FileVersion(u64, Option<std::time::SystemTime>, Option<u64>);

impl FileVersion {
    fn from_metadata(file: &std::fs::Metadata) -> Self {
        #[cfg(unix)]
        let number = Some(std::os::unix::fs::MetadataExt::ino(file));
        #[cfg(not(unix))]
        let number = None;
        Self(file.len(), file.modified().ok(), number)
    }
}

impl Layout {
    /// Opens an existing layout.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the directory is not a layout.
    pub async fn open(directory: impl Into<PathBuf>) -> crate::Result<Self> {
        let layout = Self::new(directory.into());
        let path = layout.marker_path();
        let bytes = read(&path, MAX_INDEX).await?;
        let bytes = bytes.with_context(|| NoLayoutSnafu {
            directory: layout.directory.clone(),
        })?;
        let marker: Marker = serde_json::from_slice(&bytes).context(ParseSnafu { path })?;
        let directory = layout.directory.clone();
        ensure!(
            marker.version == VERSION,
            OtherVersionSnafu {
                directory,
                version: marker.version
            }
        );
        Ok(layout)
    }

    /// Opens a layout. If it does not exist, creates it in a new or empty directory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the directory contains other files;
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the layout cannot be created.
    pub async fn create(directory: impl Into<PathBuf>) -> crate::Result<Self> {
        let directory = directory.into();
        let layout = Self::new(directory.clone());
        let exists =
            tokio::fs::try_exists(layout.marker_path())
                .await
                .context(CreateLayoutSnafu {
                    directory: directory.clone(),
                })?;
        if !exists {
            ensure_no_other_files(&directory).await?;
            let blobs = directory.join("blobs").join("sha256");
            tokio::fs::create_dir_all(&blobs)
                .await
                .context(CreateLayoutSnafu {
                    directory: directory.clone(),
                })?;
            let marker = Marker {
                version: VERSION.to_owned(),
            };
            // The marker is never replaced, because another process may hold a lock on it.
            create_if_missing(&layout.marker_path(), &json(&marker))?;
        }
        let layout = Self::open(directory).await?;
        layout.update_index(|_| false).await?;
        Ok(layout)
    }

    fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            observer: Observer::default(),
            cached: Arc::default(),
        }
    }

    /// Returns the same layout with an observer. The observer receives the names that are not available as tags
    /// ([`ClientEvent::OmittedNames`](crate::ClientEvent::OmittedNames)).
    #[must_use]
    pub fn with_observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Finds the entry with exactly this name: a tag, or a full name such as `localhost/acme/widgets:1.0.0`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if no entry of the layout has this name.
    pub(crate) async fn find_name(&self, name: &str) -> crate::Result<NamedEntry> {
        let listing = self.read_listing().await?;
        let named = NamedEntry::find(&listing, name);
        Ok(named.with_context(|| NoNameSnafu {
            directory: &self.directory,
            name,
        })?)
    }

    /// Returns the directory of the layout.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn marker_path(&self) -> PathBuf {
        self.directory.join("oci-layout")
    }

    fn index_path(&self) -> PathBuf {
        self.directory.join("index.json")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory
            .join("blobs")
            .join(digest.algorithm_name())
            .join(digest.encoded())
    }

    /// Returns the index. Each version of its file is parsed only once.
    async fn read_listing(&self) -> Result<Arc<Listing>, Error> {
        let path = self.index_path();
        let mut cached = self.cached.lock().await;
        // The version is read before the content. If the file is replaced in between, the stored version is outdated,
        // and the next call reads the file again.
        let version = tokio::fs::metadata(&path).await.ok();
        let version = version.map(|file| FileVersion::from_metadata(&file));
        if let Some(cached) = &*cached
            && Some(&cached.version) == version.as_ref()
        {
            return Ok(Arc::clone(&cached.listing));
        }
        let listing = Arc::new(self.parse_listing().await?);
        *cached = version.map(|version| CachedListing {
            version,
            listing: Arc::clone(&listing),
        });
        Ok(listing)
    }

    async fn parse_listing(&self) -> Result<Listing, Error> {
        let path = self.index_path();
        match read(&path, MAX_INDEX).await? {
            Some(bytes) => serde_json::from_slice(&bytes).context(ParseSnafu { path }),
            None => Ok(Listing::empty()),
        }
    }

    /// Changes `index.json` under a lock that excludes other processes. Writes the file if `change` returns `true` or
    /// the file is missing.
    async fn update_index(
        &self,
        change: impl FnOnce(&mut Listing) -> bool + Send,
    ) -> crate::Result<()> {
        let path = self.marker_path();
        let lock = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || {
                let file = open_regular(&path).context(LockSnafu { path: path.clone() })?;
                file.lock().context(LockSnafu { path })?;
                Ok::<_, Error>(file)
            })
        };
        let _lock = lock.await.expect("locking a file does not panic")?;
        let mut listing = self.parse_listing().await?;
        let is_absent = !tokio::fs::try_exists(self.index_path())
            .await
            .context(ReadSnafu {
                path: self.index_path(),
            })?;
        if change(&mut listing) || is_absent {
            write_atomically(&self.index_path(), &json(&listing))?;
            *self.cached.lock().await = None;
        }
        Ok(())
    }

    async fn find_manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        let listing = self.read_listing().await?;
        let directory = &self.directory;
        let absent = || NoManifestSnafu {
            directory,
            identifier: identifier.clone(),
        };
        let (digest, listed) = match identifier {
            Identifier::Tag(tag) => {
                let listed = listing.find(tag);
                let names = listing.full_names(tag);
                ensure!(
                    listed.is_some() || names.is_empty(),
                    AmbiguousSnafu {
                        directory,
                        tag: tag.clone(),
                        names
                    }
                );
                let listed = listed.with_context(absent)?;
                (&listed.digest, Some(listed))
            }
            Identifier::Digest(digest) => (digest, listing.find_digest(digest)),
        };
        let media_type = listed.map(|listed| &listed.media_type);
        let found = self.read_manifest(digest, media_type).await?;
        Ok(found.with_context(absent)?)
    }

    /// Reads and verifies a manifest. Returns `None` if its file is missing. `media_type` is the media type in the
    /// index that lists the manifest, or `None` if no index is known to list it.
    async fn read_manifest(
        &self,
        digest: &Digest,
        media_type: Option<&MediaType>,
    ) -> crate::Result<Option<Manifest>> {
        let path = self.blob_path(digest);
        let Some(bytes) = read(&path, manifest::MAX_READ as u64).await? else {
            return Ok(None);
        };
        let mut hasher = digest.verifier()?;
        hasher.update(&bytes);
        let actual = hasher.finish();
        ensure!(actual == *digest, WrongDigestSnafu { path, actual });
        let manifest = Manifest::parse(bytes.into(), media_type.map(MediaType::as_str))?;
        Ok(Some(manifest.with_digest(digest.clone())))
    }

    /// Whether the blob exists. A file under its final name is complete, so only its size is compared.
    async fn has_content(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        let path = self.blob_path(&descriptor.digest);
        match tokio::fs::metadata(&path).await {
            Ok(metadata) => Ok(metadata.is_file() && metadata.len() == descriptor.size),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// Writes a blob to a temporary file and moves the complete file to its final name.
    async fn write_blob(&self, blob: &Blob) -> crate::Result<()> {
        let path = self.blob_path(blob.digest());
        let directory = path.parent().unwrap_or(&self.directory);
        tokio::fs::create_dir_all(directory)
            .await
            .context(WriteSnafu { path: directory })?;
        let temporary = new_temporary(directory).context(WriteSnafu { path: directory })?;
        let file = temporary.as_file().try_clone().context(WriteSnafu {
            path: temporary.path(),
        })?;
        blob.open().await?.write_to(file, temporary.path()).await?;
        persist(temporary, &path).context(WriteSnafu { path })?;
        Ok(())
    }
}

/// Fails if a directory contains files that do not belong to a layout. Files that an interrupted [`Layout::create`]
/// left behind are ignored.
async fn ensure_no_other_files(directory: &Path) -> Result<(), Error> {
    let mut entries = match tokio::fs::read_dir(directory).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(Error::CreateLayout {
                directory: directory.to_owned(),
                source,
            });
        }
    };
    while let Some(entry) = entries
        .next_entry()
        .await
        .context(CreateLayoutSnafu { directory })?
    {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = matches!(&*name, "blobs" | "index.json" | "oci-layout")
            || name.starts_with(".partial-");
        ensure!(
            is_ours,
            OccupiedSnafu {
                directory,
                found: name
            }
        );
    }
    Ok(())
}

#[async_trait]
impl Source for Layout {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        self.find_manifest(identifier).await
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        let path = self.blob_path(&descriptor.digest);
        let exists = tokio::fs::try_exists(&path)
            .await
            .context(ReadSnafu { path: path.clone() })?;
        let (directory, digest) = (self.directory.clone(), descriptor.digest.clone());
        ensure!(exists, NoBlobSnafu { directory, digest });
        BlobStream::from_file(descriptor, &path).await
    }

    async fn find_blob(&self, digest: &Digest) -> crate::Result<Descriptor> {
        let path = self.blob_path(digest);
        match tokio::fs::metadata(&path).await {
            Ok(metadata) if metadata.is_file() => {
                let media_type = MediaType::OCTET_STREAM;
                Ok(Descriptor::new(media_type, digest.clone(), metadata.len()))
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(ReadSnafu { path })?
            }
            _ => Err(NoBlobSnafu {
                directory: self.directory.clone(),
                digest: digest.clone(),
            }
            .build()
            .into()),
        }
    }

    fn tags(&self) -> TagStream {
        let layout = self.clone();
        let tags = async move {
            let listing = layout.read_listing().await?;
            let names = listing.names();
            names.report_others(
                referrers::walk::ManifestStore::name(&layout),
                &layout.observer,
            );
            let tags: Vec<crate::Result<Tag>> = names.tags().iter().cloned().map(Ok).collect();
            Ok::<_, crate::Error>(futures_util::stream::iter(tags))
        };
        tags.into_stream().try_flatten().boxed()
    }

    async fn other_names(&self) -> crate::Result<Vec<OtherName>> {
        Ok(self.read_listing().await?.names().others().to_vec())
    }

    fn referrers(&self, subject: &Digest, artifact_type: Option<&MediaType>) -> DescriptorStream {
        referrers::walk::list(self.clone(), subject.clone(), artifact_type.cloned())
    }

    fn describe(&self, identifier: &Identifier) -> String {
        let location = Location::layout(&self.directory);
        location.with(identifier.clone()).to_string()
    }
}

impl referrers::walk::ManifestStore for Layout {
    async fn roots(&self) -> crate::Result<Vec<Descriptor>> {
        let listing = self.read_listing().await?;
        let entries = listing.entries().iter().cloned();
        Ok(entries.map(ListingEntry::into_descriptor).collect())
    }

    async fn read(&self, listed: &Descriptor) -> crate::Result<Option<Manifest>> {
        self.read_manifest(&listed.digest, Some(&listed.media_type))
            .await
    }

    fn name(&self) -> String {
        format!("oci:{}", self.directory.display())
    }
}

#[async_trait]
impl Target for Layout {
    async fn exists(&self, descriptor: &Descriptor) -> crate::Result<bool> {
        Ok(self.has_content(descriptor).await?)
    }

    async fn push_blob(&self, blob: &Blob) -> crate::Result<Delivery> {
        if self.has_content(blob.descriptor()).await? {
            return Ok(Delivery::Existed);
        }
        self.write_blob(blob).await?;
        Ok(Delivery::Uploaded)
    }

    async fn push_manifest(&self, manifest: &Manifest) -> crate::Result<()> {
        if !self.has_content(&manifest.descriptor()).await? {
            let path = self.blob_path(manifest.digest());
            let directory = path.parent().unwrap_or(&self.directory);
            tokio::fs::create_dir_all(directory)
                .await
                .context(WriteSnafu { path: directory })?;
            write_atomically(&path, manifest.bytes())?;
        }
        if manifest.subject().is_some() {
            let descriptor = manifest.descriptor();
            self.update_index(|listing| listing.add(descriptor)).await?;
        }
        Ok(())
    }

    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
        let descriptor = manifest.descriptor();
        let (directory, identifier) = (
            self.directory.clone(),
            Identifier::Digest(manifest.digest().clone()),
        );
        ensure!(
            self.has_content(&descriptor).await?,
            NoManifestSnafu {
                directory,
                identifier
            }
        );
        self.update_index(|listing| listing.set_tag(descriptor, tag))
            .await
    }

    async fn complete(&self, untagged: Option<&Manifest>) -> crate::Result<()> {
        let Some(manifest) = untagged else {
            return Ok(());
        };
        let descriptor = manifest.descriptor();
        self.update_index(|listing| listing.add(descriptor)).await
    }
}
