//! The eight pods: addresses, metrics, memory.

use crate::Result;
use crate::http::Http;
use crate::platform::Platform;
use crate::platform::memory::Memory;

/// Ingest pods of every proof.
pub const PODS: usize = 8;

/// The part's name of pod `n`, from 0.
pub fn name(n: usize) -> String {
    format!("ingest-{}", n + 1)
}

/// Sum over all pods of a metric's samples whose line holds every one of `marks`.
///
/// # Errors
/// When a pod does not answer.
pub fn metric(platform: &Platform, http: &Http, metric: &str, marks: &[&str]) -> Result<f64> {
    let mut sum = 0.0;
    for n in 0..PODS {
        let url = format!("{}/metrics", platform.url(&format!("{}-admin", name(n)))?);
        let text = http.get(&url, &[])?.accepted(&url)?.body;
        sum += text.lines().filter_map(|line| sample(line, metric, marks)).sum::<f64>();
    }
    Ok(sum)
}

fn sample(line: &str, metric: &str, marks: &[&str]) -> Option<f64> {
    let rest = line.strip_prefix(metric)?;
    let matches = (rest.starts_with('{') || rest.starts_with(' ')) && marks.iter().all(|m| rest.contains(m));
    matches.then(|| rest.rsplit(' ').next()?.parse().ok()).flatten()
}

/// Resident memory of each of the first pods, MiB.
///
/// # Errors
/// When a pod is gone.
pub fn rss_mib(platform: &Platform, pods: usize) -> Result<Vec<u64>> {
    (0..pods).map(|n| platform.memory_mib(&name(n), Memory::Resident)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_by_name_and_labels() {
        let line = r#"mp_ingest_ledger_operations_total{op="grant",result="ok"} 12"#;
        assert_eq!(sample(line, "mp_ingest_ledger_operations_total", &[r#"op="grant""#]), Some(12.0));
        assert_eq!(sample(line, "mp_ingest_ledger_operations_total", &[r#"op="return""#]), None);
        assert_eq!(sample(line, "mp_ingest_ledger", &[]), None, "another metric");
    }
}
