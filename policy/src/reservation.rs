//! A reservation: units that are held for one event that is still to come.
//!
//! Each record that it concerns has a holder entry with its end ([`crate::ledger::Holder::expires_ms`]). Which records those are,
//! nobody but its client remembers: its id is a token that carries them, authenticated under a key that every pod has for the
//! tenant.
//!
//! ```text
//! rsv_<base64url of>  version u8 | holder 16 | end i64 | per hold: rule u64, subject 16, period start i64, units u64, revision u64 | tag 32
//! ```

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use event::Incarnation;
use event::pseudonym::{PseudonymKey, TAG_BYTES};

use crate::decide::Need;
use crate::ledger::{Op, OpKind};
use crate::tenant::QuotaKey;

/// Most records that one reservation may concern: it bounds the length of the token.
pub const MAX_HOLDS: usize = 60;
/// How a token begins.
const PREFIX: &str = "rsv_";
const VERSION: u8 = 2;
const HEAD_BYTES: usize = 1 + 16 + 8;
const HOLD_BYTES: usize = 8 + 16 + 8 + 8 + 8;
const MAX_BYTES: usize = HEAD_BYTES + MAX_HOLDS * HOLD_BYTES + TAG_BYTES;
/// Longest token.
pub const MAX_TOKEN_BYTES: usize = PREFIX.len() + MAX_BYTES.div_ceil(3) * 4;
const _: () = assert!(MAX_TOKEN_BYTES <= 4096, "it stands in an address");
/// What the tags are for: no other text of ours has one of these.
const PURPOSE: &str = "reservation";

/// A reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Its holder in every record.
    pub holder: Incarnation,
    /// When it ends, Unix milliseconds.
    pub expires_ms: i64,
    /// What it holds, at most [`MAX_HOLDS`].
    pub holds: Vec<Hold>,
}

/// What a reservation holds of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The record.
    pub key: QuotaKey,
    /// Units.
    pub units: u64,
    /// Revision of the record that holds them: what is older says nothing of them. 0 before they are granted.
    pub revision: u64,
}

/// A hold, and what the event that came needs of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The hold.
    pub hold: Hold,
    /// The need with the units that the hold covers; `None` when the event does not concern its limit.
    pub covers: Option<Need>,
}

/// An event's needs against a reservation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cover {
    /// One for each hold.
    pub parts: Vec<Part>,
    /// What the reservation does not cover.
    pub rest: Vec<Need>,
}

impl Reservation {
    /// The id that the client gets.
    pub fn token(&self, key: &PseudonymKey, lineage: &str) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.holder.0.to_be_bytes());
        bytes.extend(self.expires_ms.to_be_bytes());
        for Hold { key, units, revision } in &self.holds {
            bytes.extend(key.rule.to_be_bytes());
            bytes.extend(key.subject.to_be_bytes());
            bytes.extend(key.period_start_ms.to_be_bytes());
            bytes.extend(units.to_be_bytes());
            bytes.extend(revision.to_be_bytes());
        }
        let tag = key.tag_key(PURPOSE).tag(&[lineage.as_bytes(), &bytes]);
        bytes.extend(tag);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads an id; `None` when it was not given to this tenant, whatever the reason.
    pub fn read(token: &str, key: &PseudonymKey, lineage: &str) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
        let (message, tag) = bytes.split_last_chunk::<TAG_BYTES>()?;
        if !key.tag_key(PURPOSE).verify(&[lineage.as_bytes(), message], *tag) {
            return None;
        }
        let mut rest = message;
        if take::<1>(&mut rest)? != [VERSION] {
            return None;
        }
        let holder = Incarnation(u128::from_be_bytes(take(&mut rest)?));
        let expires_ms = i64::from_be_bytes(take(&mut rest)?);
        let mut holds = Vec::new();
        while !rest.is_empty() {
            let rule = u64::from_be_bytes(take(&mut rest)?);
            let subject = u128::from_be_bytes(take(&mut rest)?);
            let period_start_ms = i64::from_be_bytes(take(&mut rest)?);
            let units = u64::from_be_bytes(take(&mut rest)?);
            let revision = u64::from_be_bytes(take(&mut rest)?);
            holds.push(Hold { key: QuotaKey { rule, subject, period_start_ms }, units, revision });
        }
        Some(Self { holder, expires_ms, holds })
    }

    /// What it covers of an event's needs: of the same limit and subject, whatever the period. What it holds was charged to the
    /// period in which it was made; what it does not cover is taken from the present one.
    pub fn cover(&self, needs: &[Need]) -> Cover {
        let mut cover = Cover::default();
        for hold in &self.holds {
            let need = needs.iter().find(|need| same(need, hold));
            let covers = need.map(|need| Need { units: need.units.min(hold.units), ..*need });
            cover.parts.push(Part { hold: *hold, covers });
        }
        for need in needs {
            let held = self.holds.iter().find(|hold| same(need, hold)).map_or(0, |hold| hold.units);
            if need.units > held {
                cover.rest.push(Need { units: need.units - held, ..*need });
            }
        }
        cover
    }
}

fn same(need: &Need, hold: &Hold) -> bool {
    (need.key.rule, need.key.subject) == (hold.key.rule, hold.key.subject)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

/// Operations of a reservation on one record: it has two in its life, the grant and its end.
impl Hold {
    /// Makes it.
    pub fn grant(&self, holder: Incarnation, now_ms: i64, expires_ms: i64) -> Op {
        let (at_least, want, expires_ms) = (self.units, self.units, Some(expires_ms));
        let kind = OpKind::Grant { at_least, want, now_ms, expires_ms };
        Op { by: holder, number: 1, after: 0, spent: 0, kind }
    }

    /// Uses `spent` of it, in a pack of `pod`; the rest goes back.
    pub fn commit(&self, holder: Incarnation, spent: u64, pod: Incarnation) -> Op {
        let kind = OpKind::Commit { pod };
        Op { by: holder, number: 2, after: 1, spent: spent.min(self.units), kind }
    }

    /// Gives `units` back, which is all that the record says is held.
    pub fn release(holder: Incarnation, units: u64) -> Op {
        Op { by: holder, number: 2, after: 1, spent: 0, kind: OpKind::Return { units, last: true } }
    }
}

#[cfg(test)]
#[path = "reservation_tests.rs"]
mod tests;
