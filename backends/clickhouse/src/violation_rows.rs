//! Rows of `violations` in ClickHouse's `RowBinary` form.

use event::violation::{Effect, RuleKind, Violation};

use crate::rows::{put_length, put_text};

/// Columns that [`encode`] writes, in its order.
pub(crate) const VIOLATION_ORDER: &str =
    "tenant,rule,kind,effect,user_key,second,count,first,last,samples,epoch,seq";

/// Appends the row of the message `seq` of the stream that was created at `epoch` (Unix milliseconds).
pub fn encode(out: &mut Vec<u8>, violation: &Violation, epoch: i64, seq: u64) {
    out.extend_from_slice(&violation.number.0.to_le_bytes());
    put_text(out, &violation.rule);
    out.push(match violation.kind {
        RuleKind::Limit => 1,
        RuleKind::Access => 2,
    });
    out.push(match violation.effect {
        Effect::Refused => 1,
        Effect::Warned => 2,
        Effect::Observed => 3,
    });
    out.extend_from_slice(&violation.user_key.0.to_le_bytes());
    // A column of seconds ends in 2106; a record from outside it is kept, at the edge.
    let second = u32::try_from(violation.second.max(0)).unwrap_or(u32::MAX);
    out.extend_from_slice(&second.to_le_bytes());
    out.extend_from_slice(&violation.count.to_le_bytes());
    out.extend_from_slice(&violation.first_ms.to_le_bytes());
    out.extend_from_slice(&violation.last_ms.to_le_bytes());
    put_length(out, violation.samples.len());
    for sample in &violation.samples {
        put_text(out, sample);
    }
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use event::{TenantNumber, UserKey};

    use super::*;
    use crate::schema::VIOLATION_COLUMNS;

    #[test]
    fn every_column_is_written_in_its_order() {
        let names: Vec<&str> = VIOLATION_COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(names.join(","), VIOLATION_ORDER);
        let violation = Violation {
            lane: event::Lane::Pooled(0),
            tenant: "acme".parse().unwrap(),
            number: TenantNumber(1),
            rule: "r".into(),
            kind: RuleKind::Access,
            effect: Effect::Warned,
            user_key: UserKey(2),
            second: 3,
            count: 4,
            first_ms: 5,
            last_ms: 6,
            samples: vec!["a".into(), "bc".into()],
        };
        let mut out = Vec::new();
        encode(&mut out, &violation, 7, 8);
        let expected = [
            &1u64.to_le_bytes()[..],
            &[1, b'r', 2, 2],
            &2u128.to_le_bytes(),
            &3u32.to_le_bytes(),
            &4u64.to_le_bytes(),
            &5i64.to_le_bytes(),
            &6i64.to_le_bytes(),
            &[2, 1, b'a', 2, b'b', b'c'],
            &7i64.to_le_bytes(),
            &8u64.to_le_bytes(),
        ];
        assert_eq!(out, expected.concat());
    }
}
