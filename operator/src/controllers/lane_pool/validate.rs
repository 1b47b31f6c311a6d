//! Whether a LanePool is accepted.

use std::sync::Arc;

use crds::LanePool;
use jetstream::streams::LANE_MIN_BYTES;
use kube::ResourceExt;

use crate::conditions::Why;
use crate::snapshot::judge::created;

/// Numbers of a pool's shards.
pub fn shards(pool: &LanePool) -> impl Iterator<Item = u16> + use<> {
    let first = pool.spec.first_shard;
    first..first.saturating_add(pool.spec.shards)
}

/// Validates a LanePool beside all others. Of two with a shard in common the older one has it, then the first by name.
///
/// # Errors
/// Why it is not accepted, naming the field.
pub fn validate(pool: &LanePool, others: &[Arc<LanePool>]) -> Result<(), Why> {
    if pool.spec.storage.value() < LANE_MIN_BYTES {
        let message = format!("spec.storage: {} is less than 64Mi", pool.spec.storage);
        return Err(Why::new("Invalid", message));
    }
    let age = |pool: &LanePool| (created(pool), pool.name_any());
    let overlaps = |other: &&Arc<LanePool>| shards(other).any(|shard| shards(pool).any(|own| own == shard));
    let older = others.iter().filter(overlaps).find(|other| age(other) < age(pool));
    older.map_or(Ok(()), |other| {
        let taken = shards(other);
        let message = format!(
            "spec.firstShard: LanePool {} has shards {} to {} already",
            other.name_any(),
            other.spec.first_shard,
            taken.last().unwrap_or_default()
        );
        Err(Why::new("ShardsConflict", message))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub fn pool(name: &str, first: u16, shards: u16, second: i64) -> LanePool {
        let created = jiff::Timestamp::from_second(second).unwrap().to_string();
        serde_json::from_value(json!({
            "apiVersion": "meterplane.io/v1alpha1", "kind": "LanePool",
            "metadata": {"name": name, "uid": "u", "generation": 1, "creationTimestamp": created},
            "spec": {"shards": shards, "firstShard": first},
        }))
        .unwrap()
    }

    #[test]
    fn of_two_pools_with_a_shard_in_common_the_older_has_it() {
        let (old, new) = (pool("z", 0, 4, 1), pool("a", 3, 2, 2));
        assert_eq!(validate(&old, &[Arc::new(new.clone())]), Ok(()));
        let why = validate(&new, &[Arc::new(old)]).unwrap_err();
        assert_eq!(why.message, "spec.firstShard: LanePool z has shards 0 to 3 already");
        assert_eq!(validate(&new, &[Arc::new(pool("z", 5, 4, 1))]), Ok(()));
    }

    #[test]
    fn storage_that_a_lane_cannot_have_names_the_field() {
        let mut small = pool("a", 0, 1, 1);
        small.spec.storage = "1Mi".parse().unwrap();
        assert!(validate(&small, &[]).unwrap_err().message.starts_with("spec.storage"));
    }
}
