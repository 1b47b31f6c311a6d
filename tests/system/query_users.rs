//! A tenant's ClickHouse user tries everything. The library stores no users, so the same users stand in its `users.xml`.

use clickhouse::query_users::{Breach, trial};
use system_tests::query_user::QueryUser;
use system_tests::{Answer, TestTenant, World, event, eventually};

use crate::pools;

pub const TESTS: &[crate::Test] = &[
    ("a_query_user_reads_its_own_rows_and_is_refused_all_else", walls),
    ("a_pooled_query_user_learns_nothing_from_errors", errors),
    ("a_query_user_that_is_not_held_in_is_found_out", found_out),
    ("a_tenant_that_asks_for_a_query_user_is_told_what_stands_in_its_way", asked),
];

/// Statements that are refused, by the server's code. `$OWN` and `$OTHER` are databases of the user's own and of another tenant.
const REFUSED: &[(u32, &[&str])] = &[
    (
        // ACCESS_DENIED
        497,
        &[
            // Another tenant.
            "SELECT * FROM $OTHER.events",
            "SELECT * FROM $OTHER.violations",
            "SELECT * FROM $OTHER.charged",
            "SELECT * FROM $OTHER.events_raw",
            "SELECT time FROM $OWN.events WHERE user IN (SELECT user FROM $OTHER.events)",
            "SELECT * FROM view(SELECT * FROM $OTHER.events)",
            "EXPLAIN SELECT * FROM $OTHER.events",
            "DESCRIBE TABLE $OTHER.events",
            "SHOW CREATE TABLE $OTHER.events",
            "SHOW CREATE DATABASE $OTHER",
            "EXISTS DATABASE $OTHER",
            "USE $OTHER",
            "SELECT hasColumnInTable('$OTHER', 'events', 'user')",
            // What is between our own processes.
            "SELECT * FROM $OWN.charged",
            "SELECT * FROM $OWN.rollups",
            "SELECT * FROM $OWN.users",
            "SELECT * FROM $OWN.places",
            "SELECT * FROM $OWN.events_raw",
            "SELECT * FROM $OWN.violations_raw",
            "SELECT * FROM $OWN.removed",
            "SELECT * FROM $OWN.charges",
            "SELECT * FROM mergeTreeIndex('$OWN', 'events_raw')",
            // What the server does, and who else is there.
            "SELECT * FROM system.processes",
            "SELECT * FROM system.users",
            "SELECT * FROM system.grants",
            "SELECT * FROM system.parts",
            "SELECT * FROM system.disks",
            "SELECT * FROM system.clusters",
            "SELECT * FROM system.metrics",
            "SELECT * FROM system.server_settings",
            "SELECT * FROM system.settings_profile_elements",
            "SELECT * FROM information_schema.tables",
            "SHOW PROCESSLIST",
            "SHOW GRANTS FOR operator",
            "SHOW CREATE USER operator",
            // Files, other servers, programs.
            "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString', 'line String')",
            "SELECT * FROM file('/etc/passwd', 'LineAsString', 'line String')",
            "SELECT * FROM filesystem('/etc')",
            "SELECT * FROM remote('127.0.0.1', '$OTHER', 'events')",
            "SELECT * FROM s3('http://bucket.s3.amazonaws.com/key', 'LineAsString', 'line String')",
            "SELECT * FROM hdfs('hdfs://127.0.0.1:1/x', 'LineAsString', 'line String')",
            "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
            "SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
            "SELECT * FROM sqlite('/tmp/x.db', 't')",
            "SELECT * FROM executable('x.sh', 'LineAsString', 'line String')",
            "SELECT * FROM dictionary('$OTHER.events')",
            // Changes.
            "INSERT INTO $OWN.events_raw (tenant) VALUES (1)",
            "INSERT INTO FUNCTION url('http://127.0.0.1:1/', 'LineAsString', 'line String') SELECT user FROM $OWN.events",
            "ALTER TABLE $OWN.events_raw DELETE WHERE 1",
            "TRUNCATE TABLE $OWN.events_raw",
            "OPTIMIZE TABLE $OWN.events_raw",
            "DROP VIEW $OWN.events",
            "DROP DATABASE $OTHER",
            "CREATE DATABASE mine",
            "CREATE TABLE $OWN.mine (a UInt8) ENGINE = Memory",
            "CREATE TEMPORARY TABLE mine (a UInt8)",
            "CREATE VIEW $OWN.mine AS SELECT 1",
            "CREATE DICTIONARY $OWN.mine (a UInt64) PRIMARY KEY a SOURCE(FILE(path '/etc/passwd' format 'CSV')) LAYOUT(FLAT()) LIFETIME(0)",
            "CREATE FUNCTION mine AS (x) -> x",
            "CREATE NAMED COLLECTION mine AS a = 1",
            "CREATE USER mine",
            "CREATE ROW POLICY mine ON $OWN.events USING 1",
            "ALTER USER $OWN IDENTIFIED BY 'mine'",
            "GRANT SELECT ON $OWN.events TO console",
            "BACKUP TABLE $OWN.events TO File('/tmp/mine')",
            "KILL QUERY WHERE 1",
            "SYSTEM FLUSH LOGS",
            "SYSTEM SHUTDOWN",
        ],
    ),
    // READONLY
    (
        164,
        &["SELECT 1 SETTINGS max_execution_time = 0", "SELECT 1 SETTINGS readonly = 0", "SET readonly = 2"],
    ),
    // INTO_OUTFILE_NOT_ALLOWED
    (358, &["SELECT * FROM $OWN.events INTO OUTFILE '/tmp/mine'"]),
    // BAD_ARGUMENTS: there is no dictionary, nor a right to make one.
    (36, &["SELECT dictGet('$OTHER.events', 'user', toUInt64(1))"]),
    // SUPPORT_IS_DISABLED
    (344, &["EXECUTE AS operator SELECT 1"]),
    // MEMORY_LIMIT_EXCEEDED, TOO_MANY_ROWS_OR_BYTES
    (241, &["SELECT length(groupArray(number)) FROM numbers(1000000000)"]),
    (396, &["SELECT number FROM numbers(2000000)"]),
];
/// Settings that are refused in the URL.
const SETTINGS: [&str; 7] = [
    "readonly=0",
    "readonly=2",
    "max_execution_time=0",
    "max_memory_usage=0",
    "max_result_rows=0",
    "query_plan_enable_optimizations=1",
    "log_comment=mine",
];

fn code(answer: &Answer) -> u32 {
    answer.headers.get("x-clickhouse-exception-code").map_or(0, |code| code.parse().unwrap())
}

fn send(world: &World, tenant: &TestTenant, feature: &str, user: &str) {
    let event = event(&format!("{feature}-{user}"), feature, user);
    assert_eq!(tenant.post(world, 0, &event).status, 202);
}

fn walls(world: &World) {
    let (one, two) = (world.tenant("walls", ""), world.tenant("walls-two", ""));
    send(world, &one, "login", "only-in-one");
    send(world, &two, "login", "only-in-two");
    one.shows(world, 1);
    two.shows(world, 1);
    let user = QueryUser::of("walls");
    let (own, other) = (user.spec.database.as_str(), two.name.replace('-', "_"));
    let other = format!("tenant_{other}");
    let answer = user.ask(world, "SELECT user FROM events", "");
    assert_eq!((answer.status, answer.body.trim()), (200, "only-in-one"), "{}", answer.body);
    assert_eq!(user.ask(world, &format!("SELECT count() FROM {own}.violations"), "").body.trim(), "0");
    for (expected, statements) in REFUSED {
        for sql in *statements {
            let sql = sql.replace("$OWN", own).replace("$OTHER", &other);
            let answer = user.ask(world, &sql, "");
            assert_eq!(code(&answer), *expected, "{sql}: {}", answer.body);
        }
    }
    for setting in SETTINGS {
        assert_eq!(code(&user.ask(world, "SELECT 1", setting)), 164, "{setting}");
    }
    // Answers that others have no part in.
    for sql in [
        "SHOW DATABASES",
        "SELECT name FROM system.databases",
        "SELECT database, name, create_table_query FROM system.tables",
        "SELECT database, table, name FROM system.columns",
        "SHOW TABLES FROM $OTHER",
        "SELECT user FROM merge(REGEXP('tenant_.*'), 'events')",
        "SELECT user FROM viewIfPermitted(SELECT user FROM $OTHER.events ELSE null('user String'))",
        "SHOW GRANTS",
    ] {
        let answer = user.ask(world, &sql.replace("$OTHER", &other), "");
        assert_eq!(answer.status, 200, "{sql}: {}", answer.body);
        assert!(
            !answer.body.contains(&other) && !answer.body.contains("only-in-two"),
            "{sql}: {}",
            answer.body
        );
        assert!(!answer.body.contains("_raw\n") && !answer.body.contains("pool_"), "{sql}: {}", answer.body);
    }
    // Its limits stand on the server as they are compared by whoever repairs them.
    let settings = format!(
        "SELECT concat(setting_name, '=', value, ' ', toString(writability)) FROM system.settings_profile_elements \
         WHERE profile_name = '{}' ORDER BY setting_name FORMAT TSVRaw",
        user.spec.user
    );
    let expected = user.spec.settings().into_iter().map(|(name, value)| format!("{name}={value} CONST"));
    assert_eq!(world.clickhouse(&settings), expected.collect::<Vec<_>>());
}

/// Conditions of a query must not be evaluated on rows that the view does not show: an error would tell what is in them.
fn errors(world: &World) {
    world.apply(&pools::pool("walled", 60, 1, ""));
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "lanepool/walled"]);
    let one = world.tenant_on("walled", "pool-walls", "");
    let two = world.tenant_on("walled", "pool-walls-two", "");
    // Features on both sides of the other's in the table's order.
    send(world, &one, "a", "own");
    send(world, &one, "z", "own");
    send(world, &two, "m", "secret-user");
    one.shows(world, 2);
    two.shows(world, 1);
    world.clickhouse("OPTIMIZE TABLE pool_60.events_raw FINAL");
    let [own, other] = ["pool-walls", "pool-walls-two"].map(QueryUser::of);
    for (user, rows) in [(&own, "2"), (&other, "1")] {
        assert_eq!(user.ask(world, "SELECT count() FROM events", "").body.trim(), rows);
    }
    // The second shows that the first could fail: without its limits, the same query tells.
    let leak = "SELECT count() FROM DB.events WHERE toUInt64(if(user = 'own', '1', user)) = 1";
    let leak = leak.replace("DB", &own.spec.database);
    let answer = own.ask(world, &leak, "");
    assert_eq!((answer.status, answer.body.trim()), (200, "2"), "{}", answer.body);
    let without = leaks(world, &leak);
    assert!(without.contains("secret-user"), "nothing to be walled off: {without}");
    for sql in [
        "SELECT count() FROM events WHERE throwIf(user = 'secret-user')",
        "SELECT count() FROM events WHERE throwIf(feature = 'm')",
        "SELECT count() FROM events WHERE intDiv(1, user != 'secret-user') = 1",
        "SELECT count() FROM events WHERE NOT ignore(throwIf(startsWith(data, '{') AND user != 'own'))",
        "SELECT count() FROM (SELECT user FROM events) WHERE throwIf(user != 'own') = 0",
        "SELECT count() FROM events AS a JOIN events AS b ON a.id = b.id WHERE throwIf(a.user != 'own') = 0",
        "SELECT sum(throwIf(user != 'own')) FROM events",
        "SELECT count() FROM events WHERE throwIf(user != 'own') = 0 GROUP BY feature HAVING throwIf(feature = 'm') = 0",
        "SELECT user FROM events WHERE throwIf(user != 'own') = 0 ORDER BY time LIMIT 1",
        "WITH e AS (SELECT * FROM events) SELECT count() FROM e WHERE throwIf(user != 'own') = 0",
    ] {
        let answer = own.ask(world, sql, "");
        assert_eq!(answer.status, 200, "{sql}: {}", answer.body);
        assert!(!answer.body.contains("secret"), "{sql}: {}", answer.body);
    }
}

/// What the tool, which has no limits, is answered.
fn leaks(world: &World, sql: &str) -> String {
    let password = world.platform.secrets().get("clickhouse-tool").unwrap();
    let call = system_tests::Call::post(&world.urls.clickhouse).header("X-ClickHouse-User", "tool");
    call.header("X-ClickHouse-Key", password.trim()).bare_body(sql).send().body
}

/// The library lets everybody read files by a function that takes no grant; a server confines it. Nobody gets a user on the former.
fn found_out(world: &World) {
    world.tenant("tried", "");
    let user = QueryUser::of("tried");
    let endpoint =
        clickhouse::Endpoint::new(&world.urls.clickhouse, &user.spec.user, &user.password).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = clickhouse::Client::new(endpoint);
    let found = runtime.block_on(trial(&client, &user.spec.database));
    let opens = user.ask(world, "SELECT length(file('/etc/hostname')) > 0", "").body.trim() == "1";
    assert_eq!(found, Ok(opens.then_some(Breach::Files)));
    // A user without limits does not pass either.
    let password = world.platform.secrets().get("clickhouse-tool").unwrap();
    let tool = clickhouse::Endpoint::new(&world.urls.clickhouse, "tool", password.trim()).unwrap();
    let found = runtime.block_on(trial(&clickhouse::Client::new(tool), &user.spec.database));
    assert_eq!(found, Ok(Some(Breach::System)));
}

fn tenant(name: &str, more: &str) -> String {
    format!(
        "apiVersion: meterplane.io/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\n\
         spec: {{displayName: Test {name}, planRef: {{name: open}}, namespaces: [{name}]{more}}}"
    )
}

fn asked(world: &World) {
    let asks = |name: &str| world.apply(&tenant(name, &format!(", queryUser: {{namespace: {name}}}")));
    let secret = |name: &str| {
        world.try_kubectl(&["get", "secret", "--namespace", name, &format!("{name}-clickhouse")])
    };
    let silent = |name: &str| {
        let kinds = "--output=jsonpath={.status.conditions[*].type}";
        !world.kubectl(&["get", "tenant", name, kinds]).contains("QueryUserReady")
    };
    for name in ["asks", "taken"] {
        world.tenant(name, "");
        assert!(silent(name));
    }
    let refused = world.try_apply(&tenant("asks", ", queryUser: {namespace: kube-public}")).unwrap_err();
    assert!(refused.contains("must be one of the tenant's namespaces"), "{refused}");
    asks("asks");
    let storages = "SELECT count() FROM system.user_directories WHERE type != 'users_xml'";
    if world.clickhouse(storages) == ["0"] {
        // Which setting of the server is missing, and nothing else suffers.
        pools::says(world, "tenant", "asks", "QueryUserReady", "NoUserStorage");
        pools::says(world, "tenant", "asks", "QueryUserReady", "local_directory");
        pools::says(world, "tenant", "asks", "Ready", "\"status\":\"True\"");
        pools::says(world, "tenant", "asks", "Ready", "QueryUserNotReady");
        assert!(secret("asks").is_err(), "no Secret that opens nothing");
    } else {
        pools::says(world, "tenant", "asks", "QueryUserReady", "\"status\":\"True\"");
        secret("asks").unwrap();
    }
    // One of that name stands in users.xml: it was not made for this tenant, and stays as it is.
    asks("taken");
    pools::says(world, "tenant", "taken", "QueryUserReady", "UserNotOurs");
    assert_eq!(QueryUser::of("taken").ask(world, "SELECT count() FROM events", "").body.trim(), "0");
    // What is not asked for any more is not spoken of.
    world.apply(&tenant("asks", ""));
    eventually("the condition is gone", || {
        silent("asks").then_some(()).ok_or_else(|| "it is still there".into())
    });
    asks("asks");
    for name in ["asks", "taken"] {
        world.kubectl(&["delete", "tenant", name, "--timeout=60s"]);
    }
    let left =
        world.clickhouse("SELECT name FROM system.users WHERE name IN ('tenant_asks', 'tenant_taken')");
    assert_eq!(left, ["tenant_taken"], "only what is ours is dropped");
}
