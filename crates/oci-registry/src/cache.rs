//! Cache of manifests and image configs by digest, on the local disk.
//!
//! A [`Cache`] wraps a [`Source`]. Content with a digest never changes, so an entry is never out of date. Its bytes are
//! verified on each read, so the cache need not be trusted. A failure of the cache is never an error: if an entry
//! cannot be read or written, the document is fetched from the source.
//!
//! A tag is always resolved at the source. A manifest or config whose digest is cached is returned without a request.
//!
//! If the directory of the cache or its parent is a link, it may contain files of another program under the same names,
//! such as the blobs of a layout. Its entries are read, but nothing in it is written or removed.

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

/// Maximum size of the cache in bytes.
const MAX_SIZE: u64 = 64 << 20;

/// Maximum size of a cached image config, in bytes.
const MAX_CONFIG_SIZE: u64 = 1 << 20;

/// Prefix of the names of files that are being written.
const TEMPORARY_PREFIX: &str = ".unfinished-";

/// Cache of small documents. Clones share the cache.
///
/// ```
/// # use std::sync::Arc;
/// # use oci_registry::{Cache, Environment, Memory, Source};
/// # let environment = Environment::default();
/// let mut source: Arc<dyn Source> = Arc::new(Memory::new());
/// if let Some(cache) = Cache::for_user(&environment) {
///     source = cache.wrap(source);
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Cache(Arc<CacheDirectory>);

#[derive(Debug)]
struct CacheDirectory {
    path: PathBuf,
    /// Parent directory, if it belongs to the cache too.
    parent: Option<PathBuf>,
    limit: u64,
    /// Number of bytes that may be written before the size of the cache is computed again.
    room: AtomicU64,
}

impl Cache {
    /// Creates a cache in this directory. The directory is created with the first entry.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self::with_limit(directory, None, MAX_SIZE)
    }

    /// Returns the cache of the user in the directory that the operating system's conventions specify, or `None` if
    /// there is no home directory.
    pub fn for_user(environment: &Environment) -> Option<Self> {
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
        let parent = base?.join("oci-registry");
        Some(Self::with_limit(
            parent.join("documents"),
            Some(parent),
            MAX_SIZE,
        ))
    }

    /// Wraps a source, so that its manifests and image configs are read from this cache and written to it.
    pub fn wrap(&self, source: Arc<dyn Source>) -> Arc<dyn Source> {
        Arc::new(CachedSource {
            source,
            cache: self.clone(),
            expects_cached: AtomicBool::new(true),
        })
    }

    fn with_limit(directory: impl Into<PathBuf>, parent: Option<PathBuf>, limit: u64) -> Self {
        Self(Arc::new(CacheDirectory {
            path: directory.into(),
            parent,
            limit,
            room: AtomicU64::new(0),
        }))
    }

    /// Returns the bytes with this digest if they are cached. The bytes are verified.
    async fn read(&self, digest: &Digest, limit: u64) -> Option<Bytes> {
        let (directory, digest) = (Arc::clone(&self.0), digest.clone());
        let read = tokio::task::spawn_blocking(move || directory.read(&digest, limit));
        read.await.ok().flatten()
    }

    async fn write(&self, digest: &Digest, bytes: Bytes) {
        let (directory, digest) = (Arc::clone(&self.0), digest.clone());
        let written = tokio::task::spawn_blocking(move || directory.write(&digest, &bytes));
        // If the write failed, the document is fetched again next time.
        let _ = written.await;
    }

    async fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        let bytes = self.read(digest, manifest::MAX_READ as u64).await?;
        let manifest = Manifest::parse(bytes, None).ok()?;
        Some(manifest.with_digest(digest.clone()))
    }

    async fn write_manifest(&self, manifest: &Manifest) {
        let bytes = manifest.bytes().clone();
        // Some manifests state their media type only in the `Content-Type` of the response, which the cache does not
        // store.
        let is_self_describing = Manifest::parse(bytes.clone(), None)
            .is_ok_and(|read| read.media_type() == manifest.media_type());
        if is_self_describing {
            self.write(manifest.digest(), bytes).await;
        }
    }
}

impl CacheDirectory {
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
        // The entry is damaged.
        if !self.is_linked() {
            let _ = fs::remove_file(&path);
        }
        None
    }

    fn write(&self, digest: &Digest, bytes: &[u8]) -> Option<()> {
        let path = self.path(digest);
        if path.exists() {
            return Some(());
        }
        if self.is_linked() {
            return None;
        }
        let directory = path.parent()?;
        create_private_directory(directory)?;
        if !is_real_directory(directory) {
            return None;
        }
        self.make_room(bytes.len() as u64);
        // The file is renamed when it is complete, because several processes may write the same entry. Temporary files
        // have mode 0600.
        let temporary = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .tempfile_in(directory);
        let mut temporary = temporary.ok()?;
        temporary.write_all(bytes).ok()?;
        temporary.persist(&path).ok()?;
        Some(())
    }

    /// Whether the directory of the cache, or its parent if it belongs to the cache, is a link.
    fn is_linked(&self) -> bool {
        let mut directories = self.parent.iter().chain([&self.path]);
        directories.any(|directory| directory.is_symlink())
    }

    /// Removes the oldest entries if the cache would exceed its limit. The size of the cache is computed only if the
    /// remaining room is too small.
    fn make_room(&self, wanted: u64) {
        let take = |room: u64| room.checked_sub(wanted);
        let taken = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if taken.is_ok() {
            return;
        }
        let entries = list_files(&self.path);
        let mut total: u64 = entries.iter().map(|entry| entry.size).sum();
        if total.saturating_add(wanted) > self.limit {
            // Entries are removed until half of the limit is free, so that the next eviction is not needed soon.
            total = evict(entries, self.limit / 2);
        }
        let room = self.limit.saturating_sub(total).saturating_sub(wanted);
        self.room.store(room, Ordering::Relaxed);
    }
}

/// File that the cache wrote: an entry, or a temporary file that a killed process left.
struct CacheFile {
    path: PathBuf,
    size: u64,
    written: std::time::SystemTime,
}

/// Lists the files that the cache wrote. Links and files with other names are skipped.
fn list_files(path: &Path) -> Vec<CacheFile> {
    let files = Algorithm::ALL.into_iter().flat_map(|algorithm| {
        let directory = Some(path.join(algorithm.as_str())).filter(|path| is_real_directory(path));
        let files = directory.and_then(|directory| fs::read_dir(directory).ok());
        let files = files.into_iter().flatten().flatten();
        files.filter(move |file| is_cache_file_name(algorithm, &file.file_name()))
    });
    let entries = files.filter_map(|file| {
        // For a link, this is the metadata of the link and not of its target.
        let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(CacheFile {
            path: file.path(),
            size: metadata.len(),
            written: metadata.modified().ok()?,
        })
    });
    entries.collect()
}

/// Removes the oldest entries until the remaining entries have at most `limit` bytes. Returns their total size.
fn evict(mut entries: Vec<CacheFile>, limit: u64) -> u64 {
    entries.sort_by_key(|entry| entry.written);
    let mut total = entries.iter().map(|entry| entry.size).sum();
    for entry in entries {
        if total <= limit {
            break;
        }
        match fs::remove_file(&entry.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {}
            // The entry also counts as removed if a concurrent eviction has removed it.
            _ => total -= entry.size,
        }
    }
    total
}

/// Whether the cache uses this file name in the directory of this algorithm.
fn is_cache_file_name(algorithm: Algorithm, file: &OsStr) -> bool {
    let is_digest = |name: &str| {
        let digest = format!("{}:{name}", algorithm.as_str());
        digest.parse::<Digest>().is_ok()
    };
    file.to_str()
        .is_some_and(|name| name.starts_with(TEMPORARY_PREFIX) || is_digest(name))
}

/// Whether a path is a directory, and not a link to a directory.
fn is_real_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

fn create_private_directory(directory: &Path) -> Option<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).ok()
}

/// Source whose manifests and image configs are cached.
#[derive(Debug)]
struct CachedSource {
    source: Arc<dyn Source>,
    cache: Cache,
    /// Whether the manifest of the last tag was cached. If so, the next tag is first resolved to a digest, which is
    /// cheaper than fetching the manifest. If the manifest is not cached, resolving the tag is an additional request.
    expects_cached: AtomicBool,
}

impl CachedSource {
    /// Resolves a tag. Returns its manifest if it is cached.
    async fn cached_manifest(&self, tag: &Identifier) -> crate::Result<Option<Manifest>> {
        let named = self.source.resolve(tag).await?;
        let cached = self.cache.manifest(&named.digest).await;
        Ok(cached.filter(|manifest| *manifest.media_type() == named.media_type))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Source for CachedSource {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        let cached = match identifier {
            Identifier::Digest(digest) => self.cache.manifest(digest).await,
            Identifier::Tag(_) if self.expects_cached.load(Ordering::Relaxed) => {
                self.cached_manifest(identifier).await?
            }
            Identifier::Tag(_) => None,
        };
        if let Some(cached) = cached {
            return Ok(cached);
        }
        let manifest = self.source.manifest(identifier).await?;
        if let Identifier::Tag(_) = identifier {
            let was_cached = self.cache.manifest(manifest.digest()).await.is_some();
            self.expects_cached.store(was_cached, Ordering::Relaxed);
        }
        self.cache.write_manifest(&manifest).await;
        Ok(manifest)
    }

    async fn resolve(&self, identifier: &Identifier) -> crate::Result<Descriptor> {
        self.source.resolve(identifier).await
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        if !descriptor.media_type.is_image_config() || descriptor.size > MAX_CONFIG_SIZE {
            return self.source.blob(descriptor).await;
        }
        let cached = self.cache.read(&descriptor.digest, MAX_CONFIG_SIZE).await;
        let bytes = if let Some(bytes) = cached {
            bytes
        } else {
            let stream = self.source.blob(descriptor).await?;
            let limit = usize::try_from(MAX_CONFIG_SIZE).unwrap_or(usize::MAX);
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
        partial: PartialBlob,
    ) -> crate::Result<BlobStream> {
        self.source.blob_after(descriptor, partial).await
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
    async fn damaged_entry_is_not_returned_and_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::in_directory(home.path().join("deep/down"));
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
    async fn cache_over_limit_removes_old_entries() {
        let home = tempfile::tempdir().unwrap();
        for at in 0..50 {
            // Each iteration creates a new value, as a separate process does.
            let cache = Cache::with_limit(home.path(), None, 1000);
            let (digest, bytes) = content(at);
            cache.write(&digest, bytes.clone()).await;
            assert_eq!(cache.read(&digest, 1000).await, Some(bytes));
            let (digest, bytes) = content(at + 100);
            cache.write(&digest, bytes).await;
            let total: u64 = list_files(home.path()).iter().map(|entry| entry.size).sum();
            assert!(total <= 1100, "{total}");
            assert!(cache.read(&digest, 1000).await.is_some());
        }
    }

    /// Writes more entries to a cache than its limit allows.
    async fn overfill(cache: &Path) {
        for at in 0..20 {
            let cache = Cache::with_limit(cache, None, 300);
            let (digest, bytes) = content(at);
            cache.write(&digest, bytes).await;
        }
    }

    #[tokio::test]
    async fn eviction_removes_only_files_of_the_cache() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().join("cache");
        let (digest, _) = content(200);
        let left = format!("sha256/{TEMPORARY_PREFIX}x");
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

    #[test]
    fn entry_removed_meanwhile_counts_as_evicted() {
        let home = tempfile::tempdir().unwrap();
        let paths = [1, 2, 3, 4].map(|at| home.path().join(format!("{at}")));
        let listed = paths.iter().zip(1..).map(|(path, age)| {
            fs::write(path, [0; 100]).unwrap();
            let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age);
            CacheFile {
                path: path.clone(),
                size: 100,
                written,
            }
        });
        let listed = listed.collect();
        fs::remove_file(&paths[0]).unwrap();
        assert_eq!(evict(listed, 200), 200);
        assert_eq!(paths.map(|path| path.exists()), [false, false, true, true]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn cache_below_a_linked_directory_is_read_only() {
        for linked in ["program", "program/documents"] {
            let home = tempfile::tempdir().unwrap();
            let (parent, elsewhere) = (home.path().join("program"), home.path().join("elsewhere"));
            let path = parent.join("documents");
            let foreign = match linked {
                "program" => elsewhere.join("documents/sha256"),
                _ => elsewhere.join("sha256"),
            };
            fs::create_dir_all(&foreign).unwrap();
            let link = home.path().join(linked);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(&elsewhere, link).unwrap();
            let (kept, bytes) = content(201);
            fs::write(foreign.join(kept.encoded()), &bytes).unwrap();
            let (damaged, _) = content(202);
            fs::write(foreign.join(damaged.encoded()), [0; 500]).unwrap();
            for at in 0..20 {
                let cache = Cache::with_limit(&path, Some(parent.clone()), 300);
                assert_eq!(cache.read(&kept, 1000).await, Some(bytes.clone()));
                assert_eq!(cache.read(&damaged, 1000).await, None);
                let (digest, bytes) = content(at);
                cache.write(&digest, bytes).await;
            }
            assert_eq!(fs::read_dir(&foreign).unwrap().count(), 2, "{linked}");
        }
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
        let opened = Cache::in_directory(&cache);
        assert_eq!(opened.read(&kept, 1000).await, None);
        assert_eq!(opened.read(&damaged, 1000).await, None);
        overfill(&cache).await;
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn entry_that_is_a_fifo_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::in_directory(home.path());
        let (digest, bytes) = content(1);
        cache.write(&digest, bytes).await;
        let path = cache.0.path(&digest);
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert_eq!(cache.read(&digest, 1000).await, None);
    }

    #[tokio::test]
    async fn cache_in_directory_below_a_file_returns_nothing() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "in the way").unwrap();
        let cache = Cache::in_directory(file.join("cache"));
        let (digest, bytes) = content(1);
        cache.write(&digest, bytes).await;
        assert_eq!(cache.read(&digest, 1000).await, None);
        assert_eq!(fs::read_to_string(file).unwrap(), "in the way");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn cache_for_user_follows_xdg_cache_home() {
        let user = |cache: &str, home: Option<&str>| {
            let variables = [("XDG_CACHE_HOME".to_owned(), cache.to_owned())];
            let environment = Environment::new(variables, home.map(Into::into), "/".into());
            Cache::for_user(&environment).map(|cache| cache.0.path.clone())
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
