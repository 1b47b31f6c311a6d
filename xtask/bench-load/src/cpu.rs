//! Processor time of this process.

/// Clock ticks a second of `/proc/<pid>/stat`: 100 on every Linux of the last decades.
const TICKS: f64 = 100.0;

/// Seconds on a processor so far, in user and kernel mode.
pub fn seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program stands in brackets and may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS
}
