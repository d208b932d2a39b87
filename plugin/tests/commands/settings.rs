//! Tests of the connection flags.

use crate::{eval, serve, tags, texts};

#[test]
fn resolve_flag_accepts_string_or_list() {
    let registry = serve(|_| tags(r#""1.0.0""#));
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
