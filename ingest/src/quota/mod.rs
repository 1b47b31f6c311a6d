//! Quotas in this pod: slices that are spent without asking, and the ledger that they come from.
//!
//! ```text
//! take -> slice has enough? -> yes: taken
//!                           -> no:  one grant under way per key -> compare-and-set in the ledger
//!                                     -> too few free, others hold some: recall them once, ask again
//!                                     -> still too few: limited
//! ```

mod entry;
mod ledger;
mod rates;
mod recall;
mod take;

pub use recall::{answer_recalls, return_all};
pub use take::{Limited, Quotas, TakeError, Taken};
