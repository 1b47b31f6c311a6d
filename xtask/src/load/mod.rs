//! Sends events to a running platform as tenants' applications do: one request a batch, the same ids again when there was no
//! answer.
//!
//! ```text
//! replay (a file) ---.
//!                    +-> Pool (bounded) -> Sender -> ingest pods          tenants: custom resources, keys
//! simulate (a model) -'                                                   stored:  what the dashboard counts
//! ```

pub mod batch;
pub mod pool;
pub mod reader;
pub mod sender;
pub mod stored;
pub mod table;
pub mod target;
pub mod tenants;

pub use batch::Batch;
pub use sender::{Outcome, Sender};
pub use target::Target;

use crate::{Cancel, Error, Result};

/// A switch that Ctrl-C and SIGTERM set.
///
/// # Errors
/// When the handler cannot be installed.
pub fn interruptible() -> Result<Cancel> {
    let cancel = Cancel::default();
    let on_signal = cancel.clone();
    let handler = ctrlc::set_handler(move || on_signal.set());
    handler.map_err(|e| Error::Missing { what: "the handler of Ctrl-C".into(), remedy: e.to_string() })?;
    Ok(cancel)
}
