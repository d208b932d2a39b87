//! Credentials in the variables of CI jobs. The user did not configure these credentials for the registry.

use std::path::Path;

use oci_registry::{
    Access, Client, ClientEvent, ClientOptions, Environment, ErrorKind, Repository,
};
use testkit::server::{Request, Response, Server};

use super::{authorization, basic, basic_registry};
use crate::support::{CANARY, Observed, observe, open, read_error};

/// Response statuses of a registry and its token server.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// Status with which the token server responds to the job's credential.
    token: u16,
    /// Status with which the registry responds to a token for the job's credential.
    content: u16,
    /// Status with which the token server responds to a request without a credential.
    anonymous: u16,
}

/// Starts a registry with a token server. The registry accepts the anonymous token for every read.
fn registry(refusal: Refusal) -> Server {
    Server::start(move |request, earlier| {
        let sent = request.header("authorization");
        if request.path() == "/token" {
            let (status, token) = match sent {
                // Like most token servers, this server returns a new token for each request.
                Some(_) => (refusal.token, format!("job{earlier}")),
                None => (refusal.anonymous, "anonymous".to_owned()),
            };
            return Response::new(status).body(format!(r#"{{"token":"{token}"}}"#));
        }
        match sent {
            Some("Bearer anonymous") => Response::new(404),
            Some(_) if refusal.content != 401 => Response::new(refusal.content),
            _ => {
                let host = request.header("host").unwrap();
                let realm = format!("Bearer realm=\"http://{host}/token\"");
                Response::challenge(realm)
            }
        }
    })
}

/// Returns the variables of a GitLab job.
fn job(server: &Server) -> [(&'static str, String); 3] {
    [
        ("CI_REGISTRY", server.host()),
        ("CI_REGISTRY_USER", "job".to_owned()),
        ("CI_REGISTRY_PASSWORD", CANARY.to_owned()),
    ]
}

/// Opens the repository of a server. Returns the repository, and the credential problems that the client has reported.
fn repository(
    server: &Server,
    variables: &[(&str, String)],
    home: &Path,
    access: Access,
) -> (Repository, Observed<String>) {
    let variables = variables.iter();
    let variables = variables.map(|(name, value)| ((*name).to_owned(), value.clone()));
    let environment = Environment::new(variables, Some(home.into()), home.into());
    let mut options = ClientOptions::new(environment);
    let (observer, problems) = observe(|event| match event {
        ClientEvent::Credential { problem } => Some(problem.clone()),
        _ => None,
    });
    options.observer = observer;
    (open(&Client::new(options), server, access), problems)
}

#[tokio::test]
async fn read_with_rejected_ci_credential_continues_anonymously() {
    let home = tempfile::tempdir().unwrap();
    for (token, content) in [(401, 404), (403, 404), (200, 401), (200, 403)] {
        let refusal = Refusal {
            token,
            content,
            anonymous: 200,
        };
        let server = registry(refusal);
        let (repository, problems) = repository(&server, &job(&server), home.path(), Access::Pull);
        for _ in 0..2 {
            let error = read_error(&repository).await;
            assert_eq!(error.kind(), ErrorKind::NotFound, "{refusal:?}: {error:?}");
        }
        // The second read is anonymous from the start.
        let anonymous = server.requests();
        let anonymous = anonymous
            .iter()
            .filter(|request| request.header("authorization") == Some("Bearer anonymous"));
        assert_eq!(
            anonymous.count(),
            2,
            "{refusal:?}: {:?}",
            server.request_lines()
        );
        let host = server.host();
        let problem = format!(
            "`{host}` rejected the credential from `CI_REGISTRY_PASSWORD`; continuing without a credential"
        );
        assert_eq!(*problems.lock().unwrap(), [problem], "{refusal:?}");
    }
}

#[tokio::test]
async fn read_of_private_repository_with_rejected_ci_credential_fails() {
    let home = tempfile::tempdir().unwrap();
    for (token, content, requests) in [(401, 404, 4), (200, 401, 5), (200, 403, 4)] {
        let refusal = Refusal {
            token,
            content,
            anonymous: 401,
        };
        let server = registry(refusal);
        let (repository, _) = repository(&server, &job(&server), home.path(), Access::Pull);
        let error = read_error(&repository).await;
        let is_denied = matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied);
        assert!(is_denied, "{refusal:?}: {error:?}");
        let help = format!("{:?}", error.hints());
        let searched = "`CI_REGISTRY_PASSWORD` (rejected)";
        assert!(help.contains(searched), "{refusal:?}: {help}");
        assert!(!format!("{error:?} {help}").contains(CANARY));
        assert!(
            server.request_lines().len() <= requests,
            "{:?}",
            server.request_lines()
        );
    }
}

#[tokio::test]
async fn write_with_rejected_ci_credential_fails() {
    let home = tempfile::tempdir().unwrap();
    for (token, content) in [(401, 404), (200, 401), (200, 403)] {
        let refusal = Refusal {
            token,
            content,
            anonymous: 200,
        };
        let server = registry(refusal);
        let (repository, problems) = repository(&server, &job(&server), home.path(), Access::Push);
        let error = read_error(&repository).await;
        let is_denied = matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied);
        assert!(is_denied, "{refusal:?}: {error:?}");
        let requests = server.requests();
        let tokens = requests
            .iter()
            .filter(|request| request.target.starts_with("/token"));
        let is_anonymous = |request: &Request| request.header("authorization").is_none();
        assert_eq!(tokens.filter(|request| is_anonymous(request)).count(), 0);
        assert_eq!(*problems.lock().unwrap(), [""; 0]);
    }
}

#[tokio::test]
async fn read_with_rejected_docker_credential_fails() {
    let refusal = Refusal {
        token: 200,
        content: 403,
        anonymous: 200,
    };
    let (home, server) = (tempfile::tempdir().unwrap(), registry(refusal));
    let config = format!(
        r#"{{"auths":{{"{}":{{"username":"me","password":"p"}}}}}}"#,
        server.host()
    );
    std::fs::create_dir(home.path().join(".docker")).unwrap();
    std::fs::write(home.path().join(".docker/config.json"), config).unwrap();
    let (repository, _) = repository(&server, &job(&server), home.path(), Access::Pull);
    let error = read_error(&repository).await;
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(
        format!("{:?}", error.hints()).contains("docker config"),
        "{error:?}"
    );
}

#[tokio::test]
async fn basic_read_with_rejected_ci_credential_becomes_anonymous() {
    let home = tempfile::tempdir().unwrap();
    // The repository is public, but the registry rejects a request with a wrong password.
    let server = Server::start(|request, earlier| {
        if earlier > 0 && request.header("authorization").is_none() {
            return Response::new(404);
        }
        Response::challenge("Basic realm=\"x\"")
    });
    let (repository, problems) = repository(&server, &job(&server), home.path(), Access::Pull);
    let error = read_error(&repository).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(server.request_lines().len(), 3);
    assert_eq!(problems.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn ghcr_receives_no_token_of_another_forge() {
    let home = tempfile::tempdir().unwrap();
    for (forge, is_sent) in [
        ("https://forge.example.org", false),
        ("https://github.com", true),
    ] {
        let proxy = Server::start(|_, _| Response::challenge("Basic realm=\"x\""));
        let variables = [
            ("HTTP_PROXY", format!("http://{}", proxy.host())),
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITHUB_SERVER_URL", forge.to_owned()),
            ("GITHUB_TOKEN", CANARY.to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let environment = Environment::new(variables, None, home.path().into());
        let mut options = ClientOptions::new(environment);
        options.plain_http = Some(true);
        let reference = "ghcr.io/acme/widgets".parse().unwrap();
        let repository = Client::new(options).repository(&reference, Access::Pull);
        let error = read_error(&repository.unwrap()).await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
        let requests = proxy.requests();
        assert!(requests[0].target.starts_with("http://ghcr.io/"));
        let token = authorization(&basic("x-access-token", CANARY));
        let has_token = |request: &Request| request.header("authorization") == Some(&token);
        assert_eq!(requests.iter().any(has_token), is_sent, "{forge}");
    }
}

#[tokio::test]
async fn invalid_entry_is_reported_once_and_next_source_is_used() {
    let home = tempfile::tempdir().unwrap();
    let server = basic_registry(|_| basic("me", "right"));
    let host = server.host();
    std::fs::create_dir(home.path().join(".docker")).unwrap();
    let config = format!(r#"{{"auths":{{"{host}":{{"username":"me","password":"right"}}}}}}"#);
    std::fs::write(home.path().join(".docker/config.json"), config).unwrap();
    let variable = format!(r#"{{"auths":{{"{host}":{{"auth":"{CANARY}"}}}}}}"#);
    let variables = [("DOCKER_AUTH_CONFIG", variable)];
    let (repository, problems) = repository(&server, &variables, home.path(), Access::Pull);
    for _ in 0..2 {
        let error = read_error(&repository).await;
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    let problem = format!(
        "failed to read the credential of `{host}` in `DOCKER_AUTH_CONFIG`: `auth` is not base64 of `user:password`"
    );
    assert_eq!(*problems.lock().unwrap(), [problem]);
}
