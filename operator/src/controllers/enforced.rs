//! `Enforced`: whether every live ingest pod decides by what the object says.

use std::time::Duration;

use crds::condition::{Condition, ConditionStatus, ENFORCED, READY, find};
use tokio::time::Instant;

use crate::conditions::{Statements, Why};
use crate::fleet::Reach;

/// A newer revision of the same spec is on its way to pods: for so long `Enforced` stays as it is.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// A revision of a snapshot, and how far it has come.
#[derive(Debug)]
pub struct Standing {
    /// The revision that carries what the object says.
    pub revision: u64,
    /// How far it has come.
    pub reach: Reach,
    /// When it was published.
    pub published: Instant,
}

/// States `Enforced`. Returns when to look again, if that changes by time.
pub fn state(
    statements: &mut Statements,
    standing: &Standing,
    reason: &str,
    previous: &[Condition],
    generation: Option<i64>,
) -> Option<Duration> {
    let revision = standing.revision;
    match &standing.reach {
        Reach::All => {
            statements.yes(ENFORCED, reason, "every live ingest pod decides by it");
        }
        Reach::NoPods => {
            statements.set(ENFORCED, ConditionStatus::Unknown, Why::new("NoPods", "no ingest pod is alive"));
        }
        Reach::Refused { pod, reason } => {
            let message = format!("pod {pod} does not take revision {revision} over: {reason}");
            statements.no(ENFORCED, Why::new("Refused", message));
        }
        Reach::Recalling(pods) => {
            let shown = shown(pods);
            let message = format!("units of a higher cap are still on their way back from {shown}");
            statements.no(ENFORCED, Why::new("Recalling", message));
        }
        Reach::Seeding => {
            let message =
                "what was used before is being counted: until then it is charged and nothing refused";
            statements.no(ENFORCED, Why::new("Seeding", message));
        }
        Reach::LedgerLost(ledger) => {
            let message = format!(
                "quota ledger {ledger} is lost and being rebuilt from stored events: what the limit counts is answered 503 until then"
            );
            statements.no(ENFORCED, Why::new("LedgerLost", message));
        }
        Reach::Lagging(pods) => {
            let was = find(previous, ENFORCED).is_some_and(|old| {
                old.status == ConditionStatus::True && old.observed_generation == generation
            });
            let on_its_way = ON_ITS_WAY.saturating_sub(standing.published.elapsed());
            if was && !on_its_way.is_zero() {
                statements.keep(ENFORCED, previous);
                return Some(on_its_way);
            }
            let (behind, shown) = (pods.len(), shown(pods));
            let message = format!("{behind} of the live pods have not applied revision {revision}: {shown}");
            statements.no(ENFORCED, Why::new("Applying", message));
        }
    }
    None
}

fn shown(pods: &[String]) -> String {
    pods.iter().take(3).cloned().collect::<Vec<_>>().join(", ")
}

/// The revision with which this generation was enforced for the first time: once reached, it stands.
pub fn latched(standing: Option<&Standing>, old: Option<i64>, same_generation: bool) -> Option<i64> {
    let reached = standing.filter(|standing| standing.reach == Reach::All);
    old.filter(|_| same_generation).or_else(|| i64::try_from(reached?.revision).ok())
}

/// States `Ready` for a rule or key that is accepted and programmed: it is ready once it was enforced.
pub fn ready(statements: &mut Statements, latched: Option<i64>, standing: Option<&Standing>) {
    if latched.is_some() {
        statements.yes(READY, "Ready", "in force as written");
        return;
    }
    let (reason, message) = match standing.map(|standing| &standing.reach) {
        Some(Reach::NoPods) => ("NoPods", "no ingest pod is alive to enforce it"),
        Some(Reach::Recalling(_)) => ("Recalling", "units of a higher cap are on their way back"),
        Some(Reach::Seeding) => ("Seeding", "what was used before is being counted"),
        Some(Reach::LedgerLost(_)) => ("LedgerLost", "its quota ledger is being rebuilt"),
        Some(Reach::Refused { .. }) => ("Refused", "an ingest pod does not take it over"),
        _ => ("Applying", "ingest pods are taking it over"),
    };
    statements.reconciling(&Why::new(reason, message));
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[tokio::test(start_paused = true)]
    async fn a_revision_on_its_way_does_not_make_enforced_flap() {
        let mut old = Statements::default();
        old.yes(ENFORCED, "Enforcing", "");
        let old = old.conditions(&[], Some(3), Timestamp::UNIX_EPOCH);
        let standing = Standing {
            revision: 9,
            reach: Reach::Lagging(vec!["ingest-1".into()]),
            published: Instant::now(),
        };
        let status = |generation| {
            let mut statements = Statements::default();
            let again = state(&mut statements, &standing, "Enforcing", &old, Some(generation));
            (statements.status(ENFORCED), again.is_some())
        };
        assert_eq!(status(3), (Some(ConditionStatus::True), true));
        assert_eq!(
            status(4),
            (Some(ConditionStatus::False), false),
            "a new spec is not enforced before it is"
        );
        tokio::time::advance(ON_ITS_WAY).await;
        assert_eq!(status(3), (Some(ConditionStatus::False), false));
    }
}
