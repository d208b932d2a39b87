//! Selection of the credential for a request, and repeated lookups after the registry rejects a credential.

mod ci;
#[cfg(feature = "ecr")]
mod ecr;

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_registry::{
    Access, Client, Credential, CredentialProvider, CredentialRequest, Error, ErrorKind, Lookup,
    RegistryAccess, Secret,
};
use testkit::server::{Request, Response, Server};

use crate::support::{CANARY, Observed, error_text, options, read_error};

fn basic(username: &str, password: &str) -> Credential {
    Credential::Basic {
        username: username.into(),
        password: Secret::new(password),
    }
}

/// Provider that calls a function to look up a credential. It records the lookups.
struct ScriptedProvider<F> {
    script: F,
    lookups: Observed<String>,
}

impl<F> std::fmt::Debug for ScriptedProvider<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScriptedProvider")
    }
}

#[async_trait::async_trait]
impl<F> CredentialProvider for ScriptedProvider<F>
where
    F: Fn(&CredentialRequest<'_>) -> Option<Credential> + Send + Sync,
{
    async fn credential(&self, request: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        let mut line = request
            .repository
            .map_or_else(|| "-".to_owned(), ToString::to_string);
        line.push_str(if request.is_write { " write" } else { " read" });
        line.push_str(if request.is_refused { " again" } else { "" });
        self.lookups.lock().unwrap().push(line);
        Ok(Lookup {
            found: (self.script)(request).map(|credential| (credential, "a test".into())),
            searched: vec!["a test".into()],
            ..Lookup::default()
        })
    }
}

/// Returns a client with scripted credentials, and the list of the lookups.
fn client(
    script: impl Fn(&CredentialRequest<'_>) -> Option<Credential> + Send + Sync + 'static,
) -> (Client, Observed<String>) {
    let lookups = Observed::default();
    let provider = ScriptedProvider {
        script,
        lookups: Arc::clone(&lookups),
    };
    (Client::new(options(provider)), lookups)
}

/// Reads an absent tag, which needs a credential.
async fn read_absent(client: &Client, server: &Server, repository: &str) -> Error {
    let reference = format!("{}/{repository}", server.host()).parse().unwrap();
    read_error(&client.repository(&reference, Access::Pull).unwrap()).await
}

fn authorization(credential: &Credential) -> String {
    let Credential::Basic { username, password } = credential else {
        panic!("{credential:?}");
    };
    let pair = format!("{username}:{}", password.expose());
    format!("Basic {}", STANDARD.encode(pair))
}

/// Starts an empty registry with Basic authentication. It accepts the credential that `accepted` returns for a request.
fn basic_registry(accepted: impl Fn(&Request) -> Credential + Send + Sync + 'static) -> Server {
    Server::start(move |request, _| {
        if request.header("authorization") == Some(&authorization(&accepted(request))) {
            Response::new(404)
        } else {
            Response::challenge("Basic realm=\"x\"")
        }
    })
}

#[tokio::test]
async fn credential_is_looked_up_once_per_repository() {
    let owner = |path: &str| basic(if path.contains("acme/a") { "a" } else { "b" }, CANARY);
    let server = basic_registry(move |request| owner(&request.target));
    let (client, lookups) =
        client(move |request| Some(owner(&request.repository.unwrap().to_string())));
    for repository in ["acme/a", "acme/b", "acme/a", "acme/b"] {
        let error = read_absent(&client, &server, repository).await;
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    assert_eq!(server.requests().len(), 5);
    assert_eq!(*lookups.lock().unwrap(), ["acme/a read", "acme/b read"]);
}

#[tokio::test]
async fn expired_credential_is_looked_up_again() {
    let day = Arc::new(Mutex::new("monday"));
    let today = {
        let day = Arc::clone(&day);
        move || basic("me", *day.lock().unwrap())
    };
    let server = basic_registry({
        let today = today.clone();
        move |_| today()
    });
    // The provider returns its stored password until the registry rejects this password.
    let (client, lookups) = client(move |request| {
        let fresh = today();
        Some(if request.is_refused {
            fresh
        } else {
            basic("me", "monday")
        })
    });
    assert_eq!(
        read_absent(&client, &server, "a").await.kind(),
        ErrorKind::NotFound
    );
    *day.lock().unwrap() = "tuesday";
    assert_eq!(
        read_absent(&client, &server, "a").await.kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        read_absent(&client, &server, "a").await.kind(),
        ErrorKind::NotFound
    );
    assert_eq!(*lookups.lock().unwrap(), ["a read", "a read again"]);
    assert_eq!(server.requests().len(), 2 + 2 + 1);
}

#[tokio::test]
async fn wrong_password_is_sent_and_looked_up_once() {
    let server = basic_registry(|_| basic("me", "right"));
    let (client, lookups) = client(|_| Some(basic("me", CANARY)));
    let error = read_absent(&client, &server, "a").await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(server.requests().len(), 2);
    assert_eq!(lookups.lock().unwrap().len(), 1);
    error_text(&error);
}

#[tokio::test]
async fn credential_added_after_a_failure_is_used() {
    let server = basic_registry(|_| basic("me", "right"));
    let login = Arc::new(Mutex::new(None));
    let (client, lookups) = client({
        let login = Arc::clone(&login);
        move |_| login.lock().unwrap().clone()
    });
    let error = read_absent(&client, &server, "a").await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    *login.lock().unwrap() = Some(basic("me", "right"));
    let error = read_absent(&client, &server, "a").await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(*lookups.lock().unwrap(), ["a read", "a read again"]);
}

/// Starts a registry with a token server that accepts one credential.
fn token_registry(accepted: Credential) -> Server {
    Server::start(move |request, _| {
        let sent = request.header("authorization");
        if request.path() == "/token" {
            return if sent == Some(&authorization(&accepted)) {
                Response::new(200).body(r#"{"token":"t"}"#)
            } else {
                Response::new(401)
            };
        }
        if sent == Some("Bearer t") {
            return Response::new(404);
        }
        let realm = format!(
            "Bearer realm=\"http://{}/token\"",
            request.header("host").unwrap()
        );
        Response::challenge(realm)
    })
}

#[tokio::test]
async fn token_is_requested_anonymously_if_lookup_finds_nothing() {
    let server = token_registry(basic("me", "right"));
    let (client, lookups) = client(|request| request.is_refused.then(|| basic("me", "right")));
    let error = read_absent(&client, &server, "a").await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(*lookups.lock().unwrap(), ["a read", "a read again"]);
    let tokens = server.requests_starting_with("GET /token");
    let sent: Vec<_> = tokens
        .iter()
        .map(|request| request.header("authorization"))
        .collect();
    let right = authorization(&basic("me", "right"));
    assert_eq!(sent, [None, Some(right.as_str())]);
}

#[tokio::test]
async fn credential_rejected_by_a_token_server_is_sent_once() {
    let server = token_registry(basic("me", "right"));
    let (client, lookups) = client(|_| Some(basic("me", CANARY)));
    let error = read_absent(&client, &server, "a").await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(lookups.lock().unwrap().len(), 2);
    assert_eq!(server.count("GET /token"), 1);
}

#[tokio::test]
async fn ping_reports_the_source_of_the_credential() {
    let right = authorization(&basic("me", "right"));
    let server = Server::start(move |request, _| {
        if request.header("authorization") == Some(&right) {
            Response::new(200).body("{}")
        } else {
            Response::challenge("Basic realm=\"x\"")
        }
    });
    let name = server.host().parse().unwrap();
    let ping = async |password: Option<&'static str>| {
        let (client, _) = client(move |_| Some(basic("me", password?)));
        client.registry(&name).unwrap().ping().await
    };
    let known = ping(Some("right")).await.unwrap();
    assert_eq!(known.credential_source.as_deref(), Some("a test"));
    assert_eq!(known.access, RegistryAccess::Authenticated);
    assert_eq!(known.rate_limit, None);
    assert!(known.latency > std::time::Duration::ZERO);
    // The challenge, the authenticated request, and the request whose latency is measured.
    assert_eq!(server.request_lines(), ["GET /v2/"; 3]);
    let anonymous = ping(None).await.unwrap();
    assert_eq!(anonymous.credential_source, None);
    assert_eq!(anonymous.access, RegistryAccess::LoginRequired);
    let error = ping(Some(CANARY)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.to_string().ends_with(&format!("`{name}`")), "{error}");
}

#[tokio::test]
async fn ping_with_anonymous_token_reports_anonymous_access() {
    let server = Server::start(|request, _| {
        if request.target.starts_with("/token") {
            Response::new(200).body(r#"{"token":"t"}"#)
        } else if request.header("authorization") == Some("Bearer t") {
            Response::new(200)
                .header("RateLimit-Limit", "100;w=21600")
                .header("RateLimit-Remaining", "76;w=21600")
        } else {
            Response::challenge("Bearer realm=\"/token\",service=\"s\"")
        }
    });
    let (client, _) = client(|_| None);
    let registry = client.registry(&server.host().parse().unwrap()).unwrap();
    let response = registry.ping().await.unwrap();
    assert_eq!(response.access, RegistryAccess::Anonymous);
    assert_eq!(response.credential_source, None);
    let rate_limit = response.rate_limit.unwrap();
    assert_eq!(
        (rate_limit.limit, rate_limit.remaining, rate_limit.window),
        (
            Some(100),
            Some(76),
            Some(std::time::Duration::from_hours(6))
        )
    );
}
