//! Upload sessions that are interrupted, resumed, restarted or cancelled.

use std::sync::{Arc, OnceLock};

use oci_registry::{Access, Delivery, ErrorKind, Target};
use testkit::server::{Request, Response, Server};
use testkit::tcp::TcpServer;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{LargeFile, MIB, push_known, push_large, registry};
use crate::support::{NoCredential, Password, blob, bytes, client, open, repository, writer};

#[tokio::test]
async fn upload_with_lost_response_is_sent_once() {
    let server = Server::start(|request, earlier| match request.method.as_str() {
        "HEAD" if earlier > 0 => Response::new(200).header("Content-Length", 7),
        "PUT" => Response::new(201).header("Content-Length", 10).cut_after(0),
        _ => Response::accepted_upload(request, earlier),
    });
    let pushed = writer(&server).push_blob(&blob("content")).await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
    assert_eq!(server.count("PUT"), 1);
}

#[tokio::test]
async fn upload_after_500_restarts_in_another_session() {
    let server =
        Server::start(
            |request, earlier| match (request.method.as_str(), request.path()) {
                ("PUT", "/upload/0") => Response::new(500),
                ("DELETE", _) => Response::new(405),
                _ => Response::accepted_upload(request, earlier),
            },
        );
    let pushed = writer(&server).push_blob(&blob("content")).await;
    pushed.unwrap();
    assert_eq!(server.count("DELETE /upload/0"), 1);
    assert_eq!(server.count("PUT /upload/1"), 1);
}

#[tokio::test]
async fn upload_location_on_other_origin_receives_no_credential() {
    let storage = Server::start(|_, _| Response::new(201));
    let location = format!("http://{}/upload", storage.host());
    let server = Server::start(move |request, _| {
        match (request.header("authorization"), request.method.as_str()) {
            (None, _) => Response::challenge("Basic realm=\"x\""),
            (_, "HEAD") => Response::new(404),
            _ => Response::new(202).header("Location", &location),
        }
    });
    let repository = repository(&server, Password, Access::Push);
    repository.push_blob(&blob("content")).await.unwrap();
    let requests = storage.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("authorization"), None);
    assert_eq!(requests[0].body, b"content");
}

#[tokio::test]
async fn upload_redirected_back_to_registry_sends_no_credential() {
    let protected = Arc::new(OnceLock::new());
    let location = Arc::clone(&protected);
    // The storage returns the URL of a manifest of the registry as the upload location. The client's credential may
    // delete this manifest.
    let storage = Server::start(move |_, _| {
        let location: &String = location.get().unwrap();
        Response::new(202).header("Location", location)
    });
    let upload = format!("http://{}/upload", storage.host());
    let server = Server::start(move |request, _| {
        match (request.header("authorization"), request.method.as_str()) {
            (None, _) => Response::challenge("Basic realm=\"x\""),
            (_, "HEAD") => Response::new(404),
            (_, "POST") => Response::new(202).header("Location", &upload),
            _ => Response::new(202),
        }
    });
    let manifest = format!("http://{}/v2/acme/prod/manifests/latest", server.host());
    protected.set(manifest).unwrap();
    let client = client(Password);
    let pushed = LargeFile::new()
        .push(&open(&client, &server, Access::Push))
        .await;
    pushed.unwrap_err();
    client.cancel_uploads().await;
    let is_anonymous = |request: &Request| request.header("authorization").is_none();
    let mut returned = server.requests();
    returned.retain(|request| request.target.contains("/prod/"));
    assert!(!returned.is_empty());
    assert!(returned.iter().all(is_anonymous));
    assert!(storage.requests().iter().all(is_anonymous));
}

#[tokio::test]
async fn interrupted_stream_resumes_at_offset_of_registry() {
    // The connection closes twice, each time after 3 MiB.
    let registry = registry(|request, earlier, contents| {
        (request.method == "PATCH" && earlier < 2).then(|| {
            contents.append_to_upload(request, &request.body[..3 * MIB]);
            Response::connection_closed()
        })
    });
    assert_eq!(push_large(&registry).await.unwrap(), Delivery::Uploaded);
    assert_eq!(registry.server.count("POST"), 1);
    let patches = registry.server.requests_starting_with("PATCH");
    let ranges: Vec<_> = patches
        .iter()
        .map(|patch| (patch.header("content-range"), patch.body.len() / MIB))
        .collect();
    assert_eq!(
        ranges,
        [
            (None, 9),
            (Some("3145728-9437183"), 6),
            (Some("6291456-9437183"), 3)
        ]
    );
}

#[tokio::test]
async fn stream_with_expired_session_restarts() {
    for range in [
        None,
        Some("0-0"),
        Some("0-99999999"),
        Some("5-10"),
        Some("soon"),
    ] {
        let registry = registry(move |request, earlier, _| match request.method.as_str() {
            "PATCH" if earlier == 0 && request.target == "/upload/0" => {
                Some(Response::connection_closed())
            }
            "GET" => Some(range.map_or(Response::new(404), |range| {
                Response::new(204).header("Range", range)
            })),
            _ => None,
        });
        push_large(&registry).await.unwrap();
        assert_eq!(registry.server.count("POST"), 2, "{range:?}");
        let lines = registry.server.request_lines();
        assert!(lines.contains(&"DELETE /upload/0".to_owned()), "{lines:#?}");
    }
}

#[tokio::test]
async fn resumed_stream_with_wrong_content_is_sent_again() {
    // The registry reports that it received 1 MiB, but these bytes are not the beginning of the content.
    let registry = registry(|request, earlier, contents| {
        (request.line() == "PATCH /upload/0" && earlier == 0).then(|| {
            contents.append_to_upload(request, &vec![0; MIB]);
            Response::connection_closed()
        })
    });
    push_large(&registry).await.unwrap();
    assert_eq!(registry.server.count("POST"), 2);
    assert_eq!(registry.server.count("PUT"), 2);
}

#[tokio::test]
async fn stream_without_progress_fails_after_five_sessions() {
    let registry =
        registry(|request, _, _| (request.method == "PATCH").then(Response::connection_closed));
    let error = push_large(&registry).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(registry.server.count("POST"), 5);
    assert_eq!(registry.server.count("PATCH"), 5);
}

#[tokio::test]
async fn interrupted_blob_restarts_in_another_session() {
    let registry = registry(|request, _, contents| match request.method.as_str() {
        "PUT" if request.path() == "/upload/0" => {
            contents.append_to_upload(request, &request.body[..2 * MIB]);
            Some(Response::connection_closed())
        }
        // The second session is sent as a stream, which can be resumed.
        "PATCH" if request.header("content-range").is_none() => {
            contents.append_to_upload(request, &request.body[..4 * MIB]);
            Some(Response::connection_closed())
        }
        _ => None,
    });
    let repository = writer(&registry.server);
    let pushed = push_known(&repository, &registry, bytes(9 * MIB)).await;
    pushed.unwrap();
    let lines = registry.server.request_lines();
    let mut after = lines
        .iter()
        .skip_while(|line| !line.starts_with("PUT /upload/0"))
        .skip(1);
    let is_allowed = |line: &String| !line.contains("/upload/0") || line.starts_with("DELETE");
    assert!(after.all(is_allowed), "{lines:#?}");
    assert_eq!(registry.server.count("POST"), 2);
    assert_eq!(registry.server.count("PATCH"), 2);
}

#[tokio::test]
async fn session_after_failed_close_is_closed_again_without_content() {
    let registry = registry(|request, earlier, _| {
        (request.method == "PUT" && earlier == 0).then(|| Response::new(503))
    });
    push_large(&registry).await.unwrap();
    let count = |method| registry.server.count(method);
    assert_eq!((count("POST"), count("PATCH"), count("PUT")), (1, 1, 2));
}

/// Responds to each request as soon as its head has arrived. Reads nothing more after the head of a PATCH request.
async fn respond_early(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head).await? == 0 {
                return Ok(());
            }
        }
        let is = |method: &[u8]| head.starts_with(method);
        let status = if is(b"HEAD") || is(b"GET") { 404 } else { 202 };
        let response =
            format!("HTTP/1.1 {status} Early\r\nLocation: /upload\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(response.as_bytes()).await?;
        if is(b"PATCH") {
            return std::future::pending().await;
        }
    }
}

#[tokio::test]
async fn response_before_end_of_body_is_not_a_success() {
    let server = TcpServer::start(async |stream, _| {
        let _ = respond_early(stream).await;
    });
    let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
    let repository = client(NoCredential).repository(&reference, Access::Push);
    let error = LargeFile::new().push(&repository.unwrap()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Network);
}

#[tokio::test]
async fn cancel_uploads_deletes_each_open_session_once() {
    let registry = registry(|request, _, _| (request.method == "PUT").then(Response::never));
    let client = client(NoCredential);
    let repository = open(&client, &registry.server, Access::Push);
    let pushing = tokio::spawn(async move { repository.push_blob(&blob("content")).await });
    registry.server.wait_for_request("PUT").await;
    pushing.abort();
    client.cancel_uploads().await;
    client.cancel_uploads().await;
    let cancelled = registry.server.requests_starting_with("DELETE");
    assert_eq!(cancelled.len(), 1);
    assert_eq!(cancelled[0].line(), "DELETE /upload/0");
}
