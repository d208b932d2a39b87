//! Benchmark of the Nushell plugin from the user's point of view: time to the first row, to all rows and for a second
//! run, and time for Ctrl-C, for tab completion and for a call that sends no request.
//!
//! ```console
//! $ cargo build --release -p nu_plugin_oci --bins --examples
//! $ NU_PLUGIN_OCI=target/release/nu_plugin_oci cargo run -p e2e --example nushell_costs
//! ```
//!
//! If `NU_PLUGIN_OCI` is not set, the example uses the plugin of its own build profile. Compare results of the same run
//! only: they depend on the machine and the build.

#![expect(clippy::print_stdout, reason = "the output is a table")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use e2e::hanging::hanging_registry;
use e2e::program::{Home, Run};
use e2e::recorder::Recorder;
use e2e::registry::Registry;
use e2e::sample_registry::{self, SampleRelease};
use e2e::terminal::Terminal;
use e2e::testbed::{Tool, are_installed, plugin_path};
use serde_json::Value;

fn main() {
    if !are_installed(&[Tool::DockerRegistry, Tool::Nu]) {
        return;
    }
    println!("With `{}`:\n", plugin_path().display());
    println!("| measurement | time | |");
    println!("| --- | ---: | --- |");
    measure_lists();
    measure_long_lists();
    measure_calls();
    measure_interrupts();
    measure_completion();
}

fn print_row(name: &str, duration: Duration, note: &str) {
    println!("| {name} | {duration:.1?} | {note} |");
}

/// Measures `oci tags` for 10,000 tags. Compares it with `http get` for the same URL, and with a plugin that sends no
/// request.
fn measure_lists() {
    let registry = Registry::open();
    sample_registry::put_releases(&registry, "many", &[SampleRelease::new("many", 0, 0)]);
    registry.add_tags("many", "1.0.0", (1..10_000).map(|at| format!("2.{at}.0")));
    let host = registry.host();
    let measured = [
        (
            "get_first",
            format!("http get http://{host}/v2/many/tags/list | get tags | first"),
        ),
        (
            "get_all",
            format!(
                "http get http://{host}/v2/many/tags/list | get tags | each {{|tag| $tag }} | length"
            ),
        ),
        ("first", format!("oci tags {host}/many | first")),
        ("all", format!("oci tags {host}/many | length")),
        ("made_up_first", "rows 10000 | first".to_owned()),
        ("made_up", "rows 10000 | length".to_owned()),
    ];
    let rows = plugin_path().with_file_name("examples/nu_plugin_rows");
    let plugins: Vec<_> = [plugin_path()]
        .into_iter()
        .chain(rows.exists().then_some(rows))
        .collect();
    let measured: Vec<_> = measured.into_iter().take(2 * plugins.len() + 2).collect();
    // The commands are measured in turn, so that other load on the machine affects all of them.
    let turn: Vec<_> = measured
        .iter()
        .map(|(name, pipeline)| format!("{name}: (timeit {{ {pipeline} }})"))
        .collect();
    let script = format!(
        "1..15 | each {{ {{ {} }} }} | skip 1 | math median",
        turn.join(", ")
    );
    let duration = Home::new()
        .nu_with_plugins(&plugins, &format!("{script} | to json --raw"))
        .succeeds();
    let duration: Value = serde_json::from_str(&duration.stdout).expect("JSON");
    let time =
        |key: &str| Duration::from_nanos(duration[key].as_u64().expect("the value is a duration"));
    let ratio = |ours: &str, other: &str| time(ours).as_secs_f64() / time(other).as_secs_f64();
    let to_get = |ours: &str, get: &str| format!("{:.2} of `http get`", ratio(ours, get));
    print_row(
        "`http get URL`, first of 10,000 tags",
        time("get_first"),
        "",
    );
    print_row("`http get URL`, all tags", time("get_all"), "");
    let are_installed = duration.get("made_up").is_some();
    let to_both = |ours: &str, get: &str, made_up: &str| {
        let mut note = to_get(ours, get);
        if are_installed {
            let _ = write!(note, ", {:.2} of made-up rows", ratio(ours, made_up));
        }
        note
    };
    let note = to_both("first", "get_first", "made_up_first");
    print_row("`oci tags`, first row of 10,000", time("first"), &note);
    print_row(
        "`oci tags`, all rows",
        time("all"),
        &to_both("all", "get_all", "made_up"),
    );
    if are_installed {
        let note = to_get("made_up_first", "get_first");
        print_row(
            "example plugin without requests, first row",
            time("made_up_first"),
            &note,
        );
        print_row(
            "example plugin without requests, all 10,000 rows",
            time("made_up"),
            &to_get("made_up", "get_all"),
        );
    }
}

/// Measures `oci tags --long` for 1,000 tags, each with its own manifest.
fn measure_long_lists() {
    let registry = Registry::open();
    let releases: Vec<_> = (0..1000)
        .map(|at| SampleRelease::new("long", at, at))
        .collect();
    sample_registry::put_releases(&registry, "long", &releases);
    let (home, recorder) = (Home::new(), Recorder::start(registry.host()));
    let observed = Home::new();
    for what in ["cold", "again, from the cache on disk"] {
        let began = Instant::now();
        let count = home.nu_value(&format!(
            "oci tags {}/long --long | length",
            registry.host()
        ));
        let duration = began.elapsed();
        assert_eq!(count, 1000);
        let _ = recorder.take();
        let count = observed.nu_value(&format!(
            "oci tags {}/long --long | length",
            recorder.host()
        ));
        assert_eq!(count, 1000);
        let requests = recorder.take();
        let bodies = requests
            .iter()
            .filter(|request| request.method == "GET")
            .count();
        let note = format!("{} requests, {bodies} of them GET", requests.len());
        print_row(
            &format!("`oci tags --long`, 1,000 tags, {what}"),
            duration,
            &note,
        );
    }
}

/// Measures how long the first call in a shell takes, and how long later calls take.
fn measure_calls() {
    let home = Home::new();
    let median = |run: &dyn Fn() -> Run| {
        let mut times: Vec<_> = (0..21)
            .map(|_| {
                let began = Instant::now();
                run().succeeds();
                began.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    let nothing = median(&|| home.nu_without_plugins("42"));
    let known = median(&|| home.nu("42"));
    let called = median(&|| home.nu("oci reference a.b/c"));
    print_row("`nu -c 42`", nothing, "");
    print_row(
        "additional time with `--plugins`",
        known.saturating_sub(nothing),
        "Nushell starts the plugin to read its signatures",
    );
    print_row(
        "additional time of the first call",
        called.saturating_sub(nothing),
        "`oci reference a.b/c`",
    );
    let warm = home.nu_value(
        "oci reference a.b/c; 1..501 | each { timeit { oci reference a.b/c } } | math median",
    );
    let warm = Duration::from_nanos(warm.as_u64().expect("the value is a duration"));
    print_row(
        "later call in the same shell",
        warm,
        "`oci reference a.b/c`",
    );
}

/// Measures the time from Ctrl-C until the shell exits.
fn measure_interrupts() {
    let home = Home::new();
    for (what, script) in [
        ("a value", "oci manifest NAME:1.0.0"),
        ("a stream", "oci tags NAME | each {|tag| print $tag.name }"),
        ("a stream with `--long`", "oci tags NAME --long | print"),
    ] {
        let mut times: Vec<_> = (0..9)
            .map(|_| {
                let (server, unanswered) = hanging_registry();
                let script = script.replace("NAME", &format!("{}/some", server.host()));
                let terminal = Terminal::start(&home.nu(&script));
                let request = unanswered.recv_timeout(Duration::from_mins(1));
                request.expect("the registry receives a request");
                let pressed = terminal.interrupt();
                terminal.wait_for_end().1.duration_since(pressed)
            })
            .collect();
        times.sort();
        let note = format!("maximum {:.1?}; the registry does not respond", times[8]);
        print_row(
            &format!("from Ctrl-C to the end of `nu`, {what}"),
            times[4],
            &note,
        );
    }
}

/// Measures Tab completion while the registry does not respond, alone and during a concurrent call.
fn measure_completion() {
    let ((alone, _), (concurrent, _)) = (hanging_registry(), hanging_registry());
    let script = format!(
        "oci reference a.b/c; \
         let complete = {{|host| timeit {{ $'oci tags ($host)/' | commandline complete }} }}; \
         let alone = [(do $complete {0}) (do $complete {0})]; \
         let concurrent = [{{|| do $complete {1} }} {{|| sleep 100ms; timeit {{ oci reference a.b/c }} }}] \
           | par-each --keep-order {{|work| do $work }}; \
         {{first: $alone.0, again: $alone.1, interrupted: $concurrent.0, call: $concurrent.1}}",
        alone.host(),
        concurrent.host(),
    );
    let duration: Value = Home::new().nu_value(&script);
    let time =
        |key: &str| Duration::from_nanos(duration[key].as_u64().expect("the value is a duration"));
    print_row("Tab key, registry does not respond", time("first"), "");
    print_row("Tab key again", time("again"), "");
    print_row(
        "Tab key, another call after 0.1 s",
        time("interrupted"),
        "interrupted by the other call",
    );
    print_row("the other call", time("call"), "`oci reference a.b/c`");
}
