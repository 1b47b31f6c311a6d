//! The only place where this process reads the time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds.
#[allow(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
