//! Ports on 127.0.0.1: chosen free at the first start, kept in the state file, so that URLs stay the same from run to run.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Below the range from which the kernel takes ports of outgoing connections (32768 and up), so that no client of today sits on
/// a port of ours tomorrow.
const FIRST: u16 = 20_000;
/// End of the range.
const LAST: u16 = 29_999;

/// Every port of the platform by name. A part's ports begin with its name.
pub const NAMES: [&str; 43] = [
    "etcd",
    "etcd-peer",
    "kube-apiserver",
    "nats",
    "nats-monitor",
    "nats-cluster",
    "nats-2",
    "nats-2-monitor",
    "nats-2-cluster",
    "nats-3",
    "nats-3-monitor",
    "nats-3-cluster",
    "clickhouse",
    "clickhouse-native",
    "vault",
    "vault-tls",
    "vault-cluster",
    "operator-admin",
    "operator-2-admin",
    "operator-webhook",
    "operator-2-webhook",
    "ingest-1",
    "ingest-1-admin",
    "ingest-2",
    "ingest-2-admin",
    "ingest-3",
    "ingest-3-admin",
    "ingest-4",
    "ingest-4-admin",
    "ingest-5",
    "ingest-5-admin",
    "ingest-6",
    "ingest-6-admin",
    "ingest-7",
    "ingest-7-admin",
    "ingest-8",
    "ingest-8-admin",
    "sink-admin",
    "sink-2-admin",
    "sink-3-admin",
    "sink-4-admin",
    "console",
    "console-admin",
];

/// The chosen ports by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ports(BTreeMap<String, u16>);

impl Ports {
    /// The port of this name.
    ///
    /// # Errors
    /// [`Error::UnknownPart`] when there is none.
    pub fn get(&self, name: &str) -> Result<u16> {
        let known = || self.0.keys().cloned().collect::<Vec<_>>().join(", ");
        self.0.get(name).copied().ok_or_else(|| Error::UnknownPart { name: name.into(), known: known() })
    }

    /// Chooses a port for every name that has none yet, beginning at a place that differs from run to run.
    ///
    /// # Errors
    /// [`Error::NoPort`] when the whole range is taken.
    pub fn complete(&mut self, begin: u16, free: impl Fn(u16) -> bool) -> Result<()> {
        let size = LAST - FIRST + 1;
        let mut candidates = (0..size).map(|n| FIRST + (begin % size + n) % size);
        for name in NAMES {
            if self.0.contains_key(name) {
                continue;
            }
            let port = candidates.find(|port| free(*port) && !self.0.values().any(|taken| taken == port));
            let port = port.ok_or(Error::NoPort { from: FIRST, to: LAST })?;
            self.0.insert(name.to_owned(), port);
        }
        Ok(())
    }
}

/// Whether nobody listens on this port of 127.0.0.1.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_gets_a_port_of_its_own_and_keeps_it() {
        let mut ports = Ports::default();
        ports.complete(9_990, |port| port % 2 == 0).unwrap();
        let all: std::collections::BTreeSet<u16> = NAMES.iter().map(|n| ports.get(n).unwrap()).collect();
        assert_eq!(all.len(), NAMES.len());
        assert!(all.iter().all(|p| p % 2 == 0 && (FIRST..=LAST).contains(p)), "{all:?}");
        let before = ports.clone();
        ports.complete(0, |_| true).unwrap();
        assert_eq!(ports, before);
    }

    #[test]
    fn a_machine_without_free_ports_is_told_so() {
        assert!(matches!(Ports::default().complete(0, |_| false), Err(Error::NoPort { .. })));
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
