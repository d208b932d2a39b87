//! Process of a CNCF Distribution registry on a free loopback port, with its own data directory.
//!
//! The process is killed when the value that started it is dropped.

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
use crate::testbed::Tool;
use crate::token::{ISSUER, SERVICE, TokenPolicy, TokenServer};

/// User name of the only account in a registry with authentication.
pub const USER: &str = "carol";
/// Password of [`USER`].
pub const PASSWORD: &str = "correct horse";

/// Account in a registry with Basic authentication.
#[derive(Clone, Copy, Debug)]
struct Account {
    user: &'static str,
    password: &'static str,
    /// Bcrypt hash of the password. The registry accepts no other algorithm in `htpasswd` files.
    bcrypt: &'static str,
}

const CAROL: Account = Account {
    user: USER,
    password: PASSWORD,
    bcrypt: "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
};

/// Password in the authorization tokens from the fake AWS services.
pub const AMAZON_PASSWORD: &str = "123456789012-auth-token";

/// Account in the fake Amazon registries, with the password from the fake AWS services.
const AMAZON: Account = Account {
    user: "AWS",
    password: AMAZON_PASSWORD,
    bcrypt: "$2b$05$abcdefghijklmnopqrstuu/4ofrUS75HrKu6f.iuRo0I/XlrmpqlC",
};

/// `Accept` header field of manifest requests.
const MANIFESTS: &str =
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";

/// Running registry.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    host: String,
    data: TempDir,
    authentication: Authentication,
}

/// Authentication method of a registry.
#[derive(Debug)]
enum Authentication {
    Open,
    Basic(Account),
    Bearer(Box<TokenServer>),
}

impl Registry {
    /// Starts a registry that requires no authentication.
    #[must_use]
    pub fn open() -> Self {
        Self::start(Authentication::Open)
    }

    /// Starts a registry that requires no authentication and does not support deletion.
    #[must_use]
    pub fn without_deletion() -> Self {
        Self::start_with(Authentication::Open, false)
    }

    /// Starts a registry with Basic authentication.
    #[must_use]
    pub fn with_passwords() -> Self {
        Self::start(Authentication::Basic(CAROL))
    }

    /// Starts a registry with Basic authentication that accepts the password from [`Aws`](crate::aws::Aws).
    #[must_use]
    pub fn ecr() -> Self {
        Self::start(Authentication::Basic(AMAZON))
    }

    /// Starts a registry that allows anonymous pulls and accepts the password from
    /// [`AwsPublic`](crate::aws::AwsPublic).
    #[must_use]
    pub fn ecr_public() -> Self {
        Self::with_tokens(TokenPolicy {
            allows_anonymous_pull: true,
            user: AMAZON.user,
            password: AMAZON.password,
            ..TokenPolicy::default()
        })
    }

    /// Starts a registry with Bearer authentication, and its token server.
    #[must_use]
    pub fn with_tokens(policy: TokenPolicy) -> Self {
        Self::start(Authentication::Bearer(Box::new(TokenServer::start(policy))))
    }

    fn start(authentication: Authentication) -> Self {
        Self::start_with(authentication, true)
    }

    fn start_with(authentication: Authentication, deletes: bool) -> Self {
        let data = tempfile::tempdir().expect("the data directory can be created");
        let at = |name: &str| data.path().join(name);
        // Every JSON document is valid YAML, which the registry reads.
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
        match &authentication {
            Authentication::Open => {}
            Authentication::Basic(Account { user, bcrypt, .. }) => {
                let users = at("htpasswd");
                fs::write(&users, format!("{user}:{bcrypt}\n"))
                    .expect("the `htpasswd` file can be written");
                config["auth"] = json!({"htpasswd": {"realm": "testbed", "path": users}});
            }
            Authentication::Bearer(server) => {
                let bundle = at("issuer.pem");
                fs::write(&bundle, server.certificate_pem())
                    .expect("the certificate of the issuer can be written");
                config["auth"] = json!({"token": {
                    "realm": server.realm(),
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": bundle,
                }});
            }
        }
        let file = at("config.yml");
        fs::write(&file, config.to_string()).expect("the configuration file can be written");
        let mut process = Process::start(
            Command::new(Tool::DockerRegistry.path())
                .arg("serve")
                .arg(file),
        );
        let host = process.wait_for_address("listening on ");
        Self {
            process,
            host,
            data,
            authentication,
        }
    }

    /// Returns `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the token server of a registry with Bearer authentication.
    ///
    /// # Panics
    ///
    /// If the registry uses another authentication method.
    #[must_use]
    pub fn tokens(&self) -> &TokenServer {
        match &self.authentication {
            Authentication::Bearer(server) => server,
            Authentication::Open | Authentication::Basic(_) => {
                panic!("this registry has no token server")
            }
        }
    }

    /// Returns the log of the registry up to now.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends a request for `path` with permission for all actions.
    #[must_use]
    pub fn request(&self, method: Method, path: &str) -> Response<Bytes> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.host))
            .header("Accept", MANIFESTS);
        if let Some(authorization) = self.authorization(path) {
            request = request.header("Authorization", authorization);
        }
        loopback::send(request.body("").expect("the path is valid in a request"))
    }

    fn authorization(&self, path: &str) -> Option<String> {
        match &self.authentication {
            Authentication::Open => None,
            Authentication::Basic(Account { user, password, .. }) => {
                let pair = STANDARD.encode(format!("{user}:{password}"));
                Some(format!("Basic {pair}"))
            }
            Authentication::Bearer(server) => {
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

    /// Returns the digest that the registry reports for a manifest, and the document. Returns `None` if the manifest
    /// does not exist.
    ///
    /// # Panics
    ///
    /// If the response has a status other than 200 and 404.
    #[must_use]
    pub fn manifest(&self, repository: &str, identifier: &str) -> Option<(String, Value)> {
        let path = format!("/v2/{repository}/manifests/{identifier}");
        let response = self.request(Method::GET, &path);
        match response.status().as_u16() {
            200 => {
                let digest = response.headers()["Docker-Content-Digest"].to_str();
                let digest = digest.expect("a digest is ASCII").to_owned();
                assert_eq!(
                    digest,
                    crate::sha256(response.body()),
                    "the registry reports the digest"
                );
                let document = serde_json::from_slice(response.body()).expect("a manifest is JSON");
                Some((digest, document))
            }
            404 => None,
            other => panic!("`{path}` returned {other}: {}", self.log()),
        }
    }

    /// Returns the digest to which a tag points, or `None` if the tag does not exist.
    #[must_use]
    pub fn digest(&self, repository: &str, tag: &str) -> Option<String> {
        self.manifest(repository, tag).map(|(digest, _)| digest)
    }

    /// Returns the content of a blob.
    ///
    /// # Panics
    ///
    /// If the blob does not exist.
    #[must_use]
    pub fn blob(&self, repository: &str, digest: &str) -> Bytes {
        let response = self.request(Method::GET, &format!("/v2/{repository}/blobs/{digest}"));
        assert_eq!(
            response.status(),
            200,
            "the blob `{digest}` of `{repository}`"
        );
        response.into_body()
    }

    /// Lists the tags of a repository in byte order. If the repository does not exist, the list is empty.
    #[must_use]
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let response = self.request(Method::GET, &format!("/v2/{repository}/tags/list"));
        let document: Value = serde_json::from_slice(response.body()).expect("tags are JSON");
        let names = document["tags"].as_array().into_iter().flatten();
        let mut tags: Vec<_> = names.filter_map(Value::as_str).map(str::to_owned).collect();
        tags.sort();
        tags
    }

    /// Adds tags to the manifest of a tag. Writes the tags into the data directory, because one request per tag would
    /// be slow.
    ///
    /// # Panics
    ///
    /// If the tag does not exist.
    pub fn add_tags(&self, repository: &str, tag: &str, names: impl IntoIterator<Item = String>) {
        let digest = self.digest(repository, tag).expect("the tag exists");
        for name in names {
            self.write_tag(repository, &name, &digest);
        }
    }

    /// Writes a blob of a repository into the data directory. Sends no request.
    ///
    /// # Panics
    ///
    /// If the blob cannot be written.
    pub fn write_blob(&self, repository: &str, content: &[u8]) {
        let digest = self.write_content(content);
        let layer = digest_path(&digest);
        write_link(
            &self
                .repository_directory(repository)
                .join("_layers")
                .join(layer),
            &digest,
        );
    }

    /// Writes a manifest of a repository and its tag into the data directory. Sends no request, and does not check
    /// whether the content to which the manifest refers exists.
    ///
    /// # Panics
    ///
    /// If the manifest cannot be written.
    pub fn write_manifest(&self, repository: &str, tag: &str, document: &[u8]) {
        let digest = self.write_content(document);
        let manifests = self.repository_directory(repository).join("_manifests");
        write_link(
            &manifests.join("revisions").join(digest_path(&digest)),
            &digest,
        );
        self.write_tag(repository, tag, &digest);
    }

    fn write_tag(&self, repository: &str, tag: &str, digest: &str) {
        let tag = self.tag_directory(repository, tag);
        write_link(&tag.join("current"), digest);
        write_link(&tag.join("index").join(digest_path(digest)), digest);
    }

    fn write_content(&self, content: &[u8]) -> String {
        let digest = crate::sha256(content);
        let encoded = digest.trim_start_matches("sha256:");
        let blobs = self
            .data
            .path()
            .join("storage/docker/registry/v2/blobs/sha256");
        let directory = blobs.join(&encoded[..2]).join(encoded);
        if !directory.exists() {
            fs::create_dir_all(&directory).expect("the content directory can be created");
            fs::write(directory.join("data"), content).expect("the content can be written");
        }
        digest
    }

    fn repository_directory(&self, repository: &str) -> PathBuf {
        let repositories = self
            .data
            .path()
            .join("storage/docker/registry/v2/repositories");
        repositories.join(repository)
    }

    /// Deletes a tag from the data directory and keeps its manifest. The API of this registry can delete manifests
    /// only.
    ///
    /// # Panics
    ///
    /// If the tag does not exist.
    pub fn remove_tag(&self, repository: &str, tag: &str) {
        fs::remove_dir_all(self.tag_directory(repository, tag)).expect("the tag exists");
    }

    fn tag_directory(&self, repository: &str, tag: &str) -> PathBuf {
        self.repository_directory(repository)
            .join("_manifests/tags")
            .join(tag)
    }
}

/// Returns the relative path `ALGORITHM/ENCODED` of a digest.
fn digest_path(digest: &str) -> PathBuf {
    let (algorithm, encoded) = digest.split_once(':').expect("a digest contains a colon");
    [algorithm, encoded].iter().collect()
}

/// Writes a link file that contains a digest.
fn write_link(directory: &Path, digest: &str) {
    fs::create_dir_all(directory).expect("the directory of the link file can be created");
    fs::write(directory.join("link"), digest).expect("the link file can be written");
}
