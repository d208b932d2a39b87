//! Repeated rounds of eight matrix jobs that publish one version at the same time, for each kind of delay and each
//! command.
//!
//! ```console
//! $ cargo build -p cargo-oci-artifact && cargo run -p e2e --example matrix 20
//! ```
//!
//! The argument is the number of rounds of each kind. A second argument (`Push`, `PushDeclared`, `IndexAdd`) selects
//! one command. The example prints one line for each kind. It exits with 1 if a job failed or an entry was lost, and
//! prints the failures to stderr.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "lines are what it is run for"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use e2e::delay::Delays;
use e2e::matrix::{Matrix, TARGETS, Work};
use e2e::testbed::{Part, are_installed};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next();
    let Ok(rounds) = rounds.as_deref().unwrap_or("20").parse::<usize>() else {
        eprintln!("error: the number of rounds is not a number");
        return ExitCode::from(2);
    };
    let only = arguments.next();
    let works = [Work::Push, Work::PushDeclared, Work::IndexAdd];
    let is_wanted = |work: &Work| {
        only.as_ref()
            .is_none_or(|only| format!("{work:?}") == *only)
    };
    let works: Vec<_> = works.into_iter().filter(is_wanted).collect();
    if works.is_empty() {
        eprintln!("error: the way of working is none of Push, PushDeclared and IndexAdd");
        return ExitCode::from(2);
    }
    if !are_installed(&[Part::DockerRegistry]) {
        return ExitCode::FAILURE;
    }
    println!(
        "| work | delays | rounds | jobs that failed | entries lost | rounds by writes of the index | most contents of one index | s a round |"
    );
    println!("| --- | --- | ---: | ---: | ---: | --- | ---: | ---: |");
    let mut is_whole = true;
    for work in works {
        for delays in [Delays::None, Delays::Responses, Delays::Lists] {
            is_whole &= run(work, delays, rounds);
        }
    }
    if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs the rounds of one kind and prints their line. Returns whether no job failed and no entry was lost.
fn run(work: Work, delays: Delays, rounds: usize) -> bool {
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
        *writes.entry(round.writes()).or_default() += 1;
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
