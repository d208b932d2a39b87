//! The laws of copies, to a place and from it.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use snafu::ResultExt;

use super::sample::{Sample, named, nested, numbered, tag};
use super::{Capabilities, LIMIT, Place, StepSnafu, Verdict, expect};
use crate::copy::{CopyEvent, CopyOptions, copy};
use crate::manifest::Manifest;
use crate::memory::Memory;
use crate::reference::{Identifier, Tag};
use crate::storage::Source;

/// A graph in memory, and what names its root.
async fn original(place: &Place) -> Verdict<(Memory, Manifest)> {
    let memory = Place {
        target: Arc::new(Memory::new()),
        capabilities: Capabilities::default(),
    };
    let copied = Memory::new();
    let ((samples, inner), outer) = nested();
    for sample in &samples {
        memory.push(sample).await?;
    }
    memory.push_manifest(&inner).await?;
    memory.push_manifest(&outer).await?;
    let root = if place.capabilities.indexes {
        outer
    } else {
        samples[0].manifest.clone()
    };
    let source: Arc<dyn Source> = memory.target;
    let made = copy(&source, &numbered(&root), &copied, CopyOptions::default()).await;
    made.context(StepSnafu {
        step: "copy within memory",
    })?;
    Ok((copied, root))
}

fn options(tag: &Tag) -> CopyOptions<'static> {
    CopyOptions {
        tags: vec![tag.clone()],
        ..CopyOptions::default()
    }
}

async fn copied_to(place: &Place, tag: &Tag) -> Verdict<(Arc<dyn Source>, Manifest)> {
    let (memory, root) = original(place).await?;
    let source: Arc<dyn Source> = Arc::new(memory);
    let copied = copy(&source, &numbered(&root), &*place.target, options(tag)).await;
    let copied = copied.context(StepSnafu { step: "copy to it" })?;
    expect(
        copied.digest() == root.digest(),
        "a copy to have the original's digest",
    )?;
    Ok((source, root))
}

/// Everything below `root` is the same at both ends.
fn same<'a>(
    one: &'a dyn Source,
    two: &'a dyn Source,
    root: &'a Identifier,
) -> BoxFuture<'a, crate::Result<bool>> {
    Box::pin(async move {
        let (manifest, other) = (one.manifest(root).await?, two.manifest(root).await?);
        if manifest != other || manifest.digest() != other.digest() {
            return Ok(false);
        }
        for successor in manifest.successors() {
            let is_same = if successor.media_type.is_manifest() {
                same(one, two, &successor.digest.clone().into()).await?
            } else {
                let one = one.blob(successor).await?.read_to_end(LIMIT).await?;
                one == two.blob(successor).await?.read_to_end(LIMIT).await?
            };
            if !is_same {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

async fn expect_same(one: &dyn Source, two: &dyn Source, root: &Identifier) -> Verdict {
    let compared = same(one, two, root).await;
    let is_same = compared.context(StepSnafu {
        step: "compare a copy with the original",
    })?;
    expect(is_same, "a copy to be the original, byte for byte")
}

pub(super) async fn copy_to(place: &Place) -> Verdict {
    let tag = tag("copied");
    let (source, root) = copied_to(place, &tag).await?;
    place.expect_manifest(&named(&tag), &root).await?;
    expect_same(&*source, &*place.target, &numbered(&root)).await
}

pub(super) async fn copy_again(place: &Place) -> Verdict {
    let tag = tag("copied");
    let (source, root) = copied_to(place, &tag).await?;
    let sent = Mutex::new(0);
    let observer = |event: CopyEvent| {
        if !matches!(event, CopyEvent::Tag(..)) {
            *sent.lock().expect("nobody panics while counting") += 1;
        }
    };
    let again = CopyOptions {
        observer: &observer,
        ..options(&tag)
    };
    let copied = copy(&source, &numbered(&root), &*place.target, again).await;
    copied.context(StepSnafu {
        step: "copy to it again",
    })?;
    let sent = *sent.lock().expect("nobody panics while counting");
    expect(sent == 0, "nothing to be sent that is there")
}

pub(super) async fn copy_from(place: &Place) -> Verdict {
    let tag = tag("copied");
    let (original, root) = copied_to(place, &tag).await?;
    let back = Memory::new();
    let source: Arc<dyn Source> = place.target.clone();
    let copied = copy(&source, &named(&tag), &back, options(&tag)).await;
    copied.context(StepSnafu {
        step: "copy from it",
    })?;
    expect_same(&*original, &back, &numbered(&root)).await
}

pub(super) async fn described(place: &Place) -> Verdict {
    let (sample, tag) = (Sample::image("one"), tag("1.2.3"));
    for identifier in [named(&tag), numbered(&sample.manifest)] {
        let description = place.target.describe(&identifier);
        expect(
            description.contains(&identifier.to_string()),
            "a description to hold the identifier",
        )?;
    }
    Ok(())
}
