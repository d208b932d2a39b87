//! Maximum depth and size of a graph of manifests.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use oci_registry::{
    BlobStream, CopyOptions, Descriptor, ErrorKind, Identifier, Manifest, MediaType, Memory,
    Source, TagStream, VerifyOptions, copy, verify,
};

/// Maximum size of a manifest that every registry accepts, in bytes.
const SIZE: usize = 4 << 20;

/// Source in which each index refers to further indexes, and each image refers to further layers.
#[derive(Debug, Default)]
struct UnboundedGraph {
    /// Number of entries of an index.
    entries: usize,
    /// Whether the entries of the root are images.
    is_flat: bool,
    /// Size in the descriptor of each entry, in bytes.
    size: usize,
    reads: AtomicU64,
}

impl UnboundedGraph {
    fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Returns a document whose size is exactly the size that its descriptor states.
    fn write(&self, number: u64) -> Manifest {
        let is_image = self.is_flat && number > 0;
        let (kind, key) = if is_image {
            (MediaType::MANIFEST, "layers")
        } else {
            (MediaType::INDEX, "manifests")
        };
        let mut text = format!(r#"{{"schemaVersion":2,"mediaType":"{}","#, kind.as_str());
        let entry = |at: usize| {
            let (kind, size) = match (is_image, self.is_flat) {
                (true, _) => (MediaType::OCTET_STREAM, 1),
                (false, true) => (MediaType::MANIFEST, self.size),
                (false, false) => (MediaType::INDEX, self.size),
            };
            let digest = format!("sha256:{number:032x}{at:032x}");
            let kind = kind.as_str();
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
        };
        if is_image {
            write!(text, r#""config":{},"#, entry(0)).unwrap();
        }
        write!(text, r#""{key}":["#).unwrap();
        for at in 1..=self.entries {
            text.push_str(if at == 1 { "" } else { "," });
            text.push_str(&entry(at));
        }
        text.push(']');
        let pad = self.size.saturating_sub(text.len() + r#","x":""}"#.len());
        write!(text, r#","x":"{}"}}"#, " ".repeat(pad)).unwrap();
        Manifest::parse(Bytes::from(text), None).unwrap()
    }
}

#[async_trait::async_trait]
impl Source for UnboundedGraph {
    async fn manifest(&self, _: &Identifier) -> oci_registry::Result<Manifest> {
        Ok(self.write(self.reads.fetch_add(1, Ordering::Relaxed)))
    }

    async fn blob(&self, descriptor: &Descriptor) -> oci_registry::Result<BlobStream> {
        let absent = std::io::Error::other(descriptor.digest.to_string());
        Err(oci_registry::Error::new(ErrorKind::NotFound, absent))
    }

    fn tags(&self) -> TagStream {
        futures_util::stream::empty().boxed()
    }

    fn describe(&self, _: &Identifier) -> String {
        "graph".into()
    }
}

fn root() -> Identifier {
    Identifier::Tag("1".parse().unwrap())
}

/// Returns the errors of `verify` and of `copy`, each with the number of documents that were
/// read before the error.
async fn verify_and_copy_errors(graph: impl Fn() -> UnboundedGraph) -> [(String, u64); 2] {
    let source = Arc::new(graph());
    let verified = verify(&*source, &root(), VerifyOptions::default()).await;
    let verified = (verified.unwrap_err(), source.reads());
    let source = Arc::new(graph());
    let from: Arc<dyn Source> = source.clone();
    let copied = copy(&from, &root(), &Memory::new(), CopyOptions::default()).await;
    let copied = (copied.unwrap_err(), source.reads());
    [verified, copied].map(|(error, reads)| {
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        (error.to_string(), reads)
    })
}

/// Returns the peak memory of this process in bytes, if the system reports it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[tokio::test]
async fn index_with_too_many_manifests_is_rejected_before_reads() {
    let many_manifests = || UnboundedGraph {
        entries: 20_000,
        size: SIZE,
        ..UnboundedGraph::default()
    };
    for (error, reads) in verify_and_copy_errors(many_manifests).await {
        assert!(
            error.ends_with("it has more than 10000 manifests"),
            "{error}"
        );
        assert_eq!(reads, 1);
    }
}

#[tokio::test]
async fn index_with_too_many_bytes_is_rejected_before_reads() {
    let many_bytes = || UnboundedGraph {
        entries: 40,
        size: SIZE,
        ..UnboundedGraph::default()
    };
    for (error, reads) in verify_and_copy_errors(many_bytes).await {
        assert!(
            error.ends_with("it has more than 128 MiB of manifests"),
            "{error}"
        );
        assert_eq!(reads, 1);
    }
}

#[tokio::test]
async fn indexes_nested_too_deeply_are_rejected() {
    let deep = || UnboundedGraph {
        entries: 1,
        size: 1000,
        ..UnboundedGraph::default()
    };
    for (error, reads) in verify_and_copy_errors(deep).await {
        assert!(error.ends_with("nested more than 4 levels deep"), "{error}");
        assert!(reads <= 6, "{reads}");
    }
    let broad = || UnboundedGraph {
        entries: 100,
        size: 20_000,
        ..UnboundedGraph::default()
    };
    for (error, reads) in verify_and_copy_errors(broad).await {
        let is_refused = error.contains("levels deep") || error.contains("it has more than");
        assert!(is_refused, "{error}");
        assert!(reads <= 200, "{reads}");
    }
}

#[tokio::test]
async fn largest_accepted_graph_stays_below_memory_limit() {
    let before = peak_memory();
    let source = UnboundedGraph {
        entries: 29,
        is_flat: true,
        size: SIZE,
        ..UnboundedGraph::default()
    };
    let source = LargeImages(source);
    let error = verify(&source, &root(), VerifyOptions::default())
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("it has more than 200000 blobs"),
        "{error}"
    );
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        let grown = after.saturating_sub(before) >> 20;
        assert!(grown < 400, "{grown} MiB");
    }
}

/// A source with an index of images of 25,000 layers.
#[derive(Debug)]
struct LargeImages(UnboundedGraph);

#[async_trait::async_trait]
impl Source for LargeImages {
    async fn manifest(&self, identifier: &Identifier) -> oci_registry::Result<Manifest> {
        if self.0.reads() == 0 {
            return self.0.manifest(identifier).await;
        }
        let full = UnboundedGraph {
            entries: 25_000,
            is_flat: true,
            size: SIZE,
            reads: AtomicU64::default(),
        };
        Ok(full.write(self.0.reads.fetch_add(1, Ordering::Relaxed)))
    }

    async fn blob(&self, descriptor: &Descriptor) -> oci_registry::Result<BlobStream> {
        self.0.blob(descriptor).await
    }

    fn tags(&self) -> TagStream {
        self.0.tags()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        self.0.describe(identifier)
    }
}
