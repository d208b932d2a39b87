//! Bundles: several files as one tar stream, for consumers that need a directory with file modes.
//!
//! The same files result in an identical stream on every machine: names are sorted, directories precede their content,
//! times and owners are fixed, and only the executable bit of a mode is kept. A push does not store the stream on disk,
//! because opening the blob reads the files again. A fetched stream, which other clients may have compressed, is
//! verified as a whole before it is read. Each file in it is then a blob for [`unpack`](crate::unpack).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use snafu::{IntoError, OptionExt, ResultExt, Snafu, ensure};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::archive::{Section, Span};
use crate::blob::{Blob, BlobStream, Content, Meter};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{ErrorKind, Failure};
use crate::file::open_regular;
use crate::manifest::{Descriptor, Manifest, MediaType};
use crate::reference::Identifier;
use crate::storage::{Source, TagStream};
use crate::tarball::compression::{Compression, max_decompressed_size, open_decompressed};
use crate::tarball::{self, Entry, Kind, Reader, SkipBySeeking, Writer};
use crate::unpack::{FileEntry, FileName};

/// Size of a chunk in bytes.
const CHUNK_SIZE: usize = 256 << 10;

/// Capacity of the channel, in chunks.
const CHANNEL_CAPACITY: usize = 4;

/// Maximum number of files in a bundle.
const MAX_FILES: usize = 100_000;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read `{}`", path.display()))]
    ReadFile { path: PathBuf, source: io::Error },
    #[snafu(display("failed to bundle the file `{name}`"))]
    Bundle {
        name: FileName,
        source: tarball::Error,
    },
    #[snafu(display("failed to finish the bundle"))]
    End { source: tarball::Error },
    #[snafu(display("failed to write `{}`", path.display()))]
    WriteFile { path: PathBuf, source: io::Error },
    #[snafu(display("failed to fetch the bundle {digest}"))]
    Fetch {
        digest: Digest,
        source: crate::Error,
    },
    #[snafu(display("failed to read the bundle {digest}"))]
    ReadBundle {
        digest: Digest,
        source: tarball::Error,
    },
    #[snafu(display("invalid bundle {digest}: `{name}` is neither a file nor a directory"))]
    NotAFile { digest: Digest, name: String },
    #[snafu(display("invalid bundle {digest}: it contains an unsafe file name"))]
    UnsafeName {
        digest: Digest,
        source: crate::Error,
    },
    #[snafu(display("failed to read the bundle {digest}: it has more than {MAX_FILES} files"))]
    TooMany { digest: Digest },
    #[snafu(display(
        "failed to read the bundle {digest}: it has more than {limit} bytes after decompression"
    ))]
    TooLarge { digest: Digest, limit: u64 },
    #[snafu(display("failed to find `{wanted}` in the bundle"))]
    Absent { wanted: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadFile { .. } | Self::WriteFile { .. } => ErrorKind::Io,
            Self::Bundle { source, .. } | Self::End { source } => source.kind(),
            Self::NotAFile { .. }
            | Self::UnsafeName { .. }
            | Self::TooMany { .. }
            | Self::TooLarge { .. }
            | Self::ReadBundle { .. } => ErrorKind::Mismatch,
            Self::Fetch { source, .. } => source.kind(),
            Self::Absent { .. } => ErrorKind::NotFound,
        }
    }
}

/// File to add to a bundle.
#[derive(Debug, Clone)]
pub struct BundleFile {
    /// Name in the bundle.
    pub name: FileName,
    /// Path on this machine.
    pub path: PathBuf,
    /// Whether the file is executable.
    pub executable: bool,
}

/// Creates a blob that is a tar stream of these files. The files are read now to compute the digest, and again whenever
/// the blob is opened.
///
/// # Errors
///
/// [`ErrorKind::Io`] if a file cannot be read.
pub async fn bundle(media_type: MediaType, mut files: Vec<BundleFile>) -> crate::Result<Blob> {
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let files: Arc<[BundleFile]> = files.into();
    let read = Arc::clone(&files);
    let (digest, size) = run_blocking(move || {
        let mut hashing = HashingWriter {
            hasher: Algorithm::Sha256.hasher(),
            size: 0,
        };
        write_tar(&read, &mut hashing)?;
        Ok::<_, Error>((hashing.hasher.finish(), hashing.size))
    })
    .await?;
    let descriptor = Descriptor::new(media_type, digest, size);
    let content = TarContent {
        descriptor: descriptor.clone(),
        files,
    };
    Ok(Blob::from_content(descriptor, Arc::new(content)))
}

async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("work on a bundle does not panic")
}

/// Writes the files as a tar stream, in the given order.
fn write_tar(files: &[BundleFile], out: &mut dyn Write) -> Result<(), Error> {
    let mut tar = Writer::new(out);
    let mut created = BTreeSet::new();
    for BundleFile {
        name,
        path,
        executable,
    } in files
    {
        for (at, _) in name.as_str().match_indices('/') {
            let directory = &name.as_str()[..=at];
            if created.insert(directory) {
                let entry = Entry {
                    kind: Kind::Directory,
                    mode: 0o755,
                    ..Entry::file(directory, 0)
                };
                tar.write_entry(&entry, &mut io::empty())
                    .context(BundleSnafu { name: name.clone() })?;
            }
        }
        let mut file = open_regular(path).context(ReadFileSnafu { path })?;
        let size = file.metadata().context(ReadFileSnafu { path })?.len();
        let entry = Entry {
            mode: if *executable { 0o755 } else { 0o644 },
            ..Entry::file(name.as_str(), size)
        };
        tar.write_entry(&entry, &mut file)
            .context(BundleSnafu { name: name.clone() })?;
    }
    tar.finish().context(EndSnafu)?;
    Ok(())
}

struct HashingWriter {
    hasher: Hasher,
    size: u64,
}

impl Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type PieceSender = mpsc::Sender<Result<Bytes, Error>>;

/// Writer that sends chunks through a channel.
struct ChunkSender<'a> {
    pieces: &'a PieceSender,
    held: Vec<u8>,
}

impl Write for ChunkSender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_SIZE - self.held.len());
        self.held.extend_from_slice(&bytes[..count]);
        if self.held.len() == CHUNK_SIZE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.held));
        let sent = self.pieces.blocking_send(Ok(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Runs blocking work that sends chunks, and returns the chunks as a stream.
fn stream_pieces(
    work: impl FnOnce(&PieceSender) -> Result<(), Error> + Send + 'static,
) -> stream::BoxStream<'static, crate::Result<Bytes>> {
    let (pieces, received) = mpsc::channel(CHANNEL_CAPACITY);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = work(&pieces) {
            // If the receiver was dropped, the error is not needed.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let unfold = stream::unfold(received, |mut received| async move {
        let piece: Result<Bytes, Error> = received.recv().await?;
        Some((piece.map_err(crate::Error::from), received))
    });
    unfold.boxed()
}

#[derive(Debug)]
struct TarContent {
    descriptor: Descriptor,
    files: Arc<[BundleFile]>,
}

impl Content for TarContent {
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
        let files = Arc::clone(&self.files);
        async move {
            let pieces = stream_pieces(move |pieces| {
                let held = Vec::new();
                write_tar(&files, &mut ChunkSender { pieces, held })
            });
            BlobStream::new(&self.descriptor, pieces)
        }
        .boxed()
    }
}

/// Fetched bundle. As a [`Source`], it contains each file as a blob, and it has neither manifests nor tags.
#[derive(Debug)]
pub struct Bundle {
    file: Arc<NamedTempFile>,
    digest: Digest,
    files: Vec<FileEntry>,
    /// Offset of the content of each file in the tar stream.
    offsets: BTreeMap<Digest, u64>,
}

impl Bundle {
    /// Fetches a bundle into a temporary file in `directory` and reads its file names. The directory is created if it
    /// does not exist. The temporary file is deleted when this value is dropped. A compressed bundle (gzip, zstd, xz or
    /// bzip2, regardless of its media type) is decompressed. Its decompressed size may be at most 512 MiB or 20 times
    /// its compressed size, whichever is larger.
    ///
    /// # Errors
    ///
    /// Any error of the source; [`ErrorKind::Mismatch`] if the bundle is not a tar stream, is too large when
    /// decompressed, or has entries other than files and directories with safe names.
    pub async fn fetch(
        source: &dyn Source,
        descriptor: &Descriptor,
        directory: &Path,
        meter: &Meter,
    ) -> crate::Result<Self> {
        let digest = descriptor.digest.clone();
        let written = || WriteFileSnafu { path: directory };
        std::fs::create_dir_all(directory).with_context(|_| written())?;
        let file = new_temporary(directory).with_context(|_| written())?;
        let target = file.reopen().with_context(|_| written())?;
        let fetched = async {
            let bytes = source.blob(descriptor).await?;
            bytes.metered(meter).write_to(target, file.path()).await
        };
        fetched.await.with_context(|_| FetchSnafu {
            digest: digest.clone(),
        })?;
        let directory = directory.to_owned();
        let limit = max_decompressed_size(descriptor.size);
        // If this future is dropped, the blocking task ends soon and deletes the temporary files.
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        let read = move || {
            let file = decompress(file, &directory, &digest, limit, &cancelled)?;
            Self::read(file, digest, &cancelled)
        };
        Ok(run_blocking(read).await?)
    }

    /// Returns the files in the order of the stream.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    fn read(
        file: NamedTempFile,
        digest: Digest,
        cancelled: &CancellationToken,
    ) -> Result<Self, Error> {
        let path = file.path().to_owned();
        let opened = file.reopen().context(ReadFileSnafu { path })?;
        let mut reader = Reader::new(SkipBySeeking(BufReader::new(opened)));
        let mut bundle = Self {
            file: Arc::new(file),
            digest,
            files: Vec::new(),
            offsets: BTreeMap::new(),
        };
        let failed = || ReadBundleSnafu {
            digest: bundle.digest.clone(),
        };
        let (mut files, mut offsets) = (Vec::new(), BTreeMap::new());
        while let Some(entry) = reader.next().with_context(|_| failed())? {
            check(cancelled, bundle.file.path())?;
            let name = String::from_utf8_lossy(&entry.path).into_owned();
            let digest = bundle.digest.clone();
            match entry.kind {
                Kind::Directory => continue,
                Kind::File => {}
                _ => return NotAFileSnafu { digest, name }.fail(),
            }
            ensure!(files.len() < MAX_FILES, TooManySnafu { digest });
            let name: FileName = name
                .trim_start_matches("./")
                .parse()
                .context(UnsafeNameSnafu { digest })?;
            let offset = reader.position();
            let mut hashing = HashingWriter {
                hasher: Algorithm::Sha256.hasher(),
                size: 0,
            };
            io::copy(&mut (&mut reader).take(entry.size), &mut hashing)
                .map_err(|error| failed().into_error(tarball::Error::Read { source: error }))?;
            let content = hashing.hasher.finish();
            offsets.insert(content.clone(), offset);
            files.push(FileEntry {
                descriptor: Descriptor::new(MediaType::OCTET_STREAM, content, entry.size),
                name,
                executable: entry.mode & 0o111 != 0,
            });
        }
        (bundle.files, bundle.offsets) = (files, offsets);
        Ok(bundle)
    }
}

fn new_temporary(directory: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-").tempfile_in(directory)
}

/// Decompresses a file into a temporary file in `directory`. Returns the file itself if it is not compressed. The
/// decompressed content may have at most `limit` bytes.
fn decompress(
    file: NamedTempFile,
    directory: &Path,
    digest: &Digest,
    limit: u64,
    cancelled: &CancellationToken,
) -> Result<NamedTempFile, Error> {
    let path = file.path();
    let compressed = file.reopen().context(ReadFileSnafu { path })?;
    let compression = Compression::detect(&compressed).context(ReadFileSnafu { path })?;
    if compression.is_none() {
        return Ok(file);
    }
    let mut content = open_decompressed(&compressed).context(ReadFileSnafu { path })?;
    let mut target = new_temporary(directory).context(WriteFileSnafu { path: directory })?;
    let (mut buffer, mut written) = (vec![0; CHUNK_SIZE], 0);
    loop {
        check(cancelled, path)?;
        let count = match content.read(&mut buffer) {
            Ok(0) => return Ok(target),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => {
                let source = tarball::Error::Read { source };
                let digest = digest.clone();
                return Err(Error::ReadBundle { digest, source });
            }
        };
        written += count as u64;
        ensure!(
            written <= limit,
            TooLargeSnafu {
                digest: digest.clone(),
                limit
            }
        );
        target
            .write_all(&buffer[..count])
            .context(WriteFileSnafu { path: directory })?;
    }
}

/// Returns an error if `cancelled` is cancelled.
fn check(cancelled: &CancellationToken, path: &Path) -> Result<(), Error> {
    if cancelled.is_cancelled() {
        return Err(io::Error::other("cancelled")).context(ReadFileSnafu { path });
    }
    Ok(())
}

#[async_trait]
impl Source for Bundle {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        let wanted = self.describe(identifier);
        Err(AbsentSnafu { wanted }.build().into())
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        let offset = self.offsets.get(&descriptor.digest).copied();
        let offset = offset.context(AbsentSnafu {
            wanted: descriptor.digest.to_string(),
        })?;
        let (file, span) = (
            Arc::clone(&self.file),
            Span {
                start: offset,
                size: descriptor.size,
            },
        );
        let pieces = stream_pieces(move |pieces| {
            let held = Vec::new();
            let mut sender = ChunkSender { pieces, held };
            let copied = io::copy(&mut Section::new(file.as_file(), span), &mut sender);
            let read = copied.and_then(|_| sender.flush());
            read.with_context(|_| ReadFileSnafu { path: file.path() })
        });
        BlobStream::new(descriptor, pieces)
    }

    fn tags(&self) -> TagStream {
        stream::empty().boxed()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        format!("{identifier} of the bundle {}", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::storage::Target as _;
    use crate::tarball::compression::tests::compress_all;
    use crate::unpack::{UnpackOptions, unpack};

    fn file(home: &Path, name: &str, content: &[u8], executable: bool) -> BundleFile {
        let path = home.join(name.replace('/', "-"));
        std::fs::write(&path, content).unwrap();
        let name = name.parse().unwrap();
        BundleFile {
            name,
            path,
            executable,
        }
    }

    fn tar() -> MediaType {
        "application/vnd.oci.image.layer.v1.tar".into()
    }

    #[tokio::test]
    async fn unpacked_bundle_has_the_same_files() {
        let home = tempfile::tempdir().unwrap();
        let large = vec![7; 700 << 10];
        let files = vec![
            file(home.path(), "widgets", &large, true),
            file(home.path(), "docs/a/use.md", b"use", false),
            file(home.path(), "empty", b"", false),
        ];
        let blob = bundle(tar(), files.clone()).await.unwrap();
        let mut backwards = files;
        backwards.reverse();
        let same = bundle(tar(), backwards).await.unwrap();
        assert_eq!(blob.descriptor(), same.descriptor());
        // The digest must not change between versions, so that bundling the same files again gives the same digest.
        assert_eq!(
            blob.digest().as_str(),
            "sha256:534600a57ccc7f4198b193274a822ab2f84b86a49ebacdd55c1ecfcdc657ca76"
        );

        let memory = Memory::new();
        memory.push_blob(&blob).await.unwrap();
        let out = home.path().join("out");
        let meter = Meter::default();
        let fetched = Bundle::fetch(&memory, blob.descriptor(), &out, &meter);
        let fetched = fetched.await.unwrap();
        assert_eq!(meter.transferred_bytes(), blob.size());
        unpack(&fetched, fetched.files(), &out, UnpackOptions::default())
            .await
            .unwrap();
        drop(fetched);
        assert_eq!(std::fs::read(out.join("widgets")).unwrap(), large);
        assert_eq!(std::fs::read(out.join("docs/a/use.md")).unwrap(), b"use");
        let entries = std::fs::read_dir(&out).unwrap().count();
        assert_eq!(entries, 3, "the temporary file is deleted");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let is_program = |name: &str| {
                let metadata = std::fs::metadata(out.join(name)).unwrap();
                metadata.permissions().mode() & 0o100 != 0
            };
            assert!(is_program("widgets") && !is_program("empty"));
        }
    }

    #[tokio::test]
    async fn compressed_bundle_has_the_same_files() {
        let home = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        let files = [file(home.path(), "docs/use.md", b"use", false)];
        write_tar(&files, &mut bytes).unwrap();
        let out = home.path().join("out");
        for (compression, bytes) in compress_all(&bytes) {
            let blob = Blob::from_bytes(tar(), bytes);
            let memory = Memory::new();
            memory.push_blob(&blob).await.unwrap();
            let meter = Meter::default();
            let fetched = Bundle::fetch(&memory, blob.descriptor(), &out, &meter);
            let fetched = fetched.await.unwrap();
            let [entry] = fetched.files() else {
                panic!("one file in {compression:?}")
            };
            assert_eq!(entry.name.as_str(), "docs/use.md");
            let content = fetched.blob(&entry.descriptor).await.unwrap();
            assert_eq!(content.read_to_end(10).await.unwrap(), b"use"[..]);
        }
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
    }

    #[test]
    fn bundle_above_the_decompressed_limit_is_rejected() {
        let home = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"");
        for (_, bytes) in compress_all(&vec![0; 100_000]) {
            let read = |limit| {
                let mut file = new_temporary(home.path()).unwrap();
                file.write_all(&bytes).unwrap();
                decompress(file, home.path(), &digest, limit, &CancellationToken::new())
            };
            let size = read(100_000).unwrap().as_file().metadata().unwrap().len();
            assert_eq!(size, 100_000);
            let error = read(99_999).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Mismatch);
            assert!(error.to_string().contains("more than 99999 bytes"));
        }
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn bundle_with_unsafe_name_or_link_is_rejected() {
        let home = tempfile::tempdir().unwrap();
        for (kind, name) in [
            (Kind::Symlink, "a"),
            (Kind::File, "../a"),
            (Kind::File, "/a"),
        ] {
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes);
            let entry = Entry {
                kind,
                link: b"b".to_vec(),
                ..Entry::file(name, 0)
            };
            writer.write_entry(&entry, &mut io::empty()).unwrap();
            writer.finish().unwrap();
            let blob = Blob::from_bytes(tar(), bytes);
            let memory = Memory::new();
            memory.push_blob(&blob).await.unwrap();
            let out = home.path().join("out");
            let meter = Meter::default();
            let rejected = Bundle::fetch(&memory, blob.descriptor(), &out, &meter);
            assert_eq!(
                rejected.await.unwrap_err().kind(),
                ErrorKind::Mismatch,
                "{name}"
            );
        }
    }

    #[tokio::test]
    async fn push_of_bundle_with_changed_file_fails_with_mismatch() {
        let home = tempfile::tempdir().unwrap();
        let files = vec![file(home.path(), "a", b"one", false)];
        let blob = bundle(tar(), files).await.unwrap();
        std::fs::write(home.path().join("a"), "two").unwrap();
        let error = Memory::new().push_blob(&blob).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
    }
}
