//! Tests of the end-to-end harness itself, without the programs of this workspace.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::layout::Layout;
use e2e::loopback;
use e2e::program::Home;
use e2e::recorder::Recorder;
use e2e::registry::{PASSWORD, Registry, USER};
use e2e::sources::{Sources, host_triple};
use e2e::token::TokenPolicy;
use e2e::{require, sha256};
use hyper::{Method, Request};
use serde_json::Value;

/// Sends a request with an `Authorization` header field. Returns the response status.
fn status_with_authorization(url: &str, authorization: &str) -> u16 {
    let request = Request::get(url).header("Authorization", authorization);
    loopback::send(request.body("").expect("the request is well formed"))
        .status()
        .as_u16()
}

fn basic_authorization(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Uploads a blob: a POST request, then a PUT request to the returned `Location`.
fn upload_blob(host: &str, repository: &str, bytes: &'static str) {
    let start = Request::post(format!("http://{host}/v2/{repository}/blobs/uploads/"));
    let started = loopback::send(start.body("").expect("the request is well formed"));
    assert_eq!(started.status(), 202);
    let location = started.headers()["Location"]
        .to_str()
        .expect("the request is well formed");
    assert!(
        location.starts_with(&format!("http://{host}/")),
        "{location}"
    );
    let digest = sha256(bytes.as_bytes());
    let finish = Request::put(format!("{location}&digest={digest}"));
    assert_eq!(
        loopback::send(finish.body(bytes).expect("the request is well formed")).status(),
        201
    );
}

#[test]
fn registry_responds_and_stops_when_dropped() {
    require!(DockerRegistry);
    let registry = Registry::open();
    assert_eq!(registry.request(Method::GET, "/v2/").status(), 200);
    assert_eq!(registry.tags("acme/widgets"), [""; 0]);
    let host = registry.host().to_owned();
    drop(registry);
    assert!(TcpStream::connect(host).is_err());
}

#[test]
fn registry_stops_when_test_panics() {
    require!(DockerRegistry);
    let (send, receive) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let registry = Registry::open();
        send.send(registry.host().to_owned()).unwrap();
        panic!("a failed test, on purpose");
    });
    let host = receive.recv().unwrap();
    test.join().unwrap_err();
    assert!(TcpStream::connect(host).is_err());
}

#[test]
fn basic_authentication_is_required_and_checked() {
    require!(DockerRegistry);
    let registry = Registry::with_passwords();
    let url = format!("http://{}/v2/", registry.host());
    let challenge = loopback::get(&url);
    assert_eq!(challenge.status(), 401);
    assert!(
        challenge.headers()["WWW-Authenticate"]
            .to_str()
            .unwrap()
            .starts_with("Basic")
    );
    assert_eq!(
        status_with_authorization(&url, &basic_authorization(USER, "wrong")),
        401
    );
    assert_eq!(
        status_with_authorization(&url, &basic_authorization(USER, PASSWORD)),
        200
    );
    assert_eq!(registry.request(Method::GET, "/v2/").status(), 200);
}

#[test]
fn token_allows_requested_scope_only() {
    require!(DockerRegistry);
    let registry = Registry::with_tokens(TokenPolicy::default());
    let tags = format!("http://{}/v2/acme/widgets/tags/list", registry.host());
    let challenge = loopback::get(&tags);
    assert_eq!(challenge.status(), 401);
    let challenge = challenge.headers()["WWW-Authenticate"].to_str().unwrap();
    let realm = registry.tokens().realm();
    assert!(
        challenge.contains(&format!("realm=\"{realm}\"")),
        "{challenge}"
    );
    assert!(
        challenge.contains("scope=\"repository:acme/widgets:pull\""),
        "{challenge}"
    );

    let ask = |authorization: &str, scope: &str| {
        let url = format!("{realm}?service=registry.testbed&scope={scope}");
        let request = Request::get(url).header("Authorization", authorization);
        let response = loopback::send(request.body("").unwrap());
        let document: Value = serde_json::from_slice(response.body()).unwrap();
        document["token"]
            .as_str()
            .map(|token| format!("Bearer {token}"))
    };
    assert_eq!(
        ask(
            &basic_authorization(USER, "wrong"),
            "repository:acme/widgets:pull"
        ),
        None
    );
    let token = ask(
        &basic_authorization(USER, PASSWORD),
        "repository:acme/widgets:pull",
    )
    .unwrap();
    // The registry accepts the token and responds with 404, because the repository does not exist yet.
    assert_eq!(status_with_authorization(&tags, &token), 404);
    let other = ask(
        &basic_authorization(USER, PASSWORD),
        "repository:acme/gadgets:pull",
    )
    .unwrap();
    assert_eq!(status_with_authorization(&tags, &other), 401);

    let requests = registry.tokens().take();
    let is_granted: Vec<_> = requests.iter().map(|request| request.is_granted).collect();
    assert_eq!(is_granted, [false, true, true]);
    assert_eq!(requests[2].scopes, ["repository:acme/gadgets:pull"]);
    assert_eq!(requests[2].user.as_deref(), Some(USER));
}

#[test]
fn token_is_issued_for_post_and_anonymous_get() {
    require!(DockerRegistry);
    let policy = TokenPolicy {
        allows_anonymous_pull: true,
        ..TokenPolicy::default()
    };
    let registry = Registry::with_tokens(policy);
    let realm = registry.tokens().realm();
    let post = |form: String| {
        let request = Request::post(&realm)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form);
        let response = loopback::send(request.unwrap());
        assert_eq!(response.status(), 200);
        let document: Value = serde_json::from_slice(response.body()).unwrap();
        format!("Bearer {}", document["access_token"].as_str().unwrap())
    };
    let scope = "scope=repository%3Aacme%2Fwidgets%3Apull%2Cpush";
    let uploads = format!("http://{}/v2/acme/widgets/blobs/uploads/", registry.host());
    let start = |token: &str| {
        let request = Request::post(&uploads).header("Authorization", token);
        loopback::send(request.body("").unwrap()).status().as_u16()
    };
    let password = PASSWORD.replace(' ', "+");
    let form = format!("grant_type=password&username={USER}&password={password}&{scope}");
    assert_eq!(start(&post(form)), 202);
    // An anonymous token allows pulls only, even if the requested scope contains other actions.
    let anonymous = post(scope.to_owned());
    assert_eq!(start(&anonymous), 401);
    let tags = format!("http://{}/v2/acme/widgets/tags/list", registry.host());
    assert_eq!(status_with_authorization(&tags, &anonymous), 404);
}

#[test]
fn token_expires_at_its_expiry_time() {
    require!(DockerRegistry);
    let policy = TokenPolicy {
        lifetime: Duration::ZERO,
        ..TokenPolicy::default()
    };
    let registry = Registry::with_tokens(policy);
    let token = registry.tokens().token(&["repository:acme/widgets:pull"]);
    let tags = format!("http://{}/v2/acme/widgets/tags/list", registry.host());
    // The registry compares whole seconds and rejects tokens only after their expiry time.
    let over = std::time::Instant::now() + Duration::from_secs(5);
    while status_with_authorization(&tags, &format!("Bearer {token}")) != 401 {
        assert!(
            std::time::Instant::now() < over,
            "the token still opens the registry"
        );
    }
}

#[test]
fn recorder_records_every_request_of_an_upload() {
    require!(DockerRegistry);
    let registry = Registry::open();
    let recorder = Recorder::start(registry.host());
    upload_blob(&recorder.host(), "acme/widgets", "some bytes");
    let requests = recorder.take();
    let methods: Vec<_> = requests
        .iter()
        .map(|it| (it.method.as_str(), it.status))
        .collect();
    assert_eq!(methods, [("POST", 202), ("PUT", 201)]);
    assert!(
        requests
            .iter()
            .all(e2e::recorder::RecordedRequest::is_write)
    );

    let digest = sha256(b"some bytes");
    let head = Request::head(format!(
        "http://{}/v2/acme/widgets/blobs/{digest}",
        recorder.host()
    ));
    let response = loopback::send(head.body("").unwrap());
    assert_eq!(response.headers()["Content-Length"], "10");
    assert_eq!(recorder.take().len(), 1);
    assert_eq!(&registry.blob("acme/widgets", &digest)[..], b"some bytes");
}

#[test]
fn recorder_without_server_returns_bad_gateway() {
    let unreachable = loopback::ClosedPort::new();
    let recorder = Recorder::start(unreachable.host());
    assert_eq!(
        loopback::get(&format!("http://{}/v2/", recorder.host())).status(),
        502
    );
}

/// Writes a layout with one manifest under the tag `1.0.0`. The manifest has one layer.
fn write_layout(directory: &std::path::Path) -> String {
    fs::create_dir_all(directory.join("blobs/sha256")).expect("the layout can be written");
    let blob = |bytes: &[u8]| {
        let digest = sha256(bytes);
        fs::write(
            directory.join("blobs").join(digest.replace(':', "/")),
            bytes,
        )
        .expect("the layout can be written");
        digest
    };
    let layer = blob(b"hello");
    let config = blob(b"{}");
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/x.c", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/x.l", "digest": layer, "size": 5}],
    });
    let manifest = manifest.to_string();
    let digest = blob(manifest.as_bytes());
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": "1.0.0"},
        }],
    });
    fs::write(
        directory.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("the layout can be written");
    fs::write(directory.join("index.json"), index.to_string()).expect("the layout can be written");
    digest
}

#[test]
fn skopeo_and_harness_read_same_content() {
    require!(DockerRegistry, Skopeo);
    let home = Home::new();
    let directory = home.path().join("layout");
    let digest = write_layout(&directory);
    assert_eq!(
        Layout::open(&directory).digest("1.0.0"),
        Some(digest.clone())
    );

    let registry = Registry::open();
    let source = format!("oci:{}:1.0.0", directory.display());
    let target = format!("docker://{}/acme/widgets:1.0.0", registry.host());
    home.skopeo(["copy", "--all", "--dest-tls-verify=false", &source, &target])
        .succeeds();
    assert_eq!(registry.digest("acme/widgets", "1.0.0"), Some(digest));
    assert_eq!(registry.tags("acme/widgets"), ["1.0.0"]);
    registry.remove_tag("acme/widgets", "1.0.0");
    assert_eq!(registry.digest("acme/widgets", "1.0.0"), None);
}

#[test]
#[should_panic(expected = "stored and referenced blobs")]
fn layout_with_unreferenced_blob_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    write_layout(directory.path());
    let orphan = directory
        .path()
        .join("blobs")
        .join(sha256(b"orphan").replace(':', "/"));
    fs::write(orphan, "orphan").unwrap();
    let _ = Layout::open(directory.path());
}

#[test]
fn sources_are_outside_of_any_workspace() {
    require!(Shellharden);
    let sources = Sources::shellharden_in("somewhere/else");
    assert!(!sources.has_build_output());
    let manifest = sources.path().join("Cargo.toml");
    let cargo = std::process::Command::new("cargo")
        .args([
            "metadata",
            "--offline",
            "--locked",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(&manifest)
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&cargo.stdout).unwrap();
    assert_eq!(metadata["packages"].as_array().map(Vec::len), Some(1));
    assert_eq!(metadata["packages"][0]["version"], sources.version());
    assert!(sources.target_tag().ends_with(host_triple()));
}
