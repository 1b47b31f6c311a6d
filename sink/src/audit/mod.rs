//! The audit: whether everything that was packed is stored, was a repeat, or is dead.
//!
//! It takes the sink's word for one thing alone, how far a lane is, and counts for itself: packs by the headers of the stream,
//! rows in the tables. It shares no code with what writes them. What it finds stands in bucket `audits`
//! ([`event::audit`]), where the operator reads it.

mod rows;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use event::audit::{Audit, Counts, Difference};
use event::names::{AUDITS_BUCKET, forgotten_key};
use event::{Lane, Position, TenantNumber};
use jetstream::{Bucket, ReadError, counts};

use self::turn::Turn;
use crate::clock::now_ms;
use crate::context::Context;
use crate::metrics::{AuditLabels, LaneLabel};

/// Pause between two rounds.
const EVERY: Duration = Duration::from_secs(3);
/// Messages that one round of a lane counts at most.
const MESSAGES: u64 = 20_000;

/// Why a lane was not counted this time.
#[derive(Debug, thiserror::Error)]
enum Uncounted {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Rows(#[from] clickhouse::ClickHouseError),
    #[error("{0}")]
    Record(String),
}

/// Audits the lanes that `held` names until the process ends.
pub async fn run(context: Arc<Context>, grace: Duration, held: impl Fn() -> Vec<Lane>) {
    let bucket = loop {
        match Bucket::open(&context.nats, AUDITS_BUCKET).await {
            Ok(bucket) => break bucket,
            Err(error) => tracing::warn!(%error, "waiting for bucket {AUDITS_BUCKET}"),
        }
        context.pause(EVERY).await;
        if context.is_shutting_down() {
            return;
        }
    };
    let mut turns: BTreeMap<Lane, Turn> = BTreeMap::new();
    while !context.is_shutting_down() {
        // Without an answer nothing can be counted either.
        let Ok(started_ms) = rows::server_started_ms(&context.reader).await else {
            context.pause(EVERY).await;
            continue;
        };
        let lanes = held();
        turns.retain(|lane, _| lanes.contains(lane));
        for lane in lanes {
            let turn = turns.entry(lane.clone()).or_default();
            match round(&context, &bucket, &lane, turn, started_ms, grace).await {
                Ok(()) => {}
                // Its tables come with its tenant, and its stream may just be going.
                Err(error) => tracing::debug!(%lane, %error, "not audited this time"),
            }
        }
        context.pause(EVERY).await;
    }
}

/// Counts what a lane's sink has closed since the last round, and again what did not add up.
async fn round(
    context: &Context,
    bucket: &Bucket,
    lane: &Lane,
    turn: &mut Turn,
    started_ms: i64,
    grace: Duration,
) -> Result<(), Uncounted> {
    let record = |error: &dyn std::fmt::Display| Uncounted::Record(error.to_string());
    let position = context.intents.get(&lane.to_string()).await.map_err(|error| record(&error))?;
    let Some(position) = position.filter(|entry| !entry.deleted) else { return Ok(()) };
    let position = Position::decode(&position.value).map_err(|error| record(&error))?;
    if !turn.is_due(position.sequence, Instant::now()) {
        return Ok(());
    }
    let entry = bucket.get(&lane.to_string()).await.map_err(|error| record(&error))?;
    let revision = entry.as_ref().map_or(0, |entry| entry.revision);
    let known = entry.as_ref().filter(|entry| !entry.deleted).and_then(|entry| Audit::decode(&entry.value));
    let mut audit = known.clone().unwrap_or_else(|| Audit::first(position.epoch)).in_epoch(position.epoch);
    audit = audit.on_server(started_ms);
    for tenant in audit.open.iter().map(|open| open.tenant).collect::<BTreeSet<_>>() {
        if bucket.get(&forgotten_key(tenant)).await.map_err(|error| record(&error))?.is_some() {
            audit = audit.forget(tenant);
        }
    }
    // What is said of one range is counted at once, whoever it is about.
    let again = audit.open.iter().chain(&audit.letters);
    let ranges: BTreeSet<_> = again.map(|range| (range.epoch, range.lo, range.hi)).collect();
    for (epoch, lo, hi) in ranges {
        let rows = rows::count(&context.reader, lane, epoch, lo, hi).await?;
        let of_range = |range: &&Difference| (range.epoch, range.lo, range.hi) == (epoch, lo, hi);
        for open in audit.open.clone().iter().filter(of_range) {
            let rows = rows.get(&open.tenant).copied().unwrap_or_default();
            audit = audit.recount(open, rows, ms(now_ms()), grace.as_millis() as i64);
        }
        for letters in audit.letters.clone().iter().filter(of_range) {
            let rows = rows.get(&letters.tenant).copied().unwrap_or_default();
            audit = audit.reread(letters, rows, ms(now_ms()));
        }
    }
    let hi = position.sequence.min(audit.upto + MESSAGES);
    if hi > audit.upto && !audit.is_stuck() {
        let (gone, counts) = count(context, lane, audit.epoch, audit.upto + 1, hi).await?;
        audit = audit.close(hi, gone, &counts, ms(now_ms()));
    }
    tell(context, lane, &audit, position.sequence);
    context.gaps.lock().unwrap_or_else(PoisonError::into_inner).insert(lane.clone(), audit.gaps());
    if Some(&audit) != known.as_ref() {
        let value = audit.encode().map_err(|error| record(&error))?;
        bucket.update(&lane.to_string(), value.into(), revision).await.map_err(|error| record(&error))?;
    }
    turn.counted(!audit.open.is_empty(), Instant::now());
    Ok(())
}

/// What messages `lo..=hi` packed and what came of it, and how many of them are gone.
async fn count(
    context: &Context,
    lane: &Lane,
    epoch: i64,
    lo: u64,
    hi: u64,
) -> Result<(u64, BTreeMap<TenantNumber, Counts>), Uncounted> {
    let packed = counts::packed(&context.nats, lane, lo, hi).await?;
    if packed.epoch != epoch {
        return Err(Uncounted::Record("the stream was replaced".to_owned()));
    }
    // What is gone cannot be compared.
    let first = lo + packed.gone;
    let mut counts = rows::count(&context.reader, lane, epoch, first, hi).await?;
    for (tenant, events) in packed.events {
        counts.entry(tenant).or_default().packed = events;
    }
    Ok((packed.gone, counts))
}

fn tell(context: &Context, lane: &Lane, audit: &Audit, position: u64) {
    let total = audit.total;
    let kinds: [(&'static str, u64); 6] = [
        ("packed", total.packed),
        ("stored", total.stored),
        ("duplicates", total.duplicates),
        ("dead", total.dead),
        ("gone", audit.gone),
        ("uncounted", position.saturating_sub(audit.upto)),
    ];
    for (kind, events) in kinds {
        let labels = AuditLabels { lane: lane.to_string(), kind };
        context.metrics.audited.get_or_create(&labels).set(i64::try_from(events).unwrap_or(i64::MAX));
    }
    let standing = audit.open.iter().filter(|difference| difference.stands).count();
    let label = LaneLabel { lane: lane.to_string() };
    context.metrics.differences.get_or_create(&label).set(i64::try_from(standing).unwrap_or(i64::MAX));
}

fn ms(now_ms: u64) -> i64 {
    i64::try_from(now_ms).unwrap_or(i64::MAX)
}
