//! Repository in memory with latency, failures and concurrent writers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use oci_registry::{
    Access, Blob, BlobStream, Client, ClientOptions, Delete, Delivery, Descriptor, Digest,
    Environment, Error, Identifier, Manifest, MediaType, Memory, Meter, Packed, Result, Source,
    Tag, TagStream, Target,
};
use testkit::loopback::ClosedPort;
use tokio::time::Instant;

type Before = Box<dyn Fn(&str) -> Result<()> + Send + Sync>;
type After = Box<dyn Fn(&str) + Send + Sync>;

/// Repository in memory that records requests. Requests can be slow or fail, and hooks can act as another writer.
#[derive(Clone)]
pub(crate) struct FakeRepository {
    memory: Memory,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    calls: Mutex<Vec<String>>,
    /// Tags and manifests that appear deleted until they are written again.
    hidden: Mutex<BTreeSet<String>>,
    before: Mutex<Option<Before>>,
    after: Mutex<Option<After>>,
    /// State of the random generator for the latency; `None` if requests have no latency.
    random: Mutex<Option<u64>>,
    /// Fixed delay of each request and of each response.
    time: Mutex<Duration>,
    /// Delay until a new tag is listed.
    tag_list_delay: Mutex<Duration>,
    /// Whether deletions are confirmed and have no effect.
    ignores_deletions: Mutex<bool>,
    /// Time at which each tag was set.
    set_at: Mutex<BTreeMap<String, Instant>>,
}

impl FakeRepository {
    /// Creates a repository that responds immediately.
    pub(crate) fn new() -> Self {
        Self {
            memory: Memory::new(),
            state: Arc::default(),
        }
    }

    /// Creates a repository with random latency: usually below 100 ms, sometimes up to 5 s.
    pub(crate) fn with_latency(seed: u64) -> Self {
        let repository = Self::new();
        *lock(&repository.state.random) = Some(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        repository
    }

    /// Sets a fixed delay for each request and each response.
    pub(crate) fn set_latency(&self, time: Duration) {
        *lock(&self.state.time) = time;
    }

    /// Sets the delay until a new tag is listed.
    pub(crate) fn delay_tag_list(&self, by: Duration) {
        *lock(&self.state.tag_list_delay) = by;
    }

    /// Confirms deletions without an effect from now on.
    pub(crate) fn ignore_deletions(&self) {
        *lock(&self.state.ignores_deletions) = true;
    }

    /// Returns the underlying memory storage. Direct requests to it are neither recorded nor delayed.
    pub(crate) fn memory(&self) -> Memory {
        self.memory.clone()
    }

    /// Sets a hook that runs before each request and can make it fail.
    pub(crate) fn before(&self, hook: impl Fn(&str) -> Result<()> + Send + Sync + 'static) {
        *lock(&self.state.before) = Some(Box::new(hook));
    }

    /// Sets a hook that runs after a request has taken effect and before its response.
    pub(crate) fn after(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        *lock(&self.state.after) = Some(Box::new(hook));
    }

    /// Returns the recorded requests.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = lock(&self.state.calls);
        calls
            .iter()
            .map(|call| call.trim_end_matches(" index").to_owned())
            .collect()
    }

    /// Returns the recorded write requests.
    pub(crate) fn writes(&self) -> Vec<String> {
        let mut calls = self.calls();
        calls.retain(|call| call.starts_with("push_") || call.starts_with("tag "));
        calls
    }

    pub(crate) fn clear_calls(&self) {
        lock(&self.state.calls).clear();
    }

    /// Hides a tag, as if it had been deleted.
    pub(crate) fn hide_tag(&self, tag: &str) {
        lock(&self.state.hidden).insert(tag.to_owned());
    }

    /// Hides a manifest, as if it had been deleted.
    pub(crate) fn hide_manifest(&self, digest: &Digest) {
        lock(&self.state.hidden).insert(digest.to_string());
    }

    /// Stores an artifact with a tag.
    pub(crate) async fn store(&self, packed: &Packed, tag: &str) {
        for blob in packed.blobs() {
            self.memory.push_blob(blob).await.unwrap();
        }
        self.memory.push_manifest(packed.manifest()).await.unwrap();
        self.memory
            .tag(packed.manifest(), &tag.parse().unwrap())
            .await
            .unwrap();
    }

    /// Sleeps for a random time, usually short and sometimes long, so that the order of concurrent requests varies.
    async fn latency(&self) {
        let time = *lock(&self.state.time);
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        let milliseconds = lock(&self.state.random).as_mut().map(|random| {
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            let longest = if random.is_multiple_of(6) { 5000 } else { 100 };
            (*random >> 20) % longest
        });
        if let Some(milliseconds) = milliseconds {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
    }

    async fn request<T>(&self, call: String, effect: impl Future<Output = Result<T>>) -> Result<T> {
        self.latency().await;
        lock(&self.state.calls).push(call.clone());
        if let Some(hook) = &*lock(&self.state.before) {
            hook(&call)?;
        }
        let answer = effect.await;
        if let Some(hook) = &*lock(&self.state.after) {
            hook(&call);
        }
        self.latency().await;
        answer
    }

    fn is_hidden(&self, name: &str) -> bool {
        lock(&self.state.hidden).contains(name)
    }

    fn is_recent(&self, tag: &Tag) -> bool {
        let set = lock(&self.state.set_at).get(tag.as_str()).copied();
        set.is_some_and(|set| set.elapsed() < *lock(&self.state.tag_list_delay))
    }

    async fn find(&self, identifier: &Identifier) -> Result<Manifest> {
        let manifest = self.memory.manifest(identifier).await?;
        if self.is_hidden(&identifier.to_string()) || self.is_hidden(manifest.digest().as_str()) {
            return self
                .memory
                .manifest(&Digest::sha256(b"nothing").into())
                .await;
        }
        Ok(manifest)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("lock is not poisoned")
}

/// Runs a future that is ready at the first poll.
pub(crate) fn run_ready<T>(future: impl Future<Output = T>) -> T {
    future
        .now_or_never()
        .expect("requests to memory do not wait")
}

/// Returns the error for a request that a registry rejects.
pub(crate) fn rejected() -> Error {
    "not a tag".parse::<Tag>().unwrap_err()
}

/// Returns the error for a request to a registry that refuses connections.
pub(crate) async fn unreachable_error() -> Error {
    let host = ClosedPort::new();
    let reference = format!("{}/widgets", host.host());
    let options = ClientOptions {
        attempts: 1,
        ..ClientOptions::new(Environment::default())
    };
    let repository = Client::new(options)
        .repository(&reference.parse().unwrap(), Access::Pull)
        .unwrap();
    repository
        .manifest(&"latest".parse::<Tag>().unwrap().into())
        .await
        .unwrap_err()
}

impl fmt::Debug for FakeRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeRepository").finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Source for FakeRepository {
    async fn manifest(&self, identifier: &Identifier) -> Result<Manifest> {
        self.request(format!("manifest {identifier}"), self.find(identifier))
            .await
    }

    async fn resolve(&self, identifier: &Identifier) -> Result<Descriptor> {
        let found = async { Ok(self.find(identifier).await?.descriptor()) };
        self.request(format!("resolve {identifier}"), found).await
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<BlobStream> {
        self.request("blob".into(), self.memory.blob(descriptor))
            .await
    }

    fn tags(&self) -> TagStream {
        let repository = self.clone();
        let list = async move {
            let collect = async { Ok(repository.memory.tags().collect::<Vec<_>>().await) };
            match repository.request("tags".into(), collect).await {
                Ok(tags) => tags,
                Err(error) => vec![Err(error)],
            }
        };
        let repository = self.clone();
        let visible = move |tag: &Result<Tag>| {
            let is_invisible =
                |tag: &Tag| repository.is_hidden(tag.as_str()) || repository.is_recent(tag);
            !tag.as_ref().is_ok_and(is_invisible)
        };
        list.into_stream()
            .flat_map(futures_util::stream::iter)
            .filter(move |tag| std::future::ready(visible(tag)))
            .boxed()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        self.memory.describe(identifier)
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

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Target for FakeRepository {
    async fn exists(&self, descriptor: &Descriptor) -> Result<bool> {
        let found =
            async {
                Ok(self.memory.exists(descriptor).await?
                    && !self.is_hidden(descriptor.digest.as_str()))
            };
        self.request("exists".into(), found).await
    }

    async fn push_blob(&self, blob: &Blob) -> Result<Delivery> {
        self.request("push_blob".into(), self.memory.push_blob(blob))
            .await
    }

    async fn push_manifest(&self, manifest: &Manifest) -> Result<()> {
        let call = if manifest.as_index().is_some() {
            "push_manifest index"
        } else {
            "push_manifest"
        };
        let push = async {
            let missing = manifest
                .successors()
                .into_iter()
                .any(|child| self.is_hidden(child.digest.as_str()));
            if missing {
                return Err(rejected());
            }
            self.memory.push_manifest(manifest).await?;
            lock(&self.state.hidden).remove(manifest.digest().as_str());
            Ok(())
        };
        self.request(call.into(), push).await
    }

    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> Result<()> {
        let set = async {
            self.memory.tag(manifest, tag).await?;
            lock(&self.state.hidden).remove(tag.as_str());
            lock(&self.state.set_at).insert(tag.to_string(), Instant::now());
            Ok(())
        };
        self.request(format!("tag {tag}"), set).await
    }

    async fn push_file(
        &self,
        media_type: MediaType,
        path: &std::path::Path,
        meter: &Meter,
    ) -> Result<(Blob, Delivery)> {
        let blob = Blob::from_file(media_type, path).await?;
        let delivery = self.push_blob(&blob.clone().metered(meter)).await?;
        Ok((blob, delivery))
    }

    async fn tag_once(&self, manifest: &Manifest, tag: &Tag) -> Result<()> {
        self.tag(manifest, tag).await
    }

    async fn complete(&self, untagged: Option<&Manifest>) -> Result<()> {
        self.memory.complete(untagged).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Delete for FakeRepository {
    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        if *lock(&self.state.ignores_deletions) {
            return Ok(());
        }
        let deletion = self.memory.delete_tag(tag);
        self.request(format!("delete {tag}"), deletion).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        let deletion = self.memory.delete_manifest(digest);
        self.request(format!("delete {digest}"), deletion).await
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        self.memory.delete_blob(digest).await
    }
}
