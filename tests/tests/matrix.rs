//! Eight jobs that publish one version at the same time, with and without delays. No entry is lost, and no job fails.
//!
//! Each test is one round, in which all jobs run at the same time. `cargo run -p e2e --example matrix N` runs N rounds.

use e2e::delay::Delays;
use e2e::matrix::{JobCommand, Matrix, Round};
use e2e::require;

fn run_round(work: JobCommand, delays: Delays) -> Round {
    let round = Matrix::new(delays).round(work, 1);
    assert!(round.is_complete(), "{round:#?}");
    round
}

#[test]
fn index_pushed_by_eight_jobs_is_complete() {
    require!(DockerRegistry);
    run_round(JobCommand::Push, Delays::None);
}

#[test]
fn index_pushed_with_late_responses_is_complete() {
    require!(DockerRegistry);
    run_round(JobCommand::Push, Delays::Responses);
}

#[test]
fn index_pushed_with_stale_tag_lists_is_complete() {
    require!(DockerRegistry);
    run_round(JobCommand::Push, Delays::Lists);
}

#[test]
fn jobs_with_declared_targets_write_the_same_index() {
    require!(DockerRegistry);
    let round = run_round(JobCommand::PushDeclared, Delays::None);
    assert_eq!(round.index_puts.len(), 1, "one content: {round:#?}");
}

#[test]
fn index_add_of_eight_jobs_keeps_all_entries() {
    require!(DockerRegistry);
    run_round(JobCommand::IndexAdd, Delays::Responses);
}
