//! Commands that read packages that `cargo oci push` published: tags, manifests, catalogs, errors and credentials.

use e2e::loopback::{ClosedPort, send};
use e2e::program::Home;
use e2e::registry::Registry;
use e2e::server::{Response, Server};
use e2e::sources::{Sources, host_triple};
use e2e::token::TokenPolicy;
use e2e::{require, sha256};
use hyper::Request;
use serde_json::{Value, json};

/// Starts a registry that contains `widgets` 1.2.3.
fn registry_with_widgets() -> (Registry, Sources) {
    let (registry, sources) = (Registry::open(), Sources::widgets());
    Home::new()
        .cargo_oci(["push", "--registry", registry.host()])
        .within(sources.path())
        .succeeds();
    (registry, sources)
}

/// Adds a tag to the manifest of another tag.
fn add_tag(registry: &Registry, repository: &str, old: &str, new: &str) {
    let path = format!("/v2/{repository}/manifests/{old}");
    let stored = registry.request(hyper::Method::GET, &path);
    let put = Request::put(format!(
        "http://{}/v2/{repository}/manifests/{new}",
        registry.host()
    ))
    .header("Content-Type", &stored.headers()["Content-Type"])
    .body(stored.body().clone());
    assert_eq!(send(put.expect("the request is valid")).status(), 201);
}

#[test]
fn tags_returns_one_row_per_tag() {
    require!(DockerRegistry, Nu);
    let (registry, sources) = registry_with_widgets();
    let host = registry.host();
    for new in ["1.9.0", "2.0.0", "latest"] {
        add_tag(&registry, "widgets", "1.2.3", new);
    }
    let home = Home::new();
    let count = home.nu_value(&format!(
        "oci tags {host}/widgets --all | where name =~ '^1' | length"
    ));
    // The three tags are `1.2.3`, its target tag, and `1.9.0`.
    assert_eq!(count, 3);
    let rows = home.nu_value(&format!(
        "oci tags {host}/widgets --all | sort-by name | select name reference"
    ));
    let names = ["1.2.3".to_owned(), sources.target_tag()].into_iter();
    let names = names.chain(["1.9.0", "2.0.0", "latest"].map(str::to_owned));
    let expected: Vec<_> = names
        .map(|name| json!({"name": name, "reference": format!("{host}/widgets:{name}")}))
        .collect();
    assert_eq!(rows, Value::Array(expected));
}

#[test]
fn long_tags_include_sizes_and_targets() {
    require!(DockerRegistry, Nu);
    let (registry, sources) = registry_with_widgets();
    let home = Home::new();
    let tags = format!(
        "oci tags {}/widgets --long | where name == '1.2.3' | first",
        registry.host()
    );
    let row = home.nu_value(&format!(
        "{tags} | {{ targets: $in.targets, digest: $in.digest }}"
    ));
    let index = registry.digest("widgets", "1.2.3");
    assert_eq!(row, json!({"targets": [host_triple()], "digest": index}));
    let kind = home.nu_value(&format!("{tags} | get size | describe"));
    assert_eq!(kind, "filesize");

    let (_, manifest) = registry.manifest("widgets", &sources.target_tag()).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let sizes = layers
        .chain([&manifest["config"]])
        .map(|it| it["size"].as_u64().unwrap());
    let size = home.nu_value(&format!("{tags} | get size | into int"));
    assert_eq!(size, sizes.sum::<u64>());
}

#[test]
fn unreadable_tag_prints_warning_and_keeps_its_row() {
    require!(Nu);
    let server = Server::start(|request, _| {
        let is_list = request.path().ends_with("/tags/list");
        Response::new(200).body(if is_list {
            r#"{"tags":["1.0.0"]}"#
        } else {
            "<html>"
        })
    });
    let name = format!("{}/some", server.host());
    let home = Home::new();
    let run = home.nu(&format!("oci tags {name} --long | get digest | to nuon"));
    let run = run.succeeds();
    assert_eq!(run.stdout.trim(), "[null]", "{run}");
    let warning = format!("Warning: no details of `{name}:1.0.0`: failed to");
    assert!(run.stderr.starts_with(&warning), "{run}");
    assert_eq!(run.stderr.lines().count(), 1, "{run}");
}

#[test]
fn invalid_tags_are_omitted_with_one_warning() {
    require!(Nu);
    let server = Server::start(|_, _| Response::new(200).body(r#"{"tags":["1.0.0","<none>"]}"#));
    let name = format!("{}/some", server.host());
    let home = Home::new();
    let run = home.nu(&format!("oci tags {name} | get name | to nuon"));
    let run = run.succeeds();
    assert_eq!(run.stdout.trim(), r#"["1.0.0"]"#, "{run}");
    let warning = format!("Warning: 1 name listed by `{name}` is invalid and omitted: `<none>`\n");
    assert_eq!(run.stderr, warning);
}

#[test]
fn list_without_new_names_is_an_error() {
    require!(Nu);
    let server = Server::start(|request, earlier| {
        let link = format!("<{}?page={}>; rel=next", request.path(), earlier + 1);
        let list = if request.path().ends_with("/tags/list") {
            r#"{"tags":["1.0.0"]}"#
        } else {
            r#"{"repositories":[]}"#
        };
        Response::new(200).header("Link", link).body(list)
    });
    let (home, host) = (Home::new(), server.host());
    for list in [
        format!("oci tags {host}/some"),
        format!("oci catalog {host}"),
    ] {
        let run = home.nu(&format!("{list} | collect | to nuon")).outcome();
        assert!(run.stderr.contains("oci::protocol"), "{run}");
        let text = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("more than 100 consecutive pages"), "{run}");
    }
}

#[test]
fn warning_header_of_a_registry_is_printed() {
    require!(Nu);
    let server = Server::start(|_, _| {
        let list = Response::new(200).body(r#"{"tags":["1.0.0"]}"#);
        list.header("Warning", r#"299 - "read-only soon""#)
    });
    let (home, host) = (Home::new(), server.host());
    let run = home.nu(&format!("oci tags {host}/some | get name | to nuon"));
    let run = run.succeeds();
    assert_eq!(run.stdout.trim(), r#"["1.0.0"]"#, "{run}");
    assert_eq!(
        run.stderr, "Warning: warning from `127.0.0.1`: read-only soon\n",
        "{run}"
    );
}

#[test]
fn retry_prints_a_warning_except_during_completion() {
    require!(Nu);
    let unavailable_once = || {
        Server::start(|_, earlier| match earlier {
            0 => Response::new(503),
            _ => Response::new(200).body(r#"{"tags":["1.0.0"]}"#),
        })
    };
    let (home, server) = (Home::new(), unavailable_once());
    let name = format!("{}/some", server.host());
    let run = home.nu(&format!("oci tags {name} | get name | to nuon"));
    let run = run.succeeds();
    assert_eq!(run.stdout.trim(), r#"["1.0.0"]"#, "{run}");
    let host = server.host();
    let warning = format!("Warning: `{host}` answered 503 Service Unavailable (4 tries remaining)");
    assert!(run.stderr.starts_with(&warning), "{run}");
    assert_eq!(run.stderr.lines().count(), 1, "{run}");

    // A slow completion returns before the list has arrived, so the completion is repeated.
    let server = unavailable_once();
    let name = format!("{}/some", server.host());
    let run = home.nu(&format!(
        "oci reference a.b/c; mut offered = []; mut waits = 0; \
         while ($offered | is-empty) and $waits < 100 {{ \
           if $waits > 0 {{ sleep 100ms }}; $waits += 1; \
           $offered = 'oci manifest {name}:' | commandline complete \
         }}; \
         $offered | to nuon"
    ));
    let run = run.succeeds();
    assert_eq!(run.stdout.trim(), format!(r#"["{name}:1.0.0"]"#), "{run}");
    assert_eq!(run.stderr, "");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn manifest_returns_record_with_layers() {
    require!(DockerRegistry, Nu);
    let (registry, sources) = registry_with_widgets();
    let layers = Home::new().nu_value(&format!(
        "oci manifest {}/widgets:1.2.3 --target {} | get layers | select title size digest | \
         update size {{ into int }} | sort-by title",
        registry.host(),
        host_triple()
    ));
    let expected =
        [("libshapes", ".so"), ("round", ""), ("square", "")].map(|(name, extension)| {
            let file = sources.built_file(&format!("{name}{extension}"));
            let title = format!("{name}-1.2.3-{}{extension}", host_triple());
            json!({"title": title, "size": file.len(), "digest": sha256(&file)})
        });
    assert_eq!(layers, json!(expected));
}

#[test]
fn inspect_is_readable_in_a_terminal_of_100_columns() {
    require!(DockerRegistry, Nu);
    let (registry, _sources) = registry_with_widgets();
    // Nushell draws a column of one character if only `digest` follows a column that does not fit.
    let inspect = format!("oci inspect {}/widgets", registry.host());
    for (shown, most) in [(inspect.clone(), 30), (inspect + " | get targets", 10)] {
        let lines = format!("{shown} | table --expand --width 100 | lines | length");
        let lines = Home::new().nu_value(&lines).as_u64().unwrap();
        assert!(lines <= most, "{shown}: {lines} lines");
    }
}

#[test]
fn catalog_rows_are_accepted_by_tags() {
    require!(DockerRegistry, Nu);
    let (registry, _) = registry_with_widgets();
    let (home, host) = (Home::new(), registry.host());
    let rows = home.nu_value(&format!("oci catalog {host}"));
    let expected = json!([{"name": "widgets", "reference": format!("{host}/widgets")}]);
    assert_eq!(rows, expected);
    let pipeline = format!(
        "oci catalog {host} | each {{ oci tags --all $in.reference }} | flatten | get name | sort"
    );
    let names = home.nu_value(&pipeline);
    assert_eq!(names, json!(registry.tags("widgets")));
}

#[test]
fn errors_contain_error_codes() {
    require!(DockerRegistry, Nu);
    let registry = Registry::open();
    let (home, host, dead) = (Home::new(), registry.host(), ClosedPort::new());
    let code = |pipeline: String| home.nu_error_code(&pipeline);
    assert_eq!(
        code(format!("oci tags {host}/nothing/here")),
        "oci::not_found"
    );
    assert_eq!(
        code(format!("oci manifest {host}/nothing/here:1.0.0")),
        "oci::not_found"
    );
    assert_eq!(
        code(format!("oci tags {}/acme/widgets", dead.host())),
        "oci::network"
    );
    assert_eq!(
        code("oci tags 'not a reference'".to_owned()),
        "oci::invalid_input"
    );
}

#[test]
fn credentials_of_docker_config_are_used() {
    require!(DockerRegistry, Nu);
    for registry in [
        Registry::with_passwords(),
        Registry::with_tokens(TokenPolicy::default()),
    ] {
        let (host, sources) = (registry.host(), Sources::widgets());
        let home = Home::for_user(host);
        home.cargo_oci(["push", "--registry", host])
            .within(sources.path())
            .succeeds();
        let tags = format!("oci tags {host}/widgets");
        let count = home.nu_value(&format!("{tags} | length"));
        assert_eq!(count, 1);
        assert_eq!(Home::new().nu_error_code(&tags), "oci::unauthenticated");
    }
}

#[test]
fn flags_override_plugin_configuration() {
    require!(DockerRegistry, Nu);
    let registry = Registry::open();
    let (home, host) = (Home::new(), registry.host());
    let configured = "$env.config.plugins.oci = {plain-http: false, retries: 0};";
    let ping = format!("oci ping {host}");
    assert_eq!(home.nu_value(&format!("{ping} | get reference")), host);
    // The registry does not support TLS.
    let code = home.nu_error_code(&format!("{configured} {ping}"));
    assert_eq!(code, "oci::network");
    let reached = format!("do {{ {configured} {ping} --plain-http }} | get reference");
    assert_eq!(home.nu_value(&reached), host);
    let misspelt = format!("$env.config.plugins.oci = {{retry: 0}}; {ping}");
    assert_eq!(home.nu_error_code(&misspelt), "oci::invalid_input");
}

#[test]
fn completion_completes_one_component_at_a_time() {
    require!(DockerRegistry, Nu);
    let (registry, sources) = registry_with_widgets();
    let host = registry.host();
    let home = Home::for_user(host);
    let offered = |typed: &str| {
        home.nu_value(&format!(
            "r#'{typed}'# | commandline complete --detailed | get value | sort"
        ))
    };
    let name = format!("{host}/widgets");
    assert_eq!(offered("oci ping "), json!([host]));
    assert_eq!(offered("oci tags "), json!([format!("{host}/")]));
    assert_eq!(offered(&format!("oci tags {host}/w")), json!([name]));
    let [version, target] =
        ["1.2.3".to_owned(), sources.target_tag()].map(|tag| format!("{name}:{tag}"));
    assert_eq!(offered(&format!("oci manifest {name}:")), json!([version]));
    assert_eq!(offered(&format!("oci copy {name}:")), json!([version]));
    assert_eq!(
        offered(&format!("oci manifest {name}:1.2.3__")),
        json!([target])
    );
    let targets = offered(&format!("oci manifest {name}:1.2.3 --target "));
    assert_eq!(targets, json!([host_triple()]));
    assert_eq!(offered(&format!("oci tags {host}/none:")), json!([]));
}

#[test]
fn workflow_command_of_a_registry_is_neutralized_in_errors() {
    require!(Nu);
    let home = Home::new();
    let server = Server::start(|_, _| Response::error(403, "##[add-mask]x"));
    for command in [
        "oci manifest HOST/a:1",
        "oci tags HOST/a",
        "[HOST/a:1] | oci inspect",
    ] {
        let run = || home.nu(&command.replace("HOST", &server.host()));
        let plain = run().outcome();
        assert!(plain.stderr.contains("##[add-mask]x"), "{plain}");
        let broken = run().with("GITHUB_ACTIONS", "true").outcome();
        assert_eq!(broken.code, Some(1), "{broken}");
        assert!(!broken.stderr.contains("##["), "{broken}");
        assert!(broken.stderr.contains("## [add-mask]x"), "{broken}");
    }
}

#[test]
fn incomplete_release_is_read_with_warning() {
    require!(Nu);
    let (home, sources) = (Home::new(), Sources::widgets());
    sources.write("made", "x");
    let declared = format!("aarch64-apple-darwin,{}", host_triple());
    let location = format!("oci:{}", home.path().join("out").display());
    let push = ["push", "--registry", &location, "--file=round=made"];
    let push = push.into_iter().chain(["--release-targets", &declared]);
    home.cargo_oci(push).within(sources.path()).succeeds();
    let shown = home.nu(&format!("oci inspect {location}/widgets:1.2.3 | get name"));
    let shown = shown.succeeds();
    assert_eq!(shown.stdout.trim(), "widgets");
    let warning = "Warning: 1.2.3 has no version tag yet (targets published so far: 1)";
    assert!(shown.stderr.contains(warning), "{shown}");
}
