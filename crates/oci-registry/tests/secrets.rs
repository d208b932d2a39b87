//! Registries that repeat the credential of a request in their responses.
//!
//! This is a separate binary, because the logger is global and one test checks all log messages.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Client, ClientEvent, Credential, CredentialProvider, CredentialRequest, Lookup,
    Observer, Secret, Source, Target,
};
use serde_json::{Value, json};
use support::{CANARY, Password, blob, by_tag, error_text, found_lookup, observe, open, options};
use testkit::server::{Response, Server};

/// Token that the registry issues for the password.
const TOKEN: &str = "t0ken-canary-9c1e";

/// Credentials in the form in which they are sent: password, token and Basic authentication.
const SECRETS: [&str; 3] = [CANARY, TOKEN, "bWU6Y2FuYXJ5LTVmM2E="];

/// Logger that collects all messages of this process.
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

/// Function that returns a response with the given secret.
type Echo = fn(&str) -> Response;

const ECHOES: [Echo; 14] = [
    |secret| plain_text(format!("you sent {secret}")),
    |secret| plain_text(format!("Authorization: x{secret}x")),
    |secret| denied(&json!({ "code": "DENIED", "message": format!("not with {secret}") })),
    |secret| denied(&json!({ "code": secret, "message": "no" })),
    |secret| denied(&json!({ "code": "DENIED", "detail": { "sent": [secret], secret: 1 } })),
    |secret| denied(&json!({ "code": "DENIED", "detail": secret })),
    |secret| Response::new(404).header("Warning", format!("299 - \"you sent {secret}\"")),
    |secret| redirect(format!("ftp://a.b/{secret}")),
    |secret| redirect(format!("http://127.0.0.1:1/{secret}/x?{secret}#{secret}")),
    |secret| redirect(format!("http://[{secret}/")),
    |secret| redirect(format!("http://{secret}@a.b/{secret}")),
    |secret| redirect(format!("http://a.{secret}.invalid/")),
    |secret| {
        Response::new(429)
            .header("Retry-After", "86400")
            .header("Warning", format!("299 - \"{secret}\""))
    },
    |secret| {
        Response::challenge(format!(
            "Bearer realm=\"ftp://a.b/{secret}\",error=\"{secret}\""
        ))
    },
];

fn plain_text(text: String) -> Response {
    Response::new(403)
        .header("Content-Type", "text/plain")
        .body(text)
}

fn denied(error: &Value) -> Response {
    Response::new(403).body(json!({ "errors": [error] }).to_string())
}

fn redirect(location: String) -> Response {
    Response::new(307).header("Location", location)
}

/// Form in which a registry repeats a credential.
#[derive(Debug, Clone, Copy)]
enum Form {
    AsSent,
    Password,
    Token,
}

/// Starts a registry that accepts every credential and then repeats it.
fn echoing_registry(echo: Echo, challenge: &'static str, form: Form) -> Server {
    Server::start(move |request, _| {
        if request.target.starts_with("/token") {
            return Response::new(200)
                .header("Warning", format!("299 - \"your token is {TOKEN}\""))
                .body(json!({ "token": TOKEN }).to_string());
        }
        let Some(sent) = request.header("authorization") else {
            return Response::challenge(challenge);
        };
        echo(match form {
            Form::AsSent => sent.split_once(' ').unwrap().1,
            Form::Password => CANARY,
            Form::Token => TOKEN,
        })
    })
}

fn contains_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let mut secrets = SECRETS.iter();
    secrets.any(|secret| text.contains(&secret.to_ascii_lowercase()))
}

#[tokio::test]
async fn credential_repeated_by_a_registry_is_not_shown() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let (basic, bearer) = ("Basic realm=\"x\"", "Bearer realm=\"/token\"");
    for (number, echo) in ECHOES.into_iter().enumerate() {
        for (challenge, form) in [
            (basic, Form::AsSent),
            (basic, Form::Password),
            (bearer, Form::Password),
            (bearer, Form::Token),
        ] {
            let server = echoing_registry(echo, challenge, form);
            let events = Arc::new(Mutex::new(String::new()));
            let mut options = options(Password);
            options.attempts = 1;
            options.observer = Observer::new({
                let events = Arc::clone(&events);
                move |event| writeln!(events.lock().unwrap(), "{event:?}").unwrap()
            });
            let client = Client::new(options);
            let repository = open(&client, &server, Access::Push);
            let (tag, blob) = (by_tag("1"), blob("x"));
            let mut text = String::new();
            for result in [
                repository.manifest(&tag).await.map(drop),
                repository.tags().try_collect::<Vec<_>>().await.map(drop),
                repository.push_blob(&blob).await.map(drop),
                repository.blob(blob.descriptor()).await.map(drop),
            ] {
                text += &error_text(&result.unwrap_err());
            }
            write!(text, "{client:?}{repository:?}{}", events.lock().unwrap()).unwrap();
            let case = format!("{number}, {challenge}, {form:?}");
            assert!(!contains_secret(&text), "{case}: {text}");
        }
    }
    // The HTTP libraries log the hosts that they connect to, and the registry chose one of them.
    let logged = LOG.0.lock().unwrap();
    let mut lines = logged.lines().filter(|line| !line.contains(".invalid"));
    let leak = lines.find(|line| contains_secret(line));
    assert_eq!(leak, None);
    assert!(logged.contains("reqwest"), "nothing was logged: {logged}");
}

/// Provider whose password is the registry's host.
#[derive(Debug)]
struct HostAsPassword;

#[async_trait::async_trait]
impl CredentialProvider for HostAsPassword {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        Ok(found_lookup(Credential::Basic {
            username: "me".into(),
            password: Secret::new("127.0.0.1"),
        }))
    }
}

#[tokio::test]
async fn host_that_equals_the_password_is_not_shown_in_warnings() {
    let server = Server::start(|request, _| {
        if request.header("authorization").is_none() {
            return Response::challenge("Basic realm=\"x\"");
        }
        match request.method.as_str() {
            "POST" => Response::new(202)
                .header("Location", "/upload/1")
                .header("Warning", "299 - \"this registry moves\"")
                .header("OCI-Chunk-Min-Length", "much"),
            "HEAD" => Response::new(404),
            _ => Response::new(403),
        }
    });
    let (observer, hosts) = observe(|event| match event {
        ClientEvent::Warning { from, .. } => Some(("warning", from.clone())),
        ClientEvent::Ignored { from, .. } => Some(("ignored", from.clone())),
        _ => None,
    });
    let mut options = options(HostAsPassword);
    options.observer = observer;
    let repository = open(&Client::new(options), &server, Access::Push);
    assert!(repository.push_blob(&blob("x")).await.is_err());
    let hidden = "…".to_owned();
    assert_eq!(
        *hosts.lock().unwrap(),
        [("warning", hidden.clone()), ("ignored", hidden)]
    );
}
