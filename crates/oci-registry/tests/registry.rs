//! What the client does when a registry does not do what one would wish.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripted;

use std::fmt::Write as _;

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Annotations, Blob, Client, ClientOptions, Delivery, Descriptor, Digest, Environment,
    Error, ErrorKind, Hint, Identifier, Manifest, MediaType, Observer, Packed, Source, Step, Tag,
    Target,
};
use scripted::client::{CANARY, Me, Nobody, client, repository};
use scripted::{Asked, Reply, Server};

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
    let mut text = format!("{error:?} {error} {:?}", error.hints());
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
    let hints = format!("{:?}", error.hints());
    assert!(hints.contains("86400"), "{hints}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_wait_that_is_asked_of_one_is_kept_by_all() {
    let manifest = packed("x").manifest().clone();
    let answer = manifest.clone();
    let server = Server::start(move |asked, before| {
        if before == 0 && asked.target.contains("sha256:") {
            Reply::new(429).header("Retry-After", 1)
        } else {
            served(&answer)
        }
    })
    .await;
    let repository = repository(&server, Nobody, Access::Pull);
    let one = Identifier::Digest(manifest.digest().clone());
    let began = std::time::Instant::now();
    let first = async { repository.manifest(&one).await.unwrap() };
    let second = async {
        while server.asked().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        // Long enough for the first to have read its answer, and too short to have waited.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        repository.manifest(&tag("1")).await.unwrap();
        began.elapsed()
    };
    let (_, waited) = tokio::join!(first, second);
    assert!(waited.as_millis() >= 1000, "{waited:?}");
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn every_request_is_told_and_nothing_secret_with_it() {
    let server = Server::start(|asked, _| match asked.target.as_str() {
        "/there?sig=canary-5f3a" => Reply::new(404),
        _ => Reply::new(307).header("Location", "/there?sig=canary-5f3a"),
    })
    .await;
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = std::sync::Arc::clone(&told);
    let mut options = ClientOptions::new(Environment::default());
    options.credentials = std::sync::Arc::new(Nobody);
    options.observer = Observer::new(move |step| {
        if let Step::Request {
            method,
            url,
            status,
            ..
        } = step
        {
            hears
                .lock()
                .unwrap()
                .push(format!("{method} {url} {status:?}"));
        }
    });
    let reference = format!("{}/a", server.host()).parse().unwrap();
    let repository = Client::new(options)
        .repository(&reference, Access::Pull)
        .unwrap();
    repository.manifest(&tag("1")).await.unwrap_err();
    let host = server.host();
    assert_eq!(
        *told.lock().unwrap(),
        [
            format!("GET http://{host}/v2/a/manifests/1 Some(307)"),
            format!("GET http://{host}/there?sig=… Some(404)"),
        ]
    );
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
    let hints = format!("{:?}", error.hints());
    assert!(hints.contains("a test"), "{hints}");
    shown(&error);
}

/// A registry whose token server returns the same token each time, and that answers so many requests that begin like
/// this with 401 although they carry the token.
fn constant_token_registry(
    refused: &'static str,
    times: usize,
    then: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Asked, usize) -> Reply + Send + Sync {
    let refusals = std::sync::atomic::AtomicUsize::new(0);
    move |asked, before| {
        if asked.target.starts_with("/token") {
            return Reply::new(200).body(r#"{"token":"t","expires_in":300}"#);
        }
        let is_refused = || {
            asked.line().starts_with(refused)
                && refusals.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < times
        };
        if asked.header("authorization") != Some("Bearer t") || is_refused() {
            return Reply::new(401).header("WWW-Authenticate", "Bearer realm=\"/token\"");
        }
        then(asked, before)
    }
}

fn count(server: &Server, start: &str) -> usize {
    let lines = server.lines();
    lines.iter().filter(|line| line.starts_with(start)).count()
}

#[tokio::test]
async fn read_after_401_is_retried_with_same_token() {
    let script = constant_token_registry("GET /v2/acme/widgets/blobs", 1, |asked, _| {
        match asked.method.as_str() {
            "HEAD" => Reply::new(200),
            _ => Reply::new(200).body("content"),
        }
    });
    let server = Server::start(script).await;
    let repository = repository(&server, Me, Access::Pull);
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    assert!(repository.exists(blob.descriptor()).await.unwrap());
    let stream = repository.blob(blob.descriptor()).await.unwrap();
    assert_eq!(stream.read_to_end(10).await.unwrap(), b"content"[..]);
    assert_eq!(
        (count(&server, "GET /token"), count(&server, "GET /v2")),
        (2, 2)
    );
}

#[tokio::test]
async fn resumed_download_after_401_is_retried_with_same_token() {
    let refusals = std::sync::atomic::AtomicUsize::new(0);
    let script =
        constant_token_registry("nothing", 0, move |asked, _| match asked.header("range") {
            None => Reply::new(200).body("content").cut(3),
            Some(_) if refusals.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => {
                Reply::new(401).header("WWW-Authenticate", "Bearer realm=\"/token\"")
            }
            Some(_) => Reply::new(206)
                .header("Content-Range", "bytes 3-6/7")
                .body("tent"),
        });
    let server = Server::start(script).await;
    let repository = repository(&server, Me, Access::Pull);
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    let stream = repository.blob(blob.descriptor()).await.unwrap();
    assert_eq!(stream.read_to_end(10).await.unwrap(), b"content"[..]);
}

#[tokio::test]
async fn upload_after_401_restarts_with_same_token() {
    let script = constant_token_registry("PUT /upload/", 1, |asked, before| {
        match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => Reply::new(202).header("Location", format!("/upload/{before}")),
            _ => Reply::new(201),
        }
    });
    let server = Server::start(script).await;
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    let pushed = repository(&server, Me, Access::Push).push_blob(&blob).await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
    let asked = server.asked().into_iter();
    let puts: Vec<_> = asked.filter(|asked| asked.method == "PUT").collect();
    assert_eq!(puts.len(), 2);
    assert!(puts[1].target.starts_with("/upload/1") && puts[1].body == b"content");
}

#[tokio::test]
async fn manifest_put_after_401_is_retried_with_same_token() {
    let manifest = packed("x").manifest().clone();
    let digest = manifest.digest().clone();
    let script =
        constant_token_registry("PUT /v2/", 1, move |asked, _| match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            _ => Reply::new(201).header("Docker-Content-Digest", &digest),
        });
    let server = Server::start(script).await;
    let repository = repository(&server, Me, Access::Push);
    assert!(!repository.exists(&manifest.descriptor()).await.unwrap());
    repository.push_manifest(&manifest).await.unwrap();
    assert_eq!(count(&server, "PUT /v2/"), 2);
}

#[tokio::test]
async fn endless_401_with_same_token_is_retried_once() {
    let script = constant_token_registry("GET /v2/", usize::MAX, |_, _| Reply::new(404));
    let server = Server::start(script).await;
    let repository = repository(&server, Me, Access::Pull);
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    assert!(!repository.exists(blob.descriptor()).await.unwrap());
    let error = repository.manifest(&tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(
        (count(&server, "GET /token"), count(&server, "GET /v2/")),
        (2, 2)
    );
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
async fn a_registry_that_does_not_say_how_is_asked_at_its_front_page_once() {
    let manifest = packed("x").manifest().clone();
    let answer = manifest.clone();
    let server = Server::start(move |asked, _| {
        match (asked.target.as_str(), asked.header("authorization")) {
            ("/v2/", _) => Reply::new(401).header("WWW-Authenticate", "Bearer realm=\"/token\""),
            (target, _) if target.starts_with("/token") => {
                Reply::new(200).body(r#"{"token":"good"}"#)
            }
            (_, Some("Bearer good")) => served(&answer),
            _ => Reply::new(401),
        }
    })
    .await;
    let pulled = repository(&server, Me, Access::Pull)
        .manifest(&tag("1"))
        .await;
    assert_eq!(pulled.unwrap(), manifest);
    let fronts = |server: &Server| {
        server
            .lines()
            .iter()
            .filter(|line| *line == "GET /v2/")
            .count()
    };
    assert_eq!(fronts(&server), 1);
    // One that says nothing at all has said no.
    let server = Server::start(|_, _| Reply::new(401)).await;
    let repository = repository(&server, Me, Access::Pull);
    for _ in 0..2 {
        let error = repository.manifest(&tag("1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    }
    assert_eq!((fronts(&server), server.asked().len()), (1, 3));
}

#[tokio::test]
async fn two_who_are_turned_away_at_once_are_both_let_in() {
    let manifest = packed("x").manifest().clone();
    let answer = manifest.clone();
    let server = Server::start(move |asked, _| {
        match (asked.target.as_str(), asked.header("authorization")) {
            ("/v2/", _) => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
            (_, Some(_)) => served(&answer),
            _ => Reply::new(401),
        }
    })
    .await;
    let repository = repository(&server, Me, Access::Pull);
    let (one, two) = (tag("1"), tag("2"));
    let (one, two) = tokio::join!(repository.manifest(&one), repository.manifest(&two));
    assert_eq!((one.unwrap(), two.unwrap()), (manifest.clone(), manifest));
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

/// Hosts that no server may name unless they are its own.
const SPECIAL_HOSTS: [&str; 8] = [
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "[fe80::1]",
    "0.0.0.0",
    "[::]",
    "[::ffff:0.0.0.0]",
    "224.0.0.251",
    "[ff02::fb]",
];

#[tokio::test]
async fn realm_on_special_or_private_host_receives_no_credential() {
    let elsewhere = Server::start(|_, _| Reply::new(200).body(r#"{"token":"x"}"#)).await;
    let port = port(&elsewhere);
    for host in SPECIAL_HOSTS
        .into_iter()
        .chain(["10.0.0.1", "[::ffff:10.0.0.1]"])
    {
        let realm = format!("http://{host}:{port}/token");
        let server = Server::start(move |_, _| {
            Reply::new(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
        })
        .await;
        let error = repository(&server, Me, Access::Pull)
            .manifest(&tag("1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{host}");
        assert_eq!(server.asked().len(), 1);
        shown(&error);
    }
    assert_eq!(elsewhere.lines(), [""; 0]);
}

#[tokio::test]
async fn redirect_to_special_host_is_refused() {
    let elsewhere = Server::start(|_, _| Reply::new(200).body("{}")).await;
    let port = port(&elsewhere);
    for host in SPECIAL_HOSTS {
        let place = format!("http://{host}:{port}/x");
        let server = Server::start(move |_, _| Reply::new(307).header("Location", &place)).await;
        let error = repository(&server, Nobody, Access::Pull)
            .manifest(&tag("1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{host}");
    }
    assert_eq!(elsewhere.lines(), [""; 0]);
}

#[tokio::test]
async fn upload_location_on_special_host_is_refused() {
    let elsewhere = Server::start(|_, _| Reply::new(201)).await;
    let port = port(&elsewhere);
    for host in SPECIAL_HOSTS {
        let place = format!("http://{host}:{port}/upload");
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            "POST" => Reply::new(202).header("Location", &place),
            _ => Reply::new(404),
        })
        .await;
        let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
        let pushed = repository(&server, Nobody, Access::Push)
            .push_blob(&blob)
            .await;
        assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Protocol, "{host}");
    }
    assert_eq!(elsewhere.lines(), [""; 0]);
}

fn port(server: &Server) -> u16 {
    let address: std::net::SocketAddr = server.host().parse().unwrap();
    address.port()
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

// ---- manifests that are sent

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
async fn a_catalog_that_is_open_to_nobody_is_not_supported() {
    let insufficient = r#"Bearer realm="/token",service="s",error="insufficient_scope""#;
    for (status, challenge, expected) in [
        (401, insufficient, ErrorKind::Unsupported),
        (403, "", ErrorKind::Unsupported),
        (401, "Basic realm=\"x\"", ErrorKind::Unauthenticated),
    ] {
        let server = Server::start(move |asked, _| match asked.target.as_str() {
            target if target.starts_with("/token") => Reply::new(200).body(r#"{"token":"t"}"#),
            _ => Reply::new(status).header("WWW-Authenticate", challenge),
        })
        .await;
        let registry = client(Nobody)
            .registry(&server.host().parse().unwrap())
            .unwrap();
        let listed: Result<Vec<_>, _> = registry.catalog().try_collect().await;
        assert_eq!(listed.unwrap_err().kind(), expected, "{status} {challenge}");
        assert!(server.asked().len() <= 3, "{:#?}", server.lines());
    }
}

#[tokio::test]
async fn names_are_given_out_while_their_page_arrives_and_once() {
    let server = Server::start(|_, before| {
        let page = r#"{"name":"acme/widgets","tags":["a","b","c","d"]}"#;
        let reply = Reply::new(200).body(page);
        match before {
            0 => reply.cut(40),
            1 => reply.cut(20),
            _ => reply,
        }
    })
    .await;
    let mut tags = repository(&server, Nobody, Access::Pull).tags();
    assert_eq!(tags.try_next().await.unwrap().unwrap().as_str(), "a");
    assert_eq!(tags.try_next().await.unwrap().unwrap().as_str(), "b");
    assert_eq!(
        server.asked().len(),
        1,
        "the end of the page is not needed for its beginning"
    );
    let rest: Vec<_> = tags
        .map_ok(|tag| tag.to_string())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(rest, ["c", "d"]);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_page_that_never_arrives_whole_is_given_up() {
    let server = Server::start(|_, _| Reply::new(200).body(r#"{"tags":["a","b"]}"#).cut(12)).await;
    let tags = repository(&server, Nobody, Access::Pull).tags();
    let listed: Result<Vec<Tag>, _> = tags.try_collect().await;
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::Network);
    assert_eq!(server.asked().len(), 5);
}

#[tokio::test]
async fn a_page_size_that_is_too_large_is_left_out() {
    for status in [400, 413] {
        let server = Server::start(move |asked, _| match asked.target.as_str() {
            "/v2/_catalog" => Reply::new(200).body(r#"{"repositories":["a/b"]}"#),
            _ => Reply::new(status).body(r#"{"errors":[{"code":"PAGINATION_NUMBER_INVALID"}]}"#),
        })
        .await;
        let registry = client(Nobody)
            .registry(&server.host().parse().unwrap())
            .unwrap();
        let listed: Vec<_> = registry.catalog().try_collect().await.unwrap();
        assert_eq!(listed.len(), 1, "{status}");
    }
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
