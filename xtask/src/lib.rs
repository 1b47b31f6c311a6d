//! Developer commands, and the library under them.
//!
//! [`platform`] runs the real parts (etcd, kube-apiserver, NATS, ClickHouse, Vault) and our own processes on one machine, each
//! under the identity and the rights it has in a cluster. `cargo xtask up` shows it to a person; the system tests start their
//! own.
//!
//! ```text
//! tools (build or find) -> platform (start, watch, stop) <- up, status, down (a person)
//!                                                        <- tests (crate system-tests)
//! ```

pub mod bench;
pub mod cancel;
pub mod cargo;
pub mod clock;
pub mod codegen;
pub mod commands;
mod control;
pub mod error;
pub mod http;
pub mod load;
pub mod paths;
pub mod platform;
pub mod progress;
pub mod prove;
pub mod random;
pub mod replay;
pub mod run;
pub mod signal;
pub mod simulate;
pub mod simulate_limit;
pub mod test;
pub mod tidy;
pub mod tools;
pub mod up;

pub use cancel::Cancel;
pub use error::{Error, Result};
pub use paths::Paths;
pub use progress::Progress;
