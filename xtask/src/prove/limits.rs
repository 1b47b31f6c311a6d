//! The 100 limits of the quota proof: caps from 1 to the largest, spread evenly by magnitude, for tenants and for users; some never start
//! anew.

use std::fmt::Write as _;

use super::Scale;

/// Limits of the whole tenant; limit n counts feature `f<n>` alone.
pub const OF_TENANT: usize = 70;
/// Limits of each user, on features that a tenant's limit counts as well.
pub const OF_USER: usize = 30;
/// Users of each feature that has a limit per user.
pub const USERS: usize = 20;

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Name of the UsageLimit.
    pub name: String,
    /// The feature it counts.
    pub feature: String,
    /// Units a day, or for ever.
    pub cap: u64,
    /// Whether it never starts anew.
    pub total: bool,
    /// Whether each user has a cap of its own.
    pub per_user: bool,
}

/// All of them.
pub fn all(scale: Scale) -> Vec<Limit> {
    let (tenant, user) = match scale {
        Scale::Small => (3.0, 2.0),
        Scale::Full => (5.0, 3.0),
    };
    let cap = |n: usize, count: usize, magnitude: f64| {
        10_f64.powf(magnitude * n as f64 / (count - 1) as f64).round() as u64
    };
    let of_tenant = (0..OF_TENANT).map(|n| Limit {
        name: format!("t{n}"),
        feature: format!("f{n}"),
        cap: cap(n, OF_TENANT, tenant),
        total: n % 7 == 5,
        per_user: false,
    });
    let of_user = (0..OF_USER).map(|n| Limit {
        name: format!("u{n}"),
        feature: format!("f{}", 2 * n),
        cap: cap(n, OF_USER, user),
        total: false,
        per_user: true,
    });
    of_tenant.chain(of_user).collect()
}

/// The YAML of a tenant with these limits, its key, and a plan that reserves room for its events.
pub fn yaml(tenant: &str, limits: &[Limit], events: u64) -> String {
    let mut text = format!(
        r"apiVersion: v1
kind: Namespace
metadata: {{name: {tenant}}}
---
apiVersion: meterplane.io/v1alpha1
kind: Plan
metadata: {{name: {tenant}}}
spec:
  displayName: Proof
  limits:
  - {{name: room, per: Tenant, mode: Observe, quota: {{max: {events}, period: Month}}}}
---
apiVersion: meterplane.io/v1alpha1
kind: Tenant
metadata: {{name: {tenant}}}
spec: {{displayName: Proof, planRef: {{name: {tenant}}}, namespaces: [{tenant}]}}
---
apiVersion: meterplane.io/v1alpha1
kind: ApiKey
metadata: {{name: app, namespace: {tenant}}}
spec: {{scopes: [ingest]}}
"
    );
    for limit in limits {
        let per = if limit.per_user { "User" } else { "Tenant" };
        let period = if limit.total { "Total" } else { "Day" };
        let Limit { name, feature, cap, .. } = limit;
        // Writing into a string does not fail.
        let _ = write!(
            text,
            r"---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {{name: {name}, namespace: {tenant}}}
spec: {{per: {per}, match: {{features: [{feature}]}}, quota: {{max: {cap}, period: {period}}}}}
"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_a_hundred_from_one_to_the_largest() {
        let limits = all(Scale::Full);
        assert_eq!(limits.len(), 100);
        assert_eq!((limits[0].cap, limits[69].cap), (1, 100_000));
        assert_eq!(limits.iter().filter(|limit| limit.total).count(), 10);
        assert!(limits[69].feature != "f58" && limits[99].feature == "f58", "the largest is nobody else's");
        let documents = serde_yaml_ng::Deserializer::from_str(&yaml("p", &limits, 5)).count();
        assert_eq!(documents, 104);
    }
}
