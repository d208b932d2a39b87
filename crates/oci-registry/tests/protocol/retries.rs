//! Retries, delays, and reported failures.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use oci_registry::{Access, Client, ClientEvent, ErrorKind, Identifier, Observer, Source, Target};
use testkit::loopback::ClosedPort;
use testkit::server::{Request, Response, Server};

use crate::support::{
    NoCredential, blob, by_tag, bytes, descriptor, error_text, manifest, manifest_response,
    observe, observe_retries, observed_client, open, options, read_error, reader,
};

#[tokio::test]
async fn read_after_four_503_responses_succeeds() {
    let manifest = manifest("x");
    let found = manifest_response(&manifest);
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
async fn retry_after_of_one_day_fails_at_once() {
    let server = Server::start(|_, _| Response::new(429).header("Retry-After", "86400"));
    let error = read_error(&reader(&server)).await;
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    let hints = format!("{:?}", error.hints());
    assert!(hints.contains("86400"), "{hints}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn retry_after_header_delays_other_requests() {
    let manifest = manifest("x");
    let found = manifest_response(&manifest);
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
        server.wait_for_request("GET").await;
        // In this time, the client reads the first response, but does not send the first request again yet.
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
        "/there?sig=canary-5f3a" => Response::new(404).header("RateLimit-Remaining", "7"),
        _ => Response::new(307).header("Location", "/there?sig=canary-5f3a"),
    });
    let (observer, requests) = observe(|event| match event {
        ClientEvent::Request { .. } => Some(event.to_string()),
        _ => None,
    });
    read_error(&open(&observed_client(observer), &server, Access::Pull)).await;
    let host = server.host();
    assert_eq!(
        *requests.lock().unwrap(),
        [
            format!("GET http://{host}/v2/acme/widgets/manifests/1 307"),
            format!("GET http://{host}/there?sig=… 404, rate limit: 7 requests remain"),
        ]
    );
}

#[tokio::test]
async fn error_with_unparsable_body_is_classified_by_status() {
    let endless = "x".repeat(1 << 20);
    for body in ["", "<html>", "\u{1b}[31mred", "{\"errors\":null}", &endless] {
        let response = Response::new(404).body(body);
        let server = Server::start(move |_, _| response.clone());
        let error = read_error(&reader(&server)).await;
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = error_text(&error);
        assert!(!text.contains('\u{1b}') && text.len() < 20_000);
    }
}

#[tokio::test]
async fn refused_connection_is_a_network_error_with_the_host() {
    let host = ClosedPort::new();
    let mut options = options(NoCredential);
    options.attempts = 1;
    let reference = format!("{}/x", host.host()).parse().unwrap();
    let client = Client::new(options);
    let repository = client.repository(&reference, Access::Pull).unwrap();
    let error = read_error(&repository).await;
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error_text(&error).contains(host.host()));
}

// ---- reports

/// Returns the expected report of a retry. The report does not include the delay.
fn report(operation: &str, cause: &str, attempt: u32, attempts: u32) -> String {
    format!("{operation}: {cause} ({attempt}/{attempts})")
}

/// Starts a registry whose list, blob and segments end before their last byte.
fn breaking_registry() -> Server {
    Server::start(|request, _| {
        let content = bytes(5 << 20);
        if request.target.contains("/tags/list") {
            Response::new(200).body(r#"{"tags":["1"]}"#).cut_after(0)
        } else if request.range().is_some_and(|(first, _)| first == 0) {
            Response::range_of(content, request)
        } else {
            Response::range_of(content, request).cut_after(0)
        }
    })
}

#[tokio::test]
async fn request_after_503_reports_one_retry() {
    let found = manifest_response(&manifest("x"));
    let server = Server::start(move |_, earlier| match earlier {
        0 => Response::new(503),
        _ => found.clone(),
    });
    let (observer, retries) = observe_retries();
    let repository = open(&observed_client(observer), &server, Access::Pull);
    repository.manifest(&by_tag("1")).await.unwrap();
    let request = format!("GET `http://{}/v2/acme/widgets/manifests/1`", server.host());
    let cause = format!("`{}` answered 503 Service Unavailable", server.host());
    let expected = [report(&request, &cause, 2, 5)];
    assert_eq!(*retries.lock().unwrap(), expected);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn client_with_new_observer_reports_to_it_only() {
    let server = Server::start(|_, earlier| match earlier {
        0 => Response::new(503),
        _ => Response::new(404),
    });
    let ((first, none), (second, retries)) = (observe_retries(), observe_retries());
    let client = observed_client(first);
    read_error(&open(
        &client.clone().with_observer(second),
        &server,
        Access::Pull,
    ))
    .await;
    assert_eq!(
        (none.lock().unwrap().len(), retries.lock().unwrap().len()),
        (0, 1)
    );
    // The original client still reports to its observer, and both clients share one count of requests.
    read_error(&open(&client, &server, Access::Pull)).await;
    assert_eq!(client.transfer_stats().requests, 3);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn retry_after_closed_connection_reports_the_cause() {
    let server = Server::start(|_, _| Response::connection_closed());
    let (observer, retries) = observe_retries();
    read_error(&open(&observed_client(observer), &server, Access::Pull)).await;
    let request = format!("GET `http://{}/v2/acme/widgets/manifests/1`", server.host());
    let cause = &format!("connection closed by `{}`", server.host());
    let expected = [2, 3, 4, 5].map(|attempt| report(&request, cause, attempt, 5));
    assert_eq!(*retries.lock().unwrap(), expected);
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn interrupted_download_reports_each_retry() {
    let server = breaking_registry();
    let (observer, retries) = observe_retries();
    let repository = open(&observed_client(observer), &server, Access::Pull);
    let descriptor = descriptor(&bytes(5 << 20));
    let stream = repository.blob(&descriptor).await.unwrap();
    let error = stream.read_to_end(8 << 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let download = format!("download of the blob {}", descriptor.digest);
    let cause = &format!("connection closed by `{}`", server.host());
    let expected = [2, 3, 4, 5, 6].map(|attempt| report(&download, cause, attempt, 6));
    assert_eq!(*retries.lock().unwrap(), expected);
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn interrupted_page_reports_each_retry() {
    let server = breaking_registry();
    let (observer, retries) = observe_retries();
    let repository = open(&observed_client(observer), &server, Access::Pull);
    let error = repository.tags().try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let list = format!(
        "list of names from `http://{}/v2/acme/widgets/tags/list?n=1000`",
        server.host()
    );
    let cause = &format!("connection closed by `{}`", server.host());
    let expected = [2, 3, 4, 5].map(|attempt| report(&list, cause, attempt, 5));
    assert_eq!(*retries.lock().unwrap(), expected);
    assert_eq!(server.requests().len(), 5);
}

/// Reads a blob of 5 MiB over two connections. Returns the requests for its second segment.
async fn requests_of_second_segment(server: &Server, observer: Observer) -> usize {
    let mut options = options(NoCredential);
    options.connections_per_blob = 2;
    options.observer = observer;
    let repository = open(&Client::new(options), server, Access::Pull);
    let stream = repository.blob(&descriptor(&bytes(5 << 20))).await.unwrap();
    let error = stream.read_to_end(8 << 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let requests = server.requests();
    let second = requests.iter().filter_map(Request::range);
    second.filter(|(first, _)| *first == 2 << 20).count()
}

#[tokio::test]
async fn interrupted_segment_is_requested_five_times() {
    let server = breaking_registry();
    let (observer, retries) = observe_retries();
    assert_eq!(requests_of_second_segment(&server, observer).await, 5);
    let digest = descriptor(&bytes(5 << 20)).digest;
    let segment = format!("download of the bytes from 2097152 to 4194303 of the blob {digest}");
    let cause = &format!("connection closed by `{}`", server.host());
    let expected = [2, 3, 4, 5].map(|attempt| report(&segment, cause, attempt, 5));
    let retries = retries.lock().unwrap().clone();
    let second = retries.iter().filter(|retry| retry.contains("2097152"));
    assert_eq!(
        second.collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn segment_after_503_is_requested_five_times() {
    let server = Server::start(|request, _| match request.range() {
        Some((0, _)) => Response::range_of(bytes(5 << 20), request),
        Some((first, _)) if first == 2 << 20 => Response::new(503),
        _ => Response::never(),
    });
    let (observer, retries) = observe_retries();
    assert_eq!(requests_of_second_segment(&server, observer).await, 5);
    let digest = descriptor(&bytes(5 << 20)).digest;
    let request = format!(
        "GET `http://{}/v2/acme/widgets/blobs/{digest}`",
        server.host()
    );
    let cause = &format!("`{}` answered 503 Service Unavailable", server.host());
    let expected = [2, 3, 4, 5].map(|attempt| report(&request, cause, attempt, 5));
    assert_eq!(*retries.lock().unwrap(), expected);
}

#[tokio::test]
async fn upload_session_after_503_is_retried_by_one_layer() {
    let server = Server::start(|request, earlier| match request.method.as_str() {
        "PUT" => Response::error(503, "UNAVAILABLE"),
        _ => Response::accepted_upload(request, earlier),
    });
    let (observer, retries) = observe_retries();
    let repository = open(&observed_client(observer), &server, Access::Push);
    let blob = blob("content");
    let error = repository.push_blob(&blob).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let upload = format!("upload of the blob {}", blob.digest());
    let cause = "the registry answered 503 Service Unavailable UNAVAILABLE: says the registry";
    let expected = [2, 3, 4, 5].map(|attempt| report(&upload, cause, attempt, 5));
    assert_eq!(*retries.lock().unwrap(), expected);
    assert_eq!(server.count("PUT"), 5);
}
