//! The usage event: how it arrives, how it is identified, how it travels, and every name derived from a tenant.
//!
//! ```text
//! request body -> wire::parse -> UsageEvent -> (policy decides) -> pack::Writer -> lane stream
//!                                                      lane stream -> pack::Pack  -> rows
//! ```
//! Pure: no clock, no network, no randomness. Formats fixed here are read by every deployable, so a change to
//! one of them is a new version of it (see `pack::VERSION`), never an edit.

pub mod audit;
pub mod decimal;
pub mod gate;
pub mod ids;
pub mod lease;
pub mod ledger_key;
pub mod names;
pub mod observed;
pub mod pack;
pub mod position;
pub mod pseudonym;
pub mod seat;
pub mod stamp;
mod text;
pub mod violation;
pub mod wire;

pub use gate::Gate;
pub use ids::{EventHash, Incarnation, PackId, TenantNumber, UserKey};
pub use names::{Lane, TenantName};
pub use observed::Observed;
pub use position::Position;
pub use stamp::{Claim, Ownership, Stamp};
