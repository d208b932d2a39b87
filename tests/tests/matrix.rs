//! Eight jobs publish one version at once, in fair weather and in bad: nobody's entry is lost, and nobody fails.
//!
//! One round each; `cargo run -p e2e --example matrix` goes on for as many as are wanted.

use e2e::matrix::{Matrix, Round, Work};
use e2e::require;
use e2e::weather::Weather;

fn round(work: Work, weather: Weather) -> Round {
    let round = Matrix::new(weather).round(work, 1);
    assert!(round.is_whole(), "{round:#?}");
    round
}

#[test]
fn an_index_that_grows_loses_nobody() {
    require!(DockerRegistry);
    round(Work::Push, Weather::Fair);
}

#[test]
fn an_index_that_grows_loses_nobody_while_answers_are_late() {
    require!(DockerRegistry);
    round(Work::Push, Weather::Slow);
}

#[test]
fn an_index_that_grows_loses_nobody_while_lists_are_behind() {
    require!(DockerRegistry);
    round(Work::Push, Weather::StaleLists);
}

#[test]
fn an_index_of_declared_targets_is_never_seen_half_full() {
    require!(DockerRegistry);
    let round = round(Work::PushDeclared, Weather::Fair);
    assert_eq!(round.index_puts.len(), 1, "one content: {round:#?}");
}

#[test]
fn entries_that_are_added_at_once_all_stay() {
    require!(DockerRegistry);
    round(Work::IndexAdd, Weather::Slow);
}
