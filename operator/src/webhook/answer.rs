//! What is said about an object before it is written.
//!
//! What the controllers would refuse of the object's own content is refused. What rests on other objects is a warning: GitOps applies in
//! any order. Whatever was wrong before the edit in the same way is a warning as well, so that the rest of the object can be edited.

use std::sync::Arc;

use crds::{Plan, PlanSpec, Tenant};
use kube::{Resource, ResourceExt};

use super::known::Known;
use super::plan_edit::tightened;
use super::review::{Answer, Edit, Proposed};
use crate::conditions::Why;
use crate::context::Settings;
use crate::controllers::{plan, tenant};
use crate::snapshot::judge::{self, Judged};

/// Longest warning, characters; kubectl and the kube-apiserver cut what is longer.
const WARNING_MAX: usize = 120;
/// Most warnings.
const WARNINGS_MAX: usize = 6;

/// What is said about `proposed`.
pub fn answer(proposed: &Proposed, known: &Known, settings: &Settings) -> Answer {
    let (refused, warnings) = match proposed {
        Proposed::Plan(edit) => judge_edit(edit, plan::validate::validate, || about_plan(edit, known)),
        Proposed::Tenant(edit) => {
            let own = |tenant: &Tenant| by_itself(tenant, settings);
            judge_edit(edit, own, || about_tenant(&edit.new, known, settings))
        }
        Proposed::UsageLimit(edit) => {
            let among_others = || among(&edit.new, &known.limits, known, judge::limits);
            judge_edit(edit, |limit| alone(limit, judge::limits), among_others)
        }
        Proposed::AccessPolicy(edit) => {
            let among_others = || among(&edit.new, &known.access, known, judge::access);
            judge_edit(edit, |policy| alone(policy, judge::access), among_others)
        }
    };
    Answer { refused, warnings: bounded(warnings) }
}

/// `own` judges an object by itself; `others` warns of what rests on other objects, when nothing is wrong with this one.
fn judge_edit<K: Resource>(
    edit: &Edit<K>,
    own: impl Fn(&K) -> Result<(), Why>,
    others: impl FnOnce() -> Vec<String>,
) -> (Option<String>, Vec<String>) {
    if edit.new.meta().deletion_timestamp.is_some() {
        return (None, Vec::new());
    }
    match (own(&edit.new), edit.old.as_ref().map(own)) {
        (Ok(()), _) => (None, others()),
        (Err(why), Some(Err(before))) if is_same(&why, &before) => (None, vec![why.message]),
        (Err(why), _) => (Some(why.message), Vec::new()),
    }
}

/// Whether the same is wrong, wherever it stands now: an entry that is put before it moves it to another place of its list.
fn is_same(why: &Why, before: &Why) -> bool {
    let plain = |why: &Why| why.message.replace(|c: char| c.is_ascii_digit(), "");
    why.reason == before.reason && plain(why) == plain(before)
}

fn about_plan(edit: &Edit<Plan>, known: &Known) -> Vec<String> {
    let Some(old) = edit.old.as_ref().filter(|_| known.tenants > 0) else { return Vec::new() };
    let name = edit.new.name_any();
    let count = match known.tenants {
        1 => format!("1 tenant uses plan {name}: what changes applies to it"),
        many => format!("{many} tenants use plan {name}: what changes applies to all of them"),
    };
    std::iter::once(count).chain(tightened(&old.spec, &edit.new.spec)).collect()
}

/// With a plan that says nothing, what is wrong is wrong in the Tenant itself.
fn by_itself(tenant: &Tenant, settings: &Settings) -> Result<(), Why> {
    let silent = PlanSpec {
        display_name: None,
        isolation: None,
        pool: None,
        limits: Vec::new(),
        ceilings: None,
        retention: None,
    };
    let silent = Plan::new("", silent);
    tenant::validate::validate(tenant, Some(&silent), settings)
        .map(drop)
        .map_err(|refusal| refusal.why().clone())
}

fn about_tenant(tenant: &Tenant, known: &Known, settings: &Settings) -> Vec<String> {
    let judged = tenant::validate::validate(tenant, known.plan.as_deref(), settings);
    judged.err().map(|refusal| refusal.why().message.clone()).into_iter().collect()
}

/// Judges the objects of one tenant, in their order.
type Judge<K, R> = fn(Option<&Plan>, &[Arc<K>]) -> Vec<Judged<R>>;

/// The object by itself, with no plan.
fn alone<K: Clone, R>(object: &K, judge: Judge<K, R>) -> Result<(), Why> {
    judge(None, &[Arc::new(object.clone())]).into_iter().try_for_each(|judged| judged.verdict.map(drop))
}

/// The object behind its siblings, with the tenant's plan.
fn among<K: Resource + Clone, R>(
    object: &K,
    siblings: &[Arc<K>],
    known: &Known,
    judge: Judge<K, R>,
) -> Vec<String> {
    if known.tenant.is_none() {
        return vec![nobodys(object)];
    }
    let all: Vec<_> = siblings.iter().cloned().chain(std::iter::once(Arc::new(object.clone()))).collect();
    let own = judge(known.plan.as_deref(), &all).pop();
    own.and_then(|judged| judged.verdict.err()).map(|why| why.message).into_iter().collect()
}

fn nobodys<K: Resource>(object: &K) -> String {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    format!("namespace {namespace} does not belong to a tenant: this has no effect until it does")
}

/// At most [`WARNINGS_MAX`], each at most [`WARNING_MAX`] long.
fn bounded(mut warnings: Vec<String>) -> Vec<String> {
    if warnings.len() > WARNINGS_MAX {
        let more = warnings.len() - (WARNINGS_MAX - 1);
        warnings.truncate(WARNINGS_MAX - 1);
        warnings.push(format!("and {more} more"));
    }
    warnings.into_iter().map(shortened).collect()
}

/// One line: a warning travels in a header, and one with a line break is dropped without a word.
fn shortened(text: String) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= WARNING_MAX {
        return text;
    }
    text.chars().take(WARNING_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
