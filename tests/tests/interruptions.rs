//! What is left when a program is stopped in the middle, and what the next one makes of it.

use std::fs;
use std::path::Path;

use e2e::narrows::Narrows;
use e2e::program::{Home, Run};
use e2e::registry::Registry;
use e2e::require;
use e2e::sources::Sources;

/// The size of a file that takes a while, in bytes.
const LARGE: u64 = 24 << 20;

/// What passes in a second while something is to be stopped.
const SLOW: u64 = 6 << 20;

/// A file that no compression makes smaller, and no two of which are alike.
fn large(path: &Path) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let count = usize::try_from(LARGE / 8).expect("a small number");
    let content: Vec<u8> = words.take(count).flatten().collect();
    fs::write(path, content).expect("the file can be written");
}

/// A push of one large file as version 1.2.3 of `widgets`.
fn push(home: &Home, sources: &Sources, host: &str) -> Run {
    let file = sources.beside("large");
    if !file.exists() {
        large(&file);
    }
    let file = format!("large={}", file.display());
    home.cargo_oci(["push", "--registry", host, "--file", &file])
        .within(sources.path())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("it can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_pull_that_was_stopped_goes_on_where_it_was() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    push(&home, &sources, registry.host()).succeeds();
    let expected = fs::read(sources.beside("large")).unwrap();
    for (signal, code) in [("KILL", None), ("INT", Some(130)), ("TERM", Some(143))] {
        let narrows = Narrows::before(registry.host(), SLOW);
        let directory = sources.beside(&format!("pulled-{signal}"));
        let reference = format!("{}/widgets:1.2.3", narrows.host());
        let pull = || {
            let output = directory.to_str().unwrap();
            home.cargo_oci(["pull", &reference, "--output", output])
        };
        let stopped = pull().stopped_by(signal, || narrows.down() > LARGE / 2);
        assert_eq!(stopped.code, code, "{stopped}");
        assert_eq!(
            names(&directory),
            [".oci-partial"],
            "nothing has its name yet"
        );
        let before = narrows.down();
        narrows.widen();
        pull().succeeds();
        assert_eq!(names(&directory), ["large"]);
        assert!(fs::read(directory.join("large")).unwrap() == expected);
        let again = narrows.down() - before;
        assert!(
            again < LARGE * 3 / 4,
            "{again} bytes of {LARGE} came after {signal}"
        );
    }
}

#[test]
fn a_push_that_was_stopped_leaves_nothing_half_and_can_be_done_again() {
    require!(DockerRegistry);
    for (signal, code) in [("KILL", None), ("INT", Some(130))] {
        let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
        let narrows = Narrows::before(registry.host(), SLOW);
        let push = || push(&home, &sources, narrows.host());
        let stopped = push().stopped_by(signal, || narrows.up() > LARGE / 2);
        assert_eq!(stopped.code, code, "{stopped}");
        assert!(
            registry.tags("widgets").is_empty(),
            "a tag names what is whole"
        );
        let is_cancelled = registry.log().contains("DELETE");
        assert_eq!(is_cancelled, signal == "INT", "{}", registry.log());
        narrows.widen();
        push().succeeds();
        assert_eq!(
            registry.tags("widgets").len(),
            2,
            "{:?}",
            registry.tags("widgets")
        );
    }
}
