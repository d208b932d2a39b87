//! Programs that are interrupted or run out of disk space, and the runs that follow.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::messages::Schema;
use e2e::program::{Home, Run};
use e2e::registry::Registry;
use e2e::require;
use e2e::server::{Response, Server};
use e2e::sources::Sources;
use e2e::testbed::program_path;
use e2e::throttle::ThrottledProxy;

/// Size of a large file in bytes.
const LARGE: u64 = 24 << 20;

/// Rate of the proxy, in bytes per second, until the program is interrupted.
const SLOW: u64 = 6 << 20;

/// Writes a file of pseudo-random bytes, which do not compress.
fn write_large_file(path: &Path) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let count = usize::try_from(LARGE / 8).expect("the count fits into `usize`");
    let content: Vec<u8> = words.take(count).flatten().collect();
    fs::write(path, content).expect("the file can be written");
}

/// Prepares a push of one large file as version 1.2.3 of `widgets`.
fn push(home: &Home, sources: &Sources, host: &str) -> Run {
    let file = sources.sibling("large");
    if !file.exists() {
        write_large_file(&file);
    }
    let file = format!("large={}", file.display());
    home.cargo_oci(["push", "--registry", host, "--file", &file])
        .within(sources.path())
}

fn file_names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory exists");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("the entry can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn interrupted_pull_is_resumed() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    push(&home, &sources, registry.host()).succeeds();
    let expected = fs::read(sources.sibling("large")).unwrap();
    for (signal, code) in [("KILL", None), ("INT", Some(130)), ("TERM", Some(143))] {
        let proxy = ThrottledProxy::start(registry.host(), SLOW);
        let directory = sources.sibling(&format!("pulled-{signal}"));
        let reference = format!("{}/widgets:1.2.3", proxy.host());
        let pull = || {
            let output = directory.to_str().unwrap();
            home.cargo_oci(["pull", &reference, "--output", output])
        };
        let stopped = pull().send_signal_when(signal, || proxy.bytes_received() > LARGE / 2);
        assert_eq!(stopped.code, code, "{stopped}");
        assert_eq!(
            file_names(&directory),
            [".oci-partial"],
            "no tag was written"
        );
        let advice = "Interrupted; run the same command again to resume (";
        let last = stopped.stderr.lines().last().unwrap_or_default();
        let is_advised = last.starts_with(advice) && last.ends_with(" of 24.0 MiB kept)");
        assert_eq!(is_advised, code.is_some(), "{stopped}");
        let before = proxy.bytes_received();
        proxy.remove_limit();
        pull().succeeds();
        assert_eq!(file_names(&directory), ["large"]);
        assert!(fs::read(directory.join("large")).unwrap() == expected);
        let again = proxy.bytes_received() - before;
        assert!(
            again < LARGE * 3 / 4,
            "{again} bytes of {LARGE} came after {signal}"
        );
    }
}

#[test]
fn interrupted_push_sets_no_tag_and_can_be_repeated() {
    require!(DockerRegistry);
    for (signal, code) in [("KILL", None), ("INT", Some(130))] {
        let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
        let proxy = ThrottledProxy::start(registry.host(), SLOW);
        let push = || push(&home, &sources, &proxy.host());
        let stopped = push().send_signal_when(signal, || proxy.bytes_sent() > LARGE / 2);
        assert_eq!(stopped.code, code, "{stopped}");
        assert!(
            registry.tags("widgets").is_empty(),
            "the tag refers to complete content"
        );
        let advice = "Interrupted; run the same command again to start over\n";
        assert_eq!(
            stopped.stderr.ends_with(advice),
            signal == "INT",
            "{stopped}"
        );
        let is_cancelled = registry.log().contains("DELETE");
        assert_eq!(is_cancelled, signal == "INT", "{}", registry.log());
        proxy.remove_limit();
        push().succeeds();
        assert_eq!(
            registry.tags("widgets").len(),
            2,
            "{:?}",
            registry.tags("widgets")
        );
    }
}

/// Starts a registry that reads the content of an upload but does not respond, neither to the upload nor to the
/// deletion of its session.
fn unresponsive_registry() -> Server {
    Server::start(|request, _| match request.method.as_str() {
        "PUT" | "PATCH" | "DELETE" => Response::never(),
        "POST" => Response::new(202).header("Location", "/v2/upload"),
        _ => Response::new(404),
    })
}

#[test]
fn second_interrupt_aborts_a_push_at_once() {
    let (home, sources) = (Home::new(), Sources::widgets());
    let server = unresponsive_registry();
    let mut since = None;
    let stopped = push(&home, &sources, &server.host()).send_signals_when([
        ("INT", &mut || {
            server.count("PUT") + server.count("PATCH") > 0
        }),
        ("INT", &mut || {
            let is_cancelling = server.count("DELETE") > 0;
            since = is_cancelling.then(Instant::now);
            is_cancelling
        }),
    ]);
    assert_eq!(stopped.code, Some(130), "{stopped}");
    // After only one interrupt, the program would wait two seconds for the response.
    let waited = since.expect("the session was cancelled").elapsed();
    assert!(
        waited < Duration::from_millis(1500),
        "{waited:?}: {stopped}"
    );
}

/// Prepares a run of `cargo-oci` in which no file can exceed `limit` KiB, as on a full disk.
fn on_a_full_disk(home: &Home, limit: u32, arguments: &[&str]) -> Run {
    let arguments: Vec<_> = arguments
        .iter()
        .map(|argument| format!("'{argument}'"))
        .collect();
    let (program, arguments) = (program_path("cargo-oci"), arguments.join(" "));
    let program = program.display();
    home.bash(&format!(
        "trap '' XFSZ; ulimit -f {limit}; exec '{program}' {arguments}"
    ))
}

#[test]
fn write_to_full_disk_fails_without_partial_output() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    push(&home, &sources, registry.host()).succeeds();
    let expected = fs::read(sources.sibling("large")).unwrap();
    let reference = format!("{}/widgets:1.2.3", registry.host());

    let directory = sources.sibling("pulled");
    let output = directory.to_str().unwrap();
    let pull = ["pull", &reference, "--output", output];
    let full = on_a_full_disk(&home, 8 << 10, &pull).outcome();
    assert_eq!(full.code, Some(1), "{full}");
    assert!(full.stderr.contains("failed to write `"), "{full}");
    assert!(full.stderr.contains("File too large"), "{full}");
    assert!(
        file_names(&directory)
            .iter()
            .all(|name| name == ".oci-partial")
    );
    home.cargo_oci(pull).succeeds();
    assert_eq!(file_names(&directory), ["large"]);
    assert!(fs::read(directory.join("large")).unwrap() == expected);

    let layout = sources.sibling("layout");
    let to = format!("oci:{}:1", layout.display());
    let copy = ["copy", &reference, &to];
    let full = on_a_full_disk(&home, 8 << 10, &copy).outcome();
    assert_eq!(full.code, Some(1), "{full}");
    assert!(full.stderr.contains("File too large"), "{full}");
    let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("the layout was created");
    for blob in blobs {
        let blob = blob.expect("the entry can be read");
        let name = blob.file_name().to_string_lossy().into_owned();
        assert!(blob.metadata().unwrap().len() < 8 << 20, "{name}");
        assert!(!name.starts_with(".partial-"), "{name}");
    }
    home.cargo_oci(copy).succeeds();
    home.cargo_oci(["verify", &to]).succeeds();

    let archive = sources.sibling("archive.tar");
    let to = format!("oci-archive:{}", archive.display());
    let copy = ["copy", &reference, &to];
    let full = on_a_full_disk(&home, 8 << 10, &copy).outcome();
    assert_eq!(full.code, Some(1), "{full}");
    assert!(!archive.exists(), "{full}");
    home.cargo_oci(copy).succeeds();
}

/// Creates a package whose build script runs for up to one minute.
fn blocking_build() -> Sources {
    let sources = Sources::widgets();
    let script = "fn main() {\n    std::fs::write(\"begun\", \"\").unwrap();\n    \
        eprintln!(\"waiting\");\n    \
        std::thread::park_timeout(std::time::Duration::from_secs(60));\n}\n";
    sources.write("build.rs", script);
    sources
}

#[test]
fn ctrl_c_during_build_exits_with_interrupt_code() {
    let (home, sources) = (Home::new(), blocking_build());
    let run = home.cargo_oci_at_terminal("push -vv --registry oci:out; echo \"code $?\"");
    let shown = run.within(sources.path());
    let shown = shown.answer_prompts(&[("[widgets 1.2.3] waiting", "\u{3}")]);
    assert!(shown.stdout.contains("code 130"), "{shown}");
    assert!(
        !sources.path().join("out").exists(),
        "nothing was published"
    );
}

#[test]
fn signal_during_build_without_terminal_prints_error() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let (home, sources) = (Home::new(), blocking_build());
        let begun = sources.path().join("begun");
        let push = home.cargo_oci(["push", "--registry=oci:out", "--message-format=json"]);
        let stopped = push.within(sources.path());
        let stopped = stopped.send_signal_when(signal, || begun.exists());
        assert_eq!(stopped.code, Some(code), "{stopped}");
        let last = stopped.stderr.lines().last();
        assert_eq!(last, Some("error: interrupted"), "{stopped}");
        let messages = Schema::from_documentation().validate(&stopped.stdout);
        let error = messages.last().unwrap();
        assert_eq!(error["kind"], "interrupted");
        assert_eq!(error["code"], code);
    }
}

/// Returns the total size of the files in a directory. A program may delete files at the same time.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let sizes = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    sizes.sum()
}

#[test]
fn interrupted_write_of_an_archive_leaves_no_file() {
    let (home, sources) = (Home::new(), Sources::widgets());
    push(&home, &sources, "oci:out").succeeds();
    let directory = sources.sibling("archives");
    fs::create_dir(&directory).unwrap();
    let layout = format!("oci:{}", sources.path().join("out/widgets").display());
    let copy = || {
        let copy = ["copy", &format!("{layout}:1.2.3"), "oci-archive:a.tar"];
        home.cargo_oci(copy).within(&directory)
    };
    // `copy` first stores the content in temporary files, and then writes the archive.
    for least in [1 << 20, LARGE + (1 << 20)] {
        let stopped = copy().send_signal_when("INT", || size(&directory) > least);
        assert_eq!(stopped.code, Some(130), "{stopped}");
        assert_eq!(file_names(&directory), [""; 0], "{stopped}");
    }
    copy().succeeds();
}
