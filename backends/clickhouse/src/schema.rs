//! Tables, columns and views that exist: the one place where their names and types stand.
//!
//! Changes are additive: a new column goes to the end of its list with a default, and every lane's table gets it when its
//! database is next planned. A column's type is never changed.

use event::names::{
    CHARGED_VIEW, CHARGES_TABLE, EVENTS_VIEW, PLACES_VIEW, RAW_TABLE, REMOVED_TABLE, ROLLUPS_TABLE,
    ROLLUPS_VIEW, USERS_TABLE, USERS_VIEW, VIOLATIONS_TABLE, VIOLATIONS_VIEW,
};

use crate::rollups;

/// Column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: &'static str,
    /// Type, spelled as ClickHouse prints it.
    pub kind: &'static str,
    /// Default and codec, if any.
    pub rest: &'static str,
}

pub(crate) const fn column(name: &'static str, kind: &'static str) -> Column {
    Column { name, kind, rest: "" }
}

/// Columns of `events_raw`, the same in dedicated and pooled lanes.
pub const RAW_COLUMNS: [Column; 21] = [
    column("tenant", "UInt64"),
    column("event_hash", "UInt128"),
    column("source", "String"),
    column("id", "String"),
    column("feature", "LowCardinality(String)"),
    column("user_key", "UInt128"),
    // The plain user name stands here and nowhere else, so that it can be encrypted or erased in one place.
    column("user", "String"),
    column("time", "DateTime64(3, 'UTC')"),
    column("received", "DateTime64(3, 'UTC')"),
    column("value", "Decimal(18, 6)"),
    column("latency_ms", "Nullable(UInt32)"),
    Column { name: "data", kind: "String", rest: "CODEC(ZSTD(1))" },
    // Where the row came from: (lane, epoch, seq, idx) is one event of one pack of one stream.
    column("lane", "LowCardinality(String)"),
    column("epoch", "Int64"),
    column("seq", "UInt64"),
    column("idx", "UInt32"),
    column("intent", "UInt64"),
    column("pack", "UInt128"),
    // Pooled lanes hold tenants of different retention. Never, unless the sink says otherwise.
    Column { name: "expires_at", kind: "DateTime('UTC')", rest: "DEFAULT toDateTime(4294967295, 'UTC')" },
    // The pod that admitted the event, and what it charged (ledger key -> units): from these a ledger that was lost is seeded.
    column("incarnation", "UInt128"),
    Column { name: "charges", kind: "Map(String, UInt64)", rest: "CODEC(ZSTD(1))" },
];

/// Columns of `removed`: events of a lane that are not in `events_raw`, and why.
pub const REMOVED_COLUMNS: [Column; 10] = [
    column("tenant", "UInt64"),
    column("lane", "LowCardinality(String)"),
    column("epoch", "Int64"),
    column("seq", "UInt64"),
    column("idx", "UInt32"),
    column("intent", "UInt64"),
    column("reason", "Enum8('duplicate' = 1, 'dead' = 2)"),
    column("event_hash", "UInt128"),
    // Receipt time of the pack, so that a replay writes the same row.
    column("at", "DateTime64(3, 'UTC')"),
    // The pack that it came in: a pack that landed twice was charged once.
    column("pack", "UInt128"),
];

/// Columns of `charges`: what pods charged to quotas that never start anew, one row a key, pod and intent. It is the book by
/// which dead pods are settled, so no row is ever dropped; old ones are added up.
pub const CHARGE_COLUMNS: [Column; 9] = [
    column("tenant", "UInt64"),
    column("key", "String"),
    column("incarnation", "UInt128"),
    column("lane", "LowCardinality(String)"),
    column("epoch", "Int64"),
    column("intent", "UInt64"),
    // First receipt of the intent's packs, so that a replay writes the same row.
    column("at", "DateTime64(3, 'UTC')"),
    // Units of events that are stored.
    column("stored", "UInt64"),
    // Units of events that were removed, because another charge of the same event is stored.
    column("repeated", "UInt64"),
];

/// Columns of `violations_raw`: attempts that a rule did not admit, one row a record of stream `VIOLATIONS`.
pub const VIOLATION_COLUMNS: [Column; 12] = [
    column("tenant", "UInt64"),
    column("rule", "LowCardinality(String)"),
    column("kind", "Enum8('Limit' = 1, 'Access' = 2)"),
    column("effect", "Enum8('Refused' = 1, 'Warned' = 2, 'Observed' = 3)"),
    column("user_key", "UInt128"),
    column("second", "DateTime('UTC')"),
    column("count", "UInt64"),
    column("first", "DateTime64(3, 'UTC')"),
    column("last", "DateTime64(3, 'UTC')"),
    column("samples", "Array(String)"),
    // Where the row came from: (epoch, seq) is one message of the stream, and of one creation of it.
    column("epoch", "Int64"),
    column("seq", "UInt64"),
];

/// Columns of view `events`: what people query. The rest is between the sink and the auditor, but for the intent, which tells
/// rows that a rollup covers from later ones.
pub const VIEW_COLUMNS: [&str; 11] = [
    "time",
    "feature",
    "user",
    "user_key",
    "value",
    "latency_ms",
    "source",
    "id",
    "received",
    "data",
    "intent",
];

/// Columns of view `violations`.
const VIOLATION_VIEW_COLUMNS: [&str; 9] =
    ["rule", "kind", "effect", "user_key", "second", "count", "first", "last", "samples"];

/// Columns of view `charged`: where a row came from, what it was charged, and what a limit looks at.
const CHARGED_VIEW_COLUMNS: [&str; 13] = [
    "received",
    "time",
    "lane",
    "epoch",
    "seq",
    "incarnation",
    "charges",
    "feature",
    "user",
    "user_key",
    "source",
    "id",
    "data",
];

/// A view of a tenant's database: what people query, and what the operator seeds ledgers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// `events`.
    Events,
    /// `violations`.
    Violations,
    /// `charged`.
    Charged,
    /// `rollups`.
    Rollups,
    /// `users`.
    Users,
    /// `places`.
    Places,
}

impl View {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Events, Self::Violations, Self::Charged, Self::Rollups, Self::Users, Self::Places];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => EVENTS_VIEW,
            Self::Violations => VIOLATIONS_VIEW,
            Self::Charged => CHARGED_VIEW,
            Self::Rollups => ROLLUPS_VIEW,
            Self::Users => USERS_VIEW,
            Self::Places => PLACES_VIEW,
        }
    }

    /// The raw table that it shows rows of.
    pub const fn table(self) -> Table {
        match self {
            Self::Events | Self::Charged | Self::Places => Table::Raw,
            Self::Violations => Table::Violations,
            Self::Rollups => Table::Rollups,
            Self::Users => Table::Users,
        }
    }

    /// Its columns.
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Events => &VIEW_COLUMNS,
            Self::Violations => &VIOLATION_VIEW_COLUMNS,
            Self::Charged => &CHARGED_VIEW_COLUMNS,
            Self::Rollups => &rollups::VIEW_COLUMNS,
            Self::Users => &rollups::USERS_VIEW_COLUMNS,
            Self::Places => &[],
        }
    }

    /// Whether people query it themselves. The rest takes knowledge of how it came about, or is between our own processes.
    pub const fn is_for_people(self) -> bool {
        matches!(self, Self::Events | Self::Violations)
    }

    /// Whether each row says in which database it is: `place`.
    pub const fn is_placed(self) -> bool {
        matches!(self, Self::Events | Self::Rollups | Self::Users | Self::Places)
    }

    /// Which of a pool's rows it shows, each a condition as ClickHouse prints it: parts of a pool outlive some of their rows, and a
    /// tenant's retention may have become shorter since they were stored.
    pub fn pooled_filter(self, kept: Kept) -> Vec<String> {
        let Kept { events_days, rollups_days } = kept;
        match self {
            Self::Events | Self::Charged => {
                vec![
                    "expires_at > now()".to_owned(),
                    format!("time > (now() - toIntervalDay({events_days}))"),
                ]
            }
            Self::Rollups => vec![format!("day > (today() - {rollups_days})")],
            Self::Violations | Self::Users | Self::Places => Vec::new(),
        }
    }
}

/// Blocks whose tokens a table remembers. A lane inserts at most 40 blocks a second; 4 x (5 s lease + 30 s timeout) x 40
/// is 5,600.
pub const DEDUPLICATION_WINDOW: u32 = 10_000;

/// Settings that a table keeps as it was made: the server changes them in none.
pub(crate) const FIXED_SETTINGS: [&str; 1] = ["index_granularity"];

/// A table of a tenant's or a pool's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `events_raw`.
    Raw,
    /// `removed`.
    Removed,
    /// `charges`.
    Charges,
    /// `violations_raw`.
    Violations,
    /// `rollups_raw`.
    Rollups,
    /// `users_raw`.
    Users,
}

impl Table {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Raw, Self::Removed, Self::Charges, Self::Violations, Self::Rollups, Self::Users];

    /// Its name in the lane's database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => RAW_TABLE,
            Self::Removed => REMOVED_TABLE,
            Self::Charges => CHARGES_TABLE,
            Self::Violations => VIOLATIONS_TABLE,
            Self::Rollups => ROLLUPS_TABLE,
            Self::Users => USERS_TABLE,
        }
    }

    /// Its engine.
    pub const fn engine(self) -> &'static str {
        match self {
            Self::Rollups => rollups::ENGINE,
            _ => "MergeTree",
        }
    }

    /// Its columns.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Raw => &RAW_COLUMNS,
            Self::Removed => &REMOVED_COLUMNS,
            Self::Charges => &CHARGE_COLUMNS,
            Self::Violations => &VIOLATION_COLUMNS,
            Self::Rollups => &rollups::COLUMNS,
            Self::Users => &rollups::USER_COLUMNS,
        }
    }

    /// Its sorting key, as ClickHouse prints it.
    pub const fn sorting_key(self) -> &'static str {
        match self {
            Self::Raw => "tenant, feature, time, event_hash",
            Self::Removed => "tenant, lane, epoch, seq, idx",
            Self::Charges => "tenant, key, incarnation, lane, epoch, intent",
            Self::Violations => "tenant, second, rule, epoch, seq",
            Self::Rollups => rollups::SORTING_KEY,
            Self::Users => "tenant, user_key",
        }
    }

    /// Its partition key, as ClickHouse prints it. Few rows are removed, charged or refused: they need no partitions.
    pub const fn partition_key(self) -> &'static str {
        match self {
            Self::Raw => "toYYYYMMDD(time)",
            Self::Rollups => "toYYYYMM(day)",
            Self::Removed | Self::Charges | Self::Violations | Self::Users => "",
        }
    }

    /// Its skip indexes: name and definition. The filter finds a few repeated ids without reading the horizon: measured on
    /// 9 M rows it answers for nine ids in 25 ms instead of 180, and costs 7 % of small inserts; a projection costs 32 %.
    pub const fn indexes(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Raw => &[
                ("by_hash", "event_hash TYPE bloom_filter(0.001) GRANULARITY 1"),
                // Rows of one time have sequences that lie together: a range of the lane is counted without reading all.
                ("by_seq", "seq TYPE minmax GRANULARITY 1"),
                // What a rollup does not cover is found without reading what it covers.
                ("by_intent", "intent TYPE minmax GRANULARITY 1"),
            ],
            // Packs are removed about in the order of their receipt: a pack is found without reading the others.
            Self::Removed => &[("by_receipt", "at TYPE minmax GRANULARITY 1")],
            Self::Charges | Self::Violations | Self::Rollups | Self::Users => &[],
        }
    }

    /// Its settings, as far as we set them.
    pub fn settings(self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("non_replicated_deduplication_window", DEDUPLICATION_WINDOW.to_string()),
            // A longer retention rewrites no rows.
            ("materialize_ttl_recalculate_only", "1".to_owned()),
            // Nothing here joins by them, and each insert and each merge would make them for every column.
            ("auto_statistics_types", "''".to_owned()),
        ];
        if self == Self::Raw {
            settings.push(("ttl_only_drop_parts", "1".to_owned()));
            // Lanes insert little and often. Merges of five parts at once would write each row some eight times before a day is one
            // part; of twelve, three times.
            settings.push(("merge_selector_base", "12".to_owned()));
            // Dashboards add rows that rollups do not cover, a few here and there: each costs a granule of every column that is
            // read, and a compressed block at least. Measured on 12 M rows: half the time, for 1.4 % more of the disk.
            settings.push(("index_granularity", "2048".to_owned()));
            settings.push(("min_compress_block_size", "16384".to_owned()));
        }
        if self == Self::Rollups {
            // A row holds sets of users: few are read, and those around them should not be.
            settings.push(("index_granularity", "64".to_owned()));
        }
        if matches!(self, Self::Charges | Self::Users) {
            // Nobody counts these rows again: see docs/adr/0015-replay-instead-of-fsync.md.
            settings.push(("fsync_after_insert", "1".to_owned()));
            settings.push(("fsync_part_directory", "1".to_owned()));
        }
        settings
    }

    /// Its retention rule, as ClickHouse prints it; none if it keeps its rows.
    pub fn ttl(self, retention: Retention) -> String {
        let (own, shared, rollups) = match retention {
            Retention::Days { events, rollups } => (Some(events), events, rollups),
            Retention::PerRow => (None, POOL_REMOVED_DAYS, POOL_ROLLUP_DAYS),
        };
        match self {
            Self::Charges => CHARGES_ROLLUP.to_owned(),
            Self::Raw => own
                .map_or("expires_at".to_owned(), |days| format!("toDateTime(time) + toIntervalDay({days})")),
            Self::Removed => format!("toDateTime(at) + toIntervalDay({shared})"),
            Self::Violations => format!("second + toIntervalDay({shared})"),
            Self::Rollups => format!("day + toIntervalDay({rollups})"),
            // As long as any rollup may name them.
            Self::Users => String::new(),
        }
    }
}

/// Charges are added up when no replay can ask for their intent any more: a busy lane has four intents a second.
const CHARGES_ROLLUP: &str = "toDateTime(at) + toIntervalDay(2) GROUP BY tenant, key, incarnation, lane, epoch \
SET intent = max(intent), at = max(at), stored = sum(stored), repeated = sum(repeated)";

/// Days for which a pool remembers what was removed.
const POOL_REMOVED_DAYS: u32 = 90;

/// Days for which a pool keeps rollups; a tenant sees no more of them than it asked for.
pub const POOL_ROLLUP_DAYS: u32 = 730;

/// How long a tenant's rows are kept, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Events.
    pub events_days: u32,
    /// Rollups.
    pub rollups_days: u32,
}

/// How long a lane's rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Dedicated lanes.
    Days {
        /// Days after an event's time; whole days are dropped at once.
        events: u32,
        /// Days after the day that a rollup is about.
        rollups: u32,
    },
    /// Until the row's `expires_at`. Pools.
    PerRow,
}
