//! What one decision costs, as a ratio to parsing the same event into a `serde_json::Value` in the same run.
//!
//! ```text
//! round:  A (parse) -> B (the part) -> A (parse)      ratio = B / mean of both A
//! part:   median of the rounds' ratios
//! ```
//! The parse before and after each part shows how quiet the machine was: the spread stands in the table.

mod ours;
mod sample;
mod theirs;

use std::hint::black_box;
use std::time::Duration;

/// How long one timed run of a part is to last at least.
const RUN_LASTS: Duration = Duration::from_millis(250);
/// Rounds of a part; odd, so that the median is one of them.
const ROUNDS: usize = 5;

/// One line of the table.
struct Part<'a> {
    name: &'static str,
    /// Largest ratio that is good enough.
    target: Option<f64>,
    run: Box<dyn FnMut() + 'a>,
}

/// What came of a part.
struct Measured {
    nanos: f64,
    ratio: f64,
    lowest: f64,
    highest: f64,
    events: u64,
}

fn main() {
    let text = sample::event();
    println!(
        "event: {} bytes of JSON; {ROUNDS} rounds A/B/A of at least {RUN_LASTS:?} of processor time each",
        text.len()
    );
    let fixture = ours::Fixture::new(&text);
    let mut baseline = || {
        black_box(serde_json::from_str::<serde_json::Value>(black_box(&text)).is_ok());
    };
    let limiter = theirs::Theirs::new(&text);
    let mut parts = fixture.parts();
    parts.extend(limiter.parts());

    println!("{:<58} {:>9} {:>7} {:>15} {:>10}", "part", "ns/event", "ratio", "lowest-highest", "events");
    let (mut missed, mut all) = (Vec::new(), Vec::new());
    for part in &mut parts {
        let measured = measure(&mut baseline, &mut part.run);
        let target = part.target.map_or_else(String::new, |target| format!("  (target <= {target})"));
        println!(
            "{:<58} {:>9.0} {:>7.3} {:>7.3}-{:<7.3} {:>10}{target}",
            part.name, measured.nanos, measured.ratio, measured.lowest, measured.highest, measured.events
        );
        if part.target.is_some_and(|target| measured.ratio > target) {
            missed.push(part.name);
        }
        all.push((part.name, measured));
    }
    compare(&all, &mut missed);
    if !missed.is_empty() {
        println!("missed: {}", missed.join("; "));
        std::process::exit(1);
    }
}

/// Says how many times faster than limitador each pair of equivalent parts is.
fn compare(all: &[(&'static str, Measured)], missed: &mut Vec<&'static str>) {
    let of = |name: &str| all.iter().find(|(known, _)| *known == name).map(|(_, measured)| measured.nanos);
    for (ours, theirs, failure) in theirs::PAIRS {
        let (Some(ours), Some(theirs)) = (of(ours), of(theirs)) else { continue };
        println!("limitador needs {:.2} times as long: {theirs:.0} ns against {ours:.0} ns", theirs / ours);
        if ours >= theirs {
            missed.push(failure);
        }
    }
}

/// Rounds A/B/A.
fn measure(baseline: &mut dyn FnMut(), part: &mut dyn FnMut()) -> Measured {
    let (a, b) = (calibrate(baseline), calibrate(part));
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|_| {
            let before = time(baseline, a);
            let nanos = time(part, b);
            let after = time(baseline, a);
            (nanos, nanos / f64::midpoint(before, after))
        })
        .collect();
    rounds.sort_by(|one, other| one.1.total_cmp(&other.1));
    Measured {
        nanos: rounds[ROUNDS / 2].0,
        ratio: rounds[ROUNDS / 2].1,
        lowest: rounds[0].1,
        highest: rounds[ROUNDS - 1].1,
        events: b * ROUNDS as u64,
    }
}

/// How often a part must run to last as long as a run is to.
fn calibrate(part: &mut dyn FnMut()) -> u64 {
    let mut times = 64;
    loop {
        let lasted = time(part, times) * times as f64;
        if lasted >= RUN_LASTS.as_nanos() as f64 {
            return times;
        }
        times *= 2;
    }
}

/// Nanoseconds of one run on a processor: whatever else the machine does in between does not count.
fn time(part: &mut dyn FnMut(), times: u64) -> f64 {
    let began = on_cpu_nanos();
    for _ in 0..times {
        part();
    }
    (on_cpu_nanos() - began) as f64 / times as f64
}

/// Nanoseconds that this thread has run, by the kernel's scheduler.
fn on_cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.unwrap_or_else(|| ours::fail("this kernel does not say how long a thread ran (schedstat)"))
}
