//! From what people declare to the signed snapshot that pods decide by.
//!
//! ```text
//! Plan, Tenant, UsageLimit, AccessPolicy -> rules, access -> judge -> assemble -> publish -> KV bucket `policy`
//!                                       ApiKey, Secret -> keys --^               '-> Publications -> statuses
//! ```
//! All but `publish`, `index` and `store` is pure.

pub mod access;
pub mod assemble;
pub mod index;
pub mod judge;
pub mod keys;
pub mod publications;
pub mod publish;
pub mod rules;
pub mod store;
