//! Manifests and image configs that were read before, by digest, on this machine's disk.
//!
//! Owns [`Cache`], which stands before a [`Source`]. What has a digest never changes, so an entry is never out of date;
//! and its bytes are verified each time they are read, so it need not be trusted. Nothing that goes wrong here is an
//! error for anybody: what cannot be read is fetched, and what cannot be written is fetched again next time.
//!
//! A tag is always asked for at the source. An entry that a tag or an index of the source names is given out without
//! asking for it again.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;

use crate::blob::{BlobStream, PartialBlob};
use crate::digest::{Algorithm, Digest};
use crate::environment::Environment;
use crate::file::open_regular;
use crate::manifest::{self, Descriptor, Manifest, MediaType};
use crate::reference::{Identifier, Reference};
use crate::referrers::DescriptorStream;
use crate::storage::{OtherName, Source, TagStream};

/// How much is kept, in bytes.
const LIMIT: u64 = 64 << 20;

/// The largest image config that is kept, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// Prefix of the names of files that are being written.
const UNFINISHED: &str = ".unfinished-";

/// Small documents that have been read before. Clones share what they know.
///
/// ```
/// # use std::sync::Arc;
/// # use oci_registry::{Cache, Environment, Memory, Source};
/// # let environment = Environment::default();
/// let mut source: Arc<dyn Source> = Arc::new(Memory::new());
/// if let Some(cache) = Cache::of_user(&environment) {
///     source = cache.over(source);
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Cache(Arc<Directory>);

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    limit: u64,
    /// How many bytes may be written before the next look at how many there are.
    room: AtomicU64,
}

impl Cache {
    /// The cache in this directory, which is made when there is something to keep.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self::with_limit(directory, LIMIT)
    }

    /// The cache of whoever asks, where the operating system's conventions have it; none without a home directory.
    pub fn of_user(environment: &Environment) -> Option<Self> {
        let absolute = |name| {
            let path = environment.var(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let at_home = |below: &str| Some(environment.home()?.join(below));
        let base = if cfg!(windows) {
            absolute("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            absolute("XDG_CACHE_HOME").or_else(|| at_home("Library/Caches"))
        } else {
            absolute("XDG_CACHE_HOME").or_else(|| at_home(".cache"))
        };
        Some(Self::at(base?.join("oci-registry").join("documents")))
    }

    /// A source that knows what this cache knows, and lets it learn.
    pub fn over(&self, source: Arc<dyn Source>) -> Arc<dyn Source> {
        Arc::new(Cached {
            source,
            cache: self.clone(),
            expects_known: AtomicBool::new(true),
        })
    }

    fn with_limit(directory: impl Into<PathBuf>, limit: u64) -> Self {
        Self(Arc::new(Directory {
            path: directory.into(),
            limit,
            room: AtomicU64::new(0),
        }))
    }

    /// The bytes of this digest, verified, if they are kept.
    async fn read(&self, digest: &Digest, limit: u64) -> Option<Bytes> {
        let (directory, digest) = (Arc::clone(&self.0), digest.clone());
        let read = tokio::task::spawn_blocking(move || directory.read(&digest, limit));
        read.await.ok().flatten()
    }

    async fn write(&self, digest: &Digest, bytes: Bytes) {
        let (directory, digest) = (Arc::clone(&self.0), digest.clone());
        let written = tokio::task::spawn_blocking(move || directory.write(&digest, &bytes));
        // Fetched again next time.
        let _ = written.await;
    }

    async fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        let bytes = self.read(digest, manifest::MAX_READ as u64).await?;
        let manifest = Manifest::parse(bytes, None).ok()?;
        Some(manifest.known_as(digest.clone()))
    }

    async fn keep(&self, manifest: &Manifest) {
        let bytes = manifest.bytes().clone();
        // Some documents are what they are only by the name that they were served under.
        let says_itself = Manifest::parse(bytes.clone(), None)
            .is_ok_and(|read| read.media_type() == manifest.media_type());
        if says_itself {
            self.write(manifest.digest(), bytes).await;
        }
    }
}

impl Directory {
    fn path(&self, digest: &Digest) -> PathBuf {
        self.path
            .join(digest.algorithm_name())
            .join(digest.encoded())
    }

    fn read(&self, digest: &Digest, limit: u64) -> Option<Bytes> {
        let mut hasher = digest.verifier().ok()?;
        let path = self.path(digest);
        if !is_real_directory(path.parent()?) {
            return None;
        }
        let mut bytes = Vec::new();
        let file = open_regular(&path).ok()?;
        file.take(limit + 1).read_to_end(&mut bytes).ok()?;
        hasher.update(&bytes);
        if hasher.finish() == *digest {
            return Some(bytes.into());
        }
        // A damaged entry.
        let _ = fs::remove_file(&path);
        None
    }

    fn write(&self, digest: &Digest, bytes: &[u8]) -> Option<()> {
        let path = self.path(digest);
        if path.exists() {
            return Some(());
        }
        let directory = path.parent()?;
        make_private(directory)?;
        if !is_real_directory(directory) {
            return None;
        }
        self.make_room(bytes.len() as u64);
        // Renamed when it is complete, because several processes may write one entry. Temporary files have mode 0600.
        let temporary = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(directory);
        let mut temporary = temporary.ok()?;
        temporary.write_all(bytes).ok()?;
        temporary.persist(&path).ok()?;
        Some(())
    }

    /// Removes the oldest entries when there is too much. What is here is counted from time to time only.
    fn make_room(&self, wanted: u64) {
        let took = |room: u64| room.checked_sub(wanted);
        let taken = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, took);
        if taken.is_ok() {
            return;
        }
        let mut entries = entries(&self.path);
        let mut kept: u64 = entries.iter().map(|entry| entry.size).sum();
        if kept.saturating_add(wanted) > self.limit {
            entries.sort_by_key(|entry| entry.written);
            // Half of it, so that the next time is far.
            for entry in entries {
                if kept <= self.limit / 2 {
                    break;
                }
                if fs::remove_file(&entry.path).is_ok() {
                    kept -= entry.size;
                }
            }
        }
        let room = self.limit.saturating_sub(kept).saturating_sub(wanted);
        self.room.store(room, Ordering::Relaxed);
    }
}

/// A file that the cache wrote: an entry, or an unfinished one that a killed process left.
struct Entry {
    path: PathBuf,
    size: u64,
    written: std::time::SystemTime,
}

/// Lists the files that the cache wrote. Links, and files with names that the cache does not use, are left out.
fn entries(path: &Path) -> Vec<Entry> {
    let files = Algorithm::ALL.into_iter().flat_map(|algorithm| {
        let directory = Some(path.join(algorithm.as_str())).filter(|path| is_real_directory(path));
        let files = directory.and_then(|directory| fs::read_dir(directory).ok());
        let files = files.into_iter().flatten().flatten();
        files.filter(move |file| is_own_name(algorithm, &file.file_name()))
    });
    let entries = files.filter_map(|file| {
        // That of a link itself, where it is one.
        let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(Entry {
            path: file.path(),
            size: metadata.len(),
            written: metadata.modified().ok()?,
        })
    });
    entries.collect()
}

/// Whether the cache gives files this name, in the directory of this algorithm.
fn is_own_name(algorithm: Algorithm, file: &OsStr) -> bool {
    let is_digest = |name: &str| {
        let digest = format!("{}:{name}", algorithm.as_str());
        digest.parse::<Digest>().is_ok()
    };
    file.to_str()
        .is_some_and(|name| name.starts_with(UNFINISHED) || is_digest(name))
}

/// Whether a path is a directory, and not a link to one.
fn is_real_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

fn make_private(directory: &Path) -> Option<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).ok()
}

/// A source behind a cache.
#[derive(Debug)]
struct Cached {
    source: Arc<dyn Source>,
    cache: Cache,
    /// Whether what the last tag named was known. Then it is cheaper to ask first what the next one names, and otherwise
    /// it is a request in vain.
    expects_known: AtomicBool,
}

impl Cached {
    /// What a tag names, if that is known.
    async fn known(&self, tag: &Identifier) -> crate::Result<Option<Manifest>> {
        let named = self.source.resolve(tag).await?;
        let known = self.cache.manifest(&named.digest).await;
        Ok(known.filter(|manifest| *manifest.media_type() == named.media_type))
    }
}

#[async_trait]
impl Source for Cached {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        let known = match identifier {
            Identifier::Digest(digest) => self.cache.manifest(digest).await,
            Identifier::Tag(_) if self.expects_known.load(Ordering::Relaxed) => {
                self.known(identifier).await?
            }
            Identifier::Tag(_) => None,
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let manifest = self.source.manifest(identifier).await?;
        if let Identifier::Tag(_) = identifier {
            let was_known = self.cache.manifest(manifest.digest()).await.is_some();
            self.expects_known.store(was_known, Ordering::Relaxed);
        }
        self.cache.keep(&manifest).await;
        Ok(manifest)
    }

    async fn resolve(&self, identifier: &Identifier) -> crate::Result<Descriptor> {
        self.source.resolve(identifier).await
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        if !descriptor.media_type.is_image_config() || descriptor.size > MAX_CONFIG {
            return self.source.blob(descriptor).await;
        }
        let known = self.cache.read(&descriptor.digest, MAX_CONFIG).await;
        let bytes = if let Some(bytes) = known {
            bytes
        } else {
            let stream = self.source.blob(descriptor).await?;
            let limit = usize::try_from(MAX_CONFIG).unwrap_or(usize::MAX);
            let bytes = stream.read_to_end(limit).await?;
            self.cache.write(&descriptor.digest, bytes.clone()).await;
            bytes
        };
        let bytes = futures_util::stream::once(async { Ok(bytes) });
        BlobStream::new(descriptor, bytes.boxed())
    }

    async fn blob_after(
        &self,
        descriptor: &Descriptor,
        beginning: PartialBlob,
    ) -> crate::Result<BlobStream> {
        self.source.blob_after(descriptor, beginning).await
    }

    async fn find_blob(&self, digest: &Digest) -> crate::Result<Descriptor> {
        self.source.find_blob(digest).await
    }

    fn origin(&self) -> Option<&Reference> {
        self.source.origin()
    }

    fn tags(&self) -> TagStream {
        self.source.tags()
    }

    async fn other_names(&self) -> crate::Result<Vec<OtherName>> {
        self.source.other_names().await
    }

    fn referrers(&self, subject: &Digest, artifact_type: Option<&MediaType>) -> DescriptorStream {
        self.source.referrers(subject, artifact_type)
    }

    fn describe(&self, identifier: &Identifier) -> String {
        self.source.describe(identifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(at: u8) -> (Digest, Bytes) {
        let bytes = vec![at; 100];
        (Digest::sha256(&bytes), bytes.into())
    }

    #[tokio::test]
    async fn what_is_kept_comes_back_and_what_is_damaged_does_not() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path().join("deep/down"));
        let (digest, bytes) = content(1);
        assert_eq!(cache.read(&digest, 1000).await, None);
        cache.write(&digest, bytes.clone()).await;
        assert_eq!(cache.read(&digest, 1000).await, Some(bytes.clone()));
        assert_eq!(cache.read(&digest, 10).await, None);
        cache.write(&digest, bytes.clone()).await;
        let path = cache.0.path(&digest);
        fs::write(&path, "damaged").unwrap();
        assert_eq!(cache.read(&digest, 1000).await, None);
        assert!(!path.exists());
        cache.write(&digest, bytes.clone()).await;
        assert_eq!(cache.read(&digest, 1000).await, Some(bytes));
    }

    #[tokio::test]
    async fn there_is_never_much_more_than_the_limit() {
        let home = tempfile::tempdir().unwrap();
        for at in 0..50 {
            // Another process each time, and one for a while.
            let cache = Cache::with_limit(home.path(), 1000);
            let (digest, bytes) = content(at);
            cache.write(&digest, bytes.clone()).await;
            assert_eq!(cache.read(&digest, 1000).await, Some(bytes));
            let (digest, bytes) = content(at + 100);
            cache.write(&digest, bytes).await;
            let kept: u64 = entries(home.path()).iter().map(|entry| entry.size).sum();
            assert!(kept <= 1100, "{kept}");
            assert!(cache.read(&digest, 1000).await.is_some());
        }
    }

    /// Fills a cache whose limit holds only a few entries.
    async fn overfill(cache: &Path) {
        for at in 0..20 {
            let cache = Cache::with_limit(cache, 300);
            let (digest, bytes) = content(at);
            cache.write(&digest, bytes).await;
        }
    }

    #[tokio::test]
    async fn eviction_removes_only_files_of_the_cache() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().join("cache");
        let (digest, _) = content(200);
        let left = format!("sha256/{UNFINISHED}x");
        let foreign = [
            "sha256/notes.txt".to_owned(),
            format!("other/{}", digest.encoded()),
            format!("sha256/{}/x", digest.encoded()),
        ];
        for name in foreign.iter().chain([&left]) {
            let path = cache.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, [0; 500]).unwrap();
        }
        overfill(&cache).await;
        for name in foreign {
            assert!(cache.join(&name).exists(), "{name}");
        }
        assert!(!cache.join(left).exists());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn linked_directory_is_neither_read_nor_changed() {
        let home = tempfile::tempdir().unwrap();
        let (cache, elsewhere) = (home.path().join("cache"), home.path().join("elsewhere"));
        for path in [&cache, &elsewhere] {
            fs::create_dir(path).unwrap();
        }
        let (kept, bytes) = content(201);
        fs::write(elsewhere.join(kept.encoded()), &bytes).unwrap();
        let (damaged, _) = content(202);
        fs::write(elsewhere.join(damaged.encoded()), [0; 500]).unwrap();
        std::os::unix::fs::symlink(&elsewhere, cache.join("sha256")).unwrap();
        let opened = Cache::at(&cache);
        assert_eq!(opened.read(&kept, 1000).await, None);
        assert_eq!(opened.read(&damaged, 1000).await, None);
        overfill(&cache).await;
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn entry_that_is_a_fifo_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path());
        let (digest, bytes) = content(1);
        cache.write(&digest, bytes).await;
        let path = cache.0.path(&digest);
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert_eq!(cache.read(&digest, 1000).await, None);
    }

    #[tokio::test]
    async fn a_cache_that_cannot_be_is_no_error() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "in the way").unwrap();
        let cache = Cache::at(file.join("cache"));
        let (digest, bytes) = content(1);
        cache.write(&digest, bytes).await;
        assert_eq!(cache.read(&digest, 1000).await, None);
        assert_eq!(fs::read_to_string(file).unwrap(), "in the way");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn users_have_theirs_where_the_system_has_it() {
        let user = |cache: &str, home: Option<&str>| {
            let variables = [("XDG_CACHE_HOME".to_owned(), cache.to_owned())];
            let environment = Environment::new(variables, home.map(Into::into), "/".into());
            Cache::of_user(&environment).map(|cache| cache.0.path.clone())
        };
        let documents = |base: &str| Some(Path::new(base).join("oci-registry/documents"));
        assert_eq!(user("/cache", Some("/home/me")), documents("/cache"));
        assert_eq!(
            user("relative", Some("/home/me")),
            documents("/home/me/.cache")
        );
        assert_eq!(user("", None), None);
    }
}
