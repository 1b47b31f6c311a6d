//! What `system.tables` prints of an engine, taken apart.

use std::collections::BTreeMap;

/// Retention rule and settings out of `engine_full`.
pub(super) fn ttl_and_settings(engine_full: &str) -> (String, BTreeMap<String, String>) {
    let (head, settings) = engine_full.split_once(" SETTINGS ").unwrap_or((engine_full, ""));
    let ttl = head.split_once(" TTL ").map_or("", |(_, ttl)| ttl);
    let pairs = settings.split(", ").filter_map(|pair| pair.split_once(" = "));
    (ttl.to_owned(), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_taken_apart() {
        let (ttl, settings) = ttl_and_settings(
            "MergeTree PARTITION BY toYYYYMMDD(time) ORDER BY (tenant, time) TTL toDateTime(time) + toIntervalDay(90) \
             SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 8192",
        );
        assert_eq!(ttl, "toDateTime(time) + toIntervalDay(90)");
        assert_eq!(settings["non_replicated_deduplication_window"], "10000");
        assert_eq!(settings.len(), 2);
        assert_eq!(ttl_and_settings("MergeTree ORDER BY a"), (String::new(), BTreeMap::new()));
    }
}
