//! As much of NATS's text protocol as it takes to read a bucket: what a proof checks with shares no code with what it checks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::platform::Platform;
use crate::{Error, Result};

/// Longest silence of the server.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Connections so far: each has an inbox of its own, since several ask at once.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// One entry of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// When it was written, as the server prints it: texts of the same length sort by time.
    pub at: String,
    /// Its value; `Null` when it is no JSON.
    pub value: Value,
}

/// The last value of every key of a bucket, at most 1,024.
///
/// # Errors
/// When the server cannot be asked.
pub fn bucket(platform: &Platform, bucket: &str) -> Result<Vec<Entry>> {
    let ask = json!({"batch": 1_024, "multi_last": [format!("$KV.{bucket}.>")]}).to_string();
    let mut connection = Connection::open(platform, &format!("reading bucket {bucket}"))?;
    connection.ask(&format!("$JS.API.DIRECT.GET.KV_{bucket}"), &ask)?;
    let mut entries = Vec::new();
    loop {
        let (head, value) = connection.answer()?;
        match status(&head) {
            // The end of the batch, or an empty bucket.
            Some("204" | "404") => return Ok(entries),
            Some(_) => return Err(connection.failed(head.lines().next().unwrap_or_default())),
            None => entries.push(entry(bucket, &head, &value)),
        }
    }
}

/// One request to the JetStream API and its answer.
///
/// # Errors
/// When the server cannot be asked, or says that it failed.
pub fn request(platform: &Platform, subject: &str, payload: &str) -> Result<Value> {
    let mut connection = Connection::open(platform, subject)?;
    connection.ask(subject, payload)?;
    let (_, value) = connection.answer()?;
    let value: Value = serde_json::from_slice(&value).unwrap_or_default();
    match value["error"]["description"].as_str() {
        Some(error) => Err(connection.failed(error)),
        None => Ok(value),
    }
}

/// One header and the payload of a message as `STREAM.MSG.GET` answers it.
pub fn stored(message: &Value, header: &str) -> Option<(String, Vec<u8>)> {
    let decoded = |field: &str| STANDARD.decode(message[field].as_str()?).ok();
    let head = String::from_utf8(decoded("hdrs")?).ok()?;
    let value = head.lines().find_map(|line| line.strip_prefix(header)?.strip_prefix(':'))?;
    Some((value.trim().to_owned(), decoded("data")?))
}

/// Publishes bytes with one header, and waits until they are stored.
///
/// # Errors
/// When the server cannot be asked, or says that it failed.
pub fn publish(
    platform: &Platform,
    subject: &str,
    (name, value): (&str, &str),
    payload: &[u8],
) -> Result<()> {
    let head = format!("NATS/1.0\r\n{name}: {value}\r\n\r\n");
    let mut connection = Connection::open(platform, subject)?;
    let total = head.len() + payload.len();
    let line = format!("HPUB {subject} {} {} {total}\r\n{head}", connection.inbox, head.len());
    connection.write(&line)?;
    connection.writer.write_all(payload).map_err(Error::io(subject.to_owned()))?;
    connection.write("\r\n")?;
    let (_, answer) = connection.answer()?;
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    match answer["error"]["description"].as_str() {
        Some(error) => Err(connection.failed(error)),
        None => Ok(()),
    }
}

/// A connection for one question.
struct Connection {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    what: String,
    inbox: String,
}

impl Connection {
    fn open(platform: &Platform, what: &str) -> Result<Self> {
        let failed = || Error::io(what.to_owned());
        let address = platform.urls()?.nats.trim_start_matches("nats://").to_owned();
        let writer = TcpStream::connect(address).map_err(failed())?;
        writer.set_read_timeout(Some(ANSWER_WITHIN)).map_err(failed())?;
        let reader = BufReader::new(writer.try_clone().map_err(failed())?);
        let password = platform.secrets().get("nats-tool")?;
        let inbox = format!("_INBOX.proof.{}", OPENED.fetch_add(1, Ordering::Relaxed));
        let mut connection = Self { reader, writer, what: what.to_owned(), inbox };
        let hello = json!({
            "verbose": false, "user": "tool", "pass": password.trim(), "headers": true, "no_responders": true,
        });
        let subscribe = format!("CONNECT {hello}\r\nSUB {} 1\r\n", connection.inbox);
        connection.write(&subscribe)?;
        Ok(connection)
    }

    fn ask(&mut self, subject: &str, payload: &str) -> Result<()> {
        self.write(&format!("PUB {subject} {} {}\r\n{payload}\r\n", self.inbox, payload.len()))
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.writer.write_all(text.as_bytes()).map_err(Error::io(self.what.clone()))
    }

    fn failed(&self, detail: &str) -> Error {
        Error::Format { what: self.what.clone(), detail: detail.trim().to_owned() }
    }

    /// The next message: its headers and its body.
    fn answer(&mut self) -> Result<(String, Vec<u8>)> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).map_err(Error::io(self.what.clone()))? == 0 {
                return Err(self.failed("the server closed the connection"));
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let (head, total) = match words.as_slice() {
                ["PING"] => {
                    self.write("PONG\r\n")?;
                    continue;
                }
                ["-ERR", ..] => return Err(self.failed(&line)),
                ["HMSG", _, _, head, total] => (*head, *total),
                ["MSG", _, _, total] => ("0", *total),
                _ => continue,
            };
            let size = |text: &str| text.parse::<usize>().unwrap_or_default();
            let mut bytes = vec![0; size(total) + 2];
            self.reader.read_exact(&mut bytes).map_err(Error::io(self.what.clone()))?;
            bytes.truncate(size(total));
            let value = bytes.split_off(size(head));
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), value));
        }
    }
}

/// The status of an answer that is no message.
fn status(head: &str) -> Option<&str> {
    head.lines().next()?.strip_prefix("NATS/1.0")?.split_whitespace().next()
}

fn entry(bucket: &str, head: &str, value: &[u8]) -> Entry {
    let header = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    let subject = header("Nats-Subject");
    let key = subject.strip_prefix(&format!("$KV.{bucket}.")).unwrap_or(&subject).to_owned();
    Entry { key, at: header("Nats-Time-Stamp"), value: serde_json::from_slice(value).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_ends_are_told_apart() {
        assert_eq!(status("NATS/1.0 204 EOB\r\n\r\n"), Some("204"));
        let head = "NATS/1.0\r\nNats-Subject: $KV.pods.a.b\r\nNats-Time-Stamp: 2026-11-21T05:00:00Z\r\n\r\n";
        assert_eq!(status(head), None);
        let entry = entry("pods", head, br#"{"beat":3}"#);
        assert_eq!((entry.key.as_str(), entry.value["beat"].as_u64()), ("a.b", Some(3)));
        assert!(entry.at.starts_with("2026"));
    }
}
