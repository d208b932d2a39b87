//! What the client does when a registry does not do what one would wish.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripted;

use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Annotations, Blob, Client, ClientOptions, Credential, CredentialProvider,
    CredentialRequest, Delivery, Descriptor, Digest, Environment, Error, ErrorKind, Identifier,
    Lookup, Manifest, MediaType, Packed, Repository, Secret, Source, Tag, Target,
};
use scripted::{Asked, Reply, Server};

const CANARY: &str = "canary-5f3a";

#[derive(Debug)]
struct Me;

#[async_trait::async_trait]
impl CredentialProvider for Me {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        let credential = Credential::Basic {
            username: "me".into(),
            password: Secret::new(CANARY),
        };
        Ok(Lookup {
            found: Some((credential, "a test".into())),
            looked_in: vec!["a test".into()],
        })
    }
}

#[derive(Debug)]
struct Nobody;

#[async_trait::async_trait]
impl CredentialProvider for Nobody {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        Ok(Lookup {
            found: None,
            looked_in: vec!["here".into(), "there".into()],
        })
    }
}

fn client(credentials: impl CredentialProvider + 'static) -> Client {
    let mut options = ClientOptions::new(Environment::default());
    options.credentials = Arc::new(credentials);
    Client::new(options)
}

fn repository(
    server: &Server,
    credentials: impl CredentialProvider + 'static,
    access: Access,
) -> Repository {
    let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
    client(credentials).repository(&reference, access).unwrap()
}

fn packed(content: &'static str) -> Packed {
    let layer = Blob::from_bytes(MediaType::OCTET_STREAM, content);
    Packed::new("a/b".into(), Blob::empty(), vec![layer], Annotations::new()).unwrap()
}

fn tag(name: &str) -> Identifier {
    Identifier::Tag(name.parse::<Tag>().unwrap())
}

fn served(manifest: &Manifest) -> Reply {
    Reply::new(200)
        .header("Content-Type", manifest.media_type())
        .header("Docker-Content-Digest", manifest.digest())
        .body(manifest.bytes())
}

/// Everything an error could show, which must hold no secret.
fn shown(error: &Error) -> String {
    let mut text = format!("{error:?} {error} {:?}", error.help());
    let mut below = std::error::Error::source(error);
    while let Some(cause) = below {
        write!(text, " {cause} {cause:?}").unwrap();
        below = cause.source();
    }
    assert!(!text.contains(CANARY), "{text}");
    text
}

// ---- manifests

#[tokio::test]
async fn a_manifest_other_than_the_one_asked_for_is_refused_and_not_asked_again() {
    let (right, wrong) = (packed("right"), packed("wrong"));
    let answer = wrong.manifest().clone();
    let server = Server::start(move |_, _| served(&answer)).await;
    let asked: Identifier = right.manifest().digest().clone().into();
    let error = repository(&server, Nobody, Access::Pull)
        .manifest(&asked)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_head_that_tells_too_little_is_followed_by_a_get() {
    let manifest = packed("x").manifest().clone();
    for poor in [
        Reply::new(405),
        Reply::new(403),
        Reply::new(200).header("Content-Type", "text/html"),
        Reply::new(200)
            .header("Docker-Content-Digest", "")
            .header("Content-Type", MediaType::MANIFEST),
    ] {
        let answer = manifest.clone();
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            "HEAD" => poor.clone(),
            _ => served(&answer),
        })
        .await;
        let found = repository(&server, Nobody, Access::Pull)
            .resolve(&tag("1"))
            .await
            .unwrap();
        assert_eq!(found.digest, *manifest.digest());
        assert_eq!(server.asked().len(), 2);
    }
}

#[tokio::test]
async fn html_in_place_of_a_manifest_is_an_error_of_the_protocol() {
    let server = Server::start(|_, _| {
        Reply::new(200)
            .header("Content-Type", "text/html")
            .body("<html>")
    })
    .await;
    let error = repository(&server, Nobody, Access::Pull)
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn cannot_tell_is_never_no() {
    for (status, kind) in [
        (401, ErrorKind::Unauthenticated),
        (403, ErrorKind::Denied),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Network),
    ] {
        let server = Server::start(move |_, _| Reply::new(status).header("Retry-After", "0")).await;
        let repository = repository(&server, Nobody, Access::Pull);
        let blob = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(b""), 0);
        assert_eq!(
            repository.exists(&blob).await.unwrap_err().kind(),
            kind,
            "{status}"
        );
    }
    let server = Server::start(|_, _| Reply::new(404)).await;
    let blob = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(b""), 0);
    assert!(
        !repository(&server, Nobody, Access::Pull)
            .exists(&blob)
            .await
            .unwrap()
    );
}

// ---- retries

#[tokio::test]
async fn a_fault_that_passes_is_survived_and_one_that_stays_is_shown() {
    let manifest = packed("x").manifest().clone();
    let answer = manifest.clone();
    let server = Server::start(move |_, before| {
        if before < 4 {
            Reply::new(503).header("Retry-After", "0")
        } else {
            served(&answer)
        }
    })
    .await;
    assert_eq!(
        repository(&server, Nobody, Access::Pull)
            .manifest(&tag("1"))
            .await
            .unwrap(),
        manifest
    );
    assert_eq!(server.asked().len(), 5);

    let server = Server::start(|_, _| {
        Reply::new(503)
            .header("Retry-After", "0")
            .body(r#"{"errors":[{"code":"UNAVAILABLE","message":"tired"}]}"#)
    })
    .await;
    let error = repository(&server, Nobody, Access::Pull)
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(error.registry_errors()[0].message, "tired");
    assert_eq!(server.asked().len(), 5);
}

#[tokio::test]
async fn a_wait_of_a_day_is_not_waited_for() {
    let server = Server::start(|_, _| Reply::new(429).header("Retry-After", "86400")).await;
    let error = repository(&server, Nobody, Access::Pull)
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert!(
        error.help().iter().any(|help| help.contains("86400")),
        "{:?}",
        error.help()
    );
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn error_bodies_of_any_form_change_nothing_about_the_status() {
    let endless = "x".repeat(1 << 20);
    for body in ["", "<html>", "\u{1b}[31mred", "{\"errors\":null}", &endless] {
        let body = body.to_owned();
        let server = Server::start(move |_, _| Reply::new(404).body(&body)).await;
        let error = repository(&server, Nobody, Access::Pull)
            .manifest(&tag("1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = shown(&error);
        assert!(!text.contains('\u{1b}') && text.len() < 20_000);
    }
}

// ---- redirects and where credentials go

#[tokio::test]
async fn a_redirect_elsewhere_takes_no_credentials_along() {
    let content = b"content";
    let storage = Server::start(move |_, _| Reply::new(200).body(content)).await;
    let place = format!("http://{}/blob?X-Signature={CANARY}", storage.host());
    let server = Server::start(move |asked, _| match asked.header("authorization") {
        None => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Reply::new(307).header("Location", &place),
    })
    .await;
    let descriptor = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(content), 7);
    let stream = repository(&server, Me, Access::Pull)
        .blob(&descriptor)
        .await
        .unwrap();
    assert_eq!(stream.read_to_end(100).await.unwrap(), &content[..]);
    assert_eq!(server.asked().len(), 2);
    let asked = &storage.asked()[0];
    for name in ["authorization", "cookie", "referer"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_challenge_from_elsewhere_gets_no_answer() {
    let attacker =
        Server::start(|_, _| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")).await;
    let place = format!("http://{}/blob", attacker.host());
    let server = Server::start(move |_, _| Reply::new(307).header("Location", &place)).await;
    let descriptor = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(b"x"), 1);
    let error = repository(&server, Me, Access::Pull)
        .blob(&descriptor)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    shown(&error);
    assert!(
        attacker
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
    assert_eq!(attacker.asked().len(), 1);
}

#[tokio::test]
async fn redirects_to_what_is_no_http_or_in_circles_end() {
    for place in [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://user@127.0.0.1/",
        "/v2/",
        "",
    ] {
        let server = Server::start(move |_, _| Reply::new(302).header("Location", place)).await;
        let error = repository(&server, Nobody, Access::Pull)
            .manifest(&tag("1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{place}");
        assert!(server.asked().len() <= 6);
    }
}

// ---- tokens

/// A registry that wants a token `t<n>` from its own `/token`, where `n` counts from 1; each serves `uses` requests.
fn token_registry(
    uses: usize,
    then: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Asked, usize) -> Reply + Send + Sync {
    let counted = std::sync::Mutex::new((0, 0));
    move |asked, before| {
        let mut counted = counted.lock().unwrap();
        let (tokens, uses_so_far) = &mut *counted;
        if asked.target.starts_with("/token") {
            (*tokens, *uses_so_far) = (*tokens + 1, 0);
            return Reply::new(200).body(format!(r#"{{"token":"t{tokens}","expires_in":300}}"#));
        }
        if *tokens == 0
            || *uses_so_far >= uses
            || asked.header("authorization") != Some(&format!("Bearer t{tokens}"))
        {
            let scope = "repository:acme/widgets:pull";
            return Reply::new(401).header(
                "WWW-Authenticate",
                format!("Bearer realm=\"/token\",service=\"s\",scope=\"{scope}\""),
            );
        }
        *uses_so_far += 1;
        drop(counted);
        then(asked, before)
    }
}

#[tokio::test]
async fn one_token_serves_a_whole_push() {
    let server = Server::start(token_registry(100, |asked, _| {
        match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => Reply::new(202).header("Location", "/upload?state=a%2Bb"),
            _ => Reply::new(201),
        }
    }))
    .await;
    let repository = repository(&server, Me, Access::Push);
    for blob in packed("x").blobs() {
        assert_eq!(
            repository.push_blob(blob).await.unwrap(),
            Delivery::Uploaded
        );
    }
    let lines = server.lines();
    let tokens: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("/token"))
        .collect();
    assert_eq!(tokens.len(), 1, "{lines:#?}");
    assert!(
        tokens[0].contains("pull%2Cpush") && tokens[0].contains("service=s"),
        "{tokens:?}"
    );
    let put = lines.iter().find(|line| line.starts_with("PUT")).unwrap();
    assert!(
        put.starts_with("PUT /upload?state=a%2Bb&digest=sha256:"),
        "{put}"
    );
    let basic = server
        .asked()
        .iter()
        .filter(|asked| {
            asked
                .header("authorization")
                .is_some_and(|value| value.starts_with("Basic"))
        })
        .count();
    assert_eq!(basic, 1, "the credential goes to the token server only");
}

#[tokio::test]
async fn a_token_that_is_never_enough_is_asked_for_once() {
    let server = Server::start(token_registry(0, |_, _| Reply::new(500))).await;
    let error = repository(&server, Me, Access::Pull)
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(server.asked().len(), 3, "{:#?}", server.lines());
    assert!(
        error.help().iter().any(|help| help.contains("a test")),
        "{:?}",
        error.help()
    );
    shown(&error);
}

#[tokio::test]
async fn a_token_that_ends_under_an_upload_begins_a_new_session() {
    // The token serves the HEAD and the POST, and no PUT.
    let server = Server::start(token_registry(2, |asked, before| {
        match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => Reply::new(202).header("Location", format!("/upload/{before}")),
            _ => Reply::new(201),
        }
    }))
    .await;
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    assert_eq!(
        repository(&server, Me, Access::Push)
            .push_blob(&blob)
            .await
            .unwrap(),
        Delivery::Uploaded
    );
    let puts: Vec<_> = server
        .asked()
        .into_iter()
        .filter(|asked| asked.method == "PUT")
        .collect();
    assert_eq!(puts.len(), 2);
    assert!(puts[0].target.starts_with("/upload/0") && puts[1].target.starts_with("/upload/1"));
    assert_eq!(puts[1].body, b"content");
}

#[tokio::test]
async fn nobody_is_told_where_was_looked() {
    let server =
        Server::start(|_, _| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")).await;
    let error = repository(&server, Nobody, Access::Pull)
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(
        error.help()[0].contains("looked in: here, there"),
        "{:?}",
        error.help()
    );
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_realm_out_of_bounds_is_not_connected_to() {
    for realm in [
        "ftp://127.0.0.1/",
        "file:///etc",
        "http://user@127.0.0.1/",
        "http://[::1",
    ] {
        let server = Server::start(move |_, _| {
            Reply::new(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
        })
        .await;
        let error = repository(&server, Me, Access::Pull)
            .manifest(&tag("1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{realm}");
        assert_eq!(server.asked().len(), 1);
        shown(&error);
    }
}

#[tokio::test]
async fn what_a_token_server_echoes_is_not_shown() {
    for body in [
        format!("you sent Basic {CANARY}"),
        format!(r#"{{"errors":[{{"code":"DENIED","message":"no entry for {CANARY}"}}]}}"#),
        format!(r#"{{"error_description":"{CANARY}"}}"#),
    ] {
        let server = Server::start(move |asked, _| match asked.target.as_str() {
            target if target.starts_with("/token") => Reply::new(401).body(&body),
            _ => Reply::new(401).header("WWW-Authenticate", "Bearer realm=\"/token\""),
        })
        .await;
        let error = repository(&server, Me, Access::Pull)
            .manifest(&tag("1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        shown(&error);
    }
}

#[tokio::test]
async fn a_token_server_does_not_send_the_credential_on() {
    let attacker = Server::start(|_, _| Reply::new(200).body(r#"{"token":"x"}"#)).await;
    let place = format!("http://{}/token", attacker.host());
    let server = Server::start(move |asked, _| match asked.target.as_str() {
        target if target.starts_with("/token") => Reply::new(307).header("Location", &place),
        _ => Reply::new(401).header("WWW-Authenticate", "Bearer realm=\"/token\""),
    })
    .await;
    let error = repository(&server, Me, Access::Pull)
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(attacker.asked().is_empty());
}

// ---- downloads

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let content: Vec<u8> = (0..100_000_u32)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    for ranges in [true, false] {
        let whole = content.clone();
        let server = Server::start(move |asked, _| {
            let from: Option<usize> = asked.header("range").and_then(|range| {
                range
                    .strip_prefix("bytes=")?
                    .strip_suffix('-')?
                    .parse()
                    .ok()
            });
            match from {
                Some(from) if ranges => {
                    assert_eq!(asked.header("if-range"), Some("\"v1\""));
                    let rest = &whole[from..];
                    let reply = Reply::new(206)
                        .header(
                            "Content-Range",
                            format!("bytes {from}-{}/{}", whole.len() - 1, whole.len()),
                        )
                        .body(rest);
                    if rest.len() > 40_000 {
                        reply.cut(40_000)
                    } else {
                        reply
                    }
                }
                Some(_) => Reply::new(200).body(&whole),
                None => Reply::new(200)
                    .header("ETag", "\"v1\"")
                    .body(&whole)
                    .cut(30_000),
            }
        })
        .await;
        let descriptor = Descriptor::new(
            MediaType::OCTET_STREAM,
            Digest::sha256(&content),
            content.len() as u64,
        );
        let stream = repository(&server, Nobody, Access::Pull)
            .blob(&descriptor)
            .await
            .unwrap();
        assert_eq!(stream.read_to_end(1 << 20).await.unwrap(), content);
        assert_eq!(server.asked().len(), if ranges { 3 } else { 2 });
    }
}

#[tokio::test]
async fn content_that_is_not_what_was_promised_is_refused() {
    let promised = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(b"abc"), 3);
    for body in ["abd", "abcd", "endless endless endless"] {
        let server = Server::start(move |_, _| Reply::new(200).body(body)).await;
        let stream = repository(&server, Nobody, Access::Pull)
            .blob(&promised)
            .await
            .unwrap();
        assert_eq!(
            stream.read_to_end(100).await.unwrap_err().kind(),
            ErrorKind::Mismatch,
            "{body}"
        );
    }
}

// ---- uploads

#[tokio::test]
async fn an_upload_whose_answer_is_lost_is_not_sent_twice() {
    let server = Server::start(|asked, before| match (asked.method.as_str(), before) {
        ("HEAD", 0) => Reply::new(404),
        ("HEAD", _) => Reply::new(200),
        ("POST", _) => Reply::new(202).header("Location", "/upload"),
        ("PUT", _) => Reply::new(201).header("Content-Length", 10).cut(0),
        _ => Reply::new(202),
    })
    .await;
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    let pushed = repository(&server, Nobody, Access::Push)
        .push_blob(&blob)
        .await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
    assert_eq!(
        server
            .lines()
            .iter()
            .filter(|line| line.starts_with("PUT"))
            .count(),
        1
    );
}

#[tokio::test]
async fn a_broken_upload_begins_anew_elsewhere() {
    let server = Server::start(|asked, before| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", format!("/upload/{before}")),
        "PUT" if asked.target.starts_with("/upload/0") => Reply::new(500),
        "PUT" => Reply::new(201),
        _ => Reply::new(405),
    })
    .await;
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    repository(&server, Nobody, Access::Push)
        .push_blob(&blob)
        .await
        .unwrap();
    let lines = server.lines();
    assert!(lines.contains(&"DELETE /upload/0".to_owned()), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.starts_with("PUT /upload/1")),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn a_location_elsewhere_gets_the_content_and_no_credential() {
    let storage = Server::start(|_, _| Reply::new(201)).await;
    let place = format!("http://{}/upload", storage.host());
    let server = Server::start(move |asked, _| {
        match (asked.header("authorization"), asked.method.as_str()) {
            (None, _) => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
            (_, "HEAD") => Reply::new(404),
            _ => Reply::new(202).header("Location", &place),
        }
    })
    .await;
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    repository(&server, Me, Access::Push)
        .push_blob(&blob)
        .await
        .unwrap();
    let asked = storage.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (asked[0].header("authorization"), asked[0].body.as_slice()),
        (None, &b"content"[..])
    );
}

#[tokio::test]
async fn content_that_changed_after_it_was_hashed_is_not_sent_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for (before, after) in [("one", "two"), ("one", "o"), ("one", "longer")] {
        std::fs::write(&path, before).unwrap();
        let blob = Blob::from_file(MediaType::OCTET_STREAM, &path)
            .await
            .unwrap();
        std::fs::write(&path, after).unwrap();
        let server = Server::start(|asked, _| match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => Reply::new(202).header("Location", "/upload"),
            _ => Reply::new(201),
        })
        .await;
        let error = repository(&server, Nobody, Access::Push)
            .push_blob(&blob)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{before} became {after}");
    }
}

/// A file of nine mebibytes, which is worth hashing on the way.
fn large_file() -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large");
    let content: Vec<u8> = (0..9_u32 << 20)
        .map(|at| u8::try_from(at % 253).unwrap())
        .collect();
    std::fs::write(&path, &content).unwrap();
    (directory, path, content)
}

#[tokio::test]
async fn a_large_file_is_hashed_while_it_is_sent() {
    let (_home, path, content) = large_file();
    let server = Server::start(|asked, _| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", "/upload?state=1"),
        "PATCH" => Reply::new(202).header("Location", "/upload?state=2"),
        _ => Reply::new(201),
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    let (blob, delivery) = repository
        .push_file(MediaType::OCTET_STREAM, &path)
        .await
        .unwrap();
    assert_eq!(
        (blob.digest(), delivery),
        (&Digest::sha256(&content), Delivery::Uploaded)
    );
    let asked = server.asked();
    let methods: Vec<_> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "HEAD", "PUT"]);
    assert_eq!(asked[1].target, "/upload?state=1");
    assert_eq!(asked[1].body, content);
    assert_eq!(asked[1].header("content-range"), None);
    assert_eq!(
        asked[3].target,
        format!("/upload?state=2&digest={}", blob.digest())
    );
    assert_eq!(asked[3].header("content-length"), Some("0"));
}

#[tokio::test]
async fn a_large_file_that_is_there_costs_one_aborted_session() {
    let (_home, path, _) = large_file();
    let server = Server::start(|asked, _| match asked.method.as_str() {
        "HEAD" => Reply::new(200),
        "POST" | "PATCH" => Reply::new(202).header("Location", "/upload"),
        _ => Reply::new(204),
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    let (_, delivery) = repository
        .push_file(MediaType::OCTET_STREAM, &path)
        .await
        .unwrap();
    assert_eq!(delivery, Delivery::Existed);
    assert_eq!(
        server.lines().last().map(String::as_str),
        Some("DELETE /upload")
    );
}

#[tokio::test]
async fn a_registry_that_wants_digests_first_is_remembered() {
    let (_home, path, content) = large_file();
    for status in [405, 416, 501] {
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => Reply::new(202).header("Location", "/upload"),
            "PATCH" => Reply::new(status),
            "PUT" => Reply::new(201),
            _ => Reply::new(405),
        })
        .await;
        let repository = repository(&server, Nobody, Access::Push);
        for _ in 0..2 {
            let (blob, _) = repository
                .push_file(MediaType::OCTET_STREAM, &path)
                .await
                .unwrap();
            assert_eq!(*blob.digest(), Digest::sha256(&content));
        }
        let count = |method: &str| {
            server
                .asked()
                .iter()
                .filter(|asked| asked.method == method)
                .count()
        };
        assert_eq!((count("PATCH"), count("PUT")), (1, 2), "{status}");
    }
}

#[tokio::test]
async fn a_streamed_upload_that_breaks_begins_anew() {
    let (_home, path, content) = large_file();
    let server = Server::start(|asked, before| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", format!("/upload/{before}")),
        "PATCH" if asked.target == "/upload/0" => Reply::new(500),
        "PATCH" => Reply::new(201).header("Location", "/upload/next"),
        "PUT" => Reply::new(201),
        _ => Reply::new(202),
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    let (blob, _) = repository
        .push_file(MediaType::OCTET_STREAM, &path)
        .await
        .unwrap();
    assert_eq!(*blob.digest(), Digest::sha256(&content));
    let lines = server.lines();
    assert!(lines.contains(&"PATCH /upload/1".to_owned()), "{lines:#?}");
    assert!(
        lines
            .last()
            .unwrap()
            .starts_with("PUT /upload/next?digest="),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn every_way_of_not_mounting_is_survived() {
    for (status, mounted) in [
        (201, true),
        (202, false),
        (401, false),
        (404, false),
        (405, false),
        (500, false),
    ] {
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" if asked.target.contains("mount=") => {
                Reply::new(status).header("Location", "/upload/mount")
            }
            "POST" => Reply::new(202).header("Location", "/upload/own"),
            _ => Reply::new(201),
        })
        .await;
        let origin = format!("{}/acme/gadgets", server.host()).parse().unwrap();
        let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content").with_origin(Some(origin));
        let delivery = repository(&server, Nobody, Access::Push)
            .push_blob(&blob)
            .await
            .unwrap();
        assert_eq!(delivery == Delivery::Mounted, mounted, "{status}");
        let lines = server.lines();
        assert!(
            lines[1].contains(&format!("mount={}", blob.digest()).replace(':', "%3A")),
            "{lines:#?}"
        );
        assert!(lines[1].contains("from=acme%2Fgadgets"), "{lines:#?}");
        let put = lines.iter().find(|line| line.starts_with("PUT"));
        match status {
            201 => assert_eq!(put, None),
            202 => assert!(put.unwrap().starts_with("PUT /upload/mount"), "{put:?}"),
            _ => assert!(put.unwrap().starts_with("PUT /upload/own"), "{put:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_says_yes_and_keeps_nothing_is_no_registry() {
    let server = Server::start(|asked, _| match asked.method.as_str() {
        "PUT" => Reply::new(200),
        _ => Reply::new(404),
    })
    .await;
    let manifest = packed("x").manifest().clone();
    let repository = repository(&server, Nobody, Access::Push);
    let error = repository.push_manifest(&manifest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn an_immutable_tag_that_holds_this_very_manifest_is_a_success() {
    let (held, other) = (
        packed("held").manifest().clone(),
        packed("other").manifest().clone(),
    );
    let answer = held.clone();
    let server = Server::start(move |asked, _| match asked.method.as_str() {
        "PUT" => {
            Reply::new(400).body(r#"{"errors":[{"code":"TAG_INVALID","message":"immutable"}]}"#)
        }
        _ => served(&answer),
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    repository.tag(&held, &"1".parse().unwrap()).await.unwrap();
    let error = repository
        .tag(&other, &"1".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_tag_that_others_move_too_is_set_once() {
    let server = Server::start(|_, _| Reply::new(503).header("Retry-After", "0")).await;
    let manifest = packed("x").manifest().clone();
    let tag: Tag = "1".parse().unwrap();
    let repository = repository(&server, Nobody, Access::Push);
    let error = repository.tag_once(&manifest, &tag).await.unwrap_err();
    assert_eq!(
        (error.kind(), server.asked().len()),
        (ErrorKind::Network, 1)
    );
    repository.tag(&manifest, &tag).await.unwrap_err();
    assert_eq!(server.asked().len(), 6);
}

// ---- lists

#[tokio::test]
async fn pages_are_asked_for_only_when_wanted() {
    let server = Server::start(|asked, _| match asked.target.as_str() {
        "/v2/acme/widgets/tags/list?n=1000" => Reply::new(200)
            .header(
                "Link",
                "</v2/acme/widgets/tags/list?n=1000&last=b>; rel=\"next\"",
            )
            .body(r#"{"tags":["a","b"]}"#),
        "/v2/acme/widgets/tags/list?n=1000&last=b" => Reply::new(200).body(r#"{"tags":["c"]}"#),
        other => panic!("{other}"),
    })
    .await;
    let mut tags = repository(&server, Nobody, Access::Pull).tags();
    assert_eq!(tags.try_next().await.unwrap().unwrap().as_str(), "a");
    assert_eq!(tags.try_next().await.unwrap().unwrap().as_str(), "b");
    assert_eq!(server.asked().len(), 1);
    assert_eq!(tags.try_next().await.unwrap().unwrap().as_str(), "c");
    assert!(tags.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_next_page_elsewhere_or_seen_before_ends_the_list() {
    let attacker = Server::start(|_, _| Reply::new(200).body(r#"{"tags":["evil"]}"#)).await;
    let elsewhere = format!("<http://{}/v2/>; rel=next", attacker.host());
    for link in [
        elsewhere.as_str(),
        "</v2/acme/widgets/tags/list?n=1000>; rel=next",
    ] {
        let link = link.to_owned();
        let server = Server::start(move |_, _| {
            Reply::new(200)
                .header("Link", &link)
                .body(r#"{"tags":["a"]}"#)
        })
        .await;
        let listed: Result<Vec<Tag>, _> = repository(&server, Nobody, Access::Pull)
            .tags()
            .try_collect()
            .await;
        assert_eq!(listed.unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(server.asked().len(), 1);
    }
    assert!(attacker.asked().is_empty());
}

#[tokio::test]
async fn a_registry_without_a_catalog_does_not_support_it() {
    let server = Server::start(|_, _| Reply::new(404)).await;
    let registry = client(Nobody)
        .registry(&server.host().parse().unwrap())
        .unwrap();
    let listed: Result<Vec<_>, _> = registry.catalog().try_collect().await;
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_page_size_that_is_too_large_is_left_out() {
    let server = Server::start(|asked, _| match asked.target.as_str() {
        "/v2/_catalog" => Reply::new(200).body(r#"{"repositories":["a/b"]}"#),
        _ => Reply::new(400).body(r#"{"errors":[{"code":"PAGINATION_NUMBER_INVALID"}]}"#),
    })
    .await;
    let registry = client(Nobody)
        .registry(&server.host().parse().unwrap())
        .unwrap();
    let listed: Vec<_> = registry.catalog().try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_a_network_error_that_names_it() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut options = ClientOptions::new(Environment::default());
    options.attempts = 1;
    let reference = format!("{port}/x").parse().unwrap();
    let repository = Client::new(options)
        .repository(&reference, Access::Pull)
        .unwrap();
    let error = repository.manifest(&tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(shown(&error).contains(&port.to_string()));
}
