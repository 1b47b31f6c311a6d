//! The quota ledgers while the operator runs: those of rates are gone with the memory of NATS and are made anew; one of quotas
//! that is gone is told, never replaced.

use std::time::Duration;

use parking_lot::Mutex;

use crate::context::Context;
use crate::installation::{Ledgers, ensure_ledgers};

/// How soon a bucket that is gone is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The ledgers as they were last seen.
pub struct Known(Mutex<Ledgers>);

impl Known {
    /// As found at the start.
    pub fn new(ledgers: Ledgers) -> Self {
        tell(&ledgers);
        Self(Mutex::new(ledgers))
    }

    /// As last seen.
    pub fn get(&self) -> Ledgers {
        self.0.lock().clone()
    }
}

/// Looks at the ledgers for ever; whatever changes goes into the index.
pub async fn run(ctx: &Context) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let known = ctx.ledgers.get();
        let settings = &ctx.settings;
        match ensure_ledgers(&ctx.nats, &settings.installation, settings.replicas, &known.ids).await {
            Ok(seen) if seen != known => {
                if seen.lost != known.lost {
                    tell(&seen);
                }
                *ctx.ledgers.0.lock() = seen;
                ctx.first_pass.want_index();
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the quota ledgers could not be looked at"),
        }
        ctx.metrics.lost_ledgers(ctx.ledgers.get().lost.len());
    }
}

fn tell(ledgers: &Ledgers) {
    for bucket in &ledgers.lost {
        tracing::error!(bucket, "a quota ledger is lost: its limits refuse until it is reseeded");
    }
}
