//! Registries that require authentication.

use e2e::program::{Home, Outcome};
use e2e::registry::{PASSWORD, Registry, USER};
use e2e::require;
use e2e::sources::Sources;
use e2e::token::TokenPolicy;

/// Wrong password that no output may contain.
const CANARY: &str = "canary-7f3a";

fn registries() -> [Registry; 2] {
    [
        Registry::with_passwords(),
        Registry::with_tokens(TokenPolicy::default()),
    ]
}

fn push(home: &Home, host: &str, sources: &Sources) -> Outcome {
    let registry = format!("{host}/acme");
    home.cargo_oci(["push", "--registry", &registry])
        .with("RUST_LOG", "trace")
        .within(sources.path())
        .outcome()
}

#[test]
fn credential_of_docker_config_is_used() {
    require!(DockerRegistry, Shellharden);
    for registry in registries() {
        let (host, sources) = (registry.host(), Sources::shellharden());
        let home = Home::for_user(host);
        let pushed = push(&home, host, &sources).succeeds();
        let stored = registry.digest("acme/shellharden", &sources.version());
        assert_eq!(stored, Some(pushed.printed_digest()));

        let reference = format!("{host}/acme/shellharden:{}", sources.version());
        let output = sources.sibling("pulled");
        home.cargo_oci(["pull", &reference, "--output", output.to_str().unwrap()])
            .succeeds();
        let pulled = std::fs::read(output.join("shellharden")).unwrap();
        assert_eq!(pulled, sources.built_file("shellharden"));
    }
}

#[test]
fn token_scopes_match_operations() {
    require!(DockerRegistry, Shellharden);
    let registry = Registry::with_tokens(TokenPolicy::default());
    let (host, sources) = (registry.host(), Sources::shellharden());
    push(&Home::for_user(host), host, &sources).succeeds();
    let requests = registry.tokens().take();
    let scopes: Vec<_> = requests
        .iter()
        .flat_map(|request| &request.scopes)
        .collect();
    assert!(!scopes.is_empty());
    for scope in &scopes {
        assert!(
            scope.starts_with("repository:acme/shellharden:"),
            "{requests:#?}"
        );
    }
    assert!(
        scopes.iter().any(|scope| scope.contains("push")),
        "{requests:#?}"
    );
    for request in &requests {
        assert!(request.is_granted, "{request:?}");
        assert_eq!(request.user.as_deref(), Some(USER));
    }
}

#[test]
fn anonymous_pull_is_allowed_and_push_is_rejected() {
    require!(DockerRegistry, Shellharden);
    let policy = TokenPolicy {
        allows_anonymous_pull: true,
        ..TokenPolicy::default()
    };
    let registry = Registry::with_tokens(policy);
    let (host, sources) = (registry.host(), Sources::shellharden());
    push(&Home::for_user(host), host, &sources).succeeds();

    let (anonymous, output) = (Home::new(), sources.sibling("pulled"));
    let reference = format!("{host}/acme/shellharden:{}", sources.version());
    anonymous
        .cargo_oci(["pull", &reference, "--output", output.to_str().unwrap()])
        .succeeds();
    let pulled = std::fs::read(output.join("shellharden")).unwrap();
    assert_eq!(pulled, sources.built_file("shellharden"));

    let before = registry.tags("acme/shellharden");
    sources.append(
        "src/main.rs",
        "#[used]\nstatic CHANGED: [u8; 7] = *b\"changed\";",
    );
    let tag = format!("{host}/acme/shellharden:nightly");
    anonymous
        .cargo_oci(["push", &tag])
        .within(sources.path())
        .fails_with(3);
    assert_eq!(registry.tags("acme/shellharden"), before);
}

#[test]
fn authentication_error_lists_searched_sources() {
    require!(DockerRegistry, Shellharden);
    for registry in registries() {
        let (host, sources) = (registry.host(), Sources::shellharden());
        for home in [Home::new(), Home::with_login(host, USER, CANARY)] {
            let refused = push(&home, host, &sources).fails_with(3);
            let help = refused
                .stderr
                .lines()
                .filter(|line| line.starts_with("help: "));
            let help = help.collect::<Vec<_>>().join("\n").to_lowercase();
            assert!(
                help.contains("docker"),
                "the help names docker's file: {refused}"
            );
            assert!(
                help.contains(host),
                "the help names the registry: {refused}"
            );
        }
        assert_eq!(registry.tags("acme/shellharden"), [""; 0]);
    }
}

#[test]
fn password_is_never_shown() {
    require!(DockerRegistry, Shellharden);
    for registry in registries() {
        let (host, sources) = (registry.host(), Sources::shellharden());
        let secrets = |password: &str| {
            use base64::Engine as _;
            let pair = format!("{USER}:{password}");
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            [password.to_owned(), encoded]
        };
        let refused = push(&Home::with_login(host, USER, CANARY), host, &sources).fails_with(3);
        let pushed = push(&Home::for_user(host), host, &sources).succeeds();
        for (outcome, password) in [(refused, CANARY), (pushed, PASSWORD)] {
            for secret in secrets(password) {
                let shown = outcome.stdout.contains(&secret) || outcome.stderr.contains(&secret);
                assert!(!shown, "the output contains a secret: {outcome}");
            }
        }
    }
}
