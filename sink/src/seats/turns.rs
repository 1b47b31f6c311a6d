//! The rules: a lane decides about a tenant's events only while it has the tenant's seat.
//!
//! ```text
//! meet a tenant ── no seat: it never moved ──────────────────────> decide
//!              ├── seat here: claim it (compare-and-set) ─────────> decide, looking in its other lanes as well
//!              '── seat elsewhere: ask for it, wait at this message
//! asked for a seat: read it ─> close the lane's record (compare-and-set) ─> pass it on (compare-and-set)
//! ```
//! The order of the last line is what makes it safe. The write of the lane's record proves that this sink holds the lane *after* it
//! read the seat, and that all it decided is in the tables. Whoever takes the lane later claims the seat before it decides, and what
//! this sink was about to write fails.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use event::seat::Seat;
use event::{Incarnation, Lane, TenantNumber};

use crate::dedup::Memory;
use crate::intent::Record;
use crate::port::{Port, Stop};

/// Seats with their revisions.
pub type Found = BTreeMap<TenantNumber, (u64, Seat)>;
/// Other lanes in whose tables identities of tenants are looked up as well.
pub type Elsewhere = BTreeMap<Lane, BTreeSet<TenantNumber>>;

/// What taking turns needs of the world.
pub trait Seats: Port {
    /// Seats of those of `tenants` that have one, as they are now: never older than this call.
    fn seats(&mut self, tenants: &[TenantNumber]) -> impl Future<Output = Result<Found, Stop>> + Send;

    /// Replaces a seat that has revision `expected`. `false`: it has another one, or nobody knows: read again.
    fn put_seat(
        &mut self,
        tenant: TenantNumber,
        seat: &Seat,
        expected: u64,
    ) -> impl Future<Output = Result<bool, Stop>> + Send;

    /// Where else [`Port::known`] looks from now on.
    fn look_also(&mut self, elsewhere: Elsewhere);
}

/// What a lane's holder knows of the tenants that it met; forgotten with the lane.
#[derive(Debug)]
pub struct Turns {
    lane: Lane,
    me: Incarnation,
    /// Tenants that it may decide about, and their other lanes.
    here: HashMap<TenantNumber, Vec<Lane>>,
    /// Seats that the first message needs while it waits for another one. They are taken in ascending order, so that two lanes never
    /// wait for each other.
    pinned: BTreeSet<TenantNumber>,
}

impl Turns {
    /// Of a lane that `me` has just taken.
    pub fn new(lane: Lane, me: Incarnation) -> Self {
        Self { lane, me, here: HashMap::new(), pinned: BTreeSet::new() }
    }

    /// How many of these messages may be decided now, from the first on; each is given by its tenants. What keeps the next one back
    /// is asked for.
    ///
    /// # Errors
    /// [`Stop`].
    pub async fn admit<P: Seats>(
        &mut self,
        port: &mut P,
        memory: &mut Memory,
        messages: &[BTreeSet<TenantNumber>],
    ) -> Result<usize, Stop> {
        let unknown: BTreeSet<TenantNumber> =
            messages.iter().flatten().filter(|tenant| !self.here.contains_key(tenant)).copied().collect();
        let mut seats = match unknown.is_empty() {
            true => Found::new(),
            false => port.seats(&unknown.into_iter().collect::<Vec<_>>()).await?,
        };
        for (at, tenants) in messages.iter().enumerate() {
            for tenant in tenants {
                let known = self.here.contains_key(tenant);
                if !known && !self.sit(port, memory, *tenant, seats.remove(tenant)).await? {
                    return Ok(at);
                }
                if at == 0 {
                    self.pinned.insert(*tenant);
                }
            }
        }
        Ok(messages.len())
    }

    /// What was admitted is decided: seats may go.
    pub fn unpin(&mut self) {
        self.pinned.clear();
    }

    /// Those of `wanted` that may go now.
    pub fn free(&self, wanted: &BTreeSet<TenantNumber>) -> Vec<TenantNumber> {
        wanted.difference(&self.pinned).copied().collect()
    }

    /// Passes the seats of `tenants` on to who asked for them. `record` is the lane's: all that it says is in the tables.
    ///
    /// # Errors
    /// [`Stop`].
    pub async fn give<P: Seats>(
        &mut self,
        port: &mut P,
        memory: &mut Memory,
        record: &mut Record,
        tenants: &[TenantNumber],
    ) -> Result<usize, Stop> {
        let seats = port.seats(tenants).await?;
        let passed = |(tenant, (revision, seat)): (TenantNumber, (u64, Seat))| {
            let next = Some(&seat).filter(|seat| seat.at == self.lane).and_then(Seat::passed)?;
            Some((tenant, revision, next))
        };
        let passed: Vec<_> = seats.into_iter().filter_map(passed).collect();
        if passed.is_empty() {
            return Ok(0);
        }
        let closed = record.closed();
        // Also when it was closed before: see above.
        port.write(&closed).await?;
        *record = closed;
        let count = passed.len();
        for (tenant, revision, seat) in passed {
            // Whatever becomes of the write, it is looked at anew before anything is decided.
            self.here.remove(&tenant);
            memory.dismiss(tenant);
            port.put_seat(tenant, &seat, revision).await?;
        }
        port.look_also(self.elsewhere());
        Ok(count)
    }

    /// Whether a tenant's events may be decided here, with `seat` as it was read.
    async fn sit<P: Seats>(
        &mut self,
        port: &mut P,
        memory: &mut Memory,
        tenant: TenantNumber,
        seat: Option<(u64, Seat)>,
    ) -> Result<bool, Stop> {
        let Some((revision, seat)) = seat else {
            // It lives here and nowhere else. When it moves, the seat that it gets is here.
            self.here.insert(tenant, Vec::new());
            return Ok(true);
        };
        if seat.at != self.lane {
            if let Some(asked) = seat.asked_by(&self.lane) {
                port.put_seat(tenant, &asked, revision).await?;
            }
            return Ok(false);
        }
        if !port.put_seat(tenant, &seat.claimed(self.me), revision).await? {
            return Ok(false);
        }
        self.here.insert(tenant, seat.others(&self.lane));
        memory.welcome(tenant);
        port.look_also(self.elsewhere());
        Ok(true)
    }

    /// Other lanes of the tenants whose seat is here.
    pub fn elsewhere(&self) -> Elsewhere {
        let mut elsewhere = Elsewhere::new();
        for (tenant, lanes) in &self.here {
            for lane in lanes {
                elsewhere.entry(lane.clone()).or_default().insert(*tenant);
            }
        }
        elsewhere
    }
}
