//! Conformance tests for `Target` and `Delete` against real registries.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::registry::{PASSWORD, Registry, USER};
use e2e::require;
use e2e::token::TokenPolicy;
use ferro_blob_store::InMemoryBlobStore;
use ferro_oci_server::{AppState, InMemoryRegistryMeta, router};
use oci_registry::conformance::{Capabilities, Report, run, run_deletions};
use oci_registry::{Access, Client, ClientOptions, Delete, Environment, Target};

/// Runs the conformance tests for `Target` against a registry, each test in a new repository.
async fn check_target(host: &str, client: &Client, capabilities: Capabilities) -> Report {
    let count = AtomicUsize::new(0);
    let make = async || {
        let at = count.fetch_add(1, Ordering::Relaxed);
        let reference = format!("{host}/requirements/number-{at}").parse()?;
        Ok(Arc::new(client.repository(&reference, Access::Push)?) as Arc<dyn Target>)
    };
    unwrap_report(run(capabilities, make).await)
}

/// Runs the conformance tests for `Delete` against a registry, each test in a new repository.
async fn check_delete(host: &str, client: &Client, capabilities: Capabilities) -> Report {
    let count = AtomicUsize::new(0);
    let make = async || {
        let at = count.fetch_add(1, Ordering::Relaxed);
        let reference = format!("{host}/deletions/number-{at}").parse()?;
        Ok(Arc::new(client.repository(&reference, Access::Push)?) as Arc<dyn Delete>)
    };
    unwrap_report(run_deletions(capabilities, make).await)
}

fn unwrap_report(report: oci_registry::Result<Report>) -> Report {
    report.unwrap_or_else(|error| {
        let mut chain = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            chain = format!("{chain}: {error}");
            cause = error.source();
        }
        panic!("{chain}");
    })
}

fn environment(variables: &[(&str, String)]) -> Environment {
    let variables = variables.iter();
    let variables = variables.map(|(name, value)| ((*name).to_owned(), value.clone()));
    Environment::new(variables, None, std::env::temp_dir())
}

fn client(environment: Environment) -> Client {
    Client::new(ClientOptions::new(environment))
}

fn block_on(work: impl Future<Output = Report>) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime can be started").block_on(work)
}

#[test]
fn distribution_meets_all_requirements() {
    require!(DockerRegistry);
    let registry = Registry::open();
    let client = client(environment(&[]));
    let report = block_on(check_target(
        registry.host(),
        &client,
        Capabilities::default(),
    ));
    println!("distribution 2.8: {report}");
    let report = block_on(check_delete(
        registry.host(),
        &client,
        Capabilities::default(),
    ));
    println!("distribution 2.8, deletion: {report}");
}

#[test]
fn distribution_with_tokens_meets_all_requirements() {
    require!(DockerRegistry);
    let registry = Registry::with_tokens(TokenPolicy::default());
    let pair = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let credentials = format!(
        r#"{{"auths":{{"{}":{{"auth":"{pair}"}}}}}}"#,
        registry.host()
    );
    let client = client(environment(&[("DOCKER_AUTH_CONFIG", credentials)]));
    let report = block_on(check_target(
        registry.host(),
        &client,
        Capabilities::default(),
    ));
    println!("distribution 2.8 with tokens: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ferro_meets_all_requirements() {
    let state = AppState::new(
        Arc::new(InMemoryBlobStore::new()),
        Arc::new(InMemoryRegistryMeta::new()),
    );
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move { axum::serve(listener, router(state)).await });
    let report = check_target(&host, &client(environment(&[])), Capabilities::default()).await;
    println!("ferro: {report}");
    let report = check_delete(&host, &client(environment(&[])), Capabilities::default()).await;
    println!("ferro, deletion: {report}");
    server.abort();
}
