//! Whether a process may still change what it shares with others.
//!
//! Of several operators one leads. Its clients of NATS, ClickHouse, Vault and the kube-apiserver ask a gate as the last thing
//! before they send a change; everybody else's gate is always open.

use std::fmt;
use std::sync::Arc;

/// Asked before each change; clones ask the same.
#[derive(Clone, Default)]
pub struct Gate(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Gate {
    /// Open as long as `is_open` says so. It is asked often and must not wait.
    pub fn new(is_open: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(is_open)))
    }

    /// Whether a change may be sent now.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|is_open| is_open())
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_open() { "Gate(open)" } else { "Gate(closed)" })
    }
}

/// What a client says instead of sending a change through a closed gate.
pub const CLOSED: &str = "not sent: this process does not lead any more";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_gate_follows_what_it_asks_and_is_open_without_a_question() {
        let open = Arc::new(AtomicBool::new(true));
        let asked = open.clone();
        let gate = Gate::new(move || asked.load(Ordering::Relaxed));
        let clone = gate.clone();
        assert!(gate.is_open() && Gate::default().is_open());
        open.store(false, Ordering::Relaxed);
        assert!(!gate.is_open() && !clone.is_open());
    }
}
