//! When a Lease may be taken: pure.

use std::time::Duration;

use tokio::time::Instant;

use super::LASTS;

/// A holder that promises more is not waited for longer.
const LASTS_AT_MOST: Duration = Duration::from_secs(60);

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who holds it; `None` when it was given back.
    pub holder: Option<String>,
    /// How often it changed hands: the epoch.
    pub transitions: u64,
    /// When it was renewed, by the holder's clock: compared for equality only.
    pub renewed: Option<String>,
    /// How long it lasts without being renewed.
    pub lasts: Option<Duration>,
    /// What a write must expect.
    pub version: Option<String>,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Somebody leads.
    Wait,
    /// Nobody does, or nobody was heard of for as long as was promised: take it, with this epoch.
    Take {
        /// One more than the last.
        epoch: u64,
    },
}

/// Remembers since when a Lease has said the same.
#[derive(Debug, Default)]
pub struct Watcher(Option<(Found, Instant)>);

impl Watcher {
    /// Judges what `me` found `now`.
    pub fn look(&mut self, found: Option<&Found>, me: &str, now: Instant) -> Claim {
        let Some(found) = found else {
            self.0 = None;
            return Claim::Take { epoch: 1 };
        };
        let epoch = found.transitions + 1;
        // Ours: the answer to our claim was lost.
        if found.holder.as_deref().is_none_or(|holder| holder == me) {
            return Claim::Take { epoch };
        }
        let same = |known: &Found| {
            known.holder == found.holder
                && known.renewed == found.renewed
                && known.transitions == found.transitions
        };
        let since = match &self.0 {
            Some((known, since)) if same(known) => *since,
            _ => {
                self.0 = Some((found.clone(), now));
                now
            }
        };
        let lasts = found.lasts.unwrap_or(LASTS).min(LASTS_AT_MOST);
        if now.duration_since(since) > lasts { Claim::Take { epoch } } else { Claim::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(renewed: &str, transitions: u64) -> Found {
        Found {
            holder: Some("other".into()),
            transitions,
            renewed: Some(renewed.into()),
            lasts: Some(Duration::from_secs(10)),
            version: Some("1".into()),
        }
    }

    #[test]
    fn a_lease_that_nobody_holds_is_taken_at_once_with_the_next_epoch() {
        let now = Instant::now();
        assert_eq!(Watcher::default().look(None, "me", now), Claim::Take { epoch: 1 });
        let released = Found { holder: None, ..held("a", 7) };
        assert_eq!(Watcher::default().look(Some(&released), "me", now), Claim::Take { epoch: 8 });
        let ours = Found { holder: Some("me".into()), ..held("a", 7) };
        assert_eq!(Watcher::default().look(Some(&ours), "me", now), Claim::Take { epoch: 8 });
    }

    #[test]
    fn a_holder_is_waited_for_from_when_its_last_renewal_was_seen() {
        let (mut watcher, begun) = (Watcher::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        // However old the renewal is by the holder's clock: clocks differ.
        assert_eq!(watcher.look(Some(&held("1970", 3)), "me", begun), Claim::Wait);
        assert_eq!(watcher.look(Some(&held("1970", 3)), "me", at(10)), Claim::Wait);
        assert_eq!(watcher.look(Some(&held("1971", 3)), "me", at(11)), Claim::Wait, "it was renewed");
        assert_eq!(watcher.look(Some(&held("1971", 3)), "me", at(21)), Claim::Wait);
        assert_eq!(watcher.look(Some(&held("1971", 3)), "me", at(22)), Claim::Take { epoch: 4 });
    }

    #[test]
    fn an_endless_promise_is_not_waited_for() {
        let (mut watcher, begun) = (Watcher::default(), Instant::now());
        let endless = Found { lasts: Some(Duration::from_secs(1_000_000)), ..held("a", 1) };
        assert_eq!(watcher.look(Some(&endless), "me", begun), Claim::Wait);
        assert_eq!(
            watcher.look(Some(&endless), "me", begun + Duration::from_secs(61)),
            Claim::Take { epoch: 2 }
        );
    }
}
