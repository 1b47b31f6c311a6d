//! What the annotations of an object ask of the operator, beside its spec.
//!
//! | annotation | on | what it does |
//! |---|---|---|
//! | `meterplane.io/reconcile: paused` | Tenant, LanePool | streams, databases and keys are neither looked at nor changed |
//! | `meterplane.io/reconcile: observe` | Tenant, LanePool | they are looked at, and what differs is told, not changed |
//! | `meterplane.io/reconcile-at: <any text>` | all kinds | another text has the object looked at now; the status repeats it |
//!
//! Neither delays a limit, a suspension or a revocation: policy snapshots follow every change. A deletion is an order of its own.

use crds::condition::{Condition, ConditionStatus, DRIFTED, PAUSED, PROGRAMMED, READY};
use kube::{Resource, ResourceExt};

use super::settle::Hindrance;
use crate::conditions::{Statements, Why};

/// Says whether the operator may change what stands outside of Kubernetes.
pub const RECONCILE: &str = "meterplane.io/reconcile";
/// Asks for a look now.
pub const RECONCILE_AT: &str = "meterplane.io/reconcile-at";
/// Longest text that the status repeats, in bytes.
const MAX_AT: usize = 64;

/// Whether the operator may change what stands outside of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It creates and repairs.
    #[default]
    Active,
    /// It looks, and tells what differs.
    Observe,
    /// It does not even look.
    Paused,
}

/// What an object's annotations ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orders {
    /// From [`RECONCILE`]; a value that is not known is refused at admission, and means nothing where it got in.
    pub mode: Mode,
    /// From [`RECONCILE_AT`].
    pub at: Option<String>,
}

impl Orders {
    /// Reads them.
    pub fn of<K: Resource>(object: &K) -> Self {
        let annotations = object.annotations();
        let mode = match annotations.get(RECONCILE).map(String::as_str) {
            Some("paused") => Mode::Paused,
            Some("observe") => Mode::Observe,
            _ => Mode::Active,
        };
        Self { mode, at: annotations.get(RECONCILE_AT).filter(|at| at.len() <= MAX_AT).cloned() }
    }
}

/// Why nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnHold {
    /// Nobody looks.
    Paused,
    /// Somebody looked: this differs.
    Drifted(String),
}

/// States what the orders are, and what was seen of what stands outside of Kubernetes.
pub fn state(statements: &mut Statements, mode: Mode, seen: Option<&Hindrance>, previous: &[Condition]) {
    match mode {
        Mode::Active => {}
        Mode::Observe => {
            let message = format!("annotation {RECONCILE}: observe: what differs is told, and not repaired");
            statements.yes(PAUSED, "Observing", &message);
        }
        Mode::Paused => {
            let message = format!(
                "annotation {RECONCILE}: paused: streams, databases and keys are neither looked at nor changed; limits and \
                 revocations go on"
            );
            statements.yes(PAUSED, "Paused", &message);
        }
    }
    match seen {
        None => {
            statements.no(DRIFTED, Why::new("AsWritten", "what stands outside of Kubernetes is as written"));
        }
        Some(Hindrance::OnHold(OnHold::Drifted(what))) => {
            statements.yes(DRIFTED, "Drifted", what);
        }
        Some(Hindrance::OnHold(OnHold::Paused)) => {
            statements.set(DRIFTED, ConditionStatus::Unknown, Why::new("Paused", "nobody looks"));
        }
        Some(_) => {
            statements.keep(DRIFTED, previous);
        }
    }
}

/// States that it is not known whether an object on hold is as written, unless that was said of this generation before.
pub fn on_hold(
    statements: &mut Statements,
    hold: &OnHold,
    previous: &[Condition],
    (was, is): (Option<i64>, Option<i64>),
) {
    let (reason, message) = match hold {
        OnHold::Paused => ("Paused", "the object is paused: whether it is as written is not looked at"),
        OnHold::Drifted(_) => ("Observing", "the object is only observed, and differs: see Drifted"),
    };
    for kind in [PROGRAMMED, READY] {
        if was == is {
            statements.keep(kind, previous);
        }
        if statements.status(kind).is_none() {
            statements.set(kind, ConditionStatus::Unknown, Why::new(reason, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::condition::find;
    use jiff::Timestamp;
    use kube::core::ObjectMeta;

    fn orders(pairs: &[(&str, &str)]) -> Orders {
        let annotations = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let metadata = ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() };
        Orders::of(&k8s_openapi::api::core::v1::Namespace { metadata, ..Default::default() })
    }

    #[test]
    fn annotations_are_read_and_bounded() {
        assert_eq!(orders(&[]), Orders::default());
        assert_eq!(orders(&[(RECONCILE, "paused")]).mode, Mode::Paused);
        assert_eq!(orders(&[(RECONCILE, "observe"), (RECONCILE_AT, "7")]).at.as_deref(), Some("7"));
        assert_eq!(orders(&[(RECONCILE, "Paused"), (RECONCILE_AT, &"x".repeat(65))]), Orders::default());
    }

    #[test]
    fn a_hold_keeps_what_was_said_of_this_generation_and_no_other() {
        let at = Timestamp::UNIX_EPOCH;
        let mut ready = Statements::default();
        ready.yes(PROGRAMMED, "Programmed", "").yes(READY, "Ready", "");
        let before = ready.conditions(&[], Some(1), at);
        let said = |generations| {
            let mut statements = Statements::default();
            let hold = OnHold::Paused;
            on_hold(&mut statements, &hold, &before, generations);
            state(&mut statements, Mode::Paused, Some(&Hindrance::OnHold(hold)), &before);
            statements.conditions(&before, generations.1, at)
        };
        let same = said((Some(1), Some(1)));
        assert_eq!(find(&same, READY).unwrap().status, ConditionStatus::True);
        assert_eq!(find(&same, PAUSED).unwrap().status, ConditionStatus::True);
        let edited = said((Some(1), Some(2)));
        assert_eq!(find(&edited, READY).unwrap().status, ConditionStatus::Unknown);
        assert_eq!(find(&edited, DRIFTED).unwrap().reason, "Paused");
    }
}
