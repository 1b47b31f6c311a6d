//! What we show to the systems outside, and what they must show to us: passwords, and the authorities whose certificates are believed.
//!
//! Both stand in files that somebody may replace while we run, as the kubelet does when a Secret changes. A file is looked at when a
//! connection needs it, and read when it is another one than before.

mod file;
mod password;
mod tls;
mod verifier;

pub use file::FileError;
pub use password::Password;
pub use tls::{Settings, TlsError, Transport};
