//! Packs that are in two lanes: while a tenant's own lane gets packs, some of them are stored in the pool's as well, at once, like those
//! of a pod that sent them there before it stood still. Both lanes' sinks race for them, and each event may be stored once.

use std::collections::BTreeMap;
use std::time::Duration;

use event::names::{COUNTS_HEADER, SEATS_BUCKET};
use event::seat::Seat;
use event::{Lane, TenantName};
use serde_json::json;

use super::seat;
use crate::prove::nats;
use crate::prove::world::World;
use crate::{Cancel, Error, Result};

/// Pause between two looks at the lanes.
const PAUSE: Duration = Duration::from_millis(80);

/// While `act` runs, copies the newest packs of each tenant's own lane to its pool; how many were copied. Only of tenants whose packs
/// charge no quota that never starts anew: a pod charges a pack once, and here one pack is two. `planted`: before each copy the seat is
/// put into the other lane without a word to the lane that has it, so that both decide.
///
/// # Errors
/// Those of `act`.
pub(in crate::prove) fn meanwhile<T: Send>(
    world: &World,
    tenants: &[&str],
    planted: bool,
    act: impl FnOnce() -> Result<T> + Send,
) -> Result<(T, u64)> {
    let over = Cancel::default();
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            let (mut copied, mut seen) = (0, BTreeMap::new());
            while over.pause(PAUSE).is_ok() {
                for tenant in tenants {
                    // A stream that is not there yet, or a server that does not answer: next time.
                    copied += u64::from(echo(world, tenant, planted, &mut seen).unwrap_or(false));
                }
            }
            copied
        });
        let done = act();
        over.set();
        let copied = copying.join().map_err(|_| Error::Interrupted)?;
        Ok((done?, copied))
    })
}

fn echo(world: &World, tenant: &str, planted: bool, seen: &mut BTreeMap<Lane, u64>) -> Result<bool> {
    let Some((key, seat)) = seat(world, tenant)? else { return Ok(false) };
    let lanes = &seat.lanes;
    let is_own =
        |lane: &&Lane| tenant.parse::<TenantName>().is_ok_and(|name| **lane == Lane::Dedicated(name));
    let (Some(own), Some(pool)) = (lanes.iter().find(is_own), lanes.iter().find(|lane| !is_own(lane))) else {
        return Ok(false);
    };
    let last = super::last_sequence(world, own)?;
    if seen.insert(own.clone(), last).is_none_or(|before| before >= last) {
        return Ok(false);
    }
    let get = format!("$JS.API.STREAM.MSG.GET.{}", own.stream());
    let answer = nats::request(&world.platform, &get, &json!({"seq": last}).to_string())?;
    let Some((counts, pack)) = nats::stored(&answer["message"], COUNTS_HEADER) else { return Ok(false) };
    if planted {
        plant(world, &key, &seat)?;
    }
    nats::publish(&world.platform, &pool.packs_subject(), (COUNTS_HEADER, &counts), &pack)?;
    Ok(true)
}

/// The fault that the checker must find.
fn plant(world: &World, key: &str, seat: &Seat) -> Result<()> {
    let Some(other) = seat.lanes.iter().find(|lane| **lane != seat.at) else { return Ok(()) };
    let stolen = Seat { asked: vec![], ..seat.taken(other) };
    let wrong = |e: serde_json::Error| Error::Format { what: "a seat".into(), detail: e.to_string() };
    let text = serde_json::to_string(&stolen).map_err(wrong)?;
    nats::request(&world.platform, &format!("$KV.{SEATS_BUCKET}.{key}"), &text).map(drop)
}
