//! Whether every rollup says what the rows say that it covers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tenants;
use crate::Result;
use crate::platform::workloads;
use crate::prove::Job;
use crate::prove::report::Round;
use crate::prove::rollups::{compare, uncovered};
use crate::prove::world::World;

/// How long sinks may take to sum up everything: a lane is held for 40 s first, and an idle one is looked at every 20 s.
const SUMMED_WITHIN: Duration = Duration::from_secs(180);

/// Environment of so many sinks that sum up what is a second old: nobody waits for ten minutes here, and days are built many times.
pub fn soon(sinks: usize) -> BTreeMap<String, Vec<(String, String)>> {
    let set = [("MP_ROLLUP_AGE_SECONDS", "1"), ("MP_ROLLUP_EVERY_SECONDS", "12")];
    let set = set.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    (0..sinks).map(|n| (workloads::sink(n), set.clone())).collect()
}

/// Compares before everything is summed up, as the faults left it, and afterwards.
///
/// # Errors
/// When ClickHouse cannot be asked.
pub fn judge(job: &Job<'_>, world: &World, round: &mut Round) -> Result<()> {
    let task = job.progress.task("rollups", "recounts every sum from the rows");
    let ask = |sql: &str| world.clickhouse(sql);
    let lanes = tenants::lanes()?;
    let (mut left, mut sums, mut wrong, mut misnumbered) = (0, [0, 0], Vec::new(), Vec::new());
    for (time, sums) in sums.iter_mut().enumerate() {
        if time == 1 {
            job.cancel.until(SUMMED_WITHIN, Duration::from_secs(1), || {
                left = lanes.iter().map(|lane| uncovered(lane, ask)).sum::<Result<u64>>()?;
                task.comment(&format!("{left} rows are not summed up"));
                Ok((left == 0).then_some(()))
            })?;
        }
        for lane in &lanes {
            let found = compare(lane, ask)?;
            *sums += found.sums;
            wrong.extend(found.wrong);
            misnumbered.extend(found.misnumbered);
        }
    }
    task.done(&format!("{} and {} sums", sums[0], sums[1]));
    round.number("sumsRecountedAtOnceAndAtTheEnd", sums);
    round.number("wrongSums", wrong.clone());
    round.at_most("sums that the rows do not give", wrong.len() as f64, 0.0);
    round.at_most("tenants whose users have wrong numbers", misnumbered.len() as f64, 0.0);
    round.at_most("rows that are not summed up in the end", left as f64, 0.0);
    round.at_most("lanes without sums", f64::from(u8::from(sums[1] == 0)), 0.0);
    Ok(())
}
