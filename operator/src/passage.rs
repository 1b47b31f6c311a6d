//! Waiting until a lane's sink has passed a mark: then every event up to it is in the tables, or was a repeat.
//!
//! Note a mark when whatever is waited for is in the stream for certain: after every pod has drained a revision
//! ([`crate::fleet::Fleet::undrained`]), after a pod was fenced off. A sink goes over fences as over packs, so the mark is the
//! stream's last message whatever it is. An idle sink closes its intent within a second and has passed everything then.

use std::time::Duration;

use event::names::INTENTS_BUCKET;
use event::{Lane, Observed, Position};
use jetstream::{Bucket, StreamState, Streams};
use tokio::time::Instant;

use crate::errors::{Failure, System};

/// How often the sink's position is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The end of a lane as it is now; `None` when the lane has no stream, or never had a message: there is nothing to wait for.
///
/// # Errors
/// When NATS fails.
pub async fn mark<S: Streams>(nats: &S, lane: &Lane) -> Result<Option<Position>, Failure> {
    let stream = observe(nats, lane).await?;
    Ok(stream.filter(|stream| stream.last_seq > 0).map(|stream| Position {
        epoch: i64::try_from(stream.created_ms).unwrap_or(i64::MAX),
        sequence: stream.last_seq,
    }))
}

/// Whether a lane has a stream.
///
/// # Errors
/// When NATS fails.
pub async fn exists<S: Streams>(nats: &S, lane: &Lane) -> Result<bool, Failure> {
    Ok(observe(nats, lane).await?.is_some())
}

/// Waits until the lane's sink has passed `mark`.
///
/// # Errors
/// When NATS fails, or the sink does not get there within `patience`: it says where it is.
pub async fn passed(
    nats: &jetstream::Client,
    lane: &Lane,
    mark: Position,
    patience: Duration,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let intents = Bucket::open(nats, INTENTS_BUCKET).await?;
    loop {
        let position = position(&intents, lane).await?;
        if is_passed(position, mark, 0) {
            return Ok(());
        }
        if begun.elapsed() > patience {
            let first_seq = observe(nats, lane).await?.map_or(u64::MAX, |stream| stream.first_seq);
            if is_passed(position, mark, first_seq) {
                return Ok(());
            }
            let at = position.map_or(0, |position| position.sequence);
            let why = format!("the sink of lane {lane} is at message {at} of {}", mark.sequence);
            return Err(Failure::unknown(System::Nats, why));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the sinks of all of a tenant's lanes have passed the ends that these have now; gives the ends of those that have one.
///
/// # Errors
/// See [`passed`].
pub async fn all_passed(
    nats: &jetstream::Client,
    lanes: &[Lane],
    patience: Duration,
) -> Result<Vec<(Lane, Position)>, Failure> {
    let mut ends = Vec::new();
    for lane in lanes {
        if let Some(end) = mark(nats, lane).await? {
            passed(nats, lane, end, patience).await?;
            ends.push((lane.clone(), end));
        }
    }
    Ok(ends)
}

/// How far the lane's sink is; `None` before it has taken the lane for the first time.
///
/// # Errors
/// When NATS fails, or the sink is of a build that this one does not understand.
pub async fn position(intents: &Bucket, lane: &Lane) -> Result<Option<Position>, Failure> {
    let Some(entry) = intents.get(&lane.to_string()).await?.filter(|entry| !entry.deleted) else {
        return Ok(None);
    };
    let defect = |error: event::position::PositionError| Failure::Defect {
        system: System::Nats,
        detail: format!("lane {lane}: {error}"),
    };
    Position::decode(&entry.value).map(Some).map_err(defect)
}

/// `first_seq` is the first message that the stream still has: what was gone before a sink read it is in no table, ever.
fn is_passed(position: Option<Position>, mark: Position, first_seq: u64) -> bool {
    position.is_some_and(|position| position.has_passed(&mark)) || first_seq > mark.sequence
}

async fn observe<S: Streams>(nats: &S, lane: &Lane) -> Result<Option<StreamState>, Failure> {
    match nats.observe(&lane.stream()).await {
        Observed::Present(state) => Ok(Some(state)),
        Observed::Absent => Ok(None),
        Observed::Unknown(reason) => Err(Failure::unknown(System::Nats, reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_was_never_there_has_passed_nothing_that_it_could_still_read() {
        let (mark, at) =
            (Position { epoch: 7, sequence: 5 }, |sequence| Some(Position { epoch: 7, sequence }));
        assert!(is_passed(at(5), mark, 1));
        assert!(!is_passed(at(4), mark, 5) && !is_passed(None, mark, 5));
        assert!(is_passed(at(3), mark, 6), "messages 4 and 5 have aged out");
    }
}
