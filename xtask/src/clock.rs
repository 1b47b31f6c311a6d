//! The only place where this program reads the wall clock.

use jiff::Timestamp;

/// Now.
#[allow(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
