//! Registries that hang: Ctrl-C gives the shell back, and the Tab key waits for nobody.

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::loopback::{Body, Server, body};
use e2e::program::Home;
use e2e::require;
use e2e::terminal::Terminal;
use hyper::Response;

/// What is far more than a moment, and far less than for ever.
const SOON: Duration = Duration::from_secs(2);

/// As long as anything may take to begin.
const LIMIT: Duration = Duration::from_mins(1);

/// A registry with one page of tags, that answers nothing else; each further page is said to follow. It tells of each
/// request that it leaves without an answer.
fn hanging() -> (Server, Receiver<String>) {
    let (tell, told) = mpsc::channel();
    let tell = Arc::new(Mutex::new(tell));
    let server = Server::start(move |request| {
        let tell = Arc::clone(&tell);
        async move {
            let uri = request.uri().to_string();
            if uri.contains("/tags/list") && !uri.contains("last=") {
                let mut answer: Response<Body> =
                    Response::new(body(r#"{"tags":["1.0.0","1.1.0"]}"#));
                let next = "</v2/more/tags/list?last=1.1.0>; rel=\"next\"";
                let next = next.parse().expect("a header");
                answer.headers_mut().insert("Link", next);
                return answer;
            }
            // Nobody may want to know.
            let _ = tell.lock().expect("nobody panics here").send(uri);
            std::future::pending().await
        }
    });
    (server, told)
}

#[test]
fn an_interrupt_ends_a_value_and_a_stream() {
    require!(Nu);
    let home = Home::new();
    for script in [
        "oci manifest NAME:1.0.0",
        "[NAME:1.0.0] | oci inspect",
        "oci tags NAME | each {|tag| print $tag.name }",
        "oci tags NAME --long | each {|tag| print $tag.name }",
        "oci copy NAME:1.0.0 oci:here",
        "oci pull NAME:1.0.0 --output here",
    ] {
        let (server, waiting) = hanging();
        let script = script.replace("NAME", &format!("{}/some", server.host()));
        let terminal = Terminal::start(&home.nu(&format!("{script}; print ('went' + ' on')")));
        let waited = waiting.recv_timeout(LIMIT);
        waited.expect("a request is left without an answer");
        let pressed = terminal.interrupt();
        let (code, ended, text) = terminal.end();
        assert!(ended.duration_since(pressed) < SOON, "`{script}`: {text}");
        assert_ne!(code, Some(0), "`{script}`: {text}");
        assert!(!text.contains("went on"), "{text}");
    }
}

#[test]
fn a_completion_waits_for_nobody() {
    require!(Nu);
    let (server, _) = hanging();
    let (host, home) = (server.host(), Home::new());
    // Again and again, and beside it a call that asks nobody anything.
    let script = format!(
        "oci reference a.b/c; let complete = {{|| r#'oci tags {host}/'# | commandline complete | length }}; \
         let timed = {{|work| let began = date now; let value = do $work; {{value: $value, took: ((date now) - $began)}} }}; \
         let first = [$complete {{|| sleep 50ms; oci reference a.b/c | get registry }}] | par-each --keep-order {{|work| do $timed $work }}; \
         let again = do $timed $complete; \
         {{first: $first, again: $again}}"
    );
    let began = Instant::now();
    let timed = home.nu_value(&script);
    assert!(began.elapsed() < 5 * SOON, "{timed}");
    let took = |timed: &serde_json::Value| {
        Duration::from_nanos(timed["took"].as_u64().expect("a duration"))
    };
    assert_eq!(timed["first"][0]["value"], 0, "{timed}");
    assert_eq!(timed["first"][1]["value"], "a.b", "{timed}");
    for one in [&timed["first"][0], &timed["first"][1], &timed["again"]] {
        assert!(took(one) < SOON, "{timed}");
    }
    // A list is waited for once.
    assert!(took(&timed["again"]) < took(&timed["first"][0]), "{timed}");
}
