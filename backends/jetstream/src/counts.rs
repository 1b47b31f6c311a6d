//! Counts the events of a lane by the headers of its messages, without opening a pack.

use std::collections::BTreeMap;
use std::time::Duration;

use event::names::COUNTS_HEADER;
use event::{Lane, TenantNumber};

use crate::client::Client;
use crate::cursor::{Cursor, Pull, Received, Shape, Start};
use crate::lane_reader::ReadError;

/// Messages of one pull.
const PULL: usize = 1_000;
/// How long the server keeps the consumer after the last pull.
const LINGER: Duration = Duration::from_secs(10);

/// What the headers of a range say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packed {
    /// Events by tenant.
    pub events: BTreeMap<TenantNumber, u64>,
    /// Messages that are not in the stream any more.
    pub gone: u64,
    /// When the stream was created, Unix milliseconds.
    pub epoch: i64,
}

/// Counts messages `lo..=hi` of a lane.
///
/// # Errors
/// See [`ReadError`].
pub async fn packed(client: &Client, lane: &Lane, lo: u64, hi: u64) -> Result<Packed, ReadError> {
    let shape = Shape { start: Start::At(lo), filter: None, headers_only: true, linger: LINGER };
    let mut cursor = Cursor::open(client, &lane.stream(), shape).await?;
    let state = &cursor.info.state;
    if state.last_seq < hi {
        return Err(ReadError::Beyond { last_seq: state.last_seq });
    }
    let epoch = i64::try_from(cursor.info.created_ms()).unwrap_or(i64::MAX);
    let mut packed = Packed { epoch, ..Packed::default() };
    let mut next = lo;
    if state.messages == 0 {
        return Ok(Packed { gone: hi + 1 - lo, ..packed });
    }
    while next <= hi {
        let left = usize::try_from(hi + 1 - next).unwrap_or(usize::MAX);
        cursor.pull(Pull { messages: left.min(PULL), bytes: None, wait: None }).await?;
        let before = next;
        loop {
            match cursor.receive().await {
                Received::Message(stored) => {
                    let seq = stored.seq.min(hi + 1);
                    packed.gone += seq - next;
                    next = seq + 1;
                    if stored.seq > hi {
                        return Ok(packed);
                    }
                    let headers = stored.headers.as_ref();
                    if let Some(counts) = headers.and_then(|headers| headers.get(COUNTS_HEADER)) {
                        add(&mut packed.events, counts.as_str());
                    }
                }
                Received::End => break,
                Received::TooLarge => return Err(ReadError::Unavailable("a message too large".to_owned())),
                Received::Lost(reason) => return Err(ReadError::Unavailable(reason)),
            }
        }
        if next == before {
            return Err(ReadError::Unavailable(format!("nothing at {next}")));
        }
    }
    Ok(packed)
}

/// Adds what a header says; what is not of its form counts nothing, and then shows as a difference.
fn add(events: &mut BTreeMap<TenantNumber, u64>, header: &str) {
    for (tenant, count) in event::pack::read_counts(header) {
        *events.entry(tenant).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_summed_by_tenant() {
        let mut events = BTreeMap::new();
        add(&mut events, "1=2,18446744073709551615=1");
        add(&mut events, "1=3,1=1,x=4,5");
        assert_eq!(events, [(TenantNumber(1), 6), (TenantNumber(u64::MAX), 1)].into());
    }
}
