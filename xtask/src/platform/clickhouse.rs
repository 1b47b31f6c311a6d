//! ClickHouse with a user for each process, in one of its two shapes: the program, or the library run by `chdb`.

use std::path::Path;
use std::time::Duration;

use super::site::{Part, Ready, Site, args};
use crate::random::sha256_hex;
use crate::tools::ClickHouse;
use crate::{Result, platform::secrets};

/// What `clickhouse-local` runs so that it serves like a server until it is stopped.
const SERVE: &str = "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; SELECT sleepEachRow(1) FROM system.numbers \
SETTINGS function_sleep_max_microseconds_per_block=0, max_block_size=1 FORMAT Null";

/// What the operator may do with databases of tenants and pools. It counts events, seeds ledgers from them, and its DEFINER views read
/// for those who query them.
const SHAPE: &str =
    "CREATE DATABASE, DROP DATABASE, CREATE TABLE, DROP TABLE, CREATE VIEW, DROP VIEW, ALTER, SHOW, SELECT";
/// `CREATE OR REPLACE VIEW` exchanges the old view for the new one, which asks for the right to insert. Pools hold no views, so
/// there the operator has none.
const REPLACE_VIEWS: &str = "GRANT INSERT ON tenant_*.*";
/// A tenant's user for queries is called like its database, and reads views of it. The library stores no users; a server does.
const QUERY_USERS: [&str; 2] =
    ["GRANT CREATE USER, DROP USER ON tenant_*", "GRANT SELECT ON tenant_*.* WITH GRANT OPTION"];
/// Engines of tables and databases that the operator may use.
const ENGINES: [&str; 5] =
    ["Atomic", "MergeTree", "ReplacingMergeTree", "SummingMergeTree", "AggregatingMergeTree"];

/// Everything shares this machine: who answers an application goes before who merges parts. Nice value, as `nice -n` takes it.
const NICE: &str = "15";

/// Users beyond those of our processes, as elements of `users.xml`.
#[derive(Debug, Clone, Default)]
pub struct ClickHouseUsers {
    /// Entries of `<profiles>`.
    pub profiles: String,
    /// Entries of `<users>`.
    pub users: String,
}

/// A user of the server.
struct User {
    name: &'static str,
    profile: &'static str,
    /// `None`: everything.
    grants: Option<Vec<String>>,
}

fn users() -> [User; 4] {
    let shape = ["tenant_*.*", "pool_*.*"].map(|databases| format!("GRANT {SHAPE} ON {databases}"));
    let engines = ENGINES.map(|engine| format!("GRANT TABLE ENGINE ON {engine}"));
    let others = [&[REPLACE_VIEWS, "GRANT SELECT ON system.*"][..], &QUERY_USERS].concat();
    let others: Vec<String> = others.into_iter().map(str::to_owned).collect();
    let store = ["tenant_*.*", "pool_*.*"].map(|databases| format!("GRANT SELECT, INSERT ON {databases}"));
    [
        User { name: "operator", profile: "default", grants: Some([&shape[..], &engines, &others].concat()) },
        User { name: "sink", profile: "default", grants: Some(store.to_vec()) },
        User { name: "console", profile: "reader", grants: Some(vec!["GRANT SELECT ON tenant_*.*".into()]) },
        User { name: "tool", profile: "default", grants: None },
    ]
}

/// The part.
pub(super) fn part(site: &Site) -> Result<Part> {
    let (http, native) = (site.ports.get("clickhouse")?, site.ports.get("clickhouse-native")?);
    let folder = site.folder("clickhouse")?;
    let mut passwords = Vec::new();
    for user in users() {
        let password = site.password(&password_name(user.name))?;
        passwords.push((user, sha256_hex(password.as_bytes())));
    }
    let local = matches!(site.tools.clickhouse, ClickHouse::Library(_));
    let config = folder.join("config.xml");
    let tables = site.tables.as_ref().unwrap_or(&folder);
    secrets::write(&config, &render_config(tables, http, native))?;
    secrets::write(&folder.join("users.xml"), &render_users(&passwords, local, &site.clickhouse_users))?;
    let config = format!("--config-file={}", config.display());
    let (program, arguments) = match &site.tools.clickhouse {
        ClickHouse::Program(program) => (program, [args(["server"]), vec![config]].concat()),
        ClickHouse::Library(library) => {
            let serve = args(["--log-level=error", "--query", SERVE]);
            (&site.chdb, [vec![library.display().to_string(), config], serve].concat())
        }
    };
    let arguments = [vec!["-n".into(), NICE.into(), program.display().to_string()], arguments].concat();
    Ok(Part {
        launch: site.launch("clickhouse", Path::new("nice"), arguments, vec![])?,
        ports: vec![http, native],
        ready: Ready::Http(format!("http://127.0.0.1:{http}/ping")),
        within: Duration::from_secs(120),
        grace: Duration::from_secs(30),
        why: "loads its tables",
    })
}

/// Name among the secrets of a user's password.
pub(super) fn password_name(user: &str) -> String {
    format!("clickhouse-{user}")
}

fn render_config(folder: &Path, http: u16, native: u16) -> String {
    let folder = folder.display();
    format!(
        r"<clickhouse>
  <path>{folder}/data/</path>
  <tmp_path>{folder}/tmp/</tmp_path>
  <users_config>users.xml</users_config>
  <!-- Where a server stores users that are made by SQL; the library has no such storage. -->
  <access_control_path>{folder}/access/</access_control_path>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{http}</http_port>
  <tcp_port>{native}</tcp_port>
  <logger><level>error</level><console>1</console></logger>
  <!-- No limit on the whole: as a library it never corrects its count by the resident memory, and once the count, which only
       drifts upwards, reaches a limit, the process aborts. Each query has one. -->
  <max_server_memory_usage>0</max_server_memory_usage>
  <max_server_memory_usage_to_ram_ratio>100</max_server_memory_usage_to_ram_ratio>
  <mark_cache_size>268435456</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <background_pool_size>4</background_pool_size>
</clickhouse>
"
    )
}

/// Users with the SHA-256 of their passwords. The library's own session is user `default` without a password: all it may do is
/// open the ports.
fn render_users(users: &[(User, String)], local: bool, more: &ClickHouseUsers) -> String {
    let mut text = String::from(
        "<clickhouse>\n  <profiles>
    <default>
      <async_insert>0</async_insert>
      <receive_timeout>30</receive_timeout>
      <send_timeout>30</send_timeout>
      <max_memory_usage>2000000000</max_memory_usage>
    </default>
    <reader>
      <readonly>2</readonly>
      <max_memory_usage>1000000000</max_memory_usage>
    </reader>\n",
    );
    text.push_str(&more.profiles);
    text.push_str("  </profiles>\n  <quotas><default/></quotas>\n  <users>\n");
    if local {
        let grants = ["GRANT SYSTEM LISTEN ON *.*".to_owned(), "GRANT SELECT ON system.numbers".to_owned()];
        text.push_str(&render_user("default", "<password></password>", "default", Some(&grants)));
    }
    for (user, sha256) in users {
        let password = format!("<password_sha256_hex>{sha256}</password_sha256_hex>");
        text.push_str(&render_user(user.name, &password, user.profile, user.grants.as_deref()));
    }
    text.push_str(&more.users);
    text.push_str("  </users>\n</clickhouse>\n");
    text
}

fn render_user(name: &str, password: &str, profile: &str, grants: Option<&[String]>) -> String {
    let grants = grants.map_or(String::new(), |grants| {
        let queries: String =
            grants.iter().map(|grant| format!("        <query>{grant}</query>\n")).collect();
        format!("      <grants>\n{queries}      </grants>\n")
    });
    format!(
        "    <{name}>
      {password}
      <networks><ip>127.0.0.1</ip></networks>
      <profile>{profile}</profile>
      <quota>default</quota>\n{grants}    </{name}>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(local: bool) -> String {
        let more = ClickHouseUsers { profiles: "<p/>".into(), users: "<u/>".into() };
        render_users(&users().map(|user| (user, "ab".to_owned())), local, &more)
    }

    fn entry<'a>(text: &'a str, user: &str) -> &'a str {
        let (_, rest) = text.split_once(&format!("\n    <{user}>\n")).unwrap();
        rest.split_once(&format!("</{user}>")).unwrap().0
    }

    #[test]
    fn each_user_may_do_the_least() {
        let text = &rendered(true).replace("  <profiles>\n    <default>\n", "")[..];
        assert_eq!(entry(text, "console").matches("<query>").count(), 1);
        assert!(entry(text, "console").contains("GRANT SELECT ON tenant_*.*"));
        assert!(entry(text, "sink").contains("GRANT SELECT, INSERT ON pool_*.*"));
        assert!(!entry(text, "sink").contains("CREATE"));
        assert_eq!(entry(text, "operator").matches("INSERT").count(), 1, "only to replace tenants' views");
        assert!(!entry(text, "tool").contains("<grants>"));
        assert!(!entry(text, "default").contains("tenant_"));
    }

    #[test]
    fn more_users_stand_beside_our_own() {
        let text = rendered(false);
        let at = |what: &str| text.find(what).unwrap();
        assert!(at("<p/>") < at("</profiles>") && at("<users>") < at("<u/>") && at("<u/>") < at("</users>"));
    }

    #[test]
    fn a_server_has_no_user_without_a_password() {
        assert!(rendered(true).contains("<password></password>"));
        assert!(!rendered(false).contains("<password></password>"));
    }

    #[test]
    fn inserts_are_never_asynchronous() {
        assert!(rendered(false).contains("<async_insert>0</async_insert>"));
        assert!(render_config(Path::new("/d"), 1, 2).contains("<listen_host>127.0.0.1</listen_host>"));
    }
}
