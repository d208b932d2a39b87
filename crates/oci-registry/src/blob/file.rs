//! Files as the source of blobs.
//!
//! Reading and hashing block the thread. One blocking task does both for a whole file and sends chunks through a
//! channel of small capacity, so reading and hashing overlap with the network transfer, and memory use stays small.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use snafu::{OptionExt, ResultExt, Snafu, ensure};
use tokio::sync::{mpsc, oneshot};

use super::content::{Blob, Content};
use super::meter::Meter;
use super::stream::{BlobStream, PartialBlob};
use super::verification::Verification;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{ErrorKind, Failure};
use crate::file::open_regular;
use crate::manifest::{Descriptor, MediaType};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to open `{}`", path.display()))]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to read `{}`", path.display()))]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to read `{}`: the file changed while it was read", path.display()))]
    Changed { path: PathBuf },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { .. } | Self::Read { .. } | Self::Changed { .. } => ErrorKind::Io,
        }
    }
}

/// Size of a read in bytes: large enough that the cost of the system call is negligible compared with hashing.
pub(crate) const CHUNK_SIZE: usize = 256 << 10;

/// Maximum size in bytes of content that is read into memory instead of being passed through a channel.
pub(super) const IN_MEMORY_MAX: u64 = 1 << 20;

/// Capacity of the channel between the blocking task and the async task, in chunks.
pub(super) const CHANNEL_CAPACITY: usize = 4;

/// Opens a regular file and returns its size.
fn open(path: &Path) -> Result<(File, u64), Error> {
    let file = open_regular(path).context(OpenSnafu { path })?;
    let size = file.metadata().context(ReadSnafu { path })?.len();
    Ok((file, size))
}

/// Runs blocking work on the thread pool for blocking tasks.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("work on a file does not panic")
}

/// Computes the digest and size of a file.
async fn hash(path: PathBuf) -> Result<(Digest, u64), Error> {
    run_blocking(move || {
        let (mut hasher, mut size) = (Algorithm::Sha256.hasher(), 0);
        let (file, _) = open(&path)?;
        for_each_piece(file, &path, |piece| {
            hasher.update(piece);
            size += piece.len() as u64;
        })?;
        Ok((hasher.finish(), size))
    })
    .await
}

/// Reads a whole file. Returns `None` if it has more than [`IN_MEMORY_MAX`] bytes.
async fn read_small(path: PathBuf) -> Result<Option<Vec<u8>>, Error> {
    run_blocking(move || {
        let (file, size) = open(&path)?;
        if size > IN_MEMORY_MAX {
            return Ok(None);
        }
        let room = usize::try_from(size).unwrap_or_default().saturating_add(1);
        let mut bytes = Vec::with_capacity(room);
        file.take(IN_MEMORY_MAX + 1)
            .read_to_end(&mut bytes)
            .context(ReadSnafu { path: &path })?;
        Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= IN_MEMORY_MAX))
    })
    .await
}

/// Hashes the first `size` bytes of a file. Uses the given handle, because the file may be locked against other
/// handles.
async fn hash_prefix(
    mut hasher: Hasher,
    mut file: File,
    path: PathBuf,
    size: u64,
) -> Result<Hasher, Error> {
    run_blocking(move || {
        let mut seen = 0;
        file.rewind().context(ReadSnafu { path: &path })?;
        for_each_piece(file.take(size), &path, |piece| {
            hasher.update(piece);
            seen += piece.len() as u64;
        })?;
        ensure!(seen == size, ChangedSnafu { path });
        Ok(hasher)
    })
    .await
}

fn for_each_piece(
    mut reader: impl Read,
    path: &Path,
    mut see: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let mut buffer = vec![0; CHUNK_SIZE];
    loop {
        match reader.read(&mut buffer).context(ReadSnafu { path })? {
            0 => return Ok(()),
            count => see(&buffer[..count]),
        }
    }
}

/// Stream of a file's bytes. The digest and size are known when the stream has ended.
struct HashingStream {
    pieces: BoxStream<'static, crate::Result<Bytes>>,
    /// Digest and size. The sender is dropped without a value if the file could not be read or was not read to its end.
    outcome: oneshot::Receiver<(Digest, u64)>,
}

/// Reads a file and hashes it at the same time. Reads at most one byte beyond `limit`, so that a larger file is
/// detected.
async fn read_and_hash(path: PathBuf, hasher: Hasher, limit: u64) -> Result<HashingStream, Error> {
    let (pieces, received) = mpsc::channel::<Result<Bytes, Error>>(CHANNEL_CAPACITY);
    let (done, outcome) = oneshot::channel();
    let (file, path) = run_blocking(move || open(&path).map(|(file, _)| (file, path))).await?;
    tokio::task::spawn_blocking(move || {
        let mut file = file.take(limit.saturating_add(1));
        let (mut hasher, mut size) = (hasher, 0);
        loop {
            let mut piece = BytesMut::zeroed(CHUNK_SIZE);
            match file.read(&mut piece).context(ReadSnafu { path: &path }) {
                Ok(0) => break,
                Ok(count) => {
                    piece.truncate(count);
                    hasher.update(&piece);
                    size += count as u64;
                    if pieces.blocking_send(Ok(piece.freeze())).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = pieces.blocking_send(Err(error));
                    return;
                }
            }
        }
        let _ = done.send((hasher.finish(), size));
    });
    let pieces = futures_util::stream::unfold(received, |mut received| async move {
        let piece = received.recv().await?;
        Some((piece.map_err(crate::Error::from), received))
    });
    Ok(HashingStream {
        pieces: pieces.boxed(),
        outcome,
    })
}

impl Blob {
    /// Creates a blob from a file. The file is read now to compute its digest, and again whenever the blob is opened.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the path cannot be read or is not a regular file.
    pub async fn from_file(media_type: MediaType, path: &Path) -> crate::Result<Self> {
        let (digest, size) = hash(path.to_owned()).await?;
        Ok(Self::from_hashed_file(
            Descriptor::new(media_type, digest, size),
            path.to_owned(),
        ))
    }

    /// Reads a small file once and returns two blobs with its content. The first opens the file again, as
    /// [`Blob::from_file`] does. The second contains the bytes in memory, so that the caller can send them without
    /// another read. Returns `None` if the file has more than [`IN_MEMORY_MAX`] bytes.
    pub(crate) async fn from_small_file(
        media_type: MediaType,
        path: &Path,
    ) -> crate::Result<Option<(Self, Self)>> {
        let Some(bytes) = read_small(path.to_owned()).await? else {
            return Ok(None);
        };
        let held = run_blocking(move || Self::from_bytes(media_type, bytes)).await;
        let named = Self::from_hashed_file(held.descriptor().clone(), path.to_owned());
        Ok(Some((named, held)))
    }

    /// Creates a blob from a file whose content matches the descriptor.
    fn from_hashed_file(descriptor: Descriptor, path: PathBuf) -> Self {
        let content = Arc::new(FileContent {
            descriptor: descriptor.clone(),
            path,
        });
        Self::from_content(descriptor, content)
    }
}

/// Content that is read from a file.
#[derive(Debug)]
struct FileContent {
    descriptor: Descriptor,
    path: PathBuf,
}

impl Content for FileContent {
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
        Box::pin(BlobStream::from_file(&self.descriptor, &self.path))
    }
}

impl BlobStream {
    /// Opens a file. The stream verifies that the file has the content of the descriptor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if it cannot be opened.
    pub(crate) async fn from_file(descriptor: &Descriptor, path: &Path) -> crate::Result<Self> {
        let hasher = descriptor.digest.verifier()?;
        let HashingStream { pieces, outcome } =
            read_and_hash(path.to_owned(), hasher, descriptor.size).await?;
        let verification = Verification::InReader { seen: 0, outcome };
        Ok(Self::with_verification(descriptor, pieces, verification))
    }
}

impl PartialBlob {
    /// Hashes the first `size` bytes of a file, which are the first bytes of the blob with the digest `digest`. The
    /// bytes are read from `file`, whose position is `size` afterwards. Errors name the file by `path`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the file cannot be read or has fewer bytes; [`ErrorKind::Unsupported`] if the algorithm of
    /// the digest is unknown.
    pub async fn from_file(
        digest: &Digest,
        file: std::fs::File,
        path: &Path,
        size: u64,
    ) -> crate::Result<Self> {
        let hasher = digest.verifier()?;
        let hasher = hash_prefix(hasher, file, path.to_owned(), size).await?;
        Ok(Self { hasher, size })
    }
}

/// File whose digest is computed while it is sent.
#[derive(Debug)]
pub(crate) struct UnhashedFile {
    path: PathBuf,
    size: u64,
    meter: Meter,
    last_read: Mutex<LastRead>,
}

/// State of the last read of a file. A finished read has a digest and a size.
#[derive(Debug, Default)]
enum LastRead {
    #[default]
    NotStarted,
    Running(oneshot::Receiver<(Digest, u64)>),
    Finished(Digest, u64),
}

impl UnhashedFile {
    /// Opens a regular file and records its current size.
    pub(crate) async fn new(path: &Path, meter: &Meter) -> crate::Result<Self> {
        let path = path.to_owned();
        let (size, path) = run_blocking(move || open(&path).map(|(_, size)| (size, path))).await?;
        Ok(Self {
            path,
            size,
            meter: meter.clone(),
            last_read: Mutex::default(),
        })
    }

    /// Returns the number of bytes to send.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Opens the file from its first byte. The stream ends with an error if the file no longer has the recorded size.
    pub(crate) async fn open(&self) -> crate::Result<BoxStream<'static, crate::Result<Bytes>>> {
        let HashingStream { pieces, outcome } =
            read_and_hash(self.path.clone(), Algorithm::Sha256.hasher(), self.size).await?;
        *self.last_read() = LastRead::Running(outcome);
        let (path, size, mut seen) = (self.path.clone(), self.size, 0);
        // The final `None` marks the end of the file. There, the number of bytes must equal the size.
        let ended = stream::once(async { Ok(Bytes::new()) });
        let pieces = pieces.map_ok(Some).chain(ended.map_ok(|_: Bytes| None));
        let bounded = pieces.map(move |piece: crate::Result<Option<Bytes>>| {
            let piece = piece?;
            let is_right = match &piece {
                Some(piece) => {
                    seen += piece.len() as u64;
                    seen <= size
                }
                None => seen == size,
            };
            ensure!(is_right, ChangedSnafu { path: path.clone() });
            Ok(piece.unwrap_or_default())
        });
        Ok(self.meter.count_bytes(bounded.boxed()))
    }

    /// Returns the digest of the bytes that the last stream read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the file was not read to its end, or if its size changed.
    pub(crate) async fn digest(&self) -> crate::Result<Digest> {
        let outcome = std::mem::take(&mut *self.last_read());
        let read = match outcome {
            LastRead::NotStarted => None,
            LastRead::Running(outcome) => outcome.await.ok(),
            LastRead::Finished(digest, size) => Some((digest, size)),
        };
        if let Some((digest, size)) = &read {
            *self.last_read() = LastRead::Finished(digest.clone(), *size);
        }
        let whole = read.filter(|(_, size)| *size == self.size);
        Ok(whole.map(|(digest, _)| digest).context(ChangedSnafu {
            path: self.path.clone(),
        })?)
    }

    fn last_read(&self) -> MutexGuard<'_, LastRead> {
        self.last_read
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the file as a blob with this digest.
    pub(crate) fn to_blob(&self, media_type: MediaType, digest: Digest) -> Blob {
        Blob::from_hashed_file(
            Descriptor::new(media_type, digest, self.size),
            self.path.clone(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::stream::tests::read_all;

    #[tokio::test]
    async fn file_blob_reopened_after_change_fails_with_mismatch() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let blob = Blob::from_file(MediaType::OCTET_STREAM, &path)
            .await
            .unwrap();
        for _ in 0..2 {
            assert_eq!(read_all(blob.open().await.unwrap()).await.unwrap(), "one");
        }
        std::fs::write(&path, "two").unwrap();
        assert!(read_all(blob.open().await.unwrap()).await.is_err());
        std::fs::write(&path, "longer").unwrap();
        assert!(
            read_all(blob.open().await.unwrap())
                .await
                .unwrap_err()
                .contains("is longer than")
        );
    }
}
