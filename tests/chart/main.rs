//! The Helm chart: what it renders, and how it installs, upgrades and goes on a real kube-apiserver of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod helm;
mod install;
mod render;
mod values;
