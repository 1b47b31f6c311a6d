//! Tenants whose query user stands in `users.xml`, because the library stores no users: the same user, from the same description.

use clickhouse::query_users::{PasswordHash, QueryUserSpec, UsersXml};
use event::Stamp;
use xtask::platform::ClickHouseUsers;
use xtask::random::sha256_hex;

use crate::{Answer, Call, World};

/// The tenants.
const TENANTS: [&str; 6] = ["walls", "walls-two", "tried", "taken", "pool-walls", "pool-walls-two"];

/// A tenant's query user.
#[derive(Debug, Clone)]
pub struct QueryUser {
    /// The user as it should be.
    pub spec: QueryUserSpec,
    /// What opens it.
    pub password: String,
}

/// Those of all [`TENANTS`], as the server is told of them.
pub fn all() -> ClickHouseUsers {
    let mut all = ClickHouseUsers::default();
    for tenant in TENANTS {
        let UsersXml { profile, user } = QueryUser::of(tenant).spec.users_xml();
        all.profiles.push_str(&profile);
        all.users.push_str(&user);
    }
    all
}

impl QueryUser {
    /// Of one of [`TENANTS`].
    pub fn of(tenant: &str) -> Self {
        let text = str::to_owned;
        let stamp = Stamp {
            installation: text("test"),
            tenant: text(tenant),
            uid: text("in users.xml"),
            lineage: text("in users.xml"),
            released: false,
        };
        let password = format!("{tenant}'s password");
        let spec = QueryUserSpec::new(&tenant.parse().unwrap(), &stamp, digest(&password));
        Self { spec, password }
    }

    /// Asks as this user; `settings` travel in the URL.
    pub fn ask(&self, world: &World, sql: &str, settings: &str) -> Answer {
        Call::post(format!("{}/?wait_end_of_query=1&{settings}", world.urls.clickhouse))
            .header("X-ClickHouse-User", &self.spec.user)
            .header("X-ClickHouse-Key", &self.password)
            .bare_body(sql)
            .send()
    }
}

fn digest(password: &str) -> PasswordHash {
    let hex = sha256_hex(password.as_bytes());
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    PasswordHash(std::array::from_fn(byte))
}
