//! A pod's own work for one event, part by part.
//!
//! The slices are `policy::slice::Slice` behind the same map and locks as in the pod (`ingest/src/quota`): a mutex around a map of
//! shared entries, a mutex around each entry. What is left out is the pod's asynchronous shell, which does nothing while a slice
//! has enough.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use event::pseudonym::PseudonymKey;
use event::wire::{Form, UsageEvent, parse};
use event::{Incarnation, UserKey};
use parking_lot::Mutex;
use policy::apikey::{self, KeyDigest, Scope};
use policy::decide::{Facts, Need, authorize, decide};
use policy::directory::Directory;
use policy::ledger::{Applied, Record, Terms};
use policy::limit::{CountFrom, FailureMode, Limit, Match, Measure, Mode, Origin, Per};
use policy::slice::Slice;
use policy::snapshot::{ApiKey, EventWindow, Snapshot, TenantState};
use policy::tenant::{Periods, QuotaKey, TenantPolicy};
use policy::window::Window;

use crate::Part;
use crate::sample::{API_KEY_BITS, NOW_MS};

/// Tenants that a pod holds besides the one that is asked for.
const TENANTS: usize = 1_000;
/// Name of the part that the first target is about.
pub const PLAIN: &str = "authenticate + decide + take + settle: 3 quotas, 1 rate";
/// Name of the part that the second target is about.
pub const WITH_CEL: &str = "the same with 2 CEL rules besides";

/// Everything that a part needs.
pub struct Fixture<'a> {
    text: &'a str,
    event: UsageEvent<'a>,
    secret: String,
    pseudonyms: PseudonymKey,
    plain: Pod,
    with_cel: Pod,
    cel_only: Pod,
}

/// A pod that serves one tenant among many.
struct Pod {
    directory: Directory,
    policy: Arc<TenantPolicy>,
    key: ApiKey,
    periods: Periods,
    quotas: Quotas,
}

/// The slices of a pod, each with more units than any run takes.
#[derive(Default)]
struct Quotas {
    entries: Mutex<HashMap<QuotaKey, Arc<Mutex<Slice>>>>,
}

impl<'a> Fixture<'a> {
    /// For this event.
    pub fn new(text: &'a str) -> Self {
        let event = parse(text, Form::Plain).unwrap_or_else(|error| fail(&error.to_string()));
        let cel = [cel_rule("pdf", CEL[0]), cel_rule("big", CEL[1])];
        Self {
            text,
            event,
            secret: apikey::generate(&API_KEY_BITS),
            pseudonyms: PseudonymKey::new([9; 32]),
            plain: Pod::new(quotas()),
            with_cel: Pod::new([quotas(), cel.to_vec()].concat()),
            cel_only: Pod::new(cel.to_vec()),
        }
    }

    /// Every part of the table.
    pub fn parts(&self) -> Vec<Part<'_>> {
        let user = self.pseudonyms.user(self.event.user.as_deref());
        vec![
            part("(not counted) wire::parse: the pod's own reading of the event", None, || {
                black_box(parse(black_box(self.text), Form::Plain).is_ok());
            }),
            part("(not counted) pseudonym and event hash", None, || {
                black_box(self.pseudonyms.user(self.event.user.as_deref()));
                black_box(self.pseudonyms.event("checkout/eu-central-1", &self.event.id));
            }),
            part("authenticate: checksum, SHA-256, look-up, scope", None, || {
                black_box(self.plain.authenticate(&self.secret).is_some());
            }),
            part("decide: 3 quotas, 1 rate", None, move || {
                black_box(self.plain.decide(&self.event, user));
            }),
            part("decide: 2 CEL rules alone", None, move || {
                black_box(self.cel_only.decide(&self.event, user));
            }),
            part("take and settle: 4 live slices", None, {
                let needs = self.plain.decide(&self.event, user);
                move || self.plain.quotas.spend(black_box(&needs))
            }),
            part(PLAIN, Some(0.35), move || self.plain.whole(&self.secret, &self.event, user)),
            part(WITH_CEL, Some(1.0), move || self.with_cel.whole(&self.secret, &self.event, user)),
        ]
    }
}

/// A line of the table.
fn part<'a>(name: &'static str, target: Option<f64>, run: impl FnMut() + 'a) -> Part<'a> {
    Part { name, target, run: Box::new(run) }
}

impl Pod {
    fn new(limits: Vec<Limit>) -> Self {
        let mut directory = Directory::default();
        for n in 0..TENANTS {
            directory.offer(compiled(snapshot(&format!("t{n}"), &format!("other {n}"), vec![])));
        }
        directory.offer(compiled(snapshot("acme", &apikey::generate(&API_KEY_BITS), limits)));
        let found = directory.find(&KeyDigest::of(&apikey::generate(&API_KEY_BITS)));
        let (policy, key) =
            found.map_or_else(|| fail("the key is not known"), |(p, k)| (p.clone(), k.clone()));
        let periods = policy.periods(NOW_MS);
        Self { directory, policy, key, periods, quotas: Quotas::default() }
    }

    /// What `ingest/src/http/auth.rs` does with the header's value.
    fn authenticate(&self, secret: &str) -> Option<(Arc<TenantPolicy>, ApiKey)> {
        if !apikey::is_well_formed(black_box(secret)) {
            return None;
        }
        let (policy, key) = self.directory.find(&KeyDigest::of(secret))?;
        authorize(policy, key, Scope::Ingest, NOW_MS).ok()?;
        Some((policy.clone(), key.clone()))
    }

    fn decide(&self, event: &UsageEvent<'_>, user: UserKey) -> Vec<Need> {
        let facts = Facts { key: &self.key, user, received_ms: NOW_MS, periods: &self.periods };
        decide(&self.policy, black_box(event), &facts)
            .unwrap_or_else(|denial| fail(&denial.to_string()))
            .needs
    }

    fn whole(&self, secret: &str, event: &UsageEvent<'_>, user: UserKey) {
        let Some((policy, key)) = self.authenticate(secret) else { fail("the key is refused") };
        let facts = Facts { key: &key, user, received_ms: NOW_MS, periods: &self.periods };
        match decide(&policy, black_box(event), &facts) {
            Ok(permit) => self.quotas.spend(&permit.needs),
            Err(denial) => fail(&denial.to_string()),
        }
    }
}

impl Quotas {
    fn spend(&self, needs: &[Need]) {
        let mut taken = Vec::with_capacity(needs.len());
        for need in needs {
            // The pod notes when a slice was last used, to return those that nobody uses.
            black_box(Instant::now());
            let entry = self.entries.lock().entry(need.key).or_insert_with(full).clone();
            if !entry.lock().take(need.units, &TERMS) {
                fail("a slice is empty");
            }
            taken.push((entry, need.units));
        }
        for (entry, units) in taken {
            entry.lock().settle(units);
        }
    }
}

/// What the record of a slice was made under.
const TERMS: Terms<'static> = Terms { cap: u64::MAX / 2, cap_generation: 1, ledger_id: "bench" };

/// A slice that lasts for every run.
fn full() -> Arc<Mutex<Slice>> {
    let mut slice = Slice::default();
    let Some(op) = slice.begin_grant(Incarnation(1), 1, 1, TERMS.cap, 0) else { fail("a new slice is busy") };
    match Record::apply(None, &TERMS, &op) {
        Ok(Applied::Changed(record)) => slice.finish(&op, Some(&record)),
        other => fail(&format!("a grant came to {other:?}")),
    }
    Arc::new(Mutex::new(slice))
}

const CEL: [&str; 2] = [
    r#"event.data.format == "pdf" && event.data.pages > 10"#,
    r#"event.type.startsWith("report.") && event.data.region in ["eu-central-1", "eu-west-1"]"#,
];

fn quotas() -> Vec<Limit> {
    let reports = Match { features: vec!["report.*".into()], ..Match::default() };
    let tokens = Measure::Sum { field: "tokens".into() };
    vec![
        limit("events", Per::Tenant, Window::Month, Match::default(), Measure::Count),
        limit("reports-per-user", Per::User, Window::Day, reports, Measure::Count),
        limit("tokens", Per::Tenant, Window::Month, Match::default(), tokens),
        limit("burst", Per::Tenant, Window::Second, Match::default(), Measure::Count),
    ]
}

fn cel_rule(name: &str, expression: &str) -> Limit {
    let matches = Match { expression: Some(expression.into()), ..Match::default() };
    limit(name, Per::Tenant, Window::Day, matches, Measure::Count)
}

fn limit(name: &str, per: Per, window: Window, matches: Match, measure: Measure) -> Limit {
    Limit {
        identity: format!("plan.{name}"),
        name: name.into(),
        per,
        max: 1_000_000_000,
        window,
        burst: 0,
        measure,
        matches,
        mode: Mode::Enforce,
        failure_mode: FailureMode::Closed,
        warn_at: vec![],
        epoch: "e1".into(),
        cap_generation: 1,
        origin: Origin::default(),
        overridden: None,
        seeding: false,
        count_from: CountFrom::Creation,
        rollout_percent: 100,
    }
}

fn snapshot(tenant: &str, secret: &str, limits: Vec<Limit>) -> Snapshot {
    let name = tenant.parse().unwrap_or_else(|_| fail("the tenant's name is wrong"));
    let lineage = "6b2e1a4c-0000-4000-8000-000000000001".to_owned();
    Snapshot {
        epoch: 0,
        number: event::TenantNumber(1),
        lane: event::Lane::Dedicated(name),
        retention_days: 90,
        tenant: tenant.parse().unwrap_or_else(|_| fail("the tenant's name is wrong")),
        display_name: tenant.into(),
        lineage,
        generation: 1,
        state: TenantState::Active,
        time_zone: "Europe/Zurich".into(),
        event_window: EventWindow::default(),
        keys: vec![ApiKey {
            id: "ns.acme.checkout".into(),
            digest: KeyDigest::of(secret),
            scopes: vec![Scope::Ingest],
            not_after_ms: None,
        }],
        limits,
        access: vec![],
        namespaces: vec!["acme".into()],
        inputs: Default::default(),
    }
}

fn compiled(snapshot: Snapshot) -> TenantPolicy {
    TenantPolicy::new(snapshot).unwrap_or_else(|error| fail(&error.to_string()))
}

/// A benchmark that measures something else than it says is worth nothing: it ends.
pub fn fail(why: &str) -> ! {
    eprintln!("bench-decide: {why}");
    std::process::exit(2)
}
