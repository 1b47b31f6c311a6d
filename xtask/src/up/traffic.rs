//! Simulated traffic of the example's tenants: steady, small batches, as an application's backend sends them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::load::pool::Totals;
use crate::load::{Batch, Outcome, Sender};
use crate::simulate::rng::Rng;
use crate::simulate::spread::Spread;
use crate::{Cancel, Error, clock};

/// Between two batches of a tenant.
const BATCH_EVERY: Duration = Duration::from_millis(350);
/// Users of a tenant.
const USERS: usize = 200;
/// What they use, the most used first.
const FEATURES: [&str; 8] = [
    "page.view",
    "search.query",
    "document.open",
    "ai.summarize",
    "report.export",
    "file.upload",
    "ai.translate",
    "team.invite",
];

/// What became of a tenant's events so far.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Totals>);

impl Tally {
    /// What it is now.
    pub(super) fn totals(&self) -> Totals {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what became of a batch of `events`.
    pub(super) fn settle(&self, events: u64, result: Result<Outcome, Error>) {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        totals.sent += events;
        match result {
            Ok(outcome) => {
                totals.accepted += outcome.accepted;
                totals.duplicates += outcome.duplicates;
                totals.limited += outcome.limited;
                totals.rejected += outcome.rejected;
                totals.retries += u64::from(outcome.retries);
                totals.reasons.extend(outcome.reasons);
            }
            Err(error) => {
                totals.lost += events;
                totals.reasons.push(error.to_string());
            }
        }
        totals.reasons.truncate(5);
    }
}

/// Makes one tenant's events. The same seed makes the same events, but for their ids, which begin with `run`.
pub(super) struct Generator {
    rng: Rng,
    features: Spread,
    users: Spread,
    run: String,
    made: u64,
}

impl Generator {
    /// For a run whose name no other run has.
    pub(super) fn new(run: &str, seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            features: Spread::zipf(FEATURES.len(), 1.0),
            users: Spread::zipf(USERS, 0.8),
            run: run.to_owned(),
            made: 0,
        }
    }

    /// The next event, at `time`.
    fn event(&mut self, time: &str) -> String {
        self.made += 1;
        let feature = FEATURES[self.features.choose(&mut self.rng)];
        let mut data = json!({"latencyMs": (20.0 * self.rng.log_normal(0.6)).round()});
        if feature.starts_with("ai.") {
            data["tokens"] = json!(1 + self.rng.below(400));
        }
        if feature == "report.export" {
            data["format"] = json!(["pdf", "csv"][self.rng.below(2)]);
        }
        let user = format!("user-{:03}", self.users.choose(&mut self.rng) + 1);
        let id = format!("{}-{}", self.run, self.made);
        json!({"id": id, "type": feature, "subject": user, "time": time, "data": data}).to_string()
    }

    /// The next 10 to 50 events.
    fn batch(&mut self) -> Batch {
        let time = clock::now().to_string();
        let mut batch = Batch::default();
        for _ in 0..10 + self.rng.below(41) {
            batch.push(&self.event(&time));
        }
        batch
    }
}

/// Sends one tenant's traffic until `end`.
pub(super) fn send(sender: &Sender, key: &str, mut generator: Generator, tally: &Tally, end: &Cancel) {
    while !end.is_set() {
        let batch = generator.batch();
        let events = batch.events();
        match sender.post(key, batch) {
            // Nobody waits for the verdict of a run that was interrupted.
            Err(Error::Interrupted) => return,
            result => tally.settle(events, result),
        }
        if end.pause(BATCH_EVERY).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use event::wire::{self, Form};

    use super::*;

    #[test]
    fn every_event_is_one_that_ingest_takes() {
        let mut generator = Generator::new("run", 1);
        let ids: std::collections::BTreeSet<String> = (0..500)
            .map(|_| {
                let json = generator.event("2026-11-20T10:00:00Z");
                let event = wire::parse(&json, Form::Plain).unwrap();
                assert_eq!(event.attribute("tokens").is_some(), event.feature.starts_with("ai."));
                event.id.into_owned()
            })
            .collect();
        assert_eq!(ids.len(), 500);
        assert!((10..=50).contains(&generator.batch().events()));
    }

    #[test]
    fn what_is_not_answered_is_lost_and_says_why() {
        let tally = Tally::default();
        tally.settle(3, Ok(Outcome { accepted: 2, limited: 1, ..Outcome::default() }));
        tally.settle(4, Err(Error::NotRunning));
        let totals = tally.totals();
        assert_eq!((totals.sent, totals.accepted, totals.limited, totals.lost), (7, 2, 1, 4));
        assert_eq!(totals.reasons.len(), 1);
    }
}
