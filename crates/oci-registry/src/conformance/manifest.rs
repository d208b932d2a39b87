//! Requirements on manifests and indexes.

use super::fixture::Fixture;
use super::outcome::{CheckResult, expect};
use super::sample::{Sample, by_digest, by_tag, index_of, nested_indexes, tag};
use crate::manifest::{Descriptor, Manifest, MediaType};

pub(super) async fn check_manifest_by_digest(fixture: &Fixture) -> CheckResult {
    let sample = Sample::image("one");
    fixture.push(&sample).await?;
    fixture
        .expect_manifest(&by_digest(&sample.manifest), &sample.manifest)
        .await?;
    expect(
        fixture.tags().await?.is_empty(),
        "an untagged manifest to have no tag",
    )
}

pub(super) async fn check_manifest_by_tag(fixture: &Fixture) -> CheckResult {
    let (sample, tag) = (Sample::image("one"), tag("1.0.0"));
    fixture.push(&sample).await?;
    fixture.tag(&sample.manifest, &tag).await?;
    fixture
        .expect_manifest(&by_tag(&tag), &sample.manifest)
        .await?;
    fixture
        .expect_manifest(&by_digest(&sample.manifest), &sample.manifest)
        .await
}

async fn expect_unchanged(fixture: &Fixture, sample: &Sample) -> CheckResult {
    let tag = tag("written");
    fixture.push(sample).await?;
    fixture
        .expect_manifest(&by_digest(&sample.manifest), &sample.manifest)
        .await?;
    fixture.tag(&sample.manifest, &tag).await?;
    fixture
        .expect_manifest(&by_tag(&tag), &sample.manifest)
        .await?;
    fixture
        .expect_manifest(&by_digest(&sample.manifest), &sample.manifest)
        .await
}

fn json(descriptor: &Descriptor) -> String {
    serde_json::to_string(descriptor).expect("a descriptor serializes")
}

pub(super) async fn check_exact_bytes(fixture: &Fixture) -> CheckResult {
    let sample = Sample::with_manifest_text("odd", |config, layer| {
        format!(
            "{{\n\t\"layers\" : [ {} ],\r\n  \"x.future\": {{ \"b\": [1.0, 1e2], \"a\": null }},\n\"config\":{},   \"mediaType\":\"{}\",\"schemaVersion\":2 }}\n",
            json(layer),
            json(config),
            MediaType::MANIFEST
        )
    });
    expect_unchanged(fixture, &sample).await
}

pub(super) async fn check_manifest_without_media_type(fixture: &Fixture) -> CheckResult {
    let sample = Sample::with_manifest_text("no media type", |config, layer| {
        format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            json(config),
            json(layer)
        )
    });
    expect_unchanged(fixture, &sample).await
}

pub(super) async fn check_docker_manifest(fixture: &Fixture) -> CheckResult {
    let sample = Sample::with_manifest_text("docker", |config, layer| {
        let mut config = config.clone();
        config.media_type = "application/vnd.docker.container.image.v1+json".into();
        let mut layer = layer.clone();
        layer.media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            MediaType::DOCKER_MANIFEST,
            json(&config),
            json(&layer)
        )
    });
    expect_unchanged(fixture, &sample).await
}

pub(super) async fn check_repeated_manifest_push(fixture: &Fixture) -> CheckResult {
    let (sample, tag) = (Sample::image("one"), tag("1"));
    fixture.push(&sample).await?;
    fixture.tag(&sample.manifest, &tag).await?;
    fixture.push_manifest(&sample.manifest).await?;
    fixture
        .expect_manifest(&by_tag(&tag), &sample.manifest)
        .await?;
    expect(fixture.tags().await? == [tag], "the tags to stay the same")
}

pub(super) async fn check_shared_content(fixture: &Fixture) -> CheckResult {
    let one = Sample::image("one");
    let two = Sample::from_parts(
        None,
        one.blobs[0].clone(),
        vec![one.blobs[1].clone(), one.blobs[1].clone()],
    );
    fixture.push(&one).await?;
    fixture.push_manifest(&two.manifest).await?;
    for sample in [&one, &two] {
        fixture
            .expect_manifest(&by_digest(&sample.manifest), &sample.manifest)
            .await?;
    }
    Ok(())
}

pub(super) async fn check_absent_subject(fixture: &Fixture) -> CheckResult {
    let subject = Sample::image("absent").manifest;
    let sample = Sample::image("about");
    let mut image = sample.manifest.as_image().expect("an image").clone();
    image.subject = Some(subject.descriptor());
    let manifest = Manifest::from_image(image).expect("a small manifest");
    fixture
        .push(&Sample {
            manifest: manifest.clone(),
            ..sample
        })
        .await?;
    fixture
        .expect_manifest(&by_digest(&manifest), &manifest)
        .await?;
    fixture.expect_no_manifest(&by_digest(&subject)).await
}

pub(super) async fn check_artifact(fixture: &Fixture) -> CheckResult {
    let (sample, tag) = (Sample::artifact(), tag("note"));
    fixture.push(&sample).await?;
    fixture
        .expect_manifest(&by_digest(&sample.manifest), &sample.manifest)
        .await?;
    if fixture.capabilities.artifacts {
        fixture.tag(&sample.manifest, &tag).await?;
        return fixture
            .expect_manifest(&by_tag(&tag), &sample.manifest)
            .await;
    }
    fixture.expect_tag_refused(&sample.manifest, &tag).await
}

pub(super) async fn check_incomplete_manifest(fixture: &Fixture) -> CheckResult {
    let sample = Sample::image("incomplete");
    for present in 0..sample.blobs.len() {
        expect_incomplete(fixture, &sample.manifest).await?;
        fixture.push_blob(&sample.blobs[present]).await?;
    }
    fixture.push_manifest(&sample.manifest).await?;
    fixture
        .expect_manifest(&by_digest(&sample.manifest), &sample.manifest)
        .await
}

async fn expect_incomplete(fixture: &Fixture, manifest: &Manifest) -> CheckResult {
    if fixture.capabilities.refuses_incomplete {
        let pushed = fixture.target.push_manifest(manifest).await;
        expect(
            pushed.is_err(),
            "a manifest with missing content to be refused, as declared",
        )?;
        return fixture.expect_no_manifest(&by_digest(manifest)).await;
    }
    fixture.push_manifest(manifest).await?;
    fixture
        .expect_manifest(&by_digest(manifest), manifest)
        .await
}

pub(super) async fn check_index(fixture: &Fixture) -> CheckResult {
    let (one, two, tag) = (Sample::image("one"), Sample::image("two"), tag("1"));
    fixture.push(&one).await?;
    fixture.push(&two).await?;
    let index = index_of(&[&one.manifest, &two.manifest]);
    fixture.push_manifest(&index).await?;
    fixture.expect_manifest(&by_digest(&index), &index).await?;
    if !fixture.capabilities.indexes {
        return fixture.expect_tag_refused(&index, &tag).await;
    }
    fixture.tag(&index, &tag).await?;
    fixture.expect_manifest(&by_tag(&tag), &index).await?;
    for entry in &index.as_index().expect("an index").manifests {
        let found = fixture.manifest(&entry.digest.clone().into()).await?;
        expect(
            found.bytes().len() as u64 == entry.size,
            "an entry to state the size of its manifest",
        )?;
    }
    expect(
        fixture.tags().await? == [tag],
        "the tag of an index to be the only tag",
    )
}

pub(super) async fn check_nested_index(fixture: &Fixture) -> CheckResult {
    let (inner, outer) = nested_indexes();
    for sample in &inner.0 {
        fixture.push(sample).await?;
    }
    fixture.push_manifest(&inner.1).await?;
    fixture.push_manifest(&outer).await?;
    fixture
        .expect_manifest(&by_digest(&inner.1), &inner.1)
        .await?;
    fixture.expect_manifest(&by_digest(&outer), &outer).await
}

pub(super) async fn check_incomplete_index(fixture: &Fixture) -> CheckResult {
    let (one, absent) = (Sample::image("one"), Sample::image("absent"));
    fixture.push(&one).await?;
    let index = index_of(&[&one.manifest, &absent.manifest]);
    expect_incomplete(fixture, &index).await
}
