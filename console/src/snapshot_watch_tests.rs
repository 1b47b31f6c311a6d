use policy::snapshot::{Draft, Sealed};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;
use crate::fixtures::{complete, snapshot};

struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap())
    }

    fn trust(&self) -> Trust {
        Trust::new(BTreeMap::from([(2, self.0.public_key().as_ref().try_into().unwrap())]))
    }

    fn seal<T: Sealed>(&self, value: &T, version: u32) -> Vec<u8> {
        let draft = Draft::new(value).unwrap();
        let signature: [u8; 64] = self.0.sign(&draft.to_sign()).as_ref().try_into().unwrap();
        draft.seal(version, &signature)
    }
}

fn generation(policies: &Policies, tenant: &str) -> Option<u64> {
    policies.directory.tenant(&tenant.parse().unwrap()).map(|policy| policy.snapshot().generation)
}

#[test]
fn only_what_is_signed_newer_and_at_its_place_is_taken_over() {
    let (signer, mut policies) = (Signer::new(), Policies::default());
    let trust = signer.trust();
    let sealed = |generation: u64, version: u32| {
        let mut snapshot = snapshot("acme", vec![]);
        snapshot.generation = generation;
        signer.seal(&snapshot, version)
    };
    let mut reason =
        |key: &str, sealed: &[u8]| policies.put(key, sealed, &trust).map_err(|error| error.reason());
    assert_eq!(reason("tenant.acme", &sealed(5, 2)), Ok(()));
    assert_eq!(reason("tenant.acme", &sealed(5, 2)), Ok(()), "a repeated delivery is nothing new");
    assert_eq!(reason("tenant.acme", &sealed(4, 2)), Err("stale"));
    assert_eq!(reason("tenant.acme", &sealed(6, 3)), Err("unknown_key"));
    assert_eq!(reason("tenant.wayne", &sealed(6, 2)), Err("other_tenant"));
    assert_eq!(reason("something", &sealed(6, 2)), Err("unknown_entry"));
    assert_eq!(reason("index", &sealed(6, 2)), Err("unreadable"), "a snapshot is no index");
    let mut forged = sealed(6, 2);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(reason("tenant.acme", &forged), Err("bad_signature"));
    assert_eq!(generation(&policies, "acme"), Some(5));
}

#[test]
fn complete_means_synced_and_indexed() {
    let (signer, mut policies) = (Signer::new(), Policies::default());
    policies.synced = true;
    assert!(!policies.is_complete());
    let index = complete(vec![]).index.unwrap();
    policies.put(POLICY_INDEX_KEY, &signer.seal(&index, 2), &signer.trust()).unwrap();
    assert!(policies.is_complete());
    policies.delete(POLICY_INDEX_KEY);
    assert!(!policies.is_complete());
}

#[tokio::test]
async fn a_rotated_trust_file_takes_effect_when_it_arrives() {
    use base64::Engine;
    let signer = Signer::new();
    let file = std::env::temp_dir().join(format!("console-trust-{}.json", std::process::id()));
    tokio::fs::write(&file, r#"{"keys":{}}"#).await.unwrap();
    let mut follower = Follower {
        trust_file: file.clone(),
        trust: Trust::default(),
        policies: Policies::default(),
        untrusted: BTreeMap::new(),
        metrics: Arc::new(Metrics::new()),
    };
    let value = signer.seal(&snapshot("acme", vec![]), 2).into();
    let entry = Entry { key: "tenant.acme".into(), revision: 7, value, deleted: false, created_ms: 0 };
    follower.process(WatchEvent::Put(entry)).await;
    assert!(follower.policies.directory.is_empty() && follower.untrusted.len() == 1);

    let key = base64::engine::general_purpose::STANDARD.encode(signer.0.public_key().as_ref());
    tokio::fs::write(&file, format!(r#"{{"keys":{{"2":"{key}"}}}}"#)).await.unwrap();
    follower.retry_untrusted().await;
    assert_eq!(generation(&follower.policies, "acme"), Some(1));
    assert!(follower.untrusted.is_empty());

    follower.process(WatchEvent::Delete { key: "tenant.acme".into(), revision: 8 }).await;
    assert!(follower.policies.directory.is_empty());
    tokio::fs::remove_file(&file).await.unwrap();
}
