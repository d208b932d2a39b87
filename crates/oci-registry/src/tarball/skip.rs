//! Streams that can skip bytes.

use std::io::{self, Read, Seek};

/// Stream that can skip bytes.
pub(crate) trait Skip: Read {
    /// Skips this many bytes. A seekable stream may skip past its end without an error.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// File that skips bytes by seeking.
pub(crate) struct SkipBySeeking<F>(pub(crate) io::BufReader<F>);

impl<F: Read> Read for SkipBySeeking<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<F: Read + Seek> Skip for SkipBySeeking<F> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let count = i64::try_from(count).map_err(io::Error::other)?;
        self.0.seek_relative(count)
    }
}

/// Stream that cannot seek and therefore skips bytes by reading them.
pub(crate) struct SkipByReading<R>(pub(crate) R);

impl<R: Read> Read for SkipByReading<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Skip for SkipByReading<R> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.0.by_ref().take(count), &mut io::sink())?;
        if skipped < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}
