//! The requests: the event of `bench decide` with an id of its own each time, whoever it is of.

use std::fmt::Write;
use std::time::Duration;

use crate::day::Schedule;
use crate::plan::{Choices, Chosen};
use crate::rng::Rng;

/// Bytes of an event.
const EVENT_BYTES: usize = 1_024;
const MS_A_DAY: u64 = 86_400_000;
/// An event up to its id; the run's name and the number follow.
const BEFORE_ID: &str = r#"{"specversion":"1.0","id":""#;
const BEFORE_FEATURE: &str = r#"","source":"checkout/eu-central-1","type":""#;
const BEFORE_USER: &str = r#"","subject":"user-"#;
const BEFORE_TIME: &str = r#"@example.com""#;
/// The rest, without the note that fills it up.
const AFTER_TIME: &str = r#","datacontenttype":"application/json","data":{"value":1,"latencyMs":182,"tokens":1534,"format":"pdf","region":"eu-central-1","department":"finance","pages":42,"success":true,"amount":12.75,"tags":["quarterly","audit","board"],"document":{"id":"d-88231","title":"Quarterly figures","owner":"ann.miller@example.com"},"client":{"name":"web","version":"5.12.3","agent":"Mozilla/5.0 (X11; Linux x86_64)"},"note":""#;
/// What the note repeats.
const NOTE: &str = "exported for the audit committee ";
const END: &str = r#""}}"#;

/// When events are said to have happened.
#[derive(Debug, Clone)]
pub enum Times {
    /// They do not say: the pod takes the time of receipt.
    Receipt,
    /// Over the day that ended at `end_ms` (Unix milliseconds), by the curve of its hours.
    Day {
        /// When each of the day's events is due.
        schedule: Schedule,
        /// The day's end.
        end_ms: u64,
    },
}

/// Writes requests.
#[derive(Debug, Clone)]
pub struct Writer {
    host: String,
    run: String,
    times: Times,
    note: String,
    body: String,
}

impl Times {
    /// Over the day that ended at `end_ms`.
    pub fn day(events: u64, end_ms: u64) -> Self {
        Self::Day { schedule: Schedule::new(events, Duration::from_millis(MS_A_DAY)), end_ms }
    }

    fn of(&self, number: u64) -> Option<u64> {
        let Self::Day { schedule, end_ms } = self else { return None };
        Some(end_ms - MS_A_DAY + schedule.due(number).as_millis() as u64)
    }
}

impl Writer {
    /// For one server. `run` is part of every id.
    pub fn new(host: &str, run: &str, times: Times) -> Self {
        let note = NOTE.chars().cycle().take(EVENT_BYTES).collect();
        Self { host: host.to_owned(), run: run.to_owned(), times, note, body: String::new() }
    }

    /// Writes the request with a tenant's events `first..first + events` into `out`: one is an object, more are an array.
    pub fn write(
        &mut self,
        tenant: usize,
        (first, events): (u64, u64),
        choices: &Choices,
        rng: &mut Rng,
        out: &mut Vec<u8>,
    ) {
        self.body.clear();
        for number in first..first + events {
            self.body.push_str(match (events, number == first) {
                (1, _) => "",
                (_, true) => "[",
                (_, false) => ",",
            });
            self.event(number, choices.event(tenant, rng));
        }
        if events > 1 {
            self.body.push(']');
        }
        let (host, key, length) = (&self.host, choices.key(tenant), self.body.len());
        let mut head = String::with_capacity(256);
        // Writing into a string cannot fail.
        let _ = write!(
            head,
            "POST /v1/usage/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        out.clear();
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(self.body.as_bytes());
    }

    fn event(&mut self, number: u64, Chosen { user, feature }: Chosen<'_>) {
        let begins = self.body.len();
        let _ = write!(
            self.body,
            "{BEFORE_ID}{}-{number:012}{BEFORE_FEATURE}{feature}{BEFORE_USER}{user:05}{BEFORE_TIME}",
            self.run
        );
        if let Some(ms) = self.times.of(number) {
            self.body.push_str(r#","time":""#);
            rfc3339(&mut self.body, ms);
            self.body.push('"');
        }
        self.body.push_str(AFTER_TIME);
        let missing = EVENT_BYTES.saturating_sub(self.body.len() - begins + END.len());
        self.body.push_str(&self.note[..missing]);
        self.body.push_str(END);
    }
}

/// Unix milliseconds as `2026-11-21T11:40:00.000Z`: days to a date by Howard Hinnant's `civil_from_days`.
fn rfc3339(out: &mut String, ms: u64) {
    let (days, of_day) = (ms / MS_A_DAY + 719_468, ms % MS_A_DAY);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (seconds, ms) = (of_day / 1_000, of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(times: Times, first: u64, events: u64) -> serde_json::Value {
        let (mut out, mut rng) = (Vec::new(), Rng::new(1));
        Writer::new("h", "run1", times).write(0, (first, events), &Choices::one("k"), &mut rng, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(head.contains("Authorization: Bearer k\r\n"));
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn an_event_is_a_kilobyte_with_an_id_of_its_own() {
        let one = body(Times::Receipt, 7, 1);
        assert_eq!((&one["id"], &one["type"]), (&"run1-000000000007".into(), &"report.export".into()));
        assert_eq!((one.to_string().len(), one.get("time")), (EVENT_BYTES, None));
        let many = body(Times::Receipt, 1_000, 3);
        assert_eq!(many.as_array().map(Vec::len), Some(3));
        assert_eq!(many[2]["id"], "run1-000000001002");
    }

    #[test]
    fn a_day_ends_when_it_is_said_to() {
        let end_ms = 1_795_000_000_000;
        let times = || Times::day(1_000, end_ms);
        let (first, last) = (body(times(), 0, 1), body(times(), 999, 1));
        assert!(first["time"].as_str().unwrap().starts_with("2026-11-17T"), "{first}");
        assert!(last["time"].as_str().unwrap() <= "2026-11-18T11:06:40.000Z", "{last}");
        assert_eq!(first.to_string().len(), EVENT_BYTES);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let text = |ms| {
            let mut out = String::new();
            rfc3339(&mut out, ms);
            out
        };
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(1_795_000_000_123), "2026-11-18T11:06:40.123Z");
    }
}
