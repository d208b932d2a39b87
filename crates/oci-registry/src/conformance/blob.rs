//! Requirements on blobs.

use std::io::{Seek, Write};

use futures_util::future::try_join_all;
use futures_util::stream::StreamExt;
use snafu::ResultExt;

use super::fixture::{Fixture, WRITERS};
use super::outcome::{CheckResult, StepSnafu, Violation, expect, expect_failure};
use super::sample::{
    Sample, Script, ScriptedContent, blob, by_digest, by_tag, large_blob, large_pieces, tag,
};
use crate::blob::Meter;
use crate::digest::{Algorithm, Digest};
use crate::error::ErrorKind;
use crate::manifest::{Descriptor, MediaType};
use crate::storage::Delivery;

pub(super) async fn check_empty_target(fixture: &Fixture) -> CheckResult {
    expect(fixture.tags().await?.is_empty(), "no tags")?;
    let absent = Sample::image("absent");
    fixture.expect_no_blob(absent.blobs[0].descriptor()).await?;
    fixture
        .expect_no_manifest(&by_digest(&absent.manifest))
        .await?;
    fixture.expect_no_manifest(&by_tag(&tag("absent"))).await?;
    let exists = fixture.exists(&absent.manifest.descriptor()).await?;
    expect(!exists, "a missing manifest not to exist")
}

pub(super) async fn check_blob_reads_back(fixture: &Fixture) -> CheckResult {
    let blob = blob("some content\0\r\n\u{fc}");
    let delivery = fixture.push_blob(&blob).await?;
    expect(
        delivery == Delivery::Uploaded,
        "the first push of a blob to upload it",
    )?;
    for _ in 0..2 {
        fixture
            .expect_blob(blob.descriptor(), "some content\0\r\n\u{fc}".as_bytes())
            .await?;
    }
    Ok(())
}

pub(super) async fn check_empty_blob(fixture: &Fixture) -> CheckResult {
    let blob = blob("");
    fixture.push_blob(&blob).await?;
    fixture.expect_blob(blob.descriptor(), b"").await?;
    expect(
        fixture.push_blob(&blob).await? == Delivery::Existed,
        "an empty blob to exist",
    )
}

pub(super) async fn check_large_blob(fixture: &Fixture) -> CheckResult {
    let blob = large_blob();
    fixture.push_blob(&blob).await?;
    let opened = fixture.target.blob(blob.descriptor()).await;
    let mut stream = opened.context(StepSnafu {
        step: "open the large blob",
    })?;
    let mut expected = large_pieces().flatten();
    while let Some(piece) = stream.next().await {
        let piece = piece.context(StepSnafu {
            step: "read the large blob",
        })?;
        let same = piece.iter().all(|byte| expected.next() == Some(*byte));
        expect(same, "the bytes of the large blob to be the pushed bytes")?;
    }
    expect(
        expected.next().is_none(),
        "the large blob to be read to its end",
    )
}

pub(super) async fn check_sha512_blob(fixture: &Fixture) -> CheckResult {
    let content = "content with a long name";
    let digest = Algorithm::Sha512.digest(content.as_bytes());
    let descriptor = Descriptor::new(MediaType::OCTET_STREAM, digest, content.len() as u64);
    let blob = ScriptedContent::blob(descriptor.clone(), Script::Other(content));
    if fixture.capabilities.sha512 {
        fixture.push_blob(&blob).await?;
        fixture.expect_blob(&descriptor, content.as_bytes()).await?;
        let delivery = fixture.push_blob(&blob).await?;
        return expect(
            delivery == Delivery::Existed,
            "a blob to exist under the digest that it was pushed with",
        );
    }
    let refused = fixture.target.push_blob(&blob).await.is_err();
    expect(
        refused,
        "a blob with a sha512 digest to be refused, as declared",
    )
}

pub(super) async fn check_pushed_file(fixture: &Fixture) -> CheckResult {
    let mut file = tempfile::NamedTempFile::new().map_err(temporary_file_error)?;
    for content in [b"a small file".to_vec(), vec![7; 5 << 20]] {
        file.as_file_mut()
            .set_len(0)
            .map_err(temporary_file_error)?;
        file.rewind().map_err(temporary_file_error)?;
        file.write_all(&content).map_err(temporary_file_error)?;
        for expected in [Delivery::Uploaded, Delivery::Existed] {
            let pushed = fixture
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
                "a pushed file to have the digest and size of its content",
            )?;
            fixture.expect_blob(blob.descriptor(), &content).await?;
        }
    }
    Ok(())
}

/// Converts an I/O error of the pushed temporary file into a violation of the requirement.
fn temporary_file_error(error: std::io::Error) -> Violation {
    Violation::Step {
        step: "write a file to push",
        source: crate::Error::new(ErrorKind::Io, error),
    }
}

pub(super) async fn check_repeated_blob_push(fixture: &Fixture) -> CheckResult {
    let blob = blob("once");
    fixture.push_blob(&blob).await?;
    let closed = ScriptedContent::blob(blob.descriptor().clone(), Script::MustNotOpen);
    let delivery = fixture.push_blob(&closed).await?;
    expect(
        delivery == Delivery::Existed,
        "an existing blob to be reported as existing",
    )?;
    fixture.expect_blob(blob.descriptor(), b"once").await
}

pub(super) async fn check_concurrent_blob_pushes(fixture: &Fixture) -> CheckResult {
    let blob = blob("wanted by many");
    try_join_all((0..WRITERS).map(|_| fixture.push_blob(&blob))).await?;
    fixture
        .expect_blob(blob.descriptor(), b"wanted by many")
        .await
}

pub(super) async fn check_wrong_digest(fixture: &Fixture) -> CheckResult {
    fixture
        .expect_refused("right", Script::Other("wrong"), ErrorKind::Mismatch)
        .await
}

pub(super) async fn check_too_short_content(fixture: &Fixture) -> CheckResult {
    fixture
        .expect_refused(
            "short of the end",
            Script::Other("short"),
            ErrorKind::Mismatch,
        )
        .await
}

pub(super) async fn check_too_long_content(fixture: &Fixture) -> CheckResult {
    fixture
        .expect_refused("on", Script::Other("on and on"), ErrorKind::Mismatch)
        .await
}

pub(super) async fn check_failing_content(fixture: &Fixture) -> CheckResult {
    fixture
        .expect_refused("interrupted", Script::FailsAfter("inter"), ErrorKind::Io)
        .await
}

pub(super) async fn check_unverifiable_content(fixture: &Fixture) -> CheckResult {
    let digest = "blake3:af1349b9f5f9a1a6a0404dea36dcc949";
    let digest = digest.parse().expect("the digest fits the grammar");
    let descriptor = Descriptor::new(MediaType::OCTET_STREAM, digest, 5);
    let blob = ScriptedContent::blob(descriptor.clone(), Script::Other("bytes"));
    expect(
        fixture.target.push_blob(&blob).await.is_err(),
        "the push of an unverifiable blob to fail",
    )?;
    expect(
        fixture.read(&descriptor).await.is_err(),
        "the read of an unverifiable blob to fail",
    )
}

pub(super) async fn check_wrong_size(fixture: &Fixture) -> CheckResult {
    let blob = blob("nine bytes");
    fixture.push_blob(&blob).await?;
    let other = |size| Descriptor::new(MediaType::OCTET_STREAM, blob.digest().clone(), size);
    expect_failure(
        fixture.read(&other(3)).await,
        ErrorKind::Mismatch,
        "reading a blob under a smaller size",
    )?;
    // A target may report truncated content as a lost connection.
    let larger = fixture.read(&other(30)).await;
    let is_reported =
        larger.is_err_and(|error| matches!(error.kind(), ErrorKind::Mismatch | ErrorKind::Network));
    expect(is_reported, "the read of a blob with a larger size to fail")?;
    fixture.expect_blob(blob.descriptor(), b"nine bytes").await
}
