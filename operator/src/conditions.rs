//! Conditions as values: what is stated is computed, and compared with what stands there, before anything is written.

use crds::condition::{ACCEPTED, Condition, ConditionStatus, PROGRAMMED, READY, RECONCILING, STALLED};
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

/// Longest message.
const MAX_MESSAGE: usize = 1_000;

/// What is stated about an object in one round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statements(Vec<Statement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    kind: &'static str,
    status: ConditionStatus,
    reason: String,
    message: String,
}

/// Why an object is not (yet) as written: a CamelCase reason and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// For programs.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Why {
    /// A reason and a sentence.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

impl Statements {
    /// States something; a later statement of the same kind replaces an earlier one.
    pub fn set(&mut self, kind: &'static str, status: ConditionStatus, why: Why) -> &mut Self {
        self.0.retain(|statement| statement.kind != kind);
        self.0.push(Statement { kind, status, reason: why.reason, message: why.message });
        self
    }

    /// States that something holds.
    pub fn yes(&mut self, kind: &'static str, reason: &str, message: &str) -> &mut Self {
        self.set(kind, ConditionStatus::True, Why::new(reason, message))
    }

    /// States that something does not hold.
    pub fn no(&mut self, kind: &'static str, why: Why) -> &mut Self {
        self.set(kind, ConditionStatus::False, why)
    }

    /// States that the spec is not accepted, which stands until somebody changes something.
    pub fn refused(&mut self, why: &Why) -> &mut Self {
        self.no(ACCEPTED, why.clone()).set(STALLED, ConditionStatus::True, why.clone()).no(READY, why.clone())
    }

    /// States that nothing goes on until somebody changes something.
    pub fn stalled(&mut self, why: &Why) -> &mut Self {
        self.no(PROGRAMMED, why.clone())
            .set(STALLED, ConditionStatus::True, why.clone())
            .no(READY, why.clone())
    }

    /// States that it is being worked on.
    pub fn reconciling(&mut self, why: &Why) -> &mut Self {
        self.set(RECONCILING, ConditionStatus::True, why.clone()).no(READY, why.clone())
    }

    /// Keeps what stood there about `kind`, if something did.
    pub fn keep(&mut self, kind: &'static str, previous: &[Condition]) -> &mut Self {
        if let Some(old) = crds::condition::find(previous, kind) {
            self.set(kind, old.status, Why::new(old.reason.clone(), old.message.clone()));
        }
        self
    }

    /// The status stated about `kind`.
    pub fn status(&self, kind: &str) -> Option<ConditionStatus> {
        self.0.iter().find(|statement| statement.kind == kind).map(|statement| statement.status)
    }

    /// The conditions to be written: a time moves only when a status flips; kinds stand in a fixed order.
    pub fn conditions(
        &self,
        previous: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Vec<Condition> {
        let mut statements: Vec<&Statement> = self.0.iter().collect();
        statements.sort_by_key(|statement| (rank(statement.kind), statement.kind));
        let now = whole_seconds(now);
        let condition = |statement: &Statement| {
            let old = crds::condition::find(previous, statement.kind);
            let since = old.filter(|old| old.status == statement.status).map(|old| old.last_transition_time);
            Condition {
                kind: statement.kind.to_owned(),
                status: statement.status,
                observed_generation: generation,
                last_transition_time: since.unwrap_or(now),
                reason: statement.reason.clone(),
                message: shortened(&statement.message),
            }
        };
        statements.into_iter().map(condition).collect()
    }
}

fn rank(kind: &str) -> usize {
    [READY, RECONCILING, STALLED, ACCEPTED, PROGRAMMED].iter().position(|known| *known == kind).unwrap_or(5)
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    let round = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc);
    time.round(round).unwrap_or(time)
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(second, 900_000_000).unwrap()
    }

    #[test]
    fn times_move_only_when_a_status_flips() {
        let mut first = Statements::default();
        first.yes(PROGRAMMED, "Programmed", "").no(READY, Why::new("Waiting", "a"));
        let first = first.conditions(&[], Some(1), at(10));
        let mut second = Statements::default();
        second.yes(PROGRAMMED, "Programmed", "").no(READY, Why::new("Other", "b"));
        let second = second.conditions(&first, Some(2), at(20));
        assert_eq!(second[0].last_transition_time, Timestamp::new(10, 0).unwrap());
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("Other", Some(2)));
        let mut third = Statements::default();
        third.yes(READY, "Ready", "");
        assert_eq!(
            third.conditions(&second, Some(2), at(30))[0].last_transition_time,
            Timestamp::new(30, 0).unwrap()
        );
    }

    #[test]
    fn the_same_statements_give_the_same_conditions() {
        let mut statements = Statements::default();
        statements.yes("Enforced", "Enforcing", "").yes(ACCEPTED, "Accepted", "").yes(READY, "Ready", "");
        let written = statements.conditions(&[], Some(1), at(10));
        assert_eq!(
            written.iter().map(|c| c.kind.as_str()).collect::<Vec<_>>(),
            ["Ready", "Accepted", "Enforced"]
        );
        assert_eq!(statements.conditions(&written, Some(1), at(99)), written);
    }

    #[test]
    fn messages_are_bounded_at_a_character() {
        let mut statements = Statements::default();
        statements.no(READY, Why::new("X", "ä".repeat(2_000)));
        assert!(statements.conditions(&[], None, at(0))[0].message.chars().count() <= 1_001);
    }
}
