//! The pure part: which rows a range of the stream becomes, always the same for the same range.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use clickhouse::violation_rows;
use event::Lane;
use event::violation::Violation;
use jetstream::LaneMessage;

/// Rows of one lane's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Sequences of the messages behind its rows.
    pub seqs: Vec<u64>,
    /// The rows in `RowBinary`.
    pub rows: Bytes,
}

/// What a range becomes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blocks {
    /// By lane, in the order in which they are inserted.
    pub lanes: BTreeMap<Lane, Block>,
    /// Messages that are no violations.
    pub unreadable: u64,
}

/// The rows of `messages`, of those that `wanted` says yes to.
pub fn encode(messages: &[LaneMessage], epoch: i64, wanted: impl Fn(&Lane, u64) -> bool) -> Blocks {
    let mut blocks = Blocks::default();
    let mut rows: BTreeMap<Lane, (Vec<u64>, Vec<u8>)> = BTreeMap::new();
    for message in messages {
        match serde_json::from_slice::<Violation>(&message.payload) {
            // A pod's rights end at its subjects, not at its tenants: the subject and the record have to agree.
            Ok(violation) if violation.tenant.violations_subject() == message.subject => {
                if wanted(&violation.lane, message.seq) {
                    let (seqs, bytes) = rows.entry(violation.lane.clone()).or_default();
                    seqs.push(message.seq);
                    violation_rows::encode(bytes, &violation, epoch, message.seq);
                }
            }
            _ => blocks.unreadable += 1,
        }
    }
    let block = |(lane, (seqs, rows)): (_, (_, Vec<u8>))| (lane, Block { seqs, rows: rows.into() });
    blocks.lanes = rows.into_iter().map(block).collect();
    blocks
}

/// Those of a lane's rows that are not among `found`.
pub fn missing(messages: &[LaneMessage], epoch: i64, lane: &Lane, found: &HashSet<u64>) -> Option<Block> {
    let wanted = |of: &Lane, seq| of == lane && !found.contains(&seq);
    encode(messages, epoch, wanted).lanes.remove(lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64, tenant: &str, subject: &str) -> LaneMessage {
        let key = event::UserKey(1);
        let payload = serde_json::json!({
            "tenant": tenant, "number": 1, "lane": tenant, "rule": "plan.events", "userKey": key, "second": 1, "count": 1,
            "firstMs": 1000, "lastMs": 1000, "samples": [],
        });
        LaneMessage {
            seq,
            subject: subject.to_owned(),
            counts: None,
            payload: payload.to_string().into(),
            received_ms: 0,
        }
    }

    #[test]
    fn a_range_becomes_the_same_block_a_lane_every_time() {
        let messages = [
            message(4, "wayne", "violations.wayne"),
            message(5, "acme", "violations.acme"),
            message(6, "wayne", "violations.wayne"),
        ];
        let blocks = encode(&messages, 7, |_, _| true);
        let seqs: Vec<_> =
            blocks.lanes.iter().map(|(lane, block)| (lane.to_string(), block.seqs.clone())).collect();
        assert_eq!(seqs, [("acme".to_owned(), vec![5]), ("wayne".to_owned(), vec![4, 6])]);
        assert_eq!(blocks, encode(&messages, 7, |_, _| true));
        assert_ne!(blocks.lanes, encode(&messages, 8, |_, _| true).lanes, "another stream, other rows");
    }

    #[test]
    fn what_is_no_violation_or_not_its_subjects_is_counted_and_left_out() {
        let mut broken = message(1, "acme", "violations.acme");
        broken.payload = "{}".into();
        let messages =
            [broken, message(2, "wayne", "violations.acme"), message(3, "acme", "violations.acme")];
        let blocks = encode(&messages, 7, |_, _| true);
        assert_eq!((blocks.unreadable, blocks.lanes.len()), (2, 1));
    }

    #[test]
    fn only_rows_that_are_not_there_are_missing() {
        let messages = [message(1, "acme", "violations.acme"), message(2, "acme", "violations.acme")];
        let acme = "acme".parse().unwrap();
        assert_eq!(missing(&messages, 7, &acme, &[1].into()).map(|block| block.seqs), Some(vec![2]));
        assert_eq!(missing(&messages, 7, &acme, &[1, 2].into()), None);
        assert_eq!(missing(&messages, 7, &"wayne".parse().unwrap(), &HashSet::new()), None);
    }
}
