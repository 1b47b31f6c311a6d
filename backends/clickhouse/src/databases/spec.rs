//! What a database should be: one constructor for every kind that exists.

use std::collections::BTreeSet;

use event::{Lane, Stamp, TenantName, TenantNumber};

use event::names::POOL_PREFIX;

use crate::schema::{Kept, Retention, View};

/// A database that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSpec {
    /// Name.
    pub name: String,
    /// Its owner.
    pub stamp: Stamp,
    /// A lane's tables, if the lane is here. Tables that are here already stay when this is `None`.
    pub tables: Option<Retention>,
    /// What the views show, if people query here.
    pub views: Option<ViewSpec>,
}

/// The rows that a tenant's views show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewSpec {
    /// Whose rows it shows.
    pub tenant: TenantNumber,
    /// Databases of the lanes the tenant has had. Those that a view names already stay in it.
    pub databases: BTreeSet<String>,
    /// How much of it, where no table of its own says so.
    pub kept: Kept,
}

impl DatabaseSpec {
    /// Of a tenant with a lane of its own.
    pub fn dedicated(tenant: &TenantName, number: TenantNumber, kept: Kept, stamp: &Stamp) -> Self {
        let retention = Retention::Days { events: kept.events_days, rollups: kept.rollups_days };
        Self { tables: Some(retention), ..Self::pooled(tenant, number, [], kept, stamp) }.with_own_rows()
    }

    /// Of a tenant whose rows are in `lanes`.
    pub fn pooled<'a>(
        tenant: &TenantName,
        number: TenantNumber,
        lanes: impl IntoIterator<Item = &'a Lane>,
        kept: Kept,
        stamp: &Stamp,
    ) -> Self {
        let databases = lanes.into_iter().map(Lane::database).collect();
        Self {
            name: tenant.database(),
            stamp: stamp.clone(),
            tables: None,
            views: Some(ViewSpec { tenant: number, databases, kept }),
        }
    }

    /// Of a pool's shard: tables without a view.
    pub fn pool(shard: u16, stamp: &Stamp) -> Self {
        Self {
            name: Lane::Pooled(shard).database(),
            stamp: stamp.clone(),
            tables: Some(Retention::PerRow),
            views: None,
        }
    }

    fn with_own_rows(mut self) -> Self {
        if let Some(view) = &mut self.views {
            view.databases.insert(self.name.clone());
        }
        self
    }
}

impl ViewSpec {
    /// A view's statement, letter for letter as ClickHouse prints it: that is how drift shows.
    pub fn select(&self, view: View) -> String {
        let (columns, table) = (view.columns().join(", "), view.table().name());
        if view == View::Places {
            // Also of a database in which nothing of the tenant is yet.
            let places = self.databases.iter().map(|database| format!("SELECT '{database}' AS place"));
            return places.collect::<Vec<_>>().join(" UNION ALL ");
        }
        let parts: Vec<String> = self
            .databases
            .iter()
            .map(|database| {
                let place = if view.is_placed() { format!(", '{database}' AS place") } else { String::new() };
                let from = format!("SELECT {columns}{place} FROM {database}.{table}");
                let pooled = database.starts_with(POOL_PREFIX);
                let filters = if pooled { view.pooled_filter(self.kept) } else { Vec::new() };
                if filters.is_empty() {
                    return format!("{from} WHERE tenant = {}", self.tenant);
                }
                let filters: String = filters.iter().map(|filter| format!(" AND ({filter})")).collect();
                format!("{from} WHERE (tenant = {}){filters}", self.tenant)
            })
            .collect();
        parts.join(" UNION ALL ")
    }

    /// With the lanes that a view's present statement names: rows stay where they are until retention drops them.
    pub(crate) fn keeping(&self, own: &str, select: &str) -> Self {
        let lanes = named(select).filter(|name| *name == own || name.starts_with(POOL_PREFIX));
        let databases = lanes.map(str::to_owned).chain(self.databases.iter().cloned()).collect();
        Self { databases, ..self.clone() }
    }
}

/// Databases that a view's statement reads from.
pub(super) fn named(select: &str) -> impl Iterator<Item = &str> {
    let rests = select.split(" FROM ").skip(1).filter_map(|rest| rest.split_once('.'));
    rests.map(|(database, _)| database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_moved_keeps_its_earlier_lanes_in_view() {
        let select = |spec: &ViewSpec| spec.select(View::Events);
        let view = |databases: &[&str]| ViewSpec {
            tenant: TenantNumber(7),
            databases: databases.iter().map(|name| (*name).to_owned()).collect(),
            kept: Kept { events_days: 30, rollups_days: 365 },
        };
        let (own, pool) = (view(&["tenant_a"]), view(&["pool_3"]));
        assert_eq!(own.keeping("tenant_a", &select(&pool)), view(&["pool_3", "tenant_a"]));
        assert_eq!(own.keeping("tenant_a", &select(&view(&["tenant_other"]))), own, "never another tenant's");
        assert_eq!(select(&own).matches("tenant = 7").count(), 1);
    }

    #[test]
    fn a_pooled_tenant_sees_no_more_than_it_is_kept_for() {
        let kept = Kept { events_days: 30, rollups_days: 365 };
        let spec = ViewSpec { tenant: TenantNumber(7), databases: ["pool_3".to_owned()].into(), kept };
        assert!(spec.select(View::Charged).ends_with("AND (time > (now() - toIntervalDay(30)))"));
        assert!(spec.select(View::Rollups).ends_with("WHERE (tenant = 7) AND (day > (today() - 365))"));
        let shorter = ViewSpec { kept: Kept { events_days: 20, ..kept }, ..spec.clone() };
        assert_ne!(shorter.select(View::Events), spec.select(View::Events), "a change shows as drift");
    }
}
