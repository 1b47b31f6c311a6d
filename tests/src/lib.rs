//! The world of the system tests: the real parts and our own processes, started once, and a tenant of its own a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is tests only")]

mod answer;
pub mod encrypted;
pub mod query_user;
mod tenant;
mod wait;
mod world;

pub use answer::{Answer, Call};
pub use tenant::{TestTenant, event};
pub use wait::{eventually, holds_for, within};
pub use world::World;
