//! The laws of tags.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use snafu::ResultExt;

use super::sample::{Sample, named, numbered, tag};
use super::{Place, StepSnafu, Verdict, WRITERS, expect};
use crate::reference::Tag;

pub(super) async fn tag_moves(place: &Place) -> Verdict {
    let (one, two, tag) = (Sample::image("one"), Sample::image("two"), tag("latest"));
    for sample in [&one, &two, &one] {
        place.push(sample).await?;
        place.tag(&sample.manifest, &tag).await?;
        place
            .expect_manifest(&named(&tag), &sample.manifest)
            .await?;
    }
    expect(
        place.tags().await? == [tag],
        "a tag that moved to be one tag",
    )?;
    place
        .expect_manifest(&numbered(&two.manifest), &two.manifest)
        .await
}

pub(super) async fn tag_again(place: &Place) -> Verdict {
    let (sample, tag) = (Sample::image("one"), tag("1"));
    place.push(&sample).await?;
    for _ in 0..3 {
        place.tag(&sample.manifest, &tag).await?;
    }
    expect(
        place.tags().await? == [tag.clone()],
        "a tag that was set again to be one tag",
    )?;
    place.expect_manifest(&named(&tag), &sample.manifest).await
}

pub(super) async fn tag_once(place: &Place) -> Verdict {
    let (sample, tag) = (Sample::image("one"), tag("1"));
    place.push(&sample).await?;
    let tagged = place.target.tag_once(&sample.manifest, &tag).await;
    tagged.context(StepSnafu {
        step: "tag a manifest once",
    })?;
    place.expect_manifest(&named(&tag), &sample.manifest).await
}

pub(super) async fn many_tags(place: &Place) -> Verdict {
    let (one, two) = (Sample::image("one"), Sample::image("two"));
    let longest: Tag = "t"
        .repeat(128)
        .parse()
        .expect("a tag has at most 128 characters");
    place.push(&one).await?;
    place.push(&two).await?;
    let tags = [tag("1"), tag("_1.0-x__y"), longest];
    for tag in &tags {
        place.tag(&one.manifest, tag).await?;
    }
    place.tag(&two.manifest, &tags[0]).await?;
    place
        .expect_manifest(&named(&tags[0]), &two.manifest)
        .await?;
    for tag in &tags[1..] {
        place.expect_manifest(&named(tag), &one.manifest).await?;
    }
    expect(
        place.tags().await?.len() == tags.len(),
        "a tag that moves to leave the others",
    )
}

pub(super) async fn tag_on_absent(place: &Place) -> Verdict {
    let (absent, tag) = (Sample::image("absent"), tag("dangling"));
    let tagged = place.target.tag(&absent.manifest, &tag).await;
    if tagged.is_err() {
        place.expect_no_manifest(&named(&tag)).await?;
        return expect(
            place.tags().await?.is_empty(),
            "a refused tag not to be listed",
        );
    }
    expect(
        !place.capabilities.refuses_tag_on_absent,
        "a tag on what is not there to be refused, as was declared",
    )?;
    place.expect_manifest(&named(&tag), &absent.manifest).await
}

pub(super) async fn tags_listed(place: &Place) -> Verdict {
    let sample = Sample::image("one");
    place.push(&sample).await?;
    let mut expected = BTreeSet::new();
    for text in ["b", "a", "10", "9", "B", "1.0.0__x86_64-unknown-linux-gnu"] {
        place.tag(&sample.manifest, &tag(text)).await?;
        expected.insert(tag(text));
    }
    let listed = place.tags().await?;
    expect(
        listed.iter().eq(&expected),
        "all tags to be listed, each once",
    )
}

pub(super) async fn tag_race(place: &Place) -> Verdict {
    let samples: Vec<_> = (0..WRITERS)
        .map(|at| Sample::image(&format!("image {at}")))
        .collect();
    let tags: Vec<Tag> = (0..WRITERS)
        .map(|at| format!("t{at:02}").parse().expect("a tag"))
        .collect();
    let writers = samples.iter().zip(&tags).map(|(sample, tag)| async {
        place.push(sample).await?;
        place.tag(&sample.manifest, tag).await
    });
    try_join_all(writers).await?;
    expect(place.tags().await? == tags, "no tag to be lost")?;
    for (sample, tag) in samples.iter().zip(&tags) {
        place.expect_manifest(&named(tag), &sample.manifest).await?;
    }
    Ok(())
}
