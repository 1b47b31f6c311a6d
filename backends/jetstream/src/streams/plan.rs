//! The pure part: which steps lead from what is there to what is wanted.

use event::{Claim, Observed, Stamp};

use super::{Discard, StreamSpec, StreamState};

/// One change of one stream. None of them loses data that is not past its declared age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamStep {
    /// Create it.
    Create(StreamSpec),
    /// Bring the named settings to what the spec says.
    Update {
        /// What it shall be.
        spec: StreamSpec,
        /// Which settings differ, for the log and the condition.
        fields: Vec<&'static str>,
    },
    /// Give it to another owner; settings stay.
    Restamp {
        /// The stream.
        name: String,
        /// The stamp it must carry now.
        from: Option<Stamp>,
        /// The stamp it gets.
        to: Stamp,
    },
}

/// What the caller knows or permits beyond the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// The stream may be missing: it is new, or losing it loses nothing.
    MayCreate,
    /// The stream held data: if it is missing, that is a loss to be reported, not papered over with an empty one.
    MustExist,
    /// It exists, and what a lower limit would drop from it is not needed any more.
    MayEvict,
}

/// Why a wanted stream cannot be had by safe steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// It could not be observed.
    Unknown(String),
    /// It is gone, with what was in it.
    Missing,
    /// It is not ours to touch.
    Claimed(Claim),
    /// The server cannot change this setting of an existing stream.
    Immutable {
        /// Name of the setting.
        field: &'static str,
    },
    /// The lower limit would drop messages that are there now.
    WouldEvict {
        /// Name of the setting.
        field: &'static str,
    },
}

/// Steps, and what stops the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// To be executed in order.
    pub steps: Vec<StreamStep>,
    /// Why `steps` does not lead all the way, if so.
    pub blocked: Option<Blocked>,
}

/// Steps from `have` to `want`, as far as they are safe.
pub fn plan(want: &StreamSpec, have: &Observed<StreamState>, expectation: Expectation) -> Plan {
    let state = match have {
        Observed::Unknown(reason) => return Plan::blocked(Blocked::Unknown(reason.clone())),
        Observed::Absent if expectation == Expectation::MayCreate => {
            return Plan { steps: vec![StreamStep::Create(want.clone())], blocked: None };
        }
        Observed::Absent => return Plan::blocked(Blocked::Missing),
        Observed::Present(state) => state,
    };
    if let Some(claim) = want.stamp.claim(state.stamp.as_ref()) {
        return Plan::blocked(Blocked::Claimed(claim));
    }
    if let Some(field) = immutable(want, state) {
        return Plan::blocked(Blocked::Immutable { field });
    }
    // A limit that may not be lowered yet stays as it is; all others are set.
    let (spec, evicting) = without_eviction(want, state, expectation);
    let fields = differences(&spec, state);
    let steps = if fields.is_empty() { Vec::new() } else { vec![StreamStep::Update { spec, fields }] };
    Plan { steps, blocked: evicting.map(|field| Blocked::WouldEvict { field }) }
}

/// The step that marks a stream's data as retained; `None` when it is so already or carries no stamp.
pub fn release(have: &StreamState) -> Option<StreamStep> {
    let from = have.stamp.clone().filter(|stamp| !stamp.released)?;
    let to = Stamp { released: true, ..from.clone() };
    Some(StreamStep::Restamp { name: have.name.clone(), from: Some(from), to })
}

/// The step that gives a stream to `to`; the caller has decided that it may be taken. `None` when it is so already.
pub fn adopt(have: &StreamState, to: &Stamp) -> Option<StreamStep> {
    (have.stamp.as_ref() != Some(to)).then(|| StreamStep::Restamp {
        name: have.name.clone(),
        from: have.stamp.clone(),
        to: to.clone(),
    })
}

impl Plan {
    fn blocked(blocked: Blocked) -> Self {
        Self { steps: Vec::new(), blocked: Some(blocked) }
    }
}

/// The first setting that the server would refuse to change.
fn immutable(want: &StreamSpec, have: &StreamState) -> Option<&'static str> {
    let (want, have) = (&want.settings, &have.settings);
    [
        ("storage", want.storage != have.storage),
        ("deny_delete", !want.deny_delete && have.deny_delete),
        ("deny_purge", !want.deny_purge && have.deny_purge),
    ]
    .into_iter()
    .find_map(|(field, refused)| refused.then_some(field))
}

/// `want` with every limit kept that would drop messages, and the first such limit.
fn without_eviction(
    want: &StreamSpec,
    have: &StreamState,
    expectation: Expectation,
) -> (StreamSpec, Option<&'static str>) {
    let mut spec = want.clone();
    let mut evicting = None;
    if expectation == Expectation::MayEvict {
        return (spec, evicting);
    }
    let (wanted, found) = (&mut spec.settings, &have.settings);
    if lowered(wanted.max_msgs_per_subject, found.max_msgs_per_subject) && have.messages > 0 {
        wanted.max_msgs_per_subject = found.max_msgs_per_subject;
        evicting = Some("max_msgs_per_subject");
    }
    // A full stream that discards new messages keeps what it has, so only `Old` evicts by size.
    if lowered(wanted.max_bytes, found.max_bytes)
        && wanted.discard == Discard::Old
        && wanted.max_bytes.is_some_and(|limit| limit < have.bytes)
    {
        wanted.max_bytes = found.max_bytes;
        evicting = Some("max_bytes");
    }
    if lowered(wanted.max_age, found.max_age) && wanted.max_age.is_some_and(|limit| limit < have.oldest_age) {
        wanted.max_age = found.max_age;
        wanted.duplicate_window = found.duplicate_window;
        evicting = Some("max_age");
    }
    (spec, evicting)
}

/// No limit is the highest one.
fn lowered<T: PartialOrd>(want: Option<T>, have: Option<T>) -> bool {
    match (want, have) {
        (Some(want), Some(have)) => want < have,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Settings in which the stream is not what it should be.
fn differences(want: &StreamSpec, have: &StreamState) -> Vec<&'static str> {
    let (a, b) = (&want.settings, &have.settings);
    let metadata = want.metadata.iter().all(|(key, value)| have.metadata.get(key) == Some(value));
    [
        ("subjects", a.subjects != b.subjects),
        ("replicas", a.replicas != b.replicas),
        ("max_age", a.max_age != b.max_age),
        ("max_bytes", a.max_bytes != b.max_bytes),
        ("max_msgs_per_subject", a.max_msgs_per_subject != b.max_msgs_per_subject),
        ("discard", a.discard != b.discard),
        ("duplicate_window", a.duplicate_window != b.duplicate_window),
        ("deny_delete", a.deny_delete != b.deny_delete),
        ("deny_purge", a.deny_purge != b.deny_purge),
        ("allow_direct", a.allow_direct != b.allow_direct),
        ("allow_rollup", a.allow_rollup != b.allow_rollup),
        ("plain", a.plain != b.plain),
        ("stamp", have.stamp.as_ref() != Some(&want.stamp)),
        ("metadata", !metadata),
    ]
    .into_iter()
    .filter_map(|(field, differs)| differs.then_some(field))
    .collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
