//! What a tenant should have outside of Kubernetes.

use std::collections::BTreeMap;
use std::time::Duration;

use clickhouse::databases::DatabaseSpec;
use event::{Lane, Stamp, TenantName, TenantNumber};
use jetstream::{LaneSettings, StreamSpec, StreamState};
use vault::KeySpec;

use super::validate::Validated;
use crate::conditions::Why;
use crate::context::Settings;

/// Metadata of the lane's stream: the plan's retention at the time of placement. Later edits of the plan move nobody.
const PLACED_RETENTION: &str = "meterplane.io/placed-retention-days";
/// How long a stream remembers message ids: twice the time for which a pod repeats a pack.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Everything that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The lane's stream.
    pub stream: StreamSpec,
    /// Database, tables and view.
    pub database: DatabaseSpec,
    /// The key.
    pub key: KeySpec,
    /// The stamp of all of them.
    pub stamp: Stamp,
}

/// Says what the tenant should have. `stream` is its stream as it is, where the placement is stamped.
///
/// # Errors
/// When the lineage is not a UID.
pub fn build(
    name: &TenantName,
    validated: &Validated,
    stamp: &Stamp,
    stream: Option<&StreamState>,
    settings: &Settings,
) -> Result<Desired, Why> {
    let number =
        TenantNumber::from_lineage(&stamp.lineage).map_err(|error| Why::new("Invalid", error.to_string()))?;
    let placed = stream
        .and_then(|stream| stream.metadata.get(PLACED_RETENTION))
        .and_then(|days| days.parse().ok())
        .unwrap_or(validated.plan_retention_days);
    let lane = LaneSettings {
        replicas: settings.replicas,
        max_age: settings.lane_age,
        max_bytes: validated.lane_bytes,
        duplicate_window: DUPLICATE_WINDOW,
    };
    let mut stream = StreamSpec::lane(&Lane::Dedicated(name.clone()), lane, stamp);
    stream.metadata = BTreeMap::from([(PLACED_RETENTION.to_owned(), placed.to_string())]);
    let days = validated.own_retention_days.unwrap_or(placed);
    Ok(Desired {
        stream,
        database: DatabaseSpec::dedicated(name, number, days, stamp),
        key: KeySpec { tenant: name.clone(), stamp: stamp.clone() },
        stamp: stamp.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::{acme, pro, settings};
    use super::super::validate::{claim, validate};
    use super::*;

    fn desired(change: impl FnOnce(&mut crds::Tenant), stream: Option<&StreamState>) -> Desired {
        let validated = validate(&acme(change), Some(&pro(|_| {})), &settings()).unwrap();
        let stamp = claim("dev", "acme", &validated, &[]).unwrap().stamp;
        build(&"acme".parse().unwrap(), &validated, &stamp, stream, &settings()).unwrap()
    }

    #[test]
    fn a_tenant_has_a_stream_a_database_and_a_key_of_one_owner() {
        let desired = desired(|_| {}, None);
        assert_eq!(desired.stream.name, "USAGE_acme");
        assert_eq!(desired.stream.settings.max_bytes, Some(1 << 30));
        assert_eq!(desired.database.name, "tenant_acme");
        let stamps = [&desired.stream.stamp, &desired.database.stamp, &desired.key.stamp];
        assert!(stamps.iter().all(|stamp| **stamp == desired.stamp));
    }

    #[test]
    fn the_plans_retention_is_read_once() {
        let first = desired(|tenant| tenant.spec.retention = None, None);
        assert_eq!(first.stream.metadata[PLACED_RETENTION], "90");
        let stream = StreamState {
            name: "USAGE_acme".into(),
            settings: first.stream.settings.clone(),
            stamp: Some(first.stamp.clone()),
            metadata: BTreeMap::from([(PLACED_RETENTION.to_owned(), "30".to_owned())]),
            created_ms: 0,
            messages: 0,
            bytes: 0,
            first_seq: 0,
            last_seq: 0,
            oldest_age: Duration::ZERO,
        };
        let later = desired(|tenant| tenant.spec.retention = None, Some(&stream));
        assert_eq!(later.stream.metadata[PLACED_RETENTION], "30", "placed under an older plan");
    }
}
