//! Several files as one tar stream, and back: for consumers that need a directory with its modes.
//!
//! The stream is the same on every machine: names in order, directories before what is in them, no clock, no owner, and
//! of modes only whether a file is a program. It is never written to a disk here to be sent: a blob that is opened
//! again reads the files again. A stream that is fetched, which other clients may have compressed, is verified as a whole
//! before it is read. Then each file in it is a blob of its own, for [`unpack`](crate::unpack).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use snafu::{IntoError, OptionExt, ResultExt, Snafu, ensure};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use crate::archive::{Section, Span};
use crate::blob::{Blob, BlobStream, Content, Meter};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{ErrorKind, Failure};
use crate::file::open_regular;
use crate::manifest::{Descriptor, Manifest, MediaType};
use crate::reference::Identifier;
use crate::storage::{Source, TagStream};
use crate::tarball::compression::{Compression, decompressed, max_decompressed};
use crate::tarball::{self, Entry, Kind, Reader, Seekable, Writer};
use crate::unpack::{Extract, FileName};

/// How many bytes are handed over at once.
const PIECE: usize = 256 << 10;

/// How many pieces may wait.
const WAITING: usize = 4;

/// Bundles of more files than this are refused.
const MAX_FILES: usize = 100_000;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read `{}`", path.display()))]
    ReadFile { path: PathBuf, source: io::Error },
    #[snafu(display("failed to bundle the file `{name}`"))]
    Bundle {
        name: FileName,
        source: tarball::Error,
    },
    #[snafu(display("failed to end the bundle"))]
    End { source: tarball::Error },
    #[snafu(display("failed to write `{}`", path.display()))]
    WriteFile { path: PathBuf, source: io::Error },
    #[snafu(display("failed to fetch the bundle {digest}"))]
    Fetch {
        digest: Digest,
        source: crate::Error,
    },
    #[snafu(display("failed to read the bundle {digest}"))]
    ReadBundle {
        digest: Digest,
        source: tarball::Error,
    },
    #[snafu(display("refused the bundle {digest}: `{name}` is neither a file nor a directory"))]
    NotAFile { digest: Digest, name: String },
    #[snafu(display("refused the bundle {digest}: it has a name that is not safe to write"))]
    UnsafeName {
        digest: Digest,
        source: crate::Error,
    },
    #[snafu(display("refused the bundle {digest}: it has more than {MAX_FILES} files"))]
    TooMany { digest: Digest },
    #[snafu(display("refused the bundle {digest}: it has more than {limit} bytes decompressed"))]
    TooLarge { digest: Digest, limit: u64 },
    #[snafu(display("failed to find `{wanted}` in the bundle"))]
    Absent { wanted: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadFile { .. } | Self::WriteFile { .. } => ErrorKind::Io,
            Self::Bundle { source, .. } | Self::End { source } => source.kind(),
            Self::NotAFile { .. }
            | Self::UnsafeName { .. }
            | Self::TooMany { .. }
            | Self::TooLarge { .. }
            | Self::ReadBundle { .. } => ErrorKind::Mismatch,
            Self::Fetch { source, .. } => source.kind(),
            Self::Absent { .. } => ErrorKind::NotFound,
        }
    }
}

/// One file to bundle.
#[derive(Debug, Clone)]
pub struct Bundled {
    /// Its name in the bundle.
    pub name: FileName,
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Whether it is a program.
    pub executable: bool,
}

/// Files as one blob, a tar stream. They are read once now, for its digest, and again whenever it is opened.
///
/// # Errors
///
/// [`ErrorKind::Io`] when a file cannot be read.
pub async fn bundle(media_type: MediaType, mut files: Vec<Bundled>) -> crate::Result<Blob> {
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let files: Arc<[Bundled]> = files.into();
    let read = Arc::clone(&files);
    let (digest, size) = blocking(move || {
        let mut hashing = Hashing {
            hasher: Algorithm::Sha256.hasher(),
            size: 0,
        };
        write(&read, &mut hashing)?;
        Ok::<_, Error>((hashing.hasher.finish(), hashing.size))
    })
    .await?;
    let descriptor = Descriptor::new(media_type, digest, size);
    let content = Tar {
        descriptor: descriptor.clone(),
        files,
    };
    Ok(Blob::from_content(descriptor, Arc::new(content)))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("work on a bundle does not panic")
}

/// Writes the files, in their order, as a tar stream.
fn write(files: &[Bundled], out: &mut dyn Write) -> Result<(), Error> {
    let mut tar = Writer::new(out);
    let mut made = BTreeSet::new();
    for Bundled {
        name,
        path,
        executable,
    } in files
    {
        for (at, _) in name.as_str().match_indices('/') {
            let directory = &name.as_str()[..=at];
            if made.insert(directory) {
                let entry = Entry {
                    kind: Kind::Directory,
                    mode: 0o755,
                    ..Entry::file(directory, 0)
                };
                tar.entry(&entry, &mut io::empty())
                    .context(BundleSnafu { name: name.clone() })?;
            }
        }
        let mut file = open_regular(path).context(ReadFileSnafu { path })?;
        let size = file.metadata().context(ReadFileSnafu { path })?.len();
        let entry = Entry {
            mode: if *executable { 0o755 } else { 0o644 },
            ..Entry::file(name.as_str(), size)
        };
        tar.entry(&entry, &mut file)
            .context(BundleSnafu { name: name.clone() })?;
    }
    tar.finish().context(EndSnafu)?;
    Ok(())
}

struct Hashing {
    hasher: Hasher,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Pieces = mpsc::Sender<Result<Bytes, Error>>;

/// Hands over what is written, piece by piece.
struct Handing<'a> {
    pieces: &'a Pieces,
    held: Vec<u8>,
}

impl Write for Handing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.held.len());
        self.held.extend_from_slice(&bytes[..count]);
        if self.held.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.held));
        let sent = self.pieces.blocking_send(Ok(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Runs what hands over pieces, and gives them as they come.
fn pieces(
    work: impl FnOnce(&Pieces) -> Result<(), Error> + Send + 'static,
) -> stream::BoxStream<'static, crate::Result<Bytes>> {
    let (pieces, received) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = work(&pieces) {
            // Who has gone needs no reason.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let unfold = stream::unfold(received, |mut received| async move {
        let piece: Result<Bytes, Error> = received.recv().await?;
        Some((piece.map_err(crate::Error::from), received))
    });
    unfold.boxed()
}

#[derive(Debug)]
struct Tar {
    descriptor: Descriptor,
    files: Arc<[Bundled]>,
}

impl Content for Tar {
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
        let files = Arc::clone(&self.files);
        async move {
            let pieces = pieces(move |pieces| {
                let held = Vec::new();
                write(&files, &mut Handing { pieces, held })
            });
            BlobStream::new(&self.descriptor, pieces)
        }
        .boxed()
    }
}

/// A bundle that was fetched: its files, each a blob of this source. It holds no manifest and no tag.
#[derive(Debug)]
pub struct Bundle {
    file: Arc<NamedTempFile>,
    digest: Digest,
    files: Vec<Extract>,
    /// Where the content of each file begins.
    places: BTreeMap<Digest, u64>,
}

impl Bundle {
    /// Fetches a bundle into a file of this directory, which is created if it is missing, and reads the names in it. The
    /// file is deleted with this value. A compressed bundle (gzip, zstd, xz or bzip2, whatever its media type says) is
    /// decompressed, to at most 512 MiB or 20 times its size.
    ///
    /// # Errors
    ///
    /// What the source fails with; [`ErrorKind::Mismatch`] if it is no tar stream, is too large when it is decompressed, or
    /// holds anything but files and directories with names that are safe to write.
    pub async fn fetch(
        source: &dyn Source,
        descriptor: &Descriptor,
        directory: &Path,
        meter: &Meter,
    ) -> crate::Result<Self> {
        let digest = descriptor.digest.clone();
        let written = || WriteFileSnafu { path: directory };
        std::fs::create_dir_all(directory).with_context(|_| written())?;
        let file = temporary(directory).with_context(|_| written())?;
        let target = file.reopen().with_context(|_| written())?;
        let fetched = async {
            let bytes = source.blob(descriptor).await?;
            bytes.metered(meter).write_to(target, file.path()).await
        };
        fetched.await.with_context(|_| FetchSnafu {
            digest: digest.clone(),
        })?;
        let directory = directory.to_owned();
        let limit = max_decompressed(descriptor.size);
        let read = move || Self::read(plain(file, &directory, &digest, limit)?, digest);
        Ok(blocking(read).await?)
    }

    /// The files, in the order of the stream.
    pub fn files(&self) -> &[Extract] {
        &self.files
    }

    fn read(file: NamedTempFile, digest: Digest) -> Result<Self, Error> {
        let path = file.path().to_owned();
        let opened = file.reopen().context(ReadFileSnafu { path })?;
        let mut reader = Reader::new(Seekable(BufReader::new(opened)));
        let mut bundle = Self {
            file: Arc::new(file),
            digest,
            files: Vec::new(),
            places: BTreeMap::new(),
        };
        let failed = || ReadBundleSnafu {
            digest: bundle.digest.clone(),
        };
        let (mut files, mut places) = (Vec::new(), BTreeMap::new());
        while let Some(entry) = reader.next().with_context(|_| failed())? {
            let name = String::from_utf8_lossy(&entry.path).into_owned();
            let digest = bundle.digest.clone();
            match entry.kind {
                Kind::Directory => continue,
                Kind::File => {}
                _ => return NotAFileSnafu { digest, name }.fail(),
            }
            ensure!(files.len() < MAX_FILES, TooManySnafu { digest });
            let name: FileName = name
                .trim_start_matches("./")
                .parse()
                .context(UnsafeNameSnafu { digest })?;
            let place = reader.position();
            let mut hashing = Hashing {
                hasher: Algorithm::Sha256.hasher(),
                size: 0,
            };
            io::copy(&mut (&mut reader).take(entry.size), &mut hashing)
                .map_err(|error| failed().into_error(tarball::Error::Read { source: error }))?;
            let content = hashing.hasher.finish();
            places.insert(content.clone(), place);
            files.push(Extract {
                descriptor: Descriptor::new(MediaType::OCTET_STREAM, content, entry.size),
                name,
                executable: entry.mode & 0o111 != 0,
            });
        }
        (bundle.files, bundle.places) = (files, places);
        Ok(bundle)
    }
}

fn temporary(directory: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-").tempfile_in(directory)
}

/// Returns a file as it is, or decompressed into another file of the directory, to at most `limit` bytes.
fn plain(
    file: NamedTempFile,
    directory: &Path,
    digest: &Digest,
    limit: u64,
) -> Result<NamedTempFile, Error> {
    let path = file.path();
    let compressed = file.reopen().context(ReadFileSnafu { path })?;
    let compression = Compression::of(&compressed).context(ReadFileSnafu { path })?;
    if compression.is_none() {
        return Ok(file);
    }
    let mut content = decompressed(&compressed).context(ReadFileSnafu { path })?;
    let mut target = temporary(directory).context(WriteFileSnafu { path: directory })?;
    let (mut buffer, mut written) = (vec![0; PIECE], 0);
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => return Ok(target),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => {
                let source = tarball::Error::Read { source };
                let digest = digest.clone();
                return Err(Error::ReadBundle { digest, source });
            }
        };
        written += count as u64;
        ensure!(
            written <= limit,
            TooLargeSnafu {
                digest: digest.clone(),
                limit
            }
        );
        let path = directory;
        target
            .write_all(&buffer[..count])
            .context(WriteFileSnafu { path })?;
    }
}

#[async_trait]
impl Source for Bundle {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        let wanted = self.describe(identifier);
        Err(AbsentSnafu { wanted }.build().into())
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        let place = self.places.get(&descriptor.digest).copied();
        let place = place.context(AbsentSnafu {
            wanted: descriptor.digest.to_string(),
        })?;
        let (file, span) = (
            Arc::clone(&self.file),
            Span {
                start: place,
                size: descriptor.size,
            },
        );
        let pieces = pieces(move |pieces| {
            let held = Vec::new();
            let mut handing = Handing { pieces, held };
            let copied = io::copy(&mut Section::new(file.as_file(), span), &mut handing);
            let read = copied.and_then(|_| handing.flush());
            read.with_context(|_| ReadFileSnafu { path: file.path() })
        });
        BlobStream::new(descriptor, pieces)
    }

    fn tags(&self) -> TagStream {
        stream::empty().boxed()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        format!("{identifier} of the bundle {}", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::storage::Target as _;
    use crate::tarball::compression::tests::compressed;
    use crate::unpack::{UnpackOptions, unpack};

    fn file(home: &Path, name: &str, content: &[u8], executable: bool) -> Bundled {
        let path = home.join(name.replace('/', "-"));
        std::fs::write(&path, content).unwrap();
        let name = name.parse().unwrap();
        Bundled {
            name,
            path,
            executable,
        }
    }

    fn tar() -> MediaType {
        "application/vnd.oci.image.layer.v1.tar".into()
    }

    #[tokio::test]
    async fn files_come_back_as_they_went() {
        let home = tempfile::tempdir().unwrap();
        let large = vec![7; 700 << 10];
        let files = vec![
            file(home.path(), "widgets", &large, true),
            file(home.path(), "docs/a/use.md", b"use", false),
            file(home.path(), "empty", b"", false),
        ];
        let blob = bundle(tar(), files.clone()).await.unwrap();
        let mut backwards = files;
        backwards.reverse();
        let same = bundle(tar(), backwards).await.unwrap();
        assert_eq!(blob.descriptor(), same.descriptor());
        // A promise to those who bundled before, as every digest is.
        assert_eq!(
            blob.digest().as_str(),
            "sha256:534600a57ccc7f4198b193274a822ab2f84b86a49ebacdd55c1ecfcdc657ca76"
        );

        let memory = Memory::new();
        memory.push_blob(&blob).await.unwrap();
        let out = home.path().join("out");
        let meter = Meter::default();
        let fetched = Bundle::fetch(&memory, blob.descriptor(), &out, &meter);
        let fetched = fetched.await.unwrap();
        assert_eq!(meter.passed(), blob.size());
        unpack(&fetched, fetched.files(), &out, UnpackOptions::default())
            .await
            .unwrap();
        drop(fetched);
        assert_eq!(std::fs::read(out.join("widgets")).unwrap(), large);
        assert_eq!(std::fs::read(out.join("docs/a/use.md")).unwrap(), b"use");
        let entries = std::fs::read_dir(&out).unwrap().count();
        assert_eq!(entries, 3, "the stream itself is gone");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let is_program = |name: &str| {
                let metadata = std::fs::metadata(out.join(name)).unwrap();
                metadata.permissions().mode() & 0o100 != 0
            };
            assert!(is_program("widgets") && !is_program("empty"));
        }
    }

    #[tokio::test]
    async fn compressed_bundle_has_the_same_files() {
        let home = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        let files = [file(home.path(), "docs/use.md", b"use", false)];
        write(&files, &mut bytes).unwrap();
        let out = home.path().join("out");
        for (compression, bytes) in compressed(&bytes) {
            let blob = Blob::from_bytes(tar(), bytes);
            let memory = Memory::new();
            memory.push_blob(&blob).await.unwrap();
            let meter = Meter::default();
            let fetched = Bundle::fetch(&memory, blob.descriptor(), &out, &meter);
            let fetched = fetched.await.unwrap();
            let [extract] = fetched.files() else {
                panic!("one file in {compression:?}")
            };
            assert_eq!(extract.name.as_str(), "docs/use.md");
            let content = fetched.blob(&extract.descriptor).await.unwrap();
            assert_eq!(content.read_to_end(10).await.unwrap(), b"use"[..]);
        }
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
    }

    #[test]
    fn bundle_above_the_decompressed_limit_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"");
        for (_, bytes) in compressed(&vec![0; 100_000]) {
            let read = |limit| {
                let mut file = temporary(home.path()).unwrap();
                file.write_all(&bytes).unwrap();
                plain(file, home.path(), &digest, limit)
            };
            let size = read(100_000).unwrap().as_file().metadata().unwrap().len();
            assert_eq!(size, 100_000);
            let error = read(99_999).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Mismatch);
            assert!(error.to_string().contains("more than 99999 bytes"));
        }
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_leads_elsewhere_or_is_no_file_is_refused() {
        let home = tempfile::tempdir().unwrap();
        for (kind, name) in [
            (Kind::Symlink, "a"),
            (Kind::File, "../a"),
            (Kind::File, "/a"),
        ] {
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes);
            let entry = Entry {
                kind,
                link: b"b".to_vec(),
                ..Entry::file(name, 0)
            };
            writer.entry(&entry, &mut io::empty()).unwrap();
            writer.finish().unwrap();
            let blob = Blob::from_bytes(tar(), bytes);
            let memory = Memory::new();
            memory.push_blob(&blob).await.unwrap();
            let out = home.path().join("out");
            let meter = Meter::default();
            let refused = Bundle::fetch(&memory, blob.descriptor(), &out, &meter);
            assert_eq!(
                refused.await.unwrap_err().kind(),
                ErrorKind::Mismatch,
                "{name}"
            );
        }
    }

    #[tokio::test]
    async fn a_file_that_changed_is_not_sent_as_what_it_was() {
        let home = tempfile::tempdir().unwrap();
        let files = vec![file(home.path(), "a", b"one", false)];
        let blob = bundle(tar(), files).await.unwrap();
        std::fs::write(home.path().join("a"), "two").unwrap();
        let error = Memory::new().push_blob(&blob).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
    }
}
