//! Verification of size and digest while content is read.

use snafu::Snafu;
use tokio::sync::oneshot;

use crate::digest::{Digest, Hasher};
use crate::error::{ErrorKind, Failure};
use crate::manifest::Descriptor;

/// Difference between content and its descriptor.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub(super) enum Error {
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
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::WrongDigest { .. } | Self::TooShort { .. } | Self::TooLong { .. } => {
                ErrorKind::Mismatch
            }
        }
    }
}

/// Verifier that contains the expected digest and size, and the hash and number of the bytes that were read.
pub(super) struct Verifier {
    digest: Digest,
    size: u64,
    seen: u64,
    hasher: Hasher,
}

impl Verifier {
    pub(super) fn new(descriptor: &Descriptor) -> crate::Result<Self> {
        let hasher = descriptor.digest.verifier()?;
        Ok(Self {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            seen: 0,
            hasher,
        })
    }

    /// Creates a verifier for content whose first `seen` bytes are already in `hasher`.
    pub(super) fn from_partial(
        descriptor: &Descriptor,
        hasher: Hasher,
        seen: u64,
    ) -> crate::Result<Self> {
        Ok(Self {
            seen,
            hasher,
            ..Self::new(descriptor)?
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
        compare(&self.digest, self.size, &actual, self.seen)
    }
}

/// Compares the size and digest of content that was read to its end (`seen` and `actual`) with the expected size and
/// digest.
fn compare(digest: &Digest, size: u64, actual: &Digest, seen: u64) -> Result<(), Error> {
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

/// Verification state of a stream.
pub(super) enum Verification {
    /// The stream verifies the bytes.
    InStream(Box<Verifier>),
    /// The thread that reads the file also hashes its bytes, and sends the digest and size at the end.
    InReader {
        seen: u64,
        outcome: oneshot::Receiver<(Digest, u64)>,
    },
    /// The caller of [`Verification::detach`] verifies the bytes.
    Detached,
    /// The digest was computed from the bytes in memory before the stream was created.
    Done,
    /// The stream has ended.
    Ended,
}

impl Verification {
    /// Returns the offset at which a new stream starts in the blob, in bytes. It is zero unless a download is resumed.
    pub(super) fn offset(&self) -> u64 {
        match self {
            Self::InStream(verifier) => verifier.seen,
            _ => 0,
        }
    }

    /// Verifies the next bytes of a stream of `size` bytes.
    pub(super) fn update(&mut self, bytes: &[u8], digest: &Digest, size: u64) -> Result<(), Error> {
        match self {
            Self::InStream(verifier) => verifier.update(bytes),
            Self::InReader { seen, .. } => {
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
            Self::Detached | Self::Done | Self::Ended => Ok(()),
        }
    }

    /// Completes the verification at the end of a stream of `size` bytes.
    pub(super) fn finish(&mut self, digest: &Digest, size: u64) -> Result<(), Error> {
        match std::mem::replace(self, Self::Ended) {
            Self::InStream(verifier) => verifier.finish(),
            // The reader sends the digest before it closes the channel of the bytes, so the digest is already available
            // here.
            Self::InReader { seen, mut outcome } => match outcome.try_recv() {
                Ok((actual, read)) => compare(digest, size, &actual, read),
                Err(_) => TooShortSnafu {
                    digest: digest.clone(),
                    expected: size,
                    actual: seen,
                }
                .fail(),
            },
            Self::Detached | Self::Done | Self::Ended => Ok(()),
        }
    }

    /// Returns the verifier, so that another thread can verify the bytes. The stream then yields unverified bytes.
    pub(super) fn detach(&mut self) -> DetachedVerifier {
        match std::mem::replace(self, Self::Detached) {
            Self::InStream(verifier) => DetachedVerifier(Some(verifier)),
            // The bytes are verified elsewhere, and the stream ends with an error if the verification fails.
            other => {
                *self = other;
                DetachedVerifier(None)
            }
        }
    }
}

/// Verifier that was detached from its stream. `None` if the bytes of the stream are verified elsewhere.
pub(super) struct DetachedVerifier(Option<Box<Verifier>>);

impl DetachedVerifier {
    pub(super) fn update(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0
            .as_mut()
            .map_or(Ok(()), |verifier| verifier.update(bytes))
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        self.0.map_or(Ok(()), |verifier| verifier.finish())
    }
}
