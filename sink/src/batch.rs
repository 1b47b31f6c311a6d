//! Messages of a lane, decoded: what one intent covers.

use std::collections::BTreeSet;

use clickhouse::Day;
use event::decimal::Decimal;
use event::pack::{Pack, PackError, PackedEvent, read_counts};
use event::{EventHash, Incarnation, PackId, TenantNumber, UserKey};
use jetstream::LaneMessage;

/// The subject's ending that tells a pack from a fence.
const PACKS: &str = ".packs";
/// Events that a dead letter may claim to have held; no pack holds as many.
const MAX_DEAD: u64 = 1_000_000;

/// An event's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Whose.
    pub tenant: TenantNumber,
    /// Which.
    pub hash: EventHash,
}

/// An event and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Counted over the whole intent.
    pub ordinal: u32,
    /// The pack's sequence.
    pub seq: u64,
    /// The event's place in the pack.
    pub idx: u32,
    /// The pack's identity.
    pub pack: PackId,
    /// The pod that admitted the event.
    pub incarnation: Incarnation,
    /// When a pod received it, in Unix milliseconds.
    pub received_ms: i64,
    /// The event's day.
    pub day: Day,
    /// Nobody can read it: all that is known of it is whose it was.
    pub dead: bool,
    /// The event.
    pub event: &'a PackedEvent<'a>,
}

impl Place<'_> {
    /// The event's identity.
    pub fn id(&self) -> Id {
        Id { tenant: self.event.tenant, hash: self.event.event_hash }
    }
}

/// A message of the lane: a pack, or a fence without events.
#[derive(Debug)]
struct Part<'a> {
    seq: u64,
    pack: Option<Pack<'a>>,
    days: Vec<Day>,
    /// Why its pack cannot be read. The events that stand in its place are what its header counts.
    dead: Option<String>,
}

/// A message whose pack cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its sequence: it stays in the stream as long as any message.
    pub seq: u64,
    /// Events that it held.
    pub events: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Consecutive messages, decoded.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    parts: Vec<Part<'a>>,
    first_ordinal: u32,
}

/// A pack of a version that this build does not read. The lane stops there until a newer sink takes it: skipping it would lose
/// acknowledged events, and nothing is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("message {seq}: {error}")]
pub struct Undecodable {
    /// Its sequence.
    pub seq: u64,
    /// What is said of it.
    pub error: PackError,
}

/// Bounds of an intent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Events.
    pub events: usize,
    /// Event days, each of which is an insert.
    pub days: usize,
}

impl<'a> Batch<'a> {
    /// Decodes as many `messages` from the first on as fit into `limits`; the first always does, however large.
    ///
    /// # Errors
    /// [`Undecodable`] when the first message is; one further behind only ends the batch before it.
    pub fn cut(messages: &'a [LaneMessage], limits: Limits) -> Result<Self, Undecodable> {
        let mut batch = Self::default();
        let (mut events, mut days) = (0, Vec::new());
        for message in messages {
            let part = match Part::decode(message) {
                Ok(part) => part,
                Err(error) if batch.parts.is_empty() => return Err(error),
                Err(_) => break,
            };
            events += part.events().len();
            days.extend_from_slice(&part.days);
            days.sort_unstable();
            days.dedup();
            if !batch.parts.is_empty() && (events > limits.events || days.len() > limits.days) {
                break;
            }
            batch.parts.push(part);
        }
        Ok(batch)
    }

    /// Decodes all of `messages`; their first event has ordinal `first_ordinal`.
    ///
    /// # Errors
    /// See [`Undecodable`].
    pub fn whole(messages: &'a [LaneMessage], first_ordinal: u32) -> Result<Self, Undecodable> {
        let parts = messages.iter().map(Part::decode).collect::<Result<_, _>>()?;
        Ok(Self { parts, first_ordinal })
    }

    /// Its first `messages`.
    #[must_use]
    pub fn first(mut self, messages: usize) -> Self {
        self.parts.truncate(messages);
        self
    }

    /// The tenants of each message.
    pub fn tenants(&self) -> Vec<BTreeSet<TenantNumber>> {
        // About what is dead nothing is decided.
        let living = |part: &Part<'_>| part.dead.is_none();
        let of = |part: &Part<'_>| {
            part.events().iter().filter(|_| living(part)).map(|event| event.tenant).collect()
        };
        self.parts.iter().map(of).collect()
    }

    /// Messages in it.
    pub fn messages(&self) -> usize {
        self.parts.len()
    }

    /// Messages in it whose packs cannot be read.
    pub fn dead_letters(&self) -> impl Iterator<Item = DeadLetter> {
        self.parts.iter().filter_map(|part| {
            let (seq, events) = (part.seq, part.events().len());
            part.dead.clone().map(|reason| DeadLetter { seq, events, reason })
        })
    }

    /// Events in it.
    pub fn len(&self) -> u32 {
        self.parts.iter().map(|part| part.events().len() as u32).sum()
    }

    /// First and last sequence; `None` when there is no message.
    pub fn range(&self) -> Option<(u64, u64)> {
        Some((self.parts.first()?.seq, self.parts.last()?.seq))
    }

    /// Earliest receipt of its packs, in Unix milliseconds.
    pub fn received_ms(&self) -> Option<i64> {
        self.parts.iter().filter_map(|part| part.pack.as_ref()).map(|pack| pack.received_ms).min()
    }

    /// Its packs in order: sequence, ordinal of the first event, pack.
    pub fn packs(&self) -> impl Iterator<Item = (u64, u32, &Pack<'a>)> {
        let mut next = self.first_ordinal;
        self.parts.iter().filter_map(move |part| {
            let (ordinal, pack) = (next, part.pack.as_ref()?);
            next += pack.events.len() as u32;
            Some((part.seq, ordinal, pack))
        })
    }

    /// Every event in order.
    pub fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let events = self.parts.iter().flat_map(|part| {
            part.pack.iter().flat_map(move |pack| {
                (0u32..).zip(&pack.events).map(move |(idx, event)| (part, idx, pack, event))
            })
        });
        (self.first_ordinal..).zip(events).filter_map(|(ordinal, (part, idx, pack, event))| {
            // Days were checked when the pack was decoded.
            let day = Day::of(event.time_ms)?;
            Some(Place {
                ordinal,
                seq: part.seq,
                idx,
                pack: pack.id,
                incarnation: pack.incarnation,
                received_ms: pack.received_ms,
                day,
                dead: part.dead.is_some(),
                event,
            })
        })
    }
}

impl<'a> Part<'a> {
    fn decode(message: &'a LaneMessage) -> Result<Self, Undecodable> {
        let seq = message.seq;
        if !message.subject.ends_with(PACKS) {
            return Ok(Self { seq, pack: None, days: Vec::new(), dead: None });
        }
        let pack = match Pack::decode(&message.payload) {
            Ok(pack) => pack,
            Err(error @ PackError::UnknownVersion(_)) => return Err(Undecodable { seq, error }),
            Err(error) => return Ok(Self::dead(message, error.to_string())),
        };
        let mut days = Vec::new();
        for (idx, event) in pack.events.iter().enumerate() {
            let Some(day) = Day::of(event.time_ms) else {
                return Ok(Self::dead(message, format!("event {idx} has a time outside of 1900 to 2299")));
            };
            if !days.contains(&day) {
                days.push(day);
            }
        }
        Ok(Self { seq, pack: Some(pack), days, dead: None })
    }

    /// Stands for a pack that cannot be read: as many events as its header counts, about which nothing is known but whose they were.
    fn dead(message: &LaneMessage, reason: String) -> Self {
        let received_ms = i64::try_from(message.received_ms).unwrap_or(i64::MAX);
        let counts: Vec<_> = read_counts(message.counts.as_deref().unwrap_or_default()).collect();
        let claimed = counts.iter().fold(0u64, |sum, (_, events)| sum.saturating_add(*events));
        let counts = if claimed > MAX_DEAD { Vec::new() } else { counts };
        let events = counts.into_iter().flat_map(|(tenant, events)| {
            std::iter::repeat_n(unknown(tenant, received_ms), usize::try_from(events).unwrap_or(0))
        });
        let (id, incarnation, events) = (PackId(0), Incarnation(0), events.collect());
        let pack = Some(Pack { id, incarnation, received_ms, events });
        Self { seq: message.seq, pack, days: Vec::new(), dead: Some(reason) }
    }

    fn events(&self) -> &[PackedEvent<'a>] {
        self.pack.as_ref().map_or(&[], |pack| &pack.events)
    }
}

/// An event that nobody can read.
fn unknown(tenant: TenantNumber, time_ms: i64) -> PackedEvent<'static> {
    PackedEvent {
        tenant,
        retention_days: 0,
        event_hash: EventHash(0),
        user_key: UserKey(0),
        time_ms,
        value: Decimal::from_millionths(0),
        latency_ms: None,
        charges: Vec::new(),
        source: "",
        id: "",
        feature: "",
        user: "",
        data: "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DAY, message, pack};

    const LIMITS: Limits = Limits { events: 5, days: 2 };

    fn cut(messages: &[LaneMessage]) -> usize {
        Batch::cut(messages, LIMITS).unwrap().messages()
    }

    #[test]
    fn a_batch_ends_where_it_would_be_too_large() {
        let day = |seq, days: &[i64]| message(seq, &pack(days.iter().map(|d| (*d as u128, d * DAY))));
        assert_eq!(cut(&[]), 0);
        assert_eq!(cut(&[day(1, &[0, 0]), day(2, &[1, 1]), day(3, &[0])]), 3);
        assert_eq!(cut(&[day(1, &[0, 0, 0]), day(2, &[0, 0, 0])]), 1, "too many events");
        assert_eq!(cut(&[day(1, &[0, 1]), day(2, &[2]), day(3, &[0])]), 1, "too many days");
        assert_eq!(cut(&[day(1, &[0, 1, 2, 3, 4, 5, 6]), day(2, &[0])]), 1, "one pack is never split");
    }

    #[test]
    fn fences_count_as_messages_without_events() {
        let mut fence = message(2, b"");
        fence.subject = "usage.acme.fence.x.0".to_owned();
        let messages = [message(1, &pack([(1, 0)])), fence, message(3, &pack([(2, 0), (3, 0)]))];
        let batch = Batch::cut(&messages, LIMITS).unwrap();
        assert_eq!((batch.range(), batch.len()), (Some((1, 3)), 3));
        let places: Vec<_> = batch.places().map(|p| (p.ordinal, p.seq, p.idx)).collect();
        assert_eq!(places, [(0, 1, 0), (1, 3, 0), (2, 3, 1)]);
    }

    #[test]
    fn what_a_newer_build_wrote_stops_the_lane_where_it_stands() {
        let mut newer = pack([(1, 0)]);
        newer[4] = 9;
        let messages = [message(1, &pack([(1, 0)])), message(2, &newer), message(3, &pack([(3, 0)]))];
        assert_eq!(cut(&messages), 1, "what is before it is sunk");
        let error = Batch::cut(&messages[1..], LIMITS).unwrap_err();
        assert_eq!(error, Undecodable { seq: 2, error: PackError::UnknownVersion(9) });
    }

    #[test]
    fn what_nobody_can_read_is_dead_and_counted_by_its_header() {
        let with = |seq, counts: &str, bytes: &[u8]| LaneMessage {
            counts: Some(counts.to_owned()),
            ..message(seq, bytes)
        };
        let messages = [
            message(1, &pack([(1, 0)])),
            with(2, "7=2,8=1", b"rubbish"),
            with(3, "7=1", &pack([(1, i64::MAX)])),
            with(4, "7=99999999999", b"boast"),
            message(5, &pack([(2, 0)])),
        ];
        let batch = Batch::cut(&messages, Limits { events: 50, days: 2 }).unwrap();
        let places: Vec<_> =
            batch.places().map(|p| (p.ordinal, p.seq, p.idx, p.event.tenant.0, p.dead)).collect();
        let dead = [(1, 2, 0, 7, true), (2, 2, 1, 7, true), (3, 2, 2, 8, true), (4, 3, 0, 7, true)];
        assert_eq!(places[1..5], dead);
        assert_eq!((batch.len(), places[5]), (6, (5, 5, 0, 1, false)));
        let letters: Vec<_> = batch.dead_letters().map(|letter| (letter.seq, letter.events)).collect();
        assert_eq!(letters, [(2, 3), (3, 1), (4, 0)]);
        assert!(batch.tenants()[1].is_empty(), "nothing is decided about them");
    }
}
