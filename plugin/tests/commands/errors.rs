//! Snapshots of the printed error of each [`ErrorKind`].

use nu_protocol::engine::StateWorkingSet;
use nu_protocol::{Config, ErrorStyle, Value, format_cli_error};
use oci_registry::{Digest, ErrorKind};
use testkit::failures::{failing_registry, without_random_name};

use crate::{Directory, eval_in};

/// Host in snapshots. It is as long as the host of a test server, because errors contain the column numbers of labels.
const HOST: &str = "127.0.0.1:PORT_";

/// Returns a command that fails with an error of this kind.
fn command(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "oci tags ghcr.io/acme/Widgets",
        ErrorKind::Unauthenticated => "oci manifest HOST/unauthenticated:1",
        ErrorKind::Denied => "oci manifest HOST/denied:1",
        ErrorKind::NotFound => "oci manifest HOST/absent:1",
        ErrorKind::Conflict => "oci blob HOST/content@DIGEST --output existing",
        ErrorKind::Network => "oci manifest HOST/unavailable:1 --retries 0",
        ErrorKind::RateLimited => "oci manifest HOST/limited:1",
        ErrorKind::Mismatch => "oci blob HOST/other@DIGEST",
        ErrorKind::Unsupported => "oci catalog HOST",
        ErrorKind::Protocol => "oci manifest HOST/html:1",
        ErrorKind::Io => "oci blob HOST/content@DIGEST --output existing/file",
    }
}

#[test]
fn error_of_each_kind_is_printed_with_causes_and_help() {
    let (registry, directory) = (failing_registry(), Directory::new("errors"));
    std::fs::write(directory.0.join("existing"), "").unwrap();
    let (host, digest) = (registry.host(), Digest::sha256(b"content").to_string());
    assert_eq!(host.len(), HOST.len());
    for kind in ErrorKind::ALL {
        let source = command(kind)
            .replace("HOST", &host)
            .replace("DIGEST", &digest);
        let mut shell = directory.shell();
        let mut config = Config::clone(shell.engine_state().get_config());
        config.error_style = ErrorStyle::Plain;
        shell.engine_state_mut().set_config(config);
        let runtime_directory = Value::test_string(directory.0.to_str().unwrap());
        shell
            .engine_state_mut()
            .add_env_var("XDG_RUNTIME_DIR".into(), runtime_directory);
        let error = eval_in(&mut shell, &source).unwrap_err();
        assert_eq!(error.code.as_deref(), Some(kind.code()));
        let working_set = StateWorkingSet::new(shell.engine_state());
        let printed = format_cli_error(None, &working_set, &error, None);
        let printed = without_random_name(printed)
            .replace(&host, HOST)
            .replace(directory.0.to_str().unwrap(), "DIRECTORY");
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(kind.code().replace("::", "-"), printed);
        });
    }
}
