//! Fences: from a moment on, nothing of one publisher is stored any more.
//!
//! A publisher sends each message with the expectation that nothing stands on a subject where it has no right to write. Whoever
//! wants to keep it out writes a tombstone there, and reads the stream's last sequence behind the answer: what of the publisher
//! is stored at all stands no later than that. The tombstone expects to be the first on its subject, so servers that replicate
//! take neither it nor a message while the other is on its way.

use std::time::Duration;

use bytes::Bytes;

use crate::client::Client;
use crate::error::{Fault, code};
use crate::publish::{
    EXPECTED_LAST_SUBJECT_SEQUENCE, EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT, EXPECTED_STREAM, PublishError,
};

/// What a message expects of its fence.
pub fn expectation(subject: &str) -> [(&'static str, &str); 2] {
    [(EXPECTED_LAST_SUBJECT_SEQUENCE, "0"), (EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT, subject)]
}

/// Puts a tombstone on `subject`, unless one stands there.
///
/// # Errors
/// Nobody knows whether it stands: try again. Also while a message that expects it not to is on its way.
pub async fn raise(
    client: &Client,
    stream: &str,
    subject: &str,
    timeout: Duration,
) -> Result<(), PublishError> {
    let headers = [(EXPECTED_LAST_SUBJECT_SEQUENCE, "0"), (EXPECTED_STREAM, stream)];
    match client.send(subject, &headers, None, Bytes::new(), timeout).await {
        Ok(_) | Err(Fault::Refused { code: code::WRONG_LAST_SEQUENCE, .. }) => Ok(()),
        Err(fault) => Err(fault.into()),
    }
}

/// What a server must do; it is run on a real one, with a stream of its own. A failure panics with what was expected.
#[cfg(feature = "contract")]
pub mod contract {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use event::names::FENCE_SLOTS;
    use event::{Incarnation, Lane, Observed, Stamp};
    use futures_util::future::join_all;

    use super::{expectation, raise};
    use crate::lane_reader::last_seq;
    use crate::{
        Ack, Client, LaneSettings, PublishError, Publisher, StreamSpec, StreamStep, Streams, error::code,
    };

    const STREAM: &str = "CONTRACT_FENCE";
    const WAIT: Duration = Duration::from_secs(5);
    const ROUNDS: u128 = 40;

    /// One publisher's view of a lane.
    struct Pod<'a> {
        publisher: &'a Publisher,
        lane: &'a Lane,
        incarnation: Incarnation,
    }

    impl Pod<'_> {
        async fn send(&self, slot: u8, id: &str) -> Result<Ack, PublishError> {
            let fence = self.lane.fence_subject(self.incarnation, slot);
            let expected = expectation(&fence);
            self.publisher.publish(&self.lane.packs_subject(), &expected, id, "pack".into(), WAIT).await
        }
    }

    fn refused(answer: &Result<Ack, PublishError>) -> Option<u64> {
        match answer {
            Err(PublishError::Refused { code, .. }) => Some(*code),
            _ => None,
        }
    }

    /// Runs all of it on a stream of `replicas` copies.
    pub async fn run(client: &Client, replicas: usize) {
        let lane = Lane::Pooled(u16::MAX);
        let day = Duration::from_secs(86_400);
        let settings =
            LaneSettings { replicas, max_age: day, max_bytes: 1, duplicate_window: Duration::from_secs(60) };
        let owner = || "contract-fence".to_owned();
        let stamp =
            Stamp { installation: owner(), tenant: owner(), uid: owner(), lineage: owner(), released: false };
        // Not a lane's name: no sink looks for it.
        let spec = StreamSpec { name: STREAM.to_owned(), ..StreamSpec::lane(&lane, settings, &stamp) };
        let removed = client.delete(&spec.name, &stamp).await;
        assert_eq!(removed, Ok(()), "what an earlier run left is removed");
        let created = client.execute(&StreamStep::Create(spec.clone())).await;
        assert_eq!(created, Ok(()), "the stream is created");
        let publisher = Publisher::new(client);
        let pod = |n| Pod { publisher: &publisher, lane: &lane, incarnation: Incarnation(n) };
        a_fence_keeps_out_what_comes_later(client, &pod(1)).await;
        for round in 0..ROUNDS {
            nothing_lands_behind_the_fence(client, &pod(100 + round)).await;
        }
        assert_eq!(client.delete(&spec.name, &stamp).await, Ok(()), "the stream is removed");
        assert_eq!(client.observe(&spec.name).await, Observed::Absent, "the stream is gone");
    }

    async fn a_fence_keeps_out_what_comes_later(client: &Client, pod: &Pod<'_>) {
        let first = pod.send(0, "first").await;
        assert!(first.is_ok(), "an open slot takes a pack: {first:?}");
        let again = pod.send(0, "first").await;
        assert!(again.as_ref().is_ok_and(|ack| ack.duplicate), "the same pack is stored once: {again:?}");
        let subject = pod.lane.fence_subject(pod.incarnation, 0);
        for turn in ["raised", "found standing"] {
            assert_eq!(raise(client, STREAM, &subject, WAIT).await, Ok(()), "the fence is {turn}");
        }
        let late = pod.send(0, "late").await;
        assert_eq!(refused(&late), Some(code::WRONG_LAST_SEQUENCE), "a fenced slot takes none: {late:?}");
        let other = pod.send(1, "other").await;
        assert!(other.is_ok(), "another slot is not fenced: {other:?}");
        let bare = pod.publisher.publish(&pod.lane.packs_subject(), &[], "bare", "pack".into(), WAIT).await;
        assert!(bare.is_ok(), "what expects nothing is stored: {bare:?}");
    }

    /// Packs of every slot race with the tombstones: what is stored stands before the sequence read behind the last of these.
    async fn nothing_lands_behind_the_fence(client: &Client, pod: &Pod<'_>) {
        let packs = (0..FENCE_SLOTS).flat_map(|slot| (0..4).map(move |n| (slot, format!("{slot}-{n}"))));
        let incarnation = pod.incarnation;
        let sends = join_all(packs.map(|(slot, name)| async move {
            let id = format!("{incarnation}-{name}");
            pod.send(slot, &id).await
        }));
        let fence = async {
            for slot in 0..FENCE_SLOTS {
                let subject = pod.lane.fence_subject(incarnation, slot);
                while let Err(error) = raise(client, STREAM, &subject, WAIT).await {
                    let busy =
                        matches!(error, PublishError::Refused { code: code::EXPECTATION_IN_PROCESS, .. });
                    assert!(busy, "a tombstone waits for packs only: {error}");
                }
            }
            last_seq(client, STREAM).await
        };
        let (answers, last) = tokio::join!(sends, fence);
        let mut codes: BTreeMap<Option<u64>, usize> = BTreeMap::new();
        for answer in &answers {
            *codes.entry(refused(answer)).or_default() += 1;
            let Ok(ack) = answer else { continue };
            assert!(last.as_ref().is_ok_and(|last| ack.seq <= *last), "{answer:?} lies before {last:?}");
        }
        let known = [None, Some(code::WRONG_LAST_SEQUENCE), Some(code::EXPECTATION_IN_PROCESS)];
        assert!(codes.keys().all(|code| known.contains(code)), "{codes:?}");
        let late = pod.send(FENCE_SLOTS - 1, &format!("{incarnation}-late")).await;
        assert_eq!(refused(&late), Some(code::WRONG_LAST_SEQUENCE), "{late:?}");
    }
}
