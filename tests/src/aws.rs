//! Fake AWS services on free loopback ports. They return tokens for Amazon's registries to every client that signs its
//! request. moto is the service for private registries. A scripted server is the service for the public registry, which
//! moto does not support.
//!
//! A service does not include a registry. [`Registry::ecr`](crate::registry::Registry::ecr) and
//! [`Registry::ecr_public`](crate::registry::Registry::ecr_public) accept the password from the tokens.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use testkit::server::{Request, Response, Server};

use crate::process::Process;
use crate::program::Run;
use crate::registry::AMAZON_PASSWORD;
use crate::testbed::Tool;

/// Secret key that signs requests.
pub const SECRET_KEY: &str = "canary-d41d8cd98f";

/// Fake of the AWS service that returns tokens for private registries.
#[derive(Debug)]
pub struct Aws {
    process: Process,
    host: String,
}

impl Aws {
    /// Starts the server.
    #[must_use]
    pub fn start() -> Self {
        let mut server = Command::new(Tool::Moto.path());
        server.args(["-H", "127.0.0.1", "-p", "0"]);
        let mut process = Process::start(&server);
        let host = process.wait_for_address("Running on http://");
        Self { process, host }
    }

    /// Sets the endpoint and the keys in the environment of a run.
    #[must_use]
    pub fn configure(&self, run: Run) -> Run {
        with_keys(run).with("AWS_ENDPOINT_URL_ECR", format!("http://{}", self.host))
    }

    /// Returns the number of requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        let log = self.process.log();
        log.lines().filter(|line| line.contains("POST /")).count()
    }
}

/// Fake of the AWS service that returns tokens for the public registry.
#[derive(Debug)]
pub struct AwsPublic {
    server: Server,
}

impl AwsPublic {
    /// Starts the server.
    #[must_use]
    pub fn start() -> Self {
        Self {
            server: Server::start(|request, _| respond(request)),
        }
    }

    /// Sets the endpoint and the keys in the environment of a run.
    #[must_use]
    pub fn configure(&self, run: Run) -> Run {
        let endpoint = format!("http://{}", self.server.host());
        with_keys(run).with("AWS_ENDPOINT_URL_ECR_PUBLIC", endpoint)
    }

    /// Returns the number of requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.server.requests().len()
    }
}

/// Responds to `GetAuthorizationToken` (Amazon ECR Public API). The request must be signed for the only region that
/// provides the service.
fn respond(request: &Request) -> Response {
    let is_signed = request.header("authorization").is_some_and(|signed| {
        signed.starts_with("AWS4-HMAC-SHA256 ") && signed.contains("/us-east-1/ecr-public/")
    });
    let is_token =
        request.header("x-amz-target") == Some("SpencerFrontendService.GetAuthorizationToken");
    let (status, document) = if is_signed && is_token {
        let end = SystemTime::now() + Duration::from_hours(12);
        let end = end
            .duration_since(UNIX_EPOCH)
            .expect("the system clock is after 1970");
        let token = STANDARD.encode(format!("AWS:{AMAZON_PASSWORD}"));
        let token = json!({"authorizationToken": token, "expiresAt": end.as_secs()});
        (200, json!({"authorizationData": token}))
    } else {
        let refusal = json!({"__type": "UnrecognizedClientException", "message": "not signed"});
        (400, refusal)
    };
    Response::new(status)
        .header("Content-Type", "application/x-amz-json-1.1")
        .body(document.to_string())
}

fn with_keys(run: Run) -> Run {
    run.with("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .with("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .with("AWS_EC2_METADATA_DISABLED", "true")
}
