//! What stands in and on the Secret of a tenant's query user.

use std::collections::BTreeMap;

use clickhouse::Address;
use crds::Tenant;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use policy::apikey::KeyDigest;

use crate::controllers::write::controller_of;

/// Type of these Secrets.
pub const TYPE: &str = "meterplane.io/clickhouse-user";
const PASSWORD: &str = "CLICKHOUSE_PASSWORD";
const DIGEST: &str = "meterplane.io/password-sha256";

/// Where the user is used, beside its password: the rest of the Secret, under the names that ClickHouse's own tools read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// HTTP address of ClickHouse.
    pub address: Address,
    /// The user.
    pub user: String,
    /// The database.
    pub database: String,
}

/// What was found under the Secret's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Absent,
    /// Our Secret of this Tenant, with a password that fits its digest.
    Whole {
        /// The password.
        password: String,
        /// The rest is as it should be.
        current: bool,
    },
    /// Our Secret of this Tenant, without one.
    Damaged,
    /// Our Secret of a Tenant of the same name that is gone: it is about to be collected.
    Leftover,
    /// Somebody else's.
    Foreign,
}

/// Name of the Secret.
pub fn name(tenant: &Tenant) -> String {
    format!("{}-clickhouse", tenant.name_any())
}

/// Reads a Secret.
pub fn read(tenant: &Tenant, secret: Option<&Secret>, access: &Access) -> Found {
    let Some(secret) = secret else { return Found::Absent };
    let (kind, own) = (Tenant::kind(&()), tenant.name_any());
    let owner = secret.owner_references().iter().find(|owner| owner.kind == kind && owner.name == own);
    match owner {
        _ if secret.type_.as_deref() != Some(TYPE) => Found::Foreign,
        None => Found::Foreign,
        Some(owner) if Some(&owner.uid) != tenant.metadata.uid.as_ref() => Found::Leftover,
        Some(_) => whole(secret, access).unwrap_or(Found::Damaged),
    }
}

fn whole(secret: &Secret, access: &Access) -> Option<Found> {
    let found = secret.data.as_ref()?;
    let password = String::from_utf8(found.get(PASSWORD)?.0.clone()).ok()?;
    let digest = KeyDigest::from_hex(secret.annotations().get(DIGEST)?)?;
    if KeyDigest::of(&password) != digest {
        return None;
    }
    let current = data(&password, access) == *found;
    Some(Found::Whole { password, current })
}

/// The Secret that holds `password`; [`read`] gives it back.
pub fn write(tenant: &Tenant, namespace: &str, password: &str, access: &Access) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name(tenant)),
            namespace: Some(namespace.to_owned()),
            annotations: Some([(DIGEST.to_owned(), KeyDigest::of(password).to_string())].into()),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), "meterplane".to_owned())].into()),
            owner_references: Some(vec![controller_of(tenant)]),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(data(password, access)),
        ..Secret::default()
    }
}

fn data(password: &str, access: &Access) -> BTreeMap<String, ByteString> {
    let (url, port) = (access.address.url(), access.address.port().to_string());
    [
        ("CLICKHOUSE_URL", url.as_str()),
        ("CLICKHOUSE_HOST", access.address.host()),
        ("CLICKHOUSE_PORT", &port),
        ("CLICKHOUSE_DATABASE", &access.database),
        ("CLICKHOUSE_USER", &access.user),
        (PASSWORD, password),
    ]
    .map(|(name, value)| (name.to_owned(), ByteString(value.as_bytes().to_vec())))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::tenant::validate::tests::acme;

    fn access() -> Access {
        let address = "http://ch.example:8124".parse().unwrap();
        Access { address, user: "tenant_acme".into(), database: "tenant_acme".into() }
    }

    #[test]
    fn a_secret_is_read_back_and_is_ready_for_tools() {
        let secret = write(&acme(|_| {}), "acme", "s3cret", &access());
        let whole = |current| Found::Whole { password: "s3cret".into(), current };
        assert_eq!(read(&acme(|_| {}), Some(&secret), &access()), whole(true));
        let moved = Access { address: "http://other:1".parse().unwrap(), ..access() };
        assert_eq!(read(&acme(|_| {}), Some(&secret), &moved), whole(false));
        let data = secret.data.unwrap();
        let text = |name: &str| String::from_utf8(data[name].0.clone()).unwrap();
        assert_eq!((text("CLICKHOUSE_HOST"), text("CLICKHOUSE_PORT")), ("ch.example".into(), "8124".into()));
        assert_eq!((data.len(), secret.metadata.name.as_deref()), (6, Some("acme-clickhouse")));
    }

    #[test]
    fn only_a_secret_of_this_very_tenant_is_ours() {
        let ours = write(&acme(|_| {}), "acme", "s3cret", &access());
        let read = |change: fn(&mut Secret)| {
            let mut secret = ours.clone();
            change(&mut secret);
            super::read(&acme(|_| {}), Some(&secret), &access())
        };
        assert_eq!(read(|secret| secret.type_ = Some("Opaque".into())), Found::Foreign);
        assert_eq!(read(|secret| secret.metadata.owner_references = None), Found::Foreign);
        let earlier = |secret: &mut Secret| {
            secret.metadata.owner_references.iter_mut().flatten().for_each(|owner| owner.uid = "u-1".into());
        };
        assert_eq!(read(earlier), Found::Leftover);
        let changed = |secret: &mut Secret| {
            secret.data.iter_mut().flatten().for_each(|(_, value)| value.0 = b"mine".to_vec());
        };
        assert_eq!(read(changed), Found::Damaged);
    }
}
