//! Credentials in a real Secret Service: gnome-keyring on a newly started message bus.

use e2e::program::Home;
use e2e::registry::{PASSWORD, Registry, USER};
use e2e::require;
use e2e::sources::Sources;

#[test]
fn login_in_keyring_is_used_until_logout() {
    require!(DockerRegistry, DbusRunSession, GnomeKeyring, SecretTool);
    let (registry, home, sources) = (Registry::with_passwords(), Home::new(), Sources::widgets());
    let host = registry.host();
    let script = format!(
        "cd '{sources}'
        cargo-oci login {host} --username {USER} --password-stdin
        cargo-oci whoami {host}
        cargo-oci push --registry {host} >&2
        secret-tool search --all service cargo-oci 2>&1 | grep '^secret = \\|^attribute.username = ' | sort
        cargo-oci logout {host}
        cargo-oci tags {host}/widgets || echo \"code $?\"
        secret-tool search --all service cargo-oci",
        sources = sources.path().display()
    );
    let session = home.bash_with_keyring(&script).stdin(PASSWORD).succeeds();
    let secret = format!("secret = {{\"Secret\":\"{PASSWORD}\",\"Username\":\"{USER}\"}}");
    let expected = format!("{USER}\nattribute.username = {host}\n{secret}\ncode 3\n");
    assert_eq!(session.stdout, expected, "{session}");
    for line in [
        format!("to {host}, stored in: OS keyring"),
        format!("Using {USER} from OS keyring"),
        format!("of {host}, deleted from: OS keyring"),
    ] {
        assert!(session.stderr.contains(&line), "{session}");
    }
    // The Docker config file contains no entry for the registry.
    let file = home.docker_config().join("config.json");
    let file = std::fs::read_to_string(file).unwrap_or_default();
    assert!(!file.contains(host), "{file}");
    assert_eq!(registry.tags("widgets").len(), 2);
}

#[test]
fn keyring_login_is_used_by_the_plugin() {
    require!(DockerRegistry, DbusRunSession, GnomeKeyring, SecretTool, Nu);
    let (registry, home) = (Registry::with_passwords(), Home::new());
    let host = registry.host();
    let nu = e2e::testbed::Tool::Nu.path();
    let plugin = e2e::testbed::plugin_path();
    let script = format!(
        "cargo-oci login {host} --username {USER} --password-stdin
        '{}' -n --no-std-lib --plugins '[{}]' -c 'oci ping {host} | get credential_source'",
        nu.display(),
        plugin.display()
    );
    let session = home.bash_with_keyring(&script).stdin(PASSWORD).succeeds();
    assert_eq!(session.stdout, "OS keyring\n", "{session}");
}
