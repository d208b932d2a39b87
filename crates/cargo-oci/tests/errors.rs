//! Tests of the printed error and the exit code for each [`ErrorKind`].

use std::process::Command;

use oci_registry::ErrorKind;
use testkit::failures::{failing_registry, without_random_name};
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
