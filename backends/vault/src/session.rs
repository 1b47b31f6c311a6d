//! The login.

/// A login.
pub struct Session {}
