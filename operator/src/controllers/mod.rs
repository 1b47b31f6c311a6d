//! One folder a kind, one file a phase.
//!
//! | file | what it does | I/O |
//! |---|---|---|
//! | dereference | reads what the object refers to | yes |
//! | validate | decides whether the object is accepted, and why not | no |
//! | build | says what should exist | no |
//! | apply | makes it exist | yes |
//! | status | says what came of it | writes the status, if it differs |
//!
//! Status is computed at the end of every path, and never read as a source of facts.

pub mod access_policy;
pub mod api_key;
pub mod drift;
pub mod enforced;
pub mod events;
pub mod lane_pool;
pub mod orders;
pub mod ownership;
pub mod plan;
pub mod query_user;
pub mod rule;
pub mod settle;
pub mod tenant;
pub mod triggers;
pub mod usage_limit;
pub mod write;

use std::time::Duration;

use crds::condition::{Condition, RECONCILING, find};
use jiff::Timestamp;

use crate::conditions::{Statements, Why};

/// How long something that an object refers to may be missing before the object counts as stalled.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// States that the object waits for something that may still come; beyond [`PATIENCE`] that it is stalled. Returns when
/// to look again, if that changes by time.
pub fn waiting(
    statements: &mut Statements,
    why: &Why,
    previous: &[Condition],
    now: Timestamp,
) -> Option<Duration> {
    let begun = find(previous, RECONCILING)
        .filter(|condition| condition.reason == why.reason)
        .map(|condition| condition.last_transition_time);
    let stalled =
        find(previous, crds::condition::STALLED).is_some_and(|condition| condition.reason == why.reason);
    let waited = begun.map_or(Duration::ZERO, |begun| {
        Duration::try_from(now.duration_since(begun)).unwrap_or(Duration::ZERO)
    });
    if stalled || waited >= PATIENCE {
        statements.stalled(why);
        return None;
    }
    statements.reconciling(why);
    Some(PATIENCE - waited + Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::condition::{READY, STALLED};

    #[test]
    fn patience_ends_after_two_minutes_and_not_before() {
        let why = Why::new("WaitingForTenant", "no tenant names namespace x");
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut statements = Statements::default();
        assert_eq!(waiting(&mut statements, &why, &[], at(1_000)).unwrap().as_secs(), 120);
        let first = statements.conditions(&[], Some(1), at(1_000));
        let mut statements = Statements::default();
        assert_eq!(waiting(&mut statements, &why, &first, at(1_100)).unwrap().as_secs(), 20);
        let second = statements.conditions(&first, Some(1), at(1_100));
        assert_eq!(first, second, "nothing new to write");
        let mut statements = Statements::default();
        assert_eq!(waiting(&mut statements, &why, &second, at(1_120)), None);
        let third = statements.conditions(&second, Some(1), at(1_120));
        assert!(find(&third, STALLED).is_some() && find(&third, RECONCILING).is_none());
        assert_eq!(find(&third, READY).unwrap().reason, "WaitingForTenant");
        let mut statements = Statements::default();
        assert_eq!(waiting(&mut statements, &why, &third, at(1_130)), None, "it stays stalled");
    }
}
