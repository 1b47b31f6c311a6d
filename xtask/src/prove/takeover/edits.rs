//! People who edit Plans, Tenants and UsageLimits all the time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::super::Job;
use super::super::enforcement::{name, own};
use super::super::proxy::Proxy;
use crate::simulate::rng::Rng;

/// Time between two edits, on average.
const EVERY: Duration = Duration::from_millis(120);

/// Edits until `end` is set; how many were made.
pub fn edit(job: &Job<'_>, proxy: &Proxy, tenants: usize, seed: u64, end: &AtomicBool, made: &AtomicUsize) {
    let mut rng = Rng::new(seed);
    while !end.load(Ordering::Relaxed) && !job.cancel.is_set() {
        let (kind, tenant) = (rng.below(10), rng.below(tenants));
        let number = 1_000_000 + rng.below(1_000_000);
        let (path, change) = match kind {
            0 => (
                "/apis/meterplane.io/v1alpha1/plans/proof".to_owned(),
                json!({"spec": {"displayName": format!("Proof {number}")}}),
            ),
            1 | 2 => (
                format!("/apis/meterplane.io/v1alpha1/tenants/{}", name(tenant)),
                json!({"spec": {"displayName": format!("Tenant {number}")}}),
            ),
            _ => (own(tenant), json!({"spec": {"quota": {"max": number, "period": "Day"}}})),
        };
        if proxy.patch(&path, &change).is_ok() {
            made.fetch_add(1, Ordering::Relaxed);
        }
        let pause = EVERY.mul_f64(2.0 * rng.unit());
        if job.cancel.pause(pause).is_err() {
            return;
        }
    }
}
