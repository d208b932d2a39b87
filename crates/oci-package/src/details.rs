//! What the tags of a place name, at length: what a manifest says itself, and what takes further requests to find out.
//!
//! Owns completing a [`Summary`]: an index's manifests are asked for their sizes, an image's config for its date and
//! platform. What the annotations say is never asked again, and nothing is asked twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use jiff::Timestamp;
use oci_registry::{
    Annotations, Descriptor, Digest, ErrorKind, Identifier, Index, Manifest, MediaType, Platform,
    Result, Source, Tag, TagStream,
};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use crate::{Summary, annotation, platform};

/// Largest image config that is read for its date, in bytes.
const MAX_CONFIG: usize = 1 << 20;

/// Most manifests of an index that are fetched for their sizes.
const MAX_CHILDREN: usize = 64;

/// How many requests are under way at the same time. Clones share the bound.
#[derive(Clone, Debug)]
pub struct Concurrency {
    permits: Arc<Semaphore>,
    at_once: usize,
}

impl Concurrency {
    /// As many requests at once, at least one.
    pub fn new(at_once: usize) -> Self {
        let at_once = at_once.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(at_once)),
            at_once,
        }
    }
}

/// A tag and what it names.
#[derive(Debug)]
#[non_exhaustive]
pub struct TagDetails {
    /// The tag.
    pub tag: Tag,
    /// What it names; absent when it is gone since it was listed, names something that nobody reads any more, or cannot be
    /// read.
    pub details: Option<Details>,
    /// Why it cannot be read, where that is no matter of the whole place: see [`is_document_error`].
    pub error: Option<oci_registry::Error>,
}

/// What is found out about a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Details {
    /// Its digest.
    pub digest: Digest,
    /// What kind of document it is.
    pub media_type: MediaType,
    /// What it says about itself.
    pub annotations: Annotations,
    /// Size, date, platforms, targets and artifact type, completed by what other documents say.
    pub summary: Summary,
}

/// What is found out about the manifests of one place. Clones share what they have found.
#[derive(Clone, Debug)]
pub struct TagDetailsFetcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Arc<dyn Source>,
    concurrency: Concurrency,
    known: Mutex<HashMap<Digest, Arc<OnceCell<Summary>>>>,
}

impl TagDetailsFetcher {
    /// A survey of this place. Several may share their concurrency.
    pub fn new(source: Arc<dyn Source>, concurrency: Concurrency) -> Self {
        Self(Arc::new(Inner {
            source,
            concurrency,
            known: Mutex::default(),
        }))
    }

    /// The details of tags, in the order of the tags, several being looked at at the same time. Further tags are taken
    /// only as the stream is polled. It ends with the first error, after the details of all tags before it; what is wrong
    /// with a single document is told with its tag and ends nothing.
    ///
    /// Needs a Tokio runtime: looking at a tag that was begun goes on while a slow reader takes no details, since its
    /// connection would not wait.
    pub fn tags(&self, tags: TagStream) -> BoxStream<'static, Result<TagDetails>> {
        let inner = Arc::clone(&self.0);
        let begun = tags.map(move |tag| match tag {
            Ok(tag) => begin(Arc::clone(&inner).tag(tag)).left_future(),
            Err(error) => ready(Err(error)).right_future(),
        });
        let details = begun.buffered(self.0.concurrency.at_once);
        let up_to_error = |failed: &mut bool, details: Result<TagDetails>| {
            let details = (!*failed).then_some(details);
            *failed = details.as_ref().is_some_and(Result::is_err);
            ready(details)
        };
        details.scan(false, up_to_error).boxed()
    }

    /// The details of a manifest by its digest; `None` when it is absent or of a kind that is no longer read.
    ///
    /// # Errors
    ///
    /// As [`TagDetailsFetcher::tags`]; the fault of a single document is an error, too ([`is_document_error`]).
    pub async fn details(&self, digest: &Digest) -> Result<Option<Details>> {
        self.0.details(digest.clone().into()).await
    }

    /// What is said about a manifest of this place: by its annotations; where they leave something out, by the labels of its
    /// image config; of an index, by its entries and then by the first manifest in it.
    pub async fn annotations(&self, manifest: &Manifest) -> Result<Annotations> {
        self.0.annotations(manifest).await
    }

    /// Everything that can be found out about a manifest of this place.
    pub async fn summary(&self, manifest: &Manifest) -> Result<Summary> {
        self.0.summary(manifest).await
    }
}

/// Starts some work now, to be awaited later; dropping what is returned ends it.
fn begin<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send {
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    async move {
        match task.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only the end of the runtime ends a task that is still awaited.
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

    /// Fetches a manifest; `None` when it is not there, or of a kind that nobody reads any more.
    async fn manifest(&self, identifier: Identifier) -> Result<Option<Manifest>> {
        let _permit = self.concurrency.permits.acquire().await;
        readable(self.source.manifest(&identifier).await)
    }

    fn summary<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Result<Summary>> {
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(manifest.digest().clone()).or_default())
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
        let mut said = manifest.annotations().clone();
        let (mut image, mut child) = (manifest.as_image(), None);
        if let Some(index) = manifest.as_index().filter(|_| !is_described(&said)) {
            let is_image = |entry: &&Descriptor| {
                !platform::is_attestation(entry) && !entry.media_type.is_index()
            };
            let Some(entry) = index.manifests.iter().find(is_image) else {
                return Ok(said);
            };
            complete(&mut said, &entry.annotations);
            if !is_described(&said) {
                child = self.manifest(entry.digest.clone().into()).await?;
                if let Some(child) = &child {
                    complete(&mut said, child.annotations());
                }
            }
            image = child.as_ref().and_then(Manifest::as_image);
            said.retain(|key, _| !annotation::TARGET_KEYS.contains(&key.as_str()));
        }
        if let Some(image) = image.filter(|_| !is_described(&said))
            && let Some(config) = self.config(&image.config).await?
        {
            complete(
                &mut said,
                &config
                    .execution
                    .unwrap_or_default()
                    .labels
                    .unwrap_or_default(),
            );
        }
        Ok(said)
    }

    async fn complete_image(&self, summary: &mut Summary, config: &Descriptor) -> Result<()> {
        if summary.created.is_some() && !summary.platforms.is_empty() {
            return Ok(());
        }
        if let Some(config) = self.config(config).await? {
            if summary.platforms.is_empty() && platform::is_known(&config.platform) {
                summary.platforms.push(config.platform);
            }
            summary.created = summary.created.take().or(config.created);
        }
        Ok(())
    }

    async fn complete_index(&self, summary: &mut Summary, index: &Index) -> Result<()> {
        // An index that says the sizes is a package's, and has said all that there is.
        if summary.size.is_some() || index.manifests.len() > MAX_CHILDREN {
            return Ok(());
        }
        let entries = stream::iter(index.manifests.clone());
        let children = entries.map(|entry| self.child(entry));
        // Within the bounds of the permits.
        let children: Vec<_> = children.buffered(MAX_CHILDREN).try_collect().await?;
        let sizes = children.iter().map(|child| child.as_ref()?.size);
        summary.size = sizes
            .reduce(|one, other| Some(one?.saturating_add(other?)))
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

    /// What an entry of an index names; an index within an index is left aside.
    async fn child(&self, entry: Descriptor) -> Result<Option<Summary>> {
        if entry.media_type.is_index() || !entry.media_type.is_manifest() {
            return Ok(None);
        }
        match self.manifest(entry.digest.into()).await? {
            // Known by its digest, its bytes are a manifest or an index for everybody.
            Some(manifest) if manifest.as_image().is_some() => {
                self.summary(&manifest).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Option<ImageConfig>> {
        if !descriptor.media_type.is_image_config() || descriptor.size > MAX_CONFIG as u64 {
            return Ok(None);
        }
        let _permit = self.concurrency.permits.acquire().await;
        let Some(blob) = readable(self.source.blob(descriptor).await)? else {
            return Ok(None);
        };
        let bytes = blob.read_to_end(MAX_CONFIG).await?;
        Ok(serde_json::from_slice(&bytes).ok())
    }
}

/// Whether a failure is one of the single document that was asked for, so that another may well be there: it is not what
/// its digest or media type says, or the registry keeps it to itself, as scanners make registries do.
pub fn is_document_error(error: &oci_registry::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Protocol | ErrorKind::Mismatch | ErrorKind::Denied
    )
}

/// What is not there and what nobody reads any more are nothing; every other failure is one.
fn readable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether it is said which version this is, or where it comes from.
fn is_described(said: &Annotations) -> bool {
    [
        annotation::VERSION,
        annotation::SOURCE,
        annotation::REVISION,
    ]
    .iter()
    .any(|key| said.contains_key(*key))
}

/// Adds what was not said yet.
fn complete(said: &mut Annotations, more: &Annotations) {
    for (key, value) in more {
        said.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

/// What is wanted of an image's config (image-spec, `config.md`).
#[derive(Debug, serde::Deserialize)]
struct ImageConfig {
    #[serde(default)]
    created: Option<String>,
    #[serde(rename = "config", default)]
    execution: Option<ContainerConfig>,
    #[serde(flatten)]
    platform: Platform,
}

/// How an image is run; of which its labels say what it is.
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
    use oci_registry::{Blob, BlobStream, ImageManifest, Memory, Target};

    use super::*;

    /// An image of this config and one layer of three bytes, in memory.
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

    fn survey(source: impl Source + 'static) -> TagDetailsFetcher {
        TagDetailsFetcher::new(Arc::new(source), Concurrency::new(1))
    }

    #[tokio::test]
    async fn an_images_config_has_its_date_and_platform() {
        let memory = Memory::new();
        let config = r#"{"os":"linux","architecture":"arm","variant":"v7","created":"2026-01-02T03:04:05Z"}"#;
        let image = image(&memory, config).await;
        let summary = survey(memory).summary(&image).await.unwrap();
        assert_eq!(summary.size, Some(config.len() as u64 + 3));
        assert_eq!(summary.created.as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(summary.platforms[0].to_string(), "linux/arm/v7");
    }

    #[tokio::test]
    async fn an_index_is_as_large_as_its_manifests_and_as_young_as_the_last() {
        let memory = Memory::new();
        let older = image(&memory, r#"{"created":"2026-01-02T03:04:05Z"}"#).await;
        let newer = image(&memory, r#"{"created":"2026-01-02T03:04:05-01:00"}"#).await;
        let index = Index::new(None, vec![older.descriptor(), newer.descriptor()]);
        let index = Manifest::from_index(index).unwrap();
        let summary = survey(memory).summary(&index).await.unwrap();
        assert_eq!(summary.size, Some(34 + 3 + 39 + 3));
        assert_eq!(
            summary.created.as_deref(),
            Some("2026-01-02T03:04:05-01:00")
        );
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_known() {
        let memory = Memory::new();
        let there = image(&memory, "{}").await;
        let gone = Descriptor::new(MediaType::MANIFEST, Digest::sha256(b"gone"), 4);
        let index = Index::new(None, vec![there.descriptor(), gone]);
        let index = Manifest::from_index(index).unwrap();
        let summary = survey(memory).summary(&index).await.unwrap();
        assert_eq!((summary.size, summary.created), (None, None));
    }

    #[tokio::test]
    async fn labels_and_entries_say_what_annotations_do_not() {
        let memory = Memory::new();
        let config =
            r#"{"config":{"Labels":{"org.opencontainers.image.version":"1.2","org.example":"x"}}}"#;
        let labelled = image(&memory, config).await;
        let silent = image(&memory, r#"{"config":{"Labels":null}}"#).await;
        let mut index = Index::new(None, vec![labelled.descriptor()]);
        let of_index = Manifest::from_index(index.clone()).unwrap();
        index.manifests[0]
            .annotations
            .insert(annotation::REVISION.into(), "abc".into());
        let of_entry = Manifest::from_index(index).unwrap();
        let survey = survey(memory);
        let said = async |manifest| {
            let said = survey.annotations(manifest).await.unwrap();
            said.into_values().collect::<Vec<_>>()
        };
        assert_eq!(said(&labelled).await, ["x", "1.2"]);
        assert_eq!(said(&silent).await, [""; 0]);
        assert_eq!(said(&of_index).await, ["x", "1.2"]);
        assert_eq!(said(&of_entry).await, ["abc"]);
    }

    /// A place where tags take their time, some are gone, one cannot be read, and one is one too many.
    #[derive(Debug, Default)]
    struct SlowSource {
        memory: Memory,
        waiting: AtomicUsize,
        most: AtomicUsize,
        asked: AtomicUsize,
    }

    #[derive(Debug)]
    struct Limit;

    impl std::fmt::Display for Limit {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the limit is reached")
        }
    }

    impl std::error::Error for Limit {}

    #[async_trait]
    impl Source for SlowSource {
        async fn manifest(&self, identifier: &Identifier) -> Result<Manifest> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(waiting, Ordering::Relaxed);
            let name = identifier.to_string();
            // The first are the slowest, so that order is not chance.
            let place: u64 = name.strip_prefix('t').unwrap_or("9").parse().unwrap();
            tokio::time::sleep(Duration::from_millis(100 - place.min(99))).await;
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match name.as_str() {
                "t7" => return Err(oci_registry::Error::new(ErrorKind::Protocol, Limit)),
                "t20" => return Err(oci_registry::Error::new(ErrorKind::RateLimited, Limit)),
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
    }

    #[tokio::test(start_paused = true)]
    async fn rows_keep_their_order_and_only_a_limit_ends_them() {
        let slow = Arc::new(SlowSource::default());
        let image = image(&slow.memory, r#"{"created":"2026-01-02T03:04:05Z"}"#).await;
        for at in (1..=50).filter(|at| at % 2 == 1) {
            let tag = format!("t{at}").parse().unwrap();
            slow.memory.tag(&image, &tag).await.unwrap();
        }
        let source: Arc<dyn Source> = Arc::clone(&slow) as _;
        let survey = TagDetailsFetcher::new(source, Concurrency::new(4));
        let rows: Vec<_> = survey.tags(slow.tags()).collect().await;
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
        assert_eq!(slow.most.load(Ordering::Relaxed), 4);
        // Those that were begun before the limit was met, and no more.
        assert!(slow.asked.load(Ordering::Relaxed) <= 24);
    }
}
