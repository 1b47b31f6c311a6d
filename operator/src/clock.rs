//! The wall clock; nobody else here reads it.

use jiff::Timestamp;

/// Now.
#[allow(clippy::disallowed_methods, reason = "this module is where the process reads the wall clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
