//! What a range is read from: rollups where they cover it, and the rows that they do not.
//!
//! A build of a day covers its rows up to one intent, so the rows above it are added: nothing is missing or counted twice, however
//! old the build is. Only whole hours are taken from rollups; of days (UTC) that lie in the range as a whole, one row a day.
//! See docs/adr/0017-rollups.md.

use std::collections::{BTreeMap, BTreeSet};

use super::pieces::{Piece, Rows};
use crate::api::range::{DAY_MS, HOUR_MS, Range};

/// Builds of a tenant's days.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Databases that the tenant's rows are in.
    pub places: BTreeSet<String>,
    /// The build that counts, by the day's start in Unix milliseconds and the place.
    pub builds: BTreeMap<(i64, String), Build>,
}

/// A build of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// Its number.
    pub number: u64,
    /// The last intent that it covers.
    pub upto: u64,
}

/// The shortest rows of a rollup that a question can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// Days where they fit, hours elsewhere.
    Days,
    /// Hours only.
    Hours,
}

impl Grain {
    /// Of buckets with these starts, Unix milliseconds; `None` when they cut hours.
    pub fn of(starts: &[i64]) -> Option<Self> {
        let all = |ms: i64| starts.iter().all(|start| start.rem_euclid(ms) == 0);
        if all(DAY_MS) { Some(Self::Days) } else { all(HOUR_MS).then_some(Self::Hours) }
    }
}

/// Where to read a range.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cover {
    /// The place whose rollups are taken, if any are.
    pub place: Option<String>,
    /// Builds that are taken: start of the day, number.
    pub builds: Vec<(i64, u64)>,
    /// Ranges of which days are taken, one row each.
    pub days: Vec<Range>,
    /// Ranges of which hours are taken.
    pub hours: Vec<Range>,
    /// Rows that are added.
    pub pieces: Vec<Piece>,
}

impl Cover {
    /// All rows of `range`, and no rollup.
    pub fn rows(range: Range) -> Self {
        Self { pieces: vec![Piece { range, rows: Rows::All }], ..Self::default() }
    }

    /// Reads `range` from rollups where that is possible. Days that ended before `sealed_ms` get no rows any more.
    pub fn of(range: Range, grain: Grain, directory: &Directory, sealed_ms: i64) -> Self {
        let from_ms = next(range.from_ms, HOUR_MS);
        let to_ms = range.to_ms - range.to_ms.rem_euclid(HOUR_MS);
        let Some(place) = directory.main_place().filter(|_| from_ms < to_ms) else {
            return Self::rows(range);
        };
        let mut cover = Self { place: Some(place.to_owned()), ..Self::default() };
        cover.add(Range { to_ms: from_ms, ..range }, Rows::All);
        let mut at = from_ms;
        while at < to_ms {
            let (day, end) = (at - at.rem_euclid(DAY_MS), next(at + 1, DAY_MS).min(to_ms));
            let part = Range { from_ms: at, to_ms: end };
            match directory.builds.get(&(day, place.to_owned())) {
                None => cover.add(part, Rows::All),
                Some(build) => {
                    cover.take(part, day, build.number, grain);
                    if directory.places.len() > 1 {
                        cover.add(part, Rows::Elsewhere);
                    }
                    if day + DAY_MS > sealed_ms {
                        cover.add(part, Rows::Above(build.upto));
                    }
                }
            }
            at = end;
        }
        cover.add(Range { from_ms: to_ms, ..range }, Rows::All);
        if cover.builds.is_empty() { Self::rows(range) } else { cover }
    }

    fn take(&mut self, part: Range, day: i64, build: u64, grain: Grain) {
        self.builds.push((day, build));
        let whole = part.length_ms() == DAY_MS && grain == Grain::Days;
        join(if whole { &mut self.days } else { &mut self.hours }, part);
    }

    fn add(&mut self, range: Range, rows: Rows) {
        if range.from_ms >= range.to_ms {
            return;
        }
        let before = self.pieces.iter_mut().rfind(|piece| piece.rows == rows);
        match before.filter(|piece| piece.range.to_ms == range.from_ms) {
            Some(piece) => piece.range.to_ms = range.to_ms,
            None => self.pieces.push(Piece { range, rows }),
        }
    }
}

impl Directory {
    /// The place whose rollups are taken: users have numbers of their own in each, so only those of one can be added up.
    fn main_place(&self) -> Option<&str> {
        let days = |place: &&str| self.builds.keys().filter(|(_, of)| of == place).count();
        let places: BTreeSet<&str> = self.builds.keys().map(|(_, place)| place.as_str()).collect();
        places.into_iter().max_by_key(days)
    }
}

/// The first multiple of `unit` from `ms` on.
fn next(ms: i64, unit: i64) -> i64 {
    ms + (-ms).rem_euclid(unit)
}

fn join(ranges: &mut Vec<Range>, range: Range) {
    match ranges.last_mut().filter(|last| last.to_ms == range.from_ms) {
        Some(last) => last.to_ms = range.to_ms,
        None => ranges.push(range),
    }
}

#[cfg(test)]
#[path = "cover_tests.rs"]
pub(super) mod tests;
