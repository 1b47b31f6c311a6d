//! What Vault must hold before our processes log in: the transit engine, the login by service account token, a policy and a role
//! a process, and the key that signs snapshots. Every step may be repeated.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::apiserver::{ISSUER, PUBLIC_KEY};
use super::cluster::{NAMESPACE, WITH_VAULT};
use super::site::Site;
use super::vault::Init;
use crate::{Error, Result};
use event::names::SIGNING_KEY;

/// Name among the secrets of the public keys that pods trust; they mount it as a file.
pub(super) const TRUST: &str = "trust.json";

/// Keys of tenants and their policies, signatures of snapshots. The signing key itself stays out of the operator's reach.
const OPERATOR: &str = r#"
path "transit/keys" { capabilities = ["list"] }
path "transit/keys/mp-*" { capabilities = ["create", "read", "update", "delete"] }
path "sys/policies/acl" { capabilities = ["list"] }
path "sys/policies/acl/mp-*" { capabilities = ["create", "read", "update", "delete"] }
path "sys/policy/mp-*" { capabilities = ["create", "read", "update", "delete"] }
path "transit/keys/mp-platform-snapshots" { capabilities = ["read"] }
path "transit/keys/mp-platform-snapshots/*" { capabilities = ["deny"] }
path "transit/sign/mp-platform-snapshots" { capabilities = ["update"] }
path "transit/sign/mp-platform-snapshots/*" { capabilities = ["update"] }
"#;

/// Pseudonym keys: derived, never created; with upsert off, a shredded key stays shredded.
const PSEUDONYMS: &str = r#"
path "transit/hmac/mp-*" { capabilities = ["update"] }
path "transit/hmac/mp-platform-snapshots" { capabilities = ["deny"] }
path "transit/hmac/mp-platform-snapshots/*" { capabilities = ["deny"] }
"#;

/// Brings an unsealed Vault to that state.
pub(super) fn prepare(site: &Site, init: &Init) -> Result<()> {
    let admin = Admin { site, url: site.url("vault")?, token: &init.root_token };
    if admin.read("sys/mounts")?.get("transit/").is_none() {
        admin.write("sys/mounts/transit", &json!({"type": "transit"}))?;
    }
    admin.write("transit/config/keys", &json!({"disable_upsert": true}))?;
    if admin.read("sys/auth")?.get("jwt/").is_none() {
        admin.write("sys/auth/jwt", &json!({"type": "jwt"}))?;
    }
    let key = site.secrets.get(PUBLIC_KEY)?;
    admin.write("auth/jwt/config", &json!({"jwt_validation_pubkeys": [key], "bound_issuer": ISSUER}))?;
    for account in WITH_VAULT {
        let policy = if account == "operator" { OPERATOR } else { PSEUDONYMS };
        admin.write(&format!("sys/policies/acl/{account}"), &json!({"policy": policy}))?;
        admin.write(&format!("auth/jwt/role/{account}"), &role(account))?;
    }
    admin.write(&format!("transit/keys/{SIGNING_KEY}"), &json!({"type": "ed25519"}))?;
    let key = admin.read(&format!("transit/keys/{SIGNING_KEY}"))?;
    site.secrets.put(TRUST, &trust(&key)?)
}

/// Who may log in as this process: its service account, with a token meant for Vault.
fn role(account: &str) -> Value {
    json!({
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": ["vault"],
        "bound_subject": format!("system:serviceaccount:{NAMESPACE}:{account}"),
        "token_policies": [account],
        "token_ttl": "1h",
        "token_max_ttl": "24h",
    })
}

/// The trust file: every version of the signing key that Vault still knows.
fn trust(key: &Value) -> Result<String> {
    let versions = key.get("keys").and_then(Value::as_object);
    let public: BTreeMap<&str, &str> = versions
        .into_iter()
        .flatten()
        .filter_map(|(version, key)| Some((version.as_str(), key.get("public_key")?.as_str()?)))
        .collect();
    if public.is_empty() {
        let what = format!("vault's transit key {SIGNING_KEY}");
        return Err(Error::Format { what, detail: "it has no public key".into() });
    }
    Ok(json!({ "keys": public }).to_string())
}

/// Vault's API as the administrator.
struct Admin<'a> {
    site: &'a Site,
    url: String,
    token: &'a str,
}

impl Admin<'_> {
    fn read(&self, path: &str) -> Result<Value> {
        let headers = [("x-vault-token", self.token)];
        let answer = self.site.http.get(&format!("{}/v1/{path}", self.url), &headers)?;
        Ok(answer.accepted(&format!("reading {path} of vault"))?.json()["data"].take())
    }

    fn write(&self, path: &str, body: &Value) -> Result<()> {
        let headers = [("x-vault-token", self.token)];
        let answer = self.site.http.send_json("POST", &format!("{}/v1/{path}", self.url), &headers, body)?;
        answer.accepted(&format!("writing {path} of vault")).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_bound_to_one_service_account_and_to_vault() {
        let role = role("ingest");
        assert_eq!(role["bound_subject"], "system:serviceaccount:meterplane-system:ingest");
        assert_eq!(role["bound_audiences"], json!(["vault"]));
        assert_eq!(role["token_policies"], json!(["ingest"]));
    }

    #[test]
    fn the_trust_file_lists_every_version() {
        let key = json!({"keys": {"1": {"public_key": "a="}, "2": {"public_key": "b="}}});
        assert_eq!(trust(&key).unwrap(), r#"{"keys":{"1":"a=","2":"b="}}"#);
        assert!(trust(&json!({"keys": {}})).is_err());
    }

    #[test]
    fn the_policies_name_the_signing_key() {
        assert!(OPERATOR.contains(&format!("transit/sign/{SIGNING_KEY}\"")));
        assert!(PSEUDONYMS.contains(&format!("transit/hmac/{SIGNING_KEY}\" {{ capabilities = [\"deny\"]")));
    }
}
