//! Export of the root filesystem of an image as one tar stream (image-spec, `layer.md`).
//!
//! All layers are first downloaded to temporary files and verified. They are then read twice: once to build the merged
//! tree, and once to write the content that remains in the tree. Only the tree is kept in memory. Images that exceed a
//! limit on entries, names, links or decompressed size are rejected before the first byte is written.
//!
//! The stream starts with the directories, sorted by path. All other entries follow in the order of the layers. Owners,
//! modes, times and extended attributes are those of the image. The same image always results in the same bytes.

pub(crate) mod tree;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{StreamExt, TryStreamExt};
use snafu::{OptionExt, ResultExt, Snafu, ensure};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use self::tree::{Limits, Tree};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Hint};
use crate::manifest::{Descriptor, Manifest, MediaType};
use crate::storage::Source;
use crate::tarball::compression::{max_decompressed_size, open_decompressed};
use crate::tarball::{self, Entry, Kind, Reader, SkipByReading, Writer};

/// Size of a chunk that is passed to the writer, in bytes.
const CHUNK_SIZE: usize = 256 << 10;

/// Capacity of the channel to the writer, in chunks.
const CHANNEL_CAPACITY: usize = 4;

/// Maximum number of layers that are fetched at the same time.
const CONCURRENCY: usize = 4;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to export {digest}: it is not the manifest of an image"))]
    NotAnImage { digest: Digest },
    #[snafu(display(
        "failed to export the layer {digest}: `{media_type}` is not the media type of a filesystem layer"
    ))]
    NotALayer {
        digest: Digest,
        media_type: MediaType,
    },
    #[snafu(display("failed to fetch the layer {digest}"))]
    Fetch {
        digest: Digest,
        source: crate::Error,
    },
    #[snafu(display("failed to store a layer in a temporary file"))]
    StoreLayer { source: io::Error },
    #[snafu(display("failed to read the layer {digest}"))]
    ReadLayer {
        digest: Digest,
        source: tarball::Error,
    },
    #[snafu(display("failed to apply the layer {digest}"))]
    Apply { digest: Digest, source: tree::Error },
    #[snafu(display(
        "failed to read the layer {digest}: the decompressed image exceeds the limit of {limit} bytes"
    ))]
    TooLarge { digest: Digest, limit: u64 },
    #[snafu(display("failed to write the root filesystem"))]
    WriteStream { source: io::Error },
    #[snafu(display("failed to write the root filesystem: the reader closed the stream"))]
    Abandoned,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAnImage { .. } => ErrorKind::InvalidInput,
            Self::NotALayer { .. } => ErrorKind::Unsupported,
            Self::Fetch { source, .. } => source.kind(),
            // The digest of the temporary file was verified, so the layer itself is invalid.
            Self::ReadLayer { .. } | Self::Apply { .. } | Self::TooLarge { .. } => {
                ErrorKind::Protocol
            }
            Self::StoreLayer { .. } | Self::WriteStream { .. } | Self::Abandoned => ErrorKind::Io,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NotAnImage { .. } => {
                vec!["choose the image of one platform from the index".into()]
            }
            _ => Vec::new(),
        }
    }
}

/// Options of [`export`].
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// Maximum number of entries, both in all layers together and in the root filesystem. Default: 1,000,000.
    pub max_entries: usize,
    /// Maximum decompressed size of all layers in bytes. Default: 20 times the compressed size, at least 512 MiB.
    pub max_decompressed: Option<u64>,
    /// Directory for temporary copies of the layers. Default: the temporary directory of the system.
    pub scratch: Option<PathBuf>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            max_entries: 1_000_000,
            max_decompressed: None,
            scratch: None,
        }
    }
}

/// Writes the root filesystem of an image as a tar stream.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if the manifest is not an image manifest, [`ErrorKind::Unsupported`] if its layers are
/// not filesystem layers, [`ErrorKind::Protocol`] for layers that are malformed, contain paths outside the root or
/// exceed a limit. Nothing is written before all layers are checked.
pub async fn export(
    source: &dyn Source,
    manifest: &Manifest,
    mut writer: impl AsyncWrite + Unpin + Send,
    options: ExportOptions,
) -> crate::Result<()> {
    let digest = manifest.digest().clone();
    let image = manifest.as_image().context(NotAnImageSnafu { digest })?;
    for layer in &image.layers {
        let digest = layer.digest.clone();
        let media_type = layer.media_type.clone();
        ensure!(
            layer.media_type.is_layer(),
            NotALayerSnafu { digest, media_type }
        );
    }
    let layers = futures_util::stream::iter(image.layers.iter().cloned())
        .map(|layer| fetch(source, layer, &options))
        .buffered(CONCURRENCY);
    let layers: Vec<_> = layers.try_collect().await?;
    let (chunks, mut received) = mpsc::channel(CHANNEL_CAPACITY);
    let work = tokio::task::spawn_blocking(move || flatten(&layers, &options, chunks));
    let mut written = Ok(());
    while let Some(chunk) = received.recv().await {
        let chunk: Bytes = chunk;
        written = writer.write_all(&chunk).await;
        if written.is_err() {
            break;
        }
    }
    drop(received);
    let flattened = join_blocking(work).await;
    written.context(WriteStreamSnafu)?;
    flattened?;
    Ok(writer.flush().await.context(WriteStreamSnafu)?)
}

async fn join_blocking<T>(work: tokio::task::JoinHandle<T>) -> T {
    work.await.expect("flattening layers does not panic")
}

/// Verified layer in a temporary file.
struct Layer {
    digest: Digest,
    size: u64,
    file: File,
}

async fn fetch(
    source: &dyn Source,
    layer: Descriptor,
    options: &ExportOptions,
) -> Result<Layer, Error> {
    let created = match &options.scratch {
        Some(directory) => tempfile::NamedTempFile::new_in(directory),
        None => tempfile::NamedTempFile::new(),
    };
    let temporary = created.context(StoreLayerSnafu)?;
    let file = temporary.as_file().try_clone().context(StoreLayerSnafu)?;
    let digest = layer.digest.clone();
    let context = || FetchSnafu {
        digest: digest.clone(),
    };
    let stream = source.blob(&layer).await.with_context(|_| context())?;
    let fetched = stream.write_to(file, temporary.path()).await;
    fetched.with_context(|_| context())?;
    Ok(Layer {
        digest: layer.digest,
        size: layer.size,
        file: temporary.into_file(),
    })
}

/// Reads all layers and writes the merged filesystem.
fn flatten(
    layers: &[Layer],
    options: &ExportOptions,
    chunks: mpsc::Sender<Bytes>,
) -> Result<(), Error> {
    let compressed: u64 = layers
        .iter()
        .map(|layer| layer.size)
        .fold(0, u64::saturating_add);
    let limit = options.max_decompressed;
    let limit = limit.unwrap_or_else(|| max_decompressed_size(compressed));
    let remaining = Cell::new(limit);
    let mut tree = Tree::new(Limits::new(options.max_entries));
    for (number, layer) in layers.iter().enumerate() {
        tree.next_layer();
        layer.visit_entries(number, &remaining, limit, |position, entry, _| {
            ensure!(!chunks.is_closed(), AbandonedSnafu);
            let digest = &layer.digest;
            tree.apply(position, entry).with_context(|_| ApplySnafu {
                digest: digest.clone(),
            })
        })?;
    }
    let (directories, others) = tree.into_parts();
    let mut writer = Writer::new(ChunkSender {
        buffer: BytesMut::new(),
        sender: chunks,
    });
    // The writer fails only if the receiver was dropped. This happens after an error, which `export` returns.
    let write = |result: Result<(), tarball::Error>| result.ok().context(AbandonedSnafu);
    for entry in directories {
        write(writer.write_entry(&entry, &mut io::empty()))?;
    }
    for (number, layer) in layers.iter().enumerate() {
        let is_hidden = others.range((number, 0)..(number + 1, 0)).next().is_none();
        if is_hidden {
            continue;
        }
        let remaining = Cell::new(limit);
        layer.visit_entries(number, &remaining, limit, |position, mut entry, content| {
            let Some(names) = others.get(&position) else {
                return Ok(());
            };
            entry.path.clear();
            match write_entries(&mut writer, &entry, names, content) {
                Err(source @ tarball::Error::Read { .. }) => {
                    let digest = layer.digest.clone();
                    return Err(Error::ReadLayer { digest, source });
                }
                written => write(written)?,
            }
            Ok(())
        })?;
    }
    write(writer.finish().map(drop))
}

/// Writes a file, link or device under each of its paths. Further paths of a file become hard links to the first path.
fn write_entries(
    writer: &mut Writer<ChunkSender>,
    entry: &Entry,
    names: &[Vec<u8>],
    content: &mut dyn Read,
) -> Result<(), tarball::Error> {
    let Some((first, others)) = names.split_first() else {
        return Ok(());
    };
    let under = |name: &Vec<u8>| Entry {
        path: name.clone(),
        ..entry.clone()
    };
    writer.write_entry(&under(first), content)?;
    for name in others {
        let mut again = under(name);
        // Some programs support hard links to files only. A symbolic link or device is written again, which is
        // equivalent to a hard link.
        if entry.kind == Kind::File {
            again.kind = Kind::HardLink;
            again.link.clone_from(first);
            again.size = 0;
            again.attributes.clear();
        }
        writer.write_entry(&again, &mut io::empty())?;
    }
    Ok(())
}

impl Layer {
    /// Calls `visit` for each entry of the layer. The position of an entry consists of the layer's number and the
    /// entry's number within the layer.
    fn visit_entries(
        &self,
        number: usize,
        remaining: &Cell<u64>,
        limit: u64,
        mut visit: impl FnMut((usize, usize), Entry, &mut dyn Read) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let digest = || self.digest.clone();
        let decoder = open_decompressed(&self.file).context(StoreLayerSnafu)?;
        let is_exceeded = Cell::new(false);
        let mut reader = Reader::new(SkipByReading(LimitedReader {
            inner: decoder,
            remaining,
            is_exceeded: &is_exceeded,
        }));
        let fail = |source| {
            if is_exceeded.get() {
                return Error::TooLarge {
                    digest: digest(),
                    limit,
                };
            }
            Error::ReadLayer {
                digest: digest(),
                source,
            }
        };
        for at in 0.. {
            let Some(entry) = reader.next().map_err(fail)? else {
                break;
            };
            visit((number, at), entry, &mut reader)?;
        }
        Ok(())
    }
}

/// Reader with a size limit that it shares with other readers. It fails if all of them together exceed the limit.
struct LimitedReader<'a, R> {
    inner: R,
    /// Number of bytes that all readers together may still read.
    remaining: &'a Cell<u64>,
    /// Whether the limit was exceeded.
    is_exceeded: &'a Cell<bool>,
}

impl<R: Read> Read for LimitedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let Some(remaining) = self.remaining.get().checked_sub(count as u64) else {
            self.is_exceeded.set(true);
            return Err(io::Error::other("the size limit was exceeded"));
        };
        self.remaining.set(remaining);
        Ok(count)
    }
}

/// Writer that sends chunks to another thread.
struct ChunkSender {
    buffer: BytesMut,
    sender: mpsc::Sender<Bytes>,
}

impl Write for ChunkSender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_SIZE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.buffer.split().freeze();
        let sent = self.sender.blocking_send(chunk);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests;
