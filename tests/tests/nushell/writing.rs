//! Commands that copy, tag and delete packages that `cargo oci push` published.

use e2e::program::Home;
use e2e::registry::Registry;
use e2e::release::image_layout;
use e2e::server::Server;
use e2e::sources::{Sources, host_triple};
use e2e::{require, sha256};
use serde_json::json;
use testkit::registry::{FakeRegistry, Switches};
use testkit::server::Response;

fn registry_with_widgets() -> (Registry, Sources) {
    let (registry, sources) = (Registry::open(), Sources::widgets());
    Home::new()
        .cargo_oci(["push", "--registry", registry.host()])
        .within(sources.path())
        .succeeds();
    (registry, sources)
}

#[test]
fn release_copied_between_registries_is_pulled_as_files() {
    require!(DockerRegistry, Nu);
    let ((from, sources), to) = (registry_with_widgets(), Registry::open());
    let home = Home::new();
    let copied = home.nu_value(&format!(
        "oci tags {}/widgets --all | oci copy {}/mirror/ | sort-by reference",
        from.host(),
        to.host()
    ));
    let row = |tag: &str| {
        json!({
            "reference": format!("{}/mirror/widgets:{tag}", to.host()),
            "action": "copied",
            "digest": from.digest("widgets", tag),
        })
    };
    let target_tag = sources.target_tag();
    assert_eq!(copied, json!([row("1.2.3"), row(&target_tag)]));
    for tag in ["1.2.3", &target_tag] {
        assert_eq!(
            to.digest("mirror/widgets", tag),
            from.digest("widgets", tag)
        );
    }
    let files = home.nu_value(&format!(
        "oci pull {}/mirror/widgets --output bin | where kind == bin | get path",
        to.host()
    ));
    let bin = home.path().join("bin");
    assert_eq!(files, json!([bin.join("round"), bin.join("square")]));
    let round = std::fs::read(bin.join("round")).expect("a program");
    assert_eq!(round, sources.built_file("round"));
    // The extracted program is executable.
    let run = home.nu("^bin/round; 'ran'").succeeds();
    assert!(run.stdout.contains("ran"), "{run}");
}

#[test]
fn archived_package_is_pulled_as_files() {
    require!(DockerRegistry, Nu);
    let (registry, sources) = (Registry::open(), Sources::widgets());
    let home = Home::new();
    home.cargo_oci(["push", "--archive", "--registry", registry.host()])
        .within(sources.path())
        .succeeds();
    let files = home.nu_value(&format!(
        "oci pull {}/widgets --output bin --include [round square] | get path | path basename",
        registry.host()
    ));
    assert_eq!(files, json!(["round", "square"]));
    let round = std::fs::read(home.path().join("bin/round")).expect("a program");
    assert_eq!(round, sources.built_file("round"));
    home.nu("^bin/round").succeeds();
}

#[test]
fn inspect_returns_package_metadata() {
    require!(DockerRegistry, Nu);
    let (registry, _) = registry_with_widgets();
    let page = Home::new().nu_value(&format!(
        "oci inspect {}/widgets | {{name: $in.name, version: $in.version, targets: $in.targets.target}}",
        registry.host()
    ));
    let expected = json!({"name": "widgets", "version": "1.2.3", "targets": [host_triple()]});
    assert_eq!(page, expected);
    let config = Home::new().nu_value(&format!(
        "oci config {}/widgets | select name version target",
        registry.host()
    ));
    let expected = json!({"name": "widgets", "version": "1.2.3", "target": host_triple()});
    assert_eq!(config, expected);
}

#[test]
fn delete_of_last_target_deletes_index() {
    require!(DockerRegistry, Nu);
    let (registry, sources) = registry_with_widgets();
    let tag = sources.target_tag();
    let home = Home::new();
    let rows = |flag: &str| {
        home.nu_value(&format!(
            "oci delete {}/widgets:{tag} {flag} | select action",
            registry.host()
        ))
    };
    let would = json!([{"action": "would delete"}, {"action": "would delete"}]);
    assert_eq!(rows("--dry-run"), would);
    assert_eq!(registry.tags("widgets").len(), 2);
    assert_eq!(
        rows(""),
        json!([{"action": "deleted"}, {"action": "deleted"}])
    );
    assert_eq!(registry.tags("widgets"), [""; 0]);
}

#[test]
fn whoami_names_credential_in_use() {
    require!(DockerRegistry, Nu);
    let registry = Registry::with_passwords();
    let home = Home::for_user(registry.host());
    let row = home.nu_value(&format!(
        "oci ping {} | select access authenticated credential_source rate_limit",
        registry.host()
    ));
    let location = home.docker_config().join("config.json");
    let expected = json!({
        "access": "authenticated",
        "authenticated": true,
        "credential_source": format!("docker config `{}`", location.display()),
        "rate_limit": null,
    });
    assert_eq!(row, expected);
    let access = Home::new().nu_value(&format!("oci ping {} | get access", registry.host()));
    assert_eq!(access, "login required");
    let other = Home::with_login(registry.host(), "carol", "wrong");
    let code = other.nu_error_code(&format!("oci ping {}", registry.host()));
    assert_eq!(code, "oci::unauthenticated");
}

#[test]
fn copied_referrer_missing_in_list_prints_warning() {
    require!(Nu);
    let registry = FakeRegistry::start_with(Switches::default(), |request, _, _| {
        let list = Response::new(200)
            .header("Content-Type", "application/vnd.oci.image.index.v1+json")
            .body(r#"{"schemaVersion":2,"manifests":[]}"#);
        request.target.contains("/referrers/").then_some(list)
    });
    let home = Home::new();
    let image = image_layout(&home.path().join("image"));
    std::fs::write(home.path().join("a.spdx.json"), "{}").unwrap();
    let attached = home.cargo_oci(["attach", "oci:image:1.0", "a.spdx.json"]);
    let attached = attached.succeeds().printed_digest();
    let location = format!("{}/acme/widgets", registry.server.host());
    let copied = home.nu(&format!(
        "oci copy oci:image:1.0 {location} --referrers | get action | to nuon"
    ));
    let copied = copied.succeeds();
    assert_eq!(copied.stdout.trim(), "[copied]", "{copied}");
    let warning = format!(
        "Warning: the registry accepted `{location}@{attached}`, but does not list it as a referrer of {image}\n"
    );
    assert_eq!(copied.stderr, warning);
}

#[test]
fn plugin_exits_with_the_shell_while_it_waits_for_a_reader() {
    require!(Nu);
    let home = Home::new();
    let pipe = home.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let server = Server::start(|_, _| Response::new(200).body("content"));
    let blob = format!("{}/a@{}", server.host(), sha256(b"content"));
    let script = format!("oci blob {blob} --output {}", pipe.display());
    for signal in ["INT", "KILL"] {
        let requests = server.count("GET");
        // The run finishes only when stderr is closed, and the plugin shares stderr with the shell.
        let run = home.nu(&script);
        let ended = run.send_signal_when(signal, || server.count("GET") > requests);
        assert_ne!(ended.code, Some(0), "{ended}");
    }
}
