//! Who may do what in NATS: the least that each process needs. In a cluster the chart's NATS credentials are made from the same
//! lists.
//!
//! A wildcard stands for a whole token of a subject, so streams that share a prefix (`USAGE_…`, `KV_ledger-…`) cannot be named by
//! it: ledgers are listed one by one, and lanes are told from other streams by the subjects a consumer may filter on.

use event::names::{
    AUDITS_BUCKET, INTENTS_BUCKET, LEASES_BUCKET, LEDGER_SHARDS, PODS_BUCKET, POLICY_BUCKET, SEATS_BUCKET,
    ledger_bucket,
};

/// The windows that quota and rate records are kept by.
const LEDGER_WINDOWS: [&str; 6] = ["second", "minute", "hour", "day", "month", "total"];

/// Those of quotas.
const QUOTAS: [&str; 4] = ["hour", "day", "month", "total"];

/// A user of the server.
pub(super) struct User {
    /// The name: the process it is for.
    pub name: &'static str,
    publish: Vec<String>,
    refuse: Vec<String>,
    subscribe: Vec<String>,
    /// May answer requests that it receives, and only those.
    answers: bool,
}

/// All users.
pub(super) fn users() -> Vec<User> {
    vec![operator(), ingest(), sink(), console(), tool()]
}

/// Creates and compares streams and buckets, writes policy and what was used into ledgers, reads heartbeats and how far the
/// sinks are, settles dead pods; never reads a lane's messages.
fn operator() -> User {
    let mut publish = api(&["INFO", "STREAM.NAMES", "STREAM.LIST"]);
    publish.extend(api(&[
        "STREAM.CREATE.*",
        "STREAM.UPDATE.*",
        "STREAM.DELETE.*",
        "STREAM.INFO.*",
        "STREAM.PURGE.*",
    ]));
    publish.extend(api(&["CONSUMER.NAMES.*", "CONSUMER.LIST.*", "CONSUMER.INFO.*.*"]));
    publish.extend(watch(POLICY_BUCKET));
    publish.extend(watch(PODS_BUCKET));
    publish.extend(watch(AUDITS_BUCKET));
    publish.extend(get(INTENTS_BUCKET));
    // Which sinks live, and whether they know that tenants move.
    publish.extend(watch(LEASES_BUCKET));
    publish.extend(ledgers().flat_map(|bucket| [get(&bucket), vec![write(&bucket)]].concat()));
    publish.push(write(POLICY_BUCKET));
    // Says where a tenant that moves has been, before its snapshot names the new lane.
    publish.extend(watch(SEATS_BUCKET));
    publish.push(write(SEATS_BUCKET));
    // Tells the audits whose rows were removed for good.
    publish.push(format!("$KV.{AUDITS_BUCKET}.forgotten.*"));
    // Keeps out what dead pods might still send, and settles what they held: of quotas that never start anew.
    publish.push("usage.*.fence.*.*".to_owned());
    // How much of each limit is used.
    for window in QUOTAS {
        publish.extend((0..LEDGER_SHARDS).flat_map(|shard| watch(&ledger_bucket(window, shard))));
    }
    User { name: "operator", publish, refuse: vec![], subscribe: inbox(), answers: false }
}

/// Publishes packs, denials, heartbeats and ledger records; reads policy and ledgers. It cannot write policy or fences, and
/// cannot create or delete a stream.
fn ingest() -> User {
    let mut publish = strings(&["usage.*.packs", "violations.*", "mp.recall.*", "$JS.API.INFO"]);
    publish.push(write(PODS_BUCKET));
    publish.extend(watch(PODS_BUCKET));
    publish.extend(watch(POLICY_BUCKET));
    for bucket in ledgers() {
        publish.push(write(&bucket));
        publish.extend(get(&bucket));
    }
    let subscribe = [inbox(), strings(&["mp.recall.*"])].concat();
    User { name: "ingest", publish, refuse: vec![], subscribe, answers: true }
}

/// Reads lanes and denials and writes intents and leases. It sees neither policy, which holds key digests, nor ledgers.
fn sink() -> User {
    let mut publish = api(&["INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.*", "STREAM.MSG.GET.*"]);
    publish.extend(api(&["DIRECT.GET.*", "DIRECT.GET.*.usage.>"]));
    publish.extend(api(&[
        "CONSUMER.CREATE.*.*",
        "CONSUMER.CREATE.*.*.usage.>",
        "CONSUMER.INFO.*.*",
        "CONSUMER.DELETE.*.*",
    ]));
    publish.extend(api(&["CONSUMER.MSG.NEXT.*.*"]));
    publish.extend(strings(&["$JS.ACK.>", "$JS.FC.>"]));
    for bucket in [INTENTS_BUCKET, LEASES_BUCKET, AUDITS_BUCKET, SEATS_BUCKET] {
        publish.push(write(bucket));
        publish.extend(watch(bucket));
    }
    let hidden = ledgers().chain([POLICY_BUCKET.to_owned()]);
    let refuse = hidden.flat_map(|bucket| messages(&bucket)).collect();
    User { name: "sink", publish, refuse, subscribe: inbox(), answers: false }
}

/// Reads policy and heartbeats.
fn console() -> User {
    let mut publish = strings(&["$JS.API.INFO"]);
    publish.extend(watch(POLICY_BUCKET));
    publish.extend(watch(PODS_BUCKET));
    User { name: "console", publish, refuse: vec![], subscribe: inbox(), answers: false }
}

/// The developer's tools and the tests: everything.
fn tool() -> User {
    User {
        name: "tool",
        publish: strings(&[">"]),
        refuse: vec![],
        subscribe: strings(&[">"]),
        answers: false,
    }
}

/// Every ledger bucket there can be.
fn ledgers() -> impl Iterator<Item = String> {
    LEDGER_WINDOWS
        .into_iter()
        .flat_map(|window| (0..LEDGER_SHARDS).map(move |shard| ledger_bucket(window, shard)))
}

/// Requests that look at a bucket or at one of its keys.
fn get(bucket: &str) -> Vec<String> {
    let stream = format!("KV_{bucket}");
    ["STREAM.INFO.{}", "STREAM.MSG.GET.{}", "DIRECT.GET.{}", "DIRECT.GET.{}.>"]
        .map(|request| format!("$JS.API.{}", request.replace("{}", &stream)))
        .to_vec()
}

/// Requests that look at a bucket and follow its changes.
fn watch(bucket: &str) -> Vec<String> {
    let stream = format!("KV_{bucket}");
    let mut requests = get(bucket);
    requests.extend(
        [
            "API.CONSUMER.CREATE.{}",
            "API.CONSUMER.CREATE.{}.>",
            "API.CONSUMER.MSG.NEXT.{}.*",
            "API.CONSUMER.DELETE.{}.*",
            "API.CONSUMER.INFO.{}.*",
            "FC.{}.>",
            "ACK.{}.>",
        ]
        .map(|request| format!("$JS.{}", request.replace("{}", &stream))),
    );
    requests
}

/// Every request that yields or disturbs the messages of a bucket.
fn messages(bucket: &str) -> Vec<String> {
    let mut requests = watch(bucket);
    requests.retain(|request| !request.starts_with("$JS.API.STREAM.INFO."));
    requests
}

/// The subject under which a bucket's keys are written.
fn write(bucket: &str) -> String {
    format!("$KV.{bucket}.>")
}

/// Where answers arrive.
fn inbox() -> Vec<String> {
    strings(&["_INBOX.>"])
}

fn api(requests: &[&str]) -> Vec<String> {
    requests.iter().map(|request| format!("$JS.API.{request}")).collect()
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|&one| one.to_owned()).collect()
}

impl User {
    /// The user's entry in the server's configuration.
    pub(super) fn render(&self, password: &str) -> String {
        let list =
            |subjects: &[String]| subjects.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
        let deny =
            if self.refuse.is_empty() { String::new() } else { format!(", deny: [{}]", list(&self.refuse)) };
        // `max` and `expires` bound what a received request allows to be answered.
        let answers = if self.answers { "\n      allow_responses: { max: 1, expires: \"5s\" }" } else { "" };
        format!(
            r#"    {{ user: "{}", password: "{password}", permissions: {{
      publish: {{ allow: [{}]{deny} }}
      subscribe: {{ allow: [{}] }}{answers}
    }} }}
"#,
            self.name,
            list(&self.publish),
            list(&self.subscribe)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NATS's own rule: `*` is one token, `>` is one or more at the end.
    fn matches(pattern: &str, subject: &str) -> bool {
        let mut subject = subject.split('.');
        for token in pattern.split('.') {
            match (token, subject.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (token, Some(given)) if token == given => {}
                _ => return false,
            }
        }
        subject.next().is_none()
    }

    fn may_publish(user: &User, subject: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, subject));
        any(&user.publish) && !any(&user.refuse)
    }

    #[test]
    fn only_the_operator_writes_policy_and_shapes_streams() {
        for user in [ingest(), sink(), console()] {
            for subject in [
                "$KV.policy.tenant.acme",
                "$JS.API.STREAM.CREATE.USAGE_x",
                "$JS.API.STREAM.UPDATE.KV_policy",
                "$JS.API.STREAM.DELETE.USAGE_acme",
                "$JS.API.STREAM.PURGE.USAGE_acme",
                "$JS.API.STREAM.MSG.DELETE.KV_policy",
                "usage.acme.fence.1.0",
            ] {
                assert!(!may_publish(&user, subject), "{} {subject}", user.name);
            }
        }
        for subject in
            ["$KV.policy.tenant.acme", "$JS.API.STREAM.CREATE.USAGE_x", "$JS.API.STREAM.INFO.USAGE_x"]
        {
            assert!(may_publish(&operator(), subject), "{subject}");
        }
        assert!(may_publish(&operator(), "$JS.API.DIRECT.GET.KV_intents.$KV.intents.acme"));
        for subject in ["$KV.intents.acme", "$KV.leases.sink.1"] {
            assert!(!may_publish(&operator(), subject), "it reads how far sinks are, and no more: {subject}");
        }
    }

    #[test]
    fn the_operator_settles_what_dead_pods_held() {
        for subject in ["usage.acme.fence.1.0", "$KV.ledger-total-3.k"] {
            assert!(may_publish(&operator(), subject), "{subject}");
        }
        assert!(!may_publish(&operator(), "usage.acme.packs"));
    }

    #[test]
    fn the_operator_reads_no_lane() {
        for subject in [
            "$JS.API.STREAM.MSG.GET.USAGE_acme",
            "$JS.API.DIRECT.GET.USAGE_acme.usage.acme.packs",
            "$JS.API.CONSUMER.CREATE.USAGE_acme.c.usage.acme.packs",
            "$JS.API.CONSUMER.CREATE.USAGE_acme.c",
            "$JS.API.CONSUMER.MSG.NEXT.USAGE_acme.c",
        ] {
            assert!(!may_publish(&operator(), subject), "{subject}");
        }
    }

    #[test]
    fn ingest_writes_packs_ledgers_and_heartbeats_and_reads_policy() {
        let user = ingest();
        for subject in [
            "usage.acme.packs",
            "usage.POOL_3.packs",
            "violations.acme",
            "$KV.ledger-month-3.k.e.2026-11.u",
            "$KV.pods.01",
            "$JS.API.DIRECT.GET.KV_policy.$KV.policy.index",
            "$JS.API.CONSUMER.CREATE.KV_policy.name.$KV.policy.>",
            "mp.recall.01",
        ] {
            assert!(may_publish(&user, subject), "{subject}");
        }
        for subject in [
            "$KV.ledger-month-4.k",
            "$KV.intents.acme",
            "$KV.seats.7",
            "$JS.API.CONSUMER.CREATE.USAGE_acme.c",
        ] {
            assert!(!may_publish(&user, subject), "{subject}");
        }
        assert!(user.answers, "a recall is answered");
    }

    #[test]
    fn the_sink_reads_lanes_but_neither_policy_nor_ledgers() {
        let user = sink();
        for subject in [
            "$JS.API.CONSUMER.CREATE.USAGE_acme.c",
            "$JS.API.CONSUMER.CREATE.USAGE_acme.c.usage.acme.packs",
            "$JS.API.CONSUMER.MSG.NEXT.USAGE_acme.c",
            "$JS.API.STREAM.MSG.GET.USAGE_acme",
            "$JS.API.CONSUMER.CREATE.VIOLATIONS.c",
            "$JS.API.CONSUMER.MSG.NEXT.VIOLATIONS.c",
            "$KV.intents.acme",
            "$KV.intents.VIOLATIONS",
            "$KV.leases.acme",
            "$KV.seats.7",
        ] {
            assert!(may_publish(&user, subject), "{subject}");
        }
        for subject in [
            "$JS.API.STREAM.MSG.GET.KV_policy",
            "$JS.API.DIRECT.GET.KV_policy",
            "$JS.API.CONSUMER.CREATE.KV_policy.c",
            "$JS.API.CONSUMER.DELETE.KV_policy.c",
            "$JS.API.STREAM.MSG.GET.KV_ledger-day-0",
            "$KV.ledger-day-0.k",
            "usage.acme.packs",
            "violations.acme",
        ] {
            assert!(!may_publish(&user, subject), "{subject}");
        }
    }

    #[test]
    fn the_console_only_reads() {
        let user = console();
        assert!(user.publish.iter().all(|subject| subject.starts_with("$JS.")));
        assert!(may_publish(&user, "$JS.API.DIRECT.GET.KV_policy.$KV.policy.tenant.acme"));
        assert!(
            !may_publish(&user, "$JS.API.STREAM.MSG.GET.USAGE_acme") && !may_publish(&user, "$KV.seats.7")
        );
        assert_eq!(user.subscribe, ["_INBOX.>"]);
    }

    #[test]
    fn entries_quote_their_subjects() {
        let text = sink().render("p");
        assert!(text.contains(r#"user: "sink", password: "p""#));
        assert!(text.contains(r#""$KV.intents.>""#) && text.contains("deny: ["));
        assert!(!text.contains("allow_responses"));
        assert!(ingest().render("p").contains("allow_responses: { max: 1"));
    }
}
