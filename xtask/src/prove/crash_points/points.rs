//! The points: where each is, and which are walked.

/// Who passes a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// Ingest pods.
    Ingest,
    /// Sinks.
    Sink,
}

/// One point.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Its name, the same as in the code.
    pub name: &'static str,
    /// What has happened and what has not.
    pub between: &'static str,
    /// Who passes it; or why it is not walked.
    pub passed: Result<Passes, &'static str>,
}

const fn walked(name: &'static str, between: &'static str, by: Passes) -> Point {
    Point { name, between, passed: Ok(by) }
}

const fn open(name: &'static str, between: &'static str, why: &'static str) -> Point {
    Point { name, between, passed: Err(why) }
}

/// All of them.
pub const ALL: [Point; 17] = [
    open("P1", "before authentication", "nothing is held or sent yet"),
    walked("P2", "units taken, pack not sent", Passes::Ingest),
    walked("P3", "pack stored, PubAck not read", Passes::Ingest),
    walked("P4", "PubAck read, 202 not sent", Passes::Ingest),
    walked("P5", "packs read, intent not recorded", Passes::Sink),
    walked("P6", "intent recorded and lease checked, insert not sent", Passes::Sink),
    walked("P7", "half of an insert sent", Passes::Sink),
    walked("P8", "insert done, its answer lost", Passes::Sink),
    walked("P9", "answers read, intent not closed", Passes::Sink),
    open(
        "P10",
        "intent closed, packs not acknowledged",
        "packs are not acknowledged: the intent is the position",
    ),
    walked("P11", "intent written, its answer lost", Passes::Sink),
    open("P12", "rows stored, rollup not", "there are no rollups yet"),
    // Walked apart: see `long`.
    open("P13", "takeover while another sink stands still in P6 to P8", LONG),
    open("P14", "stream made anew", ANEW),
    open("P15", "erasure during P6 to P9", "there is no erasure of single users yet"),
    open("P16", "key rotated between encryption and insert", "rows are not encrypted yet"),
    open(
        "P17",
        "operator dies between two writes",
        "not a point of sink or ingest; `prove faults` kills the operator",
    ),
];

/// Points in which sinks stand still for longer than their lease, one after the other, while the rest take their lanes.
pub const LONG_IN: [&str; 3] = ["P6", "P7", "P8"];
/// How P13 is walked.
pub const LONG: &str = "walked by three sinks at once";
/// How P14 is walked.
pub const ANEW: &str = "walked between two loads";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_stands_in_its_place() {
        for (n, point) in ALL.iter().enumerate() {
            assert_eq!(point.name, format!("P{}", n + 1));
        }
        let walked = |name: &&str| ALL.iter().any(|p| p.name == *name && p.passed == Ok(Passes::Sink));
        assert!(LONG_IN.iter().all(walked));
        assert_eq!(ALL.iter().filter(|point| point.passed.is_ok()).count(), 9);
    }
}
