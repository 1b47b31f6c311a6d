//! What other processes use, as the kernel counts it.

use std::collections::BTreeMap;

use crate::platform::Platform;
use crate::{Error, Result};

/// Clock ticks a second of `/proc/<pid>/stat`: 100 on every Linux of the last decades.
const TICKS: f64 = 100.0;

/// Seconds on a processor so far, by part.
#[derive(Debug, Clone, Default)]
pub(super) struct Cpu(BTreeMap<String, f64>);

impl Cpu {
    /// Of all parts that run.
    pub fn now(platform: &Platform) -> Result<Self> {
        let of = |part: String| Ok((part.clone(), seconds(platform.pid(&part)?)?));
        platform.running().into_iter().map(of).collect::<Result<_>>().map(Self)
    }

    /// Of one process.
    pub fn of(name: &str, pid: u32) -> Result<Self> {
        Ok(Self([(name.to_owned(), seconds(pid)?)].into()))
    }

    /// What came on top since `before`, of parts that have run all the time.
    pub fn since(&self, before: &Self) -> Self {
        let more = |(part, now): (&String, &f64)| Some((part.clone(), now - before.0.get(part)?));
        Self(self.0.iter().filter_map(more).collect())
    }

    /// Adds what a process says of itself.
    pub fn with(mut self, name: &str, seconds: f64) -> Self {
        *self.0.entry(name.to_owned()).or_default() += seconds;
        self
    }

    /// Adds all of another measurement.
    pub fn add(&mut self, other: &Self) {
        for (name, seconds) in &other.0 {
            *self.0.entry(name.clone()).or_default() += seconds;
        }
    }

    /// A sentence: seconds a million events, parts that did next to nothing left out.
    pub fn per_million(&self, events: f64) -> String {
        let each = |seconds: &f64| seconds * 1_000_000.0 / events.max(1.0);
        let shown = self.0.iter().filter(|(_, seconds)| each(seconds) >= 0.05);
        let parts: Vec<String> =
            shown.map(|(name, seconds)| format!("{name} {:.1}", each(seconds))).collect();
        format!("{}, in all {:.1}", parts.join(", "), self.0.values().map(each).sum::<f64>())
    }

    /// One part's share of all.
    pub fn share(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default() / self.0.values().sum::<f64>().max(f64::MIN_POSITIVE)
    }
}

fn seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(Error::io(format!("cannot read {path}")))?;
    ticks(&text)
        .map(|ticks| ticks / TICKS)
        .ok_or_else(|| Error::Format { what: path, detail: "it names no processor time".into() })
}

/// User and system time.
fn ticks(stat: &str) -> Option<f64> {
    // The name of the program stands in brackets and may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(field(11)? + field(12)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_may_look_like_fields() {
        let stat = "7 (a) b (c 1 2) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 1 1 1";
        assert_eq!(ticks(stat), Some(200.0));
    }

    #[test]
    fn time_is_told_by_a_million_events() {
        let cpu = Cpu::default().with("nats", 3.0).with("load", 1.0);
        assert_eq!(cpu.per_million(500_000.0), "load 2.0, nats 6.0, in all 8.0");
        assert_eq!(cpu.share("load"), 0.25);
    }
}
