//! The live table: a row a tenant, renewed every second on a terminal, printed now and then without one.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::Value;

use super::metrics::{Counted, Pods};
use super::quickstart::Tenant;
use super::session::Watched;
use crate::http::Http;
use crate::platform::Urls;
use crate::{Progress, Result};

/// Without a terminal, how often the table is printed.
const PRINT_EVERY: Duration = Duration::from_secs(10);
/// Longest wait for one answer; a pod that is down must not stop the clock.
const ANSWER_WITHIN: Duration = Duration::from_millis(800);
/// How often the console is asked for limits, in looks at the pods.
const LIMITS_EVERY: u32 = 3;

/// The table.
pub(super) struct Table<'a> {
    http: Http,
    pods: Pods,
    urls: &'a Urls,
    tenants: &'a [Watched<'a>],
    progress: &'a Progress,
    rows: Option<ProgressBar>,
    limits: Vec<Option<String>>,
    began: Counted,
    before: (Instant, Counted),
    looks: u32,
    /// When it was last printed, and what: nothing new is not printed again.
    printed: (Instant, Vec<String>),
}

impl<'a> Table<'a> {
    /// With a first look at the pods, from which the rates count.
    pub(super) fn new(urls: &'a Urls, tenants: &'a [Watched<'a>], progress: &'a Progress) -> Self {
        let http = Http::new(ANSWER_WITHIN);
        let mut pods = Pods::default();
        let counted = look(&http, urls, &mut pods);
        Self {
            http,
            pods,
            urls,
            tenants,
            progress,
            rows: progress.rows(),
            limits: vec![None; tenants.len()],
            began: counted.clone(),
            before: (Instant::now(), counted),
            looks: 0,
            printed: (Instant::now(), vec![]),
        }
    }

    /// Looks at the pods and the console, and shows what they say.
    pub(super) fn renew(&mut self) {
        let now = (Instant::now(), look(&self.http, self.urls, &mut self.pods));
        if self.looks.is_multiple_of(LIMITS_EVERY) {
            for (limit, tenant) in self.limits.iter_mut().zip(self.tenants) {
                *limit = fullest_quota(&self.http, &self.urls.console, tenant.tenant).unwrap_or(limit.take());
            }
        }
        self.looks += 1;
        let lines = self.lines(&now);
        self.before = now;
        if let Some(rows) = &self.rows {
            rows.set_message(lines.join("\n"));
        } else if self.printed.0.elapsed() >= PRINT_EVERY && self.printed.1 != lines {
            lines.iter().for_each(|line| self.progress.say(line));
            self.printed = (Instant::now(), lines);
        }
    }

    /// Takes the moving rows away.
    pub(super) fn close(self) {
        if let Some(rows) = self.rows {
            // Clearing takes away one line; an empty message the others.
            rows.set_message("");
            rows.tick();
            rows.finish_and_clear();
        }
    }

    fn lines(&self, now: &(Instant, Counted)) -> Vec<String> {
        let seconds = now.0.duration_since(self.before.0).as_secs_f64().max(0.001);
        let since = |outcomes: &[&str], tenant: &str, earlier: &Counted| {
            (now.1.events(tenant, outcomes) - earlier.events(tenant, outcomes)).max(0.0)
        };
        let time = |share| {
            now.1.quantile(&self.began, share).map_or("-".into(), |seconds| milliseconds(seconds * 1_000.0))
        };
        let (p50, p99) = (time(0.5), time(0.99));
        let mut lines =
            vec![line(["TENANT", "EVENTS/S", "ACCEPTED", "LIMITED", "P50", "P99", "DELAY", "USED/LIMIT"])];
        for (watched, limit) in self.tenants.iter().zip(&self.limits) {
            let name = watched.tenant.name.as_str();
            let rate = since(&["accepted", "limited"], name, &self.before.1) / seconds;
            let delay =
                watched.delays.last().map_or("-".into(), |delay| milliseconds(delay.as_secs_f64() * 1_000.0));
            lines.push(line([
                name,
                &format!("{rate:.0}"),
                &format!("{:.0}", since(&["accepted"], name, &self.began)),
                &format!("{:.0}", since(&["limited"], name, &self.began)),
                &p50,
                &p99,
                &delay,
                limit.as_deref().unwrap_or("-"),
            ]));
        }
        lines
    }
}

/// What the pods have counted. The crash of one that is down is told elsewhere.
fn look(http: &Http, urls: &Urls, pods: &mut Pods) -> Counted {
    for pod in &urls.ingest_admin {
        if let Ok(answer) = http.get(&format!("{pod}/metrics"), &[]) {
            pods.see(pod, &answer.body);
        }
    }
    pods.sum()
}

/// The tenant's fullest quota, as text; rates begin anew before one could read them.
fn fullest_quota(http: &Http, console: &str, tenant: &Tenant) -> Result<Option<String>> {
    let bearer = format!("Bearer {}", tenant.read.key);
    let answer =
        http.get(&format!("{console}/v1/dashboard/summary?from=now-15m"), &[("authorization", &bearer)])?;
    Ok(fullest(&answer.accepted("the console's summary")?.json()))
}

fn fullest(summary: &Value) -> Option<String> {
    let limits = summary["limits"].as_array()?;
    let quotas = limits.iter().filter(|limit| limit["window"] != "Second" && limit["window"] != "Minute");
    let known = quotas.filter_map(|limit| {
        let (used, max) = (limit["used"].as_f64()?, limit["max"].as_f64()?);
        Some((used / max.max(1.0), used, max, limit["name"].as_str()?))
    });
    let (_, used, max, name) = known.max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(format!("{} / {} {name}", compact(used), compact(max)))
}

fn line(cells: [&str; 8]) -> String {
    let [tenant, rate, accepted, limited, p50, p99, delay, limit] = cells;
    format!("{tenant:<24}{rate:>9}{accepted:>10}{limited:>9}{p50:>9}{p99:>9}{delay:>9}   {limit}")
}

fn milliseconds(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1}ms") } else { format!("{ms:.0}ms") }
}

/// `1234567` as `1.23M`.
fn compact(number: f64) -> String {
    let (divisor, unit) = match number {
        n if n >= 1e9 => (1e9, "G"),
        n if n >= 1e6 => (1e6, "M"),
        n if n >= 1e5 => (1e3, "k"),
        _ => return format!("{number:.0}"),
    };
    let text = format!("{:.2}", number / divisor);
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_fullest_known_quota_is_shown() {
        let summary = json!({"limits": [
            {"name": "events", "max": 5_000_000, "used": 1_234_567},
            {"name": "ai-tokens", "max": 10, "used": 9},
            {"name": "burst", "max": 1, "used": 1, "window": "Second"},
            {"name": "per-user", "max": 1, "used": null},
        ]});
        assert_eq!(fullest(&summary).unwrap(), "9 / 10 ai-tokens");
        assert_eq!(fullest(&json!({"limits": []})), None);
        assert_eq!(fullest(&json!({})), None);
    }

    #[test]
    fn large_numbers_are_short() {
        let texts = [0.0, 99_999.0, 100_000.0, 1_234_567.0, 5e6, 2.5e9].map(compact);
        assert_eq!(texts, ["0", "99999", "100k", "1.23M", "5M", "2.5G"]);
    }
}
