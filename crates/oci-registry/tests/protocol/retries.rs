//! Retries, waits, and failures that are reported.

use std::time::{Duration, Instant};

use oci_registry::{Access, ClientEvent, ErrorKind, Identifier, Source};
use testkit::loopback::DeadHost;
use testkit::server::{Response, Server};

use crate::support::{
    NoCredential, by_tag, manifest, observed_client, open, options, read_error, reader, select,
    served, shown,
};

#[tokio::test]
async fn read_after_four_503_responses_succeeds() {
    let manifest = manifest("x");
    let found = served(&manifest);
    let server = Server::start(move |_, earlier| match earlier {
        0..4 => Response::new(503).header("Retry-After", "0"),
        _ => found.clone(),
    });
    let read = reader(&server).manifest(&by_tag("1")).await;
    assert_eq!(read.unwrap(), manifest);
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn read_after_five_503_responses_reports_their_message() {
    let server = Server::start(|_, _| {
        Response::new(503)
            .header("Retry-After", "0")
            .body(r#"{"errors":[{"code":"UNAVAILABLE","message":"tired"}]}"#)
    });
    let error = read_error(&reader(&server)).await;
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(error.registry_errors()[0].message, "tired");
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn retry_after_one_day_fails_at_once() {
    let server = Server::start(|_, _| Response::new(429).header("Retry-After", "86400"));
    let error = read_error(&reader(&server)).await;
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    let hints = format!("{:?}", error.hints());
    assert!(hints.contains("86400"), "{hints}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn retry_after_delays_other_requests_too() {
    let manifest = manifest("x");
    let found = served(&manifest);
    let server = Server::start(move |request, earlier| {
        if earlier == 0 && request.target.contains("sha256:") {
            Response::new(429).header("Retry-After", 1)
        } else {
            found.clone()
        }
    });
    let repository = reader(&server);
    let digest = Identifier::Digest(manifest.digest().clone());
    let began = Instant::now();
    let first = async { repository.manifest(&digest).await.unwrap() };
    let second = async {
        server.received("GET").await;
        // The first request reads its response meanwhile, and is not sent again yet.
        tokio::time::sleep(Duration::from_millis(200)).await;
        repository.manifest(&by_tag("1")).await.unwrap();
        began.elapsed()
    };
    let (_, waited) = tokio::join!(first, second);
    assert!(waited.as_millis() >= 1000, "{waited:?}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn each_request_is_reported_without_secrets() {
    let server = Server::start(|request, _| match request.target.as_str() {
        "/there?sig=canary-5f3a" => Response::new(404),
        _ => Response::new(307).header("Location", "/there?sig=canary-5f3a"),
    });
    let (observer, requests) = select(|event| match event {
        ClientEvent::Request {
            method,
            url,
            status,
            ..
        } => Some(format!("{method} {url} {status:?}")),
        _ => None,
    });
    read_error(&open(&observed_client(observer), &server, Access::Pull)).await;
    let host = server.host();
    assert_eq!(
        *requests.lock().unwrap(),
        [
            format!("GET http://{host}/v2/acme/widgets/manifests/1 Some(307)"),
            format!("GET http://{host}/there?sig=… Some(404)"),
        ]
    );
}

#[tokio::test]
async fn error_body_of_any_form_leaves_the_status() {
    let endless = "x".repeat(1 << 20);
    for body in ["", "<html>", "\u{1b}[31mred", "{\"errors\":null}", &endless] {
        let response = Response::new(404).body(body);
        let server = Server::start(move |_, _| response.clone());
        let error = read_error(&reader(&server)).await;
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = shown(&error);
        assert!(!text.contains('\u{1b}') && text.len() < 20_000);
    }
}

#[tokio::test]
async fn refused_connection_is_a_network_error_with_the_host() {
    let host = DeadHost::new();
    let mut options = options(NoCredential);
    options.attempts = 1;
    let reference = format!("{}/x", host.host()).parse().unwrap();
    let client = oci_registry::Client::new(options);
    let repository = client.repository(&reference, Access::Pull).unwrap();
    let error = read_error(&repository).await;
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(shown(&error).contains(host.host()));
}
