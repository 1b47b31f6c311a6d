//! Giving slices back: because another pod asks, because nobody uses them, or because this pod stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::Incarnation;
use event::names::{ledger_bucket, recall_subject};
use futures_util::StreamExt;
use futures_util::future::join_all;
use policy::ledger::Terms;
use policy::tenant::QuotaKey;

use super::entry::Entry;
use super::take::Quotas;
use crate::snapshot::Store;

/// How long a holder may take to answer a recall; no answer means that it still holds.
const RECALL_TIMEOUT: Duration = Duration::from_millis(100);
/// A slice that nobody has used for this long goes back.
const IDLE: Duration = Duration::from_secs(30);
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Asks every holder to return what it does not need; returns when all have answered or the time is up.
pub(super) async fn recall(quotas: &Quotas, entry: &Entry, holders: &[Incarnation]) {
    let asks = holders.iter().map(|holder| {
        let payload = entry.key.to_string().into();
        tokio::time::timeout(RECALL_TIMEOUT, quotas.client.nats().request(recall_subject(*holder), payload))
    });
    for answer in join_all(asks).await {
        let result = if matches!(answer, Ok(Ok(_))) { "ok" } else { "unknown" };
        quotas.metrics.count_ledger("recall", result);
    }
}

/// Answers other pods' recalls, and returns idle slices, until the process ends.
pub async fn answer_recalls(quotas: Arc<Quotas>, store: Arc<Store>) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        let subject = recall_subject(quotas.pod.incarnation);
        let mut requests = match quotas.client.nats().subscribe(subject).await {
            Ok(requests) => requests,
            Err(error) => {
                tracing::warn!(%error, "recalls cannot be received");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        loop {
            tokio::select! {
                request = requests.next() => {
                    let Some(request) = request else { break };
                    let (quotas, store) = (quotas.clone(), store.clone());
                    tokio::spawn(async move {
                        let key = std::str::from_utf8(&request.payload).ok().and_then(|text| text.parse().ok());
                        let held = key.and_then(|key: QuotaKey| quotas.entries.lock().get(&key).cloned());
                        if let Some(entry) = held {
                            give_back(&quotas, &entry, &store).await;
                        }
                        if let Some(reply) = request.reply
                            && let Err(error) = quotas.client.nats().publish(reply, "ok".into()).await
                        {
                            tracing::debug!(%error, "a recall was not answered");
                        }
                    });
                }
                _ = sweep.tick() => sweep_idle(&quotas, &store).await,
            }
        }
    }
}

/// Returns everything: the last thing a pod does.
pub async fn return_all(quotas: &Quotas, store: &Store) {
    let entries: Vec<_> = quotas.entries.lock().values().cloned().collect();
    for chunk in entries.chunks(64) {
        join_all(chunk.iter().map(|entry| give_back(quotas, entry, store))).await;
    }
}

async fn sweep_idle(quotas: &Quotas, store: &Store) {
    let entries: Vec<_> = quotas.entries.lock().iter().map(|(key, entry)| (*key, entry.clone())).collect();
    quotas.metrics.slices.set(i64::try_from(entries.len()).unwrap_or(i64::MAX));
    for (key, entry) in entries {
        let ended = !entry.period.contains(quotas.clock.now_ms());
        if !ended && entry.state.lock().last_used.elapsed() < IDLE {
            continue;
        }
        // What was left when the period ended dies with it.
        if !ended {
            give_back(quotas, &entry, store).await;
        }
        let mut entries = quotas.entries.lock();
        let done = {
            let state = entry.state.lock();
            state.slice.is_settled() || (ended && state.slice.pending() == 0)
        };
        // Nobody else may be about to use it: the map and we hold the only references.
        if done && Arc::strong_count(&entry) == 2 {
            entries.remove(&key);
        }
    }
}

/// Returns what is free and reports what was spent.
async fn give_back(quotas: &Quotas, entry: &Entry, store: &Store) {
    let ledgers: BTreeMap<String, String> =
        store.load().index.as_ref().map(|index| index.ledgers.clone()).unwrap_or_default();
    let Some(ledger_id) = ledgers.get(&ledger_bucket(entry.bucket.0.label(), entry.bucket.1)) else { return };
    // A return does not speak about the cap.
    let terms = Terms { cap: 0, cap_generation: 0, ledger_id };
    let mut op_state = entry.op.lock().await;
    if quotas.finish_unanswered(entry, &mut op_state, &terms).await.is_err() {
        return;
    }
    let begun = entry.state.lock().slice.begin_return(quotas.pod.incarnation);
    let Some(op) = begun else { return };
    match quotas.ledger.run(entry, &mut op_state, &terms, &op).await {
        Ok(record) => {
            quotas.metrics.count_ledger("return", "ok");
            entry.state.lock().slice.finish(&op, record.held_by(op.by));
        }
        Err(error) => {
            let unavailable = quotas.unavailable(entry, &mut op_state, op, error);
            tracing::debug!(?unavailable, key = entry.record_key, "units were not returned");
        }
    }
}
