//! What every implementation of [`QueryUsers`] must do. It is run on the fake in unit tests and on a real server in system tests; it
//! uses a user of its own and removes it. A failure panics with what was expected.

use event::{Stamp, TenantName};

use super::plan::{Owner, plan};
use super::{PasswordHash, QueryUserError, QueryUserSpec, QueryUsers};

const TENANT: &str = "contract-query-users";

/// What the server can do, as the suite found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// It stores users: all of the suite was run.
    Stores,
    /// It has no storage of users: the suite ends after it said so, with nothing left behind.
    NoStorage,
}

/// Runs all of it, as far as the server stores users at all.
pub async fn run(users: &impl QueryUsers) -> Ability {
    let (own, other) = (owner("contract"), owner("other"));
    let first = spec(1);
    drop_it(users, &own).await;
    assert_eq!(users.observe(&first.user).await, Ok(None), "absent at first");
    let step = step(users, Some(&first), &own).await;
    let Some(step) = step else { unreachable!("an absent user is planned") };
    match users.execute(&step, &own).await {
        Ok(()) => {}
        Err(QueryUserError::NoStorage) => {
            assert_eq!(users.observe(&first.user).await, Ok(None), "nothing is left behind");
            return Ability::NoStorage;
        }
        Err(error) => unreachable!("{error}"),
    }
    assert_eq!(users.execute(&step, &own).await, Ok(()), "again");
    assert_eq!(self::step(users, Some(&first), &own).await, None, "the law: after the step there is none");
    // Another password shows, and so does another owner's wish.
    let second = spec(2);
    let Some(step) = self::step(users, Some(&second), &own).await else {
        unreachable!("a new password shows")
    };
    assert_eq!(users.execute(&step, &own).await, Ok(()));
    assert_eq!(self::step(users, Some(&second), &own).await, None);
    let have = users.observe(&first.user).await.ok().flatten();
    assert!(plan(Some(&second), have.as_ref(), &other).is_err(), "nothing is planned for another's user");
    assert_eq!(plan(None, have.as_ref(), &other), Ok(None), "and it is not dropped");
    let refused = users.execute(&step, &other).await;
    assert!(matches!(refused, Err(QueryUserError::NotOurs(_))), "{refused:?}");
    drop_it(users, &own).await;
    assert_eq!(users.observe(&first.user).await, Ok(None), "gone");
    Ability::Stores
}

fn tenant() -> TenantName {
    match TENANT.parse() {
        Ok(name) => name,
        Err(error) => unreachable!("the constant is a name: {error}"),
    }
}

fn owner(installation: &str) -> Owner {
    Owner { installation: installation.to_owned(), tenant: tenant() }
}

fn spec(password: u8) -> QueryUserSpec {
    let text = str::to_owned;
    // A quote and a backslash, because the stamp travels inside a string literal.
    let stamp = Stamp {
        installation: text("contract"),
        tenant: text(TENANT),
        uid: text("u1"),
        lineage: text("it's \\ u0"),
        released: false,
    };
    QueryUserSpec::new(&tenant(), &stamp, PasswordHash([password; 32]))
}

async fn step(
    users: &impl QueryUsers,
    want: Option<&QueryUserSpec>,
    owner: &Owner,
) -> Option<super::QueryUserStep> {
    let have = users.observe(&tenant().query_user()).await;
    match have.map(|have| plan(want, have.as_ref(), owner)) {
        Ok(Ok(step)) => step,
        other => unreachable!("it can be planned: {other:?}"),
    }
}

async fn drop_it(users: &impl QueryUsers, owner: &Owner) {
    if let Some(step) = step(users, None, owner).await {
        assert_eq!(users.execute(&step, owner).await, Ok(()), "dropped");
        assert_eq!(users.execute(&step, owner).await, Ok(()), "dropped again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query_users::fake::FakeQueryUsers;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let fake = FakeQueryUsers::default();
        assert_eq!(run(&fake).await, Ability::Stores);
        fake.refuse(Some(QueryUserError::NoStorage));
        assert_eq!(run(&fake).await, Ability::NoStorage);
    }

    #[tokio::test]
    async fn what_was_changed_behind_our_back_shows() {
        let (fake, own) = (FakeQueryUsers::default(), owner("contract"));
        type Tamper = fn(&mut crate::query_users::QueryUserState);
        let changes: [Tamper; 5] = [
            |state| state.grants.extend(["SELECT ON system.processes".to_owned()]),
            |state| drop(state.grants.pop_first()),
            |state| drop(state.constants.remove("readonly")),
            |state| drop(state.constants.insert("max_threads".into(), "64".into())),
            |state| state.others += 1,
        ];
        for change in changes {
            for _ in 0..2 {
                if let Some(step) = step(&fake, Some(&spec(1)), &own).await {
                    assert_eq!(fake.execute(&step, &own).await, Ok(()));
                }
            }
            assert_eq!(step(&fake, Some(&spec(1)), &own).await, None);
            fake.tamper(&tenant().query_user(), change);
            assert!(step(&fake, Some(&spec(1)), &own).await.is_some());
        }
    }

    #[tokio::test]
    async fn a_user_of_that_name_that_says_nothing_is_somebody_elses() {
        let (fake, own) = (FakeQueryUsers::default(), owner("contract"));
        fake.tamper(&tenant().query_user(), |_| {});
        let have = fake.observe(&tenant().query_user()).await.unwrap();
        assert!(plan(Some(&spec(1)), have.as_ref(), &own).is_err());
        assert_eq!(plan(None, have.as_ref(), &own), Ok(None), "it is not dropped");
    }
}
