use super::super::secret;
use super::*;
use policy::apikey::generate;
use serde_json::json;

const ENDPOINT: &str = "https://ingest.example";
const DAY: i64 = 86_400;

fn object(spec: serde_json::Value) -> ApiKey {
    serde_json::from_value(json!({
        "apiVersion": "meterplane.io/v1alpha1", "kind": "ApiKey",
        "metadata": {"name": "checkout", "namespace": "acme", "uid": "u1"}, "spec": spec,
    }))
    .unwrap()
}

fn checkout() -> ApiKey {
    object(json!({"scopes": ["ingest"], "rotation": {"every": "90d", "overlap": "7d"}}))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn held(key: &str, minted: i64) -> Held {
    Held {
        digest: KeyDigest::of(key),
        prefix: policy::apikey::shown_prefix(key).into(),
        minted: at(minted),
        serial: 0,
        replaced: vec![],
        endpoint: ENDPOINT.into(),
    }
}

fn written(step: Step) -> (bool, bool, Held) {
    match step {
        Step::Write { mint, exists, held } => (mint, exists, *held),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_secret_is_read_back_as_it_was_written() {
    let key = generate(&[7; 32]);
    let mut held = held(&key, 5);
    held.replaced = vec![Replaced { sha256: KeyDigest::of("old"), not_after: at(99) }];
    let secret = secret::write(&checkout(), &key, &held);
    assert_eq!(secret::read(&checkout(), Some(&secret)), Found::Whole(held));
    assert_eq!(secret.metadata.name.as_deref(), Some("checkout-apikey"));
    assert_eq!(secret.metadata.owner_references.as_ref().unwrap()[0].uid, "u1");
}

#[test]
fn a_secret_of_somebody_else_is_never_written() {
    let key = generate(&[7; 32]);
    let ours = secret::write(&checkout(), &key, &held(&key, 5));
    let mut foreign = ours.clone();
    foreign.type_ = Some("Opaque".into());
    assert_eq!(secret::read(&checkout(), Some(&foreign)), Found::Foreign);
    let step = build(&checkout(), &Found::Foreign, ENDPOINT, at(10));
    assert!(matches!(step, Step::Blocked(why) if why.reason == "SecretNotOurs"));
    let mut unowned = ours.clone();
    unowned.metadata.owner_references = None;
    assert_eq!(secret::read(&checkout(), Some(&unowned)), Found::Foreign);
    let mut earlier = ours.clone();
    earlier.metadata.owner_references.as_mut().unwrap()[0].uid = "u0".into();
    assert_eq!(secret::read(&checkout(), Some(&earlier)), Found::Leftover);
    let mut changed = ours;
    changed.data.as_mut().unwrap().insert("MP_API_KEY".into(), k8s_openapi::ByteString(b"mine".to_vec()));
    assert_eq!(secret::read(&checkout(), Some(&changed)), Found::Damaged);
}

#[test]
fn a_missing_secret_gets_a_new_key_and_no_old_one_stays_valid() {
    for (found, exists) in [(Found::Absent, false), (Found::Damaged, true)] {
        let (mint, existed, held) = written(build(&checkout(), &found, ENDPOINT, at(10)));
        assert_eq!((mint, existed, held.replaced.len(), held.minted), (true, exists, 0, at(10)));
    }
}

#[test]
fn a_key_is_replaced_when_it_is_old_and_overlaps_its_successor() {
    let found = Found::Whole(held("old", 0));
    let Step::Held { next, .. } = build(&checkout(), &found, ENDPOINT, at(DAY)) else { panic!("kept") };
    assert_eq!(next, Some(at(90 * DAY)));
    let (mint, _, rotated) = written(build(&checkout(), &found, ENDPOINT, at(90 * DAY)));
    assert!(mint);
    assert_eq!(rotated.replaced, [Replaced { sha256: KeyDigest::of("old"), not_after: at(97 * DAY) }]);
    let new = Held { digest: KeyDigest::of("new"), ..rotated };
    let Step::Held { next, .. } = build(&checkout(), &Found::Whole(new.clone()), ENDPOINT, at(91 * DAY))
    else {
        panic!("kept")
    };
    assert_eq!(next, Some(at(97 * DAY)));
    let (mint, _, pruned) = written(build(&checkout(), &Found::Whole(new), ENDPOINT, at(97 * DAY)));
    assert_eq!((mint, pruned.replaced.len()), (false, 0));
}

#[test]
fn a_raised_serial_rotates_once() {
    let spec = json!({"scopes": ["ingest"], "rotationSerial": 3});
    let (mint, _, rotated) =
        written(build(&object(spec.clone()), &Found::Whole(held("old", 0)), ENDPOINT, at(10)));
    assert!(mint && rotated.replaced.is_empty(), "without rotation.overlap the old key ends at once");
    assert_eq!(rotated.serial, 3);
    assert!(matches!(build(&object(spec), &Found::Whole(rotated), ENDPOINT, at(20)), Step::Held { .. }));
}

#[test]
fn suspended_expired_and_brought_keys_need_no_secret() {
    let needs = |spec| needs_secret(&object(spec), at(100));
    assert!(needs(json!({"scopes": ["ingest"]})));
    assert!(!needs(json!({"scopes": ["ingest"], "suspend": true})));
    assert!(!needs(json!({"scopes": ["ingest"], "expires": "1970-01-01T00:01:40Z"})));
    assert!(!needs(
        json!({"scopes": ["ingest"], "source": "Digest", "sha256": KeyDigest::of("x").to_string()})
    ));
}

#[test]
fn a_changed_endpoint_is_repaired_without_a_new_key() {
    let (mint, exists, repaired) =
        written(build(&checkout(), &Found::Whole(held("k", 0)), "https://new", at(10)));
    assert_eq!((mint, exists, repaired.endpoint.as_str()), (false, true, "https://new"));
    assert_eq!(repaired.digest, KeyDigest::of("k"));
}
