//! Tests of the commands with scripted registries and layouts. The plugin runs in the test process and uses Nushell's
//! plugin protocol.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod columns;
mod documents;
mod errors;
mod listing;
mod pulling;
mod reading;
mod settings;
mod writing;

use std::path::PathBuf;

use nu_plugin_oci::OciPlugin;
use nu_plugin_test_support::PluginTest;
use nu_protocol::{LabeledError, Span, Value};
use oci_registry::{Digest, Layout};
use testkit::server::{Response, Server};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn shell() -> PluginTest {
    let mut shell = PluginTest::new("oci", OciPlugin::default().into()).unwrap();
    let directory = Value::test_string(env!("CARGO_MANIFEST_DIR"));
    shell
        .engine_state_mut()
        .add_env_var("PWD".into(), directory);
    shell
}

fn eval(source: &str) -> Result<Value, LabeledError> {
    eval_in(&mut shell(), source)
}

fn eval_in(shell: &mut PluginTest, source: &str) -> Result<Value, LabeledError> {
    let data = shell.eval(source).map_err(LabeledError::from)?;
    Ok(data.into_value(Span::test_data())?)
}

fn columns(row: &Value) -> Vec<&str> {
    row.as_record()
        .unwrap()
        .columns()
        .map(String::as_str)
        .collect()
}

fn cell<'a>(row: &'a Value, column: &str) -> &'a Value {
    row.as_record().unwrap().get(column).unwrap()
}

/// Returns the strings in a column.
fn texts<'a>(table: &'a Value, column: &str) -> Vec<&'a str> {
    let rows = table.as_list().unwrap().iter();
    rows.map(|row| cell(row, column).as_str().unwrap())
        .collect()
}

/// Starts a registry. The closure receives the method and the target of each request, separated by a space.
fn serve(script: impl Fn(&str) -> Response + Send + Sync + 'static) -> Server {
    Server::start(move |request, _| script(&request.line()))
}

fn ok(body: impl AsRef<[u8]>) -> Response {
    Response::new(200).body(body)
}

fn tags(names: &str) -> Response {
    ok(format!(r#"{{"name":"x","tags":[{names}]}}"#))
}

/// Returns the manifest of an artifact with one layer and the given annotations.
fn artifact(annotations: &str) -> String {
    let layer = Digest::sha256(b"abc");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"application/vnd.cargo-oci.package-target.v1",
        "config":{{"mediaType":"application/vnd.cargo-oci.config.v1+json","digest":"{layer}","size":7}},
        "layers":[{{"mediaType":"application/vnd.cargo-oci.bin","digest":"{layer}","size":3,
            "annotations":{{"org.opencontainers.image.title":"widgets-1.0.0","dev.cargo-oci.kind":"bin"}}}}],
        "annotations":{{{annotations}}}}}"#
    )
}

fn manifest(body: impl AsRef<[u8]>) -> Response {
    ok(body).header("Content-Type", MANIFEST)
}

/// Temporary directory of one test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Returns a shell whose working directory is this directory.
    fn shell(&self) -> PluginTest {
        let mut shell = shell();
        let directory = Value::test_string(self.0.to_str().unwrap());
        shell
            .engine_state_mut()
            .add_env_var("PWD".into(), directory);
        shell
    }

    /// Creates a layout in the directory.
    fn layout<F: Future<Output = ()>>(&self, name: &str, fill: impl FnOnce(Layout) -> F) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            fill(Layout::create(&self.0.join(name)).await.unwrap()).await;
        });
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
