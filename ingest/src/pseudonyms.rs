//! Pseudonym keys, fetched once a tenant and process, in the background of requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event::TenantName;
use event::pseudonym::PseudonymKey;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// How long a request waits for a key that is being fetched for the first time.
const PATIENCE: Duration = Duration::from_secs(2);

/// By lineage, because a tenant that is created anew has another key under the same name.
type Cells = HashMap<String, Arc<OnceCell<PseudonymKey>>>;

/// The cache.
pub struct Pseudonyms {
    vault: vault::Client,
    cells: Mutex<Cells>,
}

impl Pseudonyms {
    /// An empty cache over Vault.
    pub fn new(vault: vault::Client) -> Self {
        Self { vault, cells: Mutex::default() }
    }

    /// The tenant's key; concurrent callers share one fetch.
    ///
    /// # Errors
    /// A sentence for the caller when Vault does not give it in time; it is asked again by the next request.
    pub async fn get(&self, tenant: &TenantName, lineage: &str) -> Result<PseudonymKey, String> {
        let cell = self.cells.lock().entry(lineage.to_owned()).or_default().clone();
        if let Some(key) = cell.get() {
            return Ok(key.clone());
        }
        let fetch = cell.get_or_try_init(|| self.vault.pseudonym_key(tenant));
        match tokio::time::timeout(PATIENCE, fetch).await {
            Ok(Ok(key)) => Ok(key.clone()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("Vault did not answer in time".to_owned()),
        }
    }
}
