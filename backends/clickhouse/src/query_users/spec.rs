//! What a query user is: the one place that says what it may read and how much. The operator's SQL and entries of `users.xml` are both
//! rendered from here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use event::{Stamp, TenantName};
use serde::{Deserialize, Serialize};

use crate::schema::View;

/// Settings of every query user. Each is constant: who holds the password cannot change one.
///
/// The plan of a query is not optimised: an optimised one evaluates conditions of the query together with those of the view, on rows
/// of a pool's other tenants, and an error then says what is in them.
const LIMITS: [(&str, &str); 14] = [
    ("readonly", "1"),
    ("allow_ddl", "0"),
    ("allow_introspection_functions", "0"),
    ("query_plan_enable_optimizations", "0"),
    ("enable_optimize_predicate_expression", "0"),
    ("max_execution_time", "30"),
    ("max_memory_usage", "1000000000"),
    ("max_memory_usage_for_user", "2000000000"),
    ("max_temporary_data_on_disk_size_for_user", "5000000000"),
    ("max_threads", "2"),
    ("max_concurrent_queries_for_user", "4"),
    ("max_result_rows", "1000000"),
    ("max_result_bytes", "100000000"),
    ("result_overflow_mode", "throw"),
];
/// The setting that says whose the user is. The server writes it beside each of its queries in `system.query_log`.
const STAMP: &str = "log_comment";
/// Characters of a password's digest that the stamp tells: enough to see that another one was set.
const SHOWN_DIGITS: usize = 16;

/// SHA-256 of a password; the password itself never comes here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordHash(pub [u8; 32]);

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// A user by which a tenant queries its own database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryUserSpec {
    /// Its name.
    pub user: String,
    /// The database that it queries.
    pub database: String,
    /// Its owner.
    pub stamp: Stamp,
    /// What opens it.
    pub password: PasswordHash,
}

/// What the stamp of a query user holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its owner.
    pub stamp: Stamp,
    /// How the digest of its password begins.
    pub password: String,
}

impl QueryUserSpec {
    /// Of a tenant.
    pub fn new(tenant: &TenantName, stamp: &Stamp, password: PasswordHash) -> Self {
        Self { user: tenant.query_user(), database: tenant.database(), stamp: stamp.clone(), password }
    }

    /// What it may read, by name: what people query, of its own database.
    pub fn views(&self) -> BTreeSet<String> {
        View::ALL.into_iter().filter(|view| view.is_for_people()).map(|view| view.name().to_owned()).collect()
    }

    /// The grants of it, without the user's name.
    pub fn grants(&self) -> Vec<String> {
        self.views().iter().map(|view| format!("GRANT SELECT ON {}.{view}", self.database)).collect()
    }

    /// Its settings, each of them constant.
    pub fn settings(&self) -> BTreeMap<&'static str, String> {
        let limits = LIMITS.into_iter().map(|(name, value)| (name, value.to_owned()));
        limits.chain([(STAMP, self.mark().to_text())]).collect()
    }

    fn mark(&self) -> Mark {
        let mut password = self.password.to_string();
        password.truncate(SHOWN_DIGITS);
        Mark { stamp: self.stamp.clone(), password }
    }

    /// The user as an entry of `<profiles>` and one of `<users>` in `users.xml`, for servers that store no users.
    pub fn users_xml(&self) -> UsersXml {
        let Self { user, database, password, .. } = self;
        let settings = self.settings();
        let values: String =
            settings.iter().map(|(name, value)| format!("<{name}>{}</{name}>", escaped(value))).collect();
        let constant: String = settings.keys().map(|name| format!("<{name}><const/></{name}>")).collect();
        let grants: String = self.grants().iter().map(|grant| format!("<query>{grant}</query>")).collect();
        UsersXml {
            profile: format!("<{user}>{values}<constraints>{constant}</constraints></{user}>\n"),
            user: format!(
                "<{user}><password_sha256_hex>{password}</password_sha256_hex><networks><ip>::/0</ip></networks>\
                 <profile>{user}</profile><quota>default</quota><default_database>{database}</default_database>\
                 <grants>{grants}</grants></{user}>\n"
            ),
        }
    }
}

impl Mark {
    /// As the setting's value. A mark of plain texts always has a JSON form.
    fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Out of the value of the setting that holds it.
    pub(super) fn of<'a>(setting: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        serde_json::from_str(setting(STAMP)?).ok()
    }
}

/// A user as `users.xml` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersXml {
    /// Entry of `<profiles>`.
    pub profile: String,
    /// Entry of `<users>`.
    pub user: String,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn acme() -> QueryUserSpec {
        let stamp = Stamp {
            installation: "it's <dev>".into(),
            tenant: "acme-1".into(),
            uid: "u1".into(),
            lineage: "u0".into(),
            released: false,
        };
        QueryUserSpec::new(&"acme-1".parse().unwrap(), &stamp, PasswordHash([0xab; 32]))
    }

    #[test]
    fn it_reads_what_people_query_of_its_own_database_and_nothing_else() {
        let expected = ["GRANT SELECT ON tenant_acme_1.events", "GRANT SELECT ON tenant_acme_1.violations"];
        assert_eq!(acme().grants(), expected);
    }

    #[test]
    fn both_renderings_hold_every_setting_as_a_constant() {
        let UsersXml { profile, user } = acme().users_xml();
        for name in acme().settings().keys() {
            assert!(profile.contains(&format!("<{name}><const/></{name}>")), "{name}");
        }
        assert!(profile.contains("it's &lt;dev&gt;") && profile.contains("<readonly>1</readonly>"));
        assert!(
            user.contains(&"ab".repeat(32))
                && user.contains("<query>GRANT SELECT ON tenant_acme_1.events</query>")
        );
        assert!(!format!("{:?}", acme()).contains("abab"), "a digest is not for logs");
    }

    #[test]
    fn the_stamp_is_read_back_and_another_password_shows() {
        let settings = acme().settings();
        let mark = Mark::of(|name| settings.get(name).map(String::as_str)).unwrap();
        assert_eq!((mark.stamp, mark.password.as_str()), (acme().stamp, "abababababababab"));
        assert_ne!(QueryUserSpec { password: PasswordHash([1; 32]), ..acme() }.settings(), settings);
    }
}
