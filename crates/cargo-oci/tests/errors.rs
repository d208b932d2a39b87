//! Tests of the printed error and the exit code for each [`ErrorKind`].

use std::process::Command;

use oci_registry::ErrorKind;
use testkit::failures::{failing_registry, without_random_name};
use testkit::server::{Response, Server};
use testkit::sha256;

/// Returns the arguments of a command that fails with an error of this kind.
fn arguments(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "tags ghcr.io/acme/Widgets",
        ErrorKind::Unauthenticated => "manifest HOST/unauthenticated:1",
        ErrorKind::Denied => "manifest HOST/denied:1",
        ErrorKind::NotFound => "manifest HOST/absent:1",
        ErrorKind::Conflict => "blob HOST/content@DIGEST --output existing",
        ErrorKind::Network => "manifest HOST/unavailable:1 --retries 0",
        ErrorKind::RateLimited => "manifest HOST/limited:1",
        ErrorKind::Mismatch => "blob HOST/other@DIGEST --output new",
        ErrorKind::Unsupported => "catalog HOST",
        ErrorKind::Protocol => "manifest HOST/html:1",
        ErrorKind::Io => "blob HOST/content@DIGEST --output existing/file",
    }
}

#[test]
fn error_of_each_kind_is_printed_with_causes_and_hints() {
    let (registry, directory) = (failing_registry(), tempfile::tempdir().unwrap());
    std::fs::write(directory.path().join("existing"), "").unwrap();
    let (host, digest) = (registry.host(), sha256(b"content"));
    let path = directory.path().to_str().unwrap();
    for kind in ErrorKind::ALL {
        let arguments = arguments(kind);
        let command = arguments.replace("HOST", &host).replace("DIGEST", &digest);
        let output = Command::new(env!("CARGO_BIN_EXE_cargo-oci"))
            .args(command.split(' '))
            .current_dir(path)
            .env_clear()
            .env("HOME", path)
            .env("XDG_RUNTIME_DIR", path)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
        let stderr = without_random_name(String::from_utf8(output.stderr).unwrap());
        let stderr = stderr
            .replace(&host, "HOST")
            .replace(&digest, "DIGEST")
            .replace(path, "DIRECTORY");
        let code = output.status.code().unwrap();
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            let name = kind.code().replace("::", "-");
            insta::assert_snapshot!(name, format!("$ cargo oci {arguments}\n{stderr}exit code: {code}"));
        });
    }
}

/// Runs `cargo oci` in a CI job whose registry requires Basic authentication and denies access to every account.
/// Requests go through a proxy, so that the scripted registry can have the name of a public registry.
fn run_in_job(arguments: &str, variables: &[(&str, &str)]) -> String {
    let registry = Server::start(|request, _| match request.header("authorization") {
        None => Response::challenge("Basic realm=\"testkit\""),
        Some(_) => Response::error(403, "DENIED"),
    });
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    let output = Command::new(env!("CARGO_BIN_EXE_cargo-oci"))
        .args(arguments.split(' '))
        .args(["--plain-http", "--retries", "0"])
        .current_dir(path)
        .env_clear()
        .env("HOME", path)
        .env("XDG_RUNTIME_DIR", path)
        .env("HTTP_PROXY", format!("http://{}", registry.host()))
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    format!(
        "$ cargo oci {arguments}\n{}",
        stderr.replace(path, "DIRECTORY")
    )
}

#[test]
fn rejected_ci_job_gets_advice_for_its_forge() {
    let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_TOKEN", "t")];
    let gitlab = [
        ("CI_REGISTRY", "registry.acme.example"),
        ("CI_REGISTRY_USER", "u"),
        ("CI_REGISTRY_PASSWORD", "p"),
    ];
    let (read, write) = (
        "manifest ghcr.io/acme/widgets:1",
        "tag ghcr.io/acme/widgets:1 2",
    );
    let other = "manifest registry.acme.example/acme/widgets:1";
    for (name, arguments, variables) in [
        ("github-read-without-token", read, &github[..1]),
        ("github-read-with-token", read, &github),
        ("github-write-without-token", write, &github[..1]),
        ("github-write-with-token", write, &github),
        ("github-token-outside-actions", read, &github[1..]),
        ("gitlab-read-without-token", other, &gitlab[..1]),
        ("gitlab-read-with-token", other, &gitlab),
    ] {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(format!("job-{name}"), run_in_job(arguments, variables));
        });
    }
}
