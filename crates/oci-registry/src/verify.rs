//! Checking that everything an artifact is made of is there, and is what its names say.
//!
//! Goes through the graph from its root, as a copy does, and reads every byte; what is wrong is told, and the rest is
//! checked all the same. A network that fails is a failure of the check, and says nothing about the content.

use std::collections::{HashSet, VecDeque};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{FuturesOrdered, StreamExt, TryStreamExt};
use snafu::{ResultExt, Snafu, ensure};

use crate::digest::Digest;
use crate::error::{ErrorKind, Failure};
use crate::graph::{Budget, Excess, MAX_DEPTH};
use crate::manifest::{Descriptor, Manifest, MediaType};
use crate::reference::Identifier;
use crate::storage::Source;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to verify `{place}`"))]
    Read { place: String, source: crate::Error },
    #[snafu(display("{wrong} of the {count} documents and blobs of `{place}` {}", if *wrong == 1 { "is not what it should be" } else { "are not what they should be" }))]
    Wrong {
        place: String,
        wrong: usize,
        count: usize,
    },
    #[snafu(display(
        "refused to verify `{place}`: its indexes are nested more than {MAX_DEPTH} deep"
    ))]
    TooDeep { place: String },
    #[snafu(display("refused to verify `{place}`: it has {excess}"))]
    TooMany { place: String, excess: Excess },
    #[snafu(display("its size is {actual}, and it was announced with {expected}"))]
    WrongSize { expected: u64, actual: u64 },
    #[snafu(display("it is `{actual}`, and was announced as `{expected}`"))]
    WrongType {
        expected: MediaType,
        actual: MediaType,
    },
    #[snafu(display("what its descriptor holds in place of it is other content"))]
    WrongData,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } => source.kind(),
            Self::TooDeep { .. } | Self::TooMany { .. } => ErrorKind::Protocol,
            Self::Wrong { .. }
            | Self::WrongSize { .. }
            | Self::WrongType { .. }
            | Self::WrongData => ErrorKind::Mismatch,
        }
    }
}

/// What was found out about one piece of an artifact.
#[derive(Debug)]
#[non_exhaustive]
pub enum VerifyEvent<'a> {
    /// It is what its descriptor says.
    Good(&'a Descriptor),
    /// It is not there, and need not be: it is a layer that may not be passed on
    /// ([`MediaType::is_nondistributable`]).
    Skipped(&'a Descriptor),
    /// It is not there, or is something else.
    Wrong(&'a Descriptor, &'a crate::Error),
}

/// How to verify.
pub struct VerifyOptions<'a> {
    /// How many pieces are read at the same time, at least 1.
    pub concurrency: usize,
    /// Told of each piece.
    pub observer: &'a (dyn Fn(VerifyEvent<'_>) + Send + Sync),
}

impl Default for VerifyOptions<'_> {
    fn default() -> Self {
        Self {
            concurrency: 4,
            observer: &|_| {},
        }
    }
}

impl fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyOptions")
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The manifest at the root.
    pub manifest: Manifest,
    /// How many manifests there are, the root among them.
    pub manifests: usize,
    /// How many blobs there are.
    pub blobs: usize,
    /// How many layers are not there and need not be. They are counted nowhere else.
    pub skipped: usize,
    /// The bytes of all of them.
    pub size: u64,
}

/// Reads everything that an artifact is made of, and checks it against the descriptors that name it: digest, size, and of
/// manifests the media type.
///
/// # Errors
///
/// [`ErrorKind::Mismatch`] when any piece is wrong or missing; the observer was told of each. Otherwise what the source
/// fails with.
pub async fn verify(
    source: &dyn Source,
    root: &Identifier,
    options: VerifyOptions<'_>,
) -> crate::Result<Verified> {
    let place = || source.describe(root);
    let manifest = source.manifest(root).await;
    let manifest = manifest.with_context(|_| ReadSnafu { place: place() })?;
    let descriptor = manifest.descriptor();
    (options.observer)(VerifyEvent::Good(&descriptor));
    let mut verified = Verified {
        manifest: manifest.clone(),
        manifests: 1,
        blobs: 0,
        skipped: 0,
        size: descriptor.size,
    };
    let mut wrong = 0_usize;
    let mut ahead = Ahead::new(&descriptor);
    ahead.add(&manifest, 0, place)?;
    let mut checks = FuturesOrdered::new();
    loop {
        while checks.len() < options.concurrency.max(1)
            && let Some(piece) = ahead.next()
        {
            checks.push_back(check(source, piece));
        }
        let Some((piece, outcome)) = checks.next().await else {
            break;
        };
        let may_be_absent = may_be_absent(&piece.descriptor, piece.depth.is_some());
        if may_be_absent && matches!(&outcome, Err(error) if error.kind() == ErrorKind::NotFound) {
            verified.skipped += 1;
            (options.observer)(VerifyEvent::Skipped(&piece.descriptor));
            continue;
        }
        *(if piece.depth.is_some() {
            &mut verified.manifests
        } else {
            &mut verified.blobs
        }) += 1;
        match outcome {
            Ok(manifest) => {
                verified.size = verified.size.saturating_add(piece.descriptor.size);
                (options.observer)(VerifyEvent::Good(&piece.descriptor));
                if let (Some(manifest), Some(depth)) = (manifest, piece.depth) {
                    ahead.add(&manifest, depth, place)?;
                }
            }
            Err(error) if is_about_content(error.kind()) => {
                wrong += 1;
                (options.observer)(VerifyEvent::Wrong(&piece.descriptor, &error));
            }
            Err(source) => {
                return Err(source).context(ReadSnafu { place: place() })?;
            }
        }
    }
    let count = verified.manifests + verified.blobs;
    ensure!(
        wrong == 0,
        WrongSnafu {
            place: place(),
            wrong,
            count
        }
    );
    Ok(verified)
}

/// What a descriptor says of the content that it names.
#[derive(PartialEq, Eq, Hash)]
struct Claim {
    digest: Digest,
    size: u64,
    may_be_absent: bool,
    /// Of a manifest, its media type and the content that stands in the descriptor.
    of_manifest: Option<(MediaType, String)>,
}

fn claim(descriptor: &Descriptor, is_manifest: bool) -> Claim {
    let of_manifest = is_manifest.then(|| {
        let data = descriptor.data.clone().unwrap_or_default();
        (descriptor.media_type.clone(), data)
    });
    Claim {
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        may_be_absent: may_be_absent(descriptor, is_manifest),
        of_manifest,
    }
}

/// Whether an artifact is whole without it, as far as this descriptor says.
fn may_be_absent(descriptor: &Descriptor, is_manifest: bool) -> bool {
    !is_manifest && descriptor.media_type.is_nondistributable()
}

/// Whether a failure is one of the content, and not one of the way to it.
fn is_about_content(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Mismatch | ErrorKind::NotFound | ErrorKind::Protocol | ErrorKind::Unsupported
    )
}

/// A piece of an artifact.
struct Piece {
    descriptor: Descriptor,
    /// How many indexes lead to it, when it is a manifest.
    depth: Option<usize>,
}

/// What is still to be looked at: manifests before blobs, so that what is too large is refused before much of it is read,
/// and deep ones first, so that no more than a way from the root to a leaf is held.
struct Ahead {
    manifests: Vec<Piece>,
    blobs: VecDeque<Piece>,
    /// A manifest and a blob of one digest are two things, and what two descriptors say of one thing are two claims.
    seen: HashSet<Claim>,
    budget: Budget,
}

impl Ahead {
    fn new(root: &Descriptor) -> Self {
        Self {
            manifests: Vec::new(),
            blobs: VecDeque::new(),
            seen: HashSet::from([claim(root, true)]),
            budget: Budget::default(),
        }
    }

    /// Adds what a manifest names. What an index names is a manifest and what a manifest names is a blob, whatever their
    /// media types say.
    fn add(
        &mut self,
        manifest: &Manifest,
        depth: usize,
        place: impl Fn() -> String,
    ) -> Result<(), Error> {
        if let Err(excess) = self.budget.announce(manifest) {
            let place = place();
            return TooManySnafu { place, excess }.fail();
        }
        let depth = manifest.as_index().map(|_| depth + 1);
        let mut fresh = Vec::new();
        for descriptor in manifest.successors() {
            if self.seen.insert(claim(descriptor, depth.is_some())) {
                let descriptor = descriptor.clone();
                fresh.push(Piece { descriptor, depth });
            }
        }
        match depth {
            Some(depth) => {
                let is_in_reach = depth <= MAX_DEPTH || fresh.is_empty();
                ensure!(is_in_reach, TooDeepSnafu { place: place() });
                self.manifests.extend(fresh.into_iter().rev());
            }
            None => self.blobs.extend(fresh),
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Piece> {
        self.manifests.pop().or_else(|| self.blobs.pop_front())
    }
}

/// Looks at a piece, and returns its manifest if it is a good one.
async fn check(source: &dyn Source, piece: Piece) -> (Piece, crate::Result<Option<Manifest>>) {
    let outcome = if piece.depth.is_some() {
        manifest(source, &piece.descriptor).await.map(Some)
    } else {
        blob(source, &piece.descriptor).await.map(|()| None)
    };
    (piece, outcome)
}

async fn manifest(source: &dyn Source, descriptor: &Descriptor) -> crate::Result<Manifest> {
    let digest = Identifier::Digest(descriptor.digest.clone());
    let manifest = source.manifest(&digest).await?;
    let (expected, actual) = (descriptor.size, manifest.bytes().len() as u64);
    ensure!(expected == actual, WrongSizeSnafu { expected, actual });
    let (expected, actual) = (&descriptor.media_type, manifest.media_type());
    ensure!(
        expected == actual,
        WrongTypeSnafu {
            expected: expected.clone(),
            actual: actual.clone()
        }
    );
    check_data(descriptor)?;
    Ok(manifest)
}

async fn blob(source: &dyn Source, descriptor: &Descriptor) -> crate::Result<()> {
    let mut content = source.blob(descriptor).await?;
    // A stream checks itself: what it ends with is the verdict.
    while content.try_next().await?.is_some() {}
    check_data(descriptor)
}

/// Content that stands in the descriptor itself is what the descriptor names.
fn check_data(descriptor: &Descriptor) -> crate::Result<()> {
    if let Some(data) = &descriptor.data {
        let held = STANDARD.decode(data).map(|bytes| {
            let mut hasher = descriptor.digest.verifier()?;
            hasher.update(&bytes);
            Ok::<Digest, crate::Error>(hasher.finish())
        });
        let is_same = held.is_ok_and(|held| held.is_ok_and(|held| held == descriptor.digest));
        ensure!(is_same, WrongDataSnafu);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::blob::Blob;
    use crate::layout::Layout;
    use crate::manifest::{Annotations, Index};
    use crate::pack::Packed;
    use crate::storage::Target;

    /// An index of two artifacts of a layer each, in a layout.
    async fn layout(directory: &Path) -> (Layout, Manifest) {
        let layout = Layout::create(directory).await.unwrap();
        let mut entries = Vec::new();
        for content in ["one", "two"] {
            let layer = Blob::from_bytes(MediaType::OCTET_STREAM, content);
            let packed =
                Packed::new("a/b".into(), Blob::empty(), vec![layer], Annotations::new()).unwrap();
            for blob in packed.blobs() {
                layout.push_blob(blob).await.unwrap();
            }
            layout.push_manifest(packed.manifest()).await.unwrap();
            entries.push(packed.manifest().descriptor());
        }
        let index = Manifest::from_index(Index::new(None, entries)).unwrap();
        layout.push_manifest(&index).await.unwrap();
        (layout, index)
    }

    /// What is found out, and what is said to be wrong.
    async fn outcome(layout: &Layout, root: &Manifest) -> (crate::Result<Verified>, Vec<Digest>) {
        let wrong = Mutex::new(Vec::new());
        let observer = |event: VerifyEvent<'_>| {
            if let VerifyEvent::Wrong(descriptor, _) = event {
                wrong.lock().unwrap().push(descriptor.digest.clone());
            }
        };
        let options = VerifyOptions {
            observer: &observer,
            ..VerifyOptions::default()
        };
        let verified = verify(layout, &root.digest().clone().into(), options).await;
        (verified, wrong.into_inner().unwrap())
    }

    fn path(layout: &Layout, digest: &Digest) -> std::path::PathBuf {
        layout
            .directory()
            .join("blobs/sha256")
            .join(digest.encoded())
    }

    #[tokio::test]
    async fn every_piece_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, index) = layout(directory.path()).await;
        let (verified, wrong) = outcome(&layout, &index).await;
        let verified = verified.unwrap();
        assert_eq!((verified.manifests, verified.blobs), (3, 3));
        let manifests: u64 = index.successors().iter().map(|entry| entry.size).sum();
        let expected = index.bytes().len() as u64 + manifests + 2 + 3 + 3;
        assert_eq!(verified.size, expected);
        assert!(wrong.is_empty());
    }

    #[tokio::test]
    async fn all_that_is_wrong_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, index) = layout(directory.path()).await;
        let (one, two) = (Digest::sha256(b"one"), Digest::sha256(b"two"));
        std::fs::write(path(&layout, &one), "eno").unwrap();
        std::fs::remove_file(path(&layout, &two)).unwrap();
        let (verified, wrong) = outcome(&layout, &index).await;
        let error = verified.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(
            error
                .to_string()
                .starts_with("2 of the 6 documents and blobs of"),
            "{error}"
        );
        assert_eq!(wrong, [one, two]);
        let manifest = &index.as_index().unwrap().manifests[1].digest;
        std::fs::write(path(&layout, manifest), "{}").unwrap();
        let (_, wrong) = outcome(&layout, &index).await;
        assert!(wrong.contains(manifest));
    }

    #[tokio::test]
    async fn what_descriptors_say_counts_as_well() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, index) = layout(directory.path()).await;
        let entry = index.as_index().unwrap().manifests[0].clone();
        let larger = Descriptor {
            size: entry.size + 1,
            ..entry.clone()
        };
        let renamed = Descriptor {
            media_type: MediaType::DOCKER_MANIFEST,
            ..entry.clone()
        };
        for wrong_entry in [larger, renamed] {
            let index = Manifest::from_index(Index::new(None, vec![wrong_entry])).unwrap();
            layout.push_manifest(&index).await.unwrap();
            let (verified, wrong) = outcome(&layout, &index).await;
            assert_eq!(verified.unwrap_err().kind(), ErrorKind::Mismatch);
            assert_eq!(wrong, std::slice::from_ref(&entry.digest));
        }
        let mut layer = Blob::from_bytes(MediaType::OCTET_STREAM, "one");
        layer.descriptor_mut().data = Some(STANDARD.encode("eno"));
        let packed = Packed::new("a/b".into(), Blob::empty(), vec![layer], Annotations::new());
        let packed = packed.unwrap();
        layout.push_manifest(packed.manifest()).await.unwrap();
        let (_, wrong) = outcome(&layout, packed.manifest()).await;
        assert_eq!(wrong, [Digest::sha256(b"one")]);
    }

    #[tokio::test]
    async fn what_is_a_blob_here_and_a_manifest_there_is_looked_at_as_both() {
        let home = tempfile::tempdir().unwrap();
        let (layout, index) = layout(home.path()).await;
        let broken = index.as_index().unwrap().manifests[1].clone();
        let inner = layout
            .manifest(&broken.digest.clone().into())
            .await
            .unwrap();
        // A manifest whose layer is the other manifest, byte for byte.
        let disguise = Blob::from_bytes(MediaType::OCTET_STREAM, inner.bytes().clone());
        let packed = Packed::new(
            "a/b".into(),
            Blob::empty(),
            vec![disguise],
            Annotations::new(),
        )
        .unwrap();
        layout.push_manifest(packed.manifest()).await.unwrap();
        let entries = vec![packed.manifest().descriptor(), broken.clone()];
        let root = Manifest::from_index(Index::new(None, entries)).unwrap();
        layout.push_manifest(&root).await.unwrap();
        let root = root.digest().clone().into();
        let layer = inner.as_image().unwrap().layers[0].digest.clone();
        let path = home.path().join("blobs/sha256").join(layer.encoded());
        std::fs::remove_file(path).unwrap();
        let verified = verify(&layout, &root, VerifyOptions::default()).await;
        assert_eq!(verified.unwrap_err().kind(), ErrorKind::Mismatch);
        // And one entry that lies about what another one tells rightly.
        let good = index.as_index().unwrap().manifests[0].clone();
        let mut lie = good.clone();
        lie.size += 1;
        let root = Manifest::from_index(Index::new(None, vec![good, lie])).unwrap();
        layout.push_manifest(&root).await.unwrap();
        let root = root.digest().clone().into();
        let verified = verify(&layout, &root, VerifyOptions::default()).await;
        assert_eq!(verified.unwrap_err().kind(), ErrorKind::Mismatch);
    }

    #[tokio::test]
    async fn what_may_be_absent_here_and_not_there_is_missing() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::create(home.path()).await.unwrap();
        let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
        for names in [vec![foreign], vec![foreign, "a/b"], vec!["a/b", foreign]] {
            let layers = names.iter();
            let layers = layers.map(|name| Blob::from_bytes((*name).into(), "foreign"));
            let layers = layers.collect();
            let packed = Packed::new("a/b".into(), Blob::empty(), layers, Annotations::new());
            let packed = packed.unwrap();
            layout.push_blob(&Blob::empty()).await.unwrap();
            layout.push_manifest(packed.manifest()).await.unwrap();
            let (verified, wrong) = outcome(&layout, packed.manifest()).await;
            if names.len() == 1 {
                assert_eq!(verified.unwrap().skipped, 1);
            } else {
                assert_eq!(verified.unwrap_err().kind(), ErrorKind::Mismatch);
                assert_eq!(wrong, [Digest::sha256(b"foreign")]);
            }
        }
    }
}
