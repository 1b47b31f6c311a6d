//! Vault as this platform uses it: one transit key a tenant, and the platform's signing key.
//!
//! Nothing here is called on the path of a request: pseudonym keys are fetched once a tenant and process, snapshots are
//! signed by the operator and verified with public keys.
//!
//! # Rights that each part needs
//! | part | rights |
//! |---|---|
//! | `check` | `read` on `auth/token/lookup-self` (Vault's default policy has it) |
//! | `TransitKeys` | `create, read, update, delete` on `transit/keys/mp-*` and `sys/policy/mp-*` |
//! | `sign` | `update` on `transit/sign/mp-platform-snapshots` |
//! | `public_keys` | `read` on `transit/keys/mp-platform-snapshots` |
//! | `pseudonym_key` | `update` on `transit/hmac/mp-*` (asked for as `transit/hmac/mp-<tenant>/sha2-256`) |

mod client;
mod error;
pub mod keys;
mod platform;
mod session;

pub use client::{Client, Config, DEFAULT_MOUNT};
pub use error::VaultError;
pub use event::{Observed, Ownership, Stamp};
pub use keys::{
    Blocked, Expectation, KeyError, KeySpec, KeyState, KeyStep, Plan, TransitKey, TransitKeys, adopt, plan,
    release,
};
pub use platform::Signature;
