//! Outcome of the tests: a report, or the violation of a requirement.

use std::fmt;

use snafu::{ResultExt, Snafu, ensure};

use crate::error::{ErrorKind, Failure};

/// Report about a target that meets all requirements.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// Descriptions of the requirements that were checked, one sentence each.
    pub requirements: Vec<&'static str>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requirements met", self.requirements.len())
    }
}

#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub(super) enum Error {
    #[snafu(display("failed to create a target for the requirement `{requirement}`"))]
    Make {
        requirement: &'static str,
        source: crate::Error,
    },
    #[snafu(display("the target violates the requirement `{requirement}`"))]
    Violated {
        requirement: &'static str,
        source: Violation,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Make { source, .. } => source.kind(),
            Self::Violated { .. } => ErrorKind::Protocol,
        }
    }
}

/// Violation of a requirement.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub(super) enum Violation {
    #[snafu(display("failed to {step}"))]
    Step {
        step: &'static str,
        source: crate::Error,
    },
    #[snafu(display("expected {expected}"))]
    Outcome { expected: &'static str },
    #[snafu(display("expected {step} to fail with {expected:?}"))]
    OtherKind {
        step: &'static str,
        expected: ErrorKind,
        source: crate::Error,
    },
    #[snafu(display("expected {step} to fail with {expected:?}, but it succeeded"))]
    NoFailure {
        step: &'static str,
        expected: ErrorKind,
    },
}

pub(super) type CheckResult<T = ()> = Result<T, Violation>;

pub(super) fn expect(holds: bool, expected: &'static str) -> CheckResult {
    ensure!(holds, OutcomeSnafu { expected });
    Ok(())
}

pub(super) fn expect_failure<T>(
    outcome: crate::Result<T>,
    expected: ErrorKind,
    step: &'static str,
) -> CheckResult {
    match outcome {
        Ok(_) => NoFailureSnafu { step, expected }.fail(),
        Err(error) if error.kind() == expected => Ok(()),
        Err(error) => Err(error).context(OtherKindSnafu { step, expected }),
    }
}
