use super::*;
use ring::signature::{Ed25519KeyPair, KeyPair};

pub(crate) fn snapshot(limits: Vec<Limit>) -> Snapshot {
    Snapshot {
        epoch: 0,
        tenant: "acme".parse().unwrap(),
        display_name: "Acme Corp".into(),
        lineage: "6b2e1a4c-0000-4000-8000-000000000001".into(),
        number: TenantNumber(0x8000_0000_0000_0001),
        generation: 1,
        state: TenantState::Active,
        lane: Lane::Dedicated("acme".parse().unwrap()),
        retention_days: 90,
        time_zone: "UTC".into(),
        event_window: EventWindow::default(),
        keys: vec![ApiKey {
            id: "ns.acme.checkout".into(),
            digest: KeyDigest::of("k"),
            scopes: vec![Scope::Ingest],
            not_after_ms: None,
        }],
        limits,
        access: vec![],
        namespaces: vec!["acme".into()],
        inputs: BTreeMap::new(),
    }
}

fn signer() -> (Ed25519KeyPair, Trust) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
    let key: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
    (pair, Trust::new(BTreeMap::from([(2, key)])))
}

fn seal<T: Sealed>(pair: &Ed25519KeyPair, value: &T) -> Vec<u8> {
    let draft = Draft::new(value).unwrap();
    let signature: [u8; 64] = pair.sign(&draft.to_sign()).as_ref().try_into().unwrap();
    draft.seal(2, &signature)
}

#[test]
fn sealed_values_are_opened_by_those_who_trust_the_key() {
    let (pair, trust) = signer();
    let sealed = seal(&pair, &snapshot(vec![]));
    assert_eq!(trust.open::<Snapshot>(&sealed), Ok(snapshot(vec![])));
    assert_eq!(Trust::default().open::<Snapshot>(&sealed), Err(SnapshotError::UnknownKey(2)));
}

#[test]
fn no_changed_byte_goes_unnoticed() {
    let (pair, trust) = signer();
    let sealed = seal(&pair, &snapshot(vec![]));
    for i in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[i] ^= 1;
        assert!(trust.open::<Snapshot>(&changed).is_err(), "byte {i}");
        assert!(trust.open::<Snapshot>(&sealed[..i]).is_err(), "cut at {i}");
    }
}

#[test]
fn one_kind_cannot_be_passed_off_as_another() {
    let (pair, trust) = signer();
    let index = Index { installation: "dev".into(), tenants: 0, ledgers: BTreeMap::new(), epoch: 3 };
    let mut sealed = seal(&pair, &index);
    assert_eq!(trust.open::<Snapshot>(&sealed), Err(SnapshotError::NotSealed));
    sealed[4] = Snapshot::KIND;
    assert_eq!(trust.open::<Snapshot>(&sealed), Err(SnapshotError::BadSignature));
}

#[test]
fn the_content_hash_ignores_when_and_from_what() {
    let one = snapshot(vec![]);
    let later =
        Snapshot { generation: 9, inputs: BTreeMap::from([("plans".into(), "7".into())]), ..one.clone() };
    assert_eq!(one.content_hash(), later.content_hash());
    let other = Snapshot { state: TenantState::Suspended, ..one.clone() };
    assert_ne!(one.content_hash(), other.content_hash());
}

#[test]
fn trust_files_name_what_is_wrong() {
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(Trust::from_json(&format!(r#"{{"keys":{{"1":"{key}"}}}}"#)).is_ok());
    assert!(Trust::from_json(r#"{"keys":{"3":"AAAA"}}"#).unwrap_err().contains("keys.3"));
    assert!(Trust::from_json("{").is_err());
}

#[test]
fn values_of_builds_without_epochs_and_with_them_are_read_by_each_other() {
    let one = Snapshot { epoch: 7, ..snapshot(vec![]) };
    let mut text = serde_json::to_value(&one).unwrap();
    text.as_object_mut().unwrap().remove("epoch");
    let old: Snapshot = serde_json::from_value(text).unwrap();
    assert_eq!((old.epoch, old.content_hash()), (0, one.content_hash()), "a new leader writes nothing anew");
    let index = r#"{"installation": "dev", "tenants": 1, "ledgers": {}}"#;
    let old: Index = serde_json::from_str(index).unwrap();
    let new = Index { epoch: 7, ..old.clone() };
    assert!(old.epoch == 0 && old.says_the_same(&new));
    // What an older build reads: it ignores fields that it does not know.
    #[derive(serde::Deserialize)]
    struct Older {
        generation: u64,
    }
    let older: Older = serde_json::from_value(serde_json::to_value(&one).unwrap()).unwrap();
    assert_eq!(older.generation, one.generation);
}
