//! Whether what a lane has acknowledged survives: how many copies it has, and whether the servers write through. What
//! `Durable` says of every tenant.

use std::sync::Arc;
use std::time::Duration;

use crds::condition::ConditionStatus;
use jetstream::monitor::{self, Writes};
use kube::ResourceExt;
use parking_lot::RwLock;

use crate::conditions::Why;
use crate::context::Context;
use crate::engine::ObjectKey;

/// How often the servers are asked.
const EVERY: Duration = Duration::from_secs(30);

/// What the servers said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// All of them write before they acknowledge.
    Through,
    /// One of them writes this long after it has acknowledged.
    Later {
        /// The server's monitoring address.
        url: String,
        /// How long at most.
        within: Duration,
    },
    /// Nobody was asked, or somebody did not answer.
    Nothing(String),
}

/// The same for all lanes: they are of one cluster.
pub struct Durability(RwLock<Said>);

impl Default for Durability {
    fn default() -> Self {
        Self(RwLock::new(Said::Nothing("the servers were not asked yet".to_owned())))
    }
}

impl Durability {
    /// The condition of lanes with so many copies.
    pub fn of(&self, copies: usize) -> (ConditionStatus, Why) {
        condition(&self.0.read(), copies)
    }

    /// Whether it is news.
    fn put(&self, said: Said) -> bool {
        let mut known = self.0.write();
        let news = *known != said;
        *known = said;
        news
    }
}

fn condition(said: &Said, copies: usize) -> (ConditionStatus, Why) {
    match said {
        Said::Through if copies > 1 => {
            let majority = copies / 2 + 1;
            let message = format!("an accepted event is on the disks of {majority} of {copies} servers");
            (ConditionStatus::True, Why::new("Replicated", message))
        }
        Said::Through => {
            let message = "an accepted event is on the disk of one server: it survives a crash, but not the loss of that disk";
            (ConditionStatus::True, Why::new("SingleCopy", message))
        }
        Said::Later { url, within } => {
            let message = format!(
                "the server at {url} writes to its disk up to {within:?} after it has acknowledged: set sync_interval: always"
            );
            (ConditionStatus::False, Why::new("NotWrittenThrough", message))
        }
        Said::Nothing(why) => (ConditionStatus::Unknown, Why::new("NotVerified", why.clone())),
    }
}

/// Asks the servers for ever.
pub async fn run(ctx: Arc<Context>) {
    loop {
        if ctx.durability.put(ask(&ctx.settings.nats_monitors).await) {
            for tenant in ctx.caches.tenants.list() {
                ctx.queues.tenant.add(ObjectKey::cluster(&tenant.name_any()));
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn ask(urls: &[String]) -> Said {
    if urls.is_empty() {
        return Said::Nothing(
            "MP_NATS_MONITOR_URLS names no server: nobody tells whether it writes through".to_owned(),
        );
    }
    for url in urls {
        match monitor::writes(url).await {
            Ok(Writes::Through) => {}
            Ok(Writes::Later(within)) => return Said::Later { url: url.clone(), within },
            Err(error) => return Said::Nothing(error.to_string()),
        }
    }
    Said::Through
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_durable_when_every_server_writes_through() {
        let of = |said: &Said, copies| {
            let (status, why) = condition(said, copies);
            (status, why.reason, why.message)
        };
        let replicated = of(&Said::Through, 3);
        assert_eq!((replicated.0, replicated.1.as_str()), (ConditionStatus::True, "Replicated"));
        assert!(replicated.2.contains("2 of 3 servers"));
        assert_eq!(of(&Said::Through, 1).1, "SingleCopy");
        let later = Said::Later { url: "http://a:8222".into(), within: Duration::from_secs(120) };
        let (status, _, message) = of(&later, 3);
        assert!(
            status == ConditionStatus::False
                && message.contains("http://a:8222 writes to its disk up to 120s")
        );
        assert_eq!(of(&Said::Nothing("x".into()), 3).0, ConditionStatus::Unknown);
    }

    #[tokio::test]
    async fn without_a_server_to_ask_nothing_is_claimed() {
        assert!(matches!(ask(&[]).await, Said::Nothing(why) if why.contains("MP_NATS_MONITOR_URLS")));
        assert!(matches!(ask(&["http://127.0.0.1:9".into()]).await, Said::Nothing(_)));
        let known = Durability::default();
        assert!(known.put(Said::Through) && !known.put(Said::Through));
    }
}
