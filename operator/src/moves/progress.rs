//! What comes next in a move. Pure.

use event::seat::{Mark, Moving, Seat};

/// What is known of a move.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The snapshot in force names the new lane.
    pub published: bool,
    /// Pods on which something may be under way that was decided by an older one.
    pub undrained: Vec<String>,
    /// The end of the old lane now.
    pub end: Option<Mark>,
    /// Why the old lane's sink has not passed the cut-over.
    pub behind: Option<String>,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it waits for this.
    Wait(String),
    /// The record changes so.
    Write(Change),
}

/// A change of the record; sinks may have passed the seat on meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// See [`Seat::moving`].
    pub moving: Option<Moving>,
    /// The new lane asks for the seat.
    asks: bool,
}

impl Change {
    /// Applied to the record as it is now.
    pub fn onto(&self, seat: &Seat) -> Seat {
        let asked = if self.asks { seat.asked_by(seat.home()) } else { None };
        Seat { moving: self.moving.clone(), ..asked.unwrap_or_else(|| seat.clone()) }
    }
}

/// What comes next for a tenant that is on its way.
pub fn next(seat: &Seat, facts: &Facts) -> Next {
    let wait = |what: &str| Next::Wait(what.to_owned());
    let Some(moving) = &seat.moving else { return wait("nothing") };
    if !facts.published {
        return wait("the policy snapshot that names the new lane");
    }
    if !facts.undrained.is_empty() {
        return Next::Wait(format!(
            "pods that may still write to the old lane: {}",
            facts.undrained.join(", ")
        ));
    }
    if moving.cut_over.is_none() {
        let moving = Some(Moving { cut_over: facts.end, ..moving.clone() });
        return match facts.end {
            Some(_) => Next::Write(Change { moving, asks: false }),
            None => wait("the end of the old lane"),
        };
    }
    if let Some(behind) = &facts.behind {
        return Next::Wait(format!("the old lane's sink: {behind}"));
    }
    if seat.at == *seat.home() {
        return Next::Write(Change { moving: None, asks: false });
    }
    match seat.asked_by(seat.home()) {
        Some(_) => Next::Write(Change { moving: seat.moving.clone(), asks: true }),
        None => Next::Wait(format!("the sink of lane {}: it decides which events are repeats", seat.at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::Lane;

    fn written(seat: &Seat, facts: &Facts) -> Option<Seat> {
        match next(seat, facts) {
            Next::Write(change) => Some(change.onto(seat)),
            Next::Wait(_) => None,
        }
    }

    fn waits(seat: &Seat, facts: &Facts, what: &str) {
        assert!(matches!(next(seat, facts), Next::Wait(why) if why.contains(what)), "{what}");
    }

    #[test]
    fn a_move_goes_on_step_by_step_and_says_what_it_waits_for() {
        let (own, pool) = (Lane::Dedicated("acme".parse().unwrap()), Lane::Pooled(3));
        let seat = Seat::first("acme".parse().unwrap(), own).moved(&pool, 5);
        waits(&seat, &Facts::default(), "snapshot");
        let undrained = Facts { published: true, undrained: vec!["ingest-2".into()], ..Facts::default() };
        waits(&seat, &undrained, "ingest-2");
        let end = Mark { epoch: 7, sequence: 9, at_ms: 3 };
        let drained = Facts { published: true, end: Some(end), ..Facts::default() };
        let cut = written(&seat, &drained).unwrap();
        assert_eq!(cut.moving.as_ref().and_then(|moving| moving.cut_over), Some(end));
        let behind = Facts { behind: Some("it is at message 8 of 9".into()), ..drained.clone() };
        waits(&cut, &behind, "message 8 of 9");
        let asked = written(&cut, &drained).unwrap();
        assert_eq!(asked.asked, [pool]);
        waits(&asked, &drained, "the sink of lane acme");
        let passed = asked.passed().unwrap();
        assert_eq!(written(&passed, &drained).unwrap().moving, None);
    }
}
