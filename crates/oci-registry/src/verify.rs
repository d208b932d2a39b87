//! Verification that an artifact is complete and that its content matches its digests.
//!
//! [`verify`] traverses the graph from its root, as a copy does, and reads every byte. It reports each manifest or blob
//! that is missing or wrong, and continues with the others. A network failure ends the verification, because it does
//! not show whether the content is correct.

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
    #[snafu(display("failed to verify `{location}`"))]
    Read {
        location: String,
        source: crate::Error,
    },
    #[snafu(display("{wrong} of {count} manifests and blobs of `{location}` {} missing or wrong", if *wrong == 1 { "is" } else { "are" }))]
    Wrong {
        location: String,
        wrong: usize,
        count: usize,
    },
    #[snafu(display(
        "failed to verify `{location}`: its indexes are nested more than {MAX_DEPTH} levels deep"
    ))]
    TooDeep { location: String },
    #[snafu(display("failed to verify `{location}`: it has {excess}"))]
    TooMany { location: String, excess: Excess },
    #[snafu(display("size mismatch: expected {expected} bytes, received {actual}"))]
    WrongSize { expected: u64, actual: u64 },
    #[snafu(display("media type mismatch: expected `{expected}`, received `{actual}`"))]
    WrongType {
        expected: MediaType,
        actual: MediaType,
    },
    #[snafu(display("the `data` field of the descriptor does not match its digest"))]
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

/// Verification result for one manifest or blob.
#[derive(Debug)]
#[non_exhaustive]
pub enum VerifyEvent<'a> {
    /// The content matches its descriptor.
    Good(&'a Descriptor),
    /// The content is missing and is not required: it is a layer that may not be distributed
    /// ([`MediaType::is_nondistributable`]).
    Skipped(&'a Descriptor),
    /// The content is missing or does not match its descriptor.
    Wrong(&'a Descriptor, &'a crate::Error),
}

/// Options of [`verify`].
pub struct VerifyOptions<'a> {
    /// Maximum number of manifests and blobs that are read at the same time, at least 1.
    pub concurrency: usize,
    /// Callback for the result of each manifest and blob.
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

/// Summary of a verified artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedArtifact {
    /// Manifest at the root.
    pub manifest: Manifest,
    /// Number of manifests, including the root.
    pub manifests: usize,
    /// Number of blobs.
    pub blobs: usize,
    /// Number of missing layers that are not required. The other fields do not count them.
    pub skipped: usize,
    /// Total size of all manifests and blobs in bytes.
    pub size: u64,
}

/// Reads all manifests and blobs of an artifact. Compares the digest, the size and, for manifests, the media type of
/// each with the descriptors that refer to it.
///
/// # Errors
///
/// [`ErrorKind::Mismatch`] if any content is wrong or missing. The observer has received an event for each manifest and
/// blob that is wrong or missing. Otherwise the error of the source.
pub async fn verify(
    source: &dyn Source,
    root: &Identifier,
    options: VerifyOptions<'_>,
) -> crate::Result<VerifiedArtifact> {
    let location = || source.describe(root);
    let manifest = source.manifest(root).await;
    let manifest = manifest.with_context(|_| ReadSnafu {
        location: location(),
    })?;
    let descriptor = manifest.descriptor();
    (options.observer)(VerifyEvent::Good(&descriptor));
    let mut verified = VerifiedArtifact {
        manifest: manifest.clone(),
        manifests: 1,
        blobs: 0,
        skipped: 0,
        size: descriptor.size,
    };
    let mut wrong = 0_usize;
    let mut queue = VerificationQueue::new(&descriptor);
    queue.add(&manifest, 0, location)?;
    let mut checks = FuturesOrdered::new();
    loop {
        while checks.len() < options.concurrency.max(1)
            && let Some(item) = queue.next()
        {
            checks.push_back(verify_item(source, item));
        }
        let Some((item, outcome)) = checks.next().await else {
            break;
        };
        let may_be_absent = may_be_absent(&item.descriptor, item.depth.is_some());
        if may_be_absent && matches!(&outcome, Err(error) if error.kind() == ErrorKind::NotFound) {
            verified.skipped += 1;
            (options.observer)(VerifyEvent::Skipped(&item.descriptor));
            continue;
        }
        *(if item.depth.is_some() {
            &mut verified.manifests
        } else {
            &mut verified.blobs
        }) += 1;
        match outcome {
            Ok(manifest) => {
                verified.size = verified.size.saturating_add(item.descriptor.size);
                (options.observer)(VerifyEvent::Good(&item.descriptor));
                if let (Some(manifest), Some(depth)) = (manifest, item.depth) {
                    queue.add(&manifest, depth, location)?;
                }
            }
            Err(error) if is_content_error(error.kind()) => {
                wrong += 1;
                (options.observer)(VerifyEvent::Wrong(&item.descriptor, &error));
            }
            Err(source) => {
                return Err(source).context(ReadSnafu {
                    location: location(),
                })?;
            }
        }
    }
    let count = verified.manifests + verified.blobs;
    ensure!(
        wrong == 0,
        WrongSnafu {
            location: location(),
            wrong,
            count
        }
    );
    Ok(verified)
}

/// Properties of content, as stated by a descriptor.
#[derive(PartialEq, Eq, Hash)]
struct Claim {
    digest: Digest,
    size: u64,
    may_be_absent: bool,
    /// Media type and `data` field that the descriptor of a manifest states; `None` for a blob.
    manifest: Option<(MediaType, String)>,
}

impl Claim {
    fn new(descriptor: &Descriptor, is_manifest: bool) -> Self {
        let manifest = is_manifest.then(|| {
            let data = descriptor.data.clone().unwrap_or_default();
            (descriptor.media_type.clone(), data)
        });
        Self {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            may_be_absent: may_be_absent(descriptor, is_manifest),
            manifest,
        }
    }
}

/// Whether the artifact is complete without this content, according to the descriptor.
fn may_be_absent(descriptor: &Descriptor, is_manifest: bool) -> bool {
    !is_manifest && descriptor.media_type.is_nondistributable()
}

/// Whether an error concerns the content and not the connection.
fn is_content_error(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Mismatch | ErrorKind::NotFound | ErrorKind::Protocol | ErrorKind::Unsupported
    )
}

/// Manifest or blob to verify.
struct QueueItem {
    descriptor: Descriptor,
    /// Number of indexes on the path to the manifest; `None` for a blob.
    depth: Option<usize>,
}

/// Queue of content to verify. Manifests come before blobs, so a graph that is too large is detected before many blobs
/// are read. Deep manifests come first, so the queue has at most the entries of the indexes on one path from the root
/// to a leaf.
struct VerificationQueue {
    manifests: Vec<QueueItem>,
    blobs: VecDeque<QueueItem>,
    /// Claims that were added to the queue. A manifest and a blob with the same digest, or two differing descriptors of
    /// the same content, are two claims.
    seen: HashSet<Claim>,
    budget: Budget,
}

impl VerificationQueue {
    fn new(root: &Descriptor) -> Self {
        Self {
            manifests: Vec::new(),
            blobs: VecDeque::new(),
            seen: HashSet::from([Claim::new(root, true)]),
            budget: Budget::default(),
        }
    }

    /// Adds the successors of a manifest. The entries of an index are verified as manifests, and the config and layers
    /// of a manifest as blobs, regardless of their media types.
    fn add(
        &mut self,
        manifest: &Manifest,
        depth: usize,
        location: impl Fn() -> String,
    ) -> Result<(), Error> {
        if let Err(excess) = self.budget.count_successors(manifest) {
            let location = location();
            return TooManySnafu { location, excess }.fail();
        }
        let depth = manifest.as_index().map(|_| depth + 1);
        let mut fresh = Vec::new();
        for descriptor in manifest.successors() {
            if self.seen.insert(Claim::new(descriptor, depth.is_some())) {
                let descriptor = descriptor.clone();
                fresh.push(QueueItem { descriptor, depth });
            }
        }
        match depth {
            Some(depth) => {
                let is_within_depth = depth <= MAX_DEPTH || fresh.is_empty();
                ensure!(
                    is_within_depth,
                    TooDeepSnafu {
                        location: location()
                    }
                );
                self.manifests.extend(fresh.into_iter().rev());
            }
            None => self.blobs.extend(fresh),
        }
        Ok(())
    }

    fn next(&mut self) -> Option<QueueItem> {
        self.manifests.pop().or_else(|| self.blobs.pop_front())
    }
}

/// Verifies one manifest or blob. Returns the manifest if its content is correct.
async fn verify_item(
    source: &dyn Source,
    item: QueueItem,
) -> (QueueItem, crate::Result<Option<Manifest>>) {
    let outcome = if item.depth.is_some() {
        verify_manifest(source, &item.descriptor).await.map(Some)
    } else {
        verify_blob(source, &item.descriptor).await.map(|()| None)
    };
    (item, outcome)
}

async fn verify_manifest(source: &dyn Source, descriptor: &Descriptor) -> crate::Result<Manifest> {
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

async fn verify_blob(source: &dyn Source, descriptor: &Descriptor) -> crate::Result<()> {
    let mut content = source.blob(descriptor).await?;
    // The stream verifies the content, and ends with an error if the content does not match.
    while content.try_next().await?.is_some() {}
    check_data(descriptor)
}

/// Verifies the `data` field of a descriptor against its digest (image-spec, `descriptor.md`, "Embedded Content").
fn check_data(descriptor: &Descriptor) -> crate::Result<()> {
    if let Some(data) = &descriptor.data {
        let actual = STANDARD.decode(data).map(|bytes| {
            let mut hasher = descriptor.digest.verifier()?;
            hasher.update(&bytes);
            Ok::<Digest, crate::Error>(hasher.finish())
        });
        let is_same =
            actual.is_ok_and(|actual| actual.is_ok_and(|actual| actual == descriptor.digest));
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

    /// Creates a layout with an index of two artifacts, which have one layer each.
    async fn create_layout(directory: &Path) -> (Layout, Manifest) {
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

    /// Verifies a layout, and returns the result and the digests that were reported as wrong.
    async fn verify_layout(
        layout: &Layout,
        root: &Manifest,
    ) -> (crate::Result<VerifiedArtifact>, Vec<Digest>) {
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

    fn blob_path(layout: &Layout, digest: &Digest) -> std::path::PathBuf {
        layout
            .directory()
            .join("blobs/sha256")
            .join(digest.encoded())
    }

    #[tokio::test]
    async fn verify_counts_shared_blobs_once() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, index) = create_layout(directory.path()).await;
        let (verified, wrong) = verify_layout(&layout, &index).await;
        let verified = verified.unwrap();
        assert_eq!((verified.manifests, verified.blobs), (3, 3));
        let manifests: u64 = index.successors().iter().map(|entry| entry.size).sum();
        let expected = index.bytes().len() as u64 + manifests + 2 + 3 + 3;
        assert_eq!(verified.size, expected);
        assert!(wrong.is_empty());
    }

    #[tokio::test]
    async fn verify_reports_every_wrong_manifest_and_blob() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, index) = create_layout(directory.path()).await;
        let (one, two) = (Digest::sha256(b"one"), Digest::sha256(b"two"));
        std::fs::write(blob_path(&layout, &one), "eno").unwrap();
        std::fs::remove_file(blob_path(&layout, &two)).unwrap();
        let (verified, wrong) = verify_layout(&layout, &index).await;
        let error = verified.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(
            error
                .to_string()
                .starts_with("2 of 6 manifests and blobs of"),
            "{error}"
        );
        assert_eq!(wrong, [one, two]);
        let manifest = &index.as_index().unwrap().manifests[1].digest;
        std::fs::write(blob_path(&layout, manifest), "{}").unwrap();
        let (_, wrong) = verify_layout(&layout, &index).await;
        assert!(wrong.contains(manifest));
    }

    #[tokio::test]
    async fn verify_with_wrong_descriptor_fields_fails() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, index) = create_layout(directory.path()).await;
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
            let (verified, wrong) = verify_layout(&layout, &index).await;
            assert_eq!(verified.unwrap_err().kind(), ErrorKind::Mismatch);
            assert_eq!(wrong, std::slice::from_ref(&entry.digest));
        }
        let mut layer = Blob::from_bytes(MediaType::OCTET_STREAM, "one");
        layer.descriptor_mut().data = Some(STANDARD.encode("eno"));
        let packed = Packed::new("a/b".into(), Blob::empty(), vec![layer], Annotations::new());
        let packed = packed.unwrap();
        layout.push_manifest(packed.manifest()).await.unwrap();
        let (_, wrong) = verify_layout(&layout, packed.manifest()).await;
        assert_eq!(wrong, [Digest::sha256(b"one")]);
    }

    #[tokio::test]
    async fn content_that_is_blob_and_manifest_is_verified_as_both() {
        let home = tempfile::tempdir().unwrap();
        let (layout, index) = create_layout(home.path()).await;
        let broken = index.as_index().unwrap().manifests[1].clone();
        let inner = layout
            .manifest(&broken.digest.clone().into())
            .await
            .unwrap();
        // The layer of this manifest has the same bytes as the other manifest.
        let same_bytes = Blob::from_bytes(MediaType::OCTET_STREAM, inner.bytes().clone());
        let packed = Packed::new(
            "a/b".into(),
            Blob::empty(),
            vec![same_bytes],
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
        // Of two entries for the same manifest, the second has a wrong size.
        let good = index.as_index().unwrap().manifests[0].clone();
        let mut wrong_size = good.clone();
        wrong_size.size += 1;
        let root = Manifest::from_index(Index::new(None, vec![good, wrong_size])).unwrap();
        layout.push_manifest(&root).await.unwrap();
        let root = root.digest().clone().into();
        let verified = verify(&layout, &root, VerifyOptions::default()).await;
        assert_eq!(verified.unwrap_err().kind(), ErrorKind::Mismatch);
    }

    #[tokio::test]
    async fn absent_layer_fails_if_any_descriptor_requires_it() {
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
            let (verified, wrong) = verify_layout(&layout, packed.manifest()).await;
            if names.len() == 1 {
                assert_eq!(verified.unwrap().skipped, 1);
            } else {
                assert_eq!(verified.unwrap_err().kind(), ErrorKind::Mismatch);
                assert_eq!(wrong, [Digest::sha256(b"foreign")]);
            }
        }
    }
}
