//! Runs the load generator, the echo and the publisher, and reads what they say.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::run::output;
use crate::{Cancel, Error, Result};

/// What the generator is to do.
#[derive(Debug, Clone)]
pub(super) struct Send<'a> {
    /// `host:port`.
    pub host: &'a str,
    /// Whose events.
    pub of: Of<'a>,
    /// Events a request, at least and at most.
    pub events: (u64, u64),
    /// Events a second; `None`: as many as are answered.
    pub rate: Option<f64>,
    pub seconds: f64,
    pub connections: u64,
    /// So many events, instead of so many seconds.
    pub total: Option<u64>,
    /// The events happened over the day before, of which this many are a whole.
    pub day: Option<u64>,
    /// Refused requests are no failure: the first ones of a crowd wait for keys.
    pub patient: bool,
    /// Part of every id, so that no two runs send the same event.
    pub run: &'a str,
}

/// Tenants of a load.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    /// One, by its API key.
    Key(&'a str),
    /// Those of a file.
    Plan(&'a Path),
}

impl<'a> Send<'a> {
    /// One event a request, as many as are answered, from many connections.
    pub fn new(host: &'a str, of: Of<'a>, run: &'a str) -> Self {
        Self {
            host,
            of,
            events: (1, 1),
            rate: None,
            seconds: 2.0,
            connections: 256,
            total: None,
            day: None,
            patient: false,
            run,
        }
    }
}

/// What the generator saw.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sent {
    pub requests: u64,
    pub events: u64,
    pub failed: u64,
    #[serde(default)]
    pub failure: Option<String>,
    pub seconds: f64,
    pub all_events: u64,
    pub cpu_seconds: f64,
    pub late: u64,
    pub p50_us: u32,
    pub p99_us: u32,
    pub max_us: u32,
}

impl Sent {
    /// Events accepted a second.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

/// Requests in a thousand that may be refused: a rate's next lease is sometimes late by a moment. They are told of.
const REFUSED_IN_A_THOUSAND: u64 = 1;

/// Sends; more refused requests than a few fail the bench, because what was measured is not what is printed then.
pub(super) fn send(program: &Path, send: &Send<'_>, cancel: &Cancel) -> Result<Sent> {
    let mut command = Command::new(program);
    command.args(["send", "--host", send.host, "--run", send.run]);
    match send.of {
        Of::Key(key) => command.args(["--key", key]),
        Of::Plan(file) => command.arg("--plan").arg(file),
    };
    let (least, most) = send.events;
    command.args(["--events", &format!("{least}-{most}"), "--seconds", &send.seconds.to_string()]);
    command.args(["--connections", &send.connections.to_string()]);
    for (name, number) in [("--total", send.total), ("--day", send.day)] {
        if let Some(number) = number {
            command.args([name, &number.to_string()]);
        }
    }
    if let Some(rate) = send.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    let sent: Sent = answer(&mut command, "the load generator", cancel)?;
    let why = format!("{} requests refused: {}", sent.failed, sent.failure.as_deref().unwrap_or("none"));
    let too_many = sent.failed * 1_000 > sent.requests * REFUSED_IN_A_THOUSAND;
    if !send.patient && (too_many || sent.events == 0) {
        return Err(Error::Program { program: "the load".into(), detail: why });
    }
    if sent.failed > 0 {
        println!("  ({why})");
    }
    Ok(sent)
}

/// A server that does nothing; it ends with this value.
#[derive(Debug)]
pub(super) struct Echo {
    child: Child,
    pub host: String,
}

impl Echo {
    pub fn start(program: &Path) -> Result<Self> {
        let failed = || Error::io("cannot start the echo".to_owned());
        let mut command = Command::new(program);
        let mut child =
            command.arg("echo").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed())?;
        let mut host = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut host).map_err(failed())?;
        }
        Ok(Self { child, host: host.trim().to_owned() })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// NATS as the publisher reaches it.
#[derive(Debug, Clone)]
pub(super) struct Nats<'a> {
    pub program: &'a Path,
    pub url: String,
    pub password_file: std::path::PathBuf,
}

/// What the publisher did.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Published {
    pub messages: u64,
    pub seconds: f64,
    pub cpu_seconds: f64,
}

impl Published {
    /// Messages acknowledged a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }
}

impl Nats<'_> {
    /// Reads the last messages of a stream.
    pub fn fetch(&self, stream: &str, last: u64, cancel: &Cancel) -> Result<Published> {
        self.run(&["-fetch", stream, "-last", &last.to_string()], cancel)
    }

    /// Publishes for so long with so many messages on their way.
    pub fn publish(&self, seconds: f64, pending: u64, cancel: &Cancel) -> Result<Published> {
        self.run(&["-seconds", &seconds.to_string(), "-pending", &pending.to_string()], cancel)
    }

    fn run(&self, args: &[&str], cancel: &Cancel) -> Result<Published> {
        let mut command = Command::new(self.program);
        command.args(["-url", &self.url, "-user", "tool", "-password-file"]).arg(&self.password_file);
        answer(command.args(args), "the publisher", cancel)
    }
}

fn answer<T: DeserializeOwned>(command: &mut Command, what: &str, cancel: &Cancel) -> Result<T> {
    let text = output(command, what, cancel)?;
    serde_json::from_str(&text)
        .map_err(|error| Error::Format { what: format!("the answer of {what}"), detail: error.to_string() })
}
