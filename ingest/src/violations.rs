//! Denials as records: aggregated per limit, subject and second, written behind the answer's back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event::violation::{Effect, RuleKind, Violation};
use event::{Incarnation, Lane, TenantName, TenantNumber};
use jetstream::Publisher;
use tokio::sync::mpsc;

use crate::metrics::Metrics;

const QUEUE: usize = 4_096;
const SAMPLES: usize = 3;
const FLUSH_EVERY: Duration = Duration::from_secs(1);
const ACK_TIMEOUT: Duration = Duration::from_secs(2);

/// One attempt that a rule did not admit.
#[derive(Debug, Clone)]
pub struct Denial {
    /// The tenant.
    pub tenant: TenantName,
    /// Its lineage as a number.
    pub number: TenantNumber,
    /// Its lane.
    pub lane: Lane,
    /// Identity of the rule.
    pub rule: String,
    /// What kind of rule it is.
    pub kind: RuleKind,
    /// What became of the attempt.
    pub effect: Effect,
    /// Pseudonym of the user.
    pub user_key: event::UserKey,
    /// When it was received, Unix milliseconds.
    pub received_ms: i64,
    /// The event's id.
    pub id: String,
}

/// Where denials are handed in; never blocks.
#[derive(Clone)]
pub struct Violations {
    queue: mpsc::Sender<Denial>,
    metrics: Arc<Metrics>,
}

impl Violations {
    /// Starts the writer.
    pub fn start(publisher: Publisher, incarnation: Incarnation, metrics: Arc<Metrics>) -> Self {
        let (queue, denials) = mpsc::channel(QUEUE);
        tokio::spawn(write(denials, publisher, incarnation, metrics.clone()));
        Self { queue, metrics }
    }

    /// Records a denial, or counts that it could not be: a blocked tenant must not slow anybody down.
    pub fn record(&self, denial: Denial) {
        if self.queue.try_send(denial).is_err() {
            self.metrics.violations_dropped.inc();
        }
    }
}

type Group = (TenantName, String, RuleKind, Effect, event::UserKey, i64);

async fn write(
    mut denials: mpsc::Receiver<Denial>,
    publisher: Publisher,
    incarnation: Incarnation,
    metrics: Arc<Metrics>,
) {
    let mut groups: HashMap<Group, Violation> = HashMap::new();
    let mut flush = tokio::time::interval(FLUSH_EVERY);
    let mut number = 0u64;
    loop {
        tokio::select! {
            denial = denials.recv() => match denial {
                Some(denial) => add(&mut groups, denial),
                None => return,
            },
            _ = flush.tick() => for (_, violation) in groups.drain() {
                number += 1;
                let (id, subject) = (format!("{incarnation}:{number}"), violation.tenant.violations_subject());
                let body = serde_json::to_vec(&violation).unwrap_or_default();
                if let Err(error) = publisher.publish(&subject, &[], &id, body.into(), ACK_TIMEOUT).await {
                    tracing::warn!(%error, "violations were not recorded");
                    metrics.violations_dropped.inc_by(violation.count);
                }
            },
        }
    }
}

fn add(groups: &mut HashMap<Group, Violation>, denial: Denial) {
    let second = denial.received_ms.div_euclid(1_000);
    let (rule, kind) = (denial.rule.clone(), denial.kind);
    let group = (denial.tenant.clone(), rule, kind, denial.effect, denial.user_key, second);
    let violation = groups.entry(group).or_insert_with(|| Violation {
        tenant: denial.tenant,
        number: denial.number,
        lane: denial.lane,
        rule: denial.rule,
        kind: denial.kind,
        effect: denial.effect,
        user_key: denial.user_key,
        second,
        count: 0,
        first_ms: denial.received_ms,
        last_ms: denial.received_ms,
        samples: Vec::new(),
    });
    violation.count += 1;
    violation.last_ms = denial.received_ms;
    if violation.samples.len() < SAMPLES {
        violation.samples.push(denial.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_of_a_second_become_one_record() {
        let denial = |ms: i64, id: &str| Denial {
            tenant: "acme".parse().unwrap(),
            number: TenantNumber(1),
            lane: Lane::Pooled(0),
            rule: "plan.events".into(),
            kind: RuleKind::Limit,
            effect: Effect::Refused,
            user_key: event::UserKey(2),
            received_ms: ms,
            id: id.into(),
        };
        let mut groups = HashMap::new();
        for i in 0..10 {
            add(&mut groups, denial(5_000 + i, &i.to_string()));
        }
        add(&mut groups, denial(6_000, "x"));
        assert_eq!(groups.len(), 2);
        let first = groups.values().find(|violation| violation.second == 5).unwrap();
        assert_eq!((first.count, first.first_ms, first.last_ms), (10, 5_000, 5_009));
        assert_eq!(first.samples, ["0", "1", "2"]);
    }
}
