//! How far a sink is in its lane, as others may know it: the part of the sink's record in bucket `intents`
//! ([`crate::names::INTENTS_BUCKET`], a key a lane) that is not between the sink and its replays.

use serde::Deserialize;

/// The version of the sink's record.
pub const INTENT_VERSION: u8 = 2;
/// The oldest version that is read.
pub const OLDEST_INTENT_VERSION: u8 = 1;

/// Everything up to `sequence` of the lane's stream is dealt with: its events are in the tables, or were repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// When the lane's stream was created, Unix milliseconds: sequences mean nothing beside another one.
    pub epoch: i64,
    /// Last sequence; 0 before the first.
    pub sequence: u64,
}

/// Why a stored value tells no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Written by a build that this one does not understand.
    #[error(
        "intent version {0} is not supported (this build reads {OLDEST_INTENT_VERSION} to {INTENT_VERSION})"
    )]
    UnknownVersion(u8),
    /// Not a record.
    #[error("the intent is unreadable: {0}")]
    Unreadable(String),
}

#[derive(Deserialize)]
struct Intent {
    epoch: i64,
    lo: u64,
    hi: u64,
    state: State,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Open,
    Closed,
}

impl Position {
    /// Reads the sink's record.
    ///
    /// # Errors
    /// See [`PositionError`].
    pub fn decode(record: &[u8]) -> Result<Self, PositionError> {
        #[derive(Deserialize)]
        struct Head {
            version: u8,
        }
        let unreadable = |error: serde_json::Error| PositionError::Unreadable(error.to_string());
        let head: Head = serde_json::from_slice(record).map_err(unreadable)?;
        if !(OLDEST_INTENT_VERSION..=INTENT_VERSION).contains(&head.version) {
            return Err(PositionError::UnknownVersion(head.version));
        }
        let intent: Intent = serde_json::from_slice(record).map_err(unreadable)?;
        let sequence = match intent.state {
            State::Closed => intent.hi,
            // Its rows may be there or not.
            State::Open => intent.lo.saturating_sub(1),
        };
        Ok(Self { epoch: intent.epoch, sequence })
    }

    /// Whether whoever is here has dealt with everything up to `mark`. Behind a newer stream nothing of an older one is left.
    pub fn has_passed(&self, mark: &Self) -> bool {
        (self.epoch, self.sequence) >= (mark.epoch, mark.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_one_stream_follow_each_other_and_a_newer_stream_follows_all() {
        let at = |epoch, sequence| Position { epoch, sequence };
        assert!(at(7, 5).has_passed(&at(7, 5)) && at(7, 6).has_passed(&at(7, 5)));
        assert!(!at(7, 4).has_passed(&at(7, 5)) && !at(6, 9).has_passed(&at(7, 5)));
        assert!(at(8, 0).has_passed(&at(7, 5)));
    }

    #[test]
    fn what_is_not_understood_is_no_position() {
        assert_eq!(Position::decode(br#"{"version":3}"#), Err(PositionError::UnknownVersion(3)));
        assert!(matches!(Position::decode(b"{}"), Err(PositionError::Unreadable(_))));
    }
}
