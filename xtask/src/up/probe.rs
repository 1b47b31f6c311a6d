//! How long an event takes from its 202 to the dashboard: measured with events that are looked for by a user of their own.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::quickstart::Tenant;
use super::traffic::Tally;
use crate::http::Http;
use crate::load::{Batch, Sender};
use crate::{Cancel, Error, Result, clock};

/// Between two probes of a tenant.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How often the dashboard is asked for the event.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// When it is given up: far beyond what is promised.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
/// Longest wait for one answer of the console.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The delays of a tenant's probes.
#[derive(Debug, Default)]
pub(super) struct Delays(Mutex<Vec<Duration>>);

impl Delays {
    fn push(&self, delay: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(delay);
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    /// The longest one.
    pub(super) fn longest(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().max().copied()
    }
}

/// Probes one tenant until `end`. The events count as any other in `tally`.
pub(super) fn run(prober: &Prober<'_>, tenant: &Tenant, tally: &Tally, delays: &Delays, end: &Cancel) {
    for number in 1_u64.. {
        if let Ok(Some(delay)) = prober.probe(tenant, number, tally, end) {
            delays.push(delay);
        }
        if end.pause(PROBE_EVERY).is_err() {
            return;
        }
    }
}

/// Sends to the ingest pods and looks at the console.
pub(super) struct Prober<'a> {
    sender: &'a Sender,
    http: Http,
    console: &'a str,
    run: &'a str,
}

impl<'a> Prober<'a> {
    /// For a run whose name no other run has.
    pub(super) fn new(sender: &'a Sender, console: &'a str, run: &'a str) -> Self {
        Self { sender, http: Http::new(ANSWER_WITHIN), console, run }
    }

    /// Sends one event and waits until its user's page shows it; `None` when a limit refused it or it never showed.
    fn probe(&self, tenant: &Tenant, number: u64, tally: &Tally, end: &Cancel) -> Result<Option<Duration>> {
        let user = format!("probe-{}-{number}", self.run);
        let mut batch = Batch::default();
        batch.push(
            &json!({"id": user, "type": "up.probe", "subject": user, "time": clock::now().to_string()})
                .to_string(),
        );
        let result = match self.sender.post(&tenant.ingest.key, batch) {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            result => result,
        };
        let (accepted, answered) =
            (result.as_ref().is_ok_and(|outcome| outcome.accepted == 1), Instant::now());
        tally.settle(1, result);
        if !accepted {
            return Ok(None);
        }
        let url = format!("{}/v1/dashboard/users/{user}/analytics?from=now-1h", self.console);
        let bearer = format!("Bearer {}", tenant.read.key);
        end.until(GIVE_UP_AFTER, LOOK_EVERY, || {
            // Until it is stored, the user is unknown; a console that does not answer has not shown it either.
            let answer = self.http.get(&url, &[("authorization", &bearer)]);
            let shown = answer.is_ok_and(|answer| answer.ok() && answer.json()["events"].as_u64() >= Some(1));
            Ok(shown.then(|| answered.elapsed()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_and_the_longest_delay_are_kept() {
        let delays = Delays::default();
        assert_eq!(delays.last(), None);
        [3, 9, 5].into_iter().for_each(|ms| delays.push(Duration::from_millis(ms)));
        assert_eq!(delays.last(), Some(Duration::from_millis(5)));
        assert_eq!(delays.longest(), Some(Duration::from_millis(9)));
    }
}
