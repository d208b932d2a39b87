//! Credentials of Amazon ECR.

use std::path::Path;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_registry::{
    Credential, CredentialChain, CredentialProvider, CredentialRequest, Environment, ErrorKind,
    RegistryName,
};
use testkit::server::{Response, Server};
use testkit::tcp::TcpServer;

use super::basic;
use crate::support::CANARY;

const PRIVATE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// Starts an AWS endpoint. Each token contains the number of its request and expires after `lifetime` seconds.
fn aws(lifetime: i64) -> Server {
    Server::start(move |request, earlier| {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let token = format!("AWS:{CANARY}{earlier}");
        let token = STANDARD.encode(token);
        let end = now.saturating_add_signed(lifetime);
        let token = format!(r#"{{"authorizationToken":"{token}","expiresAt":{end}}}"#);
        let target = request.header("x-amz-target").unwrap();
        assert!(target.ends_with(".GetAuthorizationToken"), "{target}");
        let is_private = target.starts_with("AmazonEC2ContainerRegistry");
        let data = if is_private {
            format!("[{token}]")
        } else {
            token
        };
        Response::new(200)
            .header("Content-Type", "application/x-amz-json-1.1")
            .body(format!(r#"{{"authorizationData":{data}}}"#))
    })
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

enum Purpose {
    Read,
    Write,
    Retry,
}

async fn lookup(
    chain: &CredentialChain,
    registry: &str,
    purpose: Purpose,
) -> oci_registry::Result<Option<Credential>> {
    let registry: RegistryName = registry.parse().unwrap();
    let request = CredentialRequest::new(&registry);
    let request = match purpose {
        Purpose::Read => request,
        Purpose::Write => request.to_write(),
        Purpose::Retry => request.after_refusal(),
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
async fn ecr_token_is_reused_until_expiry_or_refusal() {
    let home = tempfile::tempdir().unwrap();
    // An expiry time in the past is treated as unknown.
    for lifetime in [43_200, -86_400] {
        let aws = aws(lifetime);
        let endpoint = format!("http://{}", aws.host());
        let chain = chain(home.path(), &keys(&endpoint));
        for name in [
            PRIVATE,
            PRIVATE,
            "210987654321.dkr.ecr.eu-west-1.amazonaws.com:5000",
        ] {
            assert_eq!(
                lookup(&chain, name, Purpose::Read).await.unwrap(),
                Some(numbered(0))
            );
        }
        let again = lookup(&chain, PRIVATE, Purpose::Retry).await;
        assert_eq!(again.unwrap(), Some(numbered(1)));
        assert_eq!(
            lookup(&chain, PRIVATE, Purpose::Read).await.unwrap(),
            Some(numbered(1))
        );
        let requests = aws.requests();
        assert_eq!(requests.len(), 2);
        let signed = requests[0].header("authorization").unwrap();
        assert!(signed.contains("AKIDEXAMPLE/") && signed.contains("/eu-west-1/ecr/"));
        assert!(!signed.contains(CANARY));
    }
}

#[tokio::test]
async fn lookup_for_other_registry_sends_no_request_to_aws() {
    let (home, aws) = (tempfile::tempdir().unwrap(), aws(3600));
    let endpoint = format!("http://{}", aws.host());
    let chain = chain(home.path(), &keys(&endpoint));
    for name in [
        "secret-registry.example",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example",
        "public.ecr.aws.evil.example",
    ] {
        assert_eq!(lookup(&chain, name, Purpose::Read).await.unwrap(), None);
        assert_eq!(lookup(&chain, name, Purpose::Retry).await.unwrap(), None);
    }
    assert_eq!(aws.request_lines(), [""; 0]);
}

#[tokio::test]
async fn first_read_of_ecr_public_is_anonymous() {
    let (home, aws) = (tempfile::tempdir().unwrap(), aws(3600));
    let endpoint = format!("http://{}", aws.host());
    let chain = chain(home.path(), &keys(&endpoint));
    let name = "public.ecr.aws";
    assert_eq!(lookup(&chain, name, Purpose::Read).await.unwrap(), None);
    assert_eq!(aws.requests().len(), 0);
    let write = lookup(&chain, name, Purpose::Write).await;
    assert_eq!(write.unwrap(), Some(numbered(0)));
    let again = lookup(&chain, name, Purpose::Retry).await;
    assert_eq!(again.unwrap(), Some(numbered(1)));
    let signed = aws.requests()[0]
        .header("authorization")
        .unwrap()
        .to_owned();
    assert!(signed.contains("/us-east-1/ecr-public/"), "{signed}");
}

#[tokio::test]
async fn docker_config_takes_precedence_over_ecr() {
    let (home, aws) = (tempfile::tempdir().unwrap(), aws(3600));
    let config = format!(r#"{{"auths":{{"{PRIVATE}":{{"username":"AWS","password":"mine"}}}}}}"#);
    std::fs::create_dir(home.path().join(".docker")).unwrap();
    std::fs::write(home.path().join(".docker/config.json"), config).unwrap();
    let endpoint = format!("http://{}", aws.host());
    let chain = chain(home.path(), &keys(&endpoint));
    let registry = PRIVATE.parse().unwrap();
    let found = chain.credential(&CredentialRequest::new(&registry)).await;
    assert_eq!(found.unwrap().found.unwrap().0, basic("AWS", "mine"));
    assert_eq!(aws.requests().len(), 0);
}

#[tokio::test]
async fn aws_profiles_are_read_from_the_environment() {
    let (home, aws) = (tempfile::tempdir().unwrap(), aws(3600));
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
        let found = lookup(&chain(home.path(), variables), PRIVATE, Purpose::Read).await;
        assert!(found.unwrap().is_some());
    }
    let signed: Vec<_> = aws
        .requests()
        .iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    for (signed, id) in signed
        .iter()
        .zip(["AKIDDEFAULT/", "AKIDOTHER/", "AKIDMOVED/"])
    {
        assert!(signed.contains(id), "{signed}");
    }
    // A missing profile is an error, because the user selected it.
    let chain = chain(home.path(), &[url, ("AWS_PROFILE", "absent")]);
    let error = lookup(&chain, PRIVATE, Purpose::Read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    assert_eq!(aws.requests().len(), 3);
}

#[tokio::test]
async fn ecr_lookup_without_aws_keys_finds_no_credential() {
    let home = tempfile::tempdir().unwrap();
    let registry = PRIVATE.parse().unwrap();
    let chain = chain(home.path(), &[]);
    let lookup = chain
        .credential(&CredentialRequest::new(&registry))
        .await
        .unwrap();
    assert!(lookup.found.is_none());
    assert_eq!(lookup.searched.last().unwrap(), "AWS credentials");
}

#[tokio::test]
async fn ecr_refusal_or_invalid_response_shows_no_secret() {
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
        (200, &nonsense, ErrorKind::Protocol, "no valid token"),
        (
            200,
            r#"{"authorizationData":[]}"#,
            ErrorKind::Protocol,
            "no valid token",
        ),
    ] {
        let reply = Response::new(status)
            .header("Content-Type", "application/x-amz-json-1.1")
            .body(body);
        let aws = Server::start(move |_, _| reply.clone());
        let endpoint = format!("http://{}", aws.host());
        let chain = chain(home.path(), &keys(&endpoint));
        let error = lookup(&chain, PRIVATE, Purpose::Read).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(error.to_string().contains(PRIVATE), "{error}");
        assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    }
}

/// Returns the kind and message of the error when AWS responds to each request with this status and body.
async fn error_for(status: u16, body: &str) -> (ErrorKind, String) {
    let home = tempfile::tempdir().unwrap();
    let reply = Response::new(status)
        .header("Content-Type", "application/x-amz-json-1.1")
        .body(body);
    let aws = Server::start(move |_, _| reply.clone());
    let endpoint = format!("http://{}", aws.host());
    let chain = chain(home.path(), &keys(&endpoint));
    let error = lookup(&chain, PRIVATE, Purpose::Read).await.unwrap_err();
    assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn aws_server_error_or_throttling_is_a_network_error() {
    let cases = [
        (
            500,
            r#"{"__type":"ServerException","message":"later"}"#,
            ErrorKind::Network,
            "ServerException: later",
        ),
        (503, "<html>", ErrorKind::Network, "503 Service Unavailable"),
        (
            400,
            r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#,
            ErrorKind::RateLimited,
            "ThrottlingException: Rate exceeded",
        ),
    ];
    // The AWS SDK repeats each request after a delay.
    let errors = cases.map(|(status, body, ..)| error_for(status, body));
    let errors = futures_util::future::join_all(errors).await;
    for (error, (.., kind, text)) in errors.into_iter().zip(cases) {
        let expected = format!("AWS failed to issue a token for `{PRIVATE}`: {text}");
        assert_eq!(error, (kind, expected));
    }
}

#[tokio::test]
async fn aws_response_without_json_is_a_protocol_error() {
    for (status, shown) in [(200, "200 OK"), (404, "404 Not Found")] {
        let expected =
            format!("AWS returned an invalid response with status {shown} for `{PRIVATE}`");
        let error = error_for(status, "<html>").await;
        assert_eq!(error, (ErrorKind::Protocol, expected));
    }
}

#[tokio::test]
async fn aws_response_above_the_limit_is_rejected() {
    let token = "A".repeat(1 << 20);
    let body = format!(r#"{{"authorizationData":[{{"authorizationToken":"{token}"}}]}}"#);
    let expected = format!("AWS returned a response with more than 1048576 bytes for `{PRIVATE}`");
    let error = error_for(200, &body).await;
    assert_eq!(error, (ErrorKind::Protocol, expected));
}

#[tokio::test(start_paused = true)]
async fn aws_request_without_response_is_a_network_error() {
    let home = tempfile::tempdir().unwrap();
    let silent = TcpServer::start(|_stream, _| std::future::pending());
    let endpoint = format!("http://{}", silent.host());
    let chain = chain(home.path(), &keys(&endpoint));
    let error = lookup(&chain, PRIVATE, Purpose::Read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error:?}");
}
