//! The few numbers that the live table takes from the ingest pods' `/metrics` (Prometheus text format).

use std::collections::BTreeMap;

/// What the pods have counted since they started.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counted {
    /// Events by tenant and outcome.
    events: BTreeMap<(String, String), f64>,
    /// Requests answered within each number of seconds (cumulative), the bound as the pod writes it.
    buckets: BTreeMap<Bound, f64>,
}

/// The pods, each counting anew when it starts again.
#[derive(Debug, Default)]
pub(super) struct Pods(BTreeMap<String, Pod>);

#[derive(Debug, Default)]
struct Pod {
    /// What it had counted when it started again.
    before: Counted,
    /// What it said last.
    last: Counted,
}

impl Pods {
    /// Takes note of what a pod says. One that does not answer keeps what it said last.
    pub(super) fn see(&mut self, pod: &str, text: &str) {
        let mut said = Counted::default();
        said.add(text);
        let pod = self.0.entry(pod.to_owned()).or_default();
        if said.requests() < pod.last.requests() {
            pod.before.merge(&pod.last);
        }
        pod.last = said;
    }

    /// What all of them have counted.
    pub(super) fn sum(&self) -> Counted {
        let mut sum = Counted::default();
        for pod in self.0.values() {
            sum.merge(&pod.before);
            sum.merge(&pod.last);
        }
        sum
    }
}

/// An upper bound in seconds that can be ordered.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bound(f64);

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Counted {
    fn requests(&self) -> f64 {
        self.buckets.values().next_back().copied().unwrap_or_default()
    }

    fn merge(&mut self, other: &Self) {
        for (key, count) in &other.events {
            *self.events.entry(key.clone()).or_default() += count;
        }
        for (bound, count) in &other.buckets {
            *self.buckets.entry(*bound).or_default() += count;
        }
    }

    /// Adds what one pod says.
    fn add(&mut self, text: &str) {
        for (name, labels, value) in text.lines().filter_map(sample) {
            let label = |wanted: &str| {
                labels.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
            };
            match name {
                "mp_ingest_events_total" => {
                    let (tenant, outcome) =
                        (label("tenant").unwrap_or_default(), label("outcome").unwrap_or_default());
                    *self.events.entry((tenant.to_owned(), outcome.to_owned())).or_default() += value;
                }
                "mp_ingest_request_seconds_bucket" => {
                    let bound = match label("le") {
                        Some("+Inf") => Some(f64::INFINITY),
                        bound => bound.and_then(|bound| bound.parse().ok()),
                    };
                    if let Some(bound) = bound {
                        *self.buckets.entry(Bound(bound)).or_default() += value;
                    }
                }
                _ => {}
            }
        }
    }

    /// Events of a tenant with one of these outcomes.
    pub(super) fn events(&self, tenant: &str, outcomes: &[&str]) -> f64 {
        let of = |((name, outcome), count): (&(String, String), &f64)| {
            (name == tenant && outcomes.contains(&outcome.as_str())).then_some(*count)
        };
        self.events.iter().filter_map(of).sum()
    }

    /// The time within which this share of the requests since `earlier` was answered, in seconds: interpolated inside its bucket,
    /// as Prometheus does. `None` when there was none, or a pod has restarted since.
    pub(super) fn quantile(&self, earlier: &Self, share: f64) -> Option<f64> {
        let since: Vec<(f64, f64)> = self
            .buckets
            .iter()
            .map(|(bound, count)| (bound.0, count - earlier.buckets.get(bound).copied().unwrap_or_default()))
            .collect();
        let total = since.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let rank = share * total;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in since {
            if count >= rank {
                // Beyond the last finite bound nothing is known but that bound.
                let inside = if count > below { (rank - below) / (count - below) } else { 1.0 };
                return Some(if bound.is_finite() { lower + (bound - lower) * inside } else { lower });
            }
            (lower, below) = (bound, count);
        }
        None
    }
}

/// Names and values.
type Labels = Vec<(String, String)>;

/// Name, labels and value of one line; `None` for comments and what is not understood.
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        let mut at = inner;
        while !at.starts_with('}') {
            let (label, after) = at.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label.trim().to_owned(), value));
            at = after;
        }
        rest = &at[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// A label's value up to its closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = r#"# HELP mp_ingest_events Events by tenant and outcome.
# TYPE mp_ingest_events counter
mp_ingest_events_total{tenant="acme",outcome="accepted"} 90
mp_ingest_events_total{outcome="limited",tenant="acme"} 10
mp_ingest_events_total{tenant="wayne \"x\"",outcome="accepted"} 1
mp_ingest_request_seconds_sum 1.5
mp_ingest_request_seconds_bucket{le="0.001"} 50
mp_ingest_request_seconds_bucket{le="0.01"} 90
mp_ingest_request_seconds_bucket{le="+Inf"} 100
# EOF
"#;

    #[test]
    fn pods_are_added_up_by_tenant_and_outcome() {
        let mut counted = Counted::default();
        counted.add(POD);
        counted.add(POD);
        assert_eq!(counted.events("acme", &["accepted"]), 180.0);
        assert_eq!(counted.events("acme", &["accepted", "limited"]), 200.0);
        assert_eq!(counted.events("wayne \"x\"", &["accepted"]), 2.0);
        assert_eq!(counted.events("nobody", &["accepted"]), 0.0);
    }

    #[test]
    fn quantiles_are_interpolated_and_count_from_an_earlier_look() {
        let mut counted = Counted::default();
        counted.add(POD);
        let close = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-9, "{a:?} {b}");
        close(counted.quantile(&Counted::default(), 0.25), 0.0005);
        close(counted.quantile(&Counted::default(), 0.5), 0.001);
        close(counted.quantile(&Counted::default(), 0.7), 0.0055);
        close(counted.quantile(&Counted::default(), 0.99), 0.01);
        assert_eq!(counted.quantile(&counted, 0.5), None);
        assert_eq!(Counted::default().quantile(&counted, 0.5), None);
    }

    #[test]
    fn a_pod_that_starts_again_loses_nothing() {
        let mut pods = Pods::default();
        let said = |accepted: u32, requests: u32| {
            format!(
                "mp_ingest_events_total{{tenant=\"a\",outcome=\"accepted\"}} {accepted}\n\
                 mp_ingest_request_seconds_bucket{{le=\"+Inf\"}} {requests}\n"
            )
        };
        pods.see("1", &said(90, 9));
        pods.see("2", &said(5, 1));
        pods.see("1", &said(20, 2));
        pods.see("1", &said(30, 3));
        assert_eq!(pods.sum().events("a", &["accepted"]), 125.0);
    }

    #[test]
    fn lines_that_are_not_understood_are_passed_over() {
        let mut counted = Counted::default();
        counted.add("mp_ingest_events_total{tenant=\"a\nnonsense\n\nmp_ingest_events_total x\n");
        assert_eq!(counted, Counted::default());
    }
}
