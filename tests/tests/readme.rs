//! Comparison of the commands in the README with the commands in the CI scripts.

use std::fs;

use e2e::testbed::repository_root;

/// Returns the commands of a CI script. Omits comments and shell options.
fn script_commands(script: &str) -> Vec<&str> {
    let lines = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let housekeeping = |line: &str| {
        ["#", "set ", "cd "]
            .iter()
            .any(|start| line.starts_with(start))
    };
    lines.filter(|line| !housekeeping(line)).collect()
}

/// Returns the lines inside the fenced code blocks of a Markdown document.
fn code_block_lines(markdown: &str) -> Vec<&str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            lines.push(line.trim());
        }
    }
    lines
}

#[test]
fn ci_runs_both_readme_commands() {
    let script = fs::read_to_string(repository_root().join(".ci/run")).unwrap();
    let commands = script_commands(&script);
    let expected = [
        "cargo oci push --package cargo-oci-artifact --registry oci:target/oci",
        "./tests/run",
    ];
    assert_eq!(commands, expected);
    let readme =
        fs::read_to_string(repository_root().join("README.md")).expect("README.md can be read");
    let shown = code_block_lines(&readme);
    let position = |command: &str| {
        let found = shown
            .iter()
            .position(|line| line.trim_start_matches("$ ") == command);
        found.unwrap_or_else(|| panic!("no code block of README.md has the line `{command}`"))
    };
    assert!(
        position(commands[0]) < position(commands[1]),
        "README and CI run the commands in different order"
    );
}

#[test]
fn fenced_code_blocks_are_extracted_line_by_line() {
    assert_eq!(
        code_block_lines("a\n```sh\nb\n```\nc\n```\nd\n```"),
        ["b", "d"]
    );
}
