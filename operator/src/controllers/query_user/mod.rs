//! A tenant's own ClickHouse user, if its Tenant asks for one: made, tried, and only then handed out in a Secret.
//!
//! Workers of its own: nothing of metering or limits depends on it, so nothing waits for it. The Secret is the source of truth for the
//! password. Crash order: user, trial, Secret; a user whose Secret was not written gets another password.

mod secret;
mod settle;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clickhouse::query_users::{Owner, PasswordHash, QueryUserSpec, trial};
use crds::Tenant;
use crds::tenant::QueryUser;
use event::{Stamp, TenantName};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use policy::apikey::KeyDigest;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::conditions::Why;
use crate::context::Context;
use crate::controllers::orders::{Mode, Orders};
use crate::controllers::settle::Hindrance;
use crate::controllers::write::MANAGER;
use crate::engine::ObjectKey;
use crate::engine::queue::{Action, spread};
use crate::errors::{Failure, System};
use secret::{Access, Found};
pub use settle::remove;

/// Longest time that one look may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Pause before the next look while something is still to come.
const WAIT: Duration = Duration::from_secs(5);

/// A look: what was asked for then, and what came of it.
type Look = (QueryUser, Result<(), Hindrance>);

/// What the last look at each tenant's query user said.
#[derive(Default)]
pub struct Looks(Mutex<HashMap<String, Look>>);

impl Looks {
    /// What was said of a tenant that asks for this.
    pub fn get(&self, tenant: &str, wanted: &QueryUser) -> Option<Result<(), Hindrance>> {
        let looks = self.0.lock();
        looks.get(tenant).filter(|(asked, _)| asked == wanted).map(|(_, result)| result.clone())
    }

    /// Notes what was said; true when it is new.
    fn note(&self, tenant: &str, wanted: &QueryUser, result: Result<(), Hindrance>) -> bool {
        let look = (wanted.clone(), result);
        self.0.lock().insert(tenant.to_owned(), look.clone()) != Some(look)
    }

    fn forget(&self, tenant: &str) {
        self.0.lock().remove(tenant);
    }
}

/// Whose users are the tenant's.
pub fn owner(ctx: &Context, tenant: &TenantName) -> Owner {
    Owner { installation: ctx.settings.installation.clone(), tenant: tenant.clone() }
}

/// Where a tenant's Secret stands, for people.
pub fn place(tenant: &Tenant, wanted: &QueryUser) -> String {
    format!("{}/{}", wanted.namespace, secret::name(tenant))
}

/// Looks at one tenant's query user; the Tenant's own round says what came of it.
///
/// # Errors
/// The failure that kept it from its end.
pub async fn reconcile(ctx: Arc<Context>, key: ObjectKey) -> Result<Action, Failure> {
    let tenant = ctx.caches.tenants.get(&key).filter(|tenant| tenant.metadata.deletion_timestamp.is_none());
    // The CRD's rules admit no other names.
    let (Some(tenant), Ok(name)) = (tenant, key.name.parse::<TenantName>()) else {
        ctx.query_users.forget(&key.name);
        return Ok(Action::Await);
    };
    let Some(wanted) = &tenant.spec.query_user else {
        ctx.query_users.forget(&key.name);
        remove(&ctx.users, &owner(&ctx, &name)).await?;
        return Ok(Action::Await);
    };
    if Orders::of(tenant.as_ref()).mode != Mode::Active {
        return Ok(Action::Await);
    }
    let look = tokio::time::timeout(LIMIT, look(&ctx, &tenant, &name, wanted));
    let result = look.await.unwrap_or_else(|_| {
        let detail = format!("no end within {} s", LIMIT.as_secs());
        Err(Failure::unknown(System::ClickHouse, detail).into())
    });
    // Rights that were granted a moment ago are not worth a word.
    let early = matches!(&result, Err(Hindrance::Failed(Failure::Denied { system: System::Kubernetes, .. })))
        && ctx.slices.granted_lately(&wanted.namespace);
    if !early && ctx.query_users.note(&key.name, wanted, result.clone()) {
        ctx.queues.tenant.add(key.clone());
    }
    match result {
        Err(Hindrance::Failed(failure)) => Err(failure),
        Err(Hindrance::Waiting(_)) => Ok(Action::After(WAIT)),
        Ok(()) | Err(_) => Ok(Action::After(ctx.settings.resync.mul_f64(0.8 + 0.4 * spread(&key, 0)))),
    }
}

async fn look(
    ctx: &Context,
    tenant: &Tenant,
    name: &TenantName,
    wanted: &QueryUser,
) -> Result<(), Hindrance> {
    let namespace = &wanted.namespace;
    if !ctx.belonging.claims(name.as_str()).held.contains(namespace) {
        let message = format!("the tenant does not hold namespace {namespace}: see NamespacesClaimed");
        return Err(Hindrance::Waiting(Why::new("NamespaceNotHeld", message)));
    }
    // With rights in its namespace and a snapshot it is in place: the database is there, and its own. Rights are granted anew after
    // each look at the slice; who had them has them.
    let looked = ctx.query_users.get(name.as_str(), wanted);
    let had = matches!(looked, Some(Ok(()) | Err(Hindrance::Stalled(_))));
    let placed = ctx.publications.get(name.as_str()).filter(|_| had || ctx.slices.is_granted(namespace));
    let Some(placed) = placed else {
        return Err(Hindrance::Waiting(Why::new("WaitingForTenant", "the tenant is not in place yet")));
    };
    let access = Access {
        address: ctx.settings.query_address.clone(),
        user: name.query_user(),
        database: name.database(),
    };
    let api: Api<Secret> = Api::namespaced(ctx.kube.clone(), namespace);
    let there = api.get_opt(&secret::name(tenant)).await.map_err(Failure::from)?;
    let found = secret::read(tenant, there.as_ref(), &access);
    let password = password(&found, &place(tenant, wanted))?;
    let stamp = Stamp {
        installation: ctx.settings.installation.clone(),
        tenant: name.as_str().to_owned(),
        uid: tenant.uid().unwrap_or_default(),
        lineage: placed.snapshot.lineage.clone(),
        released: false,
    };
    let spec = QueryUserSpec::new(name, &stamp, PasswordHash(KeyDigest::of(&password).0));
    let owner = owner(ctx, name);
    settle::settle(&ctx.users, &spec, &owner).await?;
    attempt(ctx, &spec, &password, &owner).await?;
    if !matches!(found, Found::Whole { current: true, .. }) {
        put(&api, tenant, there.as_ref(), &secret::write(tenant, namespace, &password, &access)).await?;
        tracing::info!(tenant = name.as_str(), namespace, "the query user's Secret was written");
    }
    Ok(())
}

/// The password to go on with: the one in the Secret, or a new one.
fn password(found: &Found, place: &str) -> Result<String, Hindrance> {
    match found {
        Found::Whole { password, .. } => Ok(password.clone()),
        // Whoever could change the Secret could read the password in it.
        Found::Absent | Found::Damaged => Ok(new_password()?),
        Found::Leftover => {
            let message = format!("Secret {place} of an earlier Tenant of this name is being collected");
            Err(Hindrance::Waiting(Why::new("WaitingForCollection", message)))
        }
        Found::Foreign => {
            let message =
                format!("Secret {place} exists and was not created for this Tenant; it is not touched");
            Err(Hindrance::Stalled(Why::new("SecretNotOurs", message)))
        }
    }
}

/// Tries the walls as the user itself. A server that does not hold it in gets no such user.
async fn attempt(
    ctx: &Context,
    spec: &QueryUserSpec,
    password: &str,
    owner: &Owner,
) -> Result<(), Hindrance> {
    let client = clickhouse::Client::new(ctx.settings.clickhouse.endpoint(&spec.user, password));
    match trial(&client, &spec.database).await {
        Ok(None) => Ok(()),
        Ok(Some(breach)) => {
            remove(&ctx.users, owner).await?;
            Err(settle::walls_open(&spec.user, breach))
        }
        // Its password was changed behind our back: it is made anew in the next look.
        Err(error) if error.code() == Some(clickhouse::error::code::AUTHENTICATION_FAILED) => {
            remove(&ctx.users, owner).await?;
            Err(Failure::Conflict { system: System::ClickHouse, detail: error.to_string() }.into())
        }
        Err(error) => Err(Failure::from(error).into()),
    }
}

/// Writes the Secret; what is there was found to be ours, and is replaced only if it is still the same.
async fn put(
    api: &Api<Secret>,
    tenant: &Tenant,
    there: Option<&Secret>,
    wanted: &Secret,
) -> Result<(), Failure> {
    let manager = Some(MANAGER.to_owned());
    let Some(there) = there else {
        let params = PostParams { field_manager: manager, ..PostParams::default() };
        api.create(&params, wanted).await?;
        return Ok(());
    };
    let patch = json!({
        "metadata": {
            "resourceVersion": there.resource_version(),
            "annotations": wanted.metadata.annotations,
        },
        "data": wanted.data,
    });
    let params = PatchParams { field_manager: manager, ..PatchParams::default() };
    api.patch(&secret::name(tenant), &params, &Patch::Merge(patch)).await?;
    Ok(())
}

/// 256 random bits in hexadecimal: no tool has to quote them.
fn new_password() -> Result<String, Failure> {
    let mut random = [0_u8; 32];
    let failed =
        |_| Failure::Defect { system: System::Kubernetes, detail: "no randomness for a password".to_owned() };
    SystemRandom::new().fill(&mut random).map_err(failed)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
