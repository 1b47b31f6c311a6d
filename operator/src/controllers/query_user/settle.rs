//! Makes the user in ClickHouse what it should be, and says why it cannot.

use clickhouse::query_users::{Breach, Owner, QueryUserError, QueryUserSpec, QueryUsers, plan};

use crate::conditions::Why;
use crate::controllers::settle::Hindrance;
use crate::errors::Failure;

/// Makes the user what it should be.
///
/// # Errors
/// What is in the way.
pub async fn settle<U: QueryUsers>(users: &U, want: &QueryUserSpec, owner: &Owner) -> Result<(), Hindrance> {
    let have = users.observe(&want.user).await.map_err(hindrance)?;
    let step = plan(Some(want), have.as_ref(), owner).map_err(|error| hindrance(error.into()))?;
    if let Some(step) = step {
        tracing::info!(user = want.user, exists = have.is_some(), "query user");
        users.execute(&step, owner).await.map_err(hindrance)?;
    }
    Ok(())
}

/// Drops the owner's user, if there is one. Another's is left alone.
///
/// # Errors
/// When ClickHouse fails.
pub async fn remove<U: QueryUsers>(users: &U, owner: &Owner) -> Result<(), Failure> {
    let have = match users.observe(&owner.tenant.query_user()).await {
        Ok(have) => have,
        // Who may not even look has made none.
        Err(QueryUserError::NoStorage | QueryUserError::Forbidden(_)) => return Ok(()),
        Err(error) => return Err(failure(error)),
    };
    match plan(None, have.as_ref(), owner) {
        Ok(Some(step)) => users.execute(&step, owner).await.map_err(failure),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// What is said where the server does not hold the user in.
pub fn walls_open(user: &str, breach: Breach) -> Hindrance {
    let message =
        format!("user {user} was tried and dropped again, because on this server it {}", breach.message());
    Hindrance::Stalled(Why::new("WallsOpen", message))
}

fn hindrance(error: QueryUserError) -> Hindrance {
    let why = match error {
        QueryUserError::NoStorage => Why::new(
            "NoUserStorage",
            "ClickHouse has no storage in which users can be made: its configuration needs \
             <user_directories><local_directory><path>/var/lib/clickhouse/access/</path></local_directory></user_directories>, \
             or <replicated> on a cluster",
        ),
        QueryUserError::Forbidden(words) => Why::new(
            "Forbidden",
            format!(
                "the operator's ClickHouse user lacks a right ({words}); it needs: \
                 GRANT CREATE USER, DROP USER ON tenant_*; GRANT SELECT ON tenant_*.* WITH GRANT OPTION; \
                 GRANT SELECT ON system.*"
            ),
        ),
        QueryUserError::NotOurs(error) => Why::new("UserNotOurs", error.to_string()),
        QueryUserError::ClickHouse(error) => return Hindrance::Failed(error.into()),
    };
    Hindrance::Stalled(why)
}

fn failure(error: QueryUserError) -> Failure {
    let (system, detail) = (crate::errors::System::ClickHouse, error.to_string());
    match error {
        QueryUserError::ClickHouse(error) => error.into(),
        QueryUserError::NotOurs(_) => Failure::Conflict { system, detail },
        QueryUserError::NoStorage | QueryUserError::Forbidden(_) => Failure::Denied { system, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clickhouse::query_users::PasswordHash;
    use clickhouse::query_users::fake::FakeQueryUsers;
    use event::Stamp;

    fn owner() -> Owner {
        Owner { installation: "dev".into(), tenant: "acme".parse().unwrap() }
    }

    fn want(password: u8) -> QueryUserSpec {
        let stamp = Stamp {
            installation: "dev".into(),
            tenant: "acme".into(),
            uid: "u1".into(),
            lineage: "u0".into(),
            released: false,
        };
        QueryUserSpec::new(&"acme".parse().unwrap(), &stamp, PasswordHash([password; 32]))
    }

    #[tokio::test]
    async fn a_user_is_made_repaired_and_dropped() {
        let users = FakeQueryUsers::default();
        settle(&users, &want(1), &owner()).await.unwrap();
        users.tamper("tenant_acme", |state| state.others = 1);
        settle(&users, &want(1), &owner()).await.unwrap();
        let found = users.observe("tenant_acme").await.unwrap().unwrap();
        assert!(found.is(&want(1)));
        remove(&users, &owner()).await.unwrap();
        assert_eq!(users.observe("tenant_acme").await, Ok(None));
        remove(&users, &owner()).await.unwrap();
    }

    #[tokio::test]
    async fn what_the_server_cannot_is_said_with_what_to_do() {
        let users = FakeQueryUsers::default();
        let said = async || match settle(&users, &want(1), &owner()).await {
            Err(Hindrance::Stalled(why)) => why,
            other => panic!("{other:?}"),
        };
        users.refuse(Some(QueryUserError::NoStorage));
        let why = said().await;
        assert!(why.reason == "NoUserStorage" && why.message.contains("<local_directory>"), "{why:?}");
        users.refuse(Some(QueryUserError::Forbidden("CREATE USER".into())));
        let why = said().await;
        assert!(why.reason == "Forbidden" && why.message.contains("GRANT CREATE USER"), "{why:?}");
        remove(&users, &owner()).await.unwrap();
        // Somebody made a user of that name: neither touched nor dropped.
        users.tamper("tenant_acme", |_| {});
        assert_eq!(said().await.reason, "UserNotOurs");
        remove(&users, &owner()).await.unwrap();
        assert!(users.observe("tenant_acme").await.unwrap().is_some());
    }
}
