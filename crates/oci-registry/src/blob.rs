//! Blobs: content of any size, named by its digest (image-spec, `descriptor.md`, "Verification").
//!
//! [`Blob`] can be opened more than once, so a retry sends the same content again. [`BlobStream`] yields at most as
//! many bytes as its descriptor states and verifies the digest while they are read. [`OutputFile`] is a file that a
//! user names as the destination.

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
    #[snafu(display("failed to read `{}`: the file changed while it was read", path.display()))]
    ChangedFile { path: PathBuf },
    #[snafu(display("failed to write `{}`", path.display()))]
    WriteFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("digest mismatch: expected {expected}, received {actual}"))]
    WrongDigest { expected: Digest, actual: Digest },
    #[snafu(display("content of {digest} ended after {actual} of {expected} bytes"))]
    TooShort {
        digest: Digest,
        expected: u64,
        actual: u64,
    },
    #[snafu(display("content of {digest} is longer than {expected} bytes"))]
    TooLong { digest: Digest, expected: u64 },
    #[snafu(display("content of {digest} has {size} bytes, which exceeds the limit of {limit}"))]
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

/// Content of a [`Blob`] that can be opened any number of times.
pub trait Content: fmt::Debug + Send + Sync {
    /// Opens the content from its first byte.
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>>;
}

/// Descriptor and content of a blob. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blob {
    descriptor: Descriptor,
    content: Arc<dyn Content>,
    origin: Option<Reference>,
}

impl Blob {
    /// Creates a blob from bytes in memory.
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

    /// Returns the empty JSON object `{}`, for required descriptors without content (image-spec, `manifest.md`,
    /// "Guidance for an Empty Descriptor").
    pub fn empty() -> Self {
        Self::from_bytes(MediaType::EMPTY, Bytes::from_static(b"{}"))
    }

    /// Creates a blob from a file. The file is read now to compute its digest, and again whenever the blob is opened.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the path cannot be read or is not a regular file.
    pub async fn from_file(media_type: MediaType, path: &Path) -> crate::Result<Self> {
        let (digest, size) = file::hash(path.to_owned()).await?;
        Ok(Self::of_file(
            Descriptor::new(media_type, digest, size),
            path.to_owned(),
        ))
    }

    /// Reads a small file once and returns two blobs: one that opens the file again, as [`Blob::from_file`] does, and
    /// one that holds the hashed bytes, to be sent immediately and then dropped. `None` if the file is too large for
    /// that.
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

    /// Creates a blob from a file that contains the content of the descriptor.
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

    /// Creates a blob from other content, such as a blob of the source of a copy.
    pub fn from_content(descriptor: Descriptor, content: Arc<dyn Content>) -> Self {
        Self {
            descriptor,
            content,
            origin: None,
        }
    }

    /// Sets a repository that has the blob, too. A target on the same registry can mount it from there.
    #[must_use]
    pub fn with_origin(self, origin: Option<Reference>) -> Self {
        Self { origin, ..self }
    }

    /// Returns a repository that has the blob, if one is known.
    pub fn origin(&self) -> Option<&Reference> {
        self.origin.as_ref()
    }

    /// Returns the descriptor.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Returns the descriptor for modification, to add annotations.
    pub fn descriptor_mut(&mut self) -> &mut Descriptor {
        &mut self.descriptor
    }

    /// Returns the digest.
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// Opens the content from its first byte.
    ///
    /// # Errors
    ///
    /// Any error of opening the content. The stream itself ends with [`ErrorKind::Mismatch`] if the content no longer
    /// matches the digest.
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
        // The digest was computed from these bytes, which cannot change.
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

/// State of the verification of a stream.
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

/// Compares size and digest of content that was read to its end with the expected ones.
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

/// Stream of a blob's bytes that is verified while it is read.
///
/// The stream yields at most as many bytes as the descriptor states. If there are fewer or more bytes, or if their
/// digest differs, the last item is an error, so every reader that reaches the end sees it. The stream buffers at most
/// one chunk.
pub struct BlobStream {
    inner: BoxStream<'static, crate::Result<Bytes>>,
    digest: Digest,
    size: u64,
    check: Checked,
}

/// First bytes of a blob that exist locally, from which a download resumes.
#[derive(Debug, Clone)]
pub struct PartialBlob {
    hasher: Hasher,
    size: u64,
}

impl PartialBlob {
    /// Reads the first `size` bytes of a file that holds a part of the content of `digest`. The bytes are read through
    /// `file`, whose position is behind them afterwards; `path` names the file in errors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the file cannot be read or has fewer bytes; [`ErrorKind::Unsupported`] if the algorithm of
    /// the digest is unknown.
    pub async fn of_file(
        digest: &Digest,
        file: std::fs::File,
        path: &Path,
        size: u64,
    ) -> crate::Result<Self> {
        let hasher = digest.verifier()?;
        let hasher = file::hash_prefix(hasher, file, path.to_owned(), size).await?;
        Ok(Self { hasher, size })
    }

    /// Returns the digest of these bytes, computed with the algorithm of the expected digest.
    pub fn digest(self) -> Digest {
        self.hasher.finish()
    }

    /// Returns the number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Part of the code that verifies the bytes of a stream.
enum Checked {
    /// The stream itself.
    Here(Box<Check>),
    /// The thread that reads the bytes from a file. It sends digest and size at the end.
    ByReader {
        seen: u64,
        outcome: oneshot::Receiver<(Digest, u64)>,
    },
    /// The caller that took the check out with [`BlobStream::take_check`].
    ByTaker,
    /// The constructor: the digest was computed from the bytes in memory.
    Before,
    /// Nothing: the stream has ended.
    Over,
}

impl BlobStream {
    /// Creates a stream that verifies `inner` against the descriptor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the algorithm of the digest is unknown.
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

    /// Creates a stream of the rest of a blob. It verifies the first bytes and the rest together.
    ///
    /// # Errors
    ///
    /// As [`BlobStream::new`].
    pub fn after(
        descriptor: &Descriptor,
        partial: PartialBlob,
        rest: BoxStream<'static, crate::Result<Bytes>>,
    ) -> crate::Result<Self> {
        let mut stream = Self::new(descriptor, rest)?;
        if let Checked::Here(check) = &mut stream.check {
            (check.hasher, check.seen) = (partial.hasher, partial.size);
        }
        Ok(stream)
    }

    /// Maps errors of reading the bytes. Errors of the verification are not changed.
    pub(crate) fn map_failures(
        mut self,
        change: impl Fn(crate::Error) -> crate::Error + Send + 'static,
    ) -> Self {
        self.inner = self.inner.map_err(change).boxed();
        self
    }

    /// Returns the stream without its first `count` bytes.
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

    /// Opens a file that is expected to hold the content of the descriptor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if it cannot be opened.
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

    /// Returns the size of the whole blob in bytes, as stated by the descriptor.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the stream to its end into memory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] if the descriptor states more than `limit` bytes; otherwise the error of the stream.
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

    /// Writes the stream to its end into a file, which `path` names in errors. On success the content is verified and
    /// flushed to the disk.
    ///
    /// # Errors
    ///
    /// The error of the stream; [`ErrorKind::Io`] if the file cannot be written. The file is not removed.
    pub async fn write_to(self, file: std::fs::File, path: &Path) -> crate::Result<()> {
        file::write(self, file, path.to_owned(), true).await
    }

    /// Writes the stream as [`BlobStream::write_to`] does, without flushing the file to the disk.
    pub(crate) async fn write_unsynced(
        self,
        file: std::fs::File,
        path: &Path,
    ) -> crate::Result<()> {
        file::write(self, file, path.to_owned(), false).await
    }

    /// Takes the check out of the stream, so that another thread can verify the bytes. The stream then yields
    /// unverified bytes.
    fn take_check(&mut self) -> Taken {
        match std::mem::replace(&mut self.check, Checked::ByTaker) {
            Checked::Here(check) => Taken(Some(check)),
            // The check is done elsewhere, and the stream ends with an error if it fails.
            other => {
                self.check = other;
                Taken(None)
            }
        }
    }
}

/// Check that was taken out of its stream. `None` if the bytes of the stream are verified elsewhere.
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
    /// Returns the number of bytes before the stream, for a download that was resumed.
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
            // The reader sends the digest before it closes the channel of the bytes, so this does not have to wait.
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

    fn stream(expected: &[u8], pieces: &[&'static [u8]]) -> BlobStream {
        let descriptor = Descriptor::new(
            MediaType::OCTET_STREAM,
            Digest::sha256(expected),
            expected.len() as u64,
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
    async fn stream_with_other_bytes_ends_with_mismatch() {
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
                .contains("is longer than 3 bytes")
        );
        assert!(
            outcome(stream(b"abc", &[b"abd"]))
                .await
                .unwrap_err()
                .contains("received sha256:")
        );
    }

    #[tokio::test]
    async fn write_to_file_with_other_bytes_fails_with_mismatch() {
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
            (&[b"ab", b"d"], "received sha256:"),
            (&[b"abc", b"d"], "is longer than 3 bytes"),
        ] {
            let error = write(stream(b"abc", pieces)).await.unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        // A stream without an end fails as soon as it is too long.
        let descriptor = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(b"abc"), 3);
        let endless = futures_util::stream::repeat_with(|| Ok(Bytes::from_static(b"abc")));
        let endless = BlobStream::new(&descriptor, endless.boxed()).unwrap();
        let error = write(endless).await.unwrap_err();
        assert!(error.contains("is longer than 3 bytes"), "{error}");
    }

    #[tokio::test]
    async fn file_blob_reopened_after_change_fails_with_mismatch() {
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
                .contains("is longer than")
        );
    }

    #[tokio::test]
    async fn blob_over_the_limit_or_directory_is_refused() {
        let error = stream(b"abc", &[b"abc"]).read_to_end(2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        let directory = tempfile::tempdir().unwrap();
        let error = Blob::from_file(MediaType::OCTET_STREAM, directory.path())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
