//! Users in memory, for tests of what uses [`QueryUsers`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::plan::{Change, Owner, QueryUserStep};
use super::{NotOurs, QueryUserError, QueryUserState, QueryUsers};

/// Users in memory.
#[derive(Default)]
pub struct FakeQueryUsers {
    users: Mutex<BTreeMap<String, QueryUserState>>,
    refusal: Mutex<Option<QueryUserError>>,
}

impl FakeQueryUsers {
    /// From now on nothing can be changed, for this reason; `None` ends it.
    pub fn refuse(&self, why: Option<QueryUserError>) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Changes a user behind everyone's back, or creates it.
    pub fn tamper(&self, user: &str, change: impl FnOnce(&mut QueryUserState)) {
        let fresh = || QueryUserState { user: user.to_owned(), ..QueryUserState::default() };
        change(self.lock().entry(user.to_owned()).or_insert_with(fresh));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, QueryUserState>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueryUsers for FakeQueryUsers {
    async fn observe(&self, user: &str) -> Result<Option<QueryUserState>, QueryUserError> {
        Ok(self.lock().get(user).cloned())
    }

    async fn execute(&self, step: &QueryUserStep, owner: &Owner) -> Result<(), QueryUserError> {
        let mut users = self.lock();
        if let Some(found) = users.get(&step.user).filter(|found| !owner.holds(found.stamp())) {
            return Err(NotOurs { user: found.user.clone() }.into());
        }
        match (&step.change, &*self.refusal.lock().unwrap_or_else(PoisonError::into_inner)) {
            // As the real one: dropping what is not there needs no storage.
            (Change::Drop, _) => drop(users.remove(&step.user)),
            (Change::Put(_), Some(why)) => return Err(why.clone()),
            (Change::Put(spec), None) => {
                users.insert(step.user.clone(), QueryUserState::of(spec));
            }
        }
        Ok(())
    }
}
