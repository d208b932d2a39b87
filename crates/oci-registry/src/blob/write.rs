//! Writes blobs to files.
//!
//! Writing blocks the thread. One blocking task writes the whole file and receives chunks through a channel of small
//! capacity, so writing overlaps with the network and memory use stays small.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream::StreamExt;
use snafu::{ResultExt, Snafu, ensure};
use tokio::sync::mpsc;

use super::file::{CHANNEL_CAPACITY, IN_MEMORY_MAX, run_blocking};
use super::stream::BlobStream;
use super::verification::TooLongSnafu;
use crate::error::{ErrorKind, Failure};

#[derive(Debug, Snafu)]
#[snafu(display("failed to write `{}`", path.display()))]
struct WriteFileError {
    path: PathBuf,
    source: std::io::Error,
}

impl Failure for WriteFileError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Io
    }
}

impl BlobStream {
    /// Writes the whole stream to a file. On success the content is verified and flushed to the disk. Errors name the
    /// file by `path`.
    ///
    /// # Errors
    ///
    /// The error of the stream; [`ErrorKind::Io`] if the file cannot be written. The file is not removed.
    pub async fn write_to(self, file: File, path: &Path) -> crate::Result<()> {
        write(self, file, path.to_owned(), true).await
    }

    /// Writes the stream as [`BlobStream::write_to`] does, without flushing the file to the disk.
    pub(crate) async fn write_unsynced(self, file: File, path: &Path) -> crate::Result<()> {
        write(self, file, path.to_owned(), false).await
    }
}

/// Writes a whole stream to a file. On success the content is verified and, if `must_sync` is set, flushed to the disk.
async fn write(
    mut stream: BlobStream,
    mut file: File,
    path: PathBuf,
    must_sync: bool,
) -> crate::Result<()> {
    if stream.size() <= IN_MEMORY_MAX {
        return write_small(stream, file, path, must_sync).await;
    }
    let verifier = stream.verification.detach();
    let (pieces, mut received) = mpsc::channel::<Bytes>(CHANNEL_CAPACITY);
    let writer = tokio::task::spawn_blocking(move || -> Result<_, crate::Error> {
        let mut verifier = verifier;
        while let Some(piece) = received.blocking_recv() {
            verifier.update(&piece)?;
            file.write_all(&piece)
                .context(WriteFileSnafu { path: &path })?;
        }
        Ok((verifier, file, path))
    });
    let read = async {
        while let Some(piece) = stream.next().await {
            // If the writer has stopped, its error is reported below.
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
    let (verifier, file, path) = written?;
    run_blocking(move || {
        verifier.finish()?;
        if must_sync {
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
    must_sync: bool,
) -> crate::Result<()> {
    let mut verifier = stream.verification.detach();
    let (mut pieces, mut held, size) = (Vec::new(), 0, stream.size());
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        held += piece.len() as u64;
        pieces.push(piece);
        // Memory use is bounded by the stated size. The check after the loop reports the excess.
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
    run_blocking(move || {
        for piece in pieces {
            verifier.update(&piece)?;
            file.write_all(&piece)
                .context(WriteFileSnafu { path: &path })?;
        }
        verifier.finish()?;
        if must_sync {
            file.sync_all().context(WriteFileSnafu { path })?;
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::stream::tests::stream;
    use crate::digest::Digest;
    use crate::manifest::{Descriptor, MediaType};

    #[tokio::test]
    async fn write_to_file_of_wrong_content_fails_with_mismatch() {
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
        // An endless stream fails as soon as it exceeds the size in the descriptor.
        let descriptor = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(b"abc"), 3);
        let endless = futures_util::stream::repeat_with(|| Ok(Bytes::from_static(b"abc")));
        let endless = BlobStream::new(&descriptor, endless.boxed()).unwrap();
        let error = write(endless).await.unwrap_err();
        assert!(error.contains("is longer than 3 bytes"), "{error}");
    }
}
