//! A tenant's slice of the three systems: looked at when the Tenant or its plan changes and every few minutes, not at
//! every change of a limit or key.

use std::collections::HashMap;
use std::time::Duration;

use crds::tenant::Adoption;
use crds::{Tenant, tenant};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use policy::snapshot::Snapshot;
use tokio::time::Instant;

use super::apply::{Permission, apply};
use super::build::{Desired, build};
use super::dereference::dereference;
use super::validate::{Validated, claim};
use super::{FINALIZER, Hindrance};
use crate::context::Context;
use crate::controllers::write;

/// Where a tenant lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// UID of the first Tenant that owned the data.
    pub lineage: String,
    /// The lane's stream.
    pub stream: String,
    /// The database.
    pub database: String,
    /// The key.
    pub key: String,
    /// How it is isolated.
    pub isolation: tenant::Isolation,
}

/// Slices that were found or made complete lately.
#[derive(Default)]
pub struct Slices {
    verified: Mutex<HashMap<String, Verified>>,
    granted: Mutex<HashMap<String, Instant>>,
}

struct Verified {
    validated: Validated,
    at: Instant,
    placement: Placement,
}

impl Slices {
    /// Forgets a tenant: the next round looks again.
    pub fn forget(&self, tenant: &str) {
        self.verified.lock().remove(tenant);
    }

    /// Whether rights were granted in a namespace since the last full look at its tenant.
    pub fn is_granted(&self, namespace: &str) -> bool {
        self.granted.lock().contains_key(namespace)
    }

    /// Whether rights were granted a moment ago: the kube-apiserver may not know them yet.
    pub fn granted_lately(&self, namespace: &str) -> bool {
        self.granted.lock().get(namespace).is_some_and(|at| at.elapsed() < Duration::from_secs(5))
    }

    /// Notes that rights were granted or taken in a namespace.
    pub fn note_granted(&self, namespace: &str, granted: bool) {
        let mut all = self.granted.lock();
        if granted {
            all.insert(namespace.to_owned(), Instant::now());
        } else {
            all.remove(namespace);
        }
    }

    fn fresh(&self, tenant: &str, validated: &Validated, within: Duration) -> Option<Placement> {
        let verified = self.verified.lock();
        let known = verified.get(tenant)?;
        (known.validated == *validated && known.at.elapsed() < within).then(|| known.placement.clone())
    }

    fn note(&self, tenant: &str, validated: Validated, placement: Placement) {
        self.verified.lock().insert(tenant.to_owned(), Verified { validated, at: Instant::now(), placement });
    }
}

/// Makes sure that the tenant has its stream, database and key. `stored` is its snapshot: it is published only when all
/// three exist, so a tenant that has one and lacks one of the three has lost it.
///
/// # Errors
/// What is in the way.
pub async fn ensure(
    ctx: &Context,
    tenant: &Tenant,
    validated: &Validated,
    stored: Option<&Snapshot>,
) -> Result<Placement, Hindrance> {
    let name = tenant.name_any();
    // Half the resync time: the round that resync asks for always looks.
    if let Some(placement) = ctx.slices.fresh(&name, validated, ctx.settings.resync / 2) {
        return Ok(placement);
    }
    ctx.slices.forget(&name);
    let desired = verify(ctx, tenant, validated, stored).await?;
    let placement = Placement {
        lineage: desired.stamp.lineage,
        stream: desired.stream.name,
        database: desired.database.name,
        key: desired.key.tenant.transit_key(),
        isolation: tenant::Isolation::Dedicated,
    };
    for namespace in &tenant.spec.namespaces {
        ctx.slices.note_granted(namespace, false);
    }
    ctx.slices.note(&name, validated.clone(), placement.clone());
    Ok(placement)
}

async fn verify(
    ctx: &Context,
    tenant: &Tenant,
    validated: &Validated,
    stored: Option<&Snapshot>,
) -> Result<Desired, Hindrance> {
    let name = tenant.name_any().parse().map_err(|error: event::names::InvalidTenantName| {
        Hindrance::Stalled(crate::conditions::Why::new("Invalid", error.to_string()))
    })?;
    let found = dereference(&ctx.nats, &ctx.clickhouse, &ctx.vault, &name).await;
    let stamps = found.found(&name)?;
    let stamps: Vec<_> = stamps.iter().map(|(what, found)| (what.as_str(), found.clone())).collect();
    let claim =
        claim(&ctx.settings.installation, name.as_str(), validated, &stamps).map_err(Hindrance::Refused)?;
    let desired = build(&name, validated, &claim.stamp, found.stream.present(), &ctx.settings)
        .map_err(Hindrance::Stalled)?;
    // From here on we own something, so from here on a deletion has to be waited for; never before.
    let api: Api<Tenant> = Api::all(ctx.kube.clone());
    write::finalizer(&api, &ctx.tenants, tenant, FINALIZER, true).await?;
    let had_all = stored.is_some_and(|snapshot| snapshot.lineage == claim.stamp.lineage);
    let permission =
        Permission { adopt: claim.adopt, must_exist: had_all && validated.adoption != Adoption::Force };
    apply((&ctx.nats, &ctx.clickhouse, &ctx.vault), &desired, found, permission).await?;
    Ok(desired)
}
