//! The admission webhook on our own kinds: earlier answers and warnings, `failurePolicy: Ignore`
//! (`docs/adr/0024-admission-webhook.md`). Whatever it refuses the controllers refuse as well; nothing rests on it.
//!
//! | module | what |
//! |---|---|
//! | `review` | what the kube-apiserver asks and is answered |
//! | `known` | what the caches hold about the object in question |
//! | `answer` | pure: refusal and warnings |
//! | `plan_edit` | pure: what an edit of a Plan tightens |
//! | `impact` | pure: what a limit would have done, as a question and as a sentence |
//! | `figures` | asks ClickHouse, with a deadline |
//! | `authority` | pure: who signs the webhook's certificates, and what is to be done about it |
//! | `certificates` | makes them |
//! | `keeper` | the leader: keeps the authorities in their Secret and the kube-apiserver's trust current |
//! | `serving` | every operator: follows the Secret, and has a certificate ready before the one in use ends |
//! | `server` | HTTPS |

mod answer;
mod authority;
mod certificates;
mod figures;
mod impact;
pub mod keeper;
mod known;
pub mod metrics;
mod plan_edit;
mod review;
mod server;
mod serving;

use std::sync::Arc;
use std::time::Duration;

use event::Gate;

pub use authority::Lifetimes;

use crate::caches::Caches;
use crate::config::Config;
use crate::kube_clients;
use crate::observe::Metrics;
use serving::Serving;

/// Longest time that a call to the kube-apiserver may take here.
const KUBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Secret with the authorities, in the namespace of the platform.
const SECRET: &str = "meterplane-webhook";
/// The webhook's configuration.
const CONFIGURATION: &str = "meterplane";

/// Why the webhook is not served.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// No way to the kube-apiserver.
    #[error("the kube-apiserver: {0}")]
    Kube(#[from] kube_clients::NoClient),
    /// The address cannot be listened on.
    #[error("the webhook's address: {0}")]
    Listen(#[from] std::io::Error),
    /// TLS cannot be had.
    #[error("the webhook's TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A value of the configuration.
    #[error(transparent)]
    Settings(#[from] Box<crate::startup::StartError>),
}

/// Serves for ever, whether this process leads or stands by: its caches are warm either way.
///
/// # Errors
/// See [`WebhookError`].
pub async fn run(config: &Config, caches: Caches, metrics: &Metrics) -> Result<(), WebhookError> {
    let Some(listen) = config.webhook.listen else { return std::future::pending().await };
    // It only reads.
    let kube = kube_clients::calling(KUBE_TIMEOUT, Gate::new(|| false)).await?;
    let serving = Arc::new(Serving::default());
    metrics.webhook.follow(&serving);
    let settings = crate::startup::settings(config).map_err(Box::new)?;
    let figures = figures::Figures::new(crate::startup::stored_events(config, &settings).map_err(Box::new)?);
    let desk = server::Desk { caches, settings, figures, metrics: metrics.webhook.clone() };
    let following = serving::follow(
        kube,
        &config.namespace,
        certificates::names(&config.namespace, listen),
        config.webhook.lifetimes(),
        &serving,
    );
    tokio::select! {
        () = following => Ok(()),
        served = server::serve(listen, serving.clone(), desk) => served,
    }
}
