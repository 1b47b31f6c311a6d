//! Which of the living sinks a lane falls to, so that replicas share the lanes.
//!
//! Rendezvous hashing (Thaler, Ravishankar 1996) over the sinks that renew their leases: every sink computes the same answer from
//! bucket `leases`, and when one comes or goes only its own share moves. It decides who *tries*; who holds a lane is decided by the
//! lane's intent alone, so sinks that see different leases disturb nobody's rows.

use std::time::{Duration, Instant};

use event::{Incarnation, Lane};

/// How long a free lane is left to the sink that it falls to.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a lane has fallen to another sink before its holder gives it away: longer than a sink that starts over and over lives.
const SETTLED: Duration = Duration::from_secs(10);
/// The same for a lane that was taken because nobody else did.
const SETTLED_AFTER_RESCUE: Duration = Duration::from_secs(300);

/// The sink that a lane falls to among `sinks`.
pub fn falls_to(lane: &Lane, sinks: impl Iterator<Item = Incarnation>) -> Option<Incarnation> {
    let lane = lane.to_string();
    sinks.max_by_key(|sink| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&sink.0.to_le_bytes()).update(lane.as_bytes());
        *hasher.finalize().as_bytes()
    })
}

/// When this sink takes a lane, and when it gives it away. Times are those of one monotonic clock.
#[derive(Debug, Default)]
pub struct Turn {
    free_since: Option<Instant>,
    /// Since when a lane that this sink holds falls to another one.
    others_since: Option<Instant>,
    rescued: bool,
}

impl Turn {
    /// Whether to take a lane that nobody holds. `ours`: it falls to this sink.
    pub fn takes(&mut self, ours: bool, now: Instant) -> bool {
        let since = *self.free_since.get_or_insert(now);
        self.rescued = !ours;
        ours || now.saturating_duration_since(since) >= PATIENCE
    }

    /// Somebody holds the lane.
    pub fn held(&mut self) {
        self.free_since = None;
    }

    /// Whether to give away the lane that this sink holds.
    pub fn gives_away(&mut self, ours: bool, now: Instant) -> bool {
        if ours {
            (self.others_since, self.rescued) = (None, false);
            return false;
        }
        let since = *self.others_since.get_or_insert(now);
        let settled = if self.rescued { SETTLED_AFTER_RESCUE } else { SETTLED };
        let gives = now.saturating_duration_since(since) >= settled;
        if gives {
            *self = Self::default();
        }
        gives
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(lane: usize, sinks: &[u128]) -> u128 {
        let lane = Lane::Dedicated(format!("tenant-{lane}").parse().unwrap());
        falls_to(&lane, sinks.iter().map(|sink| Incarnation(*sink))).unwrap().0
    }

    #[test]
    fn lanes_spread_evenly_and_only_the_share_of_a_sink_that_ends_moves() {
        let (all, left) = ([11, 22, 33, 44], [44, 22, 11]);
        let mut counts = [0; 4];
        for lane in 0..400 {
            let before = owner(lane, &all);
            counts[all.iter().position(|sink| *sink == before).unwrap()] += 1;
            let after = owner(lane, &left);
            assert!(after == before || before == 33, "{before} {after}");
        }
        assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
        assert_eq!(falls_to(&Lane::Pooled(1), std::iter::empty()), None);
    }

    #[test]
    fn a_free_lane_is_taken_at_once_by_its_own_sink_and_later_by_any() {
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        assert!(Turn::default().takes(true, start));
        let mut turn = Turn::default();
        assert!(!turn.takes(false, start) && !turn.takes(false, after(9)));
        turn.held();
        assert!(!turn.takes(false, after(10)), "it was taken and is free again");
        assert!(turn.takes(false, after(20)));
    }

    #[test]
    fn a_lane_is_given_away_when_another_sink_has_stayed() {
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        let mut turn = Turn::default();
        assert!(turn.takes(true, start));
        assert!(!turn.gives_away(false, start) && !turn.gives_away(false, after(9)));
        assert!(!turn.gives_away(true, after(9)), "the other one is gone again");
        assert!(!turn.gives_away(false, after(12)));
        assert!(turn.gives_away(false, after(22)));
        // Its own sink does not take it: whoever does keeps it for a while.
        assert!(!turn.takes(false, after(23)) && turn.takes(false, after(33)));
        assert!(!turn.gives_away(false, after(34)) && !turn.gives_away(false, after(330)));
        assert!(turn.gives_away(false, after(335)));
    }
}
