//! Stress test of eight matrix jobs that publish one version at the same time.
//!
//! ```console
//! $ cargo build -p cargo-oci-artifact && cargo run -p e2e --example matrix 20
//! ```
//!
//! The first argument is the number of rounds for each command and delay. A second argument (`Push`, `PushDeclared` or
//! `IndexAdd`) selects one command. The example prints one table row for each command and delay. If a job fails or an
//! entry is lost, the example prints the failures to stderr and exits with 1.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is the output of the example"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use e2e::delay::Delays;
use e2e::matrix::{JobCommand, Matrix, TARGETS};
use e2e::testbed::{Tool, are_installed};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next();
    let Ok(rounds) = rounds.as_deref().unwrap_or("20").parse::<usize>() else {
        eprintln!("error: invalid number of rounds: expected a number");
        return ExitCode::from(2);
    };
    let only = arguments.next();
    let commands = [
        JobCommand::Push,
        JobCommand::PushDeclared,
        JobCommand::IndexAdd,
    ];
    let is_wanted = |work: &JobCommand| {
        only.as_ref()
            .is_none_or(|only| format!("{work:?}") == *only)
    };
    let commands: Vec<_> = commands.into_iter().filter(is_wanted).collect();
    if commands.is_empty() {
        eprintln!("error: invalid command: expected Push, PushDeclared or IndexAdd");
        return ExitCode::from(2);
    }
    if !are_installed(&[Tool::DockerRegistry]) {
        return ExitCode::FAILURE;
    }
    println!(
        "| command | delays | rounds | failed jobs | lost entries | rounds by number of index writes | maximum number of distinct indexes in a round | seconds per round |"
    );
    println!("| --- | --- | ---: | ---: | ---: | --- | ---: | ---: |");
    let mut is_whole = true;
    for work in commands {
        for delays in [Delays::None, Delays::Responses, Delays::Lists] {
            is_whole &= run_rounds(work, delays, rounds);
        }
    }
    if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs all rounds of one command with one kind of delay, and prints a table row. Returns whether every job succeeded
/// and no entry was lost.
fn run_rounds(work: JobCommand, delays: Delays, rounds: usize) -> bool {
    let matrix = Matrix::new(delays);
    let began = Instant::now();
    let (mut failed, mut lost, mut contents) = (0, 0, 0);
    let mut writes = BTreeMap::<usize, usize>::new();
    for number in 1..=rounds {
        let round = matrix.round(work, number);
        if !round.is_complete() {
            eprintln!("{work:?}, {delays:?}, round {number}: {round:#?}");
        }
        failed += round.failures.len();
        lost += round.lost.len();
        contents = contents.max(round.index_puts.len());
        *writes.entry(round.index_writes()).or_default() += 1;
    }
    let writes: Vec<_> = writes
        .into_iter()
        .map(|(writes, rounds)| format!("{writes}: {rounds}"))
        .collect();
    let (jobs, seconds) = (rounds * TARGETS.len(), began.elapsed().as_secs_f64());
    println!(
        "| {work:?} | {delays:?} | {rounds} | {failed} of {jobs} | {lost} of {jobs} | {} | {contents} | {:.1} |",
        writes.join(", "),
        seconds / f64::from(u32::try_from(rounds.max(1)).unwrap_or(u32::MAX)),
    );
    failed == 0 && lost == 0
}
