//! Pseudonym keys, fetched once a tenant and process, beside the requests that need them.

use std::collections::HashMap;
use std::time::Duration;

use event::TenantName;
use event::pseudonym::PseudonymKey;
use parking_lot::Mutex;
use policy::tenant::TenantPolicy;
use tokio::sync::watch;

use crate::problem::Problem;

/// How long a request that is about a user waits for a key that is being fetched for the first time.
pub const NEEDED: Duration = Duration::from_secs(2);
/// How long one waits that can be answered without it.
pub const WELCOME: Duration = Duration::from_millis(250);

/// What is known of a key.
#[derive(Clone)]
enum Fetch {
    Running,
    Done(PseudonymKey),
    Failed,
}

/// The cache. Key material stays in it until the process ends and is never logged.
pub struct Pseudonyms {
    vault: vault::Client,
    /// By lineage: a tenant that is created anew has another key under the same name.
    fetches: Mutex<HashMap<String, watch::Receiver<Fetch>>>,
}

impl Pseudonyms {
    /// An empty cache over Vault.
    pub fn new(vault: vault::Client) -> Self {
        Self { vault, fetches: Mutex::default() }
    }

    /// The tenant's key. The first caller starts a fetch that goes on when the caller is gone; all others wait for the
    /// same one.
    ///
    /// # Errors
    /// 503 when Vault does not give it in time; the next request starts anew.
    pub async fn key(&self, policy: &TenantPolicy, patience: Duration) -> Result<PseudonymKey, Problem> {
        let mut fetch = self.fetch(policy.name(), &policy.snapshot().lineage);
        let done = fetch.wait_for(|state| !matches!(state, Fetch::Running));
        match tokio::time::timeout(patience, done).await {
            Ok(Ok(state)) => match &*state {
                Fetch::Done(key) => Ok(key.clone()),
                Fetch::Running | Fetch::Failed => Err(unavailable()),
            },
            Ok(Err(_)) | Err(_) => Err(unavailable()),
        }
    }

    fn fetch(&self, tenant: &TenantName, lineage: &str) -> watch::Receiver<Fetch> {
        let mut fetches = self.fetches.lock();
        if let Some(fetch) = fetches.get(lineage).filter(|fetch| is_usable(fetch)) {
            return fetch.clone();
        }
        let (sender, receiver) = watch::channel(Fetch::Running);
        fetches.insert(lineage.to_owned(), receiver.clone());
        let (vault, tenant) = (self.vault.clone(), tenant.clone());
        tokio::spawn(async move {
            let outcome = match vault.pseudonym_key(&tenant).await {
                Ok(key) => Fetch::Done(key),
                Err(error) => {
                    tracing::warn!(%tenant, %error, "the tenant's pseudonym key could not be fetched");
                    Fetch::Failed
                }
            };
            sender.send_replace(outcome);
        });
        receiver
    }
}

/// Whether a fetch has succeeded or still can.
fn is_usable(fetch: &watch::Receiver<Fetch>) -> bool {
    match *fetch.borrow() {
        Fetch::Done(_) => true,
        // The channel is closed if the fetch ended without a word.
        Fetch::Running => fetch.has_changed().is_ok(),
        Fetch::Failed => false,
    }
}

fn unavailable() -> Problem {
    Problem::unavailable("the key that users are looked up by is not at hand yet: Vault did not give it")
}
