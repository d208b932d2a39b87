//! Copies whose source is slow, fails, or does not have everything.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripted;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci_registry::{
    Access, Archive, ArchiveFormat, Blob, BlobStream, CopyEvent, CopyOptions, Delete, Descriptor,
    Digest, ErrorKind, Identifier, ImageManifest, Layout, Manifest, MediaType, Memory, Side,
    Source, TagStream, Target, VerifyOptions, copy, verify,
};
use scripted::client::{Nobody, repository};
use scripted::{Asked, Reply, Server};

const CONTENT: [&[u8]; 2] = [b"one and ", b"two"];

/// What comes in place of the second half of the content.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// The second half, after so long.
    After(Duration),
    Failure,
}

/// An artifact of one blob, which does not come at once.
#[derive(Debug)]
struct Slow {
    manifest: Manifest,
    then: Then,
}

impl Slow {
    fn new(then: Then) -> Self {
        let content = CONTENT.concat();
        let (digest, size) = (Digest::sha256(&content), content.len() as u64);
        let config = Descriptor::new(MediaType::OCTET_STREAM, digest, size);
        let manifest = Manifest::from_image(ImageManifest::new("a/b".into(), config)).unwrap();
        Self { manifest, then }
    }
}

#[async_trait::async_trait]
impl Source for Slow {
    async fn manifest(&self, _: &Identifier) -> oci_registry::Result<Manifest> {
        Ok(self.manifest.clone())
    }

    async fn blob(&self, descriptor: &Descriptor) -> oci_registry::Result<BlobStream> {
        let [first, second] = CONTENT.map(|piece| Ok(Bytes::from_static(piece)));
        let then = self.then;
        let rest = stream::once(async move {
            match then {
                Then::After(time) => {
                    scripted::pass(time).await;
                    second
                }
                Then::Failure => {
                    let failure = std::io::Error::other("it stood still");
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

/// A registry that takes whatever it is sent.
async fn taker() -> Server {
    Server::start(|asked: &Asked, before| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", format!("/upload/{before}")),
        "PUT" if asked.target.contains("/manifests/") => {
            let digest = Digest::sha256(&asked.body);
            Reply::new(201).header("Docker-Content-Digest", digest)
        }
        _ => Reply::new(201),
    })
    .await
}

async fn copied(then: Then) -> (oci_registry::Result<Manifest>, Vec<String>) {
    let server = taker().await;
    let target = repository(&server, Nobody, Access::Push);
    let slow = Slow::new(then);
    let root = Identifier::Digest(slow.manifest.digest().clone());
    let source: Arc<dyn Source> = Arc::new(slow);
    let outcome = copy(&source, &root, &target, CopyOptions::default()).await;
    let puts = server.lines().into_iter();
    let puts = puts.filter(|line| line.starts_with("PUT /upload"));
    (outcome, puts.collect())
}

#[tokio::test]
async fn a_source_that_takes_its_time_makes_the_target_no_idler() {
    let (outcome, puts) = copied(Then::After(Duration::from_mins(5))).await;
    outcome.unwrap();
    assert_eq!(puts.len(), 1, "{puts:?}");
}

#[tokio::test]
async fn a_source_that_fails_under_way_is_the_one_that_failed() {
    let (outcome, _) = copied(Then::Failure).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.side(), Some(Side::Source), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Network);
    let digest = Digest::sha256(&CONTENT.concat());
    assert_eq!(error.to_string(), format!("failed to read `slow:{digest}`"));
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "it stood still");
}

// ---- layers that may not be passed on

const KINDS: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// An image with a layer of this kind, which is there or not.
async fn with_layer(kind: &str, is_there: bool) -> (Memory, Manifest) {
    let memory = Memory::new();
    let layer = Blob::from_bytes(kind.into(), "licensed");
    let config = Blob::empty();
    memory.push_blob(&config).await.unwrap();
    if is_there {
        memory.push_blob(&layer).await.unwrap();
    }
    let mut image = ImageManifest::new("a/b".into(), config.descriptor().clone());
    let mut descriptor = layer.descriptor().clone();
    descriptor.urls = vec!["http://127.0.0.1:1/never/asked".into()];
    image.layers = vec![descriptor];
    let manifest = Manifest::from_image(image).unwrap();
    memory.push_manifest(&manifest).await.unwrap();
    (memory, manifest)
}

#[tokio::test]
async fn a_layer_that_may_not_be_passed_on_is_left_out_where_it_is_not_there() {
    for (kind, is_there) in KINDS
        .into_iter()
        .flat_map(|kind| [(kind, false), (kind, true)])
    {
        let (memory, manifest) = with_layer(kind, is_there).await;
        let source: Arc<dyn Source> = Arc::new(memory);
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::create(home.path().join("layout")).await.unwrap();
        let format = ArchiveFormat::Oci;
        let archive = Archive::create(home.path().join("archive"), format)
            .await
            .unwrap();
        let server = taker().await;
        let registry = repository(&server, Nobody, Access::Push);
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
            let expected = if is_there { vec![] } else { vec![layer] };
            assert_eq!(skipped.into_inner().unwrap(), expected, "{number}");
            if number == 2 {
                continue;
            }
            let verified = verify(target, &root, VerifyOptions::default())
                .await
                .unwrap();
            let (there, absent) = if is_there { (2, 0) } else { (1, 1) };
            assert_eq!(
                (verified.blobs, verified.skipped),
                (there, absent),
                "{number}"
            );
        }
    }
}

#[tokio::test]
async fn a_layer_that_only_names_other_places_must_be_there() {
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    let (memory, manifest) = with_layer(kind, true).await;
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
