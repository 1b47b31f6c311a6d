//! What the caches hold about an object that is to be written; all from memory.

use std::sync::Arc;

use crds::condition::{ConditionStatus, PROGRAMMED, find};
use crds::{AccessPolicy, Plan, Tenant, UsageLimit};
use kube::ResourceExt;

use super::review::Proposed;
use crate::caches::Caches;
use crate::engine::{Cache, ObjectKey};
use crate::snapshot::judge;

/// What is known about the object in question.
#[derive(Debug, Default)]
pub struct Known {
    /// Tenants on the Plan in question.
    pub tenants: usize,
    /// The tenant that the namespace belongs to, or that is in question itself.
    pub tenant: Option<Arc<Tenant>>,
    /// Its plan, if there is one of that name.
    pub plan: Option<Arc<Plan>>,
    /// UsageLimits of its namespaces, but for the one in question.
    pub limits: Vec<Arc<UsageLimit>>,
    /// AccessPolicies of its namespaces, but for the one in question.
    pub access: Vec<Arc<AccessPolicy>>,
}

impl Known {
    /// Looks it up.
    pub fn about(caches: &Caches, proposed: &Proposed) -> Self {
        match proposed {
            Proposed::Plan(edit) => Self::about_plan(caches, &edit.new.name_any()),
            Proposed::Tenant(edit) => {
                let plan = caches.plans.get(&ObjectKey::cluster(&edit.new.spec.plan_ref.name));
                Self { plan, ..Self::default() }
            }
            Proposed::UsageLimit(edit) => {
                let key = ObjectKey::of(&edit.new);
                let mut known = Self::about_namespace(caches, &key.namespace);
                known.limits = known.siblings(&caches.limits, &key);
                known
            }
            Proposed::AccessPolicy(edit) => {
                let key = ObjectKey::of(&edit.new);
                let mut known = Self::about_namespace(caches, &key.namespace);
                known.access = known.siblings(&caches.access, &key);
                known
            }
        }
    }

    fn about_plan(caches: &Caches, name: &str) -> Self {
        let tenants = caches.tenants.select(|tenant| tenant.spec.plan_ref.name == name).len();
        Self { tenants, ..Self::default() }
    }

    /// Of several tenants that name a namespace the oldest is taken: what the snapshots record only the leader knows.
    fn about_namespace(caches: &Caches, namespace: &str) -> Self {
        let names = |tenant: &Tenant| tenant.spec.namespaces.iter().any(|name| name == namespace);
        let claimants = caches.tenants.select(names);
        let tenant =
            claimants.into_iter().min_by_key(|tenant| (judge::created(tenant.as_ref()), tenant.name_any()));
        let plan = tenant
            .as_ref()
            .and_then(|tenant| caches.plans.get(&ObjectKey::cluster(&tenant.spec.plan_ref.name)));
        Self { tenant, plan, ..Self::default() }
    }

    fn siblings<K: kube::Resource>(&self, cache: &Cache<K>, but: &ObjectKey) -> Vec<Arc<K>> {
        let namespaces = self.tenant.iter().flat_map(|tenant| &tenant.spec.namespaces);
        let all = namespaces.flat_map(|namespace| cache.in_namespace(namespace));
        all.filter(|object| ObjectKey::of(object.as_ref()) != *but).collect()
    }

    /// The tenant, if its database is there.
    pub fn placed(&self) -> Option<&Tenant> {
        let tenant = self.tenant.as_deref()?;
        let conditions = &tenant.status.as_ref()?.conditions;
        find(conditions, PROGRAMMED).filter(|said| said.status == ConditionStatus::True).map(|_| tenant)
    }
}
