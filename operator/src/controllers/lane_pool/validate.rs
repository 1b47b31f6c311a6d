//! Whether a LanePool is accepted.

use crds::LanePool;
use jetstream::streams::LANE_MIN_BYTES;

use crate::conditions::Why;

/// Numbers of a pool's shards.
pub fn shards(pool: &LanePool) -> impl Iterator<Item = u16> + use<> {
    let first = pool.spec.first_shard;
    first..first.saturating_add(pool.spec.shards)
}

/// Validates a LanePool by itself. Whose a shard is that two pools name is told by its stamp.
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
    fn storage_that_a_lane_cannot_have_names_the_field() {
        let mut small = pool("a", 0, 1);
        small.spec.storage = "1Mi".parse().unwrap();
        assert!(validate(&small).unwrap_err().message.starts_with("spec.storage"));
    }
}
