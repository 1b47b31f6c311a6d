//! Rates and medians, and how they are printed.

use std::fmt;

use super::processes::Cpu;

/// What the load generator is called beside the parts of the platform.
pub(super) const LOAD: &str = "load";

/// A measured run.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// Events a second.
    pub rate: f64,
    /// What it cost …
    pub cpu: Cpu,
    /// … and for how many events.
    pub events: f64,
}

/// One line: rates, and processor time by process.
pub(super) fn show(name: &str, runs: &[Run]) {
    let mut cpu = Cpu::default();
    runs.iter().for_each(|run| cpu.add(&run.cpu));
    let events = runs.iter().map(|run| run.events).sum();
    let rates = Figure::of(runs.iter().map(|run| run.rate));
    println!("  {name:<10} {rates} events/s; CPU s a million: {}", cpu.per_million(events));
    if cpu.share(LOAD) > 0.0 {
        println!("  {:<10} the load generator's share of that: {:.0} %", "", cpu.share(LOAD) * 100.0);
    }
}

/// A figure of several rounds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure(Vec<f64>);

impl Figure {
    /// Of these rounds, in any order.
    pub fn of(rounds: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = rounds.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self(sorted)
    }

    /// The one in the middle; 0 of none.
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Figure {
    /// Median, lowest and highest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median() < 100.0 { 3 } else { 0 };
        let (lowest, highest) = (self.0.first().unwrap_or(&0.0), self.0.last().unwrap_or(&0.0));
        write!(f, "{:.digits$} ({lowest:.digits$} - {highest:.digits$})", self.median())
    }
}

/// A baseline before and after: what stands between two of its runs is compared with their mean.
pub(super) fn around(baseline: &[f64]) -> Vec<f64> {
    baseline.windows(2).map(|pair| f64::midpoint(pair[0], pair[1])).collect()
}

/// What two stages together can do when one must wait for the other, by their rates alone.
pub(super) fn in_turn(one: f64, other: f64) -> f64 {
    1.0 / (1.0 / one + 1.0 / other)
}

/// The targets of a bench, and which were missed.
#[derive(Debug, Default)]
pub(super) struct Verdict(Vec<String>);

impl Verdict {
    /// Prints a figure beside its target.
    pub fn at_least(&mut self, what: &str, measured: f64, target: f64) {
        self.check(what, measured, measured >= target, &format!(">= {target}"));
    }

    /// Prints a figure beside its target.
    pub fn at_most(&mut self, what: &str, measured: f64, target: f64) {
        self.check(what, measured, measured <= target, &format!("<= {target}"));
    }

    fn check(&mut self, what: &str, measured: f64, holds: bool, target: &str) {
        println!("{:<6} {what}: {measured:.3} (target {target})", if holds { "holds" } else { "MISSED" });
        if !holds {
            self.0.push(what.to_owned());
        }
    }

    /// Whether nothing was missed.
    pub fn holds(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_one_of_the_rounds() {
        let figure = Figure::of([3.0, 1.0, 100.0]);
        assert_eq!((figure.median(), figure.to_string()), (3.0, "3.000 (1.000 - 100.000)".to_owned()));
        assert_eq!(Figure::of([]).median(), 0.0);
    }

    #[test]
    fn a_round_is_compared_with_what_stands_around_it() {
        assert_eq!(around(&[1.0, 3.0, 5.0]), [2.0, 4.0]);
        assert_eq!(in_turn(30.0, 60.0), 20.0);
    }

    #[test]
    fn one_missed_target_is_enough() {
        let mut verdict = Verdict::default();
        verdict.at_least("a", 1.0, 1.0);
        verdict.at_most("b", 1.0, 1.0);
        assert!(verdict.holds());
        verdict.at_most("c", 1.1, 1.0);
        assert!(!verdict.holds());
    }
}
