//! A docker-registry process on a free loopback port, with a data directory of its own.
//!
//! It ends with the value that started it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::{Method, Request, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::loopback;
use crate::process::Process;
use crate::testbed::Part;
use crate::token::{ISSUER, SERVICE, TokenPolicy, TokenServer};

/// The one user that a registry with passwords or tokens knows.
pub const USER: &str = "carol";
/// Her password.
pub const PASSWORD: &str = "correct horse";

/// Someone whom a registry with passwords lets in.
#[derive(Clone, Copy, Debug)]
struct Account {
    user: &'static str,
    password: &'static str,
    /// The password for bcrypt, the one algorithm that the registry takes.
    bcrypt: &'static str,
}

const CAROL: Account = Account {
    user: USER,
    password: PASSWORD,
    bcrypt: "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
};

/// The password that the stand-ins for AWS give out.
pub const AMAZON_PASSWORD: &str = "123456789012-auth-token";

/// Whom Amazon's registries know, with the password that the stand-in for AWS gives out.
const AMAZON: Account = Account {
    user: "AWS",
    password: AMAZON_PASSWORD,
    bcrypt: "$2b$05$abcdefghijklmnopqrstuu/4ofrUS75HrKu6f.iuRo0I/XlrmpqlC",
};

/// The manifests that a reader knows.
const MANIFESTS: &str =
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    host: String,
    data: TempDir,
    gate: Gate,
}

/// Who gets in.
#[derive(Debug)]
enum Gate {
    Open,
    Passwords(Account),
    Tokens(Box<TokenServer>),
}

impl Registry {
    /// A registry that lets everybody do everything.
    #[must_use]
    pub fn open() -> Self {
        Self::start(Gate::Open)
    }

    /// A registry that lets everybody in and nothing go: it deletes nothing.
    #[must_use]
    pub fn keeping() -> Self {
        Self::start_with(Gate::Open, false)
    }

    /// A registry that asks for a password (Basic).
    #[must_use]
    pub fn with_passwords() -> Self {
        Self::start(Gate::Passwords(CAROL))
    }

    /// A registry that asks for the password which [`Aws`](crate::aws::Aws) gives out.
    #[must_use]
    pub fn of_amazon() -> Self {
        Self::start(Gate::Passwords(AMAZON))
    }

    /// A registry that everybody may read, and that takes the password which
    /// [`AwsPublic`](crate::aws::AwsPublic) gives out.
    #[must_use]
    pub fn of_amazon_public() -> Self {
        Self::with_tokens(TokenPolicy {
            anonymous_pull: true,
            user: AMAZON.user,
            password: AMAZON.password,
            ..TokenPolicy::default()
        })
    }

    /// A registry that asks for a token (Bearer) of the server that starts beside it.
    #[must_use]
    pub fn with_tokens(policy: TokenPolicy) -> Self {
        Self::start(Gate::Tokens(Box::new(TokenServer::start(policy))))
    }

    fn start(gate: Gate) -> Self {
        Self::start_with(gate, true)
    }

    fn start_with(gate: Gate, deletes: bool) -> Self {
        let data = tempfile::tempdir().expect("a directory for the registry's data");
        let at = |name: &str| data.path().join(name);
        // JSON is YAML, which the registry reads.
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": true}},
            "storage": {
                "filesystem": {"rootdirectory": at("storage")},
                "delete": {"enabled": deletes},
                "maintenance": {"uploadpurging": {"enabled": false}},
            },
            "http": {"addr": "127.0.0.1:0", "secret": "testbed"},
        });
        match &gate {
            Gate::Open => {}
            Gate::Passwords(Account { user, bcrypt, .. }) => {
                let users = at("htpasswd");
                fs::write(&users, format!("{user}:{bcrypt}\n")).expect("the users");
                config["auth"] = json!({"htpasswd": {"realm": "testbed", "path": users}});
            }
            Gate::Tokens(server) => {
                let bundle = at("issuer.pem");
                fs::write(&bundle, server.certificate_pem()).expect("the issuer's certificate");
                config["auth"] = json!({"token": {
                    "realm": server.realm(),
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": bundle,
                }});
            }
        }
        let file = at("config.yml");
        fs::write(&file, config.to_string()).expect("the registry's configuration");
        let mut process = Process::start(
            Command::new(Part::DockerRegistry.path())
                .arg("serve")
                .arg(file),
        );
        let host = process.listening("listening on ");
        Self {
            process,
            host,
            data,
            gate,
        }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The token server of a registry that asks for tokens.
    ///
    /// # Panics
    ///
    /// If it asks for none.
    #[must_use]
    pub fn tokens(&self) -> &TokenServer {
        match &self.gate {
            Gate::Tokens(server) => server,
            Gate::Open | Gate::Passwords(_) => panic!("this registry has no token server"),
        }
    }

    /// What the registry wrote to its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends a request for `path`, as someone who may do everything.
    #[must_use]
    pub fn request(&self, method: Method, path: &str) -> Response<Bytes> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.host))
            .header("Accept", MANIFESTS);
        if let Some(authorization) = self.authorization(path) {
            request = request.header("Authorization", authorization);
        }
        loopback::send(request.body("").expect("a path makes a request"))
    }

    fn authorization(&self, path: &str) -> Option<String> {
        match &self.gate {
            Gate::Open => None,
            Gate::Passwords(Account { user, password, .. }) => {
                let pair = STANDARD.encode(format!("{user}:{password}"));
                Some(format!("Basic {pair}"))
            }
            Gate::Tokens(server) => {
                let name = ["/manifests/", "/blobs/", "/tags/"]
                    .iter()
                    .find_map(|part| path.strip_prefix("/v2/")?.split_once(part))
                    .map_or("", |(name, _)| name);
                let scope = format!("repository:{name}:pull,push,delete");
                Some(format!(
                    "Bearer {}",
                    server.token(&[&scope, "registry:catalog:*"])
                ))
            }
        }
    }

    /// A manifest's digest, as the registry says it, and the document; `None` if it is not there.
    ///
    /// # Panics
    ///
    /// If the registry answers anything but 200 or 404.
    #[must_use]
    pub fn manifest(&self, repository: &str, identifier: &str) -> Option<(String, Value)> {
        let path = format!("/v2/{repository}/manifests/{identifier}");
        let answer = self.request(Method::GET, &path);
        match answer.status().as_u16() {
            200 => {
                let digest = answer.headers()["Docker-Content-Digest"].to_str();
                let digest = digest.expect("a digest is ASCII").to_owned();
                assert_eq!(
                    digest,
                    crate::sha256(answer.body()),
                    "the registry says the digest"
                );
                let document = serde_json::from_slice(answer.body()).expect("a manifest is JSON");
                Some((digest, document))
            }
            404 => None,
            other => panic!("`{path}` was answered {other}: {}", self.log()),
        }
    }

    /// The digest that a tag points at; `None` if the tag is not there.
    #[must_use]
    pub fn digest(&self, repository: &str, tag: &str) -> Option<String> {
        self.manifest(repository, tag).map(|(digest, _)| digest)
    }

    /// A blob's bytes.
    ///
    /// # Panics
    ///
    /// If it is not there.
    #[must_use]
    pub fn blob(&self, repository: &str, digest: &str) -> Bytes {
        let answer = self.request(Method::GET, &format!("/v2/{repository}/blobs/{digest}"));
        assert_eq!(
            answer.status(),
            200,
            "the blob `{digest}` of `{repository}`"
        );
        answer.into_body()
    }

    /// The tags of a repository in byte order; none if there is no repository.
    #[must_use]
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let answer = self.request(Method::GET, &format!("/v2/{repository}/tags/list"));
        let document: Value = serde_json::from_slice(answer.body()).expect("tags are JSON");
        let names = document["tags"].as_array().into_iter().flatten();
        let mut tags: Vec<_> = names.filter_map(Value::as_str).map(str::to_owned).collect();
        tags.sort();
        tags
    }

    /// Gives what a tag names further tags, many at once and without a request for each.
    ///
    /// # Panics
    ///
    /// If the tag is not there.
    pub fn multiply_tag(
        &self,
        repository: &str,
        tag: &str,
        names: impl IntoIterator<Item = String>,
    ) {
        let digest = self.digest(repository, tag).expect("the tag is there");
        for name in names {
            self.place_tag(repository, &name, &digest);
        }
    }

    /// Puts a blob where the registry keeps those of a repository, without a request.
    ///
    /// # Panics
    ///
    /// If it cannot be written there.
    pub fn place_blob(&self, repository: &str, content: &[u8]) {
        let digest = self.place_content(content);
        let layer = inside(&digest);
        link(
            &self.kept_in(repository).join("_layers").join(layer),
            &digest,
        );
    }

    /// Puts a manifest where the registry keeps those of a repository, and a tag on it, without a request. What it names is
    /// not looked for.
    ///
    /// # Panics
    ///
    /// If it cannot be written there.
    pub fn place_manifest(&self, repository: &str, tag: &str, document: &[u8]) {
        let digest = self.place_content(document);
        let manifests = self.kept_in(repository).join("_manifests");
        link(&manifests.join("revisions").join(inside(&digest)), &digest);
        self.place_tag(repository, tag, &digest);
    }

    fn place_tag(&self, repository: &str, tag: &str, digest: &str) {
        let tag = self.tag_directory(repository, tag);
        link(&tag.join("current"), digest);
        link(&tag.join("index").join(inside(digest)), digest);
    }

    fn place_content(&self, content: &[u8]) -> String {
        let digest = crate::sha256(content);
        let encoded = digest.trim_start_matches("sha256:");
        let blobs = self
            .data
            .path()
            .join("storage/docker/registry/v2/blobs/sha256");
        let directory = blobs.join(&encoded[..2]).join(encoded);
        if !directory.exists() {
            fs::create_dir_all(&directory).expect("a directory for content");
            fs::write(directory.join("data"), content).expect("content");
        }
        digest
    }

    fn kept_in(&self, repository: &str) -> PathBuf {
        let repositories = self
            .data
            .path()
            .join("storage/docker/registry/v2/repositories");
        repositories.join(repository)
    }

    /// Takes a tag away and leaves its manifest, which this registry offers no request for.
    ///
    /// # Panics
    ///
    /// If the tag is not there.
    pub fn forget_tag(&self, repository: &str, tag: &str) {
        fs::remove_dir_all(self.tag_directory(repository, tag)).expect("the tag is there");
    }

    fn tag_directory(&self, repository: &str, tag: &str) -> PathBuf {
        self.kept_in(repository).join("_manifests/tags").join(tag)
    }
}

/// Where something of this digest lies, below the directory of its kind.
fn inside(digest: &str) -> PathBuf {
    let (algorithm, encoded) = digest.split_once(':').expect("a digest");
    [algorithm, encoded].iter().collect()
}

/// Writes down that a digest is here.
fn link(directory: &Path, digest: &str) {
    fs::create_dir_all(directory).expect("a directory for a link");
    fs::write(directory.join("link"), digest).expect("a link");
}
