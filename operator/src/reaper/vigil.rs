//! When to look for records of dead pods: a look reads every record, so it follows an event and no clock.

use std::collections::BTreeSet;
use std::time::Duration;

use event::Incarnation;
use tokio::time::Instant;

/// Pause behind a look that failed.
const AGAIN: Duration = Duration::from_secs(30);

/// What was seen, and what follows.
#[derive(Debug)]
pub struct Vigil {
    /// Pods that were heard when heartbeats were last looked at.
    live: BTreeSet<Incarnation>,
    /// Tenants of whose records the lane was not known.
    waits_for: BTreeSet<String>,
    /// When to look; `None`: nothing has happened.
    due: Option<Instant>,
}

impl Vigil {
    /// Pods may have died before this process started: it looks once.
    pub fn new(now: Instant) -> Self {
        Self { live: BTreeSet::new(), waits_for: BTreeSet::new(), due: Some(now) }
    }

    /// Takes over which pods are heard, and of which lineages the lane is known.
    pub fn look(&mut self, live: BTreeSet<Incarnation>, placed: &BTreeSet<String>, now: Instant) {
        let gone = !self.live.is_subset(&live);
        let placed_now = !self.waits_for.is_disjoint(placed);
        if (gone || placed_now) && self.due.is_none() {
            self.due = Some(now);
        }
        self.live = live;
    }

    /// Whether to look at the records now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// The records were looked at: `waits_for` whose lane is not known, or it failed.
    pub fn looked(&mut self, waits_for: Option<BTreeSet<String>>, now: Instant) {
        match waits_for {
            Some(waits_for) => (self.waits_for, self.due) = (waits_for, None),
            None => self.due = Some(now + AGAIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(ids: &[u128]) -> BTreeSet<Incarnation> {
        ids.iter().map(|id| Incarnation(*id)).collect()
    }

    #[test]
    fn records_are_read_at_the_start_and_when_a_pod_is_missed() {
        let (now, none) = (Instant::now(), BTreeSet::new());
        let mut vigil = Vigil::new(now);
        assert!(vigil.is_due(now));
        vigil.looked(Some(none.clone()), now);
        vigil.look(pods(&[1, 2]), &none, now);
        vigil.look(pods(&[1, 2, 3]), &none, now);
        assert!(!vigil.is_due(now), "pods that come are no reason");
        vigil.look(pods(&[1, 3]), &none, now);
        assert!(vigil.is_due(now));
        vigil.looked(None, now);
        assert!(!vigil.is_due(now) && vigil.is_due(now + AGAIN), "a failure is repeated");
        vigil.looked(Some(none.clone()), now);
        vigil.look(pods(&[1, 3]), &none, now);
        assert!(!vigil.is_due(now));
    }

    #[test]
    fn records_of_a_deleted_tenant_wait_until_it_is_adopted() {
        let (now, lineage) = (Instant::now(), BTreeSet::from(["l".to_owned()]));
        let mut vigil = Vigil::new(now);
        vigil.looked(Some(lineage.clone()), now);
        vigil.look(pods(&[]), &BTreeSet::new(), now);
        assert!(!vigil.is_due(now));
        vigil.look(pods(&[]), &lineage, now);
        assert!(vigil.is_due(now));
    }
}
