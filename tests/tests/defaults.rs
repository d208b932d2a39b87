//! Defaults for all projects: `oci.toml` in cargo's home directory, and the variables of GitLab CI.

use std::fs;

use e2e::program::{Home, Run};
use e2e::registry::{PASSWORD, Registry, USER};
use e2e::require;
use e2e::sources::{Sources, host_triple};

fn push(home: &Home, sources: &Sources, more: &[&str]) -> Run {
    let fixed = ["push", "--file=round=Cargo.toml", "--target", host_triple()];
    home.cargo_oci(fixed.iter().chain(more).copied())
        .within(sources.path())
}

#[test]
fn oci_toml_sets_registry_and_connection() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let port = registry.host().rsplit(':').next().unwrap();
    // The host name is not a loopback name, so plain HTTP is not the default.
    let host = format!("registry.test:{port}");
    let there = format!("--resolve=registry.test:{port}:127.0.0.1");
    let file = home.path().join(".cargo/oci.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    let once = ["--retries=0", &there];

    write(&format!("registry = \"{host}/team\"\n"));
    push(&home, &sources, &once).fails_with(6);
    write(&format!(
        "registry = \"{host}/team\"\n[registries.\"{host}\"]\nplain-http = true\n"
    ));
    let pushed = push(&home, &sources, &once).succeeds();
    assert!(
        pushed
            .stdout
            .starts_with(&format!("{host}/team/widgets:1.2.3@")),
        "{pushed}"
    );
    assert_eq!(registry.tags("team/widgets").len(), 2);
    let tags = ["tags", &format!("{host}/team/widgets"), &there];
    home.cargo_oci(tags).succeeds();

    // The flag applies to all registries.
    let tls = [&once[..], &["--plain-http=false"]].concat();
    push(&home, &sources, &tls).fails_with(6);
    // All other sources of the `registry` setting take precedence over `oci.toml`.
    let out = push(&home, &sources, &[]).with("CARGO_OCI_REGISTRY", "oci:variable");
    out.succeeds();
    assert!(sources.path().join("variable/widgets").is_dir());
    sources.append(
        "Cargo.toml",
        "[package.metadata.oci]\nregistry = \"oci:metadata\"",
    );
    push(&home, &sources, &[]).succeeds();
    assert!(sources.path().join("metadata/widgets").is_dir());

    // Relative certificate paths are resolved against the directory of `oci.toml`.
    write(&format!(
        "[registries.\"{host}\"]\nca-file = \"ours.pem\"\n"
    ));
    let refused = home.cargo_oci(tags).fails_with(2);
    let missing = home.path().join(".cargo/ours.pem");
    assert!(
        refused.stderr.contains(missing.to_str().unwrap()),
        "{refused}"
    );
}

#[test]
fn invalid_oci_toml_fails_every_command_that_reads_it() {
    let home = Home::new();
    let file = home.path().join(".cargo/oci.toml");
    fs::write(&file, "registry = \"oci:here\"\n[registry]\n").unwrap();
    for command in [&["tags", "127.0.0.1:1/widgets"][..], &["push"], &["init"]] {
        let refused = home.cargo_oci(command.iter().copied());
        let refused = refused.fails_with(2).assert_no_work_started();
        assert!(refused.stderr.contains(file.to_str().unwrap()), "{refused}");
        assert!(refused.stderr.contains("in line 2"), "{refused}");
    }
    home.cargo_oci(["completions", "bash"]).succeeds();
    home.cargo_oci(["man"]).succeeds();
}

#[test]
fn gitlab_job_variables_set_registry_and_credential() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::with_passwords(), Home::new(), Sources::widgets());
    let host = registry.host();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let in_gitlab = |run: Run| {
        run.with("GITLAB_CI", "true")
            .with("CI", "true")
            .with("CI_REGISTRY", host)
            .with("CI_REGISTRY_IMAGE", format!("{host}/Acme/tools"))
            .with("CI_REGISTRY_USER", USER)
            .with("CI_REGISTRY_PASSWORD", PASSWORD)
            .with("CI_COMMIT_SHA", commit)
            .with("CI_PROJECT_URL", "https://gitlab.test/acme/tools")
    };
    let who = in_gitlab(home.cargo_oci(["whoami", host])).succeeds();
    assert_eq!(who.stdout, format!("{USER}\n"));
    assert!(
        who.stderr
            .contains("Using carol from `CI_REGISTRY_PASSWORD`"),
        "{who}"
    );
    // `init` suggests the registry that `push` uses.
    let init = home.cargo_oci(["init"]).within(sources.path());
    let proposed = in_gitlab(init).succeeds();
    assert!(
        proposed.stdout.contains(&format!("\"{host}/acme/tools\"")),
        "{proposed}"
    );
    sources.append("Cargo.toml", &proposed.stdout);
    let pushed = in_gitlab(push(&home, &sources, &[])).succeeds();
    let name = format!("{host}/acme/tools/widgets:1.2.3@");
    assert!(pushed.stdout.starts_with(&name), "{pushed}");
    assert!(!pushed.stderr.contains(PASSWORD), "{pushed}");
    let tag = sources.target_tag();
    let (_, manifest) = registry.manifest("acme/tools/widgets", &tag).unwrap();
    let said = &manifest["annotations"];
    assert_eq!(said["org.opencontainers.image.revision"], commit);
    let source = "https://gitlab.test/acme/tools";
    assert_eq!(said["org.opencontainers.image.source"], source);
    // The password is sent only to the registry of `CI_REGISTRY`.
    let other = Registry::with_passwords();
    let elsewhere = push(&home, &sources, &["--registry", other.host()]);
    in_gitlab(elsewhere).fails_with(3);
}
