//! What a manifest does not say itself: sizes and dates that take further requests.
//!
//! Owns completing a [`Summary`]: an index's manifests are asked for their sizes, an image's config for its date and
//! platform. What the annotations say is never asked again. Knows nothing of Nushell.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, FixedOffset};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use oci_package::Summary;
use oci_registry::{
    Descriptor, Digest, ErrorKind, Identifier, Index, Manifest, MediaType, Platform, Result, Source,
};
use tokio::sync::{OnceCell, Semaphore};

/// Docker's name for an image's config.
const DOCKER_IMAGE_CONFIG: MediaType =
    MediaType::new_static("application/vnd.docker.container.image.v1+json");

/// Largest image config that is read for its date, in bytes.
const MAX_CONFIG: usize = 1 << 20;

/// Most manifests of an index that are fetched for their sizes.
const MAX_CHILDREN: usize = 64;

/// The moment that a date of an annotation or config names, when it is written as it should be.
pub(crate) fn moment(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text).ok()
}

/// What is found out about the manifests of one place. Asks about each of them once, and not about all at once.
#[derive(Debug)]
pub(crate) struct Survey {
    source: Arc<dyn Source>,
    permits: Arc<Semaphore>,
    known: Mutex<HashMap<Digest, Arc<OnceCell<Summary>>>>,
}

impl Survey {
    /// A survey that sends as many requests at once as there are permits, which it may share.
    pub(crate) fn new(source: Arc<dyn Source>, permits: Arc<Semaphore>) -> Self {
        Self {
            source,
            permits,
            known: Mutex::default(),
        }
    }

    /// Fetches a manifest; `None` when it is not there, or of a kind that nobody reads any more.
    pub(crate) async fn manifest(&self, identifier: Identifier) -> Result<Option<Manifest>> {
        let _permit = self.permits.acquire().await;
        readable(self.source.manifest(&identifier).await)
    }

    /// Everything that can be found out about a manifest.
    pub(crate) fn summary<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Result<Summary>> {
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(manifest.digest().clone()).or_default())
        };
        async move {
            let summary = cell.get_or_try_init(|| async {
                let mut summary = Summary::of(manifest);
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

    async fn complete_image(&self, summary: &mut Summary, config: &Descriptor) -> Result<()> {
        if summary.created.is_some() && !summary.platforms.is_empty() {
            return Ok(());
        }
        if let Some(config) = self.config(config).await? {
            if summary.platforms.is_empty() {
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
                .filter_map(|text| Some((moment(&text)?, text)));
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

    async fn config(&self, descriptor: &Descriptor) -> Result<Option<Config>> {
        let is_image =
            [MediaType::IMAGE_CONFIG, DOCKER_IMAGE_CONFIG].contains(&descriptor.media_type);
        if !is_image || descriptor.size > MAX_CONFIG as u64 {
            return Ok(None);
        }
        let _permit = self.permits.acquire().await;
        let Some(blob) = readable(self.source.blob(descriptor).await)? else {
            return Ok(None);
        };
        let bytes = blob.read_to_end(MAX_CONFIG).await?;
        Ok(serde_json::from_slice(&bytes).ok())
    }
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

/// What is wanted of an image's config (image-spec, `config.md`).
#[derive(Debug, serde::Deserialize)]
struct Config {
    #[serde(default)]
    created: Option<String>,
    #[serde(flatten)]
    platform: Platform,
}

#[cfg(test)]
mod tests {
    use oci_registry::{Blob, ImageManifest, Memory, Target};

    use super::*;

    /// An image of this config and one layer of three bytes, in memory.
    async fn image(memory: &Memory, config: &str) -> Manifest {
        let config = Blob::from_bytes(MediaType::IMAGE_CONFIG, config.to_owned());
        let layer = Blob::from_bytes(MediaType::OCTET_STREAM, "abc");
        for blob in [&config, &layer] {
            memory.push_blob(blob).await.unwrap();
        }
        let mut image = ImageManifest::new(
            MediaType::from("application/x"),
            config.descriptor().clone(),
        );
        image.artifact_type = None;
        image.layers.push(layer.descriptor().clone());
        let image = Manifest::from_image(image).unwrap();
        memory.push_manifest(&image).await.unwrap();
        image
    }

    fn survey(memory: Memory) -> Survey {
        Survey::new(Arc::new(memory), Arc::new(Semaphore::new(1)))
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
}
