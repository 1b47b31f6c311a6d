//! What a tenant should have outside of Kubernetes.

use std::collections::BTreeMap;
use std::time::Duration;

use clickhouse::databases::{DatabaseSpec, Kept};
use clickhouse::schema::Retention;
use event::{Lane, Stamp, TenantName, TenantNumber};
use jetstream::{LaneSettings, StreamSpec, StreamState};
use vault::KeySpec;

use super::dereference::Dereferenced;
use super::validate::Validated;
use crate::conditions::Why;
use crate::context::Settings;
use crate::controllers::drift;
use crate::snapshot::assemble::Place;

/// Metadata of the lane's stream: the plan's retention at the time of placement. Later edits of the plan move nobody.
const PLACED_RETENTION: &str = "meterplane.io/placed-retention-days";
/// The same of rollups.
const PLACED_ROLLUPS: &str = "meterplane.io/placed-rollup-days";
/// How long a stream remembers message ids: twice the time for which a pod repeats a pack.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Everything that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The lane's stream, if the lane is its own.
    pub stream: Option<StreamSpec>,
    /// Database, tables and views.
    pub database: DatabaseSpec,
    /// The key.
    pub key: KeySpec,
    /// The stamp of all of them.
    pub stamp: Stamp,
    /// Where its data are then.
    pub place: Place,
}

impl Desired {
    /// What of it differs from what was found; `kept`: it held data, so what is missing is lost.
    pub fn differences(&self, found: &Dereferenced, kept: bool) -> Vec<String> {
        let mut all = drift::key(&self.key, &found.key, kept);
        all.extend(self.stream.iter().flat_map(|stream| drift::stream(stream, &found.stream, kept)));
        all.extend(drift::database(&self.database, &found.database));
        all
    }
}

/// The plan's retention when the tenant was placed, for one with a stream of its own.
pub fn placed_retention(stream: &StreamState) -> Placed {
    let days = |key| stream.metadata.get(key).and_then(|days: &String| days.parse().ok());
    Placed { events_days: days(PLACED_RETENTION), rollups_days: days(PLACED_ROLLUPS) }
}

/// What is known of the plan's retention at the time when a tenant was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placed {
    /// Of events.
    pub events_days: Option<u32>,
    /// Of rollups.
    pub rollups_days: Option<u32>,
}

/// Says what the tenant should have. `placed` is the plan's retention of the time when the tenant was placed; `has_rows`: it has had a lane
/// of its own, whose tables stay.
///
/// # Errors
/// When the lineage is not a UID.
pub fn build(
    name: &TenantName,
    validated: &Validated,
    stamp: &Stamp,
    (lane, has_rows): (Lane, bool),
    placed: Placed,
    settings: &Settings,
) -> Result<Desired, Why> {
    let number =
        TenantNumber::from_lineage(&stamp.lineage).map_err(|error| Why::new("Invalid", error.to_string()))?;
    let placed = Kept {
        events_days: placed.events_days.unwrap_or(validated.plan_retention.events_days),
        rollups_days: placed.rollups_days.unwrap_or(validated.plan_retention.rollups_days),
    };
    let events_days = validated.own_retention.events_days.unwrap_or(placed.events_days);
    let rollups_days = validated.own_retention.rollups_days.unwrap_or(placed.rollups_days);
    // Rows without a rollup are counted by reading all of them.
    let kept = Kept { events_days, rollups_days: rollups_days.max(events_days) };
    let (stream, database) = match &lane {
        Lane::Dedicated(_) => {
            let settings = lane_settings(settings, validated.lane_bytes);
            let mut stream = StreamSpec::lane(&lane, settings, stamp);
            stream.metadata = BTreeMap::from([
                (PLACED_RETENTION.to_owned(), placed.events_days.to_string()),
                (PLACED_ROLLUPS.to_owned(), placed.rollups_days.to_string()),
            ]);
            (Some(stream), DatabaseSpec::dedicated(name, number, kept, stamp))
        }
        Lane::Pooled(_) => {
            let tables =
                has_rows.then_some(Retention::Days { events: kept.events_days, rollups: kept.rollups_days });
            (None, DatabaseSpec { tables, ..DatabaseSpec::pooled(name, number, [&lane], kept, stamp) })
        }
    };
    Ok(Desired {
        stream,
        database,
        key: KeySpec { tenant: name.clone(), stamp: stamp.clone() },
        stamp: stamp.clone(),
        place: Place { lineage: stamp.lineage.clone(), lane, retention_days: kept.events_days },
    })
}

/// Settings of a lane's stream.
pub fn lane_settings(settings: &Settings, max_bytes: u64) -> LaneSettings {
    LaneSettings {
        replicas: settings.replicas,
        max_age: settings.lane_age,
        max_bytes,
        duplicate_window: DUPLICATE_WINDOW,
    }
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::{acme, pro, settings};
    use super::super::validate::validate;
    use super::*;
    use crate::controllers::ownership::claim;

    fn desired(change: impl FnOnce(&mut crds::Tenant), lane: Lane, events_days: Option<u32>) -> Desired {
        let validated = validate(&acme(change), Some(&pro(|_| {})), &settings()).unwrap();
        let name = "acme".parse().unwrap();
        let stamp = claim(&validated.owner("dev", &name), &[]).unwrap().stamp;
        let placed = Placed { events_days, rollups_days: None };
        build(&name, &validated, &stamp, (lane, false), placed, &settings()).unwrap()
    }

    fn own() -> Lane {
        Lane::Dedicated("acme".parse().unwrap())
    }

    #[test]
    fn a_tenant_has_a_stream_a_database_and_a_key_of_one_owner() {
        let desired = desired(|_| {}, own(), None);
        let stream = desired.stream.unwrap();
        assert_eq!((stream.name.as_str(), stream.settings.max_bytes), ("USAGE_acme", Some(1 << 30)));
        assert_eq!(desired.database.name, "tenant_acme");
        let stamps = [&stream.stamp, &desired.database.stamp, &desired.key.stamp];
        assert!(stamps.iter().all(|stamp| **stamp == desired.stamp));
    }

    #[test]
    fn a_pooled_tenant_has_views_over_its_shard_and_no_stream() {
        let desired = desired(|_| {}, Lane::Pooled(3), None);
        assert_eq!((desired.stream, desired.database.tables), (None, None));
        assert!(desired.database.views.unwrap().databases.contains("pool_3"));
        assert_eq!((desired.place.lane, desired.place.retention_days), (Lane::Pooled(3), 90));
    }

    #[test]
    fn the_plans_retention_is_read_once() {
        let of = |placed| {
            let desired = desired(|tenant| tenant.spec.retention = None, own(), placed);
            desired.stream.unwrap().metadata[PLACED_RETENTION].clone()
        };
        assert_eq!(of(None), "90");
        assert_eq!(of(Some(30)), "30", "placed under an older plan");
    }

    #[test]
    fn rollups_are_kept_as_long_as_asked_and_at_least_as_long_as_events() {
        let of = |events: &str, rollups: Option<&str>| {
            let desired = desired(
                |tenant| {
                    let days = |days: &str| days.parse().unwrap();
                    let retention =
                        crds::limit::Retention { events: Some(days(events)), rollups: rollups.map(days) };
                    tenant.spec.retention = Some(retention);
                },
                own(),
                None,
            );
            desired.database.tables.unwrap()
        };
        assert_eq!(of("90d", Some("365d")), Retention::Days { events: 90, rollups: 365 });
        assert_eq!(of("90d", None), Retention::Days { events: 90, rollups: 730 });
        assert_eq!(of("900d", None), Retention::Days { events: 900, rollups: 900 });
    }
}
