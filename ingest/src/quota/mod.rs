//! Quotas in this pod: slices that are spent without asking, and the ledger that they come from.
//!
//! ```text
//! take -> slice has enough? -> yes: taken; a large slice that runs low is refilled behind the requests' backs
//!                           -> no:  acquire: one operation a key at a time -> compare-and-set in the ledger
//!                                     -> too few free, others hold some: recall them, ask again
//!                                     -> still too few: limited
//! stock -> a request of many events asks for what all of its users lack at once, before their turns come
//! sweep -> ended, idle, too many: returned and forgotten
//! ```

mod entries;
mod entry;
mod grant;
mod ledger;
mod lowered;
mod rates;
mod recall;
mod reserve;
mod standing;
mod stock;
mod sweep;
mod take;

pub use lowered::lowered;
pub use recall::answer_recalls;
pub use reserve::{Committed, ReserveError, Under};
pub use standing::{Met, Standing};
pub use sweep::{return_all, sweep};
pub use take::{Limited, Quotas, TakeError, Taken};
