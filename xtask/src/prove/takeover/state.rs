//! Everything that an operator may change, as it is now, so that two moments can be compared.

use super::super::outside;
use super::super::proxy::{KINDS, Proxy};
use super::super::world::World;
use crate::Result;

pub use super::super::outside::{State, differences};

/// Lists of what else the operator writes at the apiserver. Not the Leases: holding one is writing it.
const OTHERS: [&str; 3] =
    ["/api/v1/secrets", "/api/v1/configmaps", "/apis/rbac.authorization.k8s.io/v1/rolebindings"];

/// Reads all of it.
///
/// # Errors
/// When a system does not answer.
pub fn read(world: &World, proxy: &Proxy) -> Result<State> {
    let mut state = outside::read(world)?;
    for list in KINDS.into_iter().chain(OTHERS) {
        let kind = list.rsplit('/').next().unwrap_or(list);
        for object in proxy.get(list)?["items"].as_array().into_iter().flatten() {
            let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let name = format!("{kind} {}/{}", meta("namespace"), meta("name"));
            state.insert(name, format!("{} {}", meta("uid"), meta("resourceVersion")));
        }
    }
    Ok(state)
}
