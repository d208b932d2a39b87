//! Details of tags and manifests, including values that need further requests.
//!
//! [`TagDetailsFetcher`] completes a [`Summary`]: it reads sizes from the manifests of an index, and the date and the
//! platform from the config of an image. If annotations already state a value, it is not fetched. The summary of each
//! manifest is computed once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use jiff::Timestamp;
use oci_registry::{
    Annotations, Descriptor, Digest, ErrorKind, Identifier, Index, Manifest, MediaType, Platform,
    Result, Source, Tag,
};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use crate::{ListedTag, Summary, annotation, platform};

/// Maximum size of an image config that is read for its date, in bytes.
const MAX_CONFIG: usize = 1 << 20;

/// Maximum number of manifests of an index that are fetched for their sizes.
const MAX_CHILDREN: usize = 64;

/// Limiter for concurrent requests. All clones share one limit.
#[derive(Clone, Debug)]
pub struct Concurrency {
    permits: Arc<Semaphore>,
    limit: usize,
}

impl Concurrency {
    /// Allows up to `limit` concurrent requests, at least one.
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            limit,
        }
    }
}

/// Tag and the details of its manifest.
#[derive(Debug)]
#[non_exhaustive]
pub struct TagDetails {
    /// The tag.
    pub tag: Tag,
    /// Targets of an incomplete version ([`ListedTag::incomplete_targets`]).
    pub incomplete_targets: Option<Vec<String>>,
    /// Details of the manifest. `None` for an incomplete version, if the tag was deleted after it was listed, if the
    /// media type is no longer supported, or if the manifest cannot be read.
    pub details: Option<Details>,
    /// Error that occurred while the manifest was read, if the error affects only this manifest
    /// ([`is_document_error`]).
    pub error: Option<oci_registry::Error>,
}

/// Details of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Details {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Media type of the manifest.
    pub media_type: MediaType,
    /// Annotations of the manifest.
    pub annotations: Annotations,
    /// Size, date, platforms, targets and artifact type, completed from other documents.
    pub summary: Summary,
}

/// Fetcher for the details of manifests in one repository. All clones share the fetched summaries.
#[derive(Clone, Debug)]
pub struct TagDetailsFetcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Arc<dyn Source>,
    concurrency: Concurrency,
    summaries: Mutex<HashMap<Digest, Arc<OnceCell<Summary>>>>,
}

impl TagDetailsFetcher {
    /// Creates a fetcher for a repository. Several fetchers may share `concurrency`.
    pub fn new(source: Arc<dyn Source>, concurrency: Concurrency) -> Self {
        Self(Arc::new(Inner {
            source,
            concurrency,
            summaries: Mutex::default(),
        }))
    }

    /// Fetches the details of tags concurrently and returns them in the order of the tags. Sends no request for an
    /// incomplete version. Further tags are requested only as the stream is polled. The stream ends with the first error, after the details of all tags before it. An
    /// error that affects a single document is returned in [`TagDetails::error`] and does not end the stream.
    ///
    /// Requires a Tokio runtime. Requests run as tasks, so they make progress while the stream is not polled. Otherwise
    /// a server could close the idle connections while the caller processes earlier details.
    pub fn tags<T: Into<ListedTag> + 'static>(
        &self,
        tags: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<TagDetails>> {
        let inner = Arc::clone(&self.0);
        let started = tags.map(move |listed| match listed.map(Into::into) {
            Ok(ListedTag {
                tag,
                incomplete_targets: None,
            }) => spawn(Arc::clone(&inner).tag(tag)).left_future(),
            Ok(ListedTag {
                tag,
                incomplete_targets,
            }) => ready(Ok(TagDetails {
                tag,
                incomplete_targets,
                details: None,
                error: None,
            }))
            .right_future(),
            Err(error) => ready(Err(error)).right_future(),
        });
        let details = started.buffered(self.0.concurrency.limit);
        let up_to_error = |failed: &mut bool, details: Result<TagDetails>| {
            let details = (!*failed).then_some(details);
            *failed = details.as_ref().is_some_and(Result::is_err);
            ready(details)
        };
        details.scan(false, up_to_error).boxed()
    }

    /// Returns the details of a manifest by its digest; `None` if the manifest does not exist or its media type is no
    /// longer supported.
    ///
    /// # Errors
    ///
    /// An error that would end the stream of [`TagDetailsFetcher::tags`], or an error that affects only this document
    /// ([`is_document_error`]).
    pub async fn details(&self, digest: &Digest) -> Result<Option<Details>> {
        self.0.details(digest.clone().into()).await
    }

    /// Returns the annotations of a manifest. If they state neither version, source nor revision, annotations are added
    /// until one of these is stated. For an index, they come from the first entry that is neither an attestation nor an
    /// index, then from the manifest of that entry. The last source is the labels in the image config.
    pub async fn annotations(&self, manifest: &Manifest) -> Result<Annotations> {
        self.0.annotations(manifest).await
    }

    /// Returns the summary of a manifest, completed with further requests.
    pub async fn summary(&self, manifest: &Manifest) -> Result<Summary> {
        self.0.summary(manifest).await
    }
}

/// Spawns a task and returns a future for its result. Dropping the future aborts the task.
fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send {
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    async move {
        match task.await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // While this future exists, the task is aborted only when the runtime shuts down.
                Err(_) => futures_util::future::pending().await,
            },
        }
    }
}

impl Inner {
    async fn tag(self: Arc<Self>, tag: Tag) -> Result<TagDetails> {
        let (details, error) = match self.details(tag.clone().into()).await {
            Ok(details) => (details, None),
            Err(error) if is_document_error(&error) => (None, Some(error)),
            Err(error) => return Err(error),
        };
        Ok(TagDetails {
            tag,
            incomplete_targets: None,
            details,
            error,
        })
    }

    async fn details(&self, identifier: Identifier) -> Result<Option<Details>> {
        let Some(manifest) = self.manifest(identifier).await? else {
            return Ok(None);
        };
        Ok(Some(Details {
            summary: self.summary(&manifest).await?,
            digest: manifest.digest().clone(),
            media_type: manifest.media_type().clone(),
            annotations: manifest.annotations().clone(),
        }))
    }

    /// Fetches a manifest. Returns `None` if it does not exist or its media type is no longer supported.
    async fn manifest(&self, identifier: Identifier) -> Result<Option<Manifest>> {
        let _permit = self.concurrency.permits.acquire().await;
        optional_document(self.source.manifest(&identifier).await)
    }

    fn summary<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Result<Summary>> {
        let cell = {
            let mut summaries = self
                .summaries
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(summaries.entry(manifest.digest().clone()).or_default())
        };
        async move {
            let summary = cell.get_or_try_init(|| async {
                let mut summary = Summary::from_manifest(manifest);
                if let Some(image) = manifest.as_image() {
                    self.complete_image(&mut summary, &image.config).await?;
                } else if let Some(index) = manifest.as_index() {
                    self.complete_index(&mut summary, index).await?;
                }
                Ok(summary)
            });
            summary.await.cloned()
        }
        .boxed()
    }

    async fn annotations(&self, manifest: &Manifest) -> Result<Annotations> {
        let mut annotations = manifest.annotations().clone();
        let (mut image, mut child) = (manifest.as_image(), None);
        if let Some(index) = manifest.as_index().filter(|_| !is_described(&annotations)) {
            let is_image = |entry: &&Descriptor| {
                !platform::is_attestation(entry) && !entry.media_type.is_index()
            };
            let Some(entry) = index.manifests.iter().find(is_image) else {
                return Ok(annotations);
            };
            add_missing(&mut annotations, &entry.annotations);
            if !is_described(&annotations) {
                child = self.manifest(entry.digest.clone().into()).await?;
                if let Some(child) = &child {
                    add_missing(&mut annotations, child.annotations());
                }
            }
            image = child.as_ref().and_then(Manifest::as_image);
            annotations.retain(|key, _| !annotation::TARGET_KEYS.contains(&key.as_str()));
        }
        if let Some(image) = image.filter(|_| !is_described(&annotations))
            && let Some(config) = self.image_config(&image.config).await?
        {
            add_missing(
                &mut annotations,
                &config
                    .execution
                    .unwrap_or_default()
                    .labels
                    .unwrap_or_default(),
            );
        }
        Ok(annotations)
    }

    async fn complete_image(&self, summary: &mut Summary, config: &Descriptor) -> Result<()> {
        if summary.created.is_some() && !summary.platforms.is_empty() {
            return Ok(());
        }
        if let Some(config) = self.image_config(config).await? {
            if summary.platforms.is_empty() && platform::is_known(&config.platform) {
                summary.platforms.push(config.platform);
            }
            summary.created = summary.created.take().or(config.created);
        }
        Ok(())
    }

    async fn complete_index(&self, summary: &mut Summary, index: &Index) -> Result<()> {
        // An index whose entries state sizes belongs to a package and is complete.
        if summary.size.is_some() || index.manifests.len() > MAX_CHILDREN {
            return Ok(());
        }
        let entries = stream::iter(index.manifests.clone());
        let children = entries.map(|entry| self.summarize_entry(entry));
        // The semaphore limits the number of requests.
        let children: Vec<_> = children.buffered(MAX_CHILDREN).try_collect().await?;
        let sizes = children.iter().map(|child| child.as_ref()?.size);
        summary.size = sizes
            .reduce(|total, size| Some(total?.saturating_add(size?)))
            .flatten();
        if summary.created.is_none() {
            let dates = children
                .into_iter()
                .filter_map(|child| child?.created)
                .filter_map(|text| Some((text.parse::<Timestamp>().ok()?, text)));
            summary.created = dates.max().map(|(_, text)| text);
        }
        Ok(())
    }

    /// Summarizes the manifest of an index entry. A nested index is skipped.
    async fn summarize_entry(&self, entry: Descriptor) -> Result<Option<Summary>> {
        if entry.media_type.is_index() || !entry.media_type.is_manifest() {
            return Ok(None);
        }
        match self.manifest(entry.digest.into()).await? {
            // The media type of the entry may be wrong. The manifest itself states whether it is an index.
            Some(manifest) if manifest.as_image().is_some() => {
                self.summary(&manifest).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn image_config(&self, descriptor: &Descriptor) -> Result<Option<ImageConfig>> {
        if !descriptor.media_type.is_image_config() || descriptor.size > MAX_CONFIG as u64 {
            return Ok(None);
        }
        let _permit = self.concurrency.permits.acquire().await;
        let Some(blob) = optional_document(self.source.blob(descriptor).await)? else {
            return Ok(None);
        };
        let bytes = blob.read_to_end(MAX_CONFIG).await?;
        Ok(serde_json::from_slice(&bytes).ok())
    }
}

/// Whether an error affects only the requested document, so that other documents may be readable. Examples are a
/// document that does not match its digest or media type, and a document to which a registry with a vulnerability
/// scanner denies access.
pub fn is_document_error(error: &oci_registry::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Protocol | ErrorKind::Mismatch | ErrorKind::Denied
    )
}

/// Converts `NotFound` and `Unsupported` to `None`. Other errors are returned.
fn optional_document<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether annotations state the version, the source or the revision.
fn is_described(annotations: &Annotations) -> bool {
    [
        annotation::VERSION,
        annotation::SOURCE,
        annotation::REVISION,
    ]
    .iter()
    .any(|key| annotations.contains_key(*key))
}

/// Adds those annotations of `more` whose keys are missing.
fn add_missing(annotations: &mut Annotations, more: &Annotations) {
    for (key, value) in more {
        annotations
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
}

/// Image config, reduced to the fields that are read (image-spec, `config.md`).
#[derive(Debug, serde::Deserialize)]
struct ImageConfig {
    #[serde(default)]
    created: Option<String>,
    #[serde(rename = "config", default)]
    execution: Option<ContainerConfig>,
    #[serde(flatten)]
    platform: Platform,
}

/// `config` object of an image config, reduced to the labels.
#[derive(Debug, Default, serde::Deserialize)]
struct ContainerConfig {
    #[serde(rename = "Labels", default)]
    labels: Option<Annotations>,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use oci_registry::{Blob, BlobStream, ImageManifest, Memory, TagStream, Target};

    use super::*;

    /// Stores an image with the given config and one layer of three bytes.
    async fn image(memory: &Memory, config: &str) -> Manifest {
        let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, config.to_owned());
        let layer = Blob::from_bytes(MediaType::OCTET_STREAM, "abc");
        for blob in [&config, &layer] {
            memory.push_blob(blob).await.unwrap();
        }
        let mut image = ImageManifest::new("application/x".into(), config.descriptor().clone());
        image.artifact_type = None;
        image.layers.push(layer.descriptor().clone());
        let image = Manifest::from_image(image).unwrap();
        memory.push_manifest(&image).await.unwrap();
        image
    }

    fn fetcher(source: impl Source + 'static) -> TagDetailsFetcher {
        TagDetailsFetcher::new(Arc::new(source), Concurrency::new(1))
    }

    #[tokio::test]
    async fn image_summary_has_date_and_platform_of_config() {
        let memory = Memory::new();
        let config = r#"{"os":"linux","architecture":"arm","variant":"v7","created":"2026-01-02T03:04:05Z"}"#;
        let image = image(&memory, config).await;
        let summary = fetcher(memory).summary(&image).await.unwrap();
        assert_eq!(summary.size, Some(config.len() as u64 + 3));
        assert_eq!(summary.created.as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(summary.platforms[0].to_string(), "linux/arm/v7");
    }

    #[tokio::test]
    async fn index_summary_has_total_size_and_latest_date() {
        let memory = Memory::new();
        let older = image(&memory, r#"{"created":"2026-01-02T03:04:05Z"}"#).await;
        let newer = image(&memory, r#"{"created":"2026-01-02T03:04:05-01:00"}"#).await;
        let index = Index::new(None, vec![older.descriptor(), newer.descriptor()]);
        let index = Manifest::from_index(index).unwrap();
        let summary = fetcher(memory).summary(&index).await.unwrap();
        assert_eq!(summary.size, Some(34 + 3 + 39 + 3));
        assert_eq!(
            summary.created.as_deref(),
            Some("2026-01-02T03:04:05-01:00")
        );
    }

    #[tokio::test]
    async fn index_summary_with_missing_manifest_has_no_size() {
        let memory = Memory::new();
        let stored = image(&memory, "{}").await;
        let missing = Descriptor::new(MediaType::MANIFEST, Digest::sha256(b"gone"), 4);
        let index = Index::new(None, vec![stored.descriptor(), missing]);
        let index = Manifest::from_index(index).unwrap();
        let summary = fetcher(memory).summary(&index).await.unwrap();
        assert_eq!((summary.size, summary.created), (None, None));
    }

    #[tokio::test]
    async fn annotations_are_completed_from_entry_then_labels() {
        let memory = Memory::new();
        let config =
            r#"{"config":{"Labels":{"org.opencontainers.image.version":"1.2","org.example":"x"}}}"#;
        let labelled = image(&memory, config).await;
        let unlabelled = image(&memory, r#"{"config":{"Labels":null}}"#).await;
        let mut index = Index::new(None, vec![labelled.descriptor()]);
        let unlabelled_index = Manifest::from_index(index.clone()).unwrap();
        index.manifests[0]
            .annotations
            .insert(annotation::REVISION.into(), "abc".into());
        let annotated_index = Manifest::from_index(index).unwrap();
        let fetcher = fetcher(memory);
        let values = async |manifest| {
            let annotations = fetcher.annotations(manifest).await.unwrap();
            annotations.into_values().collect::<Vec<_>>()
        };
        assert_eq!(values(&labelled).await, ["x", "1.2"]);
        assert_eq!(values(&unlabelled).await, [""; 0]);
        assert_eq!(values(&unlabelled_index).await, ["x", "1.2"]);
        assert_eq!(values(&annotated_index).await, ["abc"]);
    }

    /// Source with latency. Tags with an even number do not exist, reading `t7` fails, and the request for `t20`
    /// exceeds the rate limit.
    #[derive(Debug, Default)]
    struct SlowSource {
        memory: Memory,
        concurrent: AtomicUsize,
        max_concurrent: AtomicUsize,
        requests: AtomicUsize,
    }

    #[derive(Debug)]
    struct LimitReached;

    impl std::fmt::Display for LimitReached {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the limit is reached")
        }
    }

    impl std::error::Error for LimitReached {}

    #[async_trait]
    #[deny(clippy::missing_trait_methods)]
    impl Source for SlowSource {
        async fn manifest(&self, identifier: &Identifier) -> Result<Manifest> {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let concurrent = self.concurrent.fetch_add(1, Ordering::Relaxed) + 1;
            self.max_concurrent.fetch_max(concurrent, Ordering::Relaxed);
            let name = identifier.to_string();
            // The first tags have the longest delay, so the responses arrive in a different order.
            let number: u64 = name.strip_prefix('t').unwrap_or("9").parse().unwrap();
            tokio::time::sleep(Duration::from_millis(100 - number.min(99))).await;
            self.concurrent.fetch_sub(1, Ordering::Relaxed);
            match name.as_str() {
                "t7" => return Err(oci_registry::Error::new(ErrorKind::Protocol, LimitReached)),
                "t20" => {
                    return Err(oci_registry::Error::new(
                        ErrorKind::RateLimited,
                        LimitReached,
                    ));
                }
                _ => {}
            }
            self.memory.manifest(identifier).await
        }

        async fn blob(&self, descriptor: &Descriptor) -> Result<BlobStream> {
            self.memory.blob(descriptor).await
        }

        fn tags(&self) -> TagStream {
            let tags = (1..=50).map(|at| format!("t{at}").parse());
            stream::iter(tags.collect::<Vec<_>>()).boxed()
        }

        fn describe(&self, identifier: &Identifier) -> String {
            self.memory.describe(identifier)
        }

        async fn resolve(&self, identifier: &Identifier) -> Result<Descriptor> {
            Ok(self.manifest(identifier).await?.descriptor())
        }

        async fn blob_after(
            &self,
            descriptor: &Descriptor,
            partial: oci_registry::PartialBlob,
        ) -> Result<BlobStream> {
            self.memory.blob_after(descriptor, partial).await
        }

        async fn find_blob(&self, digest: &Digest) -> Result<Descriptor> {
            self.memory.find_blob(digest).await
        }

        fn origin(&self) -> Option<&oci_registry::Reference> {
            self.memory.origin()
        }

        async fn other_names(&self) -> Result<Vec<oci_registry::OtherName>> {
            self.memory.other_names().await
        }

        fn referrers(
            &self,
            subject: &Digest,
            artifact_type: Option<&MediaType>,
        ) -> oci_registry::DescriptorStream {
            self.memory.referrers(subject, artifact_type)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tag_details_keep_order_and_stop_at_rate_limit() {
        let slow = Arc::new(SlowSource::default());
        let image = image(&slow.memory, r#"{"created":"2026-01-02T03:04:05Z"}"#).await;
        for at in (1..=50).filter(|at| at % 2 == 1) {
            let tag = format!("t{at}").parse().unwrap();
            slow.memory.tag(&image, &tag).await.unwrap();
        }
        let source: Arc<dyn Source> = Arc::clone(&slow) as _;
        let fetcher = TagDetailsFetcher::new(source, Concurrency::new(4));
        let rows: Vec<_> = fetcher.tags(slow.tags()).collect().await;
        assert_eq!(rows.len(), 20);
        for (at, row) in (1..).zip(&rows[..19]) {
            let row = row.as_ref().unwrap();
            assert_eq!(row.tag.as_str(), format!("t{at}"));
            let is_unreadable = at == 7;
            let why = row.error.as_ref().map(oci_registry::Error::in_one_line);
            assert_eq!(
                why.as_deref(),
                is_unreadable.then_some("the limit is reached")
            );
            assert_eq!(
                row.details.is_some(),
                at % 2 == 1 && !is_unreadable,
                "t{at}"
            );
            if let Some(details) = &row.details {
                assert_eq!(details.digest, *image.digest());
                assert_eq!(details.media_type, MediaType::MANIFEST);
                assert!(!details.annotations.contains_key(annotation::CREATED));
                assert!(details.summary.created.is_some());
            }
        }
        let last = rows[19].as_ref().unwrap_err();
        assert_eq!(last.kind(), ErrorKind::RateLimited);
        assert_eq!(slow.max_concurrent.load(Ordering::Relaxed), 4);
        // No request starts after the rate limit was reached.
        assert!(slow.requests.load(Ordering::Relaxed) <= 24);
    }
}
