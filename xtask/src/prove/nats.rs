//! As much of NATS's text protocol as it takes to read a bucket: what a proof checks with shares no code with what it checks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::platform::Platform;
use crate::{Error, Result};

/// Longest silence of the server.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

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
    let what = format!("reading bucket {bucket}");
    let failed = || Error::io(what.clone());
    let address = platform.urls()?.nats.trim_start_matches("nats://").to_owned();
    let stream = TcpStream::connect(address).map_err(failed())?;
    stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(failed())?;
    let mut reader = BufReader::new(stream.try_clone().map_err(failed())?);
    let mut writer = stream;
    let password = platform.secrets().get("nats-tool")?;
    let connect = json!({"verbose": false, "user": "tool", "pass": password.trim(), "headers": true, "no_responders": true});
    let ask = json!({"batch": 1_024, "multi_last": [format!("$KV.{bucket}.>")]}).to_string();
    write!(
        writer,
        "CONNECT {connect}\r\nSUB _INBOX.proof 1\r\nPUB $JS.API.DIRECT.GET.KV_{bucket} _INBOX.proof {}\r\n{ask}\r\n",
        ask.len()
    )
    .map_err(failed())?;
    let mut entries = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).map_err(failed())? == 0 {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(Error::Io { what, source });
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["PING"] => writer.write_all(b"PONG\r\n").map_err(failed())?,
            ["-ERR", ..] => return Err(Error::Format { what, detail: line.trim().to_owned() }),
            ["HMSG", _, _, head, total] => {
                let size = |text: &str| text.parse::<usize>().unwrap_or_default();
                let mut bytes = vec![0; size(total) + 2];
                reader.read_exact(&mut bytes).map_err(failed())?;
                let (head, rest) = bytes.split_at(size(head));
                let head = String::from_utf8_lossy(head);
                match status(&head) {
                    // The end of the batch, or an empty bucket.
                    Some("204" | "404") => return Ok(entries),
                    Some(_) => {
                        let detail = head.lines().next().unwrap_or_default().to_owned();
                        return Err(Error::Format { what, detail });
                    }
                    None => entries.push(entry(bucket, &head, &rest[..rest.len() - 2])),
                }
            }
            _ => {}
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
