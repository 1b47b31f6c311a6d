//! On a real server.
use super::{StreamError, StreamState, StreamStep, Streams};
use crate::client::Client;
use event::{Observed, Stamp};
impl Streams for Client {
    async fn observe(&self, _name: &str) -> Observed<StreamState> {
        todo!()
    }
    async fn execute(&self, _step: &StreamStep) -> Result<(), StreamError> {
        todo!()
    }
    async fn delete(&self, _name: &str, _expected: &Stamp) -> Result<(), StreamError> {
        todo!()
    }
    async fn list_names(&self, _prefix: &str) -> Result<Vec<String>, StreamError> {
        todo!()
    }
    async fn last_sequence(&self, _name: &str) -> Result<u64, StreamError> {
        todo!()
    }
}
