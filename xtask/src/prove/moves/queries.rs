//! Somebody who asks for tenants' events all the time, as the console may, and compares each answer with the one before.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::prove::Job;
use crate::prove::report::Round;
use crate::prove::world::World;
use crate::{Cancel, Error, Result};

/// Pause between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(50);

/// What the answers say of one tenant: rows, distinct ids, sum of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Answer {
    rows: u64,
    ids: u64,
    value: u64,
}

/// What was asked and what was wrong.
#[derive(Debug, Default)]
pub(super) struct Asked {
    last: BTreeMap<&'static str, Answer>,
    answers: u64,
    failed: u64,
    fewer: u64,
    doubled: u64,
    first_wrong: Option<String>,
}

impl Asked {
    fn take(&mut self, tenant: &'static str, answer: Answer) {
        self.answers += 1;
        let last = self.last.insert(tenant, answer).unwrap_or_default();
        let fewer = answer.rows < last.rows || answer.ids < last.ids || answer.value < last.value;
        let doubled = answer.rows != answer.ids;
        self.fewer += u64::from(fewer);
        self.doubled += u64::from(doubled);
        if (fewer || doubled) && self.first_wrong.is_none() {
            self.first_wrong = Some(format!("{tenant}: {last:?}, then {answer:?}"));
        }
    }

    /// Puts what was found into the round.
    pub(super) fn judge(&self, round: &mut Round) {
        round.number("queries while tenants moved", self.answers);
        round.number("first wrong answer", self.first_wrong.clone());
        round.at_most("queries that show less than the one before", self.fewer as f64, 0.0);
        round.at_most("queries that show an event twice", self.doubled as f64, 0.0);
        round.at_most("queries that failed", self.failed as f64, 0.0);
        round.at_most(
            "tenants of whom no query was answered",
            (super::MOVERS.len() - self.last.len()) as f64,
            0.0,
        );
    }
}

/// Asks while `act` runs.
///
/// # Errors
/// Those of `act`.
pub(super) fn meanwhile<T: Send>(
    job: &Job<'_>,
    world: &World,
    tenants: &[&'static str],
    act: impl FnOnce() -> Result<T> + Send,
) -> Result<(T, Asked)> {
    let over = Cancel::default();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = Asked::default();
            while over.pause(PAUSE).is_ok() && !job.cancel.is_set() {
                for tenant in tenants {
                    match ask(world, tenant) {
                        Ok(answer) => asked.take(tenant, answer),
                        Err(error) => {
                            asked.failed += 1;
                            asked.first_wrong.get_or_insert(error.to_string());
                        }
                    }
                }
            }
            asked
        });
        let done = act();
        over.set();
        let asked = asking.join().map_err(|_| Error::Interrupted)?;
        Ok((done?, asked))
    })
}

fn ask(world: &World, tenant: &str) -> Result<Answer> {
    let sql =
        format!("SELECT count(), uniqExact(id), toUInt64(sum(value)) FROM tenant_{tenant}.events FORMAT TSV");
    let lines = world.clickhouse(&sql)?;
    let numbers: Vec<u64> = lines.iter().flat_map(|line| line.split('\t')).flat_map(str::parse).collect();
    match numbers.as_slice() {
        [rows, ids, value] => Ok(Answer { rows: *rows, ids: *ids, value: *value }),
        _ => Err(Error::Format { what: format!("events of {tenant}"), detail: lines.join(" ") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_shown_twice_or_no_more_is_noticed() {
        let answer = |rows, ids| Answer { rows, ids, value: rows };
        let mut asked = Asked::default();
        for (rows, ids) in [(3, 3), (5, 5), (5, 5)] {
            asked.take("users", answer(rows, ids));
        }
        asked.take("total", answer(1, 1));
        assert_eq!((asked.answers, asked.fewer, asked.doubled), (4, 0, 0));
        asked.take("users", answer(4, 4));
        asked.take("total", answer(3, 2));
        assert_eq!((asked.fewer, asked.doubled), (1, 1));
        assert!(asked.first_wrong.is_some_and(|wrong| wrong.starts_with("users")));
    }
}
