use super::*;
use crate::controllers::enforced::Standing;
use crate::fleet::Reach;
use crds::ConditionStatus;
use crds::condition::{RECONCILING, STALLED, find};
use policy::apikey::KeyDigest;
use serde_json::json;
use tokio::time::Instant;

fn object(spec: serde_json::Value) -> ApiKey {
    serde_json::from_value(json!({
        "apiVersion": "meterplane.io/v1alpha1", "kind": "ApiKey",
        "metadata": {"name": "checkout", "namespace": "acme", "uid": "u1", "generation": 1}, "spec": spec,
    }))
    .unwrap()
}

fn held() -> Held {
    Held {
        digest: KeyDigest::of("k"),
        prefix: "mp_live_abcdef".into(),
        minted: Timestamp::UNIX_EPOCH,
        serial: 0,
        replaced: vec![],
        endpoint: "e".into(),
    }
}

fn referred(programmed: bool) -> Referred {
    let standing = Standing { revision: 7, reach: Reach::All, published: Instant::now() };
    Referred { tenant: Some("acme".into()), programmed, standing: Some(standing), ..Referred::default() }
}

fn status(object: &ApiKey, referred: &Referred, verdict: &Verdict) -> ApiKeyStatus {
    compute(object, referred, verdict, Some(&held()), Timestamp::from_second(10).unwrap()).0
}

#[test]
fn a_key_is_ready_once_pods_know_it() {
    let object = object(json!({"scopes": ["ingest"]}));
    let before = status(&object, &referred(false), &Verdict::Accepted);
    assert_eq!(find(&before.conditions, RECONCILING).unwrap().reason, "Compiling");
    let after = status(&object, &referred(true), &Verdict::Accepted);
    assert_eq!(find(&after.conditions, READY).unwrap().status, ConditionStatus::True);
    assert_eq!(after.prefix.as_deref(), Some("mp_live_abcdef"));
    assert_eq!(after.secret_name.as_deref(), Some("checkout-apikey"));
    let text = serde_json::to_string(&after).unwrap();
    assert!(!text.contains(&KeyDigest::of("k").to_string()), "no digest in a status");
}

#[test]
fn a_suspended_key_says_so() {
    let object = object(json!({"scopes": ["ingest"], "suspend": true}));
    let status = status(&object, &referred(true), &Verdict::Accepted);
    let ready = find(&status.conditions, READY).unwrap();
    assert_eq!((ready.status, ready.reason.as_str()), (ConditionStatus::True, "Suspended"));
}

#[test]
fn a_foreign_secret_stalls() {
    let object = object(json!({"scopes": ["ingest"]}));
    let verdict = Verdict::Stalled(Why::new("SecretNotOurs", "x"));
    let status = status(&object, &referred(true), &verdict);
    assert_eq!(find(&status.conditions, STALLED).unwrap().reason, "SecretNotOurs");
    assert_eq!(find(&status.conditions, READY).unwrap().status, ConditionStatus::False);
}
