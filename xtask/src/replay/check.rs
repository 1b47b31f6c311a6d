//! Compares a file with what the dashboard says about it.

use std::collections::BTreeMap;

use super::source::TenantContent;
use crate::Result;
use crate::load::reader::{Range, Reader, Usage};

/// What the dashboard says about one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The summary.
    pub summary: Usage,
    /// By feature.
    pub features: BTreeMap<String, Usage>,
    /// Sum of the trend.
    pub trend: u64,
}

impl Shown {
    /// Asks the dashboard.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn read(reader: &Reader, key: &str, range: Range) -> Result<Self> {
        Ok(Self {
            summary: reader.summary(key, range)?,
            features: reader.features(key, range)?,
            trend: reader.trend(key, range)?,
        })
    }

    /// A sentence for each number that is not the file's.
    pub fn mismatches(&self, tenant: &str, file: &TenantContent) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: String, file: u64, shown: u64| {
            if file != shown {
                found.push(format!("{tenant}: {what}: the file has {file}, the dashboard {shown}"));
            }
        };
        compare("events of the summary".into(), file.events, self.summary.events);
        compare("users of the summary".into(), file.users.len() as u64, self.summary.users);
        compare("events of the trend".into(), file.events, self.trend);
        for (feature, events) in &file.features {
            let shown = self.features.get(feature).map_or(0, |usage| usage.events);
            compare(format!("events of feature {feature:?}"), *events, shown);
        }
        for (feature, usage) in
            self.features.iter().filter(|(feature, _)| !file.features.contains_key(*feature))
        {
            compare(format!("events of feature {feature:?}"), 0, usage.events);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_that_differs_is_told_and_nothing_else() {
        let file = TenantContent {
            display_name: "#a".into(),
            events: 3,
            features: BTreeMap::from([("f".into(), 2), ("g".into(), 1)]),
            users: ["u".to_owned()].into(),
        };
        let usage = |events, users| Usage { events, users };
        let features = BTreeMap::from([("f".into(), usage(2, 1)), ("g".into(), usage(1, 1))]);
        let mut shown = Shown { summary: usage(3, 1), features, trend: 3 };
        assert_eq!(shown.mismatches("a", &file), Vec::<String>::new());
        shown.summary = usage(4, 2);
        shown.features.remove("g");
        shown.features.insert("h".into(), usage(1, 1));
        let found = shown.mismatches("a", &file);
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[0], "a: events of the summary: the file has 3, the dashboard 4");
    }
}
