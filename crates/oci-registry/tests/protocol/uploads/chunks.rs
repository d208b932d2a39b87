//! Uploads in chunks, to registries that limit the size of a request.

use oci_registry::{Access, ClientEvent, ErrorKind};
use testkit::registry::{FakeRegistry, Switches};
use testkit::server::{Request, Response};

use super::{MIB, push_known, registry};
use crate::support::{bytes, observe, observed_client, open, writer};

/// Whether a request sends a complete blob.
fn is_whole(request: &Request) -> bool {
    request.method == "PUT" && !request.body.is_empty()
}

#[tokio::test]
async fn blob_after_413_and_later_blobs_are_sent_in_chunks() {
    let registry =
        registry(|request, _, _| (request.body.len() > 8 * MIB).then(|| Response::new(413)));
    let repository = writer(&registry.server);
    for size in [10 * MIB, 11 * MIB, 100] {
        let pushed = push_known(&repository, &registry, bytes(size)).await;
        pushed.unwrap();
    }
    let mut requests = registry.server.requests();
    requests.retain(|request| !request.body.is_empty());
    let sent: Vec<_> = requests
        .iter()
        .map(|request| {
            let range = request.header("content-range").unwrap_or_default();
            (request.method.as_str(), range)
        })
        .collect();
    assert_eq!(
        sent,
        [
            ("PUT", ""),
            ("PATCH", "0-8388607"),
            ("PATCH", "8388608-10485759"),
            ("PATCH", "0-8388607"),
            ("PATCH", "8388608-11534335"),
            ("PUT", ""),
        ]
    );
}

#[tokio::test]
async fn chunk_after_416_is_halved_until_it_is_accepted() {
    let limited = Switches {
        chunk_limit: Some(4 * MIB),
        ..Switches::default()
    };
    let registry = FakeRegistry::start_with(limited, |request, _, _| {
        is_whole(request).then(|| Response::new(413))
    });
    let repository = writer(&registry.server);
    let pushed = push_known(&repository, &registry, bytes(9 * MIB)).await;
    pushed.unwrap();
    let patches = registry.server.requests_starting_with("PATCH");
    let sizes: Vec<_> = patches.iter().map(|patch| patch.body.len() / MIB).collect();
    assert_eq!(sizes, [8, 4, 4, 1]);
}

#[tokio::test]
async fn refusal_of_every_chunk_size_is_a_protocol_error() {
    let registry = registry(|request, _, _| (!request.body.is_empty()).then(|| Response::new(413)));
    let repository = writer(&registry.server);
    let pushed = push_known(&repository, &registry, bytes(9 * MIB)).await;
    assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(registry.server.count("PATCH"), 3);
}

#[tokio::test]
async fn minimum_chunk_size_is_used_up_to_a_maximum() {
    for (minimum, first) in [
        ("10485760", 10 * MIB),
        ("4611686018427387904", 8 * MIB),
        ("much", 8 * MIB),
        ("1", 8 * MIB),
    ] {
        let registry = registry(move |request, _, contents| match request.method.as_str() {
            _ if is_whole(request) => Some(Response::new(413)),
            "POST" => {
                let started = contents.respond(request);
                Some(started.header("OCI-Chunk-Min-Length", minimum))
            }
            _ => None,
        });
        let (observer, ignored) = observe(|event| match event {
            ClientEvent::Ignored { from, what } => Some(format!("{from} {what}")),
            _ => None,
        });
        let client = observed_client(observer);
        let repository = open(&client, &registry.server, Access::Push);
        let pushed = push_known(&repository, &registry, bytes(11 * MIB)).await;
        pushed.unwrap();
        let patches = registry.server.requests_starting_with("PATCH");
        assert_eq!(patches[0].body.len(), first, "{minimum}");
        let ignored = ignored.lock().unwrap();
        if matches!(minimum, "4611686018427387904" | "much") {
            let expected = format!("127.0.0.1 `OCI-Chunk-Min-Length: {minimum}`");
            assert_eq!(ignored.len(), 1, "{ignored:?}");
            assert!(ignored[0].starts_with(&expected), "{ignored:?}");
        } else {
            assert!(ignored.is_empty(), "{ignored:?}");
        }
    }
}

#[tokio::test]
async fn range_header_of_accepted_chunk_is_ignored() {
    // ECR responds with 201 and the end of an earlier chunk.
    let registry = registry(|request, _, contents| match request.method.as_str() {
        _ if is_whole(request) => Some(Response::new(413)),
        "PATCH" => {
            contents.append_to_upload(request, &request.body);
            let response = Response::new(201).header("Location", request.path());
            Some(response.header("Range", "0-8388607"))
        }
        _ => None,
    });
    let repository = writer(&registry.server);
    let pushed = push_known(&repository, &registry, bytes(20 * MIB)).await;
    pushed.unwrap();
    assert_eq!(registry.server.count("POST"), 2);
    assert_eq!(registry.server.count("PATCH"), 3);
}

#[tokio::test]
async fn chunk_after_416_continues_at_offset_of_registry() {
    // The registry received only a part of the first chunk.
    let registry = registry(|request, earlier, contents| match request.method.as_str() {
        _ if is_whole(request) => Some(Response::new(413)),
        "PATCH" if earlier == 0 => {
            contents.append_to_upload(request, &request.body[..MIB]);
            Some(Response::new(416))
        }
        _ => None,
    });
    let repository = writer(&registry.server);
    let pushed = push_known(&repository, &registry, bytes(9 * MIB)).await;
    pushed.unwrap();
    let patches = registry.server.requests_starting_with("PATCH");
    let range = patches[1].header("content-range");
    assert_eq!(range, Some("1048576-9437183"));
}

#[tokio::test]
async fn upload_rejected_in_one_request_and_in_chunks_is_unsupported() {
    let registry = registry(|request, _, _| match request.method.as_str() {
        "PUT" => Some(Response::new(413)),
        "PATCH" => Some(Response::new(405)),
        _ => None,
    });
    let repository = writer(&registry.server);
    let pushed = push_known(&repository, &registry, bytes(9 * MIB)).await;
    assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Unsupported);
}
