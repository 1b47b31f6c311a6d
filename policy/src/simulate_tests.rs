use event::wire::{Form, parse};

use super::*;
use crate::decide::tests::limit;
use crate::limit::{Measure, Per};
use crate::snapshot::tests::snapshot;

/// Noon, UTC.
const DAY_ONE: i64 = 1_769_947_200_000;
const DAY_MS: i64 = 86_400_000;

fn of(limit: Limit, from_ms: i64) -> Simulation {
    let utc = Snapshot { time_zone: "UTC".into(), ..snapshot(vec![]) };
    Simulation::new(&utc, limit, from_ms).unwrap()
}

fn per_user(max: u64) -> Limit {
    Limit { max, ..limit("exports", Per::User, Measure::Count, &["export.*"]) }
}

fn take(simulation: &mut Simulation, user: u128, feature: &str, data: &str, received_ms: i64) {
    let json = format!(r#"{{"id":"e","type":"{feature}","subject":"user-{user}","data":{data}}}"#);
    let event = parse(&json, Form::Plain).unwrap();
    simulation.take(Stored { event: &event, user: UserKey(user), received_ms }).unwrap();
}

#[test]
fn each_user_has_the_cap_anew_in_each_period() {
    let mut simulation = of(per_user(3), DAY_ONE);
    for (user, events, day) in [(1, 5, 0), (2, 2, 0), (1, 4, 1), (3, 7, 1)] {
        for n in 0..events {
            take(&mut simulation, user, "export.pdf", "{}", DAY_ONE + day * DAY_MS + n);
        }
    }
    take(&mut simulation, 1, "login", "{}", DAY_ONE + DAY_MS);
    let outcome = simulation.finish(2);
    assert_eq!((outcome.seen.events, outcome.seen.counted, outcome.seen.blocked), (19, 18, 7));
    assert_eq!((outcome.blocked_users, outcome.seen.first_blocked_ms), (2, Some(DAY_ONE + 3)));
    let worst: Vec<_> = outcome.worst.iter().map(|user| (user.user.as_deref(), user.events)).collect();
    assert_eq!(worst, [(Some("user-3"), 4), (Some("user-1"), 3)]);
    assert_eq!((outcome.worst[1].first_ms, outcome.worst[1].last_ms), (DAY_ONE + 3, DAY_ONE + DAY_MS + 3));
}

#[test]
fn what_came_before_counts_and_is_not_told() {
    let mut simulation = of(per_user(3), DAY_ONE);
    assert_eq!(simulation.counts_from_ms(), DAY_ONE - DAY_MS / 2);
    for n in 0..4 {
        take(&mut simulation, 1, "export.pdf", "{}", DAY_ONE - 10 + n);
    }
    take(&mut simulation, 1, "export.pdf", "{}", DAY_ONE);
    let outcome = simulation.finish(10);
    assert_eq!((outcome.seen.events, outcome.seen.blocked), (1, 1));
    assert_eq!(outcome.worst[0].first_ms, DAY_ONE);
}

#[test]
fn sums_block_what_does_not_fit_and_admit_what_does() {
    let tokens =
        Limit { max: 100, ..limit("tokens", Per::Tenant, Measure::Sum { field: "tokens".into() }, &[]) };
    let mut simulation = of(tokens, DAY_ONE);
    for (n, amount) in ["60", "50", "40", "1", "0", "-5"].iter().enumerate() {
        take(&mut simulation, n as u128, "chat", &format!(r#"{{"tokens":{amount}}}"#), DAY_ONE + n as i64);
    }
    let outcome = simulation.finish(10);
    assert_eq!((outcome.seen.blocked, outcome.seen.blocked_units, outcome.seen.unreadable), (2, 51, 1));
    assert_eq!(outcome.seen.counted, 4, "what sums to nothing is not counted");
}

#[test]
fn a_limit_that_only_observes_is_tried_as_if_enforced_for_the_users_that_its_rollout_reaches() {
    let rolled_out = |percent| {
        let limit = Limit { mode: Mode::Observe, rollout_percent: percent, ..per_user(1) };
        let mut simulation = of(limit, DAY_ONE);
        for n in 0..400 {
            take(&mut simulation, n / 2, "export.pdf", "{}", DAY_ONE + n as i64);
        }
        simulation.finish(0).blocked_users
    };
    assert_eq!((rolled_out(0), rolled_out(100)), (0, 200));
    assert!((60..140).contains(&rolled_out(50)), "{}", rolled_out(50));
}

#[test]
fn a_limit_that_does_not_compile_is_no_simulation() {
    let mut wrong = per_user(1);
    wrong.matches.expression = Some("event.".into());
    assert!(Simulation::new(&snapshot(vec![]), wrong, 0).is_err());
}
