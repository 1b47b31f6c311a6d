//! Recalls: a pod that would have to refuse asks those that hold units to give back what they do not need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::Incarnation;
use event::names::recall_subject;
use futures_util::StreamExt;
use futures_util::future::join_all;
use policy::ledger::Terms;
use policy::tenant::QuotaKey;

use super::entry::Entry;
use super::take::Quotas;

/// How long a holder may take to answer a recall; no answer means that it still holds.
const RECALL_TIMEOUT: Duration = Duration::from_millis(100);

impl Quotas {
    /// Asks every holder to return what it does not need; returns when all have answered or the time is up. One that was
    /// asked for before `asked` has ended since is not repeated.
    pub(super) async fn recall(&self, entry: &Entry, holders: &[Incarnation], asked: Instant) {
        let mut recalled = entry.recalled.lock().await;
        if recalled.is_some_and(|ended| ended > asked) {
            return;
        }
        let asks = holders.iter().map(|holder| {
            let payload = entry.key.to_string().into();
            tokio::time::timeout(RECALL_TIMEOUT, self.client.nats().request(recall_subject(*holder), payload))
        });
        for answer in join_all(asks).await {
            let result = if matches!(answer, Ok(Ok(_))) { "ok" } else { "unknown" };
            self.metrics.count_ledger("recall", result);
        }
        *recalled = Some(Instant::now());
    }

    /// Gives back what another pod asks for.
    async fn answer(&self, payload: &[u8]) {
        let key = std::str::from_utf8(payload).ok().and_then(|text| text.parse::<QuotaKey>().ok());
        if let Some(entry) = key.and_then(|key| self.entries.find(&key)) {
            self.give_back(&entry).await;
        }
    }

    /// Returns what is free of an entry and reports what was spent.
    pub(super) async fn give_back(&self, entry: &Entry) {
        // A return does not speak about the cap.
        let terms = Terms { cap: 0, cap_generation: 0, ledger_id: &entry.ledger_id };
        let mut op = entry.op.lock().await;
        if self.prepare(entry, &mut op, &terms).await.is_err() {
            return;
        }
        let number = self.next_operation();
        let begun = entry.state.lock().slice.begin_return(self.pod.incarnation, number);
        let Some(return_op) = begun else { return };
        if let Err(error) = self.give(entry, &mut op, &terms, return_op).await {
            tracing::debug!(?error, key = %entry.record_key, "units were not returned");
        }
    }
}

/// Answers other pods' recalls until the process ends.
pub async fn answer_recalls(quotas: Arc<Quotas>) {
    loop {
        let subject = recall_subject(quotas.pod.incarnation);
        match quotas.client.nats().subscribe(subject).await {
            Ok(mut requests) => {
                while let Some(request) = requests.next().await {
                    let quotas = quotas.clone();
                    tokio::spawn(async move {
                        quotas.answer(&request.payload).await;
                        if let Some(reply) = request.reply
                            && let Err(error) = quotas.client.nats().publish(reply, "ok".into()).await
                        {
                            tracing::debug!(%error, "a recall was not answered");
                        }
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "recalls cannot be received"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
