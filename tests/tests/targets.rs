//! Choice of a target by the commands that read, and digests of artifacts.

use e2e::program::{Home, Run};
use e2e::sources::{Sources, host_triple};

const OTHER: &str = "s390x-unknown-linux-gnu";

/// Pushes one file for each target to the layout `out/widgets` of the home directory.
fn push(home: &Home, targets: &[&str], more: &[&str]) {
    let sources = Sources::widgets();
    sources.write("made", "x");
    let registry = format!("oci:{}", home.path().join("out").display());
    for target in targets {
        let fixed = ["push", "--registry", &registry, "--file=round=made"];
        let target = ["--target", target];
        let arguments = fixed.into_iter().chain(target);
        home.cargo_oci(arguments.chain(more.iter().copied()))
            .within(sources.path())
            .succeeds();
    }
}

fn run(home: &Home, arguments: &[&str]) -> Run {
    home.cargo_oci(arguments.iter().copied())
}

#[test]
fn config_and_inspect_select_target_of_this_machine() {
    let home = Home::new();
    push(&home, &[OTHER, host_triple()], &[]);
    let config = run(&home, &["config", "oci:out/widgets"]).succeeds();
    let config: serde_json::Value = serde_json::from_str(&config.stdout).unwrap();
    assert_eq!(config["target"], host_triple());
    let page = run(&home, &["inspect", "oci:out/widgets"]).succeeds();
    assert!(page.stdout.contains(OTHER), "an index has all: {page}");

    // The version tag does not exist yet.
    push(&home, &[OTHER, host_triple()], &["--no-index", "--tag=b"]);
    let config = run(&home, &["config", "oci:out/widgets:b"]).succeeds();
    assert!(config.stdout.contains(host_triple()), "{config}");
    let page = run(&home, &["inspect", "oci:out/widgets:b"]).succeeds();
    assert!(page.stdout.contains(host_triple()), "{page}");
    run(&home, &["pull", "oci:out/widgets:b", "-o", "b"]).succeeds();
}

#[test]
fn manifest_and_digest_without_index_list_target_tags() {
    let home = Home::new();
    push(&home, &[OTHER, host_triple()], &["--no-index"]);
    for verb in ["manifest", "digest"] {
        let absent = run(&home, &[verb, "oci:out/widgets:1.2.3"]).fails_with(4);
        for target in [OTHER, host_triple()] {
            let tag = format!("`oci:out/widgets:1.2.3__{target}`");
            assert!(absent.stderr.contains(&tag), "{absent}");
        }
        let target = [verb, "oci:out/widgets:1.2.3", "--target", OTHER];
        run(&home, &target).succeeds();
    }
}

#[test]
fn digest_prints_only_digest_for_each_location() {
    e2e::require!(DockerRegistry);
    let (home, registry) = (Home::new(), e2e::registry::Registry::open());
    push(&home, &[OTHER, host_triple()], &[]);
    let remote = format!("{}/widgets", registry.host());
    run(&home, &["cp", "oci:out/widgets:1.2.3", &remote]).succeeds();
    run(&home, &["cp", "oci:out/widgets:1.2.3", "oci-archive:w.tar"]).succeeds();
    assert!(home.path().join("w.tar").exists());
    let index = registry.digest("widgets", "1.2.3").unwrap();
    let manifest = ["manifest", &remote, "--raw", "--target", OTHER];
    let target = run(&home, &manifest).succeeds().stdout;
    let target = e2e::sha256(target.as_bytes());
    for reference in [&remote, "oci:out/widgets", "oci-archive:w.tar:1.2.3"] {
        let digest = run(&home, &["digest", reference]).succeeds();
        assert_eq!(digest.stdout, format!("{index}\n"), "{reference}");
        let digest = run(&home, &["digest", reference, "--target", OTHER]).succeeds();
        assert_eq!(digest.stdout, format!("{target}\n"), "{reference}");
    }
    let logged = run(&home, &["digest", &format!("{remote}:1.2.3"), "-v"]).succeeds();
    assert!(logged.stderr.contains("HEAD"), "{logged}");
    assert!(!logged.stderr.contains("GET"), "{logged}");
    let listed = run(&home, &["ls", &remote]).succeeds();
    assert_eq!(
        listed.stdout,
        run(&home, &["tags", &remote]).succeeds().stdout
    );
}

#[test]
fn incomplete_version_is_warned_about_by_every_reader() {
    let home = Home::new();
    push(&home, &[host_triple()], &["--no-index"]);
    let warning = "warning: 1.2.3 has no version tag yet (targets published so far: 1)\n";
    let named = "oci:out/widgets:1.2.3";
    for line in [
        &["install", "oci:out/widgets@1.2.3"][..],
        &["pull", named],
        &["inspect", named],
        &["config", named],
        &["digest", named, "--target", host_triple()],
        &["manifest", named, "--target", host_triple()],
    ] {
        let read = run(&home, line).succeeds();
        assert_eq!(read.stderr.matches(warning).count(), 1, "{read}");
    }
    let absent = run(&home, &["pull", named, "--target", OTHER]).fails_with(4);
    let advice = format!(
        "`1.2.3` is not published for `{OTHER}` yet; targets published so far: {}\n",
        host_triple()
    );
    assert!(absent.stderr.contains(&advice), "{absent}");
    push(&home, &[host_triple()], &[]);
    let complete = run(&home, &["config", named]).succeeds();
    assert_eq!(complete.stderr, "");
}
