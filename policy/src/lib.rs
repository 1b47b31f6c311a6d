//! What is allowed: from declared rules to a decision about one event.
//!
//! ```text
//! operator:  rules -> compile -> Snapshot -> sealed bytes in KV
//! pod:       sealed bytes -> open -> TenantPolicy -> decide(event) -> the units it needs -> quota slices
//! ```
//! Pure: no tokio, no kube, no clock, no randomness. Time, counters and key material are arguments.

pub mod access;
pub mod apikey;
pub mod attempt;
pub mod compile;
mod cost;
pub mod decide;
pub mod directory;
pub mod effective;
pub mod heartbeat;
pub mod ledger;
pub mod ledger_ids;
pub mod level;
pub mod limit;
pub mod matching;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod rate;
pub mod rate_share;
pub mod reservation;
mod seen;
pub mod settle;
pub mod simulate;
pub mod slice;
pub mod snapshot;
pub mod stored;
pub mod tally;
pub mod tenant;
pub mod window;
