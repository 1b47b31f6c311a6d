//! Which tenant a namespace belongs to.
//!
//! A namespace belongs to at most one tenant. The holder recorded in the snapshots keeps it for as long as it names it;
//! fresh conflicts go to the oldest tenant, then by name. Nobody holds the install namespace or a system namespace.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use parking_lot::RwLock;

/// A tenant that names a namespace: (creation, name), so that the oldest comes first.
type Claimant = (Timestamp, String);

/// Who names which namespace, and who held it last.
#[derive(Default)]
pub struct Belonging {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    reserved: BTreeSet<String>,
    claimants: HashMap<String, BTreeSet<Claimant>>,
    claims: HashMap<String, (Timestamp, Vec<String>)>,
    holders: HashMap<String, String>,
}

/// The namespaces that a tenant names, sorted by whether it has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// It holds these.
    pub held: Vec<String>,
    /// Another tenant holds these.
    pub conflicted: Vec<String>,
    /// Nobody may hold these.
    pub reserved: Vec<String>,
}

impl Belonging {
    /// `install` is the namespace of the platform itself.
    pub fn new(install: &str) -> Self {
        let belonging = Self::default();
        belonging.state.write().reserved.insert(install.to_owned());
        belonging
    }

    /// Notes what a tenant names now (`None`: the tenant is gone). Returns every namespace that this may concern.
    pub fn note(&self, tenant: &str, named: Option<(Timestamp, &[String])>) -> BTreeSet<String> {
        self.state.write().note(tenant, named)
    }

    /// Notes which namespaces a published snapshot records.
    pub fn record(&self, tenant: &str, namespaces: &[String]) {
        let mut state = self.state.write();
        state.holders.retain(|_, holder| holder != tenant);
        for namespace in namespaces {
            state.holders.insert(namespace.clone(), tenant.to_owned());
        }
    }

    /// The tenant that a namespace belongs to.
    pub fn holder(&self, namespace: &str) -> Option<String> {
        self.state.read().holder(namespace).map(str::to_owned)
    }

    /// Every tenant that names a namespace.
    pub fn claimants(&self, namespace: &str) -> Vec<String> {
        let state = self.state.read();
        state.claimants.get(namespace).into_iter().flatten().map(|(_, tenant)| tenant.clone()).collect()
    }

    /// What a tenant has of what it names.
    pub fn claims(&self, tenant: &str) -> Claims {
        let state = self.state.read();
        let mut claims = Claims::default();
        for namespace in state.claims.get(tenant).map_or(&[][..], |(_, named)| named) {
            let list = if state.is_reserved(namespace) {
                &mut claims.reserved
            } else if state.holder(namespace) == Some(tenant) {
                &mut claims.held
            } else {
                &mut claims.conflicted
            };
            list.push(namespace.clone());
        }
        claims.held.sort();
        claims
    }
}

impl State {
    fn note(&mut self, tenant: &str, named: Option<(Timestamp, &[String])>) -> BTreeSet<String> {
        let mut concerned = BTreeSet::new();
        if let Some((created, old)) = self.claims.remove(tenant) {
            for namespace in old {
                if let Some(claimants) = self.claimants.get_mut(&namespace) {
                    claimants.remove(&(created, tenant.to_owned()));
                    if claimants.is_empty() {
                        self.claimants.remove(&namespace);
                    }
                }
                concerned.insert(namespace);
            }
        }
        if let Some((created, named)) = named {
            for namespace in named {
                self.claimants.entry(namespace.clone()).or_default().insert((created, tenant.to_owned()));
                concerned.insert(namespace.clone());
            }
            self.claims.insert(tenant.to_owned(), (created, named.to_vec()));
        }
        concerned
    }

    fn is_reserved(&self, namespace: &str) -> bool {
        namespace.starts_with("kube-") || self.reserved.contains(namespace)
    }

    fn holder(&self, namespace: &str) -> Option<&str> {
        if self.is_reserved(namespace) {
            return None;
        }
        let claimants = self.claimants.get(namespace)?;
        let kept =
            self.holders.get(namespace).filter(|holder| claimants.iter().any(|(_, name)| name == *holder));
        kept.or_else(|| claimants.first().map(|(_, name)| name)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_fresh_conflict_goes_to_the_oldest_then_by_name() {
        let belonging = Belonging::new("meterplane-system");
        belonging.note("b", Some((at(2), &names(&["x"]))));
        belonging.note("c", Some((at(1), &names(&["x", "y"]))));
        belonging.note("a", Some((at(2), &names(&["x"]))));
        assert_eq!(belonging.holder("x").as_deref(), Some("c"));
        assert_eq!(belonging.claims("b").conflicted, ["x"]);
        belonging.note("c", None);
        assert_eq!(belonging.holder("x").as_deref(), Some("a"));
        assert_eq!(belonging.holder("y"), None);
    }

    #[test]
    fn the_recorded_holder_keeps_its_namespace_while_it_names_it() {
        let belonging = Belonging::new("meterplane-system");
        belonging.record("young", &names(&["x"]));
        belonging.note("old", Some((at(1), &names(&["x"]))));
        assert_eq!(belonging.holder("x").as_deref(), Some("old"), "a holder that is gone holds nothing");
        belonging.note("young", Some((at(9), &names(&["x"]))));
        assert_eq!(belonging.holder("x").as_deref(), Some("young"));
        let concerned = belonging.note("young", Some((at(9), &[])));
        assert!(concerned.contains("x"));
        assert_eq!(belonging.holder("x").as_deref(), Some("old"));
    }

    #[test]
    fn nobody_holds_reserved_namespaces() {
        let belonging = Belonging::new("meterplane-system");
        belonging.note("a", Some((at(1), &names(&["meterplane-system", "kube-system", "x"]))));
        let claims = belonging.claims("a");
        assert_eq!((claims.held, claims.reserved.len()), (names(&["x"]), 2));
        assert_eq!(belonging.holder("kube-system"), None);
    }
}
