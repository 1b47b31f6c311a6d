//! The policy beside a tenant's key: it carries the stamp, and grants what a user of the key needs.

use event::{Stamp, TenantName};

const STAMP_PREFIX: &str = "# meterplane: ";

/// The policy's text. Only `update`: with `create`, encrypting under a shredded key's name would bring the name back with
/// a new key.
pub fn render(tenant: &TenantName, stamp: &Stamp) -> String {
    let key = tenant.transit_key();
    // A struct of strings and a flag always has a JSON form.
    let stamp = serde_json::to_string(stamp).unwrap_or_default();
    let grants = ["encrypt/{}", "decrypt/{}", "hmac/{}", "hmac/{}/*"].map(|path| {
        format!("path \"transit/{}\" {{ capabilities = [\"update\"] }}\n", path.replace("{}", &key))
    });
    format!("{STAMP_PREFIX}{stamp}\n{}", grants.concat())
}

/// The stamp in a policy's first line.
pub fn stamp(policy: &str) -> Option<Stamp> {
    serde_json::from_str(policy.lines().next()?.strip_prefix(STAMP_PREFIX)?).ok()
}
