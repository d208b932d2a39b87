//! Registries that do not respond: Ctrl-C ends a command, and the Tab key does not wait.

use std::time::Duration;

use e2e::hanging::hanging_registry;
use e2e::program::Home;
use e2e::require;
use e2e::terminal::Terminal;

/// The time within which Ctrl-C ends a command.
const SOON: Duration = Duration::from_secs(2);

/// The time within which a command sends its first request.
const LIMIT: Duration = Duration::from_mins(1);

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
        let (server, unanswered) = hanging_registry();
        let script = script.replace("NAME", &format!("{}/some", server.host()));
        let terminal = Terminal::start(&home.nu(&format!("{script}; print ('went' + ' on')")));
        let request = unanswered.recv_timeout(LIMIT);
        request.expect("a request stays without a response");
        let pressed = terminal.interrupt();
        let (code, ended, text) = terminal.end();
        assert!(ended.duration_since(pressed) < SOON, "`{script}`: {text}");
        assert_ne!(code, Some(0), "`{script}`: {text}");
        assert!(!text.contains("went on"), "{text}");
    }
}

#[test]
fn a_completion_waits_for_nobody_and_nobody_waits_for_it() {
    require!(Nu);
    // Several, since this machine may be busy with something else for a while.
    let servers: Vec<_> = std::iter::repeat_with(hanging_registry).take(4).collect();
    let hosts: Vec<_> = servers.iter().map(|(server, _)| server.host()).collect();
    // Beside the first a call that asks nobody anything; and again, when it has been waited for.
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
    let timed = timed.as_array().expect("a row for each");
    let least = |what: &str| {
        let took = timed.iter().map(|row| row[what]["took"].as_u64());
        Duration::from_nanos(took.map(|took| took.expect("a duration")).min().unwrap())
    };
    for row in timed {
        assert_eq!(row["call"]["value"], "a.b", "{row}");
        for tab in ["first", "second", "third"] {
            assert_eq!(row[tab]["value"], 0, "{row}");
        }
    }
    // A list is waited for half a second, all in all, unless somebody else waits meanwhile.
    let moment = Duration::from_millis(250);
    assert!(least("call") < moment, "{timed:?}");
    assert!(least("first") < 2 * moment, "{timed:?}");
    assert!(least("second") < 4 * moment, "{timed:?}");
    assert!(least("third") < moment, "{timed:?}");
}
