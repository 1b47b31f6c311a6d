//! Parts that are away for a while, under load.

use std::time::{Duration, Instant};

use crate::prove::conservation::accounts;
use crate::prove::conservation::traffic::{Counts, Traffic};
use crate::prove::report::Round;
use crate::prove::world::World;
use crate::prove::{Job, pods};
use crate::{Error, Result};

/// How often clients' counts are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Answers that were on their way when a part died are heard within this time.
const UNDER_WAY: Duration = Duration::from_millis(500);
/// How long everything may take to be as before.
const AS_BEFORE_WITHIN: Duration = Duration::from_secs(120);
/// Lag in messages that is as before: what flows while it is measured.
const AS_BEFORE_MESSAGES: u64 = 60;
/// How long NATS may take to write again by itself.
const BY_ITSELF_WITHIN: Duration = Duration::from_secs(15);
/// Longest time without a 202 while ClickHouse is away; a large request uses up a second of the pace.
const SILENCE_MS: f64 = 3_000.0;
/// How much a pod's resident memory may grow while NATS is away.
const GROWTH_MIB: f64 = 64.0;

/// Load before an outage, so that there is something to compare with.
fn warm_up(job: &Job<'_>) -> Result<()> {
    job.cancel.pause(Duration::from_secs(3))
}

/// Waits, and tells the longest time without a 202, milliseconds.
fn watch(job: &Job<'_>, traffic: &Traffic, lasting: Duration, mut look: impl FnMut()) -> Result<u64> {
    let (began, mut last, mut longest) = (Instant::now(), (Instant::now(), traffic.told.counts()), 0);
    while began.elapsed() < lasting {
        job.cancel.pause(LOOK)?;
        look();
        let now = traffic.told.counts();
        longest = longest.max(last.0.elapsed().as_millis());
        if now.accepted > last.1.accepted {
            last = (Instant::now(), now);
        }
    }
    Ok(u64::try_from(longest).unwrap_or(u64::MAX))
}

/// Waits until something is as it should be, and tells after how many seconds.
fn until(job: &Job<'_>, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<f64> {
    let began = Instant::now();
    let so = job.cancel.until(AS_BEFORE_WITHIN, LOOK, || Ok(is_so()?.then_some(())))?;
    so.map(|()| began.elapsed().as_secs_f64()).ok_or_else(|| Error::Program {
        program: what.to_owned(),
        detail: format!("not within {} s", AS_BEFORE_WITHIN.as_secs()),
    })
}

/// Waits until clients are answered 202 more often than `before`, and tells after how many seconds.
fn answered_again(job: &Job<'_>, traffic: &Traffic, before: u64) -> Result<f64> {
    until(job, "clients being answered 202 again", || Ok(traffic.told.counts().accepted > before))
}

/// ClickHouse dies and stays away: clients notice nothing, and the sinks catch up.
///
/// # Errors
/// When it does not come back, or the sinks do not catch up.
pub fn clickhouse(
    job: &Job<'_>,
    world: &World,
    traffic: &Traffic,
    away: Duration,
    round: &mut Round,
) -> Result<()> {
    warm_up(job)?;
    let task = job.progress.task("clickhouse", "is away; events are accepted all the same");
    let before = traffic.told.counts();
    world.platform.kill9("clickhouse")?;
    let silence_ms = watch(job, traffic, away, || {})?;
    let during = traffic.told.counts() - before;
    let behind = accounts::behind(world)?;
    world.platform.start_part("clickhouse")?;
    let caught_up =
        until(job, "the sinks catching up", || Ok(accounts::behind(world)? <= AS_BEFORE_MESSAGES))?;
    task.done(&format!("{behind} messages waited; caught up after {caught_up:.1} s"));
    round.number("clickhouse away: seconds", away.as_secs());
    round.number("clickhouse away: answers 202", during.accepted);
    round.number("clickhouse away: messages that waited", behind);
    round.number("clickhouse away: caught up after seconds", caught_up);
    let others = during.later + during.silent + during.others + during.limited;
    round.at_most("clickhouse away: answers other than 202", others as f64, 0.0);
    round.at_most("clickhouse away: longest time without a 202, ms", silence_ms as f64, SILENCE_MS);
    Ok(())
}

/// NATS dies and stays away: everything is refused for now, and pods keep no more of it than before.
///
/// # Errors
/// When it does not come back, or nobody is answered 202 again.
pub fn nats(
    job: &Job<'_>,
    world: &World,
    traffic: &Traffic,
    away: Duration,
    round: &mut Round,
) -> Result<()> {
    warm_up(job)?;
    let task = job.progress.task("nats", "is away; everything is refused for now");
    let rss = || pods::rss_mib(&world.platform, world.pods);
    let before_mib = rss()?;
    world.platform.kill9("nats")?;
    job.cancel.pause(UNDER_WAY)?;
    let before = traffic.told.counts();
    let mut most_mib = before_mib.clone();
    watch(job, traffic, away, || {
        for (most, now) in most_mib.iter_mut().zip(rss().unwrap_or_default()) {
            *most = now.max(*most);
        }
    })?;
    let during = traffic.told.counts() - before;
    world.platform.start_part("nats")?;
    let back = answered_again(job, traffic, traffic.told.counts().accepted)?;
    task.done(&format!("{} answers 503; the next 202 {back:.1} s after it was back", during.later));
    round.number("nats away: seconds", away.as_secs());
    refused("nats away", during, round);
    round.number("nats away: the next 202 after seconds", back);
    let growth = before_mib.iter().zip(&most_mib).map(|(before, most)| most - before).max();
    round.number("nats away: RSS of pods before, MiB", before_mib);
    round.number("nats away: RSS of pods at most, MiB", most_mib);
    let growth = growth.unwrap_or_default() as f64;
    round.at_most("nats away: growth of a pod's RSS, MiB", growth, GROWTH_MIB);
    Ok(())
}

/// NATS's disk fills up and stays full; then there is room again, and NATS is started anew if it needs that, as by a probe.
///
/// # Errors
/// When nobody is answered 202 again.
pub fn disk(
    job: &Job<'_>,
    world: &World,
    traffic: &Traffic,
    full: Duration,
    round: &mut Round,
) -> Result<()> {
    warm_up(job)?;
    let task = job.progress.task("disk", "is full; everything is refused for now");
    let disk = world
        .nats_disk()
        .ok_or_else(|| Error::Missing { what: "a small disk".into(), remedy: "mount one".into() })?;
    let filler = disk.fill()?;
    // What NATS had room for in files that it has already.
    watch(job, traffic, Duration::from_secs(3), || {})?;
    let before = traffic.told.counts();
    watch(job, traffic, full, || {})?;
    let during = traffic.told.counts() - before;
    drop(filler);
    let answered = traffic.told.counts().accepted;
    let again = || Ok((traffic.told.counts().accepted > answered).then_some(()));
    let by_itself = job.cancel.until(BY_ITSELF_WITHIN, LOOK, again)?.is_some();
    round.number("disk full: NATS takes writes by itself once there is room", by_itself);
    if !by_itself {
        // A stream keeps the error of its last write until the server starts anew; its own health answer says so.
        let health = world.http.get(&format!("{}/healthz", world.platform.url("nats-monitor")?), &[])?;
        round.number("disk full: NATS's /healthz once there is room", health.summary());
        let unsaid = f64::from(u8::from(health.ok()));
        round.at_most("disk full: NATS takes no writes and says that it is well (1 = so)", unsaid, 0.0);
        world.platform.restart("nats")?;
    }
    let back = answered_again(job, traffic, answered)?;
    task.done(&format!(
        "{} answers 503; room again, by itself: {by_itself}; the next 202 {back:.1} s later",
        during.later
    ));
    refused("disk full", during, round);
    round.number("disk full: from there to the next 202, seconds", back);
    // Something is stored afterwards as well.
    job.cancel.pause(Duration::from_secs(5))
}

/// What clients were told while nothing could be stored.
fn refused(when: &str, during: Counts, round: &mut Round) {
    round.number(&format!("{when}: answers 503 with Retry-After"), during.later);
    round.number(&format!("{when}: no answer in the client's 4 s"), during.silent);
    round.at_most(format!("{when}: answers 202"), during.accepted as f64, 0.0);
    let none = f64::from(u8::from(during.later == 0));
    round.at_most(format!("{when}: nobody was told 503 and when to come again (1 = so)"), none, 0.0);
}
