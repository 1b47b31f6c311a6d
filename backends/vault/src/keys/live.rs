//! On a real server.
use super::{KeyError, KeyState, KeyStep, TransitKeys};
use crate::client::Client;
use event::{Observed, Stamp, TenantName};
impl TransitKeys for Client {
    async fn observe(&self, _tenant: &TenantName) -> Observed<KeyState> {
        todo!()
    }
    async fn execute(&self, _step: &KeyStep) -> Result<(), KeyError> {
        todo!()
    }
    async fn destroy(&self, _tenant: &TenantName, _expected: &Stamp) -> Result<(), KeyError> {
        todo!()
    }
}
