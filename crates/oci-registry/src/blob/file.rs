//! Files as the source and the destination of blobs, on a thread beside the runtime's own.
//!
//! Reading, hashing and writing a file are work, not waiting. They are done in one blocking task for a whole file, and
//! handed over in pieces through a short channel, so that they overlap with the network and memory stays small.

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

/// How many bytes are read at once: large enough that a system call costs nothing beside the hash.
pub(crate) const PIECE: usize = 256 << 10;

/// Content of so many bytes is held in memory rather than handed over in pieces.
pub(super) const HELD: u64 = 1 << 20;

/// How many pieces may wait between the two threads.
const WAITING: usize = 4;

/// Opens a regular file and returns its size.
pub(super) fn open(path: &Path) -> Result<(File, u64), Error> {
    let file = open_regular(path).context(OpenFileSnafu { path })?;
    let size = file.metadata().context(ReadFileSnafu { path })?.len();
    Ok((file, size))
}

/// Runs work that does not wait for the runtime.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("work on a file does not panic")
}

/// Reads a file to its end for its digest and size.
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

/// Reads a whole file, unless it has more than [`HELD`] bytes.
pub(super) async fn read_small(path: PathBuf) -> Result<Option<Vec<u8>>, Error> {
    blocking(move || {
        let (file, size) = open(&path)?;
        if size > HELD {
            return Ok(None);
        }
        let room = usize::try_from(size).unwrap_or_default().saturating_add(1);
        let mut bytes = Vec::with_capacity(room);
        file.take(HELD + 1)
            .read_to_end(&mut bytes)
            .context(ReadFileSnafu { path: &path })?;
        Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= HELD))
    })
    .await
}

/// Lets a hasher see the first `size` bytes of a file, through this handle: the file may be locked for all others.
pub(super) async fn hash_beginning(
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
    let mut buffer = vec![0; PIECE];
    loop {
        match reader.read(&mut buffer).context(ReadFileSnafu { path })? {
            0 => return Ok(()),
            count => see(&buffer[..count]),
        }
    }
}

/// The bytes of a file, and what they turned out to be when the last of them has been read.
pub(super) struct Reading {
    pub(super) pieces: BoxStream<'static, crate::Result<Bytes>>,
    /// Digest and size; gone when the file could not be read to its end or nobody read so far.
    pub(super) outcome: oneshot::Receiver<(Digest, u64)>,
}

/// Reads a file and hashes it on the way. At most one byte beyond `limit` is read.
pub(super) async fn read(path: PathBuf, hasher: Hasher, limit: u64) -> Result<Reading, Error> {
    let (pieces, received) = mpsc::channel::<Result<Bytes, Error>>(WAITING);
    let (done, outcome) = oneshot::channel();
    let (file, path) = blocking(move || open(&path).map(|(file, _)| (file, path))).await?;
    tokio::task::spawn_blocking(move || {
        let mut file = file.take(limit.saturating_add(1));
        let (mut hasher, mut size) = (hasher, 0);
        loop {
            let mut piece = BytesMut::zeroed(PIECE);
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

/// Writes a stream to its end into a file. The content is verified when this returns, and on the disk if `syncs` is set.
pub(super) async fn write(
    mut stream: BlobStream,
    mut file: File,
    path: PathBuf,
    syncs: bool,
) -> crate::Result<()> {
    if stream.size() <= HELD {
        return write_small(stream, file, path, syncs).await;
    }
    let check = stream.take_check();
    let (pieces, mut received) = mpsc::channel::<Bytes>(WAITING);
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
            // A writer that has ended says why below.
            if pieces.send(piece?).await.is_err() {
                break;
            }
        }
        drop(pieces);
        Ok::<_, crate::Error>(())
    };
    let read = read.await;
    let written = writer.await.expect("writing a file does not panic");
    // Why the content ended early matters more than that it did.
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

/// As [`write`], for so few bytes that they are waited for before anything is done: handing over each piece would take
/// longer than all that.
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
        // No more is held than was promised; that it is too much is told below.
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

/// A file whose digest is not known yet, and is found while it is sent.
#[derive(Debug)]
pub(crate) struct Unhashed {
    path: PathBuf,
    size: u64,
    meter: Meter,
    outcome: Mutex<Outcome>,
}

/// What the last reading of a file came to: its digest and size.
#[derive(Debug, Default)]
enum Outcome {
    #[default]
    Unread,
    Reading(oneshot::Receiver<(Digest, u64)>),
    Read(Digest, u64),
}

impl Unhashed {
    /// A regular file as it is now.
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

    /// How many bytes will be sent.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Opens the file from its first byte. Ends with an error when it grows meanwhile.
    pub(crate) async fn open(&self) -> crate::Result<BoxStream<'static, crate::Result<Bytes>>> {
        let Reading { pieces, outcome } =
            read(self.path.clone(), Algorithm::Sha256.hasher(), self.size).await?;
        *self.outcome() = Outcome::Reading(outcome);
        let (path, size, mut seen) = (self.path.clone(), self.size, 0);
        // An end that comes too early is told from one that comes when it should.
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

    /// The digest of what was sent last.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the file was not read to its end, or has changed its size.
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

    /// The file as a blob of this digest.
    pub(crate) fn to_blob(&self, media_type: MediaType, digest: Digest) -> Blob {
        Blob::of_file(
            Descriptor::new(media_type, digest, self.size),
            self.path.clone(),
        )
    }
}

/// Reads what a descriptor names from a file.
pub(super) async fn stream(descriptor: &Descriptor, path: &Path) -> crate::Result<BlobStream> {
    let hasher = descriptor.digest.verifier()?;
    let Reading { pieces, outcome } = read(path.to_owned(), hasher, descriptor.size).await?;
    Ok(BlobStream::checked_by_reader(descriptor, pieces, outcome))
}
