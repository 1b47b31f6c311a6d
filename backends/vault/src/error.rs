//! What a failed call means to whoever decides about it.

/// Why Vault did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// Not reachable, not answering, or failing; try again later. A write may have happened.
    #[error("Vault is unavailable: {0}")]
    Unavailable(String),
    /// Reachable, but somebody must unseal it.
    #[error("Vault is sealed")]
    Sealed,
    /// Our role may not do this, or its login was refused.
    #[error("Vault denies {path}")]
    Denied {
        /// The path asked for.
        path: String,
    },
    /// There is no such key or policy.
    #[error("Vault has nothing at {path}")]
    NotFound {
        /// The path asked for.
        path: String,
    },
    /// The request or the answer makes no sense: a defect or a wrong configuration, which retrying does not mend.
    #[error("Vault: {0}")]
    Invalid(String),
}
