//! Copies from a source that is slow, fails, or is incomplete.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci_registry::{
    Archive, ArchiveFormat, Blob, BlobStream, CopyEvent, CopyOptions, Delete, Descriptor,
    ErrorKind, Identifier, ImageManifest, Layout, Manifest, Memory, Side, Source, TagStream,
    Target, VerifyOptions, copy, verify,
};
use testkit::server::{Response, Server, advance_clock};

use crate::support::{descriptor, writer};

const CONTENT: [&[u8]; 2] = [b"one and ", b"two"];

/// Event between the first and the second half of the content.
#[derive(Debug, Clone, Copy)]
enum Between {
    Wait(Duration),
    Failure,
}

/// Source of an artifact with one blob. The content of the blob arrives in two halves.
#[derive(Debug)]
struct SlowSource {
    manifest: Manifest,
    between: Between,
}

impl SlowSource {
    fn new(between: Between) -> Self {
        let config = descriptor(&CONTENT.concat());
        let manifest = Manifest::from_image(ImageManifest::new("a/b".into(), config)).unwrap();
        Self { manifest, between }
    }
}

#[async_trait::async_trait]
impl Source for SlowSource {
    async fn manifest(&self, _: &Identifier) -> oci_registry::Result<Manifest> {
        Ok(self.manifest.clone())
    }

    async fn blob(&self, descriptor: &Descriptor) -> oci_registry::Result<BlobStream> {
        let [first, second] = CONTENT.map(|piece| Ok(Bytes::from_static(piece)));
        let between = self.between;
        let rest = stream::once(async move {
            match between {
                Between::Wait(time) => {
                    advance_clock(time).await;
                    second
                }
                Between::Failure => {
                    let failure = std::io::Error::other("connection lost");
                    Err(oci_registry::Error::new(ErrorKind::Network, failure))
                }
            }
        });
        BlobStream::new(descriptor, stream::iter([first]).chain(rest).boxed())
    }

    fn tags(&self) -> TagStream {
        stream::empty().boxed()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        format!("slow:{identifier}")
    }
}

/// Copies the artifact of a slow source to a registry. Returns the result and the number of uploads.
async fn copy_slow(between: Between) -> (oci_registry::Result<Manifest>, usize) {
    let server = Server::start(Response::accepted_upload);
    let target = writer(&server);
    let slow = SlowSource::new(between);
    let root = Identifier::Digest(slow.manifest.digest().clone());
    let source: Arc<dyn Source> = Arc::new(slow);
    let copied = copy(&source, &root, &target, CopyOptions::default()).await;
    (copied, server.count("PUT /upload"))
}

#[tokio::test]
async fn slow_source_does_not_time_out_the_target() {
    let (copied, uploads) = copy_slow(Between::Wait(Duration::from_mins(5))).await;
    copied.unwrap();
    assert_eq!(uploads, 1);
}

#[tokio::test]
async fn source_failure_during_upload_names_the_source() {
    let (copied, _) = copy_slow(Between::Failure).await;
    let error = copied.unwrap_err();
    assert_eq!(error.side(), Some(Side::Source), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Network);
    let digest = descriptor(&CONTENT.concat()).digest;
    assert_eq!(error.to_string(), format!("failed to read `slow:{digest}`"));
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "connection lost");
}

// ---- nondistributable layers

const NONDISTRIBUTABLE: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// Stores an image with a layer of this media type. The content of the layer is stored only if `is_stored` is set.
async fn with_layer(media_type: &str, is_stored: bool) -> (Memory, Manifest) {
    let memory = Memory::new();
    let layer = Blob::from_bytes(media_type.into(), "licensed");
    let config = Blob::empty();
    memory.push_blob(&config).await.unwrap();
    if is_stored {
        memory.push_blob(&layer).await.unwrap();
    }
    let mut image = ImageManifest::new("a/b".into(), config.descriptor().clone());
    let mut descriptor = layer.descriptor().clone();
    descriptor.urls = vec!["http://127.0.0.1:1/never/requested".into()];
    image.layers = vec![descriptor];
    let manifest = Manifest::from_image(image).unwrap();
    memory.push_manifest(&manifest).await.unwrap();
    (memory, manifest)
}

#[tokio::test]
async fn nondistributable_layer_is_copied_only_if_stored() {
    for (media_type, is_stored) in NONDISTRIBUTABLE
        .into_iter()
        .flat_map(|media_type| [(media_type, false), (media_type, true)])
    {
        let (memory, manifest) = with_layer(media_type, is_stored).await;
        let source: Arc<dyn Source> = Arc::new(memory);
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::create(home.path().join("layout")).await.unwrap();
        let format = ArchiveFormat::Oci;
        let archive = Archive::create(home.path().join("archive"), format)
            .await
            .unwrap();
        let server = Server::start(Response::accepted_upload);
        let registry = writer(&server);
        let plain = Memory::new();
        let targets: [&dyn Target; 4] = [&layout, &archive, &registry, &plain];
        let root = Identifier::Digest(manifest.digest().clone());
        for (number, target) in targets.into_iter().enumerate() {
            let skipped = Mutex::new(Vec::new());
            let observer = |event: CopyEvent| {
                if let CopyEvent::Skipped(blob) = event {
                    skipped.lock().unwrap().push(blob);
                }
            };
            let tags = vec!["1".parse().unwrap()];
            let options = CopyOptions {
                tags,
                observer: &observer,
                ..CopyOptions::default()
            };
            copy(&source, &root, target, options).await.unwrap();
            let layer = manifest.as_image().unwrap().layers[0].clone();
            let expected = if is_stored { vec![] } else { vec![layer] };
            assert_eq!(skipped.into_inner().unwrap(), expected, "{number}");
            if number == 2 {
                continue;
            }
            let verified = verify(target, &root, VerifyOptions::default())
                .await
                .unwrap();
            let (stored, absent) = if is_stored { (2, 0) } else { (1, 1) };
            assert_eq!(
                (verified.blobs, verified.skipped),
                (stored, absent),
                "{number}"
            );
        }
    }
}

#[tokio::test]
async fn distributable_layer_with_urls_fails_if_not_stored() {
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    let (memory, manifest) = with_layer(media_type, true).await;
    let layer = &manifest.as_image().unwrap().layers[0].digest;
    memory.delete_blob(layer).await.unwrap();
    let root = Identifier::Digest(manifest.digest().clone());
    let error = verify(&memory, &root, VerifyOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let source: Arc<dyn Source> = Arc::new(memory);
    let copied = copy(&source, &root, &Memory::new(), CopyOptions::default()).await;
    let error = copied.unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::NotFound, Some(Side::Source))
    );
}
