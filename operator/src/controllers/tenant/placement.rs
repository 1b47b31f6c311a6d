//! Where a tenant's events go. What stands outside tells what was decided; later only `spec.isolation` moves it.

use crds::tenant::Isolation;
use event::{Lane, Observed, TenantName};

use super::dereference::Dereferenced;
use super::validate::Validated;
use crate::conditions::Why;
use crate::controllers::settle::Hindrance;

/// How a lane isolates.
pub fn isolation(lane: &Lane) -> Isolation {
    match lane {
        Lane::Dedicated(_) => Isolation::Dedicated,
        Lane::Pooled(_) => Isolation::Pooled,
    }
}

/// Where the tenant was placed, by its snapshot or else by what stands under its names; `None` when it never was.
pub fn placed(name: &TenantName, published: Option<&Lane>, found: &Dereferenced) -> Option<Lane> {
    if let Some(lane) = published {
        return Some(lane.clone());
    }
    if matches!(found.stream, Observed::Present(_)) {
        return Some(Lane::Dedicated(name.clone()));
    }
    let lanes = found.database.present().map(|database| database.lanes(name)).unwrap_or_default();
    lanes.into_iter().next_back()
}

/// Where the tenant goes: where it is, unless the Tenant itself says something else, or else where Tenant and plan say. `shards` are
/// those of its pool that are in place.
///
/// # Errors
/// When it has to wait for its pool.
pub fn choose(
    name: &TenantName,
    lineage: &str,
    validated: &Validated,
    placed: Option<Lane>,
    shards: &[u16],
) -> Result<Lane, Hindrance> {
    let wanted = validated.own_isolation;
    if let Some(lane) = placed
        && wanted.is_none_or(|wanted| wanted == isolation(&lane))
    {
        return Ok(lane);
    }
    if wanted.unwrap_or(validated.plan_isolation) == Isolation::Dedicated {
        return Ok(Lane::Dedicated(name.clone()));
    }
    let shard = shards.iter().max_by_key(|shard| weight(lineage, **shard));
    shard.map(|shard| Lane::Pooled(*shard)).ok_or_else(|| {
        let message = format!("the LanePool {:?} has no shard in place yet", validated.pool);
        Hindrance::Waiting(Why::new("WaitingForPool", message))
    })
}

/// Rendezvous hashing (Thaler, Ravishankar 1996): tenants spread evenly, whatever the order in which they come.
fn weight(lineage: &str, shard: u16) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&shard.to_le_bytes());
    hasher.update(lineage.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::{acme, pro, settings};
    use super::super::validate::validate;
    use super::*;

    fn chosen(own: Option<Isolation>, placed: Option<Lane>, shards: &[u16]) -> Result<Lane, Hindrance> {
        let tenant = acme(|tenant| tenant.spec.isolation = own);
        let validated = validate(&tenant, Some(&pro(|_| {})), &settings()).unwrap();
        choose(&"acme".parse().unwrap(), "lineage", &validated, placed, shards)
    }

    #[test]
    fn a_tenant_stays_where_it_was_placed_until_it_says_otherwise_itself() {
        let own = Lane::Dedicated("acme".parse().unwrap());
        assert_eq!(chosen(None, Some(Lane::Pooled(3)), &[]), Ok(Lane::Pooled(3)));
        assert_eq!(chosen(Some(Isolation::Pooled), Some(Lane::Pooled(3)), &[7]), Ok(Lane::Pooled(3)));
        assert_eq!(chosen(Some(Isolation::Pooled), Some(own.clone()), &[7]), Ok(Lane::Pooled(7)));
        assert_eq!(chosen(Some(Isolation::Dedicated), Some(Lane::Pooled(3)), &[7]), Ok(own.clone()));
        let waits = chosen(Some(Isolation::Pooled), Some(own.clone()), &[]);
        assert!(matches!(waits, Err(Hindrance::Waiting(_))), "it stays where it is meanwhile");
        assert_eq!(chosen(None, None, &[7]), Ok(own), "the plan says so");
    }

    #[test]
    fn a_pooled_tenant_waits_for_a_shard_and_always_gets_the_same() {
        let pooled = Some(Isolation::Pooled);
        assert!(matches!(chosen(pooled, None, &[]), Err(Hindrance::Waiting(_))));
        let lane = chosen(pooled, None, &[1, 2, 3, 4]).unwrap();
        assert_eq!(chosen(pooled, None, &[4, 3, 2, 1]), Ok(lane));
        let mut tenants = [0; 4];
        for n in 0..400 {
            let most = (0..4u16).max_by_key(|shard| weight(&n.to_string(), *shard)).unwrap();
            tenants[usize::from(most)] += 1;
        }
        assert!(tenants.iter().all(|count| (60..140).contains(count)), "{tenants:?}");
    }
}
