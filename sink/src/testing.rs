//! Packs for tests.

use bytes::Bytes;
use event::decimal::Decimal;
use event::pack::{Charge, PackedEvent, Writer};
use event::{EventHash, Incarnation, PackId, TenantNumber, UserKey};
use jetstream::LaneMessage;

/// Milliseconds of a day.
pub const DAY: i64 = 86_400_000;

/// A pack of events with these identities and times.
pub fn pack(events: impl IntoIterator<Item = (u128, i64)>) -> Vec<u8> {
    received(0, events)
}

/// The same, received at this moment.
pub fn received(received_ms: i64, events: impl IntoIterator<Item = (u128, i64)>) -> Vec<u8> {
    charged((PackId(3), Incarnation(4), received_ms), events.into_iter().map(|(hash, at)| (hash, at, vec![])))
}

/// A pack of this pod, received at this moment, of events with these charges.
pub fn charged<'a>(
    (id, incarnation, received_ms): (PackId, Incarnation, i64),
    events: impl IntoIterator<Item = (u128, i64, Vec<Charge<'a>>)>,
) -> Vec<u8> {
    written(
        (id, incarnation, received_ms),
        events.into_iter().map(|(hash, at, charges)| (TenantNumber(1), hash, at, charges)),
    )
}

/// A pack of events of several tenants.
pub fn of_tenants(
    head: (PackId, Incarnation, i64),
    events: impl IntoIterator<Item = (TenantNumber, u128, i64)>,
) -> Vec<u8> {
    written(head, events.into_iter().map(|(tenant, hash, at)| (tenant, hash, at, vec![])))
}

fn written<'a>(
    (id, incarnation, received_ms): (PackId, Incarnation, i64),
    events: impl IntoIterator<Item = (TenantNumber, u128, i64, Vec<Charge<'a>>)>,
) -> Vec<u8> {
    let mut writer = Writer::default();
    for (tenant, hash, time_ms, charges) in events {
        writer.push(&PackedEvent {
            tenant,
            retention_days: 90,
            event_hash: EventHash(hash),
            user_key: UserKey(2),
            time_ms,
            value: Decimal::from_millionths(1_000_000),
            latency_ms: None,
            charges,
            source: "test",
            id: "id",
            feature: "feature",
            user: "user",
            data: "{}",
        });
    }
    writer.seal(id, incarnation, received_ms)
}

/// A message that holds a pack.
pub fn message(seq: u64, pack: &[u8]) -> LaneMessage {
    LaneMessage {
        seq,
        subject: "usage.acme.packs".to_owned(),
        counts: None,
        payload: Bytes::copy_from_slice(pack),
        received_ms: 0,
    }
}
