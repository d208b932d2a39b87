//! Clients for scripted servers, and the content that these clients push and pull.

#![allow(dead_code, reason = "no test binary uses every helper")]

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use oci_registry::{
    Access, Annotations, Blob, Client, ClientEvent, ClientOptions, Credential, CredentialProvider,
    CredentialRequest, Descriptor, Digest, Environment, Error, Identifier, Lookup, Manifest,
    MediaType, Observer, Packed, Repository, Secret, Source,
};
use testkit::registry::{Contents, FakeRegistry};
use testkit::server::{Response, Server, advance_clock};

/// Secret that may appear only in the `Authorization` header field.
pub(crate) const CANARY: &str = "canary-5f3a";

/// Provider of a user name and the password [`CANARY`].
#[derive(Debug)]
pub(crate) struct Password;

#[async_trait::async_trait]
impl CredentialProvider for Password {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        let credential = Credential::Basic {
            username: "me".into(),
            password: Secret::new(CANARY),
        };
        Ok(found_lookup(credential))
    }
}

/// Provider that has no credential.
#[derive(Debug)]
pub(crate) struct NoCredential;

#[async_trait::async_trait]
impl CredentialProvider for NoCredential {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        Ok(Lookup {
            found: None,
            searched: vec!["here".into(), "there".into()],
            ..Lookup::default()
        })
    }
}

/// Returns the result of a lookup that found this credential.
pub(crate) fn found_lookup(credential: Credential) -> Lookup {
    Lookup {
        found: Some((credential, "a test".into())),
        searched: vec!["a test".into()],
        ..Lookup::default()
    }
}

// ---- clients

/// Returns the options of a client with these credentials and an empty environment.
pub(crate) fn options(credentials: impl CredentialProvider + 'static) -> ClientOptions {
    let mut options = ClientOptions::new(Environment::default());
    options.credentials = Arc::new(credentials);
    options
}

pub(crate) fn client(credentials: impl CredentialProvider + 'static) -> Client {
    Client::new(options(credentials))
}

/// Opens the repository `acme/widgets` of a server.
pub(crate) fn open(client: &Client, server: &Server, access: Access) -> Repository {
    let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
    client.repository(&reference, access).unwrap()
}

pub(crate) fn repository(
    server: &Server,
    credentials: impl CredentialProvider + 'static,
    access: Access,
) -> Repository {
    open(&client(credentials), server, access)
}

/// Opens the repository `acme/widgets` of a server for reading, with a client that has no credential.
pub(crate) fn reader(server: &Server) -> Repository {
    repository(server, NoCredential, Access::Pull)
}

/// Opens the repository `acme/widgets` of a server for writing, with a client that has no credential.
pub(crate) fn writer(server: &Server) -> Repository {
    repository(server, NoCredential, Access::Push)
}

/// Reads the tag `1` and returns the error.
pub(crate) async fn read_error(repository: &Repository) -> Error {
    repository.manifest(&by_tag("1")).await.unwrap_err()
}

/// Returns a client that has no credential and reports to this observer.
pub(crate) fn observed_client(observer: Observer) -> Client {
    let mut options = options(NoCredential);
    options.observer = observer;
    Client::new(options)
}

/// Values that an observer has recorded.
pub(crate) type Observed<T> = Arc<Mutex<Vec<T>>>;

/// Returns an observer that records the value of the function for each event, and the list of the recorded values.
pub(crate) fn observe<T: Send + 'static>(
    value: impl Fn(&ClientEvent) -> Option<T> + Send + Sync + 'static,
) -> (Observer, Observed<T>) {
    let selected = Observed::default();
    let values = Arc::clone(&selected);
    let observer = Observer::new(move |event| values.lock().unwrap().extend(value(event)));
    (observer, selected)
}

/// Returns an observer that records the operation, the cause and the attempts of each retry, and the list of these
/// records. The observer advances the paused clock by the delay of the retry.
pub(crate) fn observe_retries() -> (Observer, Observed<String>) {
    observe(|event| match event {
        ClientEvent::Retry(retry) => {
            tokio::spawn(advance_clock(retry.delay));
            let (operation, cause) = (&retry.operation, &retry.cause);
            let (attempt, attempts) = (retry.attempt, retry.attempts);
            Some(format!("{operation}: {cause} ({attempt}/{attempts})"))
        }
        _ => None,
    })
}

/// Returns all text that an error can show. Panics if the text contains [`CANARY`].
pub(crate) fn error_text(error: &Error) -> String {
    let mut text = format!(
        "{error:?}\n{error}\n{:?}\n{:?}",
        error.hints(),
        error.registry_errors()
    );
    let mut below = std::error::Error::source(error);
    while let Some(cause) = below {
        write!(text, "\n{cause}\n{cause:?}").unwrap();
        below = cause.source();
    }
    assert!(!text.contains(CANARY), "{text}");
    text
}

// ---- content

/// Returns bytes that repeat with a period that is not a power of two, so a part at a wrong offset differs.
pub(crate) fn bytes(size: usize) -> Vec<u8> {
    let period: Vec<u8> = (0..251).collect();
    let mut bytes = period.repeat(size.div_ceil(period.len()));
    bytes.truncate(size);
    bytes
}

pub(crate) fn blob(content: impl Into<bytes::Bytes>) -> Blob {
    Blob::from_bytes(MediaType::OCTET_STREAM, content)
}

pub(crate) fn descriptor(content: &[u8]) -> Descriptor {
    let (digest, size) = (Digest::sha256(content), content.len() as u64);
    Descriptor::new(MediaType::OCTET_STREAM, digest, size)
}

/// Returns an artifact with one layer.
pub(crate) fn packed(content: &'static str) -> Packed {
    let layer = blob(content);
    Packed::new("a/b".into(), Blob::empty(), vec![layer], Annotations::new()).unwrap()
}

/// Returns the manifest of an artifact with one layer.
pub(crate) fn manifest(content: &'static str) -> Manifest {
    packed(content).manifest().clone()
}

pub(crate) fn by_tag(name: &str) -> Identifier {
    Identifier::Tag(name.parse().unwrap())
}

/// Returns the response to a GET of a manifest.
pub(crate) fn manifest_response(manifest: &Manifest) -> Response {
    Response::new(200)
        .header("Content-Type", manifest.media_type())
        .header("Docker-Content-Digest", manifest.digest())
        .body(manifest.bytes())
}

// ---- a registry in memory

/// Stores a manifest under a tag, or under its digest only.
pub(crate) fn store(contents: &mut Contents, name: &str, manifest: &Manifest) {
    let media_type = manifest.media_type().as_str();
    contents.store_manifest(name, media_type, manifest.bytes());
}

/// Returns the manifest that a tag refers to.
pub(crate) fn tagged_manifest(registry: &FakeRegistry, tag: &str) -> Option<Manifest> {
    let stored = registry.tagged_manifest(tag)?;
    let manifest = Manifest::parse(stored.bytes.into(), Some(&stored.media_type));
    Some(manifest.unwrap())
}
