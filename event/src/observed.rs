//! What is known of an external object before a plan is made.

/// Knowledge of an object that lives in another system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed<T> {
    /// There might be something, but the system did not say what. No plan may destroy or replace on this.
    Unknown(String),
    /// The system answered that nothing is there.
    Absent,
    /// What the system answered.
    Present(T),
}

impl<T> Observed<T> {
    /// The state, if it is known and present.
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(state) => Some(state),
            Self::Unknown(_) | Self::Absent => None,
        }
    }
}
