//! Streams in memory, for tests of whoever plans them. It keeps the rules of the contract and knows nothing of messages
//! but their number.

use std::collections::BTreeMap;
use std::time::Duration;

use event::{Observed, Ownership, Stamp};
use parking_lot::Mutex;

use super::{Settings, StreamError, StreamSpec, StreamState, StreamStep, Streams};
use crate::error::code;

/// The fake.
#[derive(Debug, Default)]
pub struct FakeStreams {
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    streams: BTreeMap<String, StreamState>,
    storage: u64,
    available: bool,
    writes: usize,
    created: u64,
}

impl Default for Account {
    fn default() -> Self {
        Self { streams: BTreeMap::new(), storage: u64::MAX, available: true, writes: 0, created: 0 }
    }
}

impl FakeStreams {
    /// An empty account without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that streams may reserve altogether.
    pub fn set_storage(&self, bytes: u64) {
        self.account.lock().storage = bytes;
    }

    /// Whether the server answers.
    pub fn set_available(&self, available: bool) {
        self.account.lock().available = available;
    }

    /// Stores `count` messages in stream `name`.
    pub fn append(&self, name: &str, count: u64) {
        self.change(name, |state| {
            state.messages += count;
            state.bytes += count * 1024;
            state.last_seq += count;
            state.first_seq = state.first_seq.max(1);
        });
    }

    /// Changes a stream behind its owner's back.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut StreamState)) {
        if let Some(state) = self.account.lock().streams.get_mut(name) {
            change(state);
        }
    }

    /// Loses a stream.
    pub fn lose(&self, name: &str) {
        self.account.lock().streams.remove(name);
    }

    /// How many times something was written.
    pub fn writes(&self) -> usize {
        self.account.lock().writes
    }

    fn with<T>(&self, act: impl FnOnce(&mut Account) -> Result<T, StreamError>) -> Result<T, StreamError> {
        let mut account = self.account.lock();
        if !account.available {
            return Err(StreamError::Unknown("the fake does not answer".to_owned()));
        }
        act(&mut account)
    }
}

impl Account {
    fn create(&mut self, spec: &StreamSpec) -> Result<(), StreamError> {
        if let Some(state) = self.streams.get(&spec.name) {
            let same = state.settings == spec.settings && state.stamp.as_ref() == Some(&spec.stamp);
            let text = "stream name already in use with a different configuration".to_owned();
            return if same {
                Ok(())
            } else {
                Err(StreamError::Refused { code: code::STREAM_NAME_IN_USE, text })
            };
        }
        self.reserve(&spec.name, &spec.settings)?;
        self.created += 1;
        let state = StreamState {
            name: spec.name.clone(),
            settings: spec.settings.clone(),
            stamp: Some(spec.stamp.clone()),
            metadata: spec.metadata.clone(),
            created_ms: self.created,
            messages: 0,
            bytes: 0,
            first_seq: 0,
            last_seq: 0,
            oldest_age: Duration::ZERO,
        };
        self.streams.insert(spec.name.clone(), state);
        self.writes += 1;
        Ok(())
    }

    fn update(&mut self, spec: &StreamSpec) -> Result<(), StreamError> {
        let state = self.streams.get(&spec.name).ok_or(StreamError::NotFound)?;
        let want = &spec.stamp;
        let ours =
            |stamp: &Stamp| stamp.ownership(&want.installation, &want.tenant, &want.uid) == Ownership::Ours;
        if !state.stamp.as_ref().is_some_and(ours) {
            return Err(StreamError::StampMismatch { found: state.stamp.clone() });
        }
        if state.settings.storage != spec.settings.storage {
            let text = "stream configuration update can not change storage type".to_owned();
            return Err(StreamError::Refused { code: 10052, text });
        }
        self.reserve(&spec.name, &spec.settings)?;
        if let Some(state) = self.streams.get_mut(&spec.name) {
            state.settings = spec.settings.clone();
            state.stamp = Some(spec.stamp.clone());
            state.metadata.extend(spec.metadata.clone());
        }
        self.writes += 1;
        Ok(())
    }

    fn restamp(&mut self, name: &str, from: Option<&Stamp>, to: &Stamp) -> Result<(), StreamError> {
        let state = self.streams.get_mut(name).ok_or(StreamError::NotFound)?;
        if state.stamp.as_ref() == Some(to) {
            return Ok(());
        }
        if state.stamp.as_ref() != from {
            return Err(StreamError::StampMismatch { found: state.stamp.clone() });
        }
        state.stamp = Some(to.clone());
        self.writes += 1;
        Ok(())
    }

    fn reserve(&self, name: &str, settings: &Settings) -> Result<(), StreamError> {
        let others = self.streams.values().filter(|state| state.name != name);
        let reserved: u64 = others.filter_map(|state| state.settings.max_bytes).sum();
        if reserved.saturating_add(settings.max_bytes.unwrap_or(0)) > self.storage {
            return Err(StreamError::StorageReserved("insufficient storage resources available".to_owned()));
        }
        Ok(())
    }
}

impl Streams for FakeStreams {
    async fn observe(&self, name: &str) -> Observed<StreamState> {
        match self.with(|account| Ok(account.streams.get(name).cloned())) {
            Ok(Some(state)) => Observed::Present(state),
            Ok(None) => Observed::Absent,
            Err(error) => Observed::Unknown(error.to_string()),
        }
    }

    async fn execute(&self, step: &StreamStep) -> Result<(), StreamError> {
        self.with(|account| match step {
            StreamStep::Create(spec) => account.create(spec),
            StreamStep::Update { spec, .. } => account.update(spec),
            StreamStep::Restamp { name, from, to } => account.restamp(name, from.as_ref(), to),
        })
    }

    async fn delete(&self, name: &str, expected: &Stamp) -> Result<(), StreamError> {
        self.with(|account| match account.streams.get(name) {
            None => Ok(()),
            Some(state) if state.stamp.as_ref() != Some(expected) => {
                Err(StreamError::StampMismatch { found: state.stamp.clone() })
            }
            Some(_) => {
                account.streams.remove(name);
                account.writes += 1;
                Ok(())
            }
        })
    }

    async fn list_names(&self, prefix: &str) -> Result<Vec<String>, StreamError> {
        self.with(|account| {
            Ok(account.streams.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
        })
    }

    async fn last_sequence(&self, name: &str) -> Result<u64, StreamError> {
        self.with(|account| {
            account.streams.get(name).map(|state| state.last_seq).ok_or(StreamError::NotFound)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        super::super::contract::run(&FakeStreams::new()).await;
    }

    #[tokio::test]
    async fn silence_is_unknown_never_absent() {
        let fake = FakeStreams::new();
        fake.set_available(false);
        assert!(matches!(fake.observe("USAGE_acme").await, Observed::Unknown(_)));
        assert!(matches!(fake.list_names("").await, Err(StreamError::Unknown(_))));
    }
}
