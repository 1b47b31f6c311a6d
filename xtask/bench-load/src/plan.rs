//! Whose events are sent: tenants by their users, users and features unevenly, as `simulate` has them.

use std::error::Error;
use std::path::Path;

use serde::Deserialize;

use crate::rng::Rng;
use crate::spread::Spread;

/// What `xtask` writes down.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    tenants: Vec<Tenant>,
    features: Vec<String>,
    feature_exponent: f64,
    user_exponent: f64,
}

/// A tenant.
#[derive(Debug, Clone, Deserialize)]
struct Tenant {
    key: String,
    users: usize,
}

/// Chooses for each request its tenant, and for each event its user and feature.
#[derive(Debug)]
pub struct Choices {
    plan: Plan,
    by_users: Spread,
    by_feature: Spread,
    /// One for each number of users that tenants have.
    by_user: Vec<(usize, Spread)>,
}

/// Who and what, of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen<'a> {
    pub user: usize,
    pub feature: &'a str,
}

impl Choices {
    /// One tenant with a thousand users and one feature.
    pub fn one(key: &str) -> Self {
        let tenants = vec![Tenant { key: key.to_owned(), users: 1_000 }];
        let features = vec!["report.export".to_owned()];
        Self::new(Plan { tenants, features, feature_exponent: 1.0, user_exponent: 0.0 })
    }

    /// From a file.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(file: &Path) -> Result<Self, Box<dyn Error>> {
        Ok(Self::new(serde_json::from_slice(&std::fs::read(file)?)?))
    }

    fn new(plan: Plan) -> Self {
        let mut sizes: Vec<usize> = plan.tenants.iter().map(|tenant| tenant.users).collect();
        sizes.sort_unstable();
        sizes.dedup();
        Self {
            by_users: Spread::weighted(plan.tenants.iter().map(|tenant| tenant.users as f64)),
            by_feature: Spread::zipf(plan.features.len(), plan.feature_exponent),
            by_user: sizes
                .into_iter()
                .map(|users| (users, Spread::zipf(users, plan.user_exponent)))
                .collect(),
            plan,
        }
    }

    /// The tenant of a request.
    pub fn tenant(&self, rng: &mut Rng) -> usize {
        self.by_users.choose(rng)
    }

    /// Its key.
    pub fn key(&self, tenant: usize) -> &str {
        &self.plan.tenants[tenant].key
    }

    /// One of its events.
    pub fn event(&self, tenant: usize, rng: &mut Rng) -> Chosen<'_> {
        let users = self.plan.tenants[tenant].users;
        let at = self.by_user.partition_point(|(size, _)| *size < users);
        let user = self.by_user.get(at).map_or(0, |(_, spread)| spread.choose(rng));
        Chosen { user, feature: &self.plan.features[self.by_feature.choose(rng)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_chosen_by_their_users() {
        let plan = r#"{"tenants": [{"key": "a", "users": 1}, {"key": "b", "users": 9}], "features": ["x", "y"],
            "featureExponent": 1.0, "userExponent": 0.8}"#;
        let (choices, mut rng) = (Choices::new(serde_json::from_str(plan).unwrap()), Rng::new(1));
        let mut large = 0;
        for _ in 0..1_000 {
            let tenant = choices.tenant(&mut rng);
            large += tenant;
            let chosen = choices.event(tenant, &mut rng);
            assert!(chosen.user < [1, 9][tenant] && ["x", "y"].contains(&chosen.feature));
        }
        assert!((860..940).contains(&large), "{large}");
        assert_eq!(choices.key(1), "b");
    }
}
