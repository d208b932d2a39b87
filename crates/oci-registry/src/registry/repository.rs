//! One repository of a registry, as a source and a target.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use snafu::{IntoError, ResultExt, Snafu, ensure};
use url::Url;

use super::upload::{self, Uploads};
use super::{download, page, referrers, response};
use crate::auth::scope::Scope;
use crate::blob::{Beginning, Blob, BlobStream, Meter};
use crate::digest::{Algorithm, Digest};
use crate::error::{ErrorKind, Failure, Optional};
use crate::exchange::body::Body;
use crate::exchange::secrets::Secrets;
use crate::exchange::{Request, Response, Stalls};
use crate::journal::{self, Observer};
use crate::manifest::{self, Descriptor, Manifest, MediaType};
use crate::reference::{Identifier, Reference, RegistryName, RepositoryName, Tag};
use crate::referrers::{DescriptorStream, is_same};
use crate::storage::{Delivery, Source, TagStream, Target};
use crate::transport::{Answer, Transport};

/// The header in which registries name what they serve or took.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

/// The header in which a registry with lists of referrers names the subject of the manifest that it took.
const SUBJECT: &str = "oci-subject";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to fetch `{reference}`"))]
    FetchManifest {
        reference: Reference,
        source: crate::Error,
    },
    #[snafu(display("refused `{reference}`: the registry sent a manifest with digest {actual}"))]
    OtherManifest {
        reference: Reference,
        actual: Digest,
    },
    #[snafu(display("failed to list the tags of `{repository}`"))]
    ListTags {
        repository: Reference,
        source: crate::Error,
    },
    #[snafu(display("failed to find out whether `{repository}` has the blob {digest}"))]
    FindBlob {
        repository: Reference,
        digest: Digest,
        source: crate::Error,
    },
    #[snafu(display("failed to find the blob {digest} in `{repository}`"))]
    NoBlob {
        repository: Reference,
        digest: Digest,
    },
    #[snafu(display(
        "failed to find out the size of the blob {digest} of `{repository}`: the registry does not say it"
    ))]
    SizeUntold {
        repository: Reference,
        digest: Digest,
    },
    #[snafu(display("failed to push the blob {digest} to `{repository}`"))]
    PushBlob {
        repository: Reference,
        digest: Digest,
        source: crate::Error,
    },
    #[snafu(display("failed to push `{}` to `{repository}`", path.display()))]
    PushFile {
        repository: Reference,
        path: PathBuf,
        source: crate::Error,
    },
    #[snafu(display("failed to push `{reference}`"))]
    PushManifest {
        reference: Reference,
        source: crate::Error,
    },
    #[snafu(display(
        "failed to push `{reference}`: the registry took it, and does not have it under that name"
    ))]
    NotKept { reference: Reference },
}

impl Error {
    fn cause(&self) -> Option<&crate::Error> {
        match self {
            Self::FetchManifest { source, .. }
            | Self::ListTags { source, .. }
            | Self::FindBlob { source, .. }
            | Self::PushBlob { source, .. }
            | Self::PushFile { source, .. }
            | Self::PushManifest { source, .. } => Some(source),
            Self::OtherManifest { .. }
            | Self::NotKept { .. }
            | Self::NoBlob { .. }
            | Self::SizeUntold { .. } => None,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::OtherManifest { .. } => ErrorKind::Mismatch,
            Self::NotKept { .. } | Self::SizeUntold { .. } => ErrorKind::Protocol,
            Self::NoBlob { .. } => ErrorKind::NotFound,
            _ => self.cause().map_or(ErrorKind::Protocol, crate::Error::kind),
        }
    }
}

/// What a repository is opened for, so that one token is asked for everything that will be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Pull,
    /// Reading and writing.
    Push,
}

/// One repository of a registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    transport: Arc<Transport>,
    uploads: Arc<Uploads>,
    reference: Reference,
    name: RepositoryName,
    path: Arc<str>,
    scope: Scope,
    connections_per_blob: usize,
    /// Idle timeouts of the operation that this value serves, if it serves a single one.
    stalls: Option<Stalls>,
    lists: Observer,
    /// Whether the registry has answered a list of referrers.
    lists_referrers: Arc<AtomicBool>,
}

impl Repository {
    pub(super) fn new(
        transport: Arc<Transport>,
        uploads: Arc<Uploads>,
        reference: &Reference,
        access: Access,
    ) -> Self {
        let name = api_name(reference);
        let path = format!("/v2/{name}/").into();
        let scope = match access {
            Access::Pull => Scope::Pull(name.clone()),
            Access::Push => Scope::Push(name.clone()),
        };
        Self {
            transport,
            uploads,
            reference: reference.whole_repository(),
            name,
            path,
            scope,
            connections_per_blob: 1,
            lists: Observer::default(),
            lists_referrers: Arc::default(),
            stalls: None,
        }
    }

    /// The same repository for one operation, whose requests share the count of idle timeouts in a row.
    pub(super) fn for_one_operation(&self) -> Self {
        Self {
            stalls: Some(Stalls::default()),
            ..self.clone()
        }
    }

    /// Whether the operation is to be given up because of idle timeouts in a row.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalls.as_ref().is_some_and(Stalls::is_over)
    }

    /// Records progress of the operation, which ends a row of idle timeouts.
    pub(super) fn progressed(&self) {
        if let Some(stalls) = &self.stalls {
            stalls.reset();
        }
    }

    /// The same repository, whose list of tags reports omitted names to this observer.
    pub(super) fn with_list_observer(self, lists: Observer) -> Self {
        Self { lists, ..self }
    }

    /// The same repository, whose large blobs are fetched over so many connections.
    pub(super) fn with_connections_per_blob(self, connections_per_blob: usize) -> Self {
        Self {
            connections_per_blob,
            ..self
        }
    }

    pub(super) fn connections_per_blob(&self) -> usize {
        self.connections_per_blob
    }

    /// The repository's full name.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    pub(super) fn registry(&self) -> &RegistryName {
        self.reference.registry()
    }

    /// The URL of something within the repository; `rest` is made of parsed names only.
    pub(super) fn url(&self, rest: &str) -> Url {
        self.transport.url(&format!("{}{rest}", self.path))
    }

    /// The uploads to this registry.
    pub(super) fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// Whether an answer came from the registry itself.
    pub(super) fn is_home(&self, response: &Response) -> bool {
        self.transport.is_home(response)
    }

    /// What has been sent and must not be shown, whoever repeats it.
    pub(super) fn secrets(&self) -> &Secrets {
        self.transport.secrets()
    }

    /// Who hears of what is done.
    pub(super) fn observer(&self) -> &Observer {
        self.transport.observer()
    }

    /// What a token for this repository is wanted for.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The name in URLs and scopes.
    pub(super) fn name(&self) -> &RepositoryName {
        &self.name
    }

    pub(super) async fn send(&self, request: Request) -> crate::Result<Answer> {
        self.send_as(request, &self.scope).await
    }

    pub(super) async fn send_as(&self, request: Request, scope: &Scope) -> crate::Result<Answer> {
        let request = match &self.stalls {
            Some(stalls) => request.counting(stalls),
            None => request,
        };
        self.transport.send(request, scope).await
    }

    pub(super) async fn has_blob(&self, digest: &Digest) -> crate::Result<bool> {
        Ok(self.head_blob(digest).await?.is_some())
    }

    /// What a HEAD of a blob is answered, if it is there.
    async fn head_blob(&self, digest: &Digest) -> crate::Result<Option<Response>> {
        let context = |source| {
            FindBlobSnafu {
                repository: self.reference.clone(),
                digest: digest.clone(),
            }
            .into_error(source)
        };
        let request = Request::new(Method::HEAD, self.url(&format!("blobs/{digest}")));
        let answer = self.send(request).await.map_err(context)?;
        match answer.response.status {
            status if status.is_success() => Ok(Some(answer.response)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(context(response::refusal(self.registry(), answer).await).into()),
        }
    }

    pub(super) fn manifest_url(&self, identifier: &Identifier) -> Url {
        self.url(&format!("manifests/{identifier}"))
    }

    pub(super) fn manifest_request(&self, method: Method, identifier: &Identifier) -> Request {
        let accepted = MediaType::MANIFESTS
            .map(|media_type| media_type.to_string())
            .join(", ");
        let accepted = HeaderValue::try_from(accepted).expect("media types are header values");
        Request::new(method, self.manifest_url(identifier)).header(header::ACCEPT, accepted)
    }

    async fn fetch_manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        let answer = self
            .send(self.manifest_request(Method::GET, identifier))
            .await?;
        self.read_manifest(answer, identifier).await
    }

    /// The manifest that an answer holds, which was asked for by this identifier.
    pub(super) async fn read_manifest(
        &self,
        answer: Answer,
        identifier: &Identifier,
    ) -> crate::Result<Manifest> {
        if !answer.response.status.is_success() {
            return Err(response::refusal(self.registry(), answer).await);
        }
        let content_type = answer
            .response
            .header(header::CONTENT_TYPE.as_str())
            .map(str::to_owned);
        let bytes = answer.response.bytes(manifest::MAX_READ).await?;
        if let Identifier::Digest(digest) = identifier {
            // Before anything is made of the bytes, and whatever the registry calls them.
            let mut hasher = digest.verifier()?;
            hasher.update(&bytes);
            let actual = hasher.finish();
            ensure!(
                actual == *digest,
                OtherManifestSnafu {
                    reference: self.reference.with(digest.clone()),
                    actual
                }
            );
            return Ok(Manifest::parse(bytes, content_type.as_deref())?.known_as(digest.clone()));
        }
        Manifest::parse(bytes, content_type.as_deref())
    }

    /// What a HEAD tells, when it tells enough.
    async fn head_manifest(&self, identifier: &Identifier) -> crate::Result<Option<Descriptor>> {
        let answer = self
            .send(self.manifest_request(Method::HEAD, identifier))
            .await?;
        let response = &answer.response;
        if response.status == StatusCode::NOT_FOUND {
            return Err(response::refusal(self.registry(), answer).await);
        }
        if matches!(response.status.as_u16(), 401 | 429 | 500..) {
            return Err(response::refusal(self.registry(), answer).await);
        }
        let media_type = response
            .header(header::CONTENT_TYPE.as_str())
            .map(MediaType::from_content_type);
        let digest = response
            .header(CONTENT_DIGEST)
            .and_then(|digest| digest.parse().ok());
        let size = response
            .header(header::CONTENT_LENGTH.as_str())
            .and_then(|size| size.parse().ok());
        let (true, Some(media_type), Some(digest), Some(size)) =
            (response.status.is_success(), media_type, digest, size)
        else {
            return Ok(None);
        };
        // By another algorithm than everybody's the same content would look like other content.
        let is_asked = match identifier {
            Identifier::Digest(asked) => *asked == digest,
            Identifier::Tag(_) => digest.algorithm() == Some(Algorithm::Sha256),
        };
        Ok((media_type.is_manifest() && is_asked)
            .then(|| Descriptor::new(media_type, digest, size)))
    }

    /// A request that puts a manifest under this identifier.
    pub(super) fn put_request(&self, manifest: &Manifest, identifier: &Identifier) -> Request {
        let media_type = HeaderValue::try_from(manifest.media_type().as_str());
        let media_type = media_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
        Request::new(Method::PUT, self.manifest_url(identifier))
            .header(header::CONTENT_TYPE, media_type)
            .body(Body::Bytes(manifest.bytes().clone()))
    }

    /// Whether the registry keeps lists of referrers; requested until it has answered one.
    async fn lists_referrers(&self, subject: &Digest) -> crate::Result<bool> {
        if self.lists_referrers.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let has_list = referrers::has_list(self, subject).await?;
        self.lists_referrers.fetch_or(has_list, Ordering::Relaxed);
        Ok(has_list)
    }

    async fn put_tag(&self, manifest: &Manifest, tag: &Tag, replay: bool) -> crate::Result<()> {
        let identifier = Identifier::Tag(tag.clone());
        let pushed = self.put_manifest(manifest, &identifier, replay).await;
        pushed.with_context(|_| PushManifestSnafu {
            reference: self.reference.with(identifier),
        })?;
        Ok(())
    }

    /// Puts a manifest, and returns whether the registry answered with the header that names its subject.
    async fn put_manifest(
        &self,
        manifest: &Manifest,
        identifier: &Identifier,
        replay: bool,
    ) -> crate::Result<bool> {
        let request = self.put_request(manifest, identifier);
        let request = if replay { request } else { request.once() };
        let answer = self.send(request).await?;
        if !answer.response.status.is_success() {
            let refusal = response::refusal(self.registry(), answer).await;
            // An immutable tag refuses even what it holds already.
            let is_held = refusal.kind() == ErrorKind::Conflict
                && self
                    .resolve(identifier)
                    .await
                    .optional()?
                    .is_some_and(|held| is_same(manifest, &held.digest));
            return if is_held { Ok(false) } else { Err(refusal) };
        }
        let notes_subject = answer.response.header(SUBJECT)
            == manifest.subject().map(|subject| subject.digest.as_str());
        let told = answer.response.header(CONTENT_DIGEST);
        let told = told.and_then(|digest| digest.parse().ok());
        if told.is_some_and(|digest| is_same(manifest, &digest)) {
            return Ok(notes_subject);
        }
        // Not every server that answers 200 is a registry.
        let kept = self.resolve(identifier).await.optional()?;
        let is_kept = kept.is_some_and(|kept| is_same(manifest, &kept.digest));
        ensure!(
            is_kept,
            NotKeptSnafu {
                reference: self.reference.with(identifier.clone())
            }
        );
        Ok(notes_subject)
    }
}

/// Whether reading a file twice would take longer than a request more. What cannot be read is found out later.
async fn is_large(path: &Path) -> bool {
    tokio::fs::metadata(path)
        .await
        .is_ok_and(|metadata| metadata.len() > upload::STREAM_FROM)
}

/// The name in URLs: Docker Hub keeps its own images under `library/`.
pub(super) fn api_name(reference: &Reference) -> RepositoryName {
    let name = reference.repository();
    let is_hub = matches!(
        reference.registry().as_str(),
        "docker.io" | "index.docker.io" | "registry-1.docker.io"
    );
    match format!("library/{name}").parse() {
        Ok(library) if is_hub && !name.as_str().contains('/') => library,
        _ => name.clone(),
    }
}

#[async_trait]
impl Source for Repository {
    async fn manifest(&self, identifier: &Identifier) -> crate::Result<Manifest> {
        let fetched = self.fetch_manifest(identifier).await;
        Ok(fetched.with_context(|_| FetchManifestSnafu {
            reference: self.reference.with(identifier.clone()),
        })?)
    }

    async fn resolve(&self, identifier: &Identifier) -> crate::Result<Descriptor> {
        let told = self.head_manifest(identifier).await;
        let told = told.with_context(|_| FetchManifestSnafu {
            reference: self.reference.with(identifier.clone()),
        })?;
        match told {
            Some(descriptor) => Ok(descriptor),
            None => Ok(self.manifest(identifier).await?.descriptor()),
        }
    }

    async fn blob(&self, descriptor: &Descriptor) -> crate::Result<BlobStream> {
        download::open(self, descriptor).await
    }

    async fn blob_after(
        &self,
        descriptor: &Descriptor,
        beginning: Beginning,
    ) -> crate::Result<BlobStream> {
        download::open_after(self, descriptor, beginning).await
    }

    async fn find_blob(&self, digest: &Digest) -> crate::Result<Descriptor> {
        let (repository, digest) = (self.reference.clone(), digest.clone());
        let Some(found) = self.head_blob(&digest).await? else {
            return Err(NoBlobSnafu { repository, digest }.build().into());
        };
        let size = found.header(header::CONTENT_LENGTH.as_str());
        let Some(size) = size.and_then(|size| size.parse().ok()) else {
            return Err(SizeUntoldSnafu { repository, digest }.build().into());
        };
        let media_type = MediaType::OCTET_STREAM;
        Ok(Descriptor::new(media_type, digest, size))
    }

    fn tags(&self) -> TagStream {
        let names = page::stream(
            Arc::clone(&self.transport),
            &format!("{}tags/list", self.path),
            self.scope.clone(),
        );
        let repository = self.reference.clone();
        let place = repository.to_string();
        let names = names.map_err(move |error| {
            let repository = repository.clone();
            crate::Error::from(ListTagsSnafu { repository }.into_error(error))
        });
        journal::valid_names(names, place, self.lists.clone(), |name| name.parse().ok())
    }

    fn referrers(&self, subject: &Digest, artifact_type: Option<&MediaType>) -> DescriptorStream {
        referrers::list(self.clone(), subject.clone(), artifact_type.cloned())
    }

    fn origin(&self) -> Option<&Reference> {
        Some(&self.reference)
    }

    fn describe(&self, identifier: &Identifier) -> String {
        self.reference.with(identifier.clone()).to_string()
    }
}

#[async_trait]
impl Target for Repository {
    async fn exists(&self, descriptor: &Descriptor) -> crate::Result<bool> {
        if descriptor.media_type.is_manifest() {
            let found = self
                .resolve(&descriptor.digest.clone().into())
                .await
                .optional()?;
            return Ok(found.is_some());
        }
        self.has_blob(&descriptor.digest).await
    }

    async fn push_blob(&self, blob: &Blob) -> crate::Result<Delivery> {
        if self.has_blob(blob.digest()).await? {
            return Ok(Delivery::Existed);
        }
        let sent = upload::send(self, blob).await;
        Ok(sent.with_context(|_| PushBlobSnafu {
            repository: self.reference.clone(),
            digest: blob.digest().clone(),
        })?)
    }

    async fn push_file(
        &self,
        media_type: MediaType,
        path: &Path,
        meter: &Meter,
    ) -> crate::Result<(Blob, Delivery)> {
        if self.uploads.streams() && is_large(path).await {
            let sent = upload::send_unhashed(self, &media_type, path, meter).await;
            let sent = sent.with_context(|_| PushFileSnafu {
                repository: self.reference.clone(),
                path,
            })?;
            if let Some(sent) = sent {
                return Ok(sent);
            }
        }
        let small = Blob::of_small_file(media_type.clone(), path).await?;
        let (blob, sent) = if let Some(small) = small {
            small
        } else {
            let blob = Blob::from_file(media_type, path).await?;
            (blob.clone(), blob)
        };
        let delivery = self.push_blob(&sent.metered(meter)).await?;
        Ok((blob, delivery))
    }

    async fn push_manifest(&self, manifest: &Manifest) -> crate::Result<()> {
        let identifier = Identifier::Digest(manifest.digest().clone());
        let pushed = async {
            let notes_subject = self.put_manifest(manifest, &identifier, true).await?;
            let Some(subject) = manifest.subject() else {
                return Ok(());
            };
            // `OCI-Subject` alone is no proof: a registry may send it and keep no list.
            if notes_subject && self.lists_referrers(&subject.digest).await? {
                return Ok(());
            }
            referrers::add(self, &subject.digest, manifest).await
        };
        Ok(pushed.await.with_context(|_| PushManifestSnafu {
            reference: self.reference.with(identifier),
        })?)
    }

    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
        self.put_tag(manifest, tag, true).await
    }

    async fn tag_once(&self, manifest: &Manifest, tag: &Tag) -> crate::Result<()> {
        self.put_tag(manifest, tag, false).await
    }
}
