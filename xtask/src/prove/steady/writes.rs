//! What was written to the apiserver, by its audit log.

use std::collections::BTreeMap;

use crate::Result;
use crate::prove::world::World;

/// Writes of the operator to the apiserver so far.
#[derive(Debug, Clone, Default)]
pub struct Writes {
    /// All of them but those of leases.
    pub calls: usize,
    /// The same by verb and resource.
    pub by_resource: BTreeMap<String, usize>,
}

impl Writes {
    /// Counts them.
    pub fn of_operator(world: &World) -> Result<Self> {
        let mut all = Self::default();
        for call in world.platform.audited()? {
            if call.account == "operator" && call.is_write() && call.resource != "leases" {
                all.calls += 1;
                *all.by_resource.entry(format!("{} {}", call.verb, call.resource)).or_default() += 1;
            }
        }
        Ok(all)
    }

    /// Those that came on top.
    pub fn since(&self, before: &Self) -> Self {
        let more = |(what, count): (&String, &usize)| {
            let more = count - before.by_resource.get(what).copied().unwrap_or(0);
            (more > 0).then(|| (what.clone(), more))
        };
        Self {
            calls: self.calls - before.calls,
            by_resource: self.by_resource.iter().filter_map(more).collect(),
        }
    }
}
