//! On a real server.

use event::{Observed, Ownership, Stamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::wire::ConfigWire;
use super::{StreamError, StreamSpec, StreamState, StreamStep, Streams};
use crate::client::Client;
use crate::cursor::stream_info;
use crate::error::{Fault, code};

impl Streams for Client {
    async fn observe(&self, name: &str) -> Observed<StreamState> {
        match stream_info(self, name).await {
            Ok(info) => Observed::Present(info.into_state()),
            Err(fault) if fault.code() == Some(code::STREAM_NOT_FOUND) => Observed::Absent,
            Err(fault) => Observed::Unknown(fault.to_string()),
        }
    }

    async fn execute(&self, step: &StreamStep) -> Result<(), StreamError> {
        match step {
            StreamStep::Create(spec) => {
                // The same settings again are a success, others under the same name an error: nothing is overwritten.
                write(self, "CREATE", &ConfigWire::create(spec), &spec.name).await
            }
            StreamStep::Update { spec, .. } => update(self, spec).await,
            StreamStep::Restamp { name, from, to } => restamp(self, name, from.as_ref(), to).await,
        }
    }

    async fn delete(&self, name: &str, expected: &Stamp) -> Result<(), StreamError> {
        let found = match stream_info(self, name).await {
            Ok(info) => info.config.stamped(),
            Err(fault) if fault.code() == Some(code::STREAM_NOT_FOUND) => return Ok(()),
            Err(fault) => return Err(fault.into()),
        };
        if found.as_ref() != Some(expected) {
            return Err(StreamError::StampMismatch { found });
        }
        match self.api::<_, Value>(&format!("STREAM.DELETE.{name}"), &json!({})).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.code() == Some(code::STREAM_NOT_FOUND) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn list_names(&self, prefix: &str) -> Result<Vec<String>, StreamError> {
        let mut names = Vec::new();
        let mut offset = 0;
        loop {
            let page: NamesAnswer = self.api("STREAM.NAMES", &json!({ "offset": offset })).await?;
            let page_names = page.streams.unwrap_or_default();
            offset += page_names.len();
            let last = page_names.is_empty() || offset >= page.total;
            names.extend(page_names.into_iter().filter(|name| name.starts_with(prefix)));
            if last {
                break;
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn last_sequence(&self, name: &str) -> Result<u64, StreamError> {
        Ok(stream_info(self, name).await?.state.last_seq)
    }
}

#[derive(Deserialize)]
struct NamesAnswer {
    total: usize,
    streams: Option<Vec<String>>,
}

async fn update(client: &Client, spec: &StreamSpec) -> Result<(), StreamError> {
    let mut config = stream_info(client, &spec.name).await?.config;
    let found = config.stamped();
    let want = &spec.stamp;
    let ours =
        |stamp: &Stamp| stamp.ownership(&want.installation, &want.tenant, &want.uid) == Ownership::Ours;
    if !found.as_ref().is_some_and(ours) {
        return Err(StreamError::StampMismatch { found });
    }
    config.set(spec);
    write(client, "UPDATE", &config, &spec.name).await
}

async fn restamp(client: &Client, name: &str, from: Option<&Stamp>, to: &Stamp) -> Result<(), StreamError> {
    let mut config = stream_info(client, name).await?.config;
    let found = config.stamped();
    if found.as_ref() == Some(to) {
        return Ok(());
    }
    if found.as_ref() != from {
        return Err(StreamError::StampMismatch { found });
    }
    config.stamp(to);
    write(client, "UPDATE", &config, name).await
}

async fn write(client: &Client, verb: &str, config: &ConfigWire, name: &str) -> Result<(), StreamError> {
    client
        .api::<_, Value>(&format!("STREAM.{verb}.{name}"), config)
        .await
        .map(drop)
        .map_err(StreamError::from)
}

impl From<Fault> for StreamError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unknown(text)
            | Fault::Refused { code: code::NO_RESPONDERS | code::NOT_CONNECTED, text } => Self::Unknown(text),
            Fault::Refused { code: code::STREAM_NOT_FOUND, .. } => Self::NotFound,
            Fault::Refused { code, text } if reserves_too_much(code, &text) => Self::StorageReserved(text),
            Fault::Refused { code, text } => Self::Refused { code, text },
        }
    }
}

/// A cluster says "no suitable peers", and why, when no server has the storage.
fn reserves_too_much(code: u64, text: &str) -> bool {
    matches!(
        code,
        code::ACCOUNT_RESOURCES
            | code::INSUFFICIENT_RESOURCES
            | code::MEMORY_RESOURCES
            | code::STORAGE_RESOURCES
            | code::STREAM_TOO_LARGE
    ) || (code == code::NO_PEERS && text.contains("insufficient storage"))
}
