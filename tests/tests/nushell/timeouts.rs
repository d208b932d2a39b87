//! Registries that do not respond: Ctrl-C interrupts a command, and the Tab key does not block.

use std::time::Duration;

use e2e::hanging::hanging_registry;
use e2e::program::Home;
use e2e::require;
use e2e::terminal::Terminal;

/// Maximum time from Ctrl-C until the command stops.
const SOON: Duration = Duration::from_secs(2);

/// Maximum time to wait for a command's first request.
const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn ctrl_c_interrupts_value_and_stream_commands() {
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
        let (server, unanswered) = hanging_registry();
        let script = script.replace("NAME", &format!("{}/some", server.host()));
        let terminal = Terminal::start(&home.nu(&format!("{script}; print ('went' + ' on')")));
        let request = unanswered.recv_timeout(LIMIT);
        request.expect("the registry receives a request");
        let pressed = terminal.interrupt();
        let (code, ended, text) = terminal.wait_for_end();
        assert!(ended.duration_since(pressed) < SOON, "`{script}`: {text}");
        assert_ne!(code, Some(0), "`{script}`: {text}");
        assert!(!text.contains("went on"), "{text}");
    }
}

#[test]
fn completion_returns_in_time_without_blocking_calls() {
    require!(Nu);
    // The test uses the shortest of several measurements, because the machine may be busy during some of them.
    let servers: Vec<_> = std::iter::repeat_with(hanging_registry).take(4).collect();
    let hosts: Vec<_> = servers.iter().map(|(server, _)| server.host()).collect();
    // A call that sends no request runs during the first completion. The completion is then repeated twice.
    let script = format!(
        "oci reference a.b/c; \
         let timed = {{|work| let began = date now; let value = do $work; {{value: $value, took: ((date now) - $began)}} }}; \
         [{}] | each {{|host| \
           let complete = {{|| $'oci tags ($host)/' | commandline complete | length }}; \
           let beside = [$complete {{|| sleep 50ms; do $timed {{|| oci reference a.b/c | get registry }} }}] \
             | par-each --keep-order {{|work| do $timed $work }}; \
           {{ \
             first: $beside.0, call: $beside.1.value, \
             second: (do $timed $complete), third: (do $timed $complete), \
           }} \
         }}",
        hosts.join(" ")
    );
    let timed = Home::new().nu_value(&script);
    let timed = timed.as_array().expect("the result is a list");
    let least = |what: &str| {
        let took = timed.iter().map(|row| row[what]["took"].as_u64());
        Duration::from_nanos(
            took.map(|took| took.expect("the value is a duration"))
                .min()
                .unwrap(),
        )
    };
    for row in timed {
        assert_eq!(row["call"]["value"], "a.b", "{row}");
        for tab in ["first", "second", "third"] {
            assert_eq!(row[tab]["value"], 0, "{row}");
        }
    }
    // The call stops the first completion. The second completion waits for at most half a second. The third completion
    // does not wait for the same list.
    let moment = Duration::from_millis(250);
    assert!(least("call") < moment, "{timed:?}");
    assert!(least("first") < 2 * moment, "{timed:?}");
    assert!(least("second") < 4 * moment, "{timed:?}");
    assert!(least("third") < moment, "{timed:?}");
}
