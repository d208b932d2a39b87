//! Flags about connections, and their defaults in the shell's configuration.

use crate::scripted::Registry;
use crate::{eval, tags, texts};

#[test]
fn a_host_is_reached_at_another_address_and_so_are_several() {
    let registry = Registry::start(|_| tags(r#""1.0.0""#));
    let port = registry.host().rsplit_once(':').unwrap().1.to_owned();
    let resolve = |name: &str| format!("{name}.example:{port}:127.0.0.1");
    for flag in [
        format!("'{}'", resolve("a")),
        resolve("a"),
        format!("[{} {}]", resolve("b"), resolve("a")),
    ] {
        let source = format!("oci tags a.example:{port}/x --plain-http --resolve {flag}");
        assert_eq!(texts(&eval(&source).unwrap(), "name"), ["1.0.0"], "{flag}");
    }
}
