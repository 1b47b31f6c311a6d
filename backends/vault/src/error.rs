//! What a failed call means to whoever decides about it.

use vaultrs::error::ClientError;

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

impl VaultError {
    /// What an error of the client library at `path` means.
    pub(crate) fn of(error: &ClientError, path: &str) -> Self {
        match error {
            ClientError::APIError { code, errors } => Self::answered(*code, &errors.join("; "), path),
            // No answer, or one that is not Vault's (a proxy's).
            ClientError::RestClientError { .. } => Self::Unavailable(chain(error)),
            _ => Self::Invalid(format!("{path}: {}", chain(error))),
        }
    }

    fn answered(code: u16, text: &str, path: &str) -> Self {
        let path = || path.to_owned();
        match code {
            403 => Self::Denied { path: path() },
            // A mount that is not there is a wrong configuration, not an absent key.
            404 if text.contains("no handler for route") => Self::Invalid(text.to_owned()),
            404 => Self::NotFound { path: path() },
            // What transit answers when it is to use a key that is not there.
            400 if text.contains("key not found") => Self::NotFound { path: path() },
            503 if text.contains("sealed") => Self::Sealed,
            // 412 and 47x: a replica that is behind, or standing by.
            412 | 429 | 470..=479 | 500..=599 => Self::Unavailable(format!("{code} {text}")),
            _ => Self::Invalid(format!("{}: {code} {text}", path())),
        }
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_classified_by_what_can_be_done_about_them() {
        let of = |code, text: &str| {
            let errors = if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
            VaultError::of(&ClientError::APIError { code, errors }, "p")
        };
        let path = || "p".to_owned();
        assert_eq!(of(403, "permission denied"), VaultError::Denied { path: path() });
        assert_eq!(of(404, ""), VaultError::NotFound { path: path() });
        assert_eq!(of(400, "encryption key not found"), VaultError::NotFound { path: path() });
        assert_eq!(of(400, "signing key not found"), VaultError::NotFound { path: path() });
        assert_eq!(of(503, "Vault is sealed"), VaultError::Sealed);
        assert!(
            matches!(of(404, "no handler for route \"x/\""), VaultError::Invalid(_)),
            "not an absent key"
        );
        assert!(matches!(of(400, "bad"), VaultError::Invalid(_)));
        for code in [412, 429, 473, 500, 502, 503] {
            assert!(matches!(of(code, ""), VaultError::Unavailable(_)), "{code}");
        }
    }
}
