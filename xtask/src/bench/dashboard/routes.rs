//! The routes, and the same questions put to the rows: the statements that the console asked before there were rollups.

use serde_json::Value;

/// The tenant's zone: its days are not those of UTC.
pub(super) const ZONE: &str = "Europe/Zurich";
/// The rows of the tenant.
const ROWS: &str = "tenant_board.events_raw";

/// A range of event times, Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub from_ms: i64,
    pub to_ms: i64,
}

/// A route, what its answers say, and what the rows say.
pub(super) struct Route {
    /// For people.
    pub name: String,
    path: String,
    /// The lines of an answer, as the rows' statement gives them.
    pub told: fn(&Value) -> Vec<Vec<String>>,
    columns: String,
    rest: &'static str,
    filter: &'static str,
}

impl Route {
    /// Path and query.
    pub fn path(&self, span: Span) -> String {
        let moment = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_string();
        format!("{}from={}&to={}", self.path, moment(span.from_ms), moment(span.to_ms))
    }

    /// The statement over the rows.
    pub fn raw(&self, span: Span) -> String {
        let moment = |ms: i64| format!("fromUnixTimestamp64Milli(toInt64({ms}), 'UTC')");
        let Self { columns, rest, filter, .. } = self;
        format!(
            "SELECT {columns} FROM {ROWS} WHERE time >= {} AND time < {}{filter} {rest}",
            moment(span.from_ms),
            moment(span.to_ms)
        )
    }
}

const SUMS: &str = "count() AS events, uniqExactIf(user_key, user != '')";

/// Every usage route.
pub(super) fn all() -> Vec<Route> {
    let trend = |name: &str, interval: &str, bucket: &str, feature: bool| Route {
        name: name.to_owned(),
        path: format!(
            "/v1/dashboard/usage/trends?interval={interval}&{}",
            if feature { "feature=feature.3&" } else { "" }
        ),
        told: trends,
        columns: format!("toUnixTimestamp({bucket}) AS start, {SUMS}, toString(sum(value))"),
        rest: "GROUP BY start ORDER BY start",
        filter: if feature { " AND feature = 'feature.3'" } else { "" },
    };
    let (day, hour) = (format!("toStartOfDay(time, '{ZONE}')"), format!("toStartOfHour(time, '{ZONE}')"));
    vec![
        Route {
            name: "summary".into(),
            path: "/v1/dashboard/summary?".into(),
            told: summary,
            columns: format!(
                "{SUMS}, uniqExact(feature), toString(sum(value)), countIf(isNotNull(latency_ms)), \
                 arrayStringConcat(arrayMap(x -> toString(ifNull(x, 0)), \
                 quantilesExactWeightedIf(0.5, 0.95, 0.99)(latency_ms, 1, isNotNull(latency_ms))), ' ')"
            ),
            rest: "",
            filter: "",
        },
        Route {
            name: "by feature".into(),
            path: "/v1/dashboard/usage/by-feature?".into(),
            told: by_feature,
            columns: format!(
                "if(grouping(feature) = 1, '', toString(feature)) AS name, {SUMS}, toString(sum(value))"
            ),
            rest: "GROUP BY GROUPING SETS ((feature), ()) ORDER BY grouping(feature) DESC, events DESC, name LIMIT 101",
            filter: "",
        },
        trend("trend by day", "day", &day, false),
        trend("trend by hour", "hour", &hour, false),
        trend("trend of a feature by day", "day", &day, true),
        trend("trend of a feature by hour", "hour", &hour, true),
    ]
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn fields(value: &Value, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| text(&value[name])).collect()
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value["data"].as_array().into_iter().flatten()
}

fn summary(answer: &Value) -> Vec<Vec<String>> {
    let latency = &answer["latency"];
    let mut line = fields(answer, &["events", "activeUsers", "features", "value"]);
    line.push(text(&latency["events"]));
    line.push(fields(latency, &["p50Ms", "p95Ms", "p99Ms"]).join(" "));
    vec![line]
}

fn by_feature(answer: &Value) -> Vec<Vec<String>> {
    let sums = ["events", "activeUsers", "value"];
    let all = [vec![String::new()], fields(&answer["totals"], &sums)].concat();
    let each = rows(answer).map(|row| [fields(row, &["feature"]), fields(row, &sums)].concat());
    std::iter::once(all).chain(each).collect()
}

fn trends(answer: &Value) -> Vec<Vec<String>> {
    let held = rows(answer).filter(|bucket| bucket["events"] != 0);
    held.map(|bucket| {
        let start = text(&bucket["start"]).parse::<jiff::Timestamp>();
        let start = start.map_or_else(|error| error.to_string(), |start| start.as_second().to_string());
        [vec![start], fields(bucket, &["events", "activeUsers", "value"])].concat()
    })
    .collect()
}
