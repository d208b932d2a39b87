//! Files as the source and the destination of blobs.
//!
//! Reading, hashing and writing block the thread. One blocking task does them for a whole file and exchanges chunks
//! through a channel of small capacity, so they overlap with the network and memory use stays small.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use snafu::{OptionExt, ResultExt, ensure};
use tokio::sync::{mpsc, oneshot};

use super::{
    Blob, BlobStream, ChangedFileSnafu, Error, Meter, OpenFileSnafu, ReadFileSnafu, TooLongSnafu,
    WriteFileSnafu,
};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::file::open_regular;
use crate::manifest::{Descriptor, MediaType};

/// Size of a read in bytes: large enough that the cost of the system call is negligible compared with hashing.
pub(crate) const CHUNK_SIZE: usize = 256 << 10;

/// Largest content in bytes that is held in memory instead of being passed through a channel.
pub(super) const IN_MEMORY_MAX: u64 = 1 << 20;

/// Capacity of the channel between the two threads, in chunks.
const CHANNEL_CAPACITY: usize = 4;

/// Opens a regular file and returns its size.
pub(super) fn open(path: &Path) -> Result<(File, u64), Error> {
    let file = open_regular(path).context(OpenFileSnafu { path })?;
    let size = file.metadata().context(ReadFileSnafu { path })?.len();
    Ok((file, size))
}

/// Runs blocking work on the thread pool for blocking tasks.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("work on a file does not panic")
}

/// Computes digest and size of a file.
pub(super) async fn hash(path: PathBuf) -> Result<(Digest, u64), Error> {
    blocking(move || {
        let (mut hasher, mut size) = (Algorithm::Sha256.hasher(), 0);
        let (file, _) = open(&path)?;
        each_piece(file, &path, |piece| {
            hasher.update(piece);
            size += piece.len() as u64;
        })?;
        Ok((hasher.finish(), size))
    })
    .await
}

/// Reads a whole file. Returns `None` if it has more than [`IN_MEMORY_MAX`] bytes.
pub(super) async fn read_small(path: PathBuf) -> Result<Option<Vec<u8>>, Error> {
    blocking(move || {
        let (file, size) = open(&path)?;
        if size > IN_MEMORY_MAX {
            return Ok(None);
        }
        let room = usize::try_from(size).unwrap_or_default().saturating_add(1);
        let mut bytes = Vec::with_capacity(room);
        file.take(IN_MEMORY_MAX + 1)
            .read_to_end(&mut bytes)
            .context(ReadFileSnafu { path: &path })?;
        Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= IN_MEMORY_MAX))
    })
    .await
}

/// Hashes the first `size` bytes of a file. Uses the given handle, because the file may be locked against other
/// handles.
pub(super) async fn hash_prefix(
    mut hasher: Hasher,
    mut file: File,
    path: PathBuf,
    size: u64,
) -> Result<Hasher, Error> {
    blocking(move || {
        let mut seen = 0;
        file.rewind().context(ReadFileSnafu { path: &path })?;
        each_piece(file.take(size), &path, |piece| {
            hasher.update(piece);
            seen += piece.len() as u64;
        })?;
        ensure!(seen == size, ChangedFileSnafu { path });
        Ok(hasher)
    })
    .await
}

fn each_piece(mut reader: impl Read, path: &Path, mut see: impl FnMut(&[u8])) -> Result<(), Error> {
    let mut buffer = vec![0; CHUNK_SIZE];
    loop {
        match reader.read(&mut buffer).context(ReadFileSnafu { path })? {
            0 => return Ok(()),
            count => see(&buffer[..count]),
        }
    }
}

/// Bytes of a file, followed by their digest and size.
pub(super) struct Reading {
    pub(super) pieces: BoxStream<'static, crate::Result<Bytes>>,
    /// Digest and size. The sender is dropped without a value if the file could not be read or was not read to its end.
    pub(super) outcome: oneshot::Receiver<(Digest, u64)>,
}

/// Reads a file and hashes it at the same time. At most one byte after `limit` is read.
pub(super) async fn read(path: PathBuf, hasher: Hasher, limit: u64) -> Result<Reading, Error> {
    let (pieces, received) = mpsc::channel::<Result<Bytes, Error>>(CHANNEL_CAPACITY);
    let (done, outcome) = oneshot::channel();
    let (file, path) = blocking(move || open(&path).map(|(file, _)| (file, path))).await?;
    tokio::task::spawn_blocking(move || {
        let mut file = file.take(limit.saturating_add(1));
        let (mut hasher, mut size) = (hasher, 0);
        loop {
            let mut piece = BytesMut::zeroed(CHUNK_SIZE);
            match file.read(&mut piece).context(ReadFileSnafu { path: &path }) {
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
    Ok(Reading {
        pieces: pieces.boxed(),
        outcome,
    })
}

/// Writes a stream to its end into a file. On success the content is verified, and flushed to the disk if `syncs` is
/// set.
pub(super) async fn write(
    mut stream: BlobStream,
    mut file: File,
    path: PathBuf,
    syncs: bool,
) -> crate::Result<()> {
    if stream.size() <= IN_MEMORY_MAX {
        return write_small(stream, file, path, syncs).await;
    }
    let check = stream.take_check();
    let (pieces, mut received) = mpsc::channel::<Bytes>(CHANNEL_CAPACITY);
    let writer = tokio::task::spawn_blocking(move || -> Result<_, crate::Error> {
        let mut check = check;
        while let Some(piece) = received.blocking_recv() {
            check.update(&piece)?;
            file.write_all(&piece)
                .context(WriteFileSnafu { path: &path })?;
        }
        Ok((check, file, path))
    });
    let read = async {
        while let Some(piece) = stream.next().await {
            // If the writer has ended, its error is reported below.
            if pieces.send(piece?).await.is_err() {
                break;
            }
        }
        drop(pieces);
        Ok::<_, crate::Error>(())
    };
    let read = read.await;
    let written = writer.await.expect("writing a file does not panic");
    // An error of the stream is the cause of an incomplete file, so it is reported first.
    read?;
    let (check, file, path) = written?;
    blocking(move || {
        check.finish()?;
        if syncs {
            file.sync_all().context(WriteFileSnafu { path })?;
        }
        Ok(())
    })
    .await
}

/// Writes a small stream as [`write`] does, but collects all bytes before the blocking task starts: passing each chunk
/// through a channel would take longer than writing it.
async fn write_small(
    mut stream: BlobStream,
    mut file: File,
    path: PathBuf,
    syncs: bool,
) -> crate::Result<()> {
    let mut check = stream.take_check();
    let (mut pieces, mut held, size) = (Vec::new(), 0, stream.size());
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        held += piece.len() as u64;
        pieces.push(piece);
        // Memory use is bounded by the stated size. The check below reports the excess.
        if held > size {
            break;
        }
    }
    ensure!(
        held <= size,
        TooLongSnafu {
            digest: stream.digest.clone(),
            expected: size
        }
    );
    blocking(move || {
        for piece in pieces {
            check.update(&piece)?;
            file.write_all(&piece)
                .context(WriteFileSnafu { path: &path })?;
        }
        check.finish()?;
        if syncs {
            file.sync_all().context(WriteFileSnafu { path })?;
        }
        Ok(())
    })
    .await
}

/// File whose digest is computed while it is sent.
#[derive(Debug)]
pub(crate) struct Unhashed {
    path: PathBuf,
    size: u64,
    meter: Meter,
    outcome: Mutex<Outcome>,
}

/// Digest and size of the last read of a file.
#[derive(Debug, Default)]
enum Outcome {
    #[default]
    Unread,
    Reading(oneshot::Receiver<(Digest, u64)>),
    Read(Digest, u64),
}

impl Unhashed {
    /// Opens a regular file and stores its current size.
    pub(crate) async fn new(path: &Path, meter: &Meter) -> crate::Result<Self> {
        let path = path.to_owned();
        let (size, path) = blocking(move || open(&path).map(|(_, size)| (size, path))).await?;
        Ok(Self {
            path,
            size,
            meter: meter.clone(),
            outcome: Mutex::default(),
        })
    }

    /// Returns the number of bytes to send.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Opens the file from its first byte. The stream ends with an error if the size of the file changes meanwhile.
    pub(crate) async fn open(&self) -> crate::Result<BoxStream<'static, crate::Result<Bytes>>> {
        let Reading { pieces, outcome } =
            read(self.path.clone(), Algorithm::Sha256.hasher(), self.size).await?;
        *self.outcome() = Outcome::Reading(outcome);
        let (path, size, mut seen) = (self.path.clone(), self.size, 0);
        // Distinguishes an early end from the expected one.
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
            ensure!(is_right, ChangedFileSnafu { path: path.clone() });
            Ok(piece.unwrap_or_default())
        });
        Ok(self.meter.watch(bounded.boxed()))
    }

    /// Returns the digest of the bytes that were sent last.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file was not read to its end, or if its size changed.
    pub(crate) async fn digest(&self) -> crate::Result<Digest> {
        let outcome = std::mem::take(&mut *self.outcome());
        let read = match outcome {
            Outcome::Unread => None,
            Outcome::Reading(outcome) => outcome.await.ok(),
            Outcome::Read(digest, size) => Some((digest, size)),
        };
        if let Some((digest, size)) = &read {
            *self.outcome() = Outcome::Read(digest.clone(), *size);
        }
        let whole = read.filter(|(_, size)| *size == self.size);
        Ok(whole.map(|(digest, _)| digest).context(ChangedFileSnafu {
            path: self.path.clone(),
        })?)
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the file as a blob with this digest.
    pub(crate) fn to_blob(&self, media_type: MediaType, digest: Digest) -> Blob {
        Blob::of_file(
            Descriptor::new(media_type, digest, self.size),
            self.path.clone(),
        )
    }
}

/// Opens a file as the verified content of a descriptor.
pub(super) async fn stream(descriptor: &Descriptor, path: &Path) -> crate::Result<BlobStream> {
    let hasher = descriptor.digest.verifier()?;
    let Reading { pieces, outcome } = read(path.to_owned(), hasher, descriptor.size).await?;
    Ok(BlobStream::checked_by_reader(descriptor, pieces, outcome))
}
