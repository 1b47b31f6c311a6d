//! The requests: the event of `bench decide` with an id of its own each time, and users in turn.

use std::fmt::Write;

/// Bytes of an event, about.
const EVENT_BYTES: usize = 1_024;
/// Users whom the events are of.
const USERS: u64 = 1_000;
/// An event up to its id; the run's name and the number follow.
const BEFORE_ID: &str = r#"{"specversion":"1.0","id":""#;
/// From the id to the user's number.
const BEFORE_USER: &str = r#"","source":"checkout/eu-central-1","type":"report.export","subject":"user-"#;
/// The rest, without the note that fills it up. No time: the pod takes the time of receipt.
const AFTER_USER: &str = r#"@example.com","datacontenttype":"application/json","data":{"value":1,"latencyMs":182,"tokens":1534,"format":"pdf","region":"eu-central-1","department":"finance","pages":42,"success":true,"amount":12.75,"tags":["quarterly","audit","board"],"document":{"id":"d-88231","title":"Quarterly figures","owner":"ann.miller@example.com"},"client":{"name":"web","version":"5.12.3","agent":"Mozilla/5.0 (X11; Linux x86_64)"},"note":""#;
/// What the note repeats.
const NOTE: &str = "exported for the audit committee ";
const END: &str = r#""}}"#;

/// Writes requests.
#[derive(Debug, Clone)]
pub struct Writer {
    head: String,
    run: String,
    after_user: String,
    body: String,
}

impl Writer {
    /// For one server and key. `run` is part of every id.
    pub fn new(host: &str, path: &str, key: &str, run: &str) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: "
        );
        // "-", the number and the user's.
        let ids = run.len() + 1 + 12 + 5;
        let fixed = BEFORE_ID.len() + BEFORE_USER.len() + AFTER_USER.len() + END.len() + ids;
        let note: String = NOTE.chars().cycle().take(EVENT_BYTES.saturating_sub(fixed)).collect();
        Self {
            head,
            run: run.to_owned(),
            after_user: format!("{AFTER_USER}{note}{END}"),
            body: String::new(),
        }
    }

    /// Writes the request with events `first..first + events` into `out`: one is an object, more are an array.
    pub fn write(&mut self, first: u64, events: u64, out: &mut Vec<u8>) {
        self.body.clear();
        for number in first..first + events {
            self.body.push_str(match (events, number == first) {
                (1, _) => "",
                (_, true) => "[",
                (_, false) => ",",
            });
            self.body.push_str(BEFORE_ID);
            self.body.push_str(&self.run);
            // Writing into a string cannot fail.
            let _ = write!(self.body, "-{number:012}{BEFORE_USER}{:05}", number % USERS);
            self.body.push_str(&self.after_user);
        }
        if events > 1 {
            self.body.push(']');
        }
        out.clear();
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(self.body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(self.body.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(first: u64, events: u64) -> serde_json::Value {
        let mut out = Vec::new();
        Writer::new("h", "/p", "k", "run1").write(first, events, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn an_event_is_a_kilobyte_with_an_id_of_its_own() {
        let one = body(7, 1);
        assert_eq!(
            (&one["id"], &one["subject"]),
            (&"run1-000000000007".into(), &"user-00007@example.com".into())
        );
        assert_eq!(one.to_string().len(), EVENT_BYTES);
        let many = body(1_000, 3);
        assert_eq!(many.as_array().map(Vec::len), Some(3));
        assert_eq!(
            (&many[2]["id"], &many[2]["subject"]),
            (&"run1-000000001002".into(), &"user-00002@example.com".into())
        );
    }
}
