//! Deviations of individual registries. `QUIRKS.md` lists all deviations, each with the tests that cover it in this
//! file or other files.

use std::path::Path;

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Blob, Client, ClientEvent, Credential, CredentialProvider, CredentialRequest, Delete,
    ErrorKind, Hint, Lookup, Secret, Source, Tag, Target,
};
use testkit::server::{Response, Server};

use crate::support::{
    CANARY, NoCredential, Observed, blob, found_lookup, manifest, observe, observed_client, open,
    options, read_error, reader, repository, writer,
};

#[test]
fn quirks_table_names_existing_tests_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("QUIRKS.md")).unwrap();
    let mut sources = String::new();
    let mut folders = vec![
        root.join("src"),
        root.join("tests"),
        root.join("../../tests/tests"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    let mut count = 0;
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let named: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test covers: {row}");
        for test in named {
            assert!(
                sources.contains(&format!("fn {test}()")),
                "there is no test `{test}`"
            );
        }
        count += 1;
    }
    println!("{count} quirks, each with a test");
    assert!(count > 40, "{count}");
}

// ---- names and credentials

#[tokio::test]
async fn docker_hub_names_expand_to_registry_1_and_library() {
    let server = Server::start(|_, _| Response::new(404));
    let host = server.host();
    let (_, port) = host.rsplit_once(':').unwrap();
    let resolve = format!("registry-1.docker.io:{port}:127.0.0.1");
    for name in [
        "docker.io/alpine",
        "index.docker.io/alpine",
        "docker.io/acme/widgets",
    ] {
        let mut options = options(NoCredential);
        options.plain_http = Some(true);
        options.resolve = vec![resolve.parse().unwrap()];
        let reference = name.parse().unwrap();
        let repository = Client::new(options).repository(&reference, Access::Pull);
        let error = read_error(&repository.unwrap()).await;
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
    }
    for request in server.requests() {
        let host = request.header("host").unwrap();
        assert!(host.starts_with("registry-1.docker.io"), "{host}");
    }
    assert_eq!(
        server.request_lines(),
        [
            "GET /v2/library/alpine/manifests/1",
            "GET /v2/library/alpine/manifests/1",
            "GET /v2/acme/widgets/manifests/1"
        ]
    );
}

/// Provider of an identity token.
#[derive(Debug)]
struct IdentityToken;

#[async_trait::async_trait]
impl CredentialProvider for IdentityToken {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        Ok(found_lookup(Credential::Identity(Secret::new(CANARY))))
    }
}

#[tokio::test]
async fn identity_token_is_posted_or_else_sent_as_a_password() {
    const OPAQUE: &str = "opaque, and never parsed";
    for status in [200, 400, 401, 404, 405] {
        let server = Server::start(move |request, _| {
            let is_token = request.path() == "/token";
            let authorization = request.header("authorization");
            match (request.method.as_str(), authorization) {
                ("POST", None) if is_token && status == 200 => {
                    Response::new(200).body(format!(r#"{{"access_token":"{OPAQUE}"}}"#))
                }
                ("POST", _) if is_token => Response::new(status),
                ("GET", Some(_)) if is_token => {
                    Response::new(200).body(format!(r#"{{"token":"{OPAQUE}"}}"#))
                }
                (_, Some(token)) if token == format!("Bearer {OPAQUE}") => Response::new(404),
                _ => Response::challenge(r#"Bearer realm="/token",service="s""#),
            }
        });
        let error = read_error(&repository(&server, IdentityToken, Access::Pull)).await;
        assert_eq!(error.kind(), ErrorKind::NotFound, "{status}");
        let form = String::from_utf8(server.requests()[1].body.clone()).unwrap();
        for part in [
            "grant_type=refresh_token",
            "service=s",
            "client_id=oci-registry",
            "scope=repository%3Aacme%2Fwidgets%3Apull",
            &format!("refresh_token={CANARY}"),
        ] {
            assert!(form.contains(part), "{form}");
        }
        let gets = server.count("GET /token");
        assert_eq!(gets, usize::from(status != 200), "{status}");
    }
}

// ---- statuses and bodies

#[tokio::test]
async fn upload_to_missing_repository_hints_at_its_creation() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "POST" => Response::error(404, "NAME_UNKNOWN"),
        _ => Response::new(404),
    });
    let error = writer(&server).push_blob(&blob("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.registry_errors()[0].code, "NAME_UNKNOWN");
    let hints = format!("{:?}", error.hints());
    assert!(hints.contains("create the repository first"), "{hints}");
}

#[tokio::test]
async fn every_2xx_status_of_a_write_is_a_success() {
    for (blob, pushed, deletion) in [
        (201, 201, 202),
        (200, 200, 200),
        (202, 202, 204),
        (204, 204, 202),
    ] {
        let server = Server::start(move |request, earlier| {
            let digest = request.path().rsplit('/').next().unwrap();
            match request.method.as_str() {
                "PUT" if request.path() == "/upload" => Response::new(blob),
                "PUT" => Response::new(pushed).header("Docker-Content-Digest", digest),
                "POST" => Response::new(202).header("Location", "/upload"),
                "DELETE" => Response::new(deletion),
                "HEAD" if earlier > 0 => Response::new(200).header("Content-Length", 2),
                _ => Response::new(404),
            }
        });
        let (repository, empty) = (writer(&server), Blob::empty());
        repository.push_blob(&empty).await.unwrap();
        repository.push_manifest(&manifest("x")).await.unwrap();
        repository.delete_blob(empty.digest()).await.unwrap();
        let put = &server.requests_starting_with("PUT /upload")[0];
        assert_eq!(put.header("content-length"), Some("2"));
        assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    }
}

#[tokio::test]
async fn compressed_transfer_is_never_requested() {
    let server = Server::start(|_, _| Response::new(404));
    let repository = reader(&server);
    read_error(&repository).await;
    let read = repository.blob(Blob::empty().descriptor()).await;
    read.unwrap_err();
    let requests = server.requests();
    let encodings: Vec<_> = requests
        .iter()
        .map(|request| request.header("accept-encoding"))
        .collect();
    assert!(matches!(encodings[0], None | Some("identity")));
    assert_eq!(encodings[1..], [Some("identity")]);
}

// ---- header fields

#[tokio::test]
async fn response_with_bare_line_feeds_is_read() {
    let server = Server::start(|_, _| {
        Response::new(429)
            .header("Retry-After", 90)
            .header("Content-Type", "text/plain")
            .body("Too Many Requests")
            .with_bare_line_feeds()
    });
    let error = read_error(&reader(&server)).await;
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(error.hints(), ["try again in 90 seconds".into()]);
}

/// Opens the repository of a server. Returns the repository and the list of the registry's warnings, each with its
/// host.
fn repository_with_warnings(server: &Server) -> (oci_registry::Repository, Observed<String>) {
    let (observer, warnings) = observe(|event| match event {
        ClientEvent::Warning { from, text } => Some(format!("{from}: {text}")),
        _ => None,
    });
    let client = observed_client(observer);
    (open(&client, server, Access::Pull), warnings)
}

#[tokio::test]
async fn warning_of_a_registry_is_reported_once() {
    let server =
        Server::start(|_, _| Response::new(404).header("Warning", "299 - \"this registry moves\""));
    let (repository, warnings) = repository_with_warnings(&server);
    for _ in 0..2 {
        read_error(&repository).await;
    }
    let warnings = warnings.lock().unwrap();
    assert_eq!(*warnings, ["127.0.0.1: this registry moves"]);
}

#[tokio::test]
async fn response_with_300_or_invalid_header_lines_is_read() {
    let server = Server::start(|_, _| {
        let mut response = Response::new(200).header("Bad Name", "x").header("", "y");
        for number in 0..300 {
            response = response.header(&format!("X-Field-{number}"), number);
        }
        for text in ["one", "two", "one"] {
            response = response.header("Warning", format!("299 - \"{text}\""));
        }
        response.body(r#"{"tags":["1"]}"#)
    });
    let (repository, warnings) = repository_with_warnings(&server);
    for _ in 0..2 {
        let tags: Vec<Tag> = repository.tags().try_collect().await.unwrap();
        assert_eq!(tags, ["1".parse::<Tag>().unwrap()]);
    }
    let warnings = warnings.lock().unwrap();
    assert_eq!(*warnings, ["127.0.0.1: one", "127.0.0.1: two"]);
}

#[tokio::test]
async fn response_with_too_many_header_lines_is_rejected() {
    let server = Server::start(|_, _| {
        let fields = 0..500;
        fields.fold(Response::new(200), |response, number| {
            response.header(&format!("X-Field-{number}"), number)
        })
    });
    let error = read_error(&reader(&server)).await;
    assert_eq!(error.kind(), ErrorKind::Network);
}

#[tokio::test]
async fn plain_http_rejected_by_a_tls_port_hints_at_tls() {
    for (body, is_named) in [
        ("Client sent an HTTP request to an HTTPS server.\n", true),
        (
            "<title>400 The plain HTTP request was sent to HTTPS port</title>",
            true,
        ),
        (
            "Reason: You're speaking plain HTTP to an SSL-enabled server port.",
            true,
        ),
        ("This combination of host and port requires TLS.", true),
        ("bad request", false),
    ] {
        let server = Server::start(move |_, _| Response::new(400).body(body));
        let error = read_error(&reader(&server)).await;
        let hints = error.hints();
        assert_eq!(hints == [Hint::UseTls], is_named, "{body}: {hints:?}");
    }
}
