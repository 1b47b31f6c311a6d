//! Building rollups: beside the lanes, for those that this sink holds, day by day (`clickhouse::rollups`).
//!
//! A lane's flushes never wait for it. A build that fails, or is late, makes no number wrong: who reads adds what it does not cover.

mod due;
mod settled;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clickhouse::rollups::{self, Build, DayState};
use clickhouse::{InsertError, LaneInserter};
use event::{Incarnation, Lane};

use crate::clock::now_ms;
use crate::context::Context;
pub use due::Rules;
pub use settled::Settled;

/// Builds of a lane in one go: the others have their turn then.
const AT_ONCE: usize = 4;

/// When to build.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Which days.
    pub rules: Rules,
    /// How long rows are in the tables before they are summed up.
    pub age: Duration,
    /// Pause between two looks at a lane.
    pub pause: Duration,
}

/// What the last look at a lane saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    holder: Incarnation,
    upto: u64,
    /// Something is newer than its build.
    behind: bool,
    /// Days from before the window are built, as far as they can be.
    history: bool,
}

/// Builds until the process ends.
pub async fn run(context: Arc<Context>, settings: Settings) {
    let mut inserter = LaneInserter::new(context.reader.endpoint().clone());
    let mut seen: HashMap<Lane, Seen> = HashMap::new();
    while !context.is_shutting_down() {
        let lanes: Vec<Lane> = context.settled().keys().cloned().collect();
        seen.retain(|lane, _| lanes.contains(lane));
        for lane in lanes {
            let before = seen.get(&lane).copied();
            match look(&context, settings, &mut inserter, &lane, before).await {
                Ok(Some(now)) => drop(seen.insert(lane, now)),
                Ok(None) => {}
                Err(error) => {
                    context.metrics.rollup_failures.inc();
                    // Its tables come with its tenant.
                    tracing::debug!(%lane, %error, "not summed up this time");
                }
            }
            if context.is_shutting_down() {
                return;
            }
        }
        context.pause(settings.pause).await;
    }
}

/// Looks at a lane's days and builds some; `None` when there is nothing new to see.
async fn look(
    context: &Context,
    settings: Settings,
    inserter: &mut LaneInserter,
    lane: &Lane,
    before: Option<Seen>,
) -> Result<Option<Seen>, InsertError> {
    let Some((holder, upto)) = settled(context, lane, settings.age) else { return Ok(None) };
    let before = before.filter(|seen| seen.holder == holder);
    if before.is_some_and(|seen| seen.upto == upto && !seen.behind && seen.history) {
        return Ok(None);
    }
    let now = i64::try_from(now_ms()).unwrap_or(i64::MAX);
    let history = before.is_some_and(|seen| seen.history);
    let since = settings.rules.since(now).filter(|_| history);
    let days = rollups::days(&context.reader, lane, since, upto).await?;
    let due = settings.rules.due(&days, now, matches!(lane, Lane::Dedicated(_)));
    let first = number(&days, now);
    for (number, day) in (first..).zip(due.iter().take(AT_ONCE)) {
        let build = Build { day: *day, number, upto };
        let permit = context.budget.permits.acquire().await;
        let holds = || context.lease.holds(holder) && is_held(context, lane, holder);
        rollups::build(inserter, lane, build, holds).await?;
        drop(permit);
        context.metrics.rollups.inc();
        tracing::debug!(%lane, ?build, "summed up");
    }
    let left = due.len() > AT_ONCE;
    let behind = days.iter().any(|state| state.newer > 0);
    Ok(Some(Seen { holder, upto, behind, history: history || !left }))
}

/// The next number: milliseconds, so that it tells when, and larger than all before, whatever the clock says.
fn number(days: &[DayState], now_ms: i64) -> u64 {
    let last = days.iter().filter_map(|state| state.build).max().unwrap_or(0);
    u64::try_from(now_ms).unwrap_or(0).max(last + 1)
}

/// Who holds a lane, and its last settled intent.
fn settled(context: &Context, lane: &Lane, age: Duration) -> Option<(Incarnation, u64)> {
    let mut all = context.settled();
    let settled = all.get_mut(lane)?;
    settled.upto(Instant::now(), age).map(|upto| (settled.holder, upto))
}

fn is_held(context: &Context, lane: &Lane, holder: Incarnation) -> bool {
    context.settled().get(lane).is_some_and(|settled| settled.holder == holder)
}

#[cfg(test)]
mod tests {
    use clickhouse::Day;

    use super::*;

    #[test]
    fn a_build_has_a_larger_number_than_all_before_it() {
        let state = |build| DayState { day: Day::of(0).unwrap(), rows: 1, newer: 0, build };
        assert_eq!(number(&[], 1_000), 1_000);
        assert_eq!(number(&[state(Some(5_000)), state(None)], 1_000), 5_001, "the clock went back");
    }
}
