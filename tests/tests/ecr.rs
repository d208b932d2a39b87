//! Amazon's registries: AWS returns the password, which is sent to the registry only.

use e2e::aws::{Aws, AwsPublic, SECRET_KEY};
use e2e::program::{Home, Outcome, Run};
use e2e::registry::{AMAZON_PASSWORD, Registry};
use e2e::require;
use e2e::sources::Sources;

/// Returns `HOST:PORT` of the registry with another host name, and the flags that resolve this name to the registry.
fn resolve_as(host: &str, registry: &Registry) -> (String, [String; 3]) {
    let (address, port) = registry
        .host()
        .split_once(':')
        .expect("the address has a port");
    let flags = [
        "--plain-http".to_owned(),
        "--resolve".to_owned(),
        format!("{host}:{port}:{address}"),
    ];
    (format!("{host}:{port}"), flags)
}

fn push(home: &Home, name: &str, flags: &[String], sources: &Sources) -> Run {
    let repository = format!("{name}/acme");
    let arguments = ["push", "--registry", &repository].map(str::to_owned);
    home.cargo_oci(arguments.into_iter().chain(flags.iter().cloned()))
        .with("RUST_LOG", "trace")
        .within(sources.path())
}

#[track_caller]
fn assert_no_secret_shown(outcome: &Outcome) {
    for secret in [SECRET_KEY, AMAZON_PASSWORD] {
        let shown = outcome.stdout.contains(secret) || outcome.stderr.contains(secret);
        assert!(!shown, "the output contains a secret: {outcome}");
    }
}

#[test]
fn aws_keys_authenticate_push_and_pull() {
    require!(DockerRegistry, Moto, Shellharden);
    let (aws, registry, sources) = (Aws::start(), Registry::ecr(), Sources::shellharden());
    let host = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
    let (name, flags) = resolve_as(host, &registry);
    let home = Home::new();
    let pushed = aws
        .configure(push(&home, &name, &flags, &sources))
        .succeeds();
    assert_no_secret_shown(&pushed);
    let stored = registry.digest("acme/shellharden", &sources.version());
    assert_eq!(stored, Some(pushed.printed_digest()));
    // The token has expired according to its expiry time, but is used for the whole push.
    assert_eq!(aws.requests(), 1);

    let reference = format!("{name}/acme/shellharden:{}", sources.version());
    let output = sources.sibling("pulled");
    let arguments = ["pull", &reference, "--output", output.to_str().unwrap()].map(str::to_owned);
    let pull = home.cargo_oci(arguments.into_iter().chain(flags));
    assert_no_secret_shown(&aws.configure(pull).succeeds());
    let pulled = std::fs::read(output.join("shellharden")).unwrap();
    assert_eq!(pulled, sources.built_file("shellharden"));
}

#[test]
fn registry_with_similar_name_receives_no_credential() {
    require!(DockerRegistry, Moto, Shellharden);
    let (aws, registry, sources) = (Aws::start(), Registry::ecr(), Sources::shellharden());
    for host in [
        "secret-registry.example",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example",
    ] {
        let (name, flags) = resolve_as(host, &registry);
        let refused = push(&Home::new(), &name, &flags, &sources);
        assert_no_secret_shown(&aws.configure(refused).fails_with(3));
    }
    assert_eq!(aws.requests(), 0);
    assert_eq!(registry.tags("acme/shellharden"), [""; 0]);
}

#[test]
fn missing_aws_keys_are_named_in_hint() {
    require!(DockerRegistry, Shellharden);
    let (registry, sources) = (Registry::ecr(), Sources::shellharden());
    let host = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
    let (name, flags) = resolve_as(host, &registry);
    let refused = push(&Home::new(), &name, &flags, &sources)
        .with("AWS_EC2_METADATA_DISABLED", "true")
        .fails_with(3);
    assert!(refused.stderr.contains("AWS credentials"), "{refused}");
}

#[test]
fn public_registry_push_uses_aws_token() {
    require!(DockerRegistry, Shellharden);
    let (aws, registry) = (AwsPublic::start(), Registry::ecr_public());
    let sources = Sources::shellharden();
    let (name, flags) = resolve_as("public.ecr.aws", &registry);
    let home = Home::new();
    assert_no_secret_shown(&push(&home, &name, &flags, &sources).fails_with(3));
    assert_eq!(registry.tags("acme/shellharden"), [""; 0]);

    let pushed = aws
        .configure(push(&home, &name, &flags, &sources))
        .succeeds();
    assert_no_secret_shown(&pushed);
    let stored = registry.digest("acme/shellharden", &sources.version());
    assert_eq!(stored, Some(pushed.printed_digest()));
    assert_eq!(aws.requests(), 1);
    let tokens = registry.tokens().take();
    let is_granted = tokens.iter().filter(|request| request.is_granted);
    let users: Vec<_> = is_granted.map(|request| request.user.as_deref()).collect();
    assert!(!users.is_empty() && users.iter().all(|user| *user == Some("AWS")));
}

#[test]
fn public_registry_pull_sends_no_request_to_aws() {
    require!(DockerRegistry, Shellharden);
    let (aws, registry) = (AwsPublic::start(), Registry::ecr_public());
    let sources = Sources::shellharden();
    let (name, flags) = resolve_as("public.ecr.aws", &registry);
    let home = Home::new();
    aws.configure(push(&home, &name, &flags, &sources))
        .succeeds();
    let _ = registry.tokens().take();

    let reference = format!("{name}/acme/shellharden:{}", sources.version());
    for has_keys in [false, true] {
        let home = Home::new();
        let output = home.path().join("pulled");
        let arguments = ["pull", &reference, "--output", output.to_str().unwrap()];
        let arguments = arguments.map(str::to_owned).into_iter();
        let pull = home.cargo_oci(arguments.chain(flags.iter().cloned()));
        let pull = if has_keys { aws.configure(pull) } else { pull };
        pull.succeeds();
        let pulled = std::fs::read(output.join("shellharden")).unwrap();
        assert_eq!(pulled, sources.built_file("shellharden"));
    }
    // Only the push sent a request to AWS. All tokens of the pulls are anonymous.
    assert_eq!(aws.requests(), 1);
    let tokens = registry.tokens().take();
    assert!(!tokens.is_empty() && tokens.iter().all(|request| request.user.is_none()));
}
