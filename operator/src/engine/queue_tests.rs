use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey::cluster(name)
}

fn add(state: &mut State, name: &str, now: Instant) {
    state.add(key(name), name.into(), Priority::Now, now);
}

fn take(state: &mut State, now: Instant) -> Option<String> {
    state.take(now).map(|handout| handout.key.name)
}

#[test]
fn a_key_waits_once_and_is_never_handed_out_twice() {
    let queue = Queue::default();
    queue.add(key("a"));
    queue.add(key("a"));
    let (mut state, now) = (queue.state.lock(), Instant::now());
    assert_eq!(take(&mut state, now).as_deref(), Some("a"));
    assert_eq!(take(&mut state, now), None);
    add(&mut state, "a", now);
    assert_eq!(take(&mut state, now), None, "it is being looked at");
    state.done(&key("a"), Action::Await, now);
    assert_eq!(take(&mut state, now).as_deref(), Some("a"), "and changed meanwhile");
}

#[test]
fn the_earliest_time_counts_and_a_change_overtakes_it() {
    let mut state = State::default();
    let now = Instant::now();
    let seconds = Duration::from_secs;
    for after in [10, 5, 20] {
        let due = Due { at: now + seconds(after), group: "a".into(), priority: Priority::Now };
        state.add_at(key("a"), due);
    }
    state.promote(now + seconds(4));
    assert_eq!(take(&mut state, now), None);
    state.promote(now + seconds(5));
    assert_eq!(take(&mut state, now).as_deref(), Some("a"));
    state.done(&key("a"), Action::After(seconds(30)), now);
    add(&mut state, "a", now);
    assert!(state.due.is_empty() && state.due_of.is_empty());
}

#[test]
fn failures_wait_longer_and_longer_until_a_success() {
    let mut state = State::default();
    let now = Instant::now();
    let mut last = Duration::ZERO;
    for _ in 0..6 {
        add(&mut state, "a", now);
        take(&mut state, now);
        state.done(&key("a"), Action::Backoff, now);
        let delay = state.due_of[&key("a")].at - now;
        assert!(delay > last && delay <= LAST_BACKOFF.mul_f64(1.25), "{delay:?}");
        last = delay;
    }
    add(&mut state, "a", now);
    take(&mut state, now);
    state.done(&key("a"), Action::Await, now);
    assert!(state.failures.is_empty() && state.due.is_empty() && state.active_of.is_empty());
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_an_edit_goes_first() {
    let queue = Queue::default();
    queue.initial(true);
    for n in 0..100 {
        let there = key(&format!("there-before-{n}"));
        // Some are debounced: they come due only when the start is over.
        if n % 2 == 0 { queue.add(there) } else { queue.add_after(there, Duration::from_millis(50)) }
    }
    queue.initial(false);
    tokio::time::advance(Duration::from_millis(60)).await;
    queue.add(key("edited"));
    queue.add(key("there-before-70"));
    let mut state = queue.state.lock();
    let now = Instant::now();
    state.promote(now);
    assert_eq!(take(&mut state, now).as_deref(), Some("edited"));
    assert_eq!(take(&mut state, now).as_deref(), Some("there-before-70"), "it was there, and was edited");
    let mut rest: Vec<String> = std::iter::from_fn(|| take(&mut state, now)).collect();
    rest.sort();
    rest.dedup();
    assert_eq!(rest.len(), 99, "each once");
    assert_eq!(state.added, 101);
}

#[test]
fn a_resync_waits_for_edits() {
    let (mut state, now) = (State::default(), Instant::now());
    add(&mut state, "resynced", now);
    take(&mut state, now);
    state.done(&key("resynced"), Action::After(Duration::from_secs(300)), now);
    let later = now + Duration::from_secs(301);
    state.promote(later);
    add(&mut state, "edited", later);
    assert_eq!(take(&mut state, later).as_deref(), Some("edited"));
    assert_eq!(take(&mut state, later).as_deref(), Some("resynced"));
}

#[test]
fn an_object_that_is_looked_at_all_the_time_is_slowed_and_others_are_not() {
    let (mut state, begun) = (State::default(), Instant::now());
    let (mut now, mut looks) = (begun, 0);
    while now < begun + Duration::from_secs(30) {
        add(&mut state, "hot", now);
        if take(&mut state, now).is_some() {
            looks += 1;
            state.done(&key("hot"), Action::Await, now);
        }
        now += Duration::from_millis(10);
        state.promote(now);
    }
    assert!((175..=185).contains(&looks), "{looks}");
    add(&mut state, "calm", now);
    assert_eq!(take(&mut state, now).as_deref(), Some("calm"));
    assert_eq!((state.storms, state.pace.slowed()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn next_waits_for_the_due_time() {
    let queue = Queue::default();
    let begun = Instant::now();
    queue.add_after(key("a"), Duration::from_secs(3));
    assert_eq!(queue.next().await.key, key("a"));
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
}

/// Eight workers, a second a look. How long each edit of tenant `quiet` takes, one every few seconds, while `failing` objects of tenant
/// `noisy` fail again and again.
async fn edits_of_the_quiet_one(failing: usize) -> Vec<Duration> {
    const WORKERS: usize = 8;
    const LOOK: Duration = Duration::from_secs(1);
    let queue = Arc::new(Queue::default());
    queue.shared_by(WORKERS);
    let (told, mut ends) = tokio::sync::mpsc::channel(16);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let (queue, told) = (queue.clone(), told.clone());
        workers.spawn(async move {
            loop {
                let key = queue.next().await.key;
                tokio::time::sleep(LOOK).await;
                let noisy = key.namespace == "noisy";
                queue.done(&key, if noisy { Action::Backoff } else { Action::Await });
                if !noisy {
                    told.send(()).await.unwrap();
                }
            }
        });
    }
    for n in 0..failing {
        queue.add(ObjectKey::namespaced("noisy", &format!("limit{n}")));
    }
    let mut took = Vec::new();
    for n in 0..100_u64 {
        tokio::time::sleep(Duration::from_millis(1_370 + 97 * (n % 13))).await;
        let begun = Instant::now();
        queue.add(ObjectKey::namespaced("quiet", "limit"));
        ends.recv().await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    took
}

#[tokio::test(start_paused = true)]
async fn a_tenant_with_a_thousand_failing_objects_does_not_double_anothers_latency() {
    let alone = edits_of_the_quiet_one(0).await;
    let beside = edits_of_the_quiet_one(1_000).await;
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    // Twice as long is what is promised; with half of the workers left to others it does not wait at all.
    assert!(p99(&beside) <= p99(&alone) * 5 / 4, "{:?} beside, {:?} alone", p99(&beside), p99(&alone));
}
