//! Blob uploads: sessions, chunks, mounts, and recovery from failures.

mod chunks;
mod files;
mod mounts;
mod sessions;

use std::path::PathBuf;

use oci_registry::{Blob, Delivery, Digest, MediaType, Meter, Repository, Target};
use testkit::registry::{Contents, FakeRegistry, Switches};
use testkit::server::{Request, Response};

use crate::support::{blob, bytes, writer};

/// Number of bytes in a mebibyte.
const MIB: usize = 1 << 20;

/// Starts a registry in memory. If the closure returns a response, this response replaces the registry's response.
fn registry(
    script: impl Fn(&Request, usize, &mut Contents) -> Option<Response> + Send + Sync + 'static,
) -> FakeRegistry {
    FakeRegistry::start_with(Switches::default(), script)
}

/// File of 9 MiB. The client computes its digest while it sends the file.
struct LargeFile {
    path: PathBuf,
    content: Vec<u8>,
    _directory: tempfile::TempDir,
}

impl LargeFile {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        let content = bytes(9 * MIB);
        std::fs::write(&path, &content).unwrap();
        Self {
            path,
            content,
            _directory: directory,
        }
    }

    async fn push(&self, repository: &Repository) -> oci_registry::Result<(Blob, Delivery)> {
        let meter = Meter::default();
        let media_type = MediaType::OCTET_STREAM;
        repository.push_file(media_type, &self.path, &meter).await
    }
}

/// Pushes the large file and checks that the registry has it.
async fn push_large(registry: &FakeRegistry) -> oci_registry::Result<Delivery> {
    let file = LargeFile::new();
    let (_, delivery) = file.push(&writer(&registry.server)).await?;
    assert_stored(registry, &file.content);
    Ok(delivery)
}

#[tokio::test]
async fn blob_reported_with_another_size_is_uploaded() {
    let registry = registry(|request, _, _| {
        (request.method == "HEAD").then(|| Response::new(200).header("Content-Length", 5))
    });
    let repository = writer(&registry.server);
    let pushed = push_known(&repository, &registry, bytes(10)).await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
}

/// Pushes a blob with a known digest and checks that the registry has it.
async fn push_known(
    repository: &Repository,
    registry: &FakeRegistry,
    content: Vec<u8>,
) -> oci_registry::Result<Delivery> {
    let delivery = repository.push_blob(&blob(content.clone())).await?;
    assert_stored(registry, &content);
    Ok(delivery)
}

fn assert_stored(registry: &FakeRegistry, content: &[u8]) {
    let digest = Digest::sha256(content).to_string();
    let contents = registry.contents();
    let stored = contents.blobs.get(&digest).map(Vec::as_slice);
    assert!(stored == Some(content), "`{digest}` is not stored");
}
