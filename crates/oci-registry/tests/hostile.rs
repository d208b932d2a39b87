//! Registries that repeat what they were sent, and lists that lead elsewhere.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripted;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Blob, Client, ClientOptions, Credential, CredentialProvider, CredentialRequest,
    Environment, Error, ErrorKind, Lookup, MediaType, Observer, Secret, Source, Step, Tag, Target,
};
use scripted::client::{CANARY, Me, repository};
use scripted::{Asked, Reply, Server};

/// What the registry was given in exchange for the password.
const TOKEN: &str = "t0ken-canary-9c1e";

/// All that libraries have logged in this process.
struct Log(Mutex<String>);

static LOG: Log = Log(Mutex::new(String::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(text, "{} {}", record.target(), record.args()).unwrap();
    }

    fn flush(&self) {}
}

/// How a registry may repeat something.
const WAYS: [fn(&str) -> Reply; 14] = [
    |secret| {
        Reply::new(403)
            .header("Content-Type", "text/plain")
            .body(format!("you sent {secret}"))
    },
    |secret| {
        Reply::new(403)
            .header("Content-Type", "text/plain")
            .body(format!("Authorization: x{secret}x"))
    },
    |secret| {
        denied(&serde_json::json!({"code": "DENIED", "message": format!("not with {secret}")}))
    },
    |secret| denied(&serde_json::json!({"code": secret, "message": "no"})),
    |secret| {
        denied(&serde_json::json!({"code": "DENIED", "detail": {"sent": [secret], secret: 1}}))
    },
    |secret| denied(&serde_json::json!({"code": "DENIED", "detail": secret})),
    |secret| Reply::new(404).header("Warning", format!("299 - \"you sent {secret}\"")),
    |secret| Reply::new(307).header("Location", format!("ftp://a.b/{secret}")),
    |secret| {
        Reply::new(307).header(
            "Location",
            format!("http://127.0.0.1:1/{secret}/x?{secret}#{secret}"),
        )
    },
    |secret| Reply::new(307).header("Location", format!("http://[{secret}/")),
    |secret| Reply::new(307).header("Location", format!("http://{secret}@a.b/{secret}")),
    |secret| Reply::new(307).header("Location", format!("http://a.{secret}.invalid/")),
    |secret| {
        Reply::new(429)
            .header("Retry-After", "86400")
            .header("Warning", format!("299 - \"{secret}\""))
    },
    |secret| {
        Reply::new(401).header(
            "WWW-Authenticate",
            format!("Bearer realm=\"ftp://a.b/{secret}\",error=\"{secret}\""),
        )
    },
];

fn denied(error: &serde_json::Value) -> Reply {
    Reply::new(403).body(serde_json::json!({"errors": [error]}).to_string())
}

/// A registry that lets in who has the password or the token, and then answers in this way.
async fn registry(way: fn(&str) -> Reply, with_tokens: bool, form: usize) -> Server {
    Server::start(move |asked: &Asked, _| {
        if asked.target.starts_with("/token") {
            return Reply::new(200)
                .header("Warning", format!("299 - \"your token is {TOKEN}\""))
                .body(format!(r#"{{"token":"{TOKEN}"}}"#));
        }
        let Some(sent) = asked.header("authorization") else {
            let scheme = if with_tokens {
                "Bearer realm=\"/token\""
            } else {
                "Basic realm=\"x\""
            };
            return Reply::new(401).header("WWW-Authenticate", scheme);
        };
        let encoded = sent.split_once(' ').unwrap().1;
        way([encoded, CANARY, TOKEN][form])
    })
    .await
}

/// All that an error and what led to it show.
fn shown(error: &Error) -> String {
    let mut text = format!(
        "{error:?}\n{error}\n{:?}\n{:?}",
        error.hints(),
        error.registry_errors()
    );
    let mut below = std::error::Error::source(error);
    while let Some(cause) = below {
        write!(text, "\n{cause}\n{cause:?}").unwrap();
        below = cause.source();
    }
    text
}

#[tokio::test]
async fn what_a_registry_repeats_of_a_credential_is_shown_nowhere() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let secrets = [CANARY, TOKEN, "bWU6Y2FuYXJ5LTVmM2E="].map(str::to_ascii_lowercase);
    for (number, way) in WAYS.into_iter().enumerate() {
        for (with_tokens, form) in [(false, 0), (false, 1), (true, 1), (true, 2)] {
            let server = registry(way, with_tokens, form).await;
            let steps = Arc::new(Mutex::new(String::new()));
            let mut options = ClientOptions::new(Environment::default());
            options.credentials = Arc::new(Me);
            options.attempts = 1;
            options.observer = Observer::new({
                let steps = Arc::clone(&steps);
                move |step| writeln!(steps.lock().unwrap(), "{step:?}").unwrap()
            });
            let client = Client::new(options);
            let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
            let repository = client.repository(&reference, Access::Push).unwrap();
            let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "x");
            let tag: Tag = "1".parse().unwrap();
            let mut text = String::new();
            for outcome in [
                repository.manifest(&tag.clone().into()).await.map(drop),
                repository.tags().try_collect::<Vec<_>>().await.map(drop),
                repository.push_blob(&blob).await.map(drop),
                repository.blob(blob.descriptor()).await.map(drop),
            ] {
                text += &shown(&outcome.unwrap_err());
            }
            write!(text, "{client:?}{repository:?}{}", steps.lock().unwrap()).unwrap();
            let lower = text.to_ascii_lowercase();
            for secret in &secrets {
                assert!(
                    !lower.contains(secret),
                    "{number}, {with_tokens}, {form}: {text}"
                );
            }
        }
    }
    // The HTTP libraries log which hosts they connect to, and the registry chose one of them.
    let logged = LOG.0.lock().unwrap();
    let logged: Vec<_> = logged
        .lines()
        .filter(|line| !line.contains(".invalid"))
        .collect();
    let logged = logged.join("\n");
    for secret in &secrets {
        assert!(!logged.to_ascii_lowercase().contains(secret), "{logged}");
    }
    assert!(logged.contains("reqwest"), "nothing was logged: {logged}");
}

/// Someone whose password is the name of a host.
#[derive(Debug)]
struct Host;

#[async_trait::async_trait]
impl CredentialProvider for Host {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        let credential = Credential::Basic {
            username: "me".into(),
            password: Secret::new("127.0.0.1"),
        };
        Ok(Lookup {
            found: Some((credential, "a test".into())),
            looked_in: Vec::new(),
            ..Lookup::default()
        })
    }
}

#[tokio::test]
async fn a_host_that_is_a_secret_is_not_named_by_what_is_told_of_it() {
    let server = Server::start(|asked: &Asked, _| {
        if asked.header("authorization").is_none() {
            return Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        match asked.method.as_str() {
            "POST" => Reply::new(202)
                .header("Location", "/upload/1")
                .header("Warning", "299 - \"this registry moves\"")
                .header("OCI-Chunk-Min-Length", "much"),
            "HEAD" => Reply::new(404),
            _ => Reply::new(403),
        }
    })
    .await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut options = ClientOptions::new(Environment::default());
    options.credentials = Arc::new(Host);
    options.observer = Observer::new({
        let told = Arc::clone(&told);
        move |step| match step {
            Step::Warning { from, .. } => told.lock().unwrap().push(("warning", from.clone())),
            Step::Ignored { from, .. } => told.lock().unwrap().push(("ignored", from.clone())),
            _ => {}
        }
    });
    let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
    let client = Client::new(options);
    let repository = client.repository(&reference, Access::Push).unwrap();
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "x");
    assert!(repository.push_blob(&blob).await.is_err());
    let told = told.lock().unwrap();
    let hidden = "…".to_owned();
    assert_eq!(*told, [("warning", hidden.clone()), ("ignored", hidden)]);
}

// ---- lists that lead elsewhere

/// Where the list begins.
const LIST: &str = "/v2/acme/widgets/tags/list";

/// A registry that knows its user, and answers for its lists in this way.
async fn lists(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(
        move |asked: &Asked, _| match asked.header("authorization") {
            None if asked.target.starts_with(LIST) && !asked.target.contains("open") => {
                Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")
            }
            _ => answer(asked),
        },
    )
    .await
}

async fn tags(server: &Server) -> oci_registry::Result<Vec<Tag>> {
    repository(server, Me, Access::Pull)
        .tags()
        .try_collect()
        .await
}

#[tokio::test]
async fn pages_from_elsewhere_go_on_elsewhere_and_as_nobody() {
    let elsewhere = Server::start(|asked: &Asked, _| match asked.target.as_str() {
        "/page/1" => Reply::new(200)
            .header("Link", "<2?x=1>; rel=next")
            .body(r#"{"tags":["a"]}"#),
        "/page/2?x=1" => Reply::new(200).body(r#"{"tags":["b"]}"#),
        other => panic!("{other}"),
    })
    .await;
    let first = format!("http://{}/page/1", elsewhere.host());
    let server = lists(move |_| Reply::new(307).header("Location", &first)).await;
    let found = tags(&server).await.unwrap();
    assert_eq!(
        found.iter().map(Tag::as_str).collect::<Vec<_>>(),
        ["a", "b"]
    );
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 2);
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}

#[tokio::test]
async fn pages_from_elsewhere_name_no_page_of_the_registry() {
    let server = {
        let elsewhere = Arc::new(Mutex::new(String::new()));
        let place = Arc::clone(&elsewhere);
        let server =
            lists(move |_| Reply::new(307).header("Location", place.lock().unwrap())).await;
        let home = server.host();
        let other = Server::start(move |_, _| {
            Reply::new(200)
                .header(
                    "Link",
                    format!("<http://{home}/v2/secret/tags/list>; rel=next"),
                )
                .body(r#"{"tags":["a"]}"#)
        })
        .await;
        *elsewhere.lock().unwrap() = format!("http://{}/page/1", other.host());
        let error = tags(&server).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
        server
    };
    assert!(server.lines().iter().all(|line| line.contains(LIST)));
}

#[tokio::test]
async fn who_was_led_back_to_the_registry_goes_on_there_as_nobody() {
    let elsewhere = Arc::new(Mutex::new(String::new()));
    let place = Arc::clone(&elsewhere);
    let server = lists(move |asked| match asked.target.as_str() {
        "/v2/acme/widgets/tags/list?open=1" => Reply::new(200)
            .header("Link", "</v2/acme/widgets/tags/list?open=2>; rel=next")
            .body(r#"{"tags":["a"]}"#),
        "/v2/acme/widgets/tags/list?open=2" => Reply::new(200).body(r#"{"tags":["b"]}"#),
        _ => Reply::new(307).header("Location", place.lock().unwrap()),
    })
    .await;
    let back = format!("http://{}{LIST}?open=1", server.host());
    let other = Server::start(move |_, _| Reply::new(307).header("Location", &back)).await;
    *elsewhere.lock().unwrap() = format!("http://{}/", other.host());
    let found = tags(&server).await.unwrap();
    assert_eq!(found.len(), 2);
    let asked = server.asked().into_iter();
    let open: Vec<_> = asked
        .filter(|asked| asked.target.contains("open"))
        .collect();
    assert_eq!(open.len(), 2);
    assert!(
        open.iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}
