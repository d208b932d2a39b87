//! Challenges, tokens, and requests that are sent again after a 401.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci_registry::{Access, Delete, Delivery, Digest, ErrorKind, Hint, Source, Target};
use testkit::server::{Request, Response, Server};

use crate::support::{
    CANARY, NoCredential, Password, blob, by_tag, descriptor, error_text, manifest,
    manifest_response, packed, read_error, repository,
};

/// Starts a registry whose token server returns `t1`, `t2`, … Each token is accepted for `limit` requests.
fn token_registry(
    limit: usize,
    script: impl Fn(&Request, usize) -> Response + Send + Sync + 'static,
) -> Server {
    let counters = Mutex::new((0, 0));
    Server::start(move |request, earlier| {
        let mut counters = counters.lock().unwrap();
        let (tokens, used) = &mut *counters;
        if request.path() == "/token" {
            (*tokens, *used) = (*tokens + 1, 0);
            return Response::new(200).body(format!(r#"{{"token":"t{tokens}","expires_in":300}}"#));
        }
        let current = format!("Bearer t{tokens}");
        if *tokens == 0 || *used >= limit || request.header("authorization") != Some(&current) {
            return Response::challenge(
                r#"Bearer realm="/token",service="s",scope="repository:acme/widgets:pull""#,
            );
        }
        *used += 1;
        drop(counters);
        script(request, earlier)
    })
}

/// Starts a registry whose token server always returns the same token. The registry responds with 401 to the first
/// `times` requests that begin with `refused`, although these requests carry the token.
fn constant_token_registry(
    refused: &'static str,
    times: usize,
    script: impl Fn(&Request, usize) -> Response + Send + Sync + 'static,
) -> Server {
    let refusals = AtomicUsize::new(0);
    Server::start(move |request, earlier| {
        if request.path() == "/token" {
            return Response::new(200).body(r#"{"token":"t","expires_in":300}"#);
        }
        let is_refused = || {
            request.line().starts_with(refused) && refusals.fetch_add(1, Ordering::Relaxed) < times
        };
        if request.header("authorization") != Some("Bearer t") || is_refused() {
            return Response::challenge("Bearer realm=\"/token\"");
        }
        script(request, earlier)
    })
}

#[tokio::test]
async fn push_requests_one_token() {
    let server = token_registry(100, |request, earlier| match request.method.as_str() {
        "POST" => Response::new(202).header("Location", "/upload?state=a%2Bb"),
        _ => Response::accepted_upload(request, earlier),
    });
    let repository = repository(&server, Password, Access::Push);
    for blob in packed("x").blobs() {
        let delivery = repository.push_blob(blob).await.unwrap();
        assert_eq!(delivery, Delivery::Uploaded);
    }
    let tokens = server.requests_starting_with("GET /token");
    assert_eq!(tokens.len(), 1);
    let scope = &tokens[0].target;
    assert!(scope.contains("pull%2Cpush") && scope.contains("service=s"));
    let put = &server.requests_starting_with("PUT")[0].target;
    assert!(
        put.starts_with("/upload?state=a%2Bb&digest=sha256:"),
        "{put}"
    );
    let has_password = |request: &&Request| {
        let authorization = request.header("authorization");
        authorization.is_some_and(|value| value.starts_with("Basic"))
    };
    let requests = server.requests();
    let basic: Vec<_> = requests.iter().filter(has_password).collect();
    assert_eq!(basic.len(), 1);
    assert_eq!(basic[0].path(), "/token");
}

#[tokio::test]
async fn insufficient_token_is_requested_once() {
    let server = token_registry(0, |_, _| Response::new(500));
    let error = read_error(&repository(&server, Password, Access::Pull)).await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(server.requests().len(), 3, "{:#?}", server.request_lines());
    let hints = format!("{:?}", error.hints());
    assert!(hints.contains("a test"), "{hints}");
    error_text(&error);
}

#[tokio::test]
async fn read_after_401_is_retried_with_same_token() {
    let refused = "GET /v2/acme/widgets/blobs";
    let server = constant_token_registry(refused, 1, |request, _| match request.method.as_str() {
        "HEAD" => Response::new(200).header("Content-Length", 7),
        _ => Response::new(200).body("content"),
    });
    let repository = repository(&server, Password, Access::Pull);
    let blob = descriptor(b"content");
    assert!(repository.exists(&blob).await.unwrap());
    let stream = repository.blob(&blob).await.unwrap();
    assert_eq!(stream.read_to_end(10).await.unwrap(), "content");
    assert_eq!(server.count("GET /token"), 2);
    assert_eq!(server.count("GET /v2"), 2);
}

#[tokio::test]
async fn resumed_download_after_401_is_retried_with_same_token() {
    let refusals = AtomicUsize::new(0);
    let server = constant_token_registry("nothing", 0, move |request, _| {
        let whole = Response::range_of("content", request);
        match request.range() {
            None => whole.cut_after(3),
            Some(_) if refusals.fetch_add(1, Ordering::Relaxed) == 0 => {
                Response::challenge("Bearer realm=\"/token\"")
            }
            Some(_) => whole,
        }
    });
    let repository = repository(&server, Password, Access::Pull);
    let stream = repository.blob(&descriptor(b"content")).await.unwrap();
    assert_eq!(stream.read_to_end(10).await.unwrap(), "content");
}

#[tokio::test]
async fn upload_after_401_restarts_with_same_token() {
    let server = constant_token_registry("PUT /upload/", 1, Response::accepted_upload);
    let repository = repository(&server, Password, Access::Push);
    let pushed = repository.push_blob(&blob("content")).await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
    let puts = server.requests_starting_with("PUT");
    assert_eq!(puts.len(), 2);
    assert_eq!(puts[1].path(), "/upload/1");
    assert_eq!(puts[1].body, b"content");
}

#[tokio::test]
async fn manifest_put_after_401_is_retried_with_same_token() {
    let server = constant_token_registry("PUT /v2/", 1, Response::accepted_upload);
    let manifest = manifest("x");
    let repository = repository(&server, Password, Access::Push);
    assert!(!repository.exists(&manifest.descriptor()).await.unwrap());
    repository.push_manifest(&manifest).await.unwrap();
    assert_eq!(server.count("PUT /v2/"), 2);
}

#[tokio::test]
async fn endless_401_with_same_token_is_retried_once() {
    let server = constant_token_registry("GET /v2/", usize::MAX, |_, _| Response::new(404));
    let repository = repository(&server, Password, Access::Pull);
    assert!(!repository.exists(&descriptor(b"content")).await.unwrap());
    let error = read_error(&repository).await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(server.count("GET /token"), 2);
    assert_eq!(server.count("GET /v2/"), 2);
}

#[tokio::test]
async fn token_expiry_during_an_upload_restarts_it() {
    // The token is accepted for the HEAD and the POST request, but not for the PUT request.
    let server = token_registry(2, Response::accepted_upload);
    let repository = repository(&server, Password, Access::Push);
    let pushed = repository.push_blob(&blob("content")).await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
    let puts = server.requests_starting_with("PUT");
    assert_eq!(puts.len(), 2);
    assert_eq!(puts[0].path(), "/upload/0");
    assert_eq!(puts[1].path(), "/upload/1");
    assert_eq!(puts[1].body, b"content");
}

#[tokio::test]
async fn challenge_missing_in_401_is_requested_from_root_once() {
    let manifest = manifest("x");
    let found = manifest_response(&manifest);
    let server =
        Server::start(
            move |request, _| match (request.path(), request.header("authorization")) {
                ("/v2/", _) => Response::challenge("Bearer realm=\"/token\""),
                ("/token", _) => Response::new(200).body(r#"{"token":"good"}"#),
                (_, Some("Bearer good")) => found.clone(),
                _ => Response::new(401),
            },
        );
    let repository = repository(&server, Password, Access::Pull);
    let read = repository.manifest(&by_tag("1")).await;
    assert_eq!(read.unwrap(), manifest);
    let lines = server.request_lines();
    let roots = lines.iter().filter(|line| *line == "GET /v2/");
    assert_eq!(roots.count(), 1);
}

#[tokio::test]
async fn unauthorized_without_challenge_is_an_authentication_error() {
    let server = Server::start(|_, _| Response::new(401));
    let repository = repository(&server, Password, Access::Pull);
    for _ in 0..2 {
        let error = read_error(&repository).await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    }
    let path = "GET /v2/acme/widgets/manifests/1";
    assert_eq!(server.request_lines(), [path, "GET /v2/", path]);
}

#[tokio::test]
async fn simultaneous_requests_without_challenge_succeed() {
    let manifest = manifest("x");
    let found = manifest_response(&manifest);
    let server =
        Server::start(
            move |request, _| match (request.path(), request.header("authorization")) {
                ("/v2/", _) => Response::challenge("Basic realm=\"x\""),
                (_, Some(_)) => found.clone(),
                _ => Response::new(401),
            },
        );
    let repository = repository(&server, Password, Access::Pull);
    let (one, two) = (by_tag("1"), by_tag("2"));
    let (one, two) = tokio::join!(repository.manifest(&one), repository.manifest(&two));
    assert_eq!(one.unwrap(), manifest);
    assert_eq!(two.unwrap(), manifest);
}

#[tokio::test]
async fn challenge_without_credential_lists_the_searched_sources() {
    let server = Server::start(|_, _| Response::challenge("Basic realm=\"x\""));
    let error = read_error(&repository(&server, NoCredential, Access::Pull)).await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let registry = server.host();
    assert_eq!(
        error.hints(),
        [
            Hint::NoCredential {
                registry: registry.clone(),
                searched: vec!["here".into(), "there".into()],
            },
            Hint::LogIn { registry },
        ]
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn credential_echoed_by_a_token_server_is_not_shown() {
    for body in [
        format!("you sent Basic {CANARY}"),
        format!(r#"{{"errors":[{{"code":"DENIED","message":"no entry for {CANARY}"}}]}}"#),
        format!(r#"{{"error_description":"{CANARY}"}}"#),
    ] {
        let server = Server::start(move |request, _| match request.path() {
            "/token" => Response::new(401).body(&body),
            _ => Response::challenge("Bearer realm=\"/token\""),
        });
        let error = read_error(&repository(&server, Password, Access::Pull)).await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        error_text(&error);
    }
}

#[tokio::test]
async fn delete_requests_a_token_with_both_scopes() {
    let server = Server::start(|request, _| {
        let deletes = request.method == "DELETE" || request.target.contains("delete");
        let (token, scope) = if deletes {
            ("deleting", "repository:acme/widgets:delete")
        } else {
            ("writing", "repository:acme/widgets:pull,push")
        };
        if request.path() == "/token" {
            return Response::new(200).body(format!(r#"{{"token":"{token}"}}"#));
        }
        if request.header("authorization") == Some(&format!("Bearer {token}")) {
            return Response::new(if deletes { 202 } else { 200 });
        }
        let realm = format!("http://{}/token", request.header("host").unwrap());
        Response::challenge(format!(
            r#"Bearer realm="{realm}",service="here",scope="{scope}""#
        ))
    });
    let digest = Digest::sha256(b"blob");
    let repository = repository(&server, NoCredential, Access::Push);
    repository.delete_blob(&digest).await.unwrap();
    let lines = server.request_lines();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert!(lines[4].contains("delete") && lines[4].contains("push"));
}
