//! Operation on several packages. The failure of one does not stop the others.

use crate::report::Error;
use crate::session::Session;

/// Outcome of a successful operation on a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PackageOutcome {
    Changed,
    Unchanged,
}

/// Outcomes of an operation on several packages.
pub(super) struct PackageBatch<'a> {
    session: &'a Session,
    /// Infinitive and participle of the operation, such as `install` and `installed`.
    verb: (&'static str, &'static str),
    total: usize,
    succeeded: Vec<String>,
    unchanged: Vec<String>,
    failed: Vec<String>,
    first_error: Option<Error>,
}

impl<'a> PackageBatch<'a> {
    /// Creates a batch of `total` packages.
    pub(super) fn new(
        session: &'a Session,
        verb: (&'static str, &'static str),
        total: usize,
    ) -> Self {
        Self {
            session,
            verb,
            total,
            succeeded: Vec::new(),
            unchanged: Vec::new(),
            failed: Vec::new(),
            first_error: None,
        }
    }

    /// Adds the outcome of one package, and prints its error. If there is only one package, returns its error instead.
    pub(super) fn add(
        &mut self,
        name: String,
        outcome: Result<PackageOutcome, Error>,
    ) -> Result<(), Error> {
        match outcome {
            Ok(PackageOutcome::Changed) => self.succeeded.push(name),
            Ok(PackageOutcome::Unchanged) => self.unchanged.push(name),
            Err(error) if self.total == 1 || error.is_closed_pipe() => return Err(error),
            Err(error) => {
                self.session.reporter.fail(&error);
                self.failed.push(name);
                self.first_error.get_or_insert(error);
            }
        }
        Ok(())
    }

    /// Whether the operation changed at least one package.
    pub(super) fn has_changes(&self) -> bool {
        !self.succeeded.is_empty()
    }

    /// Prints the summary as cargo does. Fails with the exit code of the first failure.
    pub(super) fn finish(self) -> Result<(), Error> {
        let (infinitive, participle) = self.verb;
        let mut summary = Vec::new();
        if !self.succeeded.is_empty() {
            summary.push(format!(
                "Successfully {participle} {}!",
                self.succeeded.join(", ")
            ));
        }
        if !self.unchanged.is_empty() {
            summary.push(format!("Unchanged: {}.", self.unchanged.join(", ")));
        }
        if !self.failed.is_empty() {
            summary.push(format!(
                "Failed to {infinitive} {} (see error(s) above).",
                self.failed.join(", ")
            ));
        }
        if self.total > 1 {
            self.session.reporter.status("Summary", summary.join(" "));
        }
        match self.first_error {
            None => self.session.reporter.finish(),
            Some(first) => {
                let (failed, total) = (self.failed.len(), self.total);
                let message = format!("failed to {infinitive} {failed} of {total} packages");
                Err(Error::summary(message, &first))
            }
        }
    }
}
