//! System tests: the real kube-apiserver, NATS, ClickHouse and Vault, and our own processes under their own rights.
//!
//! Tests of the first group run side by side, each with a tenant of its own; those of the second kill processes and
//! run one after another. `cargo xtask test` runs them; `cargo test -p system-tests NAME` runs one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod admin_api;
mod bad_input;
mod clock;
mod conformance;
mod contracts;
mod counts;
mod crash;
mod dead_letters;
mod deletion;
mod event_path;
mod exact_limits;
mod failure_modes;
mod gitops;
mod identity;
mod isolation;
mod ledger_lost;
mod moves;
mod orders;
mod policy_language;
mod pools;
mod query_users;
mod quickstart;
mod rates;
mod reservations;
mod rights;
mod rollups;
mod seeding;
mod tls;
mod total_quotas;
mod violations;
mod webhook;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use system_tests::World;

type Test = (&'static str, fn(&World));

/// Tests that share the platform without disturbing each other.
fn side_by_side() -> Vec<Test> {
    [
        quickstart::TESTS,
        query_users::TESTS,
        event_path::TESTS,
        bad_input::TESTS,
        exact_limits::TESTS,
        isolation::TESTS,
        policy_language::TESTS,
        pools::TESTS,
        moves::TESTS,
        identity::TESTS,
        deletion::TESTS,
        conformance::TESTS,
        gitops::TESTS,
        orders::TESTS,
        rates::TESTS,
        reservations::TESTS,
        rollups::TESTS,
        seeding::TESTS,
        contracts::TESTS,
        counts::TESTS,
        dead_letters::TESTS,
        admin_api::TESTS,
        violations::TESTS,
        total_quotas::TESTS,
        webhook::TESTS,
    ]
    .concat()
}

/// Tests that kill processes, or take from them what the others need.
fn alone() -> Vec<Test> {
    [
        failure_modes::TESTS,
        tls::TESTS,
        clock::TESTS,
        conformance::ALONE,
        crash::TESTS,
        violations::CRASH_TESTS,
        dead_letters::CRASH_TESTS,
        ledger_lost::CRASH_TESTS,
        total_quotas::DEATHS,
        webhook::ALONE,
    ]
    .concat()
}

/// Tests of what all others have left behind.
fn last_of_all() -> Vec<Test> {
    [rights::LAST_TESTS, conformance::LAST_TESTS].concat()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let trials = |world: Option<&Arc<World>>, tests: Vec<Test>| -> Vec<Trial> {
        let trial = |(name, test): Test| {
            let world = world.cloned();
            Trial::test(name, move || {
                test(world.as_deref().ok_or("the platform is not running")?);
                Ok(())
            })
        };
        tests.into_iter().map(trial).collect()
    };
    if arguments.list {
        let all = trials(None, [side_by_side(), alone(), last_of_all()].concat());
        return libtest_mimic::run(&arguments, all).exit_code();
    }
    let world = match World::start() {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("the platform did not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let first = libtest_mimic::run(&arguments, trials(Some(&world), side_by_side()));
    arguments.test_threads = Some(1);
    let second = libtest_mimic::run(&arguments, trials(Some(&world), alone()));
    // Only the whole suite says what is never used.
    let last =
        if arguments.filter.is_none() && arguments.skip.is_empty() { last_of_all() } else { Vec::new() };
    let last = libtest_mimic::run(&arguments, trials(Some(&world), last));
    let crashed = world.platform.crashes();
    for crash in &crashed {
        eprintln!("a process ended by itself: {crash:?}");
    }
    world.platform.stop();
    let failed = first.has_failed() || second.has_failed() || last.has_failed() || !crashed.is_empty();
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
