//! What should stand in the Secret of an ApiKey.

use std::time::Duration;

use crds::ApiKey;
use crds::api_key::Source;
use jiff::Timestamp;
use policy::apikey::KeyDigest;

use super::secret::{Found, Held, Replaced, name};
use crate::conditions::Why;

/// What to do about a Secret.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It is as it should be.
    Held {
        /// What is in it.
        held: Box<Held>,
        /// When that changes by time.
        next: Option<Timestamp>,
    },
    /// Write it.
    Write {
        /// A new key: the Secret is created, or the key in it replaced.
        mint: bool,
        /// The Secret exists.
        exists: bool,
        /// The key there is now, replaced ones that stay valid, and the rest. With `mint`, digest and prefix are
        /// those of the key that is replaced and have no meaning.
        held: Box<Held>,
    },
    /// Something will go away by itself.
    Wait(Why),
    /// Somebody has to do something.
    Blocked(Why),
}

/// Whether an ApiKey stands for a key that the operator mints, now.
pub fn needs_secret(object: &ApiKey, now: Timestamp) -> bool {
    let expired = object.spec.expires.is_some_and(|end| end <= now);
    object.spec.source == Source::Generate && !object.spec.suspend && !expired
}

/// Decides.
pub fn build(object: &ApiKey, found: &Found, endpoint: &str, now: Timestamp) -> Step {
    let serial = object.spec.rotation_serial.unwrap_or_default();
    let fresh = |exists| Step::Write {
        mint: true,
        exists,
        held: Box::new(Held {
            digest: KeyDigest([0; 32]),
            prefix: String::new(),
            minted: now,
            serial,
            replaced: Vec::new(),
            endpoint: endpoint.to_owned(),
        }),
    };
    match found {
        Found::Absent => fresh(false),
        // Whoever could change the Secret could read every key in it: none of them stays valid.
        Found::Damaged => fresh(true),
        Found::Leftover => {
            let message =
                format!("Secret {} of an earlier ApiKey of this name is being collected", name(object));
            Step::Wait(Why::new("WaitingForCollection", message))
        }
        Found::Foreign => {
            let message = format!(
                "Secret {} exists and was not created for this ApiKey; it is not touched",
                name(object)
            );
            Step::Blocked(Why::new("SecretNotOurs", message))
        }
        Found::Whole(held) => keep_or_rotate(object, held, endpoint, now, serial),
    }
}

fn keep_or_rotate(object: &ApiKey, held: &Held, endpoint: &str, now: Timestamp, serial: u32) -> Step {
    let rotation = object.spec.rotation.as_ref();
    let due = rotation.and_then(|rotation| later(held.minted, rotation.every.millis()));
    let mut replaced: Vec<Replaced> =
        held.replaced.iter().filter(|old| old.not_after > now).cloned().collect();
    if serial > held.serial || due.is_some_and(|due| due <= now) {
        let overlap = rotation.map_or(0, |rotation| rotation.overlap.millis());
        if let Some(not_after) = later(now, overlap).filter(|end| *end > now) {
            replaced.push(Replaced { sha256: held.digest, not_after });
        }
        let rotated = Held {
            minted: now,
            serial: serial.max(held.serial),
            replaced,
            endpoint: endpoint.to_owned(),
            ..held.clone()
        };
        return Step::Write { mint: true, exists: true, held: Box::new(rotated) };
    }
    if replaced.len() != held.replaced.len() || held.endpoint != endpoint {
        let repaired = Held { replaced, endpoint: endpoint.to_owned(), ..held.clone() };
        return Step::Write { mint: false, exists: true, held: Box::new(repaired) };
    }
    let ends = held.replaced.iter().map(|old| old.not_after);
    let next = ends.chain(due).chain(object.spec.expires).filter(|time| *time > now).min();
    Step::Held { held: Box::new(held.clone()), next }
}

fn later(from: Timestamp, millis: u64) -> Option<Timestamp> {
    from.checked_add(Duration::from_millis(millis)).ok()
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
