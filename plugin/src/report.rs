//! Conversion of library errors to Nushell errors, and output of warnings on stderr.
//!
//! A Nushell error has the message of the library error, a label at the argument that caused the error, a code for
//! scripts, the hints as help text, and the chain of causes as inner errors.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nu_protocol::{LabeledError, Span};
use oci_registry::{ClientEvent, ErrorKind, Observer};

use crate::hints;

/// Conversion of a library error to a Nushell error.
pub(crate) trait ToLabeledError {
    /// Converts the error, with the default label of its kind at `span`.
    fn at(&self, span: Span) -> LabeledError;

    /// Converts the error, with the given label at `span`.
    fn labelled(&self, label: &str, span: Span) -> LabeledError;
}

impl ToLabeledError for oci_registry::Error {
    fn at(&self, span: Span) -> LabeledError {
        self.labelled(default_label(self.kind()), span)
    }

    fn labelled(&self, label: &str, span: Span) -> LabeledError {
        let mut report = new(self.kind(), escape(&self.to_string()), label, span);
        let hints = hints::texts(self);
        if !hints.is_empty() {
            report = report.with_help(hints.join("\n"));
        }
        let causes = std::iter::successors(self.source(), |cause| (*cause).source());
        for cause in causes {
            report = report.with_inner(LabeledError::new(escape(&cause.to_string())));
        }
        report
    }
}

/// Creates an error for invalid input that the plugin itself detected.
pub(crate) fn invalid(message: impl Into<String>, label: &str, span: Span) -> LabeledError {
    new(ErrorKind::InvalidInput, message, label, span)
}

/// Creates an error for missing content that the plugin itself detected.
pub(crate) fn not_found(message: impl Into<String>, label: &str, span: Span) -> LabeledError {
    new(ErrorKind::NotFound, message, label, span)
}

/// Creates an error that the plugin itself detected.
pub(crate) fn new(
    kind: ErrorKind,
    message: impl Into<String>,
    label: &str,
    span: Span,
) -> LabeledError {
    LabeledError::new(message)
        .with_code(kind.code())
        .with_label(label, span)
}

/// Prints a warning that explains why cells of a row are empty.
///
/// An error value in a cell would abort a pipeline that reads the cell.
pub(crate) fn warn_incomplete_row(name: &str, error: &oci_registry::Error) {
    let reason = error.in_one_line();
    warn(&format!("no details of `{name}`: {reason}"));
}

/// Creates an observer that prints all events as warnings, except requests. Invalid names are reported once for each
/// repository or registry that lists them.
pub(crate) fn observer() -> Observer {
    let warned = Mutex::new(HashSet::new());
    Observer::new(move |event| match event {
        ClientEvent::OmittedNames(omitted) => {
            let mut warned = warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.insert(omitted.location().to_owned()) {
                warn(&omitted.to_string());
            }
        }
        ClientEvent::Request { .. } => {}
        _ => warn(&event.to_string()),
    })
}

/// Prints a problem that does not end the command.
pub(crate) fn warn(message: &str) {
    print("Warning", message);
}

/// Prints information that is not a problem.
pub(crate) fn note(message: &impl fmt::Display) {
    print("Note", &message.to_string());
}

#[expect(
    clippy::print_stderr,
    reason = "stderr is the only channel for warnings and notes of a plugin"
)]
fn print(label: &str, message: &str) {
    let message = escape(message);
    if IN_WORKFLOW.load(Ordering::Relaxed) {
        eprintln!("{label}: {}", safe(&message));
    } else {
        eprintln!("{label}: {message}");
    }
}

/// Whether a CI runner scans the output of the shell for workflow commands.
static IN_WORKFLOW: AtomicBool = AtomicBool::new(false);

/// Sets whether a CI runner scans the output of the shell.
pub(crate) fn configure(is_in_workflow: bool) {
    IN_WORKFLOW.store(is_in_workflow, Ordering::Relaxed);
}

/// Removes workflow commands from the messages of an error if a CI runner scans the output of the shell.
pub(crate) fn without_workflow_commands(error: LabeledError) -> LabeledError {
    if IN_WORKFLOW.load(Ordering::Relaxed) {
        with_texts(error, &safe)
    } else {
        error
    }
}

/// Applies `replace` to every message, help text and label of an error and of its inner errors.
fn with_texts(mut error: LabeledError, replace: &impl Fn(&str) -> String) -> LabeledError {
    error.msg = replace(&error.msg);
    error.help = error.help.as_deref().map(replace);
    for label in error.labels.iter_mut() {
        label.text = replace(&label.text);
    }
    for inner in error.inner.iter_mut() {
        let labeled = LabeledError::from(inner.clone());
        *inner = with_texts(labeled, replace).into();
    }
    error
}

/// Returns the text without workflow commands.
fn safe(text: &str) -> String {
    oci_registry::without_workflow_commands(text, " [")
}

/// Returns the default label of an error kind.
fn default_label(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "invalid value",
        ErrorKind::Unauthenticated => "authentication failed",
        ErrorKind::Denied => "access denied",
        ErrorKind::NotFound => "not found",
        ErrorKind::Conflict => "exists with different content",
        ErrorKind::Network => "not reachable",
        ErrorKind::RateLimited => "rate limit exceeded",
        ErrorKind::Mismatch => "digest or size mismatch",
        ErrorKind::Unsupported => "not supported",
        ErrorKind::Protocol | ErrorKind::Io => "requested here",
    }
}

/// Escapes control characters in text that may come from a registry.
fn escape(text: &str) -> String {
    oci_registry::escape(text, 4000)
}

#[cfg(test)]
mod tests {
    use nu_protocol::ShellError;

    use super::*;

    #[test]
    fn parse_error_has_code_message_help_and_label() {
        let error = "ghcr.io/acme/Widgets".parse::<oci_registry::Reference>();
        let report = error.unwrap_err().at(Span::new(3, 9));
        assert_eq!(report.code.as_deref(), Some("oci::invalid_input"));
        assert_eq!(
            report.msg,
            "failed to parse the reference `ghcr.io/acme/Widgets`: a repository name must be lower case"
        );
        assert_eq!(report.help.as_deref(), Some("write `ghcr.io/acme/widgets`"));
        assert_eq!(report.labels[0].span, Span::new(3, 9));
        assert!(report.inner.is_empty());
    }

    #[test]
    fn workflow_commands_are_neutralized_in_all_texts() {
        let error = LabeledError::new("##[a]")
            .with_help("##[b]")
            .with_label("##[c]", Span::test_data())
            .with_inner(LabeledError::new("##[d]").with_inner(LabeledError::new("##[e]")));
        let printed = format!("{:?}", with_texts(error, &safe));
        assert!(!printed.contains("##["), "{printed}");
        for letter in ["a", "b", "c", "d", "e"] {
            assert!(printed.contains(&format!("## [{letter}]")), "{printed}");
        }
    }

    #[test]
    fn error_with_cause_has_one_inner_error() {
        let error = oci_package::ReleaseTag::parse("a b").unwrap_err();
        let report = error.at(Span::test_data());
        let causes: Vec<_> = report.inner.iter().map(ShellError::to_string).collect();
        assert_eq!(report.msg, "invalid tag `a b`");
        assert_eq!(causes.len(), 1);
        assert!(causes[0].contains("a tag is made of"), "{causes:?}");
    }
}
