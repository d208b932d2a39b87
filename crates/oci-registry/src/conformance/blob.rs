//! The laws of blobs.

use std::io::{Seek, Write};

use futures_util::future::try_join_all;
use futures_util::stream::StreamExt;
use snafu::ResultExt;

use super::sample::{Sample, Script, Scripted, blob, large, large_pieces, named, numbered, tag};
use super::{Breach, Place, StepSnafu, Verdict, WRITERS, expect, fails};
use crate::blob::Meter;
use crate::digest::{Algorithm, Digest};
use crate::error::ErrorKind;
use crate::manifest::{Descriptor, MediaType};
use crate::storage::Delivery;

pub(super) async fn empty_place(place: &Place) -> Verdict {
    expect(place.tags().await?.is_empty(), "no tags")?;
    let absent = Sample::image("absent");
    place.expect_no_blob(absent.blobs[0].descriptor()).await?;
    place
        .expect_no_manifest(&numbered(&absent.manifest))
        .await?;
    place.expect_no_manifest(&named(&tag("absent"))).await?;
    let exists = place.exists(&absent.manifest.descriptor()).await?;
    expect(!exists, "a manifest that is not there not to exist")
}

pub(super) async fn blob_reads_back(place: &Place) -> Verdict {
    let blob = blob("some content\0\r\n\u{fc}");
    let delivery = place.push_blob(&blob).await?;
    expect(
        delivery == Delivery::Uploaded,
        "the first push of a blob to upload it",
    )?;
    for _ in 0..2 {
        place
            .expect_blob(blob.descriptor(), "some content\0\r\n\u{fc}".as_bytes())
            .await?;
    }
    Ok(())
}

pub(super) async fn empty_blob(place: &Place) -> Verdict {
    let blob = blob("");
    place.push_blob(&blob).await?;
    place.expect_blob(blob.descriptor(), b"").await?;
    expect(
        place.push_blob(&blob).await? == Delivery::Existed,
        "a blob without bytes to exist",
    )
}

pub(super) async fn large_blob(place: &Place) -> Verdict {
    let blob = large();
    place.push_blob(&blob).await?;
    let opened = place.target.blob(blob.descriptor()).await;
    let mut stream = opened.context(StepSnafu {
        step: "open the large blob",
    })?;
    let mut expected = large_pieces().flatten();
    while let Some(piece) = stream.next().await {
        let piece = piece.context(StepSnafu {
            step: "read the large blob",
        })?;
        let same = piece.iter().all(|byte| expected.next() == Some(*byte));
        expect(same, "the large blob's bytes to be those that were pushed")?;
    }
    expect(
        expected.next().is_none(),
        "the large blob to be read to its end",
    )
}

pub(super) async fn sha512_blob(place: &Place) -> Verdict {
    let content = "content with a long name";
    let digest = Algorithm::Sha512.digest(content.as_bytes());
    let promised = Descriptor::new(MediaType::OCTET_STREAM, digest, content.len() as u64);
    let blob = Scripted::blob(promised.clone(), Script::Other(content));
    if place.capabilities.sha512 {
        place.push_blob(&blob).await?;
        place.expect_blob(&promised, content.as_bytes()).await?;
        let delivery = place.push_blob(&blob).await?;
        return expect(
            delivery == Delivery::Existed,
            "a blob to exist under the name it was pushed with",
        );
    }
    let refused = place.target.push_blob(&blob).await.is_err();
    expect(
        refused,
        "a blob named by sha512 to be refused, as was declared",
    )
}

pub(super) async fn pushed_file(place: &Place) -> Verdict {
    let mut file = tempfile::NamedTempFile::new().map_err(own)?;
    for content in [b"a small file".to_vec(), vec![7; 5 << 20]] {
        file.as_file_mut().set_len(0).map_err(own)?;
        file.rewind().map_err(own)?;
        file.write_all(&content).map_err(own)?;
        for expected in [Delivery::Uploaded, Delivery::Existed] {
            let pushed = place
                .target
                .push_file("text/plain".into(), file.path(), &Meter::default())
                .await;
            let (blob, delivery) = pushed.context(StepSnafu {
                step: "push a file",
            })?;
            expect(delivery == expected, "a file to be uploaded once")?;
            let is_named =
                *blob.digest() == Digest::sha256(&content) && blob.size() == content.len() as u64;
            expect(
                is_named,
                "a pushed file to be named by its own digest and size",
            )?;
            place.expect_blob(blob.descriptor(), &content).await?;
        }
    }
    Ok(())
}

/// A failure of the laws' own files.
fn own(error: std::io::Error) -> Breach {
    Breach::Step {
        step: "write a file to push",
        source: crate::Error::new(ErrorKind::Io, error),
    }
}

pub(super) async fn blob_again(place: &Place) -> Verdict {
    let blob = blob("once");
    place.push_blob(&blob).await?;
    let closed = Scripted::blob(blob.descriptor().clone(), Script::Closed);
    let delivery = place.push_blob(&closed).await?;
    expect(
        delivery == Delivery::Existed,
        "a blob that is there to have existed",
    )?;
    place.expect_blob(blob.descriptor(), b"once").await
}

pub(super) async fn blob_race(place: &Place) -> Verdict {
    let blob = blob("wanted by many");
    try_join_all((0..WRITERS).map(|_| place.push_blob(&blob))).await?;
    place
        .expect_blob(blob.descriptor(), b"wanted by many")
        .await
}

pub(super) async fn wrong_digest(place: &Place) -> Verdict {
    place
        .expect_refused("right", Script::Other("wrong"), ErrorKind::Mismatch)
        .await
}

pub(super) async fn too_short(place: &Place) -> Verdict {
    place
        .expect_refused(
            "short of the end",
            Script::Other("short"),
            ErrorKind::Mismatch,
        )
        .await
}

pub(super) async fn too_long(place: &Place) -> Verdict {
    place
        .expect_refused("on", Script::Other("on and on"), ErrorKind::Mismatch)
        .await
}

pub(super) async fn broken_off(place: &Place) -> Verdict {
    place
        .expect_refused("broken off", Script::BreaksOff("broken"), ErrorKind::Io)
        .await
}

pub(super) async fn unverifiable(place: &Place) -> Verdict {
    let digest = "blake3:af1349b9f5f9a1a6a0404dea36dcc949";
    let digest = digest.parse().expect("the digest fits the grammar");
    let promised = Descriptor::new(MediaType::OCTET_STREAM, digest, 5);
    let blob = Scripted::blob(promised.clone(), Script::Other("bytes"));
    expect(
        place.target.push_blob(&blob).await.is_err(),
        "unverifiable content not to be taken",
    )?;
    expect(
        place.read(&promised).await.is_err(),
        "unverifiable content not to be given",
    )
}

pub(super) async fn other_size(place: &Place) -> Verdict {
    let blob = blob("nine bytes");
    place.push_blob(&blob).await?;
    let other = |size| Descriptor::new(MediaType::OCTET_STREAM, blob.digest().clone(), size);
    fails(
        place.read(&other(3)).await,
        ErrorKind::Mismatch,
        "reading a blob under a smaller size",
    )?;
    // Content that ends early may be a connection that did.
    let larger = place.read(&other(30)).await;
    let is_told =
        larger.is_err_and(|error| matches!(error.kind(), ErrorKind::Mismatch | ErrorKind::Network));
    expect(is_told, "a blob not to be given under a larger size")?;
    place.expect_blob(blob.descriptor(), b"nine bytes").await
}
