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

/// The pool that names a shard too and came first: the oldest, and of equally old ones the first by name. It has the shard unless a
/// stamp says otherwise: two pools that begin at once would each make a half of it.
pub fn elder(pool: &LanePool, number: u16, all: &[Arc<LanePool>]) -> Option<String> {
    let rank = |pool: &LanePool| (created(pool), pool.name_any());
    let names_it = all.iter().filter(|other| shards(other).any(|shard| shard == number));
    names_it.map(|other| rank(other)).min().filter(|first| *first < rank(pool)).map(|(_, name)| name)
}

/// Validates a LanePool by itself. Whose a shard is that two pools name is told by its stamp, and before there is one by [`elder`].
///
/// # Errors
/// Why it is not accepted, naming the field.
pub fn validate(pool: &LanePool) -> Result<(), Why> {
    if pool.spec.storage.value() < LANE_MIN_BYTES {
        let message = format!("spec.storage: {} is less than 64Mi", pool.spec.storage);
        return Err(Why::new("Invalid", message));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub fn pool(name: &str, first: u16, shards: u16) -> LanePool {
        serde_json::from_value(json!({
            "apiVersion": "meterplane.io/v1alpha1", "kind": "LanePool",
            "metadata": {"name": name, "uid": "u", "generation": 1},
            "spec": {"shards": shards, "firstShard": first},
        }))
        .unwrap()
    }

    #[test]
    fn a_shard_that_nobody_has_goes_to_the_oldest_pool_then_by_name() {
        let born = |name: &str, second: i64, first: u16| {
            let mut pool = pool(name, first, 2);
            let time = jiff::Timestamp::from_second(second).unwrap();
            pool.metadata.creation_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
            Arc::new(pool)
        };
        let all = [born("b", 7, 0), born("a", 9, 1), born("c", 7, 1), born("d", 1, 5)];
        let elder = |pool: usize, number: u16| elder(&all[pool], number, &all);
        assert_eq!((elder(0, 0), elder(0, 1)), (None, None));
        assert_eq!((elder(1, 1), elder(1, 2)), (Some("b".to_owned()), Some("c".to_owned())));
        assert_eq!((elder(2, 1), elder(2, 2)), (Some("b".to_owned()), None));
        assert_eq!(elder(3, 5), None);
    }

    #[test]
    fn storage_that_a_lane_cannot_have_names_the_field() {
        let mut small = pool("a", 0, 1);
        small.spec.storage = "1Mi".parse().unwrap();
        assert!(validate(&small).unwrap_err().message.starts_with("spec.storage"));
    }
}
