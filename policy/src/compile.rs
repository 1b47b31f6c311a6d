//! From declared rules to a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use event::{Lane, TenantName, TenantNumber};

use crate::access::{Access, AccessPolicy, InvalidRule, MAX_POLICIES, MAX_RULES};
use crate::limit::{CountFrom, FailureMode, Limit, Match, Measure, Mode, Origin, Overridden, Per};
use crate::matching::Matcher;
use crate::snapshot::{ApiKey, EventWindow, Snapshot, TenantState};
use crate::window::{self, Window};

/// Most limits of one tenant: an event is charged by each that matches.
pub const MAX_LIMITS: usize = 200;

/// A rule as declared, with numbers resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInput {
    /// `plan.<name>` or `ns.<namespace>.<name>`.
    pub identity: String,
    /// The name people know it by; overrides refer to it.
    pub name: String,
    /// Who shares the quota.
    pub per: Per,
    /// Units a window.
    pub max: u64,
    /// The window.
    pub window: Window,
    /// Saved units of a rate.
    pub burst: u64,
    /// Units an event counts.
    pub measure: Measure,
    /// Which events count.
    pub matches: Match,
    /// What happens at the limit.
    pub mode: Mode,
    /// Share of the users, in percent, for whom `mode` holds.
    pub rollout_percent: u8,
    /// What happens when the ledger does not answer.
    pub failure_mode: FailureMode,
    /// Percentages at which answers warn.
    pub warn_at: Vec<u8>,
    /// Where it begins to count when it is new.
    pub count_from: CountFrom,
    /// The resource that said so.
    pub origin: Origin,
}

/// The only thing that exceeds a Plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Name of the Plan's limit.
    pub name: String,
    /// Units a window instead of the Plan's.
    pub max: u64,
    /// Last millisecond it holds; `None` = no end.
    pub until_ms: Option<i64>,
}

/// Everything a snapshot is made of.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// The tenant.
    pub tenant: TenantName,
    /// For people.
    pub display_name: String,
    /// UID of the first Tenant that owned the data.
    pub lineage: String,
    /// Whether its keys are served.
    pub state: TenantState,
    /// Where its events go.
    pub lane: Lane,
    /// Days after their time for which events are kept.
    pub retention_days: u32,
    /// IANA zone.
    pub time_zone: String,
    /// Accepted event times.
    pub event_window: EventWindow,
    /// Keys.
    pub keys: Vec<ApiKey>,
    /// Limits of the Plan.
    pub plan_limits: Vec<RuleInput>,
    /// Overrides of the Tenant.
    pub overrides: Vec<Override>,
    /// Limits of its namespaces.
    pub usage_limits: Vec<RuleInput>,
    /// Access policies of its namespaces.
    pub access: Vec<AccessPolicy>,
    /// Namespaces that belong to it.
    pub namespaces: Vec<String>,
    /// resourceVersion of every input list.
    pub versions: BTreeMap<String, String>,
    /// The snapshot in force, if any.
    pub previous: Option<&'a Snapshot>,
    /// Whether events may be stored that no limit of `previous` was charged for: then a new quota is seeded with them.
    pub has_history: bool,
    /// Limits of `previous` whose seeding has ended.
    pub seeded: BTreeSet<String>,
    /// The generation to give, `max(stored + 1, Unix milliseconds)`.
    pub generation: u64,
    /// Now, Unix milliseconds: which overrides hold.
    pub now_ms: i64,
}

/// A rule that is not in force as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The rule.
    pub identity: String,
    /// Path of what is wrong, relative to the rule.
    pub field: String,
    /// What is wrong, for people.
    pub message: String,
    /// Whether an older accepted form of the rule stays in force.
    pub kept_previous: bool,
}

/// A compiled snapshot and what was wrong on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Rules that are not in force as declared.
    pub problems: Vec<Problem>,
    /// When the snapshot changes by time alone (an override ends), Unix milliseconds.
    pub next_change_ms: Option<i64>,
}

/// Why nothing can be compiled for the tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct InvalidTenant {
    /// Path in the Tenant's spec.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
}

/// Compiles a tenant's snapshot. A rule that is wrong keeps its last accepted form (fail-static) and is reported; it
/// never takes the others down.
///
/// # Errors
/// [`InvalidTenant`] when the tenant itself is wrong.
pub fn compile(inputs: Inputs<'_>) -> Result<Compiled, InvalidTenant> {
    window::zone(&inputs.time_zone).map_err(|message| InvalidTenant { field: "spec.timeZone", message })?;
    let number = TenantNumber::from_lineage(&inputs.lineage)
        .map_err(|error| InvalidTenant { field: "metadata.uid", message: error.to_string() })?;
    let mut problems = Vec::new();
    let mut limits: Vec<Limit> = Vec::new();
    for rule in inputs.plan_limits.iter().chain(&inputs.usage_limits) {
        let previous =
            inputs.previous.and_then(|old| old.limits.iter().find(|limit| limit.identity == rule.identity));
        match checked(rule, limits.len()) {
            Ok(()) => limits.push(limit(rule, &inputs, previous)),
            Err((field, message)) => {
                let identity = rule.identity.clone();
                problems.push(Problem { identity, field, message, kept_previous: previous.is_some() });
                limits.extend(previous.cloned().map(|old| kept(old, &inputs)));
            }
        }
    }
    let access = access(&inputs, &mut problems);
    let next_change_ms =
        inputs.overrides.iter().filter_map(|o| o.until_ms).filter(|end| *end >= inputs.now_ms).min();
    let snapshot = Snapshot {
        // Whoever writes it says so.
        epoch: 0,
        tenant: inputs.tenant,
        display_name: inputs.display_name,
        lineage: inputs.lineage,
        number,
        generation: inputs.generation,
        state: inputs.state,
        lane: inputs.lane,
        retention_days: inputs.retention_days,
        time_zone: inputs.time_zone,
        event_window: inputs.event_window,
        keys: inputs.keys,
        limits,
        access,
        namespaces: inputs.namespaces,
        inputs: inputs.versions,
    };
    Ok(Compiled { snapshot, problems, next_change_ms })
}

/// Checks what can be wrong with a rule by itself; also what admission and validation call.
///
/// # Errors
/// The field and a sentence about it.
pub fn check_rule(rule: &RuleInput) -> Result<(), (String, String)> {
    Matcher::compile(&rule.matches).map_err(|error| (format!("match.{}", error.field), error.detail))?;
    if rule.failure_mode == FailureMode::Open && rule.mode == Mode::Enforce {
        let message = "Open admits what the limit forbids: it needs mode Observe or Warn";
        return Err(("failureMode".to_owned(), message.to_owned()));
    }
    Ok(())
}

/// Access policies: as with limits, one that is wrong keeps its last accepted form.
fn access(inputs: &Inputs<'_>, problems: &mut Vec<Problem>) -> Vec<AccessPolicy> {
    let mut policies: Vec<AccessPolicy> = Vec::new();
    for policy in &inputs.access {
        let identity = policy.identity.clone();
        let old = |snapshot: &Snapshot| snapshot.access.iter().find(|old| old.identity == identity).cloned();
        let previous = inputs.previous.and_then(old);
        match check_access(policy, policies.len()) {
            Ok(()) => policies.push(policy.clone()),
            Err((field, message)) => {
                problems.push(Problem { identity, field, message, kept_previous: previous.is_some() });
                policies.extend(previous);
            }
        }
    }
    policies
}

/// Checks what can be wrong with an access policy by itself, and with being the one after `so_far` others.
///
/// # Errors
/// The field and a sentence about it.
pub fn check_access(policy: &AccessPolicy, so_far: usize) -> Result<(), (String, String)> {
    if so_far >= MAX_POLICIES {
        return Err((String::new(), format!("the tenant has more than {MAX_POLICIES} access policies")));
    }
    if policy.rules.len() > MAX_RULES {
        return Err(("rules".to_owned(), format!("there are more than {MAX_RULES}")));
    }
    let invalid =
        |error: InvalidRule| (format!("rules[{}].match.{}", error.at, error.error.field), error.error.detail);
    Access::compile(policy.clone()).map(|_| ()).map_err(invalid)
}

fn checked(rule: &RuleInput, so_far: usize) -> Result<(), (String, String)> {
    if so_far >= MAX_LIMITS {
        return Err((String::new(), format!("the tenant has more than {MAX_LIMITS} limits")));
    }
    check_rule(rule)
}

/// The override of the Tenant that holds for a rule now.
fn override_of<'a>(rule: &RuleInput, inputs: &'a Inputs<'_>) -> Option<&'a Override> {
    let holds = |o: &&Override| o.name == rule.name && o.until_ms.is_none_or(|end| inputs.now_ms <= end);
    // Overrides speak of the Plan's limits only: a tenant's own rule of the same name stays as strict as it is.
    inputs.overrides.iter().find(holds).filter(|_| rule.origin.kind == "Plan")
}

/// The last accepted form of a rule; its seeding ends all the same.
fn kept(mut old: Limit, inputs: &Inputs<'_>) -> Limit {
    if inputs.seeded.contains(&old.identity) {
        old.end_seeding(inputs.generation);
    }
    old
}

fn limit(rule: &RuleInput, inputs: &Inputs<'_>, previous: Option<&Limit>) -> Limit {
    // What never starts anew does not depend on where days begin.
    let zone = if rule.window == Window::Total { "" } else { &inputs.time_zone };
    let epoch = counting_epoch(rule, zone);
    let over = override_of(rule, inputs);
    let max = over.map_or(rule.max, |over| over.max);
    let same_data = inputs.previous.is_some_and(|old| old.lineage == inputs.lineage);
    let counted = previous.filter(|old| same_data && old.epoch == epoch);
    // What was admitted on trial beyond the limit was not charged.
    let on_trial = counted.is_some_and(|old| old.mode != Mode::Enforce && rule.mode == Mode::Enforce);
    let unchanged = counted.filter(|old| old.max == max && old.burst == rule.burst && !on_trial);
    let mut limit = Limit {
        identity: rule.identity.clone(),
        name: rule.name.clone(),
        per: rule.per,
        max,
        window: rule.window,
        burst: rule.burst,
        measure: rule.measure.clone(),
        matches: rule.matches.clone(),
        mode: rule.mode,
        rollout_percent: rule.rollout_percent,
        failure_mode: rule.failure_mode,
        warn_at: rule.warn_at.clone(),
        cap_generation: unchanged.map_or(inputs.generation, |old| old.cap_generation),
        epoch,
        origin: rule.origin.clone(),
        overridden: over.map(|over| Overridden { declared: rule.max, until_ms: over.until_ms }),
        seeding: counted.is_some_and(|old| old.seeding),
        count_from: counted.map_or(CountFrom::Creation, |old| old.count_from),
    };
    if counted.is_none() && limit.has_history() {
        limit.count_from = rule.count_from;
    }
    if counted.is_none() || on_trial {
        limit.seeding = limit.count_from == CountFrom::Period && inputs.has_history;
    } else if inputs.seeded.contains(&limit.identity) {
        limit.end_seeding(inputs.generation);
    }
    limit
}

/// Hash of everything that gives a count its meaning.
fn counting_epoch(rule: &RuleInput, time_zone: &str) -> String {
    let meaning = serde_json::to_vec(&(rule.window, rule.per, time_zone, &rule.measure, &rule.matches));
    let hash = blake3::hash(&meaning.unwrap_or_default());
    let mut head = [0; 16];
    head.copy_from_slice(&hash.as_bytes()[..16]);
    event::ids::base32(u128::from_be_bytes(head))[14..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::snapshot;

    fn rule(kind: &str, name: &str, max: u64) -> RuleInput {
        RuleInput {
            identity: format!("{}.{name}", kind.to_lowercase()),
            name: name.into(),
            per: Per::Tenant,
            max,
            window: Window::Month,
            burst: 0,
            measure: Measure::Count,
            matches: Match::default(),
            mode: Mode::Enforce,
            rollout_percent: 100,
            failure_mode: FailureMode::Closed,
            warn_at: vec![],
            count_from: CountFrom::Period,
            origin: Origin { kind: kind.into(), ..Origin::default() },
        }
    }

    fn inputs(rules: Vec<RuleInput>, previous: Option<&Snapshot>) -> Inputs<'_> {
        let base = snapshot(vec![]);
        Inputs {
            tenant: base.tenant,
            display_name: base.display_name,
            lineage: base.lineage,
            state: base.state,
            lane: base.lane,
            retention_days: base.retention_days,
            time_zone: base.time_zone,
            event_window: base.event_window,
            keys: base.keys,
            plan_limits: rules,
            overrides: vec![],
            usage_limits: vec![],
            access: vec![],
            namespaces: vec![],
            versions: BTreeMap::new(),
            previous,
            has_history: false,
            seeded: BTreeSet::new(),
            generation: 7,
            now_ms: 1_000,
        }
    }

    #[test]
    fn overrides_replace_the_plans_maximum_until_they_end() {
        let with = |until_ms, now_ms| Inputs {
            overrides: vec![Override { name: "events".into(), max: 8, until_ms }],
            usage_limits: vec![rule("UsageLimit", "events", 3)],
            now_ms,
            ..inputs(vec![rule("Plan", "events", 5)], None)
        };
        let maxima =
            |inputs| compile(inputs).unwrap().snapshot.limits.iter().map(|l| l.max).collect::<Vec<_>>();
        assert_eq!(maxima(with(Some(2_000), 2_000)), [8, 3], "only the Plan's limit is overridden");
        assert_eq!(maxima(with(Some(2_000), 2_001)), [5, 3]);
        assert_eq!(maxima(with(None, 9_999)), [8, 3]);
        assert_eq!(compile(with(Some(2_000), 1_000)).unwrap().next_change_ms, Some(2_000));
        assert_eq!(compile(with(Some(2_000), 2_001)).unwrap().next_change_ms, None);
    }

    #[test]
    fn a_cap_keeps_its_generation_until_it_changes() {
        let first = compile(inputs(vec![rule("Plan", "events", 5)], None)).unwrap().snapshot;
        assert_eq!(first.limits[0].cap_generation, 7);
        let next = |max| {
            let later = Inputs { generation: 9, ..inputs(vec![rule("Plan", "events", max)], Some(&first)) };
            compile(later).unwrap().snapshot
        };
        assert_eq!(next(5).limits[0].cap_generation, 7);
        assert_eq!(next(5).content_hash(), first.content_hash(), "nothing changed, so nothing is written");
        assert_eq!(next(6).limits[0].cap_generation, 9);
        let burst = RuleInput { burst: 1, ..rule("Plan", "events", 5) };
        let later = Inputs { generation: 9, ..inputs(vec![burst], Some(&first)) };
        let changed = compile(later).unwrap().snapshot;
        assert_eq!(
            changed.limits[0].cap_generation, 9,
            "a pod with the older burst is refused by the ledger"
        );
    }

    #[test]
    fn a_new_quota_counts_its_own_charges_alone_until_its_past_is_in_the_ledger() {
        let events = || rule("Plan", "events", 5);
        let with = |rules, previous, seeded: &[&str], generation| {
            let seeded = seeded.iter().map(|identity| (*identity).to_owned()).collect();
            let inputs = Inputs { has_history: true, seeded, generation, ..inputs(rules, previous) };
            compile(inputs).unwrap().snapshot
        };
        let first = with(vec![events()], None, &[], 7);
        let of = |snapshot: &Snapshot| (snapshot.limits[0].cap(), snapshot.limits[0].cap_generation);
        assert_eq!(of(&first), (6, 7), "beyond five of its own charges it refuses rightly");
        let again = with(vec![events()], Some(&first), &[], 8);
        assert_eq!((of(&again), again.content_hash()), ((6, 7), first.content_hash()));
        let seeded = with(vec![events()], Some(&again), &["plan.events"], 9);
        assert_eq!(of(&seeded), (5, 9), "a cap that is lowered: what is held under the higher one goes back");
        assert_eq!(of(&with(vec![events()], Some(&seeded), &[], 10)), (5, 9), "once");
        let mut typo = events();
        typo.matches.expression = Some("event.".into());
        assert_eq!(of(&with(vec![typo], Some(&first), &["plan.events"], 9)), (5, 9), "a kept form as well");
        let narrowed = Match { features: vec!["a".into()], ..Match::default() };
        let narrowed = RuleInput { matches: narrowed, ..events() };
        assert_eq!(of(&with(vec![narrowed], Some(&seeded), &[], 11)), (6, 11), "a new meaning");
        let trial = |rollout_percent, mode| RuleInput { mode, rollout_percent, ..events() };
        let warned = with(vec![trial(100, Mode::Warn)], Some(&seeded), &[], 12);
        assert_eq!(of(&warned), (5, 9), "looser");
        let half = with(vec![trial(50, Mode::Enforce)], Some(&warned), &[], 13);
        assert_eq!(of(&half), (6, 13), "what was admitted beyond it on trial was not charged");
        let half = with(vec![trial(50, Mode::Enforce)], Some(&half), &["plan.events"], 14);
        assert_eq!(of(&half), (5, 14));
        let all = with(vec![events()], Some(&half), &[], 15);
        assert_eq!(of(&all), (5, 14), "whom it refuses already gets nothing more");
        let no_past = [
            RuleInput { count_from: CountFrom::Creation, ..events() },
            RuleInput { per: Per::ApiKey, ..events() },
            RuleInput { window: Window::Second, ..events() },
        ];
        for rule in no_past {
            assert_eq!(of(&with(vec![rule], None, &[], 7)), (5, 7));
        }
        assert_eq!(compile(inputs(vec![events()], None)).unwrap().snapshot.limits[0].cap(), 5);
    }

    #[test]
    fn a_wrong_rule_keeps_its_last_accepted_form() {
        let good = compile(inputs(vec![rule("Plan", "events", 5), rule("Plan", "other", 1)], None))
            .unwrap()
            .snapshot;
        let mut typo = rule("Plan", "events", 500);
        typo.matches.expression = Some("event.".into());
        let compiled = compile(inputs(vec![typo.clone(), rule("Plan", "other", 2)], Some(&good))).unwrap();
        assert_eq!(compiled.snapshot.limits.iter().map(|l| l.max).collect::<Vec<_>>(), [5, 2]);
        let problem = &compiled.problems[0];
        assert_eq!((problem.field.as_str(), problem.kept_previous), ("match.expression", true));
        let fresh = compile(inputs(vec![typo], None)).unwrap();
        assert!(fresh.snapshot.limits.is_empty() && !fresh.problems[0].kept_previous);
    }

    #[test]
    fn a_changed_meaning_starts_a_new_count() {
        let epoch = |rule: RuleInput, zone: &str| {
            let inputs = Inputs { time_zone: zone.into(), ..inputs(vec![rule], None) };
            compile(inputs).unwrap().snapshot.limits[0].epoch.clone()
        };
        let base = epoch(rule("Plan", "events", 5), "UTC");
        assert_eq!(base, epoch(rule("Plan", "events", 6), "UTC"), "a changed maximum does not");
        assert_ne!(base, epoch(rule("Plan", "events", 5), "Asia/Tokyo"));
        let narrowed = RuleInput {
            matches: Match { features: vec!["a".into()], ..Match::default() },
            ..rule("Plan", "events", 5)
        };
        assert_ne!(base, epoch(narrowed, "UTC"));
    }

    #[test]
    fn a_wrong_tenant_is_refused_by_field() {
        let wrong = Inputs { time_zone: "Mars".into(), ..inputs(vec![], None) };
        assert_eq!(compile(wrong).unwrap_err().field, "spec.timeZone");
    }
}
