//! How far a sink is in its lane, as others may know it: the part of the sink's record in bucket `intents`
//! ([`crate::names::INTENTS_BUCKET`], a key a lane) that is not between the sink and its replays.

use serde::Deserialize;

/// The version of the sink's record.
pub const INTENT_VERSION: u8 = 2;
/// The version of the record of a lane that tenants have moved to or from ([`crate::seat`]): the same fields. A sink that knows no
/// seats does not read it, so it never takes such a lane.
pub const SEATED_INTENT_VERSION: u8 = 3;
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
        "intent version {0} is not supported (this build reads {OLDEST_INTENT_VERSION} to {SEATED_INTENT_VERSION})"
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
        version(record)?;
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

/// Whether only sinks that know seats take the lane of this record.
///
/// # Errors
/// See [`PositionError`].
pub fn is_seated(record: &[u8]) -> Result<bool, PositionError> {
    Ok(version(record)? >= SEATED_INTENT_VERSION)
}

fn version(record: &[u8]) -> Result<u8, PositionError> {
    #[derive(Deserialize)]
    struct Head {
        version: u8,
    }
    let head: Head = serde_json::from_slice(record).map_err(unreadable)?;
    if (OLDEST_INTENT_VERSION..=SEATED_INTENT_VERSION).contains(&head.version) {
        Ok(head.version)
    } else {
        Err(PositionError::UnknownVersion(head.version))
    }
}

fn unreadable(error: serde_json::Error) -> PositionError {
    PositionError::Unreadable(error.to_string())
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
        assert_eq!(Position::decode(br#"{"version":4}"#), Err(PositionError::UnknownVersion(4)));
        assert_eq!(is_seated(br#"{"version":2}"#), Ok(false));
        assert_eq!(is_seated(br#"{"version":3}"#), Ok(true));
        assert_eq!(is_seated(br#"{"version":4}"#), Err(PositionError::UnknownVersion(4)));
        assert!(matches!(Position::decode(b"{}"), Err(PositionError::Unreadable(_))));
    }
}
