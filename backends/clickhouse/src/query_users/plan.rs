//! The pure part: which steps lead from what is there to what is wanted.

use event::{Ownership, Stamp, TenantName};

use super::spec::QueryUserSpec;
use super::{NotOurs, QueryUserState};

/// One change of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryUserStep {
    /// The user.
    pub user: String,
    /// What to change.
    pub change: Change,
}

/// What a step changes. A user holds no data, so none of them loses any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Create the user, or replace it whole.
    Put(Box<QueryUserSpec>),
    /// Drop it.
    Drop,
}

/// Whose users may be changed: those of one tenant of one installation, whichever Tenant of that name they were made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The installation.
    pub installation: String,
    /// The tenant.
    pub tenant: TenantName,
}

impl Owner {
    /// Whether a user that carries this stamp is this owner's.
    pub fn holds(&self, stamp: Option<&Stamp>) -> bool {
        stamp.is_some_and(|stamp| {
            stamp.ownership(&self.installation, self.tenant.as_str(), &stamp.uid) != Ownership::Foreign
        })
    }
}

/// Steps from `have` to `want`.
///
/// # Errors
/// When a user of that name is there and is not the owner's: it is not touched.
pub fn plan(
    want: Option<&QueryUserSpec>,
    have: Option<&QueryUserState>,
    owner: &Owner,
) -> Result<Option<QueryUserStep>, NotOurs> {
    if let (Some(_), Some(have)) = (want, have)
        && !owner.holds(have.stamp())
    {
        return Err(NotOurs { user: have.user.clone() });
    }
    Ok(match (want, have) {
        (Some(want), have) => (!have.is_some_and(|have| have.is(want)))
            .then(|| QueryUserStep { user: want.user.clone(), change: Change::Put(Box::new(want.clone())) }),
        (None, Some(have)) if owner.holds(have.stamp()) => {
            Some(QueryUserStep { user: have.user.clone(), change: Change::Drop })
        }
        (None, _) => None,
    })
}
