//! Whose turn it is to decide about tenants that have moved between lanes ([`event::seat`]).
//!
//! `turns` holds the rules and does no I/O of its own, `directory` what this process knows of the bucket.
//! `docs/adr/0016-moves.md` says why the rules suffice; `model_tests` tries to break them.

mod directory;
mod turns;

#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;

pub use directory::{Directory, Unreadable};
pub use turns::{Elsewhere, Found, Seats, Turns};
