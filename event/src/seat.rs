//! Where it is decided which events of a tenant are repeats, for tenants that have moved between lanes.
//!
//! A tenant that never moved has one lane, and that lane's sink decides. One that moved may have the same event in several lanes,
//! because its client repeats it across the move. So it has one *seat*, in one lane at a time, and only the sink of that lane
//! decides about its events, looking in the tables of all the lanes that the tenant has had. A lane that meets an event of a tenant
//! whose seat is elsewhere asks for the seat, and waits at that message until it has it (`docs/adr/0016-moves.md`).
//!
//! One record a moved tenant in bucket [`crate::names::SEATS_BUCKET`], changed by compare-and-set alone.

use serde::{Deserialize, Serialize};

use crate::ids::Incarnation;
use crate::names::{Lane, TenantName};
use crate::position::Position;

/// The version that is written.
pub const VERSION: u8 = 1;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seat {
    /// See [`VERSION`].
    pub version: u8,
    /// Whose.
    pub tenant: TenantName,
    /// Lanes that the tenant has had, each once; the last is where its events go now.
    pub lanes: Vec<Lane>,
    /// The lane that decides.
    pub at: Lane,
    /// The sink that began to decide there. A lane's next sink writes it anew before it decides, so that whatever an earlier one
    /// was about to write fails.
    pub by: Option<Incarnation>,
    /// Lanes that wait for the seat, in order.
    pub asked: Vec<Lane>,
    /// The move that is not finished.
    pub moving: Option<Moving>,
}

/// How far a move is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moving {
    /// Where the tenant was.
    pub from: Lane,
    /// When it began, Unix milliseconds.
    pub since_ms: i64,
    /// The end of the lane that it left, noted when no pod writes there any more; `None` before that.
    pub cut_over: Option<Mark>,
}

/// The end of a lane at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// When the lane's stream was created, Unix milliseconds.
    pub epoch: i64,
    /// Its last message.
    pub sequence: u64,
    /// When it was noted, Unix milliseconds.
    pub at_ms: i64,
}

impl Mark {
    /// As a sink's position is compared with.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, sequence: self.sequence }
    }
}

impl Seat {
    /// Of a tenant that lives in `lane` and has never moved.
    pub fn first(tenant: TenantName, lane: Lane) -> Self {
        let (lanes, asked) = (vec![lane.clone()], Vec::new());
        Self { version: VERSION, tenant, lanes, at: lane, by: None, asked, moving: None }
    }

    /// Where the tenant's events go now.
    pub fn home(&self) -> &Lane {
        self.lanes.last().unwrap_or(&self.at)
    }

    /// The tenant's events go to `to` from now on. The seat stays where it is: whoever needs it asks for it.
    #[must_use]
    pub fn moved(&self, to: &Lane, now_ms: i64) -> Self {
        let from = self.home().clone();
        let mut lanes: Vec<Lane> = self.lanes.iter().filter(|lane| *lane != to).cloned().collect();
        lanes.push(to.clone());
        let moving = Some(Moving { from, since_ms: now_ms, cut_over: None });
        Self { lanes, moving, ..self.clone() }
    }

    /// With `lane` among those that wait for the seat; `None` when it has it, or waits already.
    pub fn asked_by(&self, lane: &Lane) -> Option<Self> {
        (self.at != *lane && !self.asked.contains(lane)).then(|| {
            let asked = self.asked.iter().chain([lane]).cloned().collect();
            Self { asked, ..self.clone() }
        })
    }

    /// Begun to be used by a sink.
    #[must_use]
    pub fn claimed(&self, by: Incarnation) -> Self {
        Self { by: Some(by), ..self.clone() }
    }

    /// In the lane that has waited longest; `None` when nobody waits.
    pub fn passed(&self) -> Option<Self> {
        let (next, rest) = self.asked.split_first()?;
        Some(Self { at: next.clone(), by: None, asked: rest.to_vec(), ..self.clone() })
    }

    /// In `lane`, taken from one that is gone with its stream.
    #[must_use]
    pub fn taken(&self, lane: &Lane) -> Self {
        let asked = self.asked.iter().filter(|other| *other != lane).cloned().collect();
        Self { at: lane.clone(), by: None, asked, ..self.clone() }
    }

    /// Lanes other than `lane` that may hold rows of the tenant.
    pub fn others(&self, lane: &Lane) -> Vec<Lane> {
        self.lanes.iter().filter(|other| *other != lane).cloned().collect()
    }

    /// As stored.
    ///
    /// # Errors
    /// Never for what this type can hold.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// A sentence when this build cannot: nothing may be decided about the tenant then.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let seat: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match seat.version {
            VERSION => Ok(seat),
            other => Err(format!("version {other} is not supported (this build reads {VERSION})")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> (Lane, Lane) {
        (Lane::Dedicated("acme".parse().unwrap()), Lane::Pooled(3))
    }

    #[test]
    fn a_seat_goes_to_who_asked_first_and_follows_no_move_by_itself() {
        let (own, pool) = lanes();
        let seat = Seat::first("acme".parse().unwrap(), own.clone()).moved(&pool, 5);
        assert_eq!((seat.home(), &seat.at), (&pool, &own));
        assert_eq!(seat.moving.as_ref().map(|moving| &moving.from), Some(&own));
        assert_eq!((seat.asked_by(&own), seat.passed()), (None, None));
        let asked = seat.asked_by(&pool).unwrap();
        assert_eq!(asked.asked_by(&pool), None);
        let passed = asked.claimed(Incarnation(1)).passed().unwrap();
        assert_eq!((&passed.at, passed.by, passed.asked.len()), (&pool, None, 0));
        assert_eq!(passed.others(&pool), [own]);
    }

    #[test]
    fn a_tenant_that_comes_back_has_each_lane_once() {
        let (own, pool) = lanes();
        let seat = Seat::first("acme".parse().unwrap(), own.clone()).moved(&pool, 5).moved(&own, 9);
        assert_eq!(seat.lanes, [pool.clone(), own.clone()]);
        assert_eq!(seat.moving.as_ref().map(|moving| (&moving.from, moving.since_ms)), Some((&pool, 9)));
        let taken = seat.asked_by(&pool).unwrap().taken(&pool);
        assert_eq!((&taken.at, taken.asked.len()), (&pool, 0));
    }

    #[test]
    fn seats_survive_their_bucket() {
        let (own, pool) = lanes();
        let mut seat = Seat::first("acme".parse().unwrap(), own).moved(&pool, 5).claimed(Incarnation(7));
        if let Some(moving) = &mut seat.moving {
            moving.cut_over = Some(Mark { epoch: 1, sequence: 2, at_ms: 3 });
        }
        assert_eq!(Seat::decode(&seat.encode().unwrap()), Ok(seat.clone()));
        let newer = Seat { version: 2, ..seat };
        assert!(Seat::decode(&newer.encode().unwrap()).is_err());
    }
}
