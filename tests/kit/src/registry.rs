//! In-memory registry with one repository, `acme/widgets`, and switches for the quirks of real registries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::server::{Request, Response, Server};
use crate::sha256;

/// Media type of an image index.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Path of the repository.
const REPOSITORY: &str = "/v2/acme/widgets/";

/// Content that clients can delete. The number is the response status for deletions of other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deletion {
    /// Tags, manifests and blobs.
    #[default]
    Everything,
    /// Manifests and blobs, but no tags.
    NoTags(u16),
    /// No content.
    Nothing(u16),
}

/// Quirks of a registry. By default, the registry has the referrers API and deletes all content on request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Switches {
    /// Content that can be deleted.
    pub deletion: Deletion,
    /// The registry has no referrers API and responds with 404, so clients maintain the fallback tag.
    pub no_referrers: bool,
    /// Maximum size of a chunk or of a whole upload, in bytes. The registry responds to a larger request with 416, as
    /// GHCR does.
    pub chunk_limit: Option<usize>,
    /// The list of tags omits tags that are created while this switch is on.
    pub stale_lists: bool,
}

/// Stored manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// Media type in the request that stored the manifest.
    pub media_type: String,
    /// Exact bytes of the manifest.
    pub bytes: Vec<u8>,
}

impl StoredManifest {
    fn new(media_type: &str, bytes: impl AsRef<[u8]>) -> Self {
        Self {
            media_type: media_type.to_owned(),
            bytes: bytes.as_ref().to_vec(),
        }
    }

    /// Returns the digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> String {
        sha256(&self.bytes)
    }

    /// Returns the response to a GET of this manifest.
    #[must_use]
    pub fn response(&self) -> Response {
        Response::new(200)
            .header("Content-Type", &self.media_type)
            .header("Docker-Content-Digest", self.digest())
            .body(&self.bytes)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }
}

/// Content of the repository.
#[derive(Debug, Default)]
pub struct Contents {
    /// Quirks of the registry. A test may change the quirks while the registry runs.
    pub switches: Switches,
    /// Manifests by digest.
    pub manifests: BTreeMap<String, StoredManifest>,
    /// Digest to which each tag points.
    pub tags: BTreeMap<String, String>,
    /// Blobs by digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Bytes that each upload session has received so far.
    uploads: Vec<Vec<u8>>,
    /// Tags that the list omits.
    unlisted: Vec<String>,
}

/// In-memory registry and the server in front of it.
#[derive(Debug)]
pub struct FakeRegistry {
    /// Server that records the requests.
    pub server: Server,
    contents: Arc<Mutex<Contents>>,
}

impl FakeRegistry {
    /// Starts an empty registry.
    #[must_use]
    pub fn start(switches: Switches) -> Self {
        Self::start_with(switches, |_, _, _| None)
    }

    /// Starts an empty registry. The closure receives each request first, with the number of earlier requests that have
    /// the same method and path. If the closure returns a response, it replaces the response of the registry.
    pub fn start_with(
        switches: Switches,
        script: impl Fn(&Request, usize, &mut Contents) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        let contents = Arc::new(Mutex::new(Contents {
            switches,
            ..Contents::default()
        }));
        let shared = Arc::clone(&contents);
        let server = Server::start(move |request, earlier| {
            let mut contents = shared.lock().unwrap();
            let response = script(request, earlier, &mut contents);
            response.unwrap_or_else(|| contents.respond(request))
        });
        Self { server, contents }
    }

    /// Returns the current content. The registry does not respond until the guard is dropped.
    pub fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap()
    }

    /// Returns the manifest to which a tag points.
    #[must_use]
    pub fn tagged_manifest(&self, tag: &str) -> Option<StoredManifest> {
        self.contents().find_manifest(tag).cloned()
    }

    /// Counts the requests that have this method and a target that ends with `end`.
    #[must_use]
    pub fn count(&self, method: &str, end: &str) -> usize {
        let is_counted =
            |request: &&Request| request.method == method && request.target.ends_with(end);
        self.server.requests().iter().filter(is_counted).count()
    }
}

impl Contents {
    /// Stores a manifest. If `name` is not the digest, also sets the tag `name`.
    pub fn store_manifest(&mut self, name: &str, media_type: &str, bytes: impl AsRef<[u8]>) {
        let manifest = StoredManifest::new(media_type, bytes);
        let digest = manifest.digest();
        if name != digest {
            self.tags.insert(name.to_owned(), digest.clone());
        }
        self.manifests.insert(digest, manifest);
    }

    /// Returns the manifest with this tag or digest.
    #[must_use]
    pub fn find_manifest(&self, name: &str) -> Option<&StoredManifest> {
        let digest = self.tags.get(name).map_or(name, String::as_str);
        self.manifests.get(digest)
    }

    /// Returns the response of the registry to a request.
    pub fn respond(&mut self, request: &Request) -> Response {
        if request.path().starts_with("/upload/") {
            return self.handle_upload(request);
        }
        // Any path outside the repository is handled as `/v2/`, which requires no authentication here.
        let Some(rest) = request.path().strip_prefix(REPOSITORY) else {
            return Response::new(200);
        };
        let (kind, name) = rest.split_once('/').unwrap();
        match (request.method.as_str(), kind) {
            ("POST", "blobs") => {
                self.uploads.push(Vec::new());
                let location = format!("/upload/{}", self.uploads.len() - 1);
                Response::new(202).header("Location", location)
            }
            ("GET" | "HEAD", "blobs") => match self.blobs.get(name) {
                Some(blob) => Response::new(200).body(blob),
                None => Response::error(404, "BLOB_UNKNOWN"),
            },
            ("GET" | "HEAD", "manifests") => match self.find_manifest(name) {
                Some(manifest) => manifest.response(),
                None => Response::error(404, "MANIFEST_UNKNOWN"),
            },
            ("PUT", "manifests") => self.handle_manifest_put(request, name),
            ("GET", "tags") => self.list_tags(),
            ("GET", "referrers") if !self.switches.no_referrers => self.list_referrers(name),
            ("DELETE", _) => self.handle_delete(kind, name),
            _ => Response::new(404).body("404 page not found\n"),
        }
    }

    fn handle_manifest_put(&mut self, request: &Request, name: &str) -> Response {
        let media_type = request.header("content-type").unwrap_or_default();
        let manifest = StoredManifest::new(media_type, &request.body);
        if self.switches.stale_lists && !self.tags.contains_key(name) {
            self.unlisted.push(name.to_owned());
        }
        self.store_manifest(name, media_type, &request.body);
        let response = Response::new(201).header("Docker-Content-Digest", manifest.digest());
        match manifest.json()["subject"]["digest"].as_str() {
            Some(subject) if !self.switches.no_referrers => response.header("OCI-Subject", subject),
            _ => response,
        }
    }

    /// Appends bytes to the upload session of a request, as if the client had sent them.
    pub fn append_to_upload(&mut self, request: &Request, bytes: &[u8]) {
        if let Some(received) = self.upload_session(request) {
            received.extend(bytes);
        }
    }

    /// Returns the bytes that the upload session of a request has received so far.
    fn upload_session(&mut self, request: &Request) -> Option<&mut Vec<u8>> {
        let number = request.path().strip_prefix("/upload/")?;
        self.uploads.get_mut(number.parse::<usize>().ok()?)
    }

    fn handle_upload(&mut self, request: &Request) -> Response {
        let limit = self.switches.chunk_limit.unwrap_or(usize::MAX);
        let Some(received) = self.upload_session(request) else {
            return Response::error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        if request.method == "DELETE" {
            received.clear();
            return Response::new(204);
        }
        let range = format!("0-{}", received.len().saturating_sub(1));
        let first = request.header("content-range").unwrap_or("0-");
        let is_next = first.starts_with(&format!("{}-", received.len()));
        if request.body.len() > limit || request.method == "PATCH" && !is_next {
            return Response::error(416, "REQUESTED_RANGE_NOT_SATISFIABLE").header("Range", range);
        }
        received.extend(&request.body);
        let range = format!("0-{}", received.len().saturating_sub(1));
        if request.method != "PUT" {
            return Response::new(if request.method == "GET" { 204 } else { 202 })
                .header("Location", request.path())
                .header("Range", range);
        }
        let digest = sha256(received);
        if !request.target.replace("%3A", ":").ends_with(&digest) {
            return Response::error(400, "DIGEST_INVALID");
        }
        let content = std::mem::take(received);
        self.blobs.insert(digest, content);
        Response::new(201)
    }

    fn list_tags(&self) -> Response {
        let is_listed = |tag: &&String| !self.unlisted.contains(tag);
        let tags: Vec<_> = self.tags.keys().filter(is_listed).collect();
        let document = json!({ "name": "acme/widgets", "tags": tags });
        Response::new(200).body(document.to_string())
    }

    fn list_referrers(&self, subject: &str) -> Response {
        let refers = |manifest: &&StoredManifest| manifest.json()["subject"]["digest"] == subject;
        let descriptor = |manifest: &StoredManifest| {
            let document = manifest.json();
            let mut descriptor = json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest(),
                "size": manifest.bytes.len(),
            });
            let artifact_type = match &document["artifactType"] {
                Value::Null => &document["config"]["mediaType"],
                artifact_type => artifact_type,
            };
            for (key, value) in [
                ("artifactType", artifact_type),
                ("annotations", &document["annotations"]),
            ] {
                if !value.is_null() {
                    descriptor[key] = value.clone();
                }
            }
            descriptor
        };
        let manifests = self.manifests.values().filter(refers).map(descriptor);
        let manifests: Vec<_> = manifests.collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        Response::new(200)
            .header("Content-Type", INDEX)
            .body(index.to_string())
    }

    fn handle_delete(&mut self, kind: &str, name: &str) -> Response {
        let is_tag = kind == "manifests" && !name.contains(':');
        let existed = match self.switches.deletion {
            Deletion::Nothing(status) => return Response::new(status),
            Deletion::NoTags(status) if is_tag => return Response::new(status),
            _ if is_tag => self.tags.remove(name).is_some(),
            _ if kind == "manifests" => {
                self.tags.retain(|_, digest| digest != name);
                self.manifests.remove(name).is_some()
            }
            _ => self.blobs.remove(name).is_some(),
        };
        Response::new(if existed { 202 } else { 404 })
    }
}
