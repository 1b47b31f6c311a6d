//! What stands in and on the Secret of an ApiKey.

use std::collections::BTreeMap;

use crds::ApiKey;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use policy::apikey::{KeyDigest, shown_prefix};
use serde::{Deserialize, Serialize};

use crate::controllers::write::controller_of;
use crate::snapshot::keys::KeyEntry;

/// Type of our Secrets.
pub const TYPE: &str = "meterplane.io/api-key";
const KEY: &str = "MP_API_KEY";
const ENDPOINT: &str = "MP_ENDPOINT";
const DIGEST: &str = "meterplane.io/key-sha256";
const MINTED: &str = "meterplane.io/key-minted";
const SERIAL: &str = "meterplane.io/key-serial";
const PREVIOUS: &str = "meterplane.io/previous-keys";

/// A key that was replaced and is still valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replaced {
    /// Its digest.
    pub sha256: KeyDigest,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

/// The keys that an ApiKey stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Digest of the current key.
    pub digest: KeyDigest,
    /// How the current key begins.
    pub prefix: String,
    /// When it was minted.
    pub minted: Timestamp,
    /// The `rotationSerial` it was minted for.
    pub serial: u32,
    /// Keys that it replaced.
    pub replaced: Vec<Replaced>,
    /// The endpoint in the Secret.
    pub endpoint: String,
}

/// What was found under the Secret's name.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Nothing.
    Absent,
    /// Our Secret of this ApiKey, whole.
    Whole(Held),
    /// Our Secret of this ApiKey, without a key that fits its digest.
    Damaged,
    /// Our Secret of an ApiKey of the same name that is gone: it is about to be collected.
    Leftover,
    /// Somebody else's.
    Foreign,
}

impl Held {
    /// As the snapshot needs them.
    pub fn entries(&self) -> Vec<KeyEntry> {
        let current = KeyEntry { digest: self.digest, not_after_ms: None };
        let replaced = self
            .replaced
            .iter()
            .map(|old| KeyEntry { digest: old.sha256, not_after_ms: Some(old.not_after.as_millisecond()) });
        std::iter::once(current).chain(replaced).collect()
    }
}

/// Name of the Secret of an ApiKey.
pub fn name(object: &ApiKey) -> String {
    object.spec.secret_name.clone().unwrap_or_else(|| format!("{}-apikey", object.name_any()))
}

/// Reads a Secret.
pub fn read(object: &ApiKey, secret: Option<&Secret>) -> Found {
    let Some(secret) = secret else { return Found::Absent };
    let kind = ApiKey::kind(&());
    let owner =
        secret.owner_references().iter().find(|owner| owner.kind == kind && owner.name == object.name_any());
    match owner {
        _ if secret.type_.as_deref() != Some(TYPE) => Found::Foreign,
        None => Found::Foreign,
        Some(owner) if Some(&owner.uid) != object.metadata.uid.as_ref() => Found::Leftover,
        Some(_) => held(secret).map_or(Found::Damaged, Found::Whole),
    }
}

fn held(secret: &Secret) -> Option<Held> {
    let data = |name: &str| {
        let bytes = secret.data.as_ref()?.get(name)?;
        String::from_utf8(bytes.0.clone()).ok()
    };
    let annotations = secret.annotations();
    let key = data(KEY)?;
    let digest = KeyDigest::of(&key);
    if annotations.get(DIGEST).and_then(|text| KeyDigest::from_hex(text)) != Some(digest) {
        return None;
    }
    Some(Held {
        digest,
        prefix: shown_prefix(&key).to_owned(),
        minted: annotations.get(MINTED)?.parse().ok()?,
        serial: annotations.get(SERIAL)?.parse().ok()?,
        replaced: serde_json::from_str(annotations.get(PREVIOUS)?).ok()?,
        endpoint: data(ENDPOINT).unwrap_or_default(),
    })
}

/// The Secret that holds `key` for an ApiKey. `held` describes the key; it is what [`read`] gives back.
pub fn write(object: &ApiKey, key: &str, held: &Held) -> Secret {
    let text = |value: &str| ByteString(value.as_bytes().to_vec());
    Secret {
        metadata: ObjectMeta {
            name: Some(name(object)),
            namespace: object.namespace(),
            annotations: Some(annotations(held)),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), "meterplane".to_owned())].into()),
            owner_references: Some(vec![controller_of(object)]),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some([(KEY.to_owned(), text(key)), (ENDPOINT.to_owned(), text(&held.endpoint))].into()),
        ..Secret::default()
    }
}

/// What is written on a Secret about the keys in and before it.
pub fn annotations(held: &Held) -> BTreeMap<String, String> {
    [
        (DIGEST, held.digest.to_string()),
        (MINTED, held.minted.to_string()),
        (SERIAL, held.serial.to_string()),
        // A list of plain values always has a JSON form.
        (PREVIOUS, serde_json::to_string(&held.replaced).unwrap_or_default()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The part of a Secret that changes when only the endpoint or the replaced keys do.
pub fn without_key(held: &Held) -> serde_json::Value {
    serde_json::json!({
        "metadata": {"annotations": annotations(held)},
        "data": {ENDPOINT: ByteString(held.endpoint.as_bytes().to_vec())},
    })
}
