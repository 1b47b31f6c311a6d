//! Waiting for what is to come, with a deadline instead of a sleep that hopes.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// Waits until `probe` gives a value; panics with what it said last when it takes longer than `limit`.
pub fn within<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(last) if begun.elapsed() > limit => panic!("{what}: not within {limit:?}: {last}"),
            Err(_) => pause(),
        }
    }
}

/// [`within`] half a minute.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Result<T, String>) -> T {
    within(Duration::from_secs(30), what, probe)
}

/// Looks for `time` on end that nothing changes: for what must not come.
pub fn holds_for(time: Duration, what: &str, mut probe: impl FnMut() -> Result<(), String>) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        if let Err(last) = probe() {
            panic!("{what}: not any more after {:?}: {last}", begun.elapsed());
        }
        pause();
    }
}

#[allow(clippy::disallowed_methods, reason = "the one bounded poll of the tests")]
fn pause() {
    std::thread::sleep(POLL);
}
