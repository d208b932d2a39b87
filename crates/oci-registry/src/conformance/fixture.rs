//! Fixture of one requirement: a fresh target, and operations that check their results.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::TryStreamExt;
use snafu::ResultExt;

use super::capabilities::Capabilities;
use super::outcome::{CheckResult, StepSnafu, expect, expect_failure};
use super::sample::{self, Sample, Script, ScriptedContent, by_tag};
use crate::blob::Blob;
use crate::error::{ErrorKind, Optional};
use crate::manifest::{Descriptor, Manifest};
use crate::reference::{Identifier, Tag};
use crate::storage::{Delivery, Target};

/// Maximum number of bytes that are read from a blob. All blobs of the requirements are smaller.
pub(super) const LIMIT: usize = 16 << 20;

/// Number of concurrent writers.
pub(super) const WRITERS: usize = 16;

/// Fresh target and its declared capabilities.
pub(super) struct Fixture {
    pub(super) target: Arc<dyn Target>,
    pub(super) capabilities: Capabilities,
}

impl Fixture {
    pub(super) async fn push_blob(&self, blob: &Blob) -> CheckResult<Delivery> {
        let pushed = self.target.push_blob(blob).await;
        pushed.context(StepSnafu {
            step: "push a blob",
        })
    }

    pub(super) async fn push(&self, sample: &Sample) -> CheckResult {
        for blob in &sample.blobs {
            self.push_blob(blob).await?;
        }
        self.push_manifest(&sample.manifest).await
    }

    pub(super) async fn push_manifest(&self, manifest: &Manifest) -> CheckResult {
        let pushed = self.target.push_manifest(manifest).await;
        pushed.context(StepSnafu {
            step: "push a manifest",
        })
    }

    pub(super) async fn tag(&self, manifest: &Manifest, tag: &Tag) -> CheckResult {
        let tagged = self.target.tag(manifest, tag).await;
        tagged.context(StepSnafu {
            step: "tag a manifest",
        })
    }

    pub(super) async fn manifest(&self, identifier: &Identifier) -> CheckResult<Manifest> {
        let found = self.target.manifest(identifier).await;
        found.context(StepSnafu {
            step: "fetch a manifest",
        })
    }

    pub(super) async fn exists(&self, descriptor: &Descriptor) -> CheckResult<bool> {
        let exists = self.target.exists(descriptor).await;
        exists.context(StepSnafu {
            step: "check that content exists",
        })
    }

    pub(super) async fn read(&self, descriptor: &Descriptor) -> crate::Result<Bytes> {
        self.target.blob(descriptor).await?.read_to_end(LIMIT).await
    }

    pub(super) async fn expect_blob(&self, descriptor: &Descriptor, content: &[u8]) -> CheckResult {
        let read = self.read(descriptor).await;
        let read = read.context(StepSnafu {
            step: "read a blob back",
        })?;
        expect(
            read == content,
            "the bytes of a blob to be the pushed bytes",
        )?;
        let exists = self.exists(descriptor).await?;
        expect(exists, "a blob that can be read to exist")
    }

    /// Checks that all operations of the target return this manifest for the identifier.
    pub(super) async fn expect_manifest(
        &self,
        identifier: &Identifier,
        expected: &Manifest,
    ) -> CheckResult {
        let found = self.manifest(identifier).await?;
        expect(
            found.bytes() == expected.bytes(),
            "the bytes of a manifest to be the pushed bytes",
        )?;
        expect(
            found.digest() == expected.digest(),
            "the digest of a manifest not to change",
        )?;
        expect(
            found.media_type() == expected.media_type(),
            "the media type of a manifest not to change",
        )?;
        let resolved = self.target.resolve(identifier).await;
        let resolved = resolved.context(StepSnafu {
            step: "resolve a manifest",
        })?;
        let descriptor = expected.descriptor();
        let actual = (&resolved.digest, resolved.size, &resolved.media_type);
        let expected_fields = (&descriptor.digest, descriptor.size, &descriptor.media_type);
        expect(
            actual == expected_fields,
            "resolving to return digest, size and media type of the manifest",
        )?;
        let exists = self.exists(&descriptor).await?;
        expect(exists, "a manifest that can be fetched to exist")
    }

    pub(super) async fn expect_no_blob(&self, descriptor: &Descriptor) -> CheckResult {
        let exists = self.exists(descriptor).await?;
        expect(!exists, "a missing blob not to exist")?;
        let read = self.read(descriptor).await;
        expect_failure(read, ErrorKind::NotFound, "reading a missing blob")
    }

    pub(super) async fn expect_no_manifest(&self, identifier: &Identifier) -> CheckResult {
        let found = self.target.manifest(identifier).await;
        expect_failure(found, ErrorKind::NotFound, "fetching a missing manifest")?;
        let resolved = self.target.resolve(identifier).await;
        expect_failure(
            resolved,
            ErrorKind::NotFound,
            "resolving a missing manifest",
        )
    }

    /// Returns the tags in byte order. A registry may report an empty repository as missing.
    pub(super) async fn tags(&self) -> CheckResult<Vec<Tag>> {
        let tags: crate::Result<Vec<Tag>> = self.target.tags().try_collect().await;
        let tags = tags.optional().context(StepSnafu { step: "list tags" })?;
        let mut tags = tags.unwrap_or_default();
        tags.sort();
        Ok(tags)
    }

    /// Checks that the target refuses the scripted content and stores nothing, and that it accepts the correct content
    /// afterwards.
    pub(super) async fn expect_refused(
        &self,
        content: &'static str,
        script: Script,
        kind: ErrorKind,
    ) -> CheckResult {
        let right = sample::blob(content);
        let wrong = ScriptedContent::blob(right.descriptor().clone(), script);
        let pushed = self.target.push_blob(&wrong).await;
        expect_failure(
            pushed,
            kind,
            "pushing content that does not match its descriptor",
        )?;
        self.expect_no_blob(right.descriptor()).await?;
        self.push_blob(&right).await?;
        self.expect_blob(right.descriptor(), content.as_bytes())
            .await
    }

    /// Checks that the target refuses to set the tag and that the tag does not exist afterwards.
    pub(super) async fn expect_tag_refused(&self, manifest: &Manifest, tag: &Tag) -> CheckResult {
        let tagged = self.target.tag(manifest, tag).await;
        expect(tagged.is_err(), "a tag to be refused, as declared")?;
        self.expect_no_manifest(&by_tag(tag)).await?;
        expect(
            !self.tags().await?.contains(tag),
            "a refused tag not to be listed",
        )
    }
}
