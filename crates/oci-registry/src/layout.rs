//! OCI image layout: a repository in a directory (image-spec, `image-layout.md`).
//!
//! A file under its final name is complete: content is written to a temporary file, verified, flushed and renamed.
//! Several processes may write to one layout: `index.json` is read and replaced under a lock on `oci-layout`. Files of
//! other programs are not changed.
//!
//! A referrer is listed in `index.json` without a tag, so that a search that starts there finds it.

mod delete;
mod listing;
mod names;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use snafu::{OptionExt, ResultExt, Snafu, ensure};

use crate::blob::{Blob, BlobStream};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Hint};
use crate::event::Observer;
use crate::file::{is_of_other_type, open_regular};
use crate::manifest::{self, Descriptor, Manifest, MediaType};
use crate::reference::{Identifier, Location, Tag};
use crate::referrers::{self, DescriptorStream};
use crate::storage::{Delivery, OtherName, Source, TagStream, Target};
pub(crate) use listing::{Listed, Listing};
pub(crate) use names::{REF_NAME, tag_of};
/// Version of the layout format that is read and written.
pub(crate) const VERSION: &str = "1.0.0";

/// Largest `index.json` that is read, in bytes.
pub(crate) const MAX_INDEX: u64 = 64 << 20;

/// Maximum depth at which layouts are searched below a directory. Names of repositories are nested less deeply.
const MAX_DEPTH: usize = 16;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to open the layout `{}`: there is no `oci-layout` in it", directory.display()))]
    NoLayout { directory: PathBuf },
    #[snafu(display("failed to find layouts in `{}`: it does not exist", directory.display()))]
    NoDirectory { directory: PathBuf },
    #[snafu(display("failed to create a layout in `{}`: it contains `{}`", directory.display(), found.escape_debug()))]
    Occupied { directory: PathBuf, found: String },
    #[snafu(display("failed to create the layout `{}`", directory.display()))]
    Make {
        directory: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to read `{}`", path.display()))]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to read `{}`: it has more than {limit} bytes", path.display()))]
    TooLarge { path: PathBuf, limit: u64 },
    #[snafu(display("failed to read `{}`: it is not a regular file", path.display()))]
    NotAFile { path: PathBuf },
    #[snafu(display("failed to read `{}`", path.display()))]
    Parse {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[snafu(display("failed to open the layout `{}`: its version is `{}`, expected `{VERSION}`", directory.display(), version.escape_debug()))]
    OtherVersion { directory: PathBuf, version: String },
    #[snafu(display("failed to write `{}`", path.display()))]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to remove `{}`", path.display()))]
    Remove {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to lock `{}`", path.display()))]
    Lock {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to find the manifest `{identifier}` in the layout `{}`", directory.display()))]
    NoManifest {
        directory: PathBuf,
        identifier: Identifier,
    },
    #[snafu(display("failed to find the manifest `{}` in the layout `{}`", name.escape_debug(), directory.display()))]
    NoName { directory: PathBuf, name: String },
    #[snafu(display("failed to find the manifest `{tag}` in the layout `{}`: {} names end with this tag", directory.display(), names.len()))]
    Ambiguous {
        directory: PathBuf,
        tag: Tag,
        names: Vec<String>,
    },
    #[snafu(display("failed to find the blob {digest} in the layout `{}`", directory.display()))]
    NoBlob { directory: PathBuf, digest: Digest },
    #[snafu(display("failed to delete the blob {digest} in the layout `{}`: it is a manifest", directory.display()))]
    AManifest { directory: PathBuf, digest: Digest },
    #[snafu(display("failed to read `{}`: its content has the digest {actual}", path.display()))]
    WrongDigest { path: PathBuf, actual: Digest },
}

impl Failure for Error {
    fn hints(&self) -> Vec<Hint> {
        let advice = match self {
            Self::NoLayout { directory } => return layouts_below(directory),
            Self::NoDirectory { .. } => "check the path".to_owned(),
            Self::Ambiguous {
                directory, names, ..
            } => full_names("oci", directory, names),
            Self::AManifest { .. } => "delete it as a manifest".to_owned(),
            Self::Parse { .. } | Self::TooLarge { .. } | Self::NotAFile { .. } => {
                "the directory is not a layout or is damaged: copy it again to another directory"
                    .to_owned()
            }
            Self::OtherVersion { .. } => "only version 1.0.0 is supported".to_owned(),
            Self::Occupied { .. } => "choose a new or empty directory".to_owned(),
            _ => return Vec::new(),
        };
        vec![advice.into()]
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoLayout { .. }
            | Self::NoDirectory { .. }
            | Self::NoManifest { .. }
            | Self::NoName { .. }
            | Self::Ambiguous { .. }
            | Self::NoBlob { .. }
            | Self::AManifest { .. } => ErrorKind::NotFound,
            Self::Parse { .. } | Self::TooLarge { .. } | Self::NotAFile { .. } => {
                ErrorKind::Protocol
            }
            Self::OtherVersion { .. } => ErrorKind::Unsupported,
            Self::Occupied { .. } => ErrorKind::InvalidInput,
            Self::WrongDigest { .. } => ErrorKind::Mismatch,
            Self::Make { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Remove { .. }
            | Self::Lock { .. } => ErrorKind::Io,
        }
    }
}

/// Returns a hint with the layouts in a directory that is not a layout itself. `push` creates one layout for each
/// package.
fn layouts_below(directory: &Path) -> Vec<Hint> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let layouts = entries
        .map(|entry| entry.path())
        .filter(|path| path.join("oci-layout").is_file());
    let mut names: Vec<_> = layouts
        .map(|path| format!("`oci:{}`", path.display()))
        .collect();
    names.sort();
    names.truncate(10);
    if names.is_empty() {
        vec!["check the path: a layout is a directory that contains a file `oci-layout`".into()]
    } else {
        vec![format!("layouts below it: {}", names.join(", ")).into()]
    }
}

/// Returns advice to write a name in full, with the first five of the possible names.
pub(crate) fn full_names(scheme: &str, path: &Path, names: &[String]) -> String {
    let names = names.iter().take(5);
    let names = names.map(|name| format!("`{scheme}:{}:{}`", path.display(), name.escape_debug()));
    format!(
        "write the name in full: {}",
        names.collect::<Vec<_>>().join(" or ")
    )
}

/// Repository in a directory. Clones share the parsed index.
#[derive(Debug, Clone)]
pub struct Layout {
    directory: PathBuf,
    observer: Observer,
    cached: Arc<tokio::sync::Mutex<Option<CachedListing>>>,
}

/// Parsed index, and the version of the file that it was read from.
#[derive(Debug)]
struct CachedListing {
    version: FileVersion,
    listing: Arc<Listing>,
}

/// Identification of one version of a file: its length, its modification time and, on Unix, its inode number.
#[derive(Debug, PartialEq)]
struct FileVersion(u64, Option<std::time::SystemTime>, Option<u64>);

impl FileVersion {
    fn of(file: &std::fs::Metadata) -> Self {
        #[cfg(unix)]
        let number = Some(std::os::unix::fs::MetadataExt::ino(file));
        #[cfg(not(unix))]
        let number = None;
        Self(file.len(), file.modified().ok(), number)
    }
}

/// Content of the `oci-layout` file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    pub(crate) version: String,
}

impl Layout {
    /// Opens an existing layout.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if the directory is not a layout.
    pub async fn open(directory: impl Into<PathBuf>) -> crate::Result<Self> {
        let layout = Self::at(directory.into());
        let path = layout.marker();
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
    /// [`ErrorKind::InvalidInput`] if the directory contains anything else; [`ErrorKind::Io`] if the layout cannot be
    /// created.
    pub async fn create(directory: impl Into<PathBuf>) -> crate::Result<Self> {
        let directory = directory.into();
        let layout = Self::at(directory.clone());
        let is_there = tokio::fs::try_exists(layout.marker())
            .await
            .context(MakeSnafu {
                directory: directory.clone(),
            })?;
        if !is_there {
            refuse_occupied(&directory).await?;
            let blobs = directory.join("blobs").join("sha256");
            tokio::fs::create_dir_all(&blobs).await.context(MakeSnafu {
                directory: directory.clone(),
            })?;
            let marker = Marker {
                version: VERSION.to_owned(),
            };
            // The marker is never replaced, because another process may hold a lock on it.
            create_once(&layout.marker(), &json(&marker))?;
        }
        let layout = Self::open(directory).await?;
        layout.update(|_| false).await?;
        Ok(layout)
    }

    /// Finds the layouts below a directory, sorted by path. Layouts within another layout are not included, and links
    /// are not followed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if the directory does not exist; [`ErrorKind::Io`] if a directory cannot be read.
    pub async fn below(directory: impl Into<PathBuf>) -> crate::Result<Vec<Self>> {
        let directory = directory.into();
        let search = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            let is_there = search(&directory, 0, &mut found)?;
            ensure!(is_there, NoDirectorySnafu { directory });
            Ok::<_, Error>(found)
        });
        let mut found = match search.await {
            Ok(found) => found?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        found.sort();
        Ok(found.into_iter().map(Self::at).collect())
    }

    fn at(directory: PathBuf) -> Self {
        Self {
            directory,
            observer: Observer::default(),
            cached: Arc::default(),
        }
    }

    /// The same layout, which reports the names that no tag stands for ([`ClientEvent::OmittedNames`](crate::ClientEvent::OmittedNames))
    /// to this observer.
    #[must_use]
    pub fn observed_by(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Finds the manifest with exactly this name, which may be a full one such as `localhost/acme/widgets:1.0.0`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if no entry of the layout has this name.
    pub(crate) async fn find_name(&self, name: &str) -> crate::Result<Named> {
        let listing = self.read_listing().await?;
        let named = Named::find(&listing, name);
        Ok(named.with_context(|| NoNameSnafu {
            directory: &self.directory,
            name,
        })?)
    }

    /// Returns the directory of the layout.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn marker(&self) -> PathBuf {
        self.directory.join("oci-layout")
    }

    fn listing(&self) -> PathBuf {
        self.directory.join("index.json")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory
            .join("blobs")
            .join(digest.algorithm_name())
            .join(digest.encoded())
    }

    /// Returns the index, which is parsed once for each version of its file.
    async fn read_listing(&self) -> Result<Arc<Listing>, Error> {
        let path = self.listing();
        let mut cached = self.cached.lock().await;
        // Read before the content: if the file is replaced in between, the older version is stored.
        let version = tokio::fs::metadata(&path).await.ok();
        let version = version.map(|file| FileVersion::of(&file));
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
        let path = self.listing();
        match read(&path, MAX_INDEX).await? {
            Some(bytes) => serde_json::from_slice(&bytes).context(ParseSnafu { path }),
            None => Ok(Listing::empty()),
        }
    }

    /// Changes `index.json` while it is locked against other processes.
    async fn update(&self, change: impl FnOnce(&mut Listing) -> bool + Send) -> crate::Result<()> {
        let path = self.marker();
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
        let is_absent = !tokio::fs::try_exists(self.listing())
            .await
            .context(ReadSnafu {
                path: self.listing(),
            })?;
        if change(&mut listing) || is_absent {
            write_whole(&self.listing(), &json(&listing))?;
            *self.cached.lock().await = None;
        }
        Ok(())
    }

    async fn find(&self, identifier: &Identifier) -> crate::Result<Manifest> {
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

    /// Reads and verifies a manifest that may be missing. `media_type` is that of its entry, if it is listed.
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
        Ok(Some(manifest.known_as(digest.clone())))
    }

    /// Whether the blob exists. A file under its final name is complete, so only its size is compared.
    async fn has(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        let path = self.blob_path(&descriptor.digest);
        match tokio::fs::metadata(&path).await {
            Ok(metadata) => Ok(metadata.is_file() && metadata.len() == descriptor.size),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// Writes a blob to a temporary file and moves it to its final name when it is complete.
    async fn store(&self, blob: &Blob) -> crate::Result<()> {
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

/// Entry that a full name in a layout or archive identifies.
#[derive(Debug)]
pub(crate) struct Named {
    /// Tag at the end of the name.
    pub(crate) tag: Option<Tag>,
    /// Whether the tag alone identifies the manifest.
    pub(crate) is_tagged: bool,
    pub(crate) digest: Digest,
}

impl Named {
    pub(crate) fn find(listing: &Listing, name: &str) -> Option<Self> {
        let listed = listing.find_name(name)?;
        let tag = tag_of(name);
        let tagged = tag.as_ref().and_then(|tag| listing.find(tag));
        Some(Self {
            is_tagged: tagged.is_some_and(|tagged| tagged.digest == listed.digest),
            tag,
            digest: listed.digest.clone(),
        })
    }
}

/// Searches a directory for layouts, and returns whether the directory exists.
fn search(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<bool, Error> {
    let failed = |source| Error::Read {
        path: directory.to_owned(),
        source,
    };
    if directory.join("oci-layout").is_file() {
        found.push(directory.to_owned());
        return Ok(true);
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let is_directory = entry.file_type().map_err(failed)?.is_dir();
        if is_directory && depth < MAX_DEPTH {
            search(&entry.path(), depth + 1, found)?;
        }
    }
    Ok(true)
}

/// Refuses to create a layout in a directory with other files. Files of an interrupted attempt are ignored.
async fn refuse_occupied(directory: &Path) -> Result<(), Error> {
    let mut entries = match tokio::fs::read_dir(directory).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(Error::Make {
                directory: directory.to_owned(),
                source,
            });
        }
    };
    while let Some(entry) = entries
        .next_entry()
        .await
        .context(MakeSnafu { directory })?
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

/// Creates a temporary file beside its final name, for [`persist`].
pub(crate) fn new_temporary(directory: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The mode that the umask allows, as for any other file. Without this, a temporary file is private.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory)
}

/// Moves a finished file to its final name and flushes the directory.
pub(crate) fn persist(temporary: tempfile::NamedTempFile, path: &Path) -> std::io::Result<()> {
    temporary.persist(path).map_err(|error| error.error)?;
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        // The parent of a bare file name is the working directory.
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut temporary =
        new_temporary(path.parent().unwrap_or(Path::new("."))).context(WriteSnafu { path })?;
    temporary.write_all(bytes).context(WriteSnafu { path })?;
    temporary
        .as_file()
        .sync_all()
        .context(WriteSnafu { path })?;
    persist(temporary, path).context(WriteSnafu { path })
}

/// Creates a file unless it exists. If two processes create it, one of them finds that of the other.
fn create_once(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut temporary =
        new_temporary(path.parent().unwrap_or(Path::new("."))).context(WriteSnafu { path })?;
    temporary.write_all(bytes).context(WriteSnafu { path })?;
    temporary
        .as_file()
        .sync_all()
        .context(WriteSnafu { path })?;
    match temporary.persist_noclobber(path) {
        Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error.error).context(WriteSnafu { path })
        }
        _ => Ok(()),
    }
}

pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and maps with text keys always serialise")
}

/// Reads a file; `None` if it does not exist.
async fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let file = match open_regular(path) {
        Ok(file) => tokio::fs::File::from_std(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_of_other_type(&error) => return NotAFileSnafu { path }.fail(),
        Err(source) => {
            return Err(Error::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes).await;
    read.context(ReadSnafu { path })?;
    ensure!(bytes.len() as u64 <= limit, TooLargeSnafu { path, limit });
    Ok(Some(bytes))
}

#[async_trait]
impl Source for Layout {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        self.find(identifier).await
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        let path = self.blob_path(&descriptor.digest);
        let is_there = tokio::fs::try_exists(&path)
            .await
            .context(ReadSnafu { path: path.clone() })?;
        let (directory, digest) = (self.directory.clone(), descriptor.digest.clone());
        ensure!(is_there, NoBlobSnafu { directory, digest });
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
            names.report_others(referrers::walk::Listed::name(&layout), &layout.observer);
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

impl referrers::walk::Listed for Layout {
    async fn roots(&self) -> crate::Result<Vec<Descriptor>> {
        let listing = self.read_listing().await?;
        let entries = listing.entries().iter().cloned();
        Ok(entries.map(Listed::into_descriptor).collect())
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
        Ok(self.has(descriptor).await?)
    }

    async fn push_blob(&self, blob: &Blob) -> crate::Result<Delivery> {
        if self.has(blob.descriptor()).await? {
            return Ok(Delivery::Existed);
        }
        self.store(blob).await?;
        Ok(Delivery::Uploaded)
    }

    async fn push_manifest(&self, manifest: &Manifest) -> crate::Result<()> {
        if !self.has(&manifest.descriptor()).await? {
            let path = self.blob_path(manifest.digest());
            let directory = path.parent().unwrap_or(&self.directory);
            tokio::fs::create_dir_all(directory)
                .await
                .context(WriteSnafu { path: directory })?;
            write_whole(&path, manifest.bytes())?;
        }
        if manifest.subject().is_some() {
            let descriptor = manifest.descriptor();
            self.update(|listing| listing.add(descriptor)).await?;
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
            self.has(&descriptor).await?,
            NoManifestSnafu {
                directory,
                identifier
            }
        );
        self.update(|listing| listing.put(descriptor, tag)).await
    }

    async fn complete(&self, untagged: Option<&Manifest>) -> crate::Result<()> {
        let Some(manifest) = untagged else {
            return Ok(());
        };
        let descriptor = manifest.descriptor();
        self.update(|listing| listing.add(descriptor)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Annotations;
    use crate::pack::Packed;

    async fn push(layout: &Layout, content: &'static str, tag: &str) -> Manifest {
        let layer = Blob::from_bytes(MediaType::OCTET_STREAM, content);
        let packed =
            Packed::new("a/b".into(), Blob::empty(), vec![layer], Annotations::new()).unwrap();
        for blob in packed.blobs() {
            layout.push_blob(blob).await.unwrap();
        }
        layout.push_manifest(packed.manifest()).await.unwrap();
        layout
            .tag(packed.manifest(), &tag.parse().unwrap())
            .await
            .unwrap();
        packed.manifest().clone()
    }

    async fn tags(layout: &Layout) -> Vec<String> {
        layout
            .tags()
            .map_ok(|tag| tag.to_string())
            .try_collect()
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn pushed_artifacts_are_found_by_tag_and_digest() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path().join("new/layout"))
            .await
            .unwrap();
        let one = push(&layout, "one", "1").await;
        let two = push(&layout, "two", "2").await;
        layout.tag(&one, &"latest".parse().unwrap()).await.unwrap();
        layout.tag(&two, &"latest".parse().unwrap()).await.unwrap();
        let again = Layout::open(layout.directory()).await.unwrap();
        assert_eq!(tags(&again).await, ["1", "2", "latest"]);
        let latest = again
            .manifest(&Identifier::Tag("latest".parse().unwrap()))
            .await
            .unwrap();
        assert_eq!(latest, two);
        let content = again
            .blob(&latest.as_image().unwrap().layers[0])
            .await
            .unwrap();
        assert_eq!(content.read_to_end(10).await.unwrap(), "two");
        let leftovers = walk(layout.directory())
            .into_iter()
            .filter(|name| name.contains("partial"));
        assert_eq!(leftovers.count(), 0);
    }

    fn walk(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let nested = entries.map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path.display().to_string()]
            }
        });
        nested.flatten().collect()
    }

    #[tokio::test]
    async fn index_is_parsed_once_for_each_version() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).await.unwrap();
        push(&layout, "one", "1").await;
        assert_eq!(tags(&layout).await, ["1"]);
        let listing = directory.path().join("index.json");
        let written = std::fs::read(&listing).unwrap();
        // A file that cannot be parsed and whose version is unchanged is not read again.
        let modified = std::fs::metadata(&listing).unwrap().modified().unwrap();
        std::fs::write(&listing, vec![b'x'; written.len()]).unwrap();
        let file = File::options().write(true).open(&listing).unwrap();
        file.set_modified(modified).unwrap();
        assert_eq!(tags(&layout).await, ["1"]);
        let one: Identifier = "1".parse::<Tag>().unwrap().into();
        assert!(layout.manifest(&one).await.is_ok());
        // As if another process replaces it.
        std::fs::write(&listing, written).unwrap();
        let other = Layout::open(directory.path()).await.unwrap();
        push(&other, "two", "2").await;
        assert_eq!(tags(&layout).await, ["1", "2"]);
    }

    #[tokio::test]
    async fn layouts_below_a_directory_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["widgets", "acme/tools", "acme/tools/within"] {
            Layout::create(at(name)).await.unwrap();
        }
        std::fs::create_dir(at("empty")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(at("widgets"), at("link")).unwrap();
        let found = Layout::below(directory.path()).await.unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|layout| layout.directory().to_owned())
            .collect();
        assert_eq!(found, [at("acme/tools"), at("widgets")]);
        assert!(Layout::below(at("empty")).await.unwrap().is_empty());
        let error = Layout::below(at("absent")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn manifest_copied_without_a_tag_is_listed() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).await.unwrap();
        let layers = vec![Blob::from_bytes(MediaType::OCTET_STREAM, "one")];
        let packed = Packed::new("a/b".into(), Blob::empty(), layers, Annotations::new()).unwrap();
        let digest = packed.manifest().digest().clone();
        let source: std::sync::Arc<dyn Source> = std::sync::Arc::new(packed);
        let root = Identifier::Digest(digest.clone());
        crate::copy(&source, &root, &layout, crate::CopyOptions::default())
            .await
            .unwrap();
        let listing = layout.read_listing().await.unwrap();
        let listed: Vec<_> = listing
            .entries()
            .iter()
            .map(|listed| &listed.digest)
            .collect();
        assert_eq!(listed, [&digest]);
        assert!(tags(&layout).await.is_empty());
    }

    #[tokio::test]
    async fn open_of_other_directories_fails_with_its_kind() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(
            Layout::open(directory.path()).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        std::fs::write(
            directory.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"9"}"#,
        )
        .unwrap();
        assert_eq!(
            Layout::open(directory.path()).await.unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        std::fs::write(directory.path().join("oci-layout"), "<").unwrap();
        assert_eq!(
            Layout::open(directory.path()).await.unwrap_err().kind(),
            ErrorKind::Protocol
        );
    }

    #[tokio::test]
    async fn entries_of_other_programs_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).await.unwrap();
        let theirs = format!(
            r#"{{"schemaVersion":2,"x":[1],"manifests":[{{"mediaType":"a/b","digest":"{}","size":3}}]}}"#,
            Digest::sha256(b"abc")
        );
        std::fs::write(directory.path().join("index.json"), theirs).unwrap();
        push(&layout, "one", "1").await;
        let text = std::fs::read_to_string(directory.path().join("index.json")).unwrap();
        assert!(
            text.contains("\"x\":[1]") && text.contains(Digest::sha256(b"abc").as_str()),
            "{text}"
        );
    }

    #[tokio::test]
    async fn corrupt_content_fails_with_mismatch() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).await.unwrap();
        let manifest = push(&layout, "one", "1").await;
        let layer = &manifest.as_image().unwrap().layers[0];
        std::fs::write(layout.blob_path(&layer.digest), "eno").unwrap();
        let read = layout.blob(layer).await.unwrap().read_to_end(10).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Mismatch);
        std::fs::write(layout.blob_path(manifest.digest()), "{}").unwrap();
        let read = layout.manifest(&manifest.digest().clone().into()).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Mismatch);
        let absent = Identifier::Tag("absent".parse().unwrap());
        assert_eq!(
            layout.manifest(&absent).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn concurrent_writers_lose_no_tag() {
        let directory = tempfile::tempdir().unwrap();
        let writers = (0..16).map(|at| {
            let directory = directory.path().to_owned();
            tokio::spawn(async move {
                let layout = Layout::create(directory).await.unwrap();
                push(&layout, "same", &format!("t{at:02}")).await;
            })
        });
        futures_util::future::try_join_all(writers).await.unwrap();
        assert_eq!(
            tags(&Layout::open(directory.path()).await.unwrap())
                .await
                .len(),
            16
        );
    }
}
