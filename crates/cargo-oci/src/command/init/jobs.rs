//! Search for target triples in the release jobs of GitHub Actions and GitLab workflows.
//!
//! Jobs that only run tests are ignored, because their targets are not published.

use std::collections::BTreeSet;
use std::path::Path;

use oci_package::TargetCfg;
use serde_json::Value;

use super::{MAX_TEXT_LENGTH, Suggestion};

/// Patterns for workflow files, relative to the workspace root.
const WORKFLOWS: [&str; 3] = [
    ".github/workflows/*.yml",
    ".github/workflows/*.yaml",
    ".gitlab-ci.yml",
];

/// Maximum size of a workflow file, in bytes.
const MAX_WORKFLOW: u64 = 1 << 20;

/// Keys of a workflow or job. A command can refer to their values with variables and expressions.
const VARIABLES: [&str; 4] = ["strategy", "parallel", "env", "variables"];

/// Keys of a step or job that contain commands.
const COMMANDS: [&str; 3] = ["run", "before_script", "script"];

/// Returns the triples in all workflow files. The source of each triple is the first file that contains it.
pub(super) fn targets(root: &Path) -> Vec<Suggestion> {
    let mut found: Vec<Suggestion> = Vec::new();
    let directory = glob::Pattern::escape(&root.to_string_lossy());
    for pattern in WORKFLOWS {
        let files = glob::glob(&format!("{directory}/{pattern}"));
        for file in files.into_iter().flatten().flatten() {
            let text = oci_registry::read_regular_text(&file, MAX_WORKFLOW);
            let text = text.unwrap_or_default();
            let shown = file.strip_prefix(root).unwrap_or(&file).to_string_lossy();
            let shown = oci_registry::escape(&shown, MAX_TEXT_LENGTH);
            for value in workflow_targets(&text) {
                if !found.iter().any(|known| known.value == value) {
                    let origin = format!("`{shown}`");
                    found.push(Suggestion { value, origin });
                }
            }
        }
    }
    found
}

/// Returns the triples in one workflow's release jobs.
fn workflow_targets(text: &str) -> Vec<String> {
    let workflow: Value = serde_saphyr::from_str(text).unwrap_or_default();
    // In GitLab workflows, jobs are top-level keys.
    let jobs = workflow.get("jobs").unwrap_or(&workflow).as_object();
    let jobs = jobs.into_iter().flat_map(|jobs| jobs.values());
    jobs.flat_map(|job| job_targets(&workflow, job)).collect()
}

fn job_targets(workflow: &Value, job: &Value) -> Vec<String> {
    let steps = job.get("steps").and_then(Value::as_array);
    // The steps contain the commands in GitHub workflows, and the job itself contains them in GitLab workflows.
    let parts = steps.into_iter().flatten().chain([job]);
    let mut found = Vec::new();
    for part in parts {
        let commands = COMMANDS.into_iter().filter_map(|key| part.get(key));
        let commands = commands.flat_map(collect_strings).flat_map(split_commands);
        for command in commands.filter(|command| builds_release(command)) {
            found.extend(find_triples(&command));
            let levels = [workflow, job, part].into_iter();
            let set = levels.flat_map(|level| VARIABLES.map(|key| level.get(key)));
            let set: Vec<_> = set.flatten().collect();
            let is_set = |value: &&Value| value.get("CARGO_BUILD_TARGET").is_some();
            if command.contains('$') || set.iter().any(is_set) {
                let texts = set.into_iter().flat_map(collect_strings);
                found.extend(texts.flat_map(find_triples));
            }
        }
    }
    found
}

/// Returns all strings in a value, except those under the key `exclude` of a matrix.
fn collect_strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(collect_strings).collect(),
        Value::Object(entries) => {
            let entries = entries.iter().filter(|(key, _)| *key != "exclude");
            entries
                .flat_map(|(_, value)| collect_strings(value))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Splits a script into commands, and removes comments. A line that ends with `\`, or with a backtick in PowerShell,
/// continues on the next line.
fn split_commands(script: &str) -> Vec<String> {
    let script = script.replace("\\\n", " ").replace("`\n", " ");
    let lines = script.lines().map(|line| {
        let words = line.split_whitespace();
        let words = words.take_while(|word| !word.starts_with('#'));
        words.collect::<Vec<_>>().join(" ")
    });
    let commands = lines.flat_map(|line| {
        let commands = line.split([';', '|', '&']).map(str::to_owned);
        commands.collect::<Vec<_>>()
    });
    commands.collect()
}

/// Whether a command builds or publishes a release: `cargo build --release`, `cross build`, `cargo zigbuild` or
/// `cargo oci push`.
fn builds_release(command: &str) -> bool {
    let words = command.split_whitespace();
    let words = words.map(|word| {
        let word = word.trim_start_matches(['$', '(']).trim_end_matches(')');
        word.trim_matches(['"', '\''])
    });
    let words: Vec<_> = words.filter(|word| !word.starts_with('+')).collect();
    if words.first().is_some_and(|word| *word == "echo") {
        return false;
    }
    let is_release = words.iter().any(|word| is_release_flag(word))
        || words
            .windows(2)
            .any(|pair| pair == ["--profile", "release"]);
    words.iter().enumerate().any(|(at, program)| {
        let name = program.rsplit('/').next().unwrap_or_default();
        match (name, subcommand(&words[at + 1..])) {
            ("cargo", Some("build" | "b")) => is_release,
            ("cross", Some("build" | "b"))
            | ("cargo" | "cargo-zigbuild", Some("zigbuild"))
            | ("oci" | "cargo-oci", Some("push")) => true,
            _ => false,
        }
    })
}

/// Whether a word is `--release`, `--profile=release`, or a group of short flags that contains `r`, such as `-qr`.
fn is_release_flag(word: &str) -> bool {
    let is_short =
        |flags: &str| flags.contains('r') && flags.chars().all(|flag| "qrv".contains(flag));
    ["--release", "--profile=release"].contains(&word)
        || word.strip_prefix('-').is_some_and(is_short)
}

/// Returns the first word that is neither an option nor the value of one of cargo's common options.
fn subcommand<'w>(words: &[&'w str]) -> Option<&'w str> {
    let mut words = words.iter();
    loop {
        match *words.next()? {
            "--config" | "--color" | "-Z" | "-C" => {
                words.next();
            }
            word if word.starts_with('-') => {}
            word => return Some(word),
        }
    }
}

/// Returns the target triples among the words of a string. The glibc version that `cargo zigbuild` accepts after a
/// triple is removed.
fn find_triples(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let words = text.split(|letter| !is_part(letter));
    let words = words.filter(|word| word.contains('-'));
    let triples = words.map(|word| oci_package::platform::target_name(word, ""));
    triples
        .filter(|name| TargetCfg::builtin(name).is_some())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUSL: &str = "x86_64-unknown-linux-musl";
    const MAC: &str = "aarch64-apple-darwin";

    #[test]
    fn targets_of_release_jobs_are_found() {
        let workflow = format!(
            "jobs:\n\
             \x20 release:\n\
             \x20   strategy:\n\
             \x20     matrix:\n\
             \x20       target: [{MUSL}, aarch64-unknown-linux-gnu.2.17]\n\
             \x20       include: [{{ target: {MAC}, os: macos-latest }}]\n\
             \x20       exclude: [{{ target: i686-pc-windows-msvc }}]\n\
             \x20   steps:\n\
             \x20     - run: rustup target add x86_64-pc-windows-gnu\n\
             \x20     - run: |\n\
             \x20         cargo build --locked \\\n\
             \x20           --release --target ${{{{ matrix.target }}}} # and not wasm32-wasip1\n\
             \x20 test:\n\
             \x20   strategy: {{ matrix: {{ target: [s390x-unknown-linux-gnu] }} }}\n\
             \x20   steps: [{{ run: 'cross test --target ${{{{ matrix.target }}}}' }}]\n"
        );
        let found: BTreeSet<_> = workflow_targets(&workflow).into_iter().collect();
        let expected = [MAC, MUSL, "aarch64-unknown-linux-gnu"];
        assert_eq!(found, expected.map(str::to_owned).into());
    }

    #[test]
    fn targets_of_test_jobs_are_ignored() {
        for run in [
            "cargo test --release --target x86_64-unknown-linux-musl",
            "cargo build --target x86_64-unknown-linux-musl",
            "cargo build --release && cargo test --target x86_64-unknown-linux-musl",
            "echo x86_64-unknown-linux-musl; cargo build -r",
            "echo cargo build --release --target x86_64-unknown-linux-musl",
            "cargo build --profile dev --target x86_64-unknown-linux-musl",
            "cargo --config a=1 test --release --target x86_64-unknown-linux-musl",
        ] {
            let job = format!("jobs: {{ a: {{ steps: [ {{ run: '{run}' }} ] }} }}");
            assert_eq!(workflow_targets(&job), [""; 0], "{run}");
        }
        let config = format!("[build]\ntarget = \"{MUSL}\"\n");
        assert_eq!(workflow_targets(&config), [""; 0]);
    }

    #[test]
    fn every_release_command_is_recognized() {
        for run in [
            "cargo +nightly build -r --target x86_64-unknown-linux-musl",
            "cargo --locked build --release --target x86_64-unknown-linux-musl",
            "cargo --config a=1 build -qr --target x86_64-unknown-linux-musl",
            "cargo build --profile release --target x86_64-unknown-linux-musl",
            "cargo build --profile=release --target x86_64-unknown-linux-musl",
            "(~/.cargo/bin/cargo b --target x86_64-unknown-linux-musl -r)",
            "cross build --target x86_64-unknown-linux-musl",
            "cargo zigbuild --target x86_64-unknown-linux-musl",
            "cargo oci push --target x86_64-unknown-linux-musl",
            "RUSTFLAGS=-g cargo-oci push --target=x86_64-unknown-linux-musl",
        ] {
            let job = format!("jobs: {{ a: {{ steps: [ {{ run: '{run}' }} ] }} }}");
            assert_eq!(workflow_targets(&job), [MUSL], "{run}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn file_name_of_a_workflow_is_escaped() {
        let root = tempfile::tempdir().expect("a directory");
        let workflows = root.path().join(".github/workflows");
        std::fs::create_dir_all(&workflows).expect("a directory");
        let job = format!("jobs: {{ a: {{ steps: [ run: cargo build -r --target {MUSL} ] }} }}");
        let name = "a\nregistry = 'oci:x'\n#\u{1b}\u{202e}.yml";
        std::fs::write(workflows.join(name), job).expect("a file");
        let found = targets(root.path());
        let expected = "`.github/workflows/a registry = 'oci:x' #\\u{1b}\\u{202e}.yml`";
        assert_eq!(found[0].origin, expected);
    }

    #[test]
    fn targets_in_variables_and_gitlab_jobs_are_found() {
        for workflow in [
            format!(
                "env: {{ CARGO_BUILD_TARGET: {MAC} }}\njobs: {{ a: {{ steps: [run: cargo build -r] }} }}"
            ),
            format!(
                "jobs: {{ a: {{ steps: [{{ env: {{ T: {MAC} }}, run: 'cargo oci push --target $T' }}] }} }}"
            ),
            format!(
                "build:\n  parallel: {{ matrix: [{{ T: [{MAC}] }}] }}\n  script: [cross build --target $T]\n"
            ),
            format!(
                "variables: {{ T: {MAC} }}\nbuild:\n  script:\n    - cargo oci push --target $T\n"
            ),
        ] {
            let found: BTreeSet<_> = workflow_targets(&workflow).into_iter().collect();
            assert_eq!(found, [MAC.to_owned()].into(), "{workflow}");
        }
    }
}
