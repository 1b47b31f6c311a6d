//! The `limitador` crate in memory with equivalent limits: the same namespace, periods, conditions and variables.
//!
//! It has no keys, so it is compared with `decide` + `take` without authentication. Its context is a map of strings that the caller
//! fills for each request, as its own server does; filling it is part of the cost, as `wire::parse` is not.

use std::collections::HashMap;
use std::hint::black_box;

use event::wire::{Form, parse};
use limitador::RateLimiter;
use limitador::limit::{Context, Expression, Limit, Predicate};

use crate::Part;
use crate::ours::fail;

/// Equivalent parts: ours, theirs, and what is missed when ours is not faster.
pub const PAIRS: [(&str, &str, &str); 2] = [
    (crate::ours::PLAIN, PLAIN, "limitador is faster with 3 quotas and 1 rate"),
    (crate::ours::WITH_CEL, WITH_CEL, "limitador is faster with 2 CEL rules besides"),
];
const PLAIN: &str = "limitador in memory: 3 quotas, 1 rate (no authentication)";
const WITH_CEL: &str = "limitador in memory: the same with 2 CEL rules besides";
const NAMESPACE: &str = "acme";
const MAX: u64 = 1_000_000_000_000;
const DAY_S: u64 = 86_400;

/// Two limiters and what an event tells them.
pub struct Theirs {
    plain: RateLimiter,
    with_cel: RateLimiter,
    values: Vec<(String, String)>,
}

impl Theirs {
    /// For this event.
    pub fn new(text: &str) -> Self {
        let event = parse(text, Form::Plain).unwrap_or_else(|error| fail(&error.to_string()));
        let attribute = |name: &str| {
            let json = event.attribute(name).unwrap_or_default();
            (name.to_owned(), json.trim_matches('"').to_owned())
        };
        let values = vec![
            ("type".to_owned(), event.feature.to_string()),
            ("user".to_owned(), event.user.as_deref().unwrap_or_default().to_owned()),
            attribute("format"),
            attribute("pages"),
            attribute("region"),
        ];
        let (plain, with_cel) = (RateLimiter::new(10_000), RateLimiter::new(10_000));
        for limit in limits() {
            plain.add_limit(limit.clone());
            with_cel.add_limit(limit);
        }
        for limit in cel_limits() {
            with_cel.add_limit(limit);
        }
        let theirs = Self { plain, with_cel, values };
        // A condition that does not hold, or cannot be evaluated, would make it faster than it is.
        let counters = |limiter: &RateLimiter| {
            theirs.check(limiter);
            limiter.get_counters(&NAMESPACE.into()).map_or(0, |counters| counters.len())
        };
        if (counters(&theirs.plain), counters(&theirs.with_cel)) != (4, 6) {
            fail("limitador does not count all of its limits");
        }
        theirs
    }

    /// The parts to compare with.
    pub fn parts(&self) -> Vec<Part<'_>> {
        vec![
            Part { name: PLAIN, target: None, run: Box::new(|| self.check(&self.plain)) },
            Part { name: WITH_CEL, target: None, run: Box::new(|| self.check(&self.with_cel)) },
        ]
    }

    fn check(&self, limiter: &RateLimiter) {
        let values: HashMap<String, String> = black_box(&self.values).iter().cloned().collect();
        let context = Context::from(values);
        let answer = limiter.check_rate_limited_and_update(&NAMESPACE.into(), &context, 1);
        match answer {
            Ok(result) if !result.limited => {}
            Ok(_) => fail("limitador refuses what it should admit"),
            Err(error) => fail(&format!("limitador: {error:?}")),
        }
    }
}

fn limits() -> Vec<Limit> {
    vec![
        limit(30 * DAY_S, &[], &[]),
        limit(DAY_S, &[r#"type.startsWith("report.")"#], &["user"]),
        // It charges every limit the same amount, so the summed limit counts events here: the same work, another number.
        limit(31 * DAY_S, &[], &[]),
        limit(1, &[], &[]),
    ]
}

fn cel_limits() -> Vec<Limit> {
    vec![
        limit(DAY_S, &[r#"format == "pdf" && int(pages) > 10"#], &[]),
        limit(DAY_S, &[r#"type.startsWith("report.") && region in ["eu-central-1", "eu-west-1"]"#], &[]),
    ]
}

fn limit(seconds: u64, conditions: &[&str], variables: &[&str]) -> Limit {
    let conditions = conditions.iter().map(|text| Predicate::parse(text).unwrap_or_else(|_| unknown(text)));
    let variables = variables.iter().map(|text| Expression::parse(text).unwrap_or_else(|_| unknown(text)));
    Limit::new(NAMESPACE, MAX, seconds, conditions, variables)
}

fn unknown<T>(text: &str) -> T {
    fail(&format!("limitador does not understand {text}"))
}
