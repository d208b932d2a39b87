//! The laws of manifests, and of indexes.

use super::sample::{Sample, index_of, named, nested, numbered, tag};
use super::{Place, Verdict, expect};
use crate::manifest::{Descriptor, Manifest, MediaType};

pub(super) async fn manifest_by_digest(place: &Place) -> Verdict {
    let sample = Sample::image("one");
    place.push(&sample).await?;
    place
        .expect_manifest(&numbered(&sample.manifest), &sample.manifest)
        .await?;
    expect(
        place.tags().await?.is_empty(),
        "a manifest that was not tagged to have no tag",
    )
}

pub(super) async fn manifest_by_tag(place: &Place) -> Verdict {
    let (sample, tag) = (Sample::image("one"), tag("1.0.0"));
    place.push(&sample).await?;
    place.tag(&sample.manifest, &tag).await?;
    place
        .expect_manifest(&named(&tag), &sample.manifest)
        .await?;
    place
        .expect_manifest(&numbered(&sample.manifest), &sample.manifest)
        .await
}

async fn kept_as_written(place: &Place, sample: &Sample) -> Verdict {
    let tag = tag("written");
    place.push(sample).await?;
    place
        .expect_manifest(&numbered(&sample.manifest), &sample.manifest)
        .await?;
    place.tag(&sample.manifest, &tag).await?;
    place
        .expect_manifest(&named(&tag), &sample.manifest)
        .await?;
    place
        .expect_manifest(&numbered(&sample.manifest), &sample.manifest)
        .await
}

fn json(descriptor: &Descriptor) -> String {
    serde_json::to_string(descriptor).expect("a descriptor serialises")
}

pub(super) async fn exact_bytes(place: &Place) -> Verdict {
    let sample = Sample::written("odd", |config, layer| {
        format!(
            "{{\n\t\"layers\" : [ {} ],\r\n  \"x.future\": {{ \"b\": [1.0, 1e2], \"a\": null }},\n\"config\":{},   \"mediaType\":\"{}\",\"schemaVersion\":2 }}\n",
            json(layer),
            json(config),
            MediaType::MANIFEST
        )
    });
    kept_as_written(place, &sample).await
}

pub(super) async fn silent_manifest(place: &Place) -> Verdict {
    let sample = Sample::written("silent", |config, layer| {
        format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            json(config),
            json(layer)
        )
    });
    kept_as_written(place, &sample).await
}

pub(super) async fn docker_manifest(place: &Place) -> Verdict {
    let sample = Sample::written("docker", |config, layer| {
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
    kept_as_written(place, &sample).await
}

pub(super) async fn manifest_again(place: &Place) -> Verdict {
    let (sample, tag) = (Sample::image("one"), tag("1"));
    place.push(&sample).await?;
    place.tag(&sample.manifest, &tag).await?;
    place.push_manifest(&sample.manifest).await?;
    place
        .expect_manifest(&named(&tag), &sample.manifest)
        .await?;
    expect(
        place.tags().await? == [tag],
        "the tags to be what they were",
    )
}

pub(super) async fn shared_content(place: &Place) -> Verdict {
    let one = Sample::image("one");
    let two = Sample::of(
        None,
        one.blobs[0].clone(),
        vec![one.blobs[1].clone(), one.blobs[1].clone()],
    );
    place.push(&one).await?;
    place.push_manifest(&two.manifest).await?;
    for sample in [&one, &two] {
        place
            .expect_manifest(&numbered(&sample.manifest), &sample.manifest)
            .await?;
    }
    Ok(())
}

pub(super) async fn absent_subject(place: &Place) -> Verdict {
    let subject = Sample::image("absent").manifest;
    let sample = Sample::image("about");
    let mut image = sample.manifest.as_image().expect("an image").clone();
    image.subject = Some(subject.descriptor());
    let manifest = Manifest::from_image(image).expect("a small manifest");
    place
        .push(&Sample {
            manifest: manifest.clone(),
            ..sample
        })
        .await?;
    place
        .expect_manifest(&numbered(&manifest), &manifest)
        .await?;
    place.expect_no_manifest(&numbered(&subject)).await
}

pub(super) async fn artifact(place: &Place) -> Verdict {
    let (sample, tag) = (Sample::artifact(), tag("note"));
    place.push(&sample).await?;
    place
        .expect_manifest(&numbered(&sample.manifest), &sample.manifest)
        .await?;
    if place.capabilities.artifacts {
        place.tag(&sample.manifest, &tag).await?;
        return place.expect_manifest(&named(&tag), &sample.manifest).await;
    }
    place.expect_tag_refused(&sample.manifest, &tag).await
}

pub(super) async fn incomplete(place: &Place) -> Verdict {
    let sample = Sample::image("incomplete");
    for present in 0..sample.blobs.len() {
        expect_incomplete(place, &sample.manifest).await?;
        place.push_blob(&sample.blobs[present]).await?;
    }
    place.push_manifest(&sample.manifest).await?;
    place
        .expect_manifest(&numbered(&sample.manifest), &sample.manifest)
        .await
}

async fn expect_incomplete(place: &Place, manifest: &Manifest) -> Verdict {
    if place.capabilities.refuses_incomplete {
        let pushed = place.target.push_manifest(manifest).await;
        expect(
            pushed.is_err(),
            "a manifest whose content is missing to be refused, as was declared",
        )?;
        return place.expect_no_manifest(&numbered(manifest)).await;
    }
    place.push_manifest(manifest).await?;
    place.expect_manifest(&numbered(manifest), manifest).await
}

pub(super) async fn index(place: &Place) -> Verdict {
    let (one, two, tag) = (Sample::image("one"), Sample::image("two"), tag("1"));
    place.push(&one).await?;
    place.push(&two).await?;
    let index = index_of(&[&one.manifest, &two.manifest]);
    place.push_manifest(&index).await?;
    place.expect_manifest(&numbered(&index), &index).await?;
    if !place.capabilities.indexes {
        return place.expect_tag_refused(&index, &tag).await;
    }
    place.tag(&index, &tag).await?;
    place.expect_manifest(&named(&tag), &index).await?;
    for entry in &index.as_index().expect("an index").manifests {
        let found = place.manifest(&entry.digest.clone().into()).await?;
        expect(
            found.bytes().len() as u64 == entry.size,
            "an entry to be the manifest it names",
        )?;
    }
    expect(
        place.tags().await? == [tag],
        "the tag of an index to be the only tag",
    )
}

pub(super) async fn nested_index(place: &Place) -> Verdict {
    let (inner, outer) = nested();
    for sample in &inner.0 {
        place.push(sample).await?;
    }
    place.push_manifest(&inner.1).await?;
    place.push_manifest(&outer).await?;
    place.expect_manifest(&numbered(&inner.1), &inner.1).await?;
    place.expect_manifest(&numbered(&outer), &outer).await
}

pub(super) async fn incomplete_index(place: &Place) -> Verdict {
    let (one, absent) = (Sample::image("one"), Sample::image("absent"));
    place.push(&one).await?;
    let index = index_of(&[&one.manifest, &absent.manifest]);
    expect_incomplete(place, &index).await
}
