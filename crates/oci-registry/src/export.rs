//! The root filesystem of an image, flattened into one tar stream (image-spec, `layer.md`).
//!
//! Layers are fetched to the disk and verified before anything in them is looked at, read once for the tree that they
//! make, and then again for the content that is left of it. Memory holds the tree, never content; what is compressed,
//! named or linked without bound is refused before the first byte is written.
//!
//! The stream begins with the directories, sorted; the rest follows in the order of the layers. Owners, modes, times and
//! extended attributes are the image's. The same image gives the same bytes.

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
use crate::tarball::compression::{decompressed, max_decompressed};
use crate::tarball::{self, Entry, Kind, Reader, Streamed, Writer};

/// How much is handed to the writer at once.
const PIECE: usize = 256 << 10;

/// How many pieces may wait for the writer.
const WAITING: usize = 4;

/// How many layers are fetched at the same time.
const CONCURRENCY: usize = 4;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to export {digest}: it is not the manifest of an image"))]
    NotAnImage { digest: Digest },
    #[snafu(display(
        "failed to export the layer {digest}: `{media_type}` is no layer of a filesystem"
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
    #[snafu(display("failed to keep a layer in a temporary file"))]
    Keep { source: io::Error },
    #[snafu(display("failed to read the layer {digest}"))]
    ReadLayer {
        digest: Digest,
        source: tarball::Error,
    },
    #[snafu(display("failed to apply the layer {digest}"))]
    Apply { digest: Digest, source: tree::Error },
    #[snafu(display(
        "refused the layer {digest}: the image has more than {limit} bytes when it is decompressed"
    ))]
    TooLarge { digest: Digest, limit: u64 },
    #[snafu(display("failed to write the root filesystem"))]
    WriteStream { source: io::Error },
    #[snafu(display("gave up: nobody reads any more"))]
    Abandoned,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAnImage { .. } => ErrorKind::InvalidInput,
            Self::NotALayer { .. } => ErrorKind::Unsupported,
            Self::Fetch { source, .. } => source.kind(),
            // The file is our own and was verified: what cannot be read is in the layer.
            Self::ReadLayer { .. } | Self::Apply { .. } | Self::TooLarge { .. } => {
                ErrorKind::Protocol
            }
            Self::Keep { .. } | Self::WriteStream { .. } | Self::Abandoned => ErrorKind::Io,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NotAnImage { .. } => {
                vec!["choose the image of one platform from an index".into()]
            }
            _ => Vec::new(),
        }
    }
}

/// How to export.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// Most entries that all layers may have together, and the root filesystem as well; 1,000,000.
    pub max_entries: usize,
    /// Most bytes that the layers may have when they are decompressed. By default 20 for each compressed byte, and always
    /// 512 MiB.
    pub max_decompressed: Option<u64>,
    /// Where layers are kept while they are read; by default where the system keeps temporary files.
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
/// [`ErrorKind::InvalidInput`] when the manifest is no image's, [`ErrorKind::Unsupported`] when it is of other content
/// than files, [`ErrorKind::Protocol`] for layers that are malformed, lead out of their root or exceed a limit. Until all
/// layers were found good, nothing is written.
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
    let (pieces, mut received) = mpsc::channel(WAITING);
    let work = tokio::task::spawn_blocking(move || flatten(&layers, &options, pieces));
    let mut written = Ok(());
    while let Some(piece) = received.recv().await {
        let piece: Bytes = piece;
        written = writer.write_all(&piece).await;
        if written.is_err() {
            break;
        }
    }
    drop(received);
    let flattened = finished(work).await;
    written.context(WriteStreamSnafu)?;
    flattened?;
    Ok(writer.flush().await.context(WriteStreamSnafu)?)
}

async fn finished<T>(work: tokio::task::JoinHandle<T>) -> T {
    work.await.expect("flattening layers does not panic")
}

/// A layer on the disk, verified.
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
    let made = match &options.scratch {
        Some(directory) => tempfile::NamedTempFile::new_in(directory),
        None => tempfile::NamedTempFile::new(),
    };
    let kept = made.context(KeepSnafu)?;
    let file = kept.as_file().try_clone().context(KeepSnafu)?;
    let digest = layer.digest.clone();
    let context = || FetchSnafu {
        digest: digest.clone(),
    };
    let stream = source.blob(&layer).await.with_context(|_| context())?;
    let fetched = stream.write_to(file, kept.path()).await;
    fetched.with_context(|_| context())?;
    Ok(Layer {
        digest: layer.digest,
        size: layer.size,
        file: kept.into_file(),
    })
}

/// Reads all layers, and writes what is left of them.
fn flatten(
    layers: &[Layer],
    options: &ExportOptions,
    pieces: mpsc::Sender<Bytes>,
) -> Result<(), Error> {
    let compressed: u64 = layers
        .iter()
        .map(|layer| layer.size)
        .fold(0, u64::saturating_add);
    let limit = options.max_decompressed;
    let limit = limit.unwrap_or_else(|| max_decompressed(compressed));
    let rest = Cell::new(limit);
    let mut tree = Tree::new(Limits::new(options.max_entries));
    for (number, layer) in layers.iter().enumerate() {
        tree.next_layer();
        layer.walk(number, &rest, limit, |place, entry, _| {
            ensure!(!pieces.is_closed(), AbandonedSnafu);
            let digest = &layer.digest;
            tree.apply(place, entry).with_context(|_| ApplySnafu {
                digest: digest.clone(),
            })
        })?;
    }
    let (directories, others) = tree.into_parts();
    let mut writer = Writer::new(Pieces {
        buffer: BytesMut::new(),
        pieces,
    });
    // Whoever reads has ended, and says why.
    let write = |result: Result<(), tarball::Error>| result.ok().context(AbandonedSnafu);
    for entry in directories {
        write(writer.entry(&entry, &mut io::empty()))?;
    }
    for (number, layer) in layers.iter().enumerate() {
        let is_over = others.range((number, 0)..(number + 1, 0)).next().is_none();
        if is_over {
            continue;
        }
        let rest = Cell::new(limit);
        layer.walk(number, &rest, limit, |place, mut entry, content| {
            let Some(names) = others.get(&place) else {
                return Ok(());
            };
            entry.path.clear();
            match put(&mut writer, &entry, names, content) {
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

/// Writes a file, a link or a device under all of its names.
fn put(
    writer: &mut Writer<Pieces>,
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
    writer.entry(&under(first), content)?;
    for name in others {
        let mut again = under(name);
        // Only a file's names are one by a link that every program understands; a second link to the same is as good.
        if entry.kind == Kind::File {
            again.kind = Kind::HardLink;
            again.link.clone_from(first);
            again.size = 0;
            again.attributes.clear();
        }
        writer.entry(&again, &mut io::empty())?;
    }
    Ok(())
}

impl Layer {
    /// Goes through the entries; each has its place, the number of its layer and its own.
    fn walk(
        &self,
        number: usize,
        rest: &Cell<u64>,
        limit: u64,
        mut visit: impl FnMut((usize, usize), Entry, &mut dyn Read) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let digest = || self.digest.clone();
        let decoder = decompressed(&self.file).context(KeepSnafu)?;
        let is_over = Cell::new(false);
        let mut reader = Reader::new(Streamed(Bounded {
            inner: decoder,
            rest,
            is_over: &is_over,
        }));
        let fail = |source| {
            if is_over.get() {
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

/// Reads no more than is allowed.
struct Bounded<'a, R> {
    inner: R,
    /// What is left for all that share it.
    rest: &'a Cell<u64>,
    /// Whether there was more.
    is_over: &'a Cell<bool>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let Some(rest) = self.rest.get().checked_sub(count as u64) else {
            self.is_over.set(true);
            return Err(io::Error::other("there is more than is allowed"));
        };
        self.rest.set(rest);
        Ok(count)
    }
}

/// A stream whose pieces are taken on another thread.
struct Pieces {
    buffer: BytesMut,
    pieces: mpsc::Sender<Bytes>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        let sent = self.pieces.blocking_send(piece);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests;
