//! Requirements on tags.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use snafu::ResultExt;

use super::fixture::{Fixture, WRITERS};
use super::outcome::{CheckResult, StepSnafu, expect};
use super::sample::{Sample, by_digest, by_tag, tag};
use crate::reference::Tag;

pub(super) async fn check_tag_moves(fixture: &Fixture) -> CheckResult {
    let (one, two, tag) = (Sample::image("one"), Sample::image("two"), tag("latest"));
    for sample in [&one, &two, &one] {
        fixture.push(sample).await?;
        fixture.tag(&sample.manifest, &tag).await?;
        fixture
            .expect_manifest(&by_tag(&tag), &sample.manifest)
            .await?;
    }
    expect(
        fixture.tags().await? == [tag],
        "a moved tag to be listed once",
    )?;
    fixture
        .expect_manifest(&by_digest(&two.manifest), &two.manifest)
        .await
}

pub(super) async fn check_repeated_tag(fixture: &Fixture) -> CheckResult {
    let (sample, tag) = (Sample::image("one"), tag("1"));
    fixture.push(&sample).await?;
    for _ in 0..3 {
        fixture.tag(&sample.manifest, &tag).await?;
    }
    expect(
        fixture.tags().await? == [tag.clone()],
        "a tag that was set again to be listed once",
    )?;
    fixture
        .expect_manifest(&by_tag(&tag), &sample.manifest)
        .await
}

pub(super) async fn check_tag_with_single_attempt(fixture: &Fixture) -> CheckResult {
    let (sample, tag) = (Sample::image("one"), tag("1"));
    fixture.push(&sample).await?;
    let tagged = fixture.target.tag_once(&sample.manifest, &tag).await;
    tagged.context(StepSnafu {
        step: "tag a manifest with a single attempt",
    })?;
    fixture
        .expect_manifest(&by_tag(&tag), &sample.manifest)
        .await
}

pub(super) async fn check_many_tags(fixture: &Fixture) -> CheckResult {
    let (one, two) = (Sample::image("one"), Sample::image("two"));
    let longest: Tag = "t"
        .repeat(128)
        .parse()
        .expect("a tag has at most 128 characters");
    fixture.push(&one).await?;
    fixture.push(&two).await?;
    let tags = [tag("1"), tag("_1.0-x__y"), longest];
    for tag in &tags {
        fixture.tag(&one.manifest, tag).await?;
    }
    fixture.tag(&two.manifest, &tags[0]).await?;
    fixture
        .expect_manifest(&by_tag(&tags[0]), &two.manifest)
        .await?;
    for tag in &tags[1..] {
        fixture.expect_manifest(&by_tag(tag), &one.manifest).await?;
    }
    expect(
        fixture.tags().await?.len() == tags.len(),
        "a moved tag to leave the other tags unchanged",
    )
}

pub(super) async fn check_tag_on_missing_manifest(fixture: &Fixture) -> CheckResult {
    let (absent, tag) = (Sample::image("absent"), tag("dangling"));
    let tagged = fixture.target.tag(&absent.manifest, &tag).await;
    if tagged.is_err() {
        fixture.expect_no_manifest(&by_tag(&tag)).await?;
        return expect(
            fixture.tags().await?.is_empty(),
            "a refused tag not to be listed",
        );
    }
    expect(
        !fixture.capabilities.refuses_tag_on_absent,
        "a tag on a missing manifest to be refused, as declared",
    )?;
    fixture
        .expect_manifest(&by_tag(&tag), &absent.manifest)
        .await
}

pub(super) async fn check_tag_list(fixture: &Fixture) -> CheckResult {
    let sample = Sample::image("one");
    fixture.push(&sample).await?;
    let mut expected = BTreeSet::new();
    for text in ["b", "a", "10", "9", "B", "1.0.0__x86_64-unknown-linux-gnu"] {
        fixture.tag(&sample.manifest, &tag(text)).await?;
        expected.insert(tag(text));
    }
    let listed = fixture.tags().await?;
    expect(
        listed.iter().eq(&expected),
        "all tags to be listed without duplicates",
    )
}

pub(super) async fn check_concurrent_tags(fixture: &Fixture) -> CheckResult {
    let samples: Vec<_> = (0..WRITERS)
        .map(|at| Sample::image(&format!("image {at}")))
        .collect();
    let tags: Vec<Tag> = (0..WRITERS)
        .map(|at| format!("t{at:02}").parse().expect("a tag"))
        .collect();
    let writers = samples.iter().zip(&tags).map(|(sample, tag)| async {
        fixture.push(sample).await?;
        fixture.tag(&sample.manifest, tag).await
    });
    try_join_all(writers).await?;
    expect(fixture.tags().await? == tags, "no tag to be lost")?;
    for (sample, tag) in samples.iter().zip(&tags) {
        fixture
            .expect_manifest(&by_tag(tag), &sample.manifest)
            .await?;
    }
    Ok(())
}
