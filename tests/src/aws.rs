//! Stand-ins for AWS on free loopback ports, which give tokens for Amazon's registries to everybody
//! who signs a request: moto for the private registries, and one of our own for the public registry,
//! which moto does not know.
//!
//! They have no registry of their own; [`Registry::of_amazon`](crate::registry::Registry::of_amazon)
//! and [`Registry::of_amazon_public`](crate::registry::Registry::of_amazon_public) take the password
//! that they give out.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::json;

use crate::loopback::{Body, Server, body};
use crate::process::Process;
use crate::program::Run;
use crate::registry::AMAZON_PASSWORD;
use crate::testbed::Part;

/// The key that requests are signed with, which is a secret.
pub const SECRET_KEY: &str = "canary-d41d8cd98f";

/// A running stand-in.
#[derive(Debug)]
pub struct Aws {
    process: Process,
    host: String,
}

impl Aws {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        let mut server = Command::new(Part::Moto.path());
        server.args(["-H", "127.0.0.1", "-p", "0"]);
        let mut process = Process::start(&server);
        let host = process.listening("Running on http://");
        Self { process, host }
    }

    /// The program finds AWS here, and has keys for it.
    #[must_use]
    pub fn known_to(&self, run: Run) -> Run {
        with_keys(run).with("AWS_ENDPOINT_URL_ECR", format!("http://{}", self.host))
    }

    /// How many requests came so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        let log = self.process.log();
        log.lines().filter(|line| line.contains("POST /")).count()
    }
}

/// A running stand-in for the part of AWS that gives tokens for the public registry.
#[derive(Debug)]
pub struct AwsPublic {
    server: Server,
    requests: Arc<AtomicUsize>,
}

impl AwsPublic {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let server = Server::start(move |request| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(answer(&request))
        });
        Self { server, requests }
    }

    /// The program finds AWS here, and has keys for it.
    #[must_use]
    pub fn known_to(&self, run: Run) -> Run {
        let endpoint = format!("http://{}", self.server.host());
        with_keys(run).with("AWS_ENDPOINT_URL_ECR_PUBLIC", endpoint)
    }

    /// How many requests came so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// The answer to `GetAuthorizationToken` (Amazon ECR Public API), which is signed for the one region
/// that has the service.
fn answer(request: &Request<Incoming>) -> Response<Body> {
    let header = |name| request.headers().get(name)?.to_str().ok();
    let is_signed = header("Authorization").is_some_and(|signed| {
        signed.starts_with("AWS4-HMAC-SHA256 ") && signed.contains("/us-east-1/ecr-public/")
    });
    let is_token = header("X-Amz-Target") == Some("SpencerFrontendService.GetAuthorizationToken");
    let (status, document) = if is_signed && is_token {
        let end = SystemTime::now() + Duration::from_hours(12);
        let end = end.duration_since(UNIX_EPOCH).expect("the epoch is over");
        let token = STANDARD.encode(format!("AWS:{AMAZON_PASSWORD}"));
        let token = json!({"authorizationToken": token, "expiresAt": end.as_secs()});
        (StatusCode::OK, json!({"authorizationData": token}))
    } else {
        let refusal = json!({"__type": "UnrecognizedClientException", "message": "not signed"});
        (StatusCode::BAD_REQUEST, refusal)
    };
    let mut answer = Response::new(body(document.to_string()));
    *answer.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/x-amz-json-1.1");
    answer.headers_mut().insert("Content-Type", json);
    answer
}

fn with_keys(run: Run) -> Run {
    run.with("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .with("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .with("AWS_EC2_METADATA_DISABLED", "true")
}
