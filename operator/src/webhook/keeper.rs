//! The leader's part: authorities are made in time, and the kube-apiserver trusts those that sign.
//!
//! Both objects come with the chart; each write carries the resourceVersion of what was read.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::authority::{Authorities, Lifetimes, Step};
use super::certificates::{self, CertificateError};
use super::serving::{self, Unread, look_every};
use super::{CONFIGURATION, SECRET};
use crate::clock;
use crate::context::Context;
use crate::controllers::write::MANAGER;

/// Time before a failed step is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Time between two steps: somebody else who keeps writing the same is answered this often, no more.
const BETWEEN: Duration = Duration::from_secs(1);

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error("the kube-apiserver: {0}")]
    Kube(#[from] kube::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the Secret: {0}")]
    Form(#[from] serde_json::Error),
}

/// Keeps them for ever; does nothing where no webhook is served.
pub async fn run(ctx: Arc<Context>) {
    let Some(lifetimes) = ctx.settings.webhook else { return std::future::pending().await };
    let keeper = Keeper {
        secrets: Api::namespaced(ctx.kube.clone(), &ctx.settings.namespace),
        configurations: Api::all(ctx.kube.clone()),
        lifetimes,
    };
    loop {
        let pause = match keeper.step().await {
            Ok(true) => BETWEEN,
            Ok(false) => look_every(lifetimes.certificate),
            Err(error) => {
                tracing::warn!(%error, "the webhook's authorities are not kept; trying again");
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

struct Keeper {
    secrets: Api<Secret>,
    configurations: Api<ValidatingWebhookConfiguration>,
    lifetimes: Lifetimes,
}

impl Keeper {
    /// Reads, and takes one step; `false`: there was none to take.
    async fn step(&self) -> Result<bool, KeepError> {
        let (secret, authorities) = serving::read(&self.secrets).await?;
        let Some(configuration) = self.configurations.get_opt(CONFIGURATION).await? else { return Ok(false) };
        // Somebody has switched it off.
        if configuration.webhooks.as_ref().is_none_or(Vec::is_empty) {
            return Ok(false);
        }
        let now_ms = clock::now().as_millisecond();
        match authorities.plan(trusted(&configuration).as_deref(), now_ms) {
            Step::Rest => return Ok(false),
            Step::Make => {
                let newest = certificates::authority(self.lifetimes, now_ms)?;
                tracing::info!(ends_ms = newest.span.ends_ms, "the webhook has a new authority");
                self.store(secret, &authorities.with(newest, now_ms)).await?;
            }
            Step::Tell(bundle) => self.tell(&configuration, bundle).await?,
            Step::Note => self.store(secret, &authorities.told(now_ms)).await?,
        }
        Ok(true)
    }

    async fn store(&self, secret: Secret, authorities: &Authorities) -> Result<(), KeepError> {
        let secret = serving::holding(secret, authorities)?;
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.secrets.replace(SECRET, &params, &secret).await?;
        Ok(())
    }

    async fn tell(
        &self,
        configuration: &ValidatingWebhookConfiguration,
        bundle: String,
    ) -> Result<(), KeepError> {
        let client_config = json!({"caBundle": ByteString(bundle.into_bytes())});
        let webhooks = configuration.webhooks.iter().flatten();
        let told: Vec<_> =
            webhooks.map(|webhook| json!({"name": webhook.name, "clientConfig": client_config})).collect();
        let patch = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": CONFIGURATION, "resourceVersion": configuration.resource_version()},
            "webhooks": told,
        });
        let params = PatchParams::apply(MANAGER).force();
        self.configurations.patch(CONFIGURATION, &params, &Patch::Apply(&patch)).await?;
        Ok(())
    }
}

/// What the kube-apiserver trusts, if it is the same for all webhooks of the configuration.
fn trusted(configuration: &ValidatingWebhookConfiguration) -> Option<String> {
    let mut bundles =
        configuration.webhooks.iter().flatten().map(|webhook| webhook.client_config.ca_bundle.as_ref());
    let first = bundles.next()??;
    bundles.all(|bundle| bundle == Some(first)).then(|| String::from_utf8_lossy(&first.0).into_owned())
}
