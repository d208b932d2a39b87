//! Errors of the core as errors of Nushell.
//!
//! Owns how an error looks in the shell: its message, a label at the argument that caused it, a code that scripts can
//! branch on, advice, and each cause by itself; and warnings beside a table. Does not own any wording of the core's errors.

use std::collections::HashSet;
use std::error::Error;
use std::sync::{Mutex, PoisonError};

use nu_protocol::{LabeledError, Span};
use oci_registry::{ErrorKind, Observer, Step};

use crate::hints;

/// Conversion of an error of the libraries into one of the shell.
pub(crate) trait Report {
    /// Returns the error with the label for its kind at `span`.
    fn at(&self, span: Span) -> LabeledError;

    /// Returns the error with another label at `span`.
    fn labelled(&self, label: &str, span: Span) -> LabeledError;
}

impl Report for oci_registry::Error {
    fn at(&self, span: Span) -> LabeledError {
        self.labelled(label(self.kind()), span)
    }

    fn labelled(&self, label: &str, span: Span) -> LabeledError {
        let mut report = new(self.kind(), shown(&self.to_string()), label, span);
        let hints = hints::of(self);
        if !hints.is_empty() {
            report = report.with_help(hints.join("\n"));
        }
        let causes = std::iter::successors(self.source(), |cause| (*cause).source());
        for cause in causes {
            report = report.with_inner(LabeledError::new(shown(&cause.to_string())));
        }
        report
    }
}

/// An error of what was asked, which no library was asked to do.
pub(crate) fn invalid(message: impl Into<String>, label: &str, span: Span) -> LabeledError {
    new(ErrorKind::InvalidInput, message, label, span)
}

/// An error of what was looked for in vain, by this program itself.
pub(crate) fn not_found(message: impl Into<String>, label: &str, span: Span) -> LabeledError {
    new(ErrorKind::NotFound, message, label, span)
}

/// An error of this program itself.
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

/// Prints why cells of a single row are empty, beside the table: an error in a cell would end whatever reads it.
pub(crate) fn warn_of_row(name: &str, error: &oci_registry::Error) {
    let why = error.in_one_line();
    warn(&format!("`{name}` could not be looked at: {why}"));
}

/// An observer that prints one warning for each place that lists names which cannot be used.
pub(crate) fn list_observer() -> Observer {
    let warned = Mutex::new(HashSet::new());
    Observer::new(move |step| {
        if let Step::OmittedNames(omitted) = step {
            let mut warned = warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.insert(omitted.place().to_owned()) {
                warn(&omitted.to_string());
            }
        }
    })
}

#[expect(
    clippy::print_stderr,
    reason = "the shell has no other way for a plugin to say something beside its answer"
)]
fn warn(message: &str) {
    eprintln!("Warning: {}", shown(message));
}

/// What stands under the argument.
fn label(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "this cannot be right",
        ErrorKind::Unauthenticated => "needs a login",
        ErrorKind::Denied => "access to this is denied",
        ErrorKind::NotFound => "this was not found",
        ErrorKind::Conflict => "holds something else already",
        ErrorKind::Network => "this could not be reached",
        ErrorKind::RateLimited => "asked too often",
        ErrorKind::Mismatch => "sent something else than was asked for",
        ErrorKind::Unsupported => "does not offer this",
        ErrorKind::Protocol | ErrorKind::Io => "asked for here",
    }
}

/// A text that may be a stranger's, as a terminal may show it.
fn shown(text: &str) -> String {
    oci_registry::escape(text, 4000)
}

#[cfg(test)]
mod tests {
    use nu_protocol::ShellError;

    use super::*;

    #[test]
    fn an_error_says_what_where_and_what_to_do() {
        let error = "ghcr.io/acme/Widgets".parse::<oci_registry::Reference>();
        let report = error.unwrap_err().at(Span::new(3, 9));
        assert_eq!(report.code.as_deref(), Some("oci::invalid_input"));
        assert_eq!(
            report.msg,
            "failed to parse the reference `ghcr.io/acme/Widgets`: a repository name is lower case"
        );
        assert_eq!(report.help.as_deref(), Some("write `ghcr.io/acme/widgets`"));
        assert_eq!(report.labels[0].span, Span::new(3, 9));
        assert!(report.inner.is_empty());
    }

    #[test]
    fn each_cause_is_named_once() {
        let error = oci_package::ReleaseTag::parse("a b").unwrap_err();
        let report = error.at(Span::test_data());
        let causes: Vec<_> = report.inner.iter().map(ShellError::to_string).collect();
        assert_eq!(report.msg, "failed to use `a b` as a tag");
        assert_eq!(causes.len(), 1);
        assert!(causes[0].contains("a tag is made of"), "{causes:?}");
    }
}
