//! Requirements on copies to and from a target.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use snafu::ResultExt;

use super::capabilities::Capabilities;
use super::fixture::{Fixture, LIMIT};
use super::outcome::{CheckResult, StepSnafu, expect};
use super::sample::{Sample, by_digest, by_tag, nested_indexes, tag};
use crate::copy::{CopyEvent, CopyOptions, copy};
use crate::manifest::Manifest;
use crate::memory::Memory;
use crate::reference::{Identifier, Tag};
use crate::storage::Source;

/// Creates a graph in memory. Returns the memory and the root manifest.
async fn create_original(fixture: &Fixture) -> CheckResult<(Memory, Manifest)> {
    let memory = Fixture {
        target: Arc::new(Memory::new()),
        capabilities: Capabilities::default(),
    };
    let copied = Memory::new();
    let ((samples, inner), outer) = nested_indexes();
    for sample in &samples {
        memory.push(sample).await?;
    }
    memory.push_manifest(&inner).await?;
    memory.push_manifest(&outer).await?;
    let root = if fixture.capabilities.indexes {
        outer
    } else {
        samples[0].manifest.clone()
    };
    let source: Arc<dyn Source> = memory.target;
    let made = copy(&source, &by_digest(&root), &copied, CopyOptions::default()).await;
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

async fn copy_to_target(fixture: &Fixture, tag: &Tag) -> CheckResult<(Arc<dyn Source>, Manifest)> {
    let (memory, root) = create_original(fixture).await?;
    let source: Arc<dyn Source> = Arc::new(memory);
    let copied = copy(&source, &by_digest(&root), &*fixture.target, options(tag)).await;
    let copied = copied.context(StepSnafu {
        step: "copy to the target",
    })?;
    expect(
        copied.digest() == root.digest(),
        "a copy to have the digest of the original",
    )?;
    Ok((source, root))
}

/// Whether both sources have the same manifest for `root` and the same content below it.
fn is_same_graph<'a>(
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
                is_same_graph(one, two, &successor.digest.clone().into()).await?
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

async fn expect_same(one: &dyn Source, two: &dyn Source, root: &Identifier) -> CheckResult {
    let compared = is_same_graph(one, two, root).await;
    let is_same = compared.context(StepSnafu {
        step: "compare a copy with the original",
    })?;
    expect(is_same, "a copy to be equal to the original, byte for byte")
}

pub(super) async fn check_copy_to(fixture: &Fixture) -> CheckResult {
    let tag = tag("copied");
    let (source, root) = copy_to_target(fixture, &tag).await?;
    fixture.expect_manifest(&by_tag(&tag), &root).await?;
    expect_same(&*source, &*fixture.target, &by_digest(&root)).await
}

pub(super) async fn check_repeated_copy(fixture: &Fixture) -> CheckResult {
    let tag = tag("copied");
    let (source, root) = copy_to_target(fixture, &tag).await?;
    let sent = Mutex::new(0);
    let observer = |event: CopyEvent| {
        if !matches!(event, CopyEvent::Tag(..)) {
            *sent.lock().expect("the observer does not panic") += 1;
        }
    };
    let again = CopyOptions {
        observer: &observer,
        ..options(&tag)
    };
    let copied = copy(&source, &by_digest(&root), &*fixture.target, again).await;
    copied.context(StepSnafu {
        step: "copy to the target again",
    })?;
    let sent = *sent.lock().expect("the observer does not panic");
    expect(sent == 0, "a second copy to send nothing")
}

pub(super) async fn check_copy_from(fixture: &Fixture) -> CheckResult {
    let tag = tag("copied");
    let (original, root) = copy_to_target(fixture, &tag).await?;
    let back = Memory::new();
    let source: Arc<dyn Source> = fixture.target.clone();
    let copied = copy(&source, &by_tag(&tag), &back, options(&tag)).await;
    copied.context(StepSnafu {
        step: "copy from the target",
    })?;
    expect_same(&*original, &back, &by_digest(&root)).await
}

pub(super) async fn check_descriptions(fixture: &Fixture) -> CheckResult {
    let (sample, tag) = (Sample::image("one"), tag("1.2.3"));
    for identifier in [by_tag(&tag), by_digest(&sample.manifest)] {
        let description = fixture.target.describe(&identifier);
        expect(
            description.contains(&identifier.to_string()),
            "a description to contain the identifier",
        )?;
    }
    Ok(())
}
