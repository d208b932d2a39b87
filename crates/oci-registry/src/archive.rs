//! Archives: a repository in one file (image-spec, `image-layout.md`; the format of `docker save`).
//!
//! An archive is read where it lies: its tar is gone through once for where everything is, and blobs are served from
//! there, so that nothing is unpacked and memory stays small. Names in it are only looked up and never become paths; no
//! link is followed; devices and names that are there twice are refused.
//!
//! What is pushed waits beside the file until a tag is set, or [`Archive::finish`]. Then the whole archive is written
//! anew, flushed and moved to its place: entries sorted, owned by nobody, without times, so that the same content gives
//! the same file. A docker archive is a layout too, and keeps manifests as they are; beside them lies the
//! `manifest.json` that Docker reads.

mod docker;
mod index;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use snafu::{OptionExt, ResultExt, Snafu, ensure};

use self::docker::Images;
use self::index::{Span, Spans};
use crate::blob::{Blob, BlobStream};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Optional};
use crate::layout::{self, Listing, Marker};
use crate::manifest::{self, Descriptor, Manifest, MediaType};
use crate::reference::{ArchiveFormat, Identifier, Location, Tag};
use crate::referrers::{self, DescriptorStream};
use crate::storage::{Delivery, Source, TagStream, Target};
use crate::tarball::{self, Entry, Writer};

/// How much of a blob is read at once.
const PIECE: usize = 256 << 10;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to find the archive `{}`", path.display()))]
    NoArchive { path: PathBuf },
    #[snafu(display("failed to read the archive `{}`", path.display()))]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to read the archive `{}`", path.display()))]
    ReadTar {
        path: PathBuf,
        source: tarball::Error,
    },
    #[snafu(display("refused the archive `{}`: {problem}", path.display()))]
    Strange {
        path: PathBuf,
        problem: &'static str,
    },
    #[snafu(display("refused the archive `{}`: the entry `{}` {problem}", path.display(), name.escape_debug()))]
    StrangeEntry {
        path: PathBuf,
        name: String,
        problem: &'static str,
    },
    #[snafu(display("failed to read the archive `{}`: it is compressed as a whole", path.display()))]
    Compressed { path: PathBuf },
    #[snafu(display("failed to read `{name}` of the archive `{}`", path.display()))]
    Parse {
        path: PathBuf,
        name: &'static str,
        source: serde_json::Error,
    },
    #[snafu(display("failed to write the archive `{}`", path.display()))]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to write the archive `{}`", path.display()))]
    WriteTar {
        path: PathBuf,
        source: tarball::Error,
    },
    #[snafu(display("refused to replace the archive `{}`: somebody else has changed it", path.display()))]
    Changed { path: PathBuf },
    #[snafu(display("failed to find the manifest `{identifier}` in the archive `{}`", path.display()))]
    NoManifest {
        path: PathBuf,
        identifier: Identifier,
    },
    #[snafu(display("failed to find the blob {digest} in the archive `{}`", path.display()))]
    NoBlob { path: PathBuf, digest: Digest },
    #[snafu(display("refused a manifest of the archive `{}`: it should have digest {expected}, and has {actual}", path.display()))]
    WrongDigest {
        path: PathBuf,
        expected: Digest,
        actual: Digest,
    },
    #[snafu(display("failed to choose between the images with the tag `{tag}` in the archive `{}`", path.display()))]
    Ambiguous { path: PathBuf, tag: Tag },
    #[snafu(display("failed to tag `{tag}` in the archive `{}`: its images have names, and none is given", path.display()))]
    NoName { path: PathBuf, tag: Tag },
    #[snafu(display("refused to tag {digest} in the archive `{}`: docker archives hold images, and this is none", path.display()))]
    NotAnImage { path: PathBuf, digest: Digest },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoArchive { .. } | Self::NoManifest { .. } | Self::NoBlob { .. } => {
                ErrorKind::NotFound
            }
            Self::Strange { .. } | Self::StrangeEntry { .. } | Self::Parse { .. } => {
                ErrorKind::Protocol
            }
            Self::Compressed { .. } => ErrorKind::Unsupported,
            Self::Changed { .. } => ErrorKind::Conflict,
            Self::WrongDigest { .. } => ErrorKind::Mismatch,
            Self::Ambiguous { .. } | Self::NoName { .. } | Self::NotAnImage { .. } => {
                ErrorKind::InvalidInput
            }
            Self::Read { .. } | Self::Write { .. } => ErrorKind::Io,
            Self::ReadTar { source, .. } | Self::WriteTar { source, .. } => source.kind(),
        }
    }

    fn help(&self) -> Vec<String> {
        let file = |path: &Path| path.display().to_string();
        match self {
            Self::Compressed { path } => {
                vec![format!("decompress `{}` first", file(path))]
            }
            Self::Ambiguous { path, tag } | Self::NoName { path, tag } => {
                vec![format!("write `docker-archive:{}:NAME:{tag}`", file(path))]
            }
            Self::NotAnImage { path, .. } => vec![
                "of an index, copy the image of one platform".into(),
                format!(
                    "or write `oci-archive:{}`, which holds anything",
                    file(path)
                ),
            ],
            Self::Changed { .. } => vec!["run it again".into()],
            _ => Vec::new(),
        }
    }
}

/// A repository in one file. Clones share it.
#[derive(Debug, Clone)]
pub struct Archive(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    format: ArchiveFormat,
    state: Mutex<State>,
    /// Whether tags wait for [`Archive::finish`] as well.
    waits: bool,
    /// Held by whoever writes the file.
    writing: tokio::sync::Mutex<()>,
}

/// What is in the archive, and what will be.
#[derive(Debug, Clone)]
struct State {
    stored: BTreeMap<Digest, Stored>,
    listing: Listing,
    images: Images,
    /// Whether something is listed that the file does not list.
    is_ahead: bool,
    /// The file that was read; none before the first is written.
    version: Option<Version>,
}

/// Where a blob or manifest is.
#[derive(Debug, Clone)]
enum Stored {
    /// In the archive.
    Packed(Arc<File>, Span),
    /// In a file of its own, which goes with the last who knows of it.
    Waiting(Arc<tempfile::TempPath>, u64),
    /// In memory: a manifest.
    Held(Bytes),
}

impl Stored {
    fn size(&self) -> u64 {
        match self {
            Self::Packed(_, span) => span.size,
            Self::Waiting(_, size) => *size,
            Self::Held(bytes) => bytes.len() as u64,
        }
    }

    /// Reads it from its first byte, in the order of the archive.
    fn open(&self) -> std::io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Packed(file, span) => Box::new(index::Section::new(file, *span)),
            Self::Waiting(path, _) => Box::new(File::open(&**path)?),
            Self::Held(bytes) => Box::new(&bytes[..]),
        })
    }
}

/// What tells one version of a file from the next.
#[derive(Debug, Clone, PartialEq)]
struct Version(u64, SystemTime);

impl Version {
    fn of(file: &std::fs::Metadata) -> std::io::Result<Self> {
        Ok(Self(file.len(), file.modified()?))
    }
}

impl Archive {
    /// Opens an archive that is there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is no file; [`ErrorKind::Protocol`] when it is no archive of this format, or
    /// holds what it should not.
    pub async fn open(path: impl Into<PathBuf>, format: ArchiveFormat) -> crate::Result<Self> {
        let path = path.into();
        let state = {
            let (path, format) = (path.clone(), format.clone());
            blocking(move || State::read(&path, &format)).await?
        };
        let path_of = path.clone();
        let state = state.context(NoArchiveSnafu { path: path_of })?;
        Ok(Self::of(path, format, state))
    }

    /// Opens an archive, or starts one: there is no file before something is tagged.
    ///
    /// # Errors
    ///
    /// As [`Archive::open`] for a file that is there.
    pub async fn create(path: impl Into<PathBuf>, format: ArchiveFormat) -> crate::Result<Self> {
        let path = path.into();
        let state = {
            let (path, format) = (path.clone(), format.clone());
            blocking(move || State::read(&path, &format)).await?
        };
        Ok(Self::of(path, format, state.unwrap_or_else(State::empty)))
    }

    /// The same archive, whose file is written by [`Archive::finish`] only, and not anew for each tag. Until then the file
    /// is what it was; if it never comes to that, nothing was pushed.
    #[must_use]
    pub fn written_once(self) -> Self {
        let state = self.state().clone();
        let Inner { path, format, .. } = &*self.0;
        Self(Arc::new(Inner {
            path: path.clone(),
            format: format.clone(),
            state: Mutex::new(state),
            waits: true,
            writing: tokio::sync::Mutex::new(()),
        }))
    }

    fn of(path: PathBuf, format: ArchiveFormat, state: State) -> Self {
        Self(Arc::new(Inner {
            path,
            format,
            state: Mutex::new(state),
            waits: false,
            writing: tokio::sync::Mutex::new(()),
        }))
    }

    /// The archive's file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Writes the file when something was pushed since, for an artifact that is to be found by its digest only. Setting a
    /// tag does this too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when somebody else has changed the file; [`ErrorKind::Io`] when it cannot be written. The
    /// file is then what it was.
    pub async fn finish(&self) -> crate::Result<()> {
        let _writing = self.0.writing.lock().await;
        let state = self.state().clone();
        self.write(state).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self, digest: &Digest) -> Option<Stored> {
        self.state().stored.get(digest).cloned()
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        let stored = self.stored(&descriptor.digest);
        stored.is_some_and(|stored| stored.size() == descriptor.size)
    }

    /// Writes this state to the file, unless it is what is there. What is pushed meanwhile waits for the next time.
    async fn write(&self, state: State) -> crate::Result<()> {
        let is_packed = |stored: &Stored| matches!(stored, Stored::Packed(..));
        let is_written = {
            let now = self.state();
            let is_same =
                now.images == state.images && now.listing.manifests == state.listing.manifests;
            is_same
                && !state.is_ahead
                && now.version.is_some()
                && state.stored.values().all(is_packed)
        };
        if is_written {
            return Ok(());
        }
        let inner = Arc::clone(&self.0);
        let written = blocking(move || inner.write(&state)).await?;
        let mut now = self.state();
        let since = std::mem::replace(&mut *now, written);
        for (digest, stored) in since.stored {
            now.stored.entry(digest).or_insert(stored);
        }
        for listed in since.listing.manifests {
            if listed.annotation(layout::REF_NAME).is_none() {
                now.is_ahead |= now.listing.add(listed);
            }
        }
        Ok(())
    }

    /// The digest that an identifier means, and the media type it is listed with.
    fn find(&self, identifier: &Identifier) -> Result<(Digest, Option<String>), Error> {
        let state = self.state();
        let digest = match (identifier, &self.0.format) {
            (Identifier::Digest(digest), _) => Some(digest.clone()),
            (Identifier::Tag(tag), ArchiveFormat::Oci) => {
                state.listing.find(tag).map(|listed| listed.digest.clone())
            }
            (Identifier::Tag(tag), ArchiveFormat::Docker(name)) => {
                let found = state.images.find(name.as_ref(), tag);
                let path = self.path();
                found.map_err(|()| {
                    AmbiguousSnafu {
                        path,
                        tag: tag.clone(),
                    }
                    .build()
                })?
            }
        };
        let digest = digest.with_context(|| self.no_manifest(identifier))?;
        let listed = state
            .listing
            .manifests
            .iter()
            .find(|listed| listed.digest == digest);
        let media_type = listed.map(|listed| listed.media_type.to_string());
        Ok((digest, media_type))
    }

    fn no_manifest(&self, identifier: &Identifier) -> NoManifestSnafu<PathBuf, Identifier> {
        NoManifestSnafu {
            path: self.path().to_owned(),
            identifier: identifier.clone(),
        }
    }
}

impl Inner {
    /// Lets a tag name a manifest; `is_whole` when all that it names is here.
    fn name(
        &self,
        state: &mut State,
        manifest: &Manifest,
        tag: &Tag,
        is_whole: bool,
    ) -> Result<(), Error> {
        let ArchiveFormat::Docker(name) = &self.format else {
            state.listing.put(manifest.descriptor(), tag);
            return Ok(());
        };
        let path = &self.path;
        let name = name.as_ref().with_context(|| NoNameSnafu {
            path,
            tag: tag.clone(),
        })?;
        let is_image = is_whole && state.images.put(manifest, name, tag);
        let digest = manifest.digest();
        ensure!(
            is_image,
            NotAnImageSnafu {
                path,
                digest: digest.clone()
            }
        );
        state.images.list_in(&mut state.listing, manifest);
        Ok(())
    }

    /// Writes the archive beside its place and moves it there; what is now in it.
    fn write(&self, state: &State) -> Result<State, Error> {
        let path = &self.path;
        let entries = self.entries(state);
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = layout::new_temporary(directory).context(WriteSnafu { path })?;
        let mut writer = Writer::new(std::io::BufWriter::with_capacity(
            PIECE,
            temporary.as_file(),
        ));
        for (name, stored) in &entries {
            let mut content = stored.open().context(WriteSnafu { path })?;
            let entry = Entry::file(name, stored.size());
            writer
                .entry(&entry, &mut content)
                .context(WriteTarSnafu { path })?;
        }
        writer.finish().context(WriteTarSnafu { path })?;
        temporary
            .as_file()
            .sync_all()
            .context(WriteSnafu { path })?;
        let file = temporary
            .as_file()
            .try_clone()
            .context(WriteSnafu { path })?;
        let spans = index::read(&file, path, &self.format)?;
        let found = match std::fs::metadata(path) {
            Ok(metadata) => Some(Version::of(&metadata).context(ReadSnafu { path })?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(Error::Read {
                    path: path.clone(),
                    source,
                });
            }
        };
        ensure!(found == state.version, ChangedSnafu { path });
        layout::persist(temporary, path).context(WriteSnafu { path })?;
        let metadata = file.metadata().context(ReadSnafu { path })?;
        Ok(State {
            stored: packed(&Arc::new(file), &spans),
            listing: state.listing.clone(),
            images: state.images.clone(),
            is_ahead: false,
            version: Some(Version::of(&metadata).context(ReadSnafu { path })?),
        })
    }

    /// All that the archive is to hold, by name.
    fn entries(&self, state: &State) -> BTreeMap<String, Stored> {
        let blobs = state.stored.iter();
        let mut entries: BTreeMap<_, _> = blobs
            .map(|(digest, stored)| (blob_name(digest), stored.clone()))
            .collect();
        let marker = Marker {
            version: layout::VERSION.to_owned(),
        };
        let mut hold = |name: &str, bytes: Vec<u8>| {
            entries.insert(name.to_owned(), Stored::Held(bytes.into()));
        };
        hold("oci-layout", layout::json(&marker));
        hold("index.json", layout::json(&state.listing));
        if let ArchiveFormat::Docker(_) = self.format {
            hold("manifest.json", state.images.to_json());
        }
        entries
    }
}

impl State {
    fn empty() -> Self {
        Self {
            stored: BTreeMap::new(),
            listing: Listing::empty(),
            images: Images::default(),
            is_ahead: false,
            version: None,
        }
    }

    /// Reads what is in a file that may be absent.
    fn read(path: &Path, format: &ArchiveFormat) -> Result<Option<Self>, Error> {
        let file = match File::open(path) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let metadata = file.metadata().context(ReadSnafu { path })?;
        let problem = "it is not a file";
        ensure!(metadata.is_file(), StrangeSnafu { path, problem });
        let version = Version::of(&metadata).context(ReadSnafu { path })?;
        let spans = index::read(&file, path, format)?;
        let mut state = Self {
            stored: packed(&file, &spans),
            version: Some(version),
            ..Self::empty()
        };
        let document = |name: &'static str| index::document(&file, &spans, name, path);
        if let Some(bytes) = document("index.json")? {
            let name = "index.json";
            state.listing = serde_json::from_slice(&bytes).context(ParseSnafu { path, name })?;
        }
        match format {
            ArchiveFormat::Oci => {
                let name = "oci-layout";
                let problem = "there is no `oci-layout` in it";
                let bytes = document(name)?.context(StrangeSnafu { path, problem })?;
                let marker: Marker =
                    serde_json::from_slice(&bytes).context(ParseSnafu { path, name })?;
                let problem = "it is a layout of another version";
                ensure!(
                    marker.version == layout::VERSION,
                    StrangeSnafu { path, problem }
                );
            }
            ArchiveFormat::Docker(_) => {
                let problem = "there is no `manifest.json` in it";
                let bytes = document("manifest.json")?.context(StrangeSnafu { path, problem })?;
                docker::read(&bytes, &file, &spans, &mut state, path)?;
            }
        }
        Ok(Some(state))
    }
}

/// Where the blobs of a layout are in its archive.
fn packed(file: &Arc<File>, spans: &Spans) -> BTreeMap<Digest, Stored> {
    let blobs = spans.iter().filter_map(|(name, span)| {
        let digest = digest_of(name)?;
        Some((digest, Stored::Packed(Arc::clone(file), *span)))
    });
    blobs.collect()
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm_name(), digest.encoded())
}

/// What the name of an entry says that its content is.
fn digest_of(name: &str) -> Option<Digest> {
    let (algorithm, encoded) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{encoded}").parse().ok()
}

/// Runs work on files beside the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.expect("work on an archive does not panic")
}

#[async_trait]
impl Source for Archive {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        let (digest, media_type) = self.find(identifier)?;
        let stored = self
            .stored(&digest)
            .with_context(|| self.no_manifest(identifier))?;
        let path = self.path().to_owned();
        let limit = manifest::MAX_READ as u64;
        let problem = "a manifest in it is too large";
        ensure!(
            stored.size() <= limit,
            StrangeSnafu {
                path: path.clone(),
                problem
            }
        );
        let bytes = blocking(move || {
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
            WrongDigestSnafu {
                path,
                expected,
                actual
            }
        );
        Ok(Manifest::parse(bytes.into(), media_type.as_deref())?.known_as(digest))
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        let (path, digest) = (self.path().to_owned(), descriptor.digest.clone());
        let stored = self.stored(&digest).context(NoBlobSnafu {
            path: path.clone(),
            digest,
        })?;
        match stored {
            Stored::Waiting(file, _) => BlobStream::from_file(descriptor, &file).await,
            Stored::Held(bytes) => BlobStream::new(
                descriptor,
                futures_util::stream::once(async { Ok(bytes) }).boxed(),
            ),
            Stored::Packed(file, span) => {
                let pieces = futures_util::stream::unfold(Some((file, span)), move |rest| {
                    let path = path.clone();
                    async move {
                        let (file, span) = rest.filter(|(_, span)| span.size > 0)?;
                        let read = blocking(move || piece(&file, span).map(|piece| (piece, file)));
                        match read.await.context(ReadSnafu { path }) {
                            Ok((piece, file)) => {
                                let rest = span.after(piece.len() as u64);
                                Some((Ok(piece), Some((file, rest))))
                            }
                            Err(error) => Some((Err(error.into()), None)),
                        }
                    }
                });
                BlobStream::new(descriptor, pieces.boxed())
            }
        }
    }

    fn tags(&self) -> TagStream {
        let state = self.state();
        let tags: Vec<Tag> = match &self.0.format {
            ArchiveFormat::Oci => {
                let names = state.listing.manifests.iter();
                let names = names.filter_map(|entry| entry.annotation(layout::REF_NAME));
                // An archive of others may hold names that are no tags; they cannot be asked for here.
                names.filter_map(|name| name.parse().ok()).collect()
            }
            ArchiveFormat::Docker(name) => state.images.tags(name.as_ref()),
        };
        futures_util::stream::iter(tags.into_iter().map(Ok)).boxed()
    }

    async fn find_blob(&self, digest: &Digest) -> crate::Result<Descriptor> {
        let (path, missing) = (self.path().to_owned(), digest.clone());
        let stored = self.stored(digest).context(NoBlobSnafu {
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
        Location::Archive {
            file: self.path().to_owned(),
            format: self.0.format.clone(),
            identifier: Some(identifier.clone()),
        }
        .to_string()
    }
}

/// The next piece of a blob.
fn piece(file: &File, span: Span) -> std::io::Result<Bytes> {
    let length = usize::try_from(span.size).unwrap_or(usize::MAX).min(PIECE);
    let mut piece = BytesMut::zeroed(length);
    index::Section::new(file, span).read_exact(&mut piece)?;
    Ok(piece.freeze())
}

#[async_trait]
impl Target for Archive {
    async fn exists(&self, descriptor: &Descriptor) -> crate::Result<bool> {
        Ok(self.has(descriptor))
    }

    async fn push_blob(&self, blob: &Blob) -> crate::Result<Delivery> {
        if self.has(blob.descriptor()) {
            return Ok(Delivery::Existed);
        }
        let path = self.path();
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let made = tokio::fs::create_dir_all(directory).await;
        made.context(WriteSnafu { path: directory })?;
        let waiting = layout::new_temporary(directory).context(WriteSnafu { path: directory })?;
        let file = waiting.as_file().try_clone().context(WriteSnafu { path })?;
        blob.open().await?.write_to(file, waiting.path()).await?;
        let stored = Stored::Waiting(Arc::new(waiting.into_temp_path()), blob.size());
        self.state()
            .stored
            .entry(blob.digest().clone())
            .or_insert(stored);
        Ok(Delivery::Uploaded)
    }

    async fn push_manifest(&self, manifest: &Manifest) -> crate::Result<()> {
        if !self.has(&manifest.descriptor()) {
            let stored = Stored::Held(manifest.bytes().clone());
            self.state()
                .stored
                .insert(manifest.digest().clone(), stored);
        }
        if manifest.subject().is_some() {
            // Whoever reads the file finds it from its listing only.
            self.list(manifest).await?;
        }
        Ok(())
    }

    async fn list(&self, manifest: &Manifest) -> crate::Result<()> {
        let mut state = self.state();
        let is_new = state.listing.add(manifest.descriptor());
        state.is_ahead |= is_new;
        Ok(())
    }

    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
        let _writing = self.0.writing.lock().await;
        let descriptor = manifest.descriptor();
        let digest = manifest.digest();
        ensure!(
            self.has(&descriptor),
            self.no_manifest(&digest.clone().into())
        );
        let is_whole = manifest
            .successors()
            .into_iter()
            .all(|successor| self.has(successor));
        if self.0.waits {
            // In place: what is pushed meanwhile is not to be lost.
            let mut state = self.state();
            self.0.name(&mut state, manifest, tag, is_whole)?;
            state.is_ahead = true;
            return Ok(());
        }
        let mut state = self.state().clone();
        self.0.name(&mut state, manifest, tag, is_whole)?;
        self.write(state).await
    }

    async fn finish(&self) -> crate::Result<()> {
        Self::finish(self).await
    }
}

impl referrers::walk::Listed for Archive {
    async fn roots(&self) -> crate::Result<Vec<Descriptor>> {
        let entries = self.state().listing.manifests.clone().into_iter();
        Ok(entries.map(layout::Listed::into_descriptor).collect())
    }

    async fn read(&self, listed: &Descriptor) -> crate::Result<Option<Manifest>> {
        let digest = Identifier::Digest(listed.digest.clone());
        self.manifest(&digest).await.optional()
    }

    fn name(&self) -> String {
        let whole = Location::Archive {
            file: self.path().to_owned(),
            format: self.0.format.clone(),
            identifier: None,
        };
        whole.to_string()
    }
}

#[cfg(test)]
mod tests;
