//! What an enterprise platform's customers do, as events: pure, from a seed.

use jiff::Timestamp;
use serde_json::json;

use super::rng::Rng;
use super::spread::Spread;

/// Events that a user causes a day.
pub const EVENTS_A_USER_A_DAY: f64 = 40.0;
/// Users of ten tenants: five with 500, three with 2,000, two with 10,000.
const SIZES: [u32; 10] = [500, 2_000, 500, 10_000, 500, 2_000, 500, 10_000, 500, 2_000];
/// Parts of the product, the most used first.
const AREAS: [&str; 8] = ["page", "report", "search", "ai", "project", "file", "workflow", "admin"];
/// What is done there, the most frequent first.
const ACTIONS: [&str; 5] = ["view", "edit", "export", "share", "delete"];
/// How much more the first feature is used than the tenth: Zipf's exponent.
pub const FEATURE_EXPONENT: f64 = 1.1;
/// The same among users: some work with the platform all day.
pub const USER_EXPONENT: f64 = 0.8;
/// Size of an event in bytes, about.
const EVENT_BYTES: usize = 1_000;
const REGIONS: [&str; 4] = ["eu-central", "eu-west", "us-east", "ap-south"];
const FORMATS: [&str; 3] = ["pdf", "xlsx", "csv"];

/// A customer of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// Name of its Tenant.
    pub name: String,
    /// People who use the platform.
    pub users: u32,
}

/// Customers after the capacity model; `scale` multiplies their users, at least one stays.
pub fn customers(number: usize, scale: f64) -> Vec<Customer> {
    let users = |at: usize| (f64::from(SIZES[at % SIZES.len()]) * scale).round().max(1.0) as u32;
    (0..number).map(|at| Customer { name: format!("sim-{:05}", at + 1), users: users(at) }).collect()
}

/// Events a second that these customers cause over a day, on average.
pub fn mean_rate(customers: &[Customer]) -> f64 {
    let users: f64 = customers.iter().map(|customer| f64::from(customer.users)).sum();
    users * EVENTS_A_USER_A_DAY / 86_400.0
}

/// What is used of the product, the most used first.
pub fn features() -> Vec<String> {
    let mut features: Vec<(usize, String)> = Vec::new();
    for (area_rank, area) in AREAS.iter().enumerate() {
        for (action_rank, action) in ACTIONS.iter().enumerate() {
            features.push(((area_rank + 1) * (action_rank + 1), format!("{area}.{action}")));
        }
    }
    features.sort();
    features.into_iter().map(|(_, name)| name).collect()
}

/// Makes events. The same seed, run and customers give the same events.
#[derive(Debug, Clone)]
pub struct Generator {
    rng: Rng,
    run: String,
    made: u64,
    customers: Vec<Customer>,
    by_users: Spread,
    features: Vec<String>,
    by_feature: Spread,
    /// By customer.
    by_user: Vec<Spread>,
}

impl Generator {
    /// For these customers. `run` becomes part of the ids: another run makes other events.
    pub fn new(customers: Vec<Customer>, run: &str, seed: u64) -> Self {
        let features = features();
        Self {
            rng: Rng::new(seed),
            run: run.to_owned(),
            made: 0,
            by_users: Spread::weighted(customers.iter().map(|customer| f64::from(customer.users))),
            by_feature: Spread::zipf(features.len(), FEATURE_EXPONENT),
            features,
            by_user: customers.iter().map(|c| Spread::zipf(c.users as usize, USER_EXPONENT)).collect(),
            customers,
        }
    }

    /// A customer by chance: one with more users more often.
    pub fn customer(&mut self) -> usize {
        self.by_users.choose(&mut self.rng)
    }

    /// An event of this customer, as JSON.
    pub fn event(&mut self, customer: usize, time: Timestamp) -> String {
        let rng = &mut self.rng;
        let feature = &self.features[self.by_feature.choose(rng)];
        let user = self.by_user[customer].choose(rng);
        let tenant = &self.customers[customer].name;
        let mut data = json!({
            "value": 1,
            "latencyMs": (40.0 * rng.log_normal(0.8)).min(60_000.0).round(),
            "region": REGIONS[user % REGIONS.len()],
            "session": format!("{:016x}", rng.bits()),
        });
        if feature.starts_with("ai.") {
            data["tokens"] = json!((400.0 * rng.log_normal(1.0)).min(100_000.0).round());
        }
        if feature.ends_with(".export") {
            data["format"] = json!(FORMATS[rng.below(FORMATS.len())]);
        }
        let mut event = json!({
            "id": format!("{}-{}", self.run, self.made), "source": "simulate", "type": feature,
            "subject": format!("user-{user}@{tenant}.example"), "time": time.to_string(), "data": data,
        });
        self.made += 1;
        let missing = EVENT_BYTES.saturating_sub(event.to_string().len());
        event["data"]["context"] = json!(context(rng, missing));
        event.to_string()
    }
}

/// Text that compresses about as well as what applications send.
fn context(rng: &mut Rng, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 24);
    while text.len() + 24 < bytes {
        let area = AREAS[rng.below(AREAS.len())];
        text.push_str(&format!("/{area}/{:06x}", rng.bits() & 0xff_ffff));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use event::wire::{self, Form};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn a_thousand_customers_are_the_capacity_model() {
        let customers = customers(1_000, 1.0);
        let of = |users| customers.iter().filter(|c| c.users == users).count();
        assert_eq!((of(500), of(2_000), of(10_000)), (500, 300, 200));
        assert_eq!(customers.iter().map(|c| u64::from(c.users)).sum::<u64>(), 2_850_000);
        assert!((mean_rate(&customers) - 1_319.4).abs() < 0.1);
        assert!(customers.iter().all(|c| c.name.parse::<event::TenantName>().is_ok()));
    }

    #[test]
    fn every_event_is_one_that_ingest_takes_and_about_a_kilobyte() {
        let mut generator = Generator::new(customers(10, 0.1), "r", 7);
        let mut ids = BTreeSet::new();
        for _ in 0..500 {
            let customer = generator.customer();
            let json = generator.event(customer, NOW);
            assert!((900..=1_050).contains(&json.len()), "{}", json.len());
            let event = wire::parse(&json, Form::Plain).unwrap();
            assert_eq!(event.attribute("tokens").is_some(), event.feature.starts_with("ai."));
            assert!(ids.insert(event.id.into_owned()));
        }
    }

    #[test]
    fn a_seed_gives_the_same_events() {
        let events = |seed| -> Vec<String> {
            let mut generator = Generator::new(customers(3, 1.0), "r", seed);
            (0..20).map(|n| generator.event(n % 3, NOW)).collect()
        };
        assert_eq!(events(1), events(1));
        assert_ne!(events(1), events(2));
    }

    #[test]
    fn few_features_and_users_make_most_of_the_events_and_large_customers_more() {
        let mut generator = Generator::new(customers(10, 0.05), "r", 11);
        let (mut features, mut users, mut of) = (BTreeMap::new(), BTreeMap::new(), [0_u32; 10]);
        for _ in 0..20_000 {
            let customer = generator.customer();
            of[customer] += 1;
            let json = generator.event(customer, NOW);
            let event = wire::parse(&json, Form::Plain).unwrap();
            *features.entry(event.feature.to_string()).or_insert(0_u32) += 1;
            *users.entry(event.user.unwrap().to_string()).or_insert(0_u32) += 1;
        }
        assert_eq!(features.len(), 40, "the rarest feature is used too");
        let most = features.iter().max_by_key(|(_, count)| **count).unwrap();
        assert_eq!(most.0, "page.view");
        assert!((0.2..0.35).contains(&(f64::from(*most.1) / 20_000.0)), "{most:?}");
        let mut counts: Vec<u32> = users.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let busiest: u32 = counts.iter().take(counts.len() / 10).sum();
        assert!(
            busiest > 20_000 / 4,
            "a tenth of the users make a quarter of the events and more: {busiest}"
        );
        // 10,000 of 28,500 users.
        assert!((0.33..0.37).contains(&(f64::from(of[3]) / 20_000.0)), "{of:?}");
    }
}
