//! Streams that can skip bytes.

use std::io::{self, Read, Seek};

/// Stream that can skip bytes.
pub(crate) trait Skip: Read {
    /// Skips this many bytes. A seekable stream may skip past its end without an error.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// File, which skips by seeking.
pub(crate) struct Seekable<F>(pub(crate) io::BufReader<F>);

impl<F: Read> Read for Seekable<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<F: Read + Seek> Skip for Seekable<F> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let count = i64::try_from(count).map_err(io::Error::other)?;
        self.0.seek_relative(count)
    }
}

/// Stream that can only be read, and skips by reading.
pub(crate) struct Streamed<R>(pub(crate) R);

impl<R: Read> Read for Streamed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Skip for Streamed<R> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.0.by_ref().take(count), &mut io::sink())?;
        if skipped < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}
