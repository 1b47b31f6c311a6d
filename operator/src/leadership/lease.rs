//! The Lease at the kube-apiserver. Every write carries the resourceVersion of what it rests on.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use super::LASTS;
use super::claim::Found;
use crate::clock;
use crate::controllers::write::MANAGER;
use crate::errors::status_code;

/// Name of the Lease.
const NAME: &str = "meterplane-operator";

/// One candidate's way to the Lease.
pub struct Lease {
    api: Api<Object>,
    identity: String,
}

/// The Lease as we last wrote it.
#[derive(Debug, Clone)]
pub struct Held {
    version: Option<String>,
    epoch: u64,
    acquired: MicroTime,
}

/// What became of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// It is ours for longer.
    Done,
    /// It is not ours any more; whose it is.
    Taken(String),
}

impl Lease {
    pub fn new(client: kube::Client, namespace: &str, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), identity }
    }

    /// Who we are.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// What it says; `None` when there is none.
    pub async fn get(&self) -> Result<Option<Found>, kube::Error> {
        Ok(self.api.get_opt(NAME).await?.map(|object| found(&object)))
    }

    /// Takes it over what was found; `None` when somebody else was faster.
    pub async fn take(&self, found: Option<&Found>, epoch: u64) -> Result<Option<Held>, kube::Error> {
        let held = Held {
            version: found.and_then(|found| found.version.clone()),
            epoch,
            acquired: MicroTime(clock::now()),
        };
        let object = self.object(&held, Some(&self.identity));
        let written = match found {
            None => self.api.create(&params(), &object).await,
            Some(_) => self.api.replace(NAME, &params(), &object).await,
        };
        match written {
            Ok(object) => Ok(Some(Held { version: object.metadata.resource_version, ..held })),
            Err(error) if status_code(&error) == Some(409) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says that we are still there.
    pub async fn renew(&self, held: &mut Held, epoch: u64) -> Result<Renewal, kube::Error> {
        // One that was raised meanwhile stays raised.
        let wanted = Held { epoch: epoch.max(held.epoch), ..held.clone() };
        match self.api.replace(NAME, &params(), &self.object(&wanted, Some(&self.identity))).await {
            Ok(object) => {
                *held = Held { version: object.metadata.resource_version, ..wanted };
                Ok(Renewal::Done)
            }
            Err(error) if matches!(status_code(&error), Some(404 | 409)) => {
                let Some(found) = self.get().await? else {
                    return Ok(Renewal::Taken("it is gone".to_owned()));
                };
                if found.holder.as_deref() != Some(&self.identity) {
                    return Ok(Renewal::Taken(format!(
                        "{} holds it",
                        found.holder.as_deref().unwrap_or("nobody")
                    )));
                }
                // An answer of ours was lost, or somebody else edited it: the next renewal rests on this.
                held.version = found.version;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives it back; its epoch stays.
    pub async fn release(&self, held: &Held) -> Result<(), kube::Error> {
        self.api.replace(NAME, &params(), &self.object(held, None)).await.map(drop)
    }

    fn object(&self, held: &Held, holder: Option<&str>) -> Object {
        Object {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                resource_version: held.version.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                acquire_time: Some(held.acquired.clone()),
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
                lease_transitions: i32::try_from(held.epoch).ok(),
                renew_time: Some(MicroTime(clock::now())),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

fn found(object: &Object) -> Found {
    let spec = object.spec.clone().unwrap_or_default();
    let positive = |number: i32| u64::try_from(number).ok();
    Found {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        transitions: spec.lease_transitions.and_then(positive).unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0.to_string()),
        lasts: spec.lease_duration_seconds.and_then(positive).map(Duration::from_secs),
        version: object.metadata.resource_version.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_was_given_back_has_no_holder_and_keeps_its_epoch() {
        let mut object = Object::default();
        assert_eq!(found(&object).transitions, 0);
        object.spec = Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_transitions: Some(7),
            lease_duration_seconds: Some(10),
            ..LeaseSpec::default()
        });
        let found = found(&object);
        assert_eq!((found.holder, found.transitions, found.lasts), (None, 7, Some(Duration::from_secs(10))));
    }
}
