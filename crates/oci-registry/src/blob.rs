//! Blobs: content of any size, named by its digest (image-spec, `descriptor.md`, "Verification").
//!
//! Owns [`Blob`], which can be opened again, so that a retry is honest, and [`BlobStream`], which is bounded by the size
//! that was promised and checks the digest as the bytes flow. [`OutputFile`] is where a user wants them.

pub(crate) mod file;
mod meter;
mod output;

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt, TryStreamExt};
use snafu::Snafu;
use tokio::sync::oneshot;

use crate::digest::{Digest, Hasher};
use crate::error::{ErrorKind, Failure};
use crate::manifest::{Descriptor, MediaType};
use crate::reference::Reference;
pub use meter::Meter;
pub use output::OutputFile;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to open `{}`", path.display()))]
    OpenFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to read `{}`", path.display()))]
    ReadFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to read `{}`: it changed meanwhile", path.display()))]
    ChangedFile { path: PathBuf },
    #[snafu(display("failed to write `{}`", path.display()))]
    WriteFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("refused the content of {expected}: it has digest {actual}"))]
    WrongDigest { expected: Digest, actual: Digest },
    #[snafu(display(
        "refused the content of {digest}: it ended after {actual} of {expected} bytes"
    ))]
    TooShort {
        digest: Digest,
        expected: u64,
        actual: u64,
    },
    #[snafu(display("refused the content of {digest}: it goes on after its {expected} bytes"))]
    TooLong { digest: Digest, expected: u64 },
    #[snafu(display(
        "refused the content of {digest}: its {size} bytes are more than the {limit} that this use allows"
    ))]
    OverLimit {
        digest: Digest,
        size: u64,
        limit: usize,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::OpenFile { .. }
            | Self::ReadFile { .. }
            | Self::WriteFile { .. }
            | Self::ChangedFile { .. } => ErrorKind::Io,
            Self::WrongDigest { .. } | Self::TooShort { .. } | Self::TooLong { .. } => {
                ErrorKind::Mismatch
            }
            Self::OverLimit { .. } => ErrorKind::Protocol,
        }
    }
}

/// Content that [`Blob`] can open as often as it must.
pub trait Content: fmt::Debug + Send + Sync {
    /// Opens the content from its first byte.
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>>;
}

/// Content and its descriptor: what is sent to a target. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blob {
    descriptor: Descriptor,
    content: Arc<dyn Content>,
    origin: Option<Reference>,
}

impl Blob {
    /// A blob of bytes in memory.
    pub fn from_bytes(media_type: MediaType, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let descriptor = Descriptor::new(media_type, Digest::sha256(&bytes), bytes.len() as u64);
        let content = Arc::new(Memory {
            descriptor: descriptor.clone(),
            bytes,
        });
        Self {
            descriptor,
            content,
            origin: None,
        }
    }

    /// The empty JSON object, for where a blob must be and nothing is to be said (image-spec, `manifest.md`).
    pub fn empty() -> Self {
        Self::from_bytes(MediaType::EMPTY, Bytes::from_static(b"{}"))
    }

    /// A file, read once now for its digest and again whenever the blob is opened.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when it cannot be read or is not a regular file.
    pub async fn from_file(media_type: MediaType, path: &Path) -> crate::Result<Self> {
        let (digest, size) = file::hash(path.to_owned()).await?;
        Ok(Self::of_file(
            Descriptor::new(media_type, digest, size),
            path.to_owned(),
        ))
    }

    /// A small file, read once now: as the blob that [`Blob::from_file`] makes of it, and as one of the very bytes that were
    /// hashed, to be sent now and not kept. Nothing when it is not small.
    pub(crate) async fn of_small_file(
        media_type: MediaType,
        path: &Path,
    ) -> crate::Result<Option<(Self, Self)>> {
        let Some(bytes) = file::read_small(path.to_owned()).await? else {
            return Ok(None);
        };
        let held = file::blocking(move || Self::from_bytes(media_type, bytes)).await;
        let named = Self::of_file(held.descriptor.clone(), path.to_owned());
        Ok(Some((named, held)))
    }

    /// A file that is known to hold what the descriptor names.
    fn of_file(descriptor: Descriptor, path: PathBuf) -> Self {
        let content = Arc::new(File {
            descriptor: descriptor.clone(),
            path,
        });
        Self {
            descriptor,
            content,
            origin: None,
        }
    }

    /// Content from elsewhere, such as the source of a copy.
    pub fn from_content(descriptor: Descriptor, content: Arc<dyn Content>) -> Self {
        Self {
            descriptor,
            content,
            origin: None,
        }
    }

    /// The same blob, known to be in this repository as well: a neighbour may take it from there.
    #[must_use]
    pub fn with_origin(self, origin: Option<Reference>) -> Self {
        Self { origin, ..self }
    }

    /// A repository that is known to have the blob.
    pub fn origin(&self) -> Option<&Reference> {
        self.origin.as_ref()
    }

    /// What names the blob.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The descriptor, for annotations to be added.
    pub fn descriptor_mut(&mut self) -> &mut Descriptor {
        &mut self.descriptor
    }

    /// The blob's digest.
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// Opens the content from its first byte.
    ///
    /// # Errors
    ///
    /// What opening the content fails with; the stream itself ends with [`ErrorKind::Mismatch`] when the content is no longer what its digest says.
    pub async fn open(&self) -> crate::Result<BlobStream> {
        self.content.open().await
    }
}

#[derive(Debug)]
struct Memory {
    descriptor: Descriptor,
    bytes: Bytes,
}

impl Content for Memory {
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
        let bytes = self.bytes.clone();
        let pieces = futures_util::stream::once(async { Ok(bytes) });
        // The digest was made of these very bytes, which nobody can change.
        let stream = BlobStream {
            inner: pieces.boxed(),
            digest: self.descriptor.digest.clone(),
            size: self.descriptor.size,
            check: Checked::Before,
        };
        Box::pin(async { Ok(stream) })
    }
}

#[derive(Debug)]
struct File {
    descriptor: Descriptor,
    path: PathBuf,
}

impl Content for File {
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
        Box::pin(BlobStream::from_file(&self.descriptor, &self.path))
    }
}

/// What a stream of bytes is checked against.
struct Check {
    digest: Digest,
    size: u64,
    seen: u64,
    hasher: Hasher,
}

impl Check {
    fn new(descriptor: &Descriptor) -> crate::Result<Self> {
        let hasher = descriptor.digest.verifier()?;
        Ok(Self {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            seen: 0,
            hasher,
        })
    }

    fn update(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.seen = self.seen.saturating_add(bytes.len() as u64);
        let (digest, expected) = (&self.digest, self.size);
        snafu::ensure!(
            self.seen <= expected,
            TooLongSnafu {
                digest: digest.clone(),
                expected
            }
        );
        self.hasher.update(bytes);
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        let actual = self.hasher.finish();
        verdict(&self.digest, self.size, &actual, self.seen)
    }
}

/// Whether content that was read to its end is what it should be.
fn verdict(digest: &Digest, size: u64, actual: &Digest, seen: u64) -> Result<(), Error> {
    let digest = digest.clone();
    snafu::ensure!(
        seen >= size,
        TooShortSnafu {
            digest,
            expected: size,
            actual: seen
        }
    );
    snafu::ensure!(
        seen <= size,
        TooLongSnafu {
            digest,
            expected: size
        }
    );
    snafu::ensure!(
        *actual == digest,
        WrongDigestSnafu {
            expected: digest,
            actual: actual.clone()
        }
    );
    Ok(())
}

/// Bytes that are checked as they flow.
///
/// Yields at most as many bytes as the descriptor promised. Ends with an error instead of an end when they were fewer or
/// more, or are not what the digest names, so that nobody who reads to the end can miss it. Holds no more than one piece.
pub struct BlobStream {
    inner: BoxStream<'static, crate::Result<Bytes>>,
    digest: Digest,
    size: u64,
    check: Checked,
}

/// First bytes of a blob that exist already. A fetch continues after them.
#[derive(Debug, Clone)]
pub struct PartialBlob {
    hasher: Hasher,
    size: u64,
}

impl PartialBlob {
    /// The first `size` bytes of a file, of what should become the content of this digest. The file is read through this
    /// handle, which stands behind those bytes afterwards; `path` names it in errors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when the file cannot be read so far; [`ErrorKind::Unsupported`] when the digest's algorithm is
    /// unknown.
    pub async fn of_file(
        digest: &Digest,
        file: std::fs::File,
        path: &Path,
        size: u64,
    ) -> crate::Result<Self> {
        let hasher = digest.verifier()?;
        let hasher = file::hash_beginning(hasher, file, path.to_owned(), size).await?;
        Ok(Self { hasher, size })
    }

    /// The digest of these bytes, by the algorithm of the one that they were read for.
    pub fn digest(self) -> Digest {
        self.hasher.finish()
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Who checks the bytes.
enum Checked {
    /// This stream.
    Here(Box<Check>),
    /// The thread that reads them from a file, and tells at the end.
    ByReader {
        seen: u64,
        outcome: oneshot::Receiver<(Digest, u64)>,
    },
    /// Whoever took the check out, together with the bytes.
    ByTaker,
    /// Whoever made the digest of bytes in memory.
    Before,
    /// Nobody any more: the stream has ended.
    Over,
}

impl BlobStream {
    /// Checks `inner` against the descriptor as it flows.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when the digest's algorithm is unknown.
    pub fn new(
        descriptor: &Descriptor,
        inner: BoxStream<'static, crate::Result<Bytes>>,
    ) -> crate::Result<Self> {
        let check = Checked::Here(Box::new(Check::new(descriptor)?));
        Ok(Self {
            inner,
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            check,
        })
    }

    /// Checks what follows the beginning of a blob, together with it, as it flows.
    ///
    /// # Errors
    ///
    /// As [`BlobStream::new`].
    pub fn after(
        descriptor: &Descriptor,
        beginning: PartialBlob,
        rest: BoxStream<'static, crate::Result<Bytes>>,
    ) -> crate::Result<Self> {
        let mut stream = Self::new(descriptor, rest)?;
        if let Checked::Here(check) = &mut stream.check {
            (check.hasher, check.seen) = (beginning.hasher, beginning.size);
        }
        Ok(stream)
    }

    /// The same stream, where failures to get its bytes become others. What is wrong with the bytes is still told as it is.
    pub(crate) fn map_failures(
        mut self,
        change: impl Fn(crate::Error) -> crate::Error + Send + 'static,
    ) -> Self {
        self.inner = self.inner.map_err(change).boxed();
        self
    }

    /// What follows the first bytes of this stream.
    pub(crate) fn skipping(mut self, mut count: u64) -> BoxStream<'static, crate::Result<Bytes>> {
        let pieces = futures_util::stream::poll_fn(move |context| {
            loop {
                let piece = std::task::ready!(self.poll_next_unpin(context));
                let Some(Ok(mut bytes)) = piece else {
                    return Poll::Ready(piece);
                };
                let dropped = usize::try_from(count)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let rest = bytes.split_off(dropped);
                count -= dropped as u64;
                if !rest.is_empty() {
                    return Poll::Ready(Some(Ok(rest)));
                }
            }
        });
        pieces.boxed()
    }

    /// Reads a file that should hold what the descriptor names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when it cannot be opened.
    pub(crate) async fn from_file(descriptor: &Descriptor, path: &Path) -> crate::Result<Self> {
        file::stream(descriptor, path).await
    }

    fn checked_by_reader(
        descriptor: &Descriptor,
        inner: BoxStream<'static, crate::Result<Bytes>>,
        outcome: oneshot::Receiver<(Digest, u64)>,
    ) -> Self {
        let check = Checked::ByReader { seen: 0, outcome };
        Self {
            inner,
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            check,
        }
    }

    /// How many bytes were promised in all.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads all of it into memory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] when more than `limit` bytes are promised; otherwise what the stream ends with.
    pub async fn read_to_end(mut self, limit: usize) -> crate::Result<Bytes> {
        if self.size > limit as u64 {
            return Err(OverLimitSnafu {
                digest: self.digest,
                size: self.size,
                limit,
            }
            .build()
            .into());
        }
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes.freeze())
    }

    /// Writes all of it into a file, which `path` names in errors. When this succeeds, the content is verified and on
    /// the disk.
    ///
    /// # Errors
    ///
    /// What the stream ends with; [`ErrorKind::Io`] when the file cannot be written. The file is not removed.
    pub async fn write_to(self, file: std::fs::File, path: &Path) -> crate::Result<()> {
        file::write(self, file, path.to_owned(), true).await
    }

    /// As [`BlobStream::write_to`], but the content need not be on the disk when this succeeds.
    pub(crate) async fn write_unsynced(
        self,
        file: std::fs::File,
        path: &Path,
    ) -> crate::Result<()> {
        file::write(self, file, path.to_owned(), false).await
    }

    /// Takes the check out, for one who checks on another thread; the stream itself passes everything on from here.
    fn take_check(&mut self) -> Taken {
        match std::mem::replace(&mut self.check, Checked::ByTaker) {
            Checked::Here(check) => Taken(Some(check)),
            // It is checked already, and says so by how it ends.
            other => {
                self.check = other;
                Taken(None)
            }
        }
    }
}

/// A check that was taken out of its stream; nothing when the stream goes on checking itself.
struct Taken(Option<Box<Check>>);

impl Taken {
    fn update(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.as_mut().map_or(Ok(()), |check| check.update(bytes))
    }

    fn finish(self) -> Result<(), Error> {
        self.0.map_or(Ok(()), |check| check.finish())
    }
}

impl Stream for BlobStream {
    type Item = crate::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if matches!(this.check, Checked::Over) {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(this.inner.poll_next_unpin(context));
        let checked = match piece {
            Some(Ok(bytes)) => match this.check.pass(&bytes, &this.digest, this.size) {
                Ok(()) => return Poll::Ready(Some(Ok(bytes))),
                Err(error) => Err(error.into()),
            },
            Some(Err(error)) => Err(error),
            None => this
                .check
                .end(&this.digest, this.size)
                .map_err(crate::Error::from),
        };
        this.check = Checked::Over;
        Poll::Ready(checked.err().map(Err))
    }
}

impl Checked {
    /// How many bytes were here before the stream.
    fn begun(&self) -> u64 {
        match self {
            Self::Here(check) => check.seen,
            _ => 0,
        }
    }

    fn pass(&mut self, bytes: &[u8], digest: &Digest, size: u64) -> Result<(), Error> {
        match self {
            Self::Here(check) => check.update(bytes),
            Self::ByReader { seen, .. } => {
                *seen += bytes.len() as u64;
                let digest = digest.clone();
                snafu::ensure!(
                    *seen <= size,
                    TooLongSnafu {
                        digest,
                        expected: size
                    }
                );
                Ok(())
            }
            Self::ByTaker | Self::Before | Self::Over => Ok(()),
        }
    }

    fn end(&mut self, digest: &Digest, size: u64) -> Result<(), Error> {
        match std::mem::replace(self, Self::Over) {
            Self::Here(check) => check.finish(),
            // The reader tells before it lets go of the channel, so there is nothing to wait for.
            Self::ByReader { seen, mut outcome } => match outcome.try_recv() {
                Ok((actual, read)) => verdict(digest, size, &actual, read),
                Err(_) => TooShortSnafu {
                    digest: digest.clone(),
                    expected: size,
                    actual: seen,
                }
                .fail(),
            },
            Self::ByTaker | Self::Before | Self::Over => Ok(()),
        }
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(promised: &[u8], pieces: &[&'static [u8]]) -> BlobStream {
        let descriptor = Descriptor::new(
            MediaType::OCTET_STREAM,
            Digest::sha256(promised),
            promised.len() as u64,
        );
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok(Bytes::from_static(piece)))
            .collect();
        BlobStream::new(&descriptor, futures_util::stream::iter(pieces).boxed()).unwrap()
    }

    async fn outcome(stream: BlobStream) -> Result<Bytes, String> {
        stream.read_to_end(1000).await.map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::Mismatch);
            error.to_string()
        })
    }

    #[tokio::test]
    async fn exact_bytes_pass_and_everything_else_ends_in_an_error() {
        assert_eq!(
            outcome(stream(b"abc", &[b"a", b"", b"bc"])).await.unwrap(),
            "abc"
        );
        assert_eq!(outcome(stream(b"", &[])).await.unwrap(), "");
        assert!(
            outcome(stream(b"abc", &[b"a"]))
                .await
                .unwrap_err()
                .contains("ended after 1 of 3 bytes")
        );
        assert!(
            outcome(stream(b"abc", &[b"abc", b"d"]))
                .await
                .unwrap_err()
                .contains("goes on after its 3 bytes")
        );
        assert!(
            outcome(stream(b"abc", &[b"abd"]))
                .await
                .unwrap_err()
                .contains("it has digest sha256:")
        );
    }

    #[tokio::test]
    async fn what_is_written_at_once_is_checked_as_what_is_written_in_pieces() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let write = async |stream: BlobStream| {
            let file = std::fs::File::create(&path).unwrap();
            let written = stream.write_to(file, &path).await;
            written.map_err(|error| {
                assert_eq!(error.kind(), ErrorKind::Mismatch);
                error.to_string()
            })
        };
        write(stream(b"abc", &[b"a", b"bc"])).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        for (pieces, problem) in [
            (&[&b"a"[..]][..], "ended after 1 of 3 bytes"),
            (&[b"ab", b"d"], "it has digest sha256:"),
            (&[b"abc", b"d"], "goes on after its 3 bytes"),
        ] {
            let error = write(stream(b"abc", pieces)).await.unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        // What does not end is not waited for.
        let promised = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(b"abc"), 3);
        let endless = futures_util::stream::repeat_with(|| Ok(Bytes::from_static(b"abc")));
        let endless = BlobStream::new(&promised, endless.boxed()).unwrap();
        let error = write(endless).await.unwrap_err();
        assert!(error.contains("goes on after its 3 bytes"), "{error}");
    }

    #[tokio::test]
    async fn a_blob_opens_again_and_notices_a_changed_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let blob = Blob::from_file(MediaType::OCTET_STREAM, &path)
            .await
            .unwrap();
        for _ in 0..2 {
            assert_eq!(outcome(blob.open().await.unwrap()).await.unwrap(), "one");
        }
        std::fs::write(&path, "two").unwrap();
        assert!(outcome(blob.open().await.unwrap()).await.is_err());
        std::fs::write(&path, "longer").unwrap();
        assert!(
            outcome(blob.open().await.unwrap())
                .await
                .unwrap_err()
                .contains("goes on")
        );
    }

    #[tokio::test]
    async fn what_is_promised_to_be_too_large_is_not_read() {
        let error = stream(b"abc", &[b"abc"]).read_to_end(2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        let directory = tempfile::tempdir().unwrap();
        let error = Blob::from_file(MediaType::OCTET_STREAM, directory.path())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
