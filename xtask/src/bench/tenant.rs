//! The tenant whose events are sent.

/// Its name, and that of its namespace and plan.
pub(super) const NAME: &str = "bench";
/// The stream of its lane.
pub(super) const STREAM: &str = "USAGE_bench";
/// The pod that it is sent to.
pub(super) const POD: &str = "ingest-1";
/// The tenant of `bench decide`: three quotas and a rate, each too large to refuse anything.
pub(super) const YAML: &str = r#"apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
apiVersion: meterplane.io/v1alpha1
kind: Plan
metadata: {name: bench}
spec:
  displayName: Bench
  isolation: Dedicated
  limits:
  - {name: events, per: Tenant, quota: {max: 1000000000, period: Month}}
  - {name: reports-per-user, per: User, match: {features: ["report.*"]}, quota: {max: 1000000000, period: Day}}
  - {name: tokens, per: Tenant, measure: {type: Sum, field: tokens}, quota: {max: 1000000000000000, period: Month}}
  - {name: burst, per: Tenant, rate: {max: 1000000000, period: Second}}
---
apiVersion: meterplane.io/v1alpha1
kind: Tenant
metadata: {name: bench}
spec: {displayName: Bench, planRef: {name: bench}, namespaces: [bench]}
---
apiVersion: meterplane.io/v1alpha1
kind: ApiKey
metadata: {name: app, namespace: bench}
spec: {scopes: [ingest]}
"#;
