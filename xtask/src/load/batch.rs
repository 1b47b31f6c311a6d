//! A request body in the making.

/// Most events in one request of ours.
pub const MAX_EVENTS: usize = 200;
/// Largest body of ours in bytes, well below what ingest accepts.
const MAX_BYTES: usize = event::wire::MAX_BODY_BYTES / 2;

/// Events of one tenant as the body of one request: a JSON array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    body: String,
    events: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Self { body: "[".to_owned(), events: 0 }
    }
}

impl Batch {
    /// Adds an event, written as one JSON object.
    pub fn push(&mut self, event: &str) {
        if self.events > 0 {
            self.body.push(',');
        }
        self.body.push_str(event);
        self.events += 1;
    }

    /// Whether it is time to send it.
    pub fn is_full(&self) -> bool {
        self.events >= MAX_EVENTS as u64 || self.body.len() >= MAX_BYTES
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Number of events.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The body.
    pub fn into_body(mut self) -> String {
        self.body.push(']');
        self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_json_array_and_full_by_number_or_size() {
        let mut batch = Batch::default();
        assert!(batch.is_empty() && !batch.is_full());
        batch.push(r#"{"id":"1"}"#);
        batch.push(r#"{"id":"2"}"#);
        assert_eq!(batch.clone().into_body(), r#"[{"id":"1"},{"id":"2"}]"#);
        for _ in 2..MAX_EVENTS {
            assert!(!batch.is_full());
            batch.push("{}");
        }
        assert!(batch.is_full());
        let mut large = Batch::default();
        large.push(&"x".repeat(MAX_BYTES));
        assert!(large.is_full());
    }
}
