//! Standard streams of the process. No other module writes to them.
//!
//! GitHub Actions runners scan both streams for [workflow commands]: `::` at the start of a line, and `##[` anywhere in
//! a line. Text from a registry is untrusted and must not be executed as a command. If `GITHUB_ACTIONS` is set, a space
//! is therefore inserted into both markers. The runners of Forgejo and Gitea also set this variable. Blobs, tar streams
//! and manifests with `--raw` are not changed, because their exact bytes are printed.
//!
//! [workflow commands]: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use oci_registry::{Environment, without_workflow_commands};

/// Whether a CI runner scans the streams for workflow commands.
static IN_WORKFLOW: AtomicBool = AtomicBool::new(false);

/// Detects a CI runner from the environment. Must be called before the first output.
pub(crate) fn configure(environment: &Environment) {
    let is_set = environment.var("GITHUB_ACTIONS").is_some();
    IN_WORKFLOW.store(is_set, Ordering::Relaxed);
}

/// Writes text to stdout, in one or more lines.
pub(crate) fn write_line(text: &str) -> io::Result<()> {
    write_bytes(format!("{}\n", escape_workflow_commands(text)).as_bytes())
}

/// Writes JSON to stdout, in one or more lines. Control characters and workflow commands are replaced by JSON escape
/// sequences.
pub(crate) fn write_json(text: &str) -> io::Result<()> {
    write_bytes(
        format!(
            "{}\n",
            escape_if_scanned(&escape_active_characters(text), "\\u005b")
        )
        .as_bytes(),
    )
}

/// Writes bytes to stdout unchanged.
pub(crate) fn write_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush())
}

/// Writes styled text to stdout.
pub(crate) fn write_styled(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    let written = stdout.write_all(escape_workflow_commands(text).as_bytes());
    written.and_then(|()| stdout.flush())
}

/// Writes styled text to stderr.
pub(crate) fn write_stderr(text: &str) -> io::Result<()> {
    let mut stderr = anstream::stderr().lock();
    let written = stderr.write_all(escape_workflow_commands(text).as_bytes());
    written.and_then(|()| stderr.flush())
}

/// Writes a workflow command to stderr: `::NAME::DATA`.
pub(crate) fn write_workflow_command(name: &str, data: &str) -> io::Result<()> {
    let data = data
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A");
    writeln!(
        anstream::stderr().lock(),
        "::{name}::{}",
        without_workflow_commands(&data, " [")
    )
}

/// Inserts a space into workflow commands in text, if a CI runner scans the output.
pub(crate) fn escape_workflow_commands(text: &str) -> Cow<'_, str> {
    escape_if_scanned(text, " [")
}

/// Escapes workflow commands in text, if a CI runner scans the output. `bracket` replaces the `[` of `##[`.
fn escape_if_scanned<'t>(text: &'t str, bracket: &str) -> Cow<'t, str> {
    if IN_WORKFLOW.load(Ordering::Relaxed) {
        without_workflow_commands(text, bracket).into()
    } else {
        text.into()
    }
}

/// Escapes control and formatting characters in JSON, because a terminal would interpret them.
fn escape_active_characters(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '\n' && oci_registry::needs_escape(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> serde_json::Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn control_characters_in_json_are_escaped() {
        let text = "{\n  \"a\": \"x\u{9b}31m\u{202e}y\"\n}";
        let shown = escape_active_characters(text);
        assert_eq!(shown, "{\n  \"a\": \"x\\u009b31m\\u202ey\"\n}");
        assert_eq!(read(&shown), read(text));
    }

    #[test]
    fn workflow_commands_in_json_are_escaped() {
        let text = "{\"a\":\"::b\\n##[c]\",\"##\":[\"[\"]}";
        let shown = without_workflow_commands(text, "\\u005b");
        assert_eq!(shown, "{\"a\":\"::b\\n##\\u005bc]\",\"##\":[\"[\"]}");
        assert_eq!(read(&shown), read(text));
    }
}
