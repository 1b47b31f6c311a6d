//! What every implementation of [`TransitKeys`] must do. It is run on the fake in unit tests and on a real server in system
//! tests; it uses a key of its own and destroys it. A failure panics with what was expected.

use event::{Claim, Observed, Stamp, TenantName};

use super::{
    Blocked, Expectation, KeyError, KeySpec, KeyState, KeyStep, Plan, TransitKeys, adopt, plan, release,
};

const TENANT: &str = "contract-keys";

/// Runs all of it.
pub async fn run(keys: &impl TransitKeys) {
    let Ok(tenant) = TENANT.parse::<TenantName>() else {
        unreachable!("the name is a constant that is one");
    };
    let spec = KeySpec { stamp: stamp("u1"), tenant };
    remove(keys, &spec.tenant).await;
    a_key_is_made_and_then_left_alone(keys, &spec).await;
    steps_refuse_what_is_not_ours(keys, &spec).await;
    keys_are_released_and_adopted(keys, &spec).await;
    remove(keys, &spec.tenant).await;
    assert_eq!(keys.observe(&spec.tenant).await, Observed::Absent);
    let gone = plan(&spec, &Observed::Absent, Expectation::MustExist);
    assert_eq!(
        gone,
        Plan { steps: Vec::new(), blocked: Some(Blocked::Missing) },
        "a shredded key stays shredded"
    );
}

fn stamp(uid: &str) -> Stamp {
    let text = str::to_owned;
    Stamp {
        installation: text("contract"),
        tenant: text(TENANT),
        uid: text(uid),
        lineage: text("u0"),
        released: false,
    }
}

async fn remove(keys: &impl TransitKeys, tenant: &TenantName) {
    if let Some(stamp) = keys.observe(tenant).await.present().and_then(|state| state.stamp.clone()) {
        assert_eq!(keys.destroy(tenant, &stamp).await, Ok(()));
        assert_eq!(keys.destroy(tenant, &stamp).await, Ok(()), "again");
    }
}

async fn observed(keys: &impl TransitKeys, tenant: &TenantName) -> KeyState {
    let observed = keys.observe(tenant).await;
    assert!(observed.present().is_some(), "it is there: {observed:?}");
    observed.present().cloned().unwrap_or_else(|| unreachable!("asserted above"))
}

async fn execute(keys: &impl TransitKeys, plan: &Plan) {
    assert_eq!(plan.blocked, None);
    for step in &plan.steps {
        assert_eq!(keys.execute(step).await, Ok(()), "{step:?}");
        assert_eq!(keys.execute(step).await, Ok(()), "again: {step:?}");
    }
}

async fn a_key_is_made_and_then_left_alone(keys: &impl TransitKeys, spec: &KeySpec) {
    assert_eq!(keys.observe(&spec.tenant).await, Observed::Absent);
    let create = KeyStep::CreateKey { tenant: spec.tenant.clone(), stamp: spec.stamp.clone() };
    assert_eq!(
        keys.execute(&create).await,
        Err(KeyError::StampMismatch { found: None }),
        "no key without a stamp"
    );

    let made = plan(spec, &Observed::Absent, Expectation::MayCreate);
    // A step at a time: whoever is interrupted goes on from what is there.
    for _ in 0..made.steps.len() {
        let next = plan(spec, &keys.observe(&spec.tenant).await, Expectation::MayCreate);
        execute(keys, &Plan { steps: next.steps.into_iter().take(1).collect(), blocked: None }).await;
    }
    let state = observed(keys, &spec.tenant).await;
    assert_eq!(state.stamp.as_ref(), Some(&spec.stamp));
    let Some(key) = &state.key else { unreachable!("created above: {state:?}") };
    assert_eq!((key.kind.as_str(), key.versions.as_slice()), ("aes256-gcm96", [1].as_slice()));
    assert!(!key.exportable && !key.deletion_allowed);
    for expectation in [Expectation::MayCreate, Expectation::MustExist] {
        assert_eq!(plan(spec, &Observed::Present(state.clone()), expectation), Plan::default());
    }
}

async fn steps_refuse_what_is_not_ours(keys: &impl TransitKeys, spec: &KeySpec) {
    let before = observed(keys, &spec.tenant).await;
    let foreign = Stamp { installation: "another".to_owned(), ..spec.stamp.clone() };
    let theirs = KeySpec { stamp: foreign.clone(), ..spec.clone() };
    let blocked = plan(&theirs, &Observed::Present(before.clone()), Expectation::MayCreate).blocked;
    assert_eq!(blocked, Some(Blocked::Claimed(Claim::Foreign { found: Some(spec.stamp.clone()) })));

    let mismatch = Err(KeyError::StampMismatch { found: Some(spec.stamp.clone()) });
    let tenant = || spec.tenant.clone();
    for step in [
        KeyStep::WritePolicy { tenant: tenant(), from: None, to: foreign.clone() },
        KeyStep::CreateKey { tenant: tenant(), stamp: foreign.clone() },
        KeyStep::ForbidDeletion { tenant: tenant(), stamp: foreign.clone() },
    ] {
        assert_eq!(keys.execute(&step).await, mismatch, "{step:?}");
    }
    assert_eq!(keys.destroy(&spec.tenant, &foreign).await, mismatch);
    assert_eq!(observed(keys, &spec.tenant).await, before, "nothing has changed");
}

async fn keys_are_released_and_adopted(keys: &impl TransitKeys, spec: &KeySpec) {
    let owned = observed(keys, &spec.tenant).await;
    execute(keys, &Plan { steps: release(&owned).into_iter().collect(), blocked: None }).await;
    let released = observed(keys, &spec.tenant).await;
    assert_eq!(release(&released), None, "once");
    assert_eq!(released.key, owned.key, "the key itself stays");

    let heir = KeySpec { stamp: stamp("u2"), ..spec.clone() };
    let found = Stamp { released: true, ..spec.stamp.clone() };
    for claimant in [spec, &heir] {
        let blocked = plan(claimant, &Observed::Present(released.clone()), Expectation::MayCreate).blocked;
        assert_eq!(blocked, Some(Blocked::Claimed(Claim::RetainedData { found: found.clone() })));
    }
    let steps = adopt(&released, &heir.stamp).into_iter().collect();
    execute(keys, &Plan { steps, blocked: None }).await;
    let adopted = observed(keys, &spec.tenant).await;
    assert_eq!((adopted.stamp.as_ref(), &adopted.key), (Some(&heir.stamp), &owned.key));
    assert_eq!(adopt(&adopted, &heir.stamp), None, "once");
    assert_eq!(plan(&heir, &Observed::Present(adopted), Expectation::MustExist), Plan::default());
}
