//! Which credential goes with a request, and when another one is looked for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripted;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use oci_registry::{
    Access, Client, ClientOptions, Credential, CredentialProvider, CredentialRequest, Environment,
    Error, ErrorKind, Identifier, Lookup, Secret, Source, Tag,
};
use scripted::{Asked, Reply, Server};

const CANARY: &str = "canary-5f3a";

fn basic(username: &str, password: &str) -> Credential {
    Credential::Basic {
        username: username.into(),
        password: Secret::new(password),
    }
}

/// Finds what a function says, and remembers what it was asked.
struct Scripted<F> {
    script: F,
    asked: Arc<Mutex<Vec<String>>>,
}

impl<F> std::fmt::Debug for Scripted<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

#[async_trait::async_trait]
impl<F> CredentialProvider for Scripted<F>
where
    F: Fn(&CredentialRequest<'_>) -> Option<Credential> + Send + Sync,
{
    async fn credential(&self, request: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        let mut line = request
            .repository
            .map_or_else(|| "-".to_owned(), ToString::to_string);
        line.push_str(if request.is_write { " write" } else { " read" });
        line.push_str(if request.is_refused { " again" } else { "" });
        self.asked.lock().unwrap().push(line);
        Ok(Lookup {
            found: (self.script)(request).map(|credential| (credential, "a test".into())),
            looked_in: vec!["a test".into()],
            ..Lookup::default()
        })
    }
}

/// A client whose credentials come from a function, and what the function will have been asked.
fn client(
    script: impl Fn(&CredentialRequest<'_>) -> Option<Credential> + Send + Sync + 'static,
) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut options = ClientOptions::new(Environment::default());
    options.observer = scripted::observer();
    options.credentials = Arc::new(Scripted {
        script,
        asked: Arc::clone(&asked),
    });
    (Client::new(options), asked)
}

/// Asks for a tag that is not there, which is enough to be asked who one is.
async fn ask(client: &Client, server: &Server, repository: &str) -> Error {
    let reference = format!("{}/{repository}", server.host()).parse().unwrap();
    let repository = client.repository(&reference, Access::Pull).unwrap();
    let tag = Identifier::Tag("latest".parse::<Tag>().unwrap());
    repository.manifest(&tag).await.unwrap_err()
}

fn authorization(credential: &Credential) -> String {
    use base64::Engine as _;
    let Credential::Basic { username, password } = credential else {
        panic!("{credential:?}");
    };
    let pair = format!("{username}:{}", password.expose());
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {pair}")
}

/// Lets in whoever shows this credential now, by Basic.
fn gate(right: impl Fn(&Asked) -> Credential + Send + Sync) -> impl Fn(&Asked, usize) -> Reply {
    move |asked, _| {
        if asked.header("authorization") == Some(&authorization(&right(asked))) {
            Reply::new(404)
        } else {
            Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")
        }
    }
}

#[tokio::test]
async fn each_repository_may_have_a_credential_of_its_own() {
    let owner = |path: &str| basic(if path.contains("acme/a") { "a" } else { "b" }, CANARY);
    let server = Server::start(gate(move |asked| owner(&asked.target))).await;
    let (client, asked) =
        client(move |request| Some(owner(&request.repository.unwrap().to_string())));
    for repository in ["acme/a", "acme/b", "acme/a", "acme/b"] {
        let error = ask(&client, &server, repository).await;
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    // The challenge came once, and every repository's credential was looked for once.
    assert_eq!(server.asked().len(), 5);
    assert_eq!(*asked.lock().unwrap(), ["acme/a read", "acme/b read"]);
}

#[tokio::test]
async fn a_credential_that_is_refused_after_a_while_is_looked_for_again() {
    let day = Arc::new(Mutex::new("monday"));
    let today = {
        let day = Arc::clone(&day);
        move || basic("me", *day.lock().unwrap())
    };
    let server = Server::start(gate({
        let today = today.clone();
        move |_| today()
    }))
    .await;
    // Like a store that gives out a token for as long as it is taken.
    let (client, asked) = client(move |request| {
        let fresh = today();
        Some(if request.is_refused {
            fresh
        } else {
            basic("me", "monday")
        })
    });
    assert_eq!(ask(&client, &server, "a").await.kind(), ErrorKind::NotFound);
    *day.lock().unwrap() = "tuesday";
    assert_eq!(ask(&client, &server, "a").await.kind(), ErrorKind::NotFound);
    assert_eq!(ask(&client, &server, "a").await.kind(), ErrorKind::NotFound);
    assert_eq!(*asked.lock().unwrap(), ["a read", "a read again"]);
    assert_eq!(server.asked().len(), 2 + 2 + 1);
}

#[tokio::test]
async fn a_wrong_password_is_sent_once_and_not_looked_for_twice() {
    let server = Server::start(gate(|_| basic("me", "right"))).await;
    let (client, asked) = client(|_| Some(basic("me", CANARY)));
    let error = ask(&client, &server, "a").await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(server.asked().len(), 2);
    assert_eq!(asked.lock().unwrap().len(), 1);
    let mut shown = format!("{error:?} {:?}", error.hints());
    write!(shown, " {error}").unwrap();
    assert!(!shown.contains(CANARY), "{shown}");
}

#[tokio::test]
async fn who_logs_in_meanwhile_is_let_in() {
    let server = Server::start(gate(|_| basic("me", "right"))).await;
    let login = Arc::new(Mutex::new(None));
    let (client, asked) = client({
        let login = Arc::clone(&login);
        move |_| login.lock().unwrap().clone()
    });
    let error = ask(&client, &server, "a").await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    *login.lock().unwrap() = Some(basic("me", "right"));
    let error = ask(&client, &server, "a").await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(*asked.lock().unwrap(), ["a read", "a read again"]);
}

/// A registry with a token server that gives tokens to one user only.
async fn with_tokens(user: Credential) -> Server {
    Server::start(move |asked, _| {
        let shown = asked.header("authorization");
        if asked.target.starts_with("/token") {
            return if shown == Some(&authorization(&user)) {
                Reply::new(200).body(r#"{"token":"t"}"#)
            } else {
                Reply::new(401)
            };
        }
        if shown == Some("Bearer t") {
            return Reply::new(404);
        }
        let realm = format!(
            "Bearer realm=\"http://{}/token\"",
            asked.header("host").unwrap()
        );
        Reply::new(401).header("WWW-Authenticate", realm)
    })
    .await
}

#[tokio::test]
async fn nobody_is_tried_first_where_the_provider_says_so() {
    let server = with_tokens(basic("me", "right")).await;
    let (client, asked) = client(|request| request.is_refused.then(|| basic("me", "right")));
    let error = ask(&client, &server, "a").await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(*asked.lock().unwrap(), ["a read", "a read again"]);
    let tokens = server.asked();
    let tokens = tokens
        .iter()
        .filter(|asked| asked.target.starts_with("/token"));
    let shown: Vec<_> = tokens.map(|asked| asked.header("authorization")).collect();
    assert_eq!(
        shown,
        [None, Some(authorization(&basic("me", "right")).as_str())]
    );
}

#[tokio::test]
async fn a_token_server_that_says_no_is_asked_no_second_time_with_the_same() {
    let server = with_tokens(basic("me", "right")).await;
    let (client, asked) = client(|_| Some(basic("me", CANARY)));
    let error = ask(&client, &server, "a").await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(asked.lock().unwrap().len(), 2);
    let lines = server.lines();
    let tokens = lines.iter().filter(|line| line.contains("/token"));
    assert_eq!(tokens.count(), 1, "{lines:?}");
}

/// Credentials of a CI job, which nobody set up for the registry.
mod ci {
    use std::path::Path;

    use oci_registry::{Observer, Repository, Step};

    use super::*;

    /// An answer of the registry, which differs by where it refuses the job's credential.
    #[derive(Clone, Copy, Debug)]
    struct Refusal {
        /// Status of the token server for the job's credential.
        token: u16,
        /// Status of the registry for a token of the job's credential.
        content: u16,
        /// Status of the token server for a request without a credential.
        anonymous: u16,
    }

    /// A registry with a token server. An anonymous token reads everything.
    async fn registry(refusal: Refusal) -> Server {
        Server::start(move |asked, before| {
            let shown = asked.header("authorization");
            if asked.target.starts_with("/token") {
                let (status, token) = match shown {
                    // A token of its own each time, as most token servers have.
                    Some(_) => (refusal.token, format!("job{before}")),
                    None => (refusal.anonymous, "anonymous".to_owned()),
                };
                return Reply::new(status).body(format!(r#"{{"token":"{token}"}}"#));
            }
            match shown {
                Some("Bearer anonymous") => Reply::new(404),
                Some(_) if refusal.content != 401 => Reply::new(refusal.content),
                _ => {
                    let host = asked.header("host").unwrap();
                    let realm = format!("Bearer realm=\"http://{host}/token\"");
                    Reply::new(401).header("WWW-Authenticate", realm)
                }
            }
        })
        .await
    }

    fn job(server: &Server) -> [(&'static str, String); 3] {
        [
            ("CI_REGISTRY", server.host()),
            ("CI_REGISTRY_USER", "job".to_owned()),
            ("CI_REGISTRY_PASSWORD", CANARY.to_owned()),
        ]
    }

    /// A repository, and the credential problems that the client will have reported.
    fn repository(
        server: &Server,
        variables: &[(&str, String)],
        home: &Path,
        access: Access,
    ) -> (Repository, Arc<Mutex<Vec<String>>>) {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| ((*name).to_owned(), value.clone()));
        let environment = Environment::new(variables, Some(home.into()), home.into());
        let mut options = ClientOptions::new(environment);
        let problems = Arc::new(Mutex::new(Vec::new()));
        let reported = Arc::clone(&problems);
        options.observer = Observer::new(move |step| {
            if let Step::Credential { problem } = step {
                reported.lock().unwrap().push(problem.clone());
            }
        });
        let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
        let repository = Client::new(options).repository(&reference, access);
        (repository.unwrap(), problems)
    }

    async fn read(repository: &Repository) -> Error {
        let tag = Identifier::Tag("latest".parse::<Tag>().unwrap());
        repository.manifest(&tag).await.unwrap_err()
    }

    #[tokio::test]
    async fn refused_ci_credential_is_dropped_for_a_read() {
        let home = tempfile::tempdir().unwrap();
        for (token, content) in [(401, 404), (403, 404), (200, 401), (200, 403)] {
            let refusal = Refusal {
                token,
                content,
                anonymous: 200,
            };
            let server = registry(refusal).await;
            let (repository, problems) =
                repository(&server, &job(&server), home.path(), Access::Pull);
            for _ in 0..2 {
                let error = read(&repository).await;
                assert_eq!(error.kind(), ErrorKind::NotFound, "{refusal:?}: {error:?}");
            }
            // The second read is anonymous from the start.
            let anonymous = server.asked();
            let anonymous = anonymous
                .iter()
                .filter(|asked| asked.header("authorization") == Some("Bearer anonymous"));
            assert_eq!(anonymous.count(), 2, "{refusal:?}: {:?}", server.lines());
            let host = server.host();
            let problem = format!(
                "`{host}` refused the credential from `CI_REGISTRY_PASSWORD`: reading without it"
            );
            assert_eq!(*problems.lock().unwrap(), [problem], "{refusal:?}");
        }
    }

    #[tokio::test]
    async fn refused_ci_credential_of_a_private_repository_fails() {
        let home = tempfile::tempdir().unwrap();
        for (token, content, requests) in [(401, 404, 4), (200, 401, 5), (200, 403, 4)] {
            let refusal = Refusal {
                token,
                content,
                anonymous: 401,
            };
            let server = registry(refusal).await;
            let (repository, _) = repository(&server, &job(&server), home.path(), Access::Pull);
            let error = read(&repository).await;
            let is_denied = matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied);
            assert!(is_denied, "{refusal:?}: {error:?}");
            let help = format!("{:?}", error.hints());
            let searched = "`CI_REGISTRY_PASSWORD`, refused";
            assert!(help.contains(searched), "{refusal:?}: {help}");
            assert!(!format!("{error:?} {help}").contains(CANARY));
            assert!(server.lines().len() <= requests, "{:?}", server.lines());
        }
    }

    #[tokio::test]
    async fn refused_ci_credential_is_not_dropped_for_a_write() {
        let home = tempfile::tempdir().unwrap();
        for (token, content) in [(401, 404), (200, 401), (200, 403)] {
            let refusal = Refusal {
                token,
                content,
                anonymous: 200,
            };
            let server = registry(refusal).await;
            let (repository, problems) =
                repository(&server, &job(&server), home.path(), Access::Push);
            let error = read(&repository).await;
            let is_denied = matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied);
            assert!(is_denied, "{refusal:?}: {error:?}");
            let asked = server.asked();
            let tokens = asked
                .iter()
                .filter(|asked| asked.target.starts_with("/token"));
            let is_anonymous = |asked: &Asked| asked.header("authorization").is_none();
            assert_eq!(tokens.filter(|asked| is_anonymous(asked)).count(), 0);
            assert_eq!(*problems.lock().unwrap(), [""; 0]);
        }
    }

    #[tokio::test]
    async fn refused_credential_of_docker_is_not_dropped() {
        let refusal = Refusal {
            token: 200,
            content: 403,
            anonymous: 200,
        };
        let (home, server) = (tempfile::tempdir().unwrap(), registry(refusal).await);
        let config = format!(
            r#"{{"auths":{{"{}":{{"username":"me","password":"p"}}}}}}"#,
            server.host()
        );
        std::fs::create_dir(home.path().join(".docker")).unwrap();
        std::fs::write(home.path().join(".docker/config.json"), config).unwrap();
        let (repository, _) = repository(&server, &job(&server), home.path(), Access::Pull);
        let error = read(&repository).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(
            format!("{:?}", error.hints()).contains("docker config"),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn refused_ci_credential_at_a_basic_registry_is_dropped() {
        let home = tempfile::tempdir().unwrap();
        // Both repositories are public, and a wrong password is refused even there.
        let server = Server::start(|asked, before| {
            if before > 0 && asked.header("authorization").is_none() {
                return Reply::new(404);
            }
            Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")
        })
        .await;
        let (repository, problems) = repository(&server, &job(&server), home.path(), Access::Pull);
        let error = read(&repository).await;
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert_eq!(server.lines().len(), 3);
        assert_eq!(problems.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn ghcr_gets_no_token_of_another_forge() {
        let home = tempfile::tempdir().unwrap();
        for (forge, is_sent) in [
            ("https://forge.example.org", false),
            ("https://github.com", true),
        ] {
            let proxy = Server::start(|_, _| {
                Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")
            })
            .await;
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
            let error = read(&repository.unwrap()).await;
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
            let asked = proxy.asked();
            assert!(asked[0].target.starts_with("http://ghcr.io/"));
            let token = authorization(&basic("x-access-token", CANARY));
            let has_token = |asked: &Asked| asked.header("authorization") == Some(&token);
            assert_eq!(asked.iter().any(has_token), is_sent, "{forge}");
        }
    }

    #[tokio::test]
    async fn unusable_entry_is_reported_once_and_next_source_is_used() {
        let home = tempfile::tempdir().unwrap();
        let server = Server::start(gate(|_| basic("me", "right"))).await;
        let host = server.host();
        std::fs::create_dir(home.path().join(".docker")).unwrap();
        let config = format!(r#"{{"auths":{{"{host}":{{"username":"me","password":"right"}}}}}}"#);
        std::fs::write(home.path().join(".docker/config.json"), config).unwrap();
        let variable = format!(r#"{{"auths":{{"{host}":{{"auth":"{CANARY}"}}}}}}"#);
        let variables = [("DOCKER_AUTH_CONFIG", variable)];
        let (repository, problems) = repository(&server, &variables, home.path(), Access::Pull);
        for _ in 0..2 {
            let error = read(&repository).await;
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        }
        let problem = format!(
            "failed to read the credential of `{host}` in `DOCKER_AUTH_CONFIG`: `auth` is not base64 of `user:password`"
        );
        assert_eq!(*problems.lock().unwrap(), [problem]);
    }
}

/// AWS, as far as it gives tokens.
#[cfg(feature = "ecr")]
mod ecr {
    use std::path::Path;
    use std::time::SystemTime;

    use oci_registry::{CredentialChain, RegistryName};

    use super::*;

    const PRIVATE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

    /// Gives a token with the number of the request in it, which ends in so many seconds from now.
    async fn aws(lifetime: i64) -> Server {
        Server::start(move |asked, before| {
            use base64::Engine as _;
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
            let token = format!("AWS:{CANARY}{before}");
            let token = base64::engine::general_purpose::STANDARD.encode(token);
            let end = now.saturating_add_signed(lifetime);
            let token = format!(r#"{{"authorizationToken":"{token}","expiresAt":{end}}}"#);
            let target = asked.header("x-amz-target").unwrap();
            assert!(target.ends_with(".GetAuthorizationToken"), "{target}");
            let is_private = target.starts_with("AmazonEC2ContainerRegistry");
            let data = if is_private {
                format!("[{token}]")
            } else {
                token
            };
            Reply::new(200)
                .header("Content-Type", "application/x-amz-json-1.1")
                .body(format!(r#"{{"authorizationData":{data}}}"#))
        })
        .await
    }

    fn chain(home: &Path, variables: &[(&str, &str)]) -> CredentialChain {
        let variables = variables
            .iter()
            .chain(&[("AWS_EC2_METADATA_DISABLED", "true")])
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::new(variables, Some(home.into()), home.into());
        CredentialChain::new(&environment, [])
    }

    fn keys(endpoint: &str) -> [(&'static str, &str); 3] {
        [
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", CANARY),
            ("AWS_ENDPOINT_URL", endpoint),
        ]
    }

    enum Wanted {
        ToRead,
        ToWrite,
        Again,
    }

    async fn look(
        chain: &CredentialChain,
        registry: &str,
        wanted: Wanted,
    ) -> oci_registry::Result<Option<Credential>> {
        let registry: RegistryName = registry.parse().unwrap();
        let request = CredentialRequest::new(&registry);
        let request = match wanted {
            Wanted::ToRead => request,
            Wanted::ToWrite => request.to_write(),
            Wanted::Again => request.again(),
        };
        let found = chain.credential(&request).await?.found;
        Ok(found.map(|(credential, place)| {
            assert_eq!(place, "AWS credentials");
            credential
        }))
    }

    fn numbered(number: usize) -> Credential {
        basic("AWS", &format!("{CANARY}{number}"))
    }

    #[tokio::test]
    async fn one_token_is_asked_for_and_kept_until_it_ends_or_is_refused() {
        let home = tempfile::tempdir().unwrap();
        // An end in the past means that nobody knows when it ends.
        for lifetime in [43_200, -86_400] {
            let aws = aws(lifetime).await;
            let endpoint = format!("http://{}", aws.host());
            let chain = chain(home.path(), &keys(&endpoint));
            for name in [
                PRIVATE,
                PRIVATE,
                "210987654321.dkr.ecr.eu-west-1.amazonaws.com:5000",
            ] {
                assert_eq!(
                    look(&chain, name, Wanted::ToRead).await.unwrap(),
                    Some(numbered(0))
                );
            }
            let again = look(&chain, PRIVATE, Wanted::Again).await;
            assert_eq!(again.unwrap(), Some(numbered(1)));
            assert_eq!(
                look(&chain, PRIVATE, Wanted::ToRead).await.unwrap(),
                Some(numbered(1))
            );
            let asked = aws.asked();
            assert_eq!(asked.len(), 2);
            let signed = asked[0].header("authorization").unwrap();
            assert!(signed.contains("AKIDEXAMPLE/") && signed.contains("/eu-west-1/ecr/"));
            assert!(!signed.contains(CANARY));
        }
    }

    #[tokio::test]
    async fn aws_hears_nothing_of_other_registries() {
        let (home, aws) = (tempfile::tempdir().unwrap(), aws(3600).await);
        let endpoint = format!("http://{}", aws.host());
        let chain = chain(home.path(), &keys(&endpoint));
        for name in [
            "secret-registry.example",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example",
            "public.ecr.aws.evil.example",
        ] {
            assert_eq!(look(&chain, name, Wanted::ToRead).await.unwrap(), None);
            assert_eq!(look(&chain, name, Wanted::Again).await.unwrap(), None);
        }
        assert_eq!(aws.lines(), [""; 0]);
    }

    #[tokio::test]
    async fn what_is_public_is_read_as_nobody_first() {
        let (home, aws) = (tempfile::tempdir().unwrap(), aws(3600).await);
        let endpoint = format!("http://{}", aws.host());
        let chain = chain(home.path(), &keys(&endpoint));
        let name = "public.ecr.aws";
        assert_eq!(look(&chain, name, Wanted::ToRead).await.unwrap(), None);
        assert_eq!(aws.asked().len(), 0);
        let write = look(&chain, name, Wanted::ToWrite).await;
        assert_eq!(write.unwrap(), Some(numbered(0)));
        let again = look(&chain, name, Wanted::Again).await;
        assert_eq!(again.unwrap(), Some(numbered(1)));
        let signed = aws.asked()[0].header("authorization").unwrap().to_owned();
        assert!(signed.contains("/us-east-1/ecr-public/"), "{signed}");
    }

    #[tokio::test]
    async fn docker_s_file_goes_before_what_aws_would_give() {
        let (home, aws) = (tempfile::tempdir().unwrap(), aws(3600).await);
        let config =
            format!(r#"{{"auths":{{"{PRIVATE}":{{"username":"AWS","password":"mine"}}}}}}"#);
        std::fs::create_dir(home.path().join(".docker")).unwrap();
        std::fs::write(home.path().join(".docker/config.json"), config).unwrap();
        let endpoint = format!("http://{}", aws.host());
        let chain = chain(home.path(), &keys(&endpoint));
        let registry = PRIVATE.parse().unwrap();
        let found = chain.credential(&CredentialRequest::new(&registry)).await;
        assert_eq!(found.unwrap().found.unwrap().0, basic("AWS", "mine"));
        assert_eq!(aws.asked().len(), 0);
    }

    #[tokio::test]
    async fn profiles_are_read_from_the_files_of_the_environment() {
        let (home, aws) = (tempfile::tempdir().unwrap(), aws(3600).await);
        let endpoint = format!("http://{}", aws.host());
        let profile = |name: &str, id: &str| {
            format!("[{name}]\naws_access_key_id = {id}\naws_secret_access_key = {CANARY}\n")
        };
        let credentials = profile("default", "AKIDDEFAULT") + &profile("other", "AKIDOTHER");
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
        std::fs::write(home.path().join("moved"), profile("default", "AKIDMOVED")).unwrap();
        let url = ("AWS_ENDPOINT_URL_ECR", endpoint.as_str());
        for variables in [
            &[url][..],
            &[url, ("AWS_PROFILE", "other")],
            &[url, ("AWS_SHARED_CREDENTIALS_FILE", "moved")],
        ] {
            let found = look(&chain(home.path(), variables), PRIVATE, Wanted::ToRead).await;
            assert!(found.unwrap().is_some());
        }
        let signed: Vec<_> = aws
            .asked()
            .iter()
            .map(|asked| asked.header("authorization").unwrap().to_owned())
            .collect();
        for (signed, id) in signed
            .iter()
            .zip(["AKIDDEFAULT/", "AKIDOTHER/", "AKIDMOVED/"])
        {
            assert!(signed.contains(id), "{signed}");
        }
        // A profile that is not there was meant to be.
        let chain = chain(home.path(), &[url, ("AWS_PROFILE", "absent")]);
        let error = look(&chain, PRIVATE, Wanted::ToRead).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
        assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
        assert_eq!(aws.asked().len(), 3);
    }

    #[tokio::test]
    async fn without_anything_of_aws_s_there_is_nobody() {
        let home = tempfile::tempdir().unwrap();
        let registry = PRIVATE.parse().unwrap();
        let chain = chain(home.path(), &[]);
        let lookup = chain
            .credential(&CredentialRequest::new(&registry))
            .await
            .unwrap();
        assert!(lookup.found.is_none());
        assert_eq!(lookup.looked_in.last().unwrap(), "AWS credentials");
    }

    #[tokio::test]
    async fn a_refusal_and_nonsense_are_errors_without_secrets() {
        let home = tempfile::tempdir().unwrap();
        let refusal = r#"{"__type":"AccessDeniedException","message":"not for you"}"#;
        let nonsense = format!(r#"{{"authorizationData":[{{"authorizationToken":"{CANARY}"}}]}}"#);
        for (status, body, kind, word) in [
            (
                400,
                refusal,
                ErrorKind::Unauthenticated,
                "AccessDeniedException: not for you",
            ),
            (200, &nonsense, ErrorKind::Protocol, "no token"),
            (
                200,
                r#"{"authorizationData":[]}"#,
                ErrorKind::Protocol,
                "no token",
            ),
        ] {
            let reply = Reply::new(status)
                .header("Content-Type", "application/x-amz-json-1.1")
                .body(body);
            let aws = Server::start(move |_, _| reply.clone()).await;
            let endpoint = format!("http://{}", aws.host());
            let chain = chain(home.path(), &keys(&endpoint));
            let error = look(&chain, PRIVATE, Wanted::ToRead).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.to_string().contains(PRIVATE), "{error}");
            assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_aws_that_does_not_answer_is_given_up() {
        let home = tempfile::tempdir().unwrap();
        // Takes connections, and never says a word.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let chain = chain(home.path(), &keys(&endpoint));
        let error = look(&chain, PRIVATE, Wanted::ToRead).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{error:?}");
    }
}

#[tokio::test]
async fn a_ping_tells_which_credential_was_taken() {
    let gate = |right: &'static str| {
        move |asked: &Asked, _: usize| {
            let right = authorization(&basic("me", right));
            if asked.header("authorization") == Some(&right) {
                Reply::new(200).body("{}")
            } else {
                Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")
            }
        }
    };
    let server = Server::start(gate("right")).await;
    let name = server.host().parse().unwrap();
    let ping = async |password: Option<&'static str>| {
        let (client, _) = client(move |_| Some(basic("me", password?)));
        client.registry(&name).unwrap().ping().await
    };
    let known = ping(Some("right")).await.unwrap();
    assert_eq!(known.credential_source.as_deref(), Some("a test"));
    assert!(!known.is_stranger);
    assert!(known.latency > std::time::Duration::ZERO);
    // Challenge, answer, and the request whose time is taken.
    assert_eq!(server.lines(), ["GET /v2/"; 3]);
    let stranger = ping(None).await.unwrap();
    assert_eq!(stranger.credential_source, None);
    assert!(stranger.is_stranger);
    let error = ping(Some(CANARY)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.to_string().ends_with(&format!("`{name}`")), "{error}");
}
