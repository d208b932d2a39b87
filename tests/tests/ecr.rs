//! Amazon's registries: AWS is asked for the password, and nobody else hears of it.

use e2e::aws::{Aws, SECRET_KEY};
use e2e::program::{Home, Outcome, Run};
use e2e::registry::Registry;
use e2e::require;
use e2e::sources::Sources;

/// The password that AWS gives, which is a secret too.
const TOKEN: &str = "123456789012-auth-token";

/// `HOST:PORT` under a name that is not this machine's, and the flags with which it is.
fn named(host: &str, registry: &Registry) -> (String, [String; 3]) {
    let (address, port) = registry.host().split_once(':').expect("a host with a port");
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
fn shows_no_secret(outcome: &Outcome) {
    for secret in [SECRET_KEY, TOKEN] {
        let shown = outcome.stdout.contains(secret) || outcome.stderr.contains(secret);
        assert!(!shown, "the secret is shown: {outcome}");
    }
}

#[test]
fn keys_of_aws_are_enough() {
    require!(DockerRegistry, Moto, Shellharden);
    let (aws, registry, sources) = (Aws::start(), Registry::of_amazon(), Sources::shellharden());
    let host = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
    let (name, flags) = named(host, &registry);
    let home = Home::new();
    let pushed = aws
        .known_to(push(&home, &name, &flags, &sources))
        .succeeds();
    shows_no_secret(&pushed);
    let stored = registry.digest("acme/shellharden", &sources.target_tag());
    assert_eq!(stored, Some(pushed.printed_digest()));
    // Its token says that it ended years ago, and does for the whole push all the same.
    assert_eq!(aws.requests(), 1);

    let reference = format!("{name}/acme/shellharden:{}", sources.version());
    let output = sources.beside("pulled");
    let arguments = ["pull", &reference, "--output", output.to_str().unwrap()].map(str::to_owned);
    let pull = home.cargo_oci(arguments.into_iter().chain(flags));
    shows_no_secret(&aws.known_to(pull).succeeds());
    let pulled = std::fs::read(output.join("shellharden")).unwrap();
    assert_eq!(pulled, sources.built("shellharden"));
}

#[test]
fn a_registry_with_a_similar_name_gets_nothing() {
    require!(DockerRegistry, Moto, Shellharden);
    let (aws, registry, sources) = (Aws::start(), Registry::of_amazon(), Sources::shellharden());
    for host in [
        "secret-registry.example",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example",
    ] {
        let (name, flags) = named(host, &registry);
        let refused = push(&Home::new(), &name, &flags, &sources);
        shows_no_secret(&aws.known_to(refused).fails_with(3));
    }
    assert_eq!(aws.requests(), 0);
    assert_eq!(registry.tags("acme/shellharden"), [""; 0]);
}

#[test]
fn without_keys_the_help_says_that_aws_was_thought_of() {
    require!(DockerRegistry, Shellharden);
    let (registry, sources) = (Registry::of_amazon(), Sources::shellharden());
    let host = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
    let (name, flags) = named(host, &registry);
    let refused = push(&Home::new(), &name, &flags, &sources)
        .with("AWS_EC2_METADATA_DISABLED", "true")
        .fails_with(3);
    assert!(refused.stderr.contains("AWS credentials"), "{refused}");
}
