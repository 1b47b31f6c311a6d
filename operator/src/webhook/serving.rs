//! What is served: a certificate in memory, and the next one before it ends. Every operator follows the authorities in their Secret,
//! whether it leads or not.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::SECRET;
use super::authority::{Authorities, Lifetimes, Span};
use super::certificates::{self, Served};
use crate::clock;

/// Member of the Secret.
const MEMBER: &str = "authorities.json";
/// How soon it is looked again while there is nothing to serve.
const SOON: Duration = Duration::from_secs(1);

/// The certificate that is served now.
#[derive(Debug, Default)]
pub struct Serving {
    served: ArcSwapOption<Served>,
    authority: ArcSwapOption<Span>,
}

impl Serving {
    /// The time of the certificate.
    pub fn span(&self) -> Option<Span> {
        self.served.load().as_ref().map(|served| served.span)
    }

    /// The time of the newest authority.
    pub fn authority(&self) -> Option<Span> {
        self.authority.load().as_deref().copied()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.served.load().as_ref().map(|served| served.key.clone())
    }
}

/// Why the authorities are not known.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The kube-apiserver did not give the Secret.
    #[error("Secret {SECRET}: {0}")]
    Kube(#[from] kube::Error),
    /// It was not installed.
    #[error("there is no Secret {SECRET}")]
    Absent,
    /// What stands there is not ours.
    #[error("Secret {SECRET} holds no authorities: {0}")]
    Form(#[from] serde_json::Error),
}

/// Reads the authorities, and the Secret that they stand in.
///
/// # Errors
/// See [`Unread`].
pub async fn read(secrets: &Api<Secret>) -> Result<(Secret, Authorities), Unread> {
    let secret = secrets.get_opt(SECRET).await?.ok_or(Unread::Absent)?;
    let member = secret.data.as_ref().and_then(|data| data.get(MEMBER));
    let authorities = member.map(|bytes| serde_json::from_slice(&bytes.0)).transpose()?.unwrap_or_default();
    Ok((secret, authorities))
}

/// The same Secret with other authorities.
///
/// # Errors
/// Never for authorities of ours.
pub fn holding(mut secret: Secret, authorities: &Authorities) -> Result<Secret, serde_json::Error> {
    let bytes = k8s_openapi::ByteString(serde_json::to_vec(authorities)?);
    secret.data.get_or_insert_default().insert(MEMBER.to_owned(), bytes);
    Ok(secret)
}

/// Keeps `serving` supplied for ever. While the kube-apiserver is away the authorities that were last read go on signing.
pub async fn follow(
    kube: kube::Client,
    namespace: &str,
    names: Vec<String>,
    lifetimes: Lifetimes,
    serving: &Serving,
) {
    let secrets: Api<Secret> = Api::namespaced(kube, namespace);
    let mut known = Authorities::default();
    loop {
        match read(&secrets).await {
            Ok((_, authorities)) => known = authorities,
            Err(error) => tracing::warn!(%error, "the webhook's authorities were not read; trying again"),
        }
        renew(&known, &names, lifetimes, serving);
        let pause = if serving.span().is_none() { SOON } else { look_every(lifetimes.certificate) };
        tokio::time::sleep(pause).await;
    }
}

/// Often enough that nothing ends between two looks.
pub fn look_every(lifetime: Duration) -> Duration {
    (lifetime / 60).clamp(Duration::from_millis(250), Duration::from_secs(60))
}

fn renew(known: &Authorities, names: &[String], lifetimes: Lifetimes, serving: &Serving) {
    serving.authority.store(known.newest().map(Arc::new));
    let now_ms = clock::now().as_millisecond();
    if serving.served.load().as_ref().is_some_and(|served| !served.is_due(known, now_ms)) {
        return;
    }
    let Some(signer) = known.signer(lifetimes, now_ms) else { return };
    match certificates::served(signer, names, lifetimes.certificate, now_ms) {
        Ok(served) => {
            tracing::info!(ends_ms = served.span.ends_ms, "the webhook has a new certificate");
            serving.served.store(Some(Arc::new(served)));
        }
        Err(error) => tracing::error!(%error, "the webhook's certificate was not made; trying again"),
    }
}
