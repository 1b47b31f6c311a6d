//! The file: line-delimited JSON, plain or compressed with gzip, read twice. The first reading checks every line and counts what
//! the dashboard must show later; the second one sends.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use event::TenantName;
use flate2::read::MultiGzDecoder;
use jiff::{SignedDuration, Timestamp};
use ring::digest::{Context, SHA256};

use super::mapping::{Fields, Record};
use super::slug::slug;
use crate::{Error, Result, random};

/// Characters of the file's digest that become part of the ids.
const DIGEST_CHARS: usize = 16;
/// First bytes of a gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file and how to read it.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// What its fields mean.
    pub fields: Fields,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Beginning of the SHA-256 of the file as it lies there.
    pub digest: String,
    /// Its tenants by name.
    pub tenants: BTreeMap<TenantName, TenantContent>,
    /// Time of the first event.
    pub first: Timestamp,
    /// Time of the last event.
    pub last: Timestamp,
}

/// What a file holds of one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantContent {
    /// The tenant as the file calls it.
    pub display_name: String,
    /// Number of events.
    pub events: u64,
    /// Number of events by feature.
    pub features: BTreeMap<String, u64>,
    /// Everybody who did something.
    pub users: BTreeSet<String>,
}

impl Content {
    /// Number of events.
    pub fn events(&self) -> u64 {
        self.tenants.values().map(|tenant| tenant.events).sum()
    }

    /// The id of a line that has none of its own.
    pub fn id_of(&self, line: u64) -> String {
        format!("{}-{line}", self.digest)
    }
}

impl Source {
    /// Reads the whole file and checks each line.
    ///
    /// # Errors
    /// The first line that cannot be sent and why; nothing was sent then.
    pub fn scan(&self) -> Result<Content> {
        let mut tenants: BTreeMap<TenantName, TenantContent> = BTreeMap::new();
        let mut span: Option<(Timestamp, Timestamp)> = None;
        self.each(|line, record| {
            record.event("0", SignedDuration::ZERO).map_err(|detail| self.wrong(line, detail))?;
            let name = slug(&record.tenant);
            let tenant = tenants.entry(name).or_default();
            if tenant.events == 0 {
                tenant.display_name.clone_from(&record.tenant);
            } else if tenant.display_name != record.tenant {
                let detail =
                    format!("tenants {:?} and {:?} get the same name", tenant.display_name, record.tenant);
                return Err(self.wrong(line, detail));
            }
            tenant.events += 1;
            *tenant.features.entry(record.feature.clone()).or_default() += 1;
            tenant.users.extend(record.user.clone());
            let (first, last) = span.unwrap_or((record.time, record.time));
            span = Some((first.min(record.time), last.max(record.time)));
            Ok(())
        })?;
        let empty =
            || Error::Format { what: self.path.display().to_string(), detail: "it holds no event".into() };
        let (first, last) = span.ok_or_else(empty)?;
        Ok(Content { digest: self.digest()?, tenants, first, last })
    }

    /// Calls `see` with the number of each line that is not blank, from 1, and what it says.
    ///
    /// # Errors
    /// The first line that is not understood, or the first error of `see`.
    pub fn each(&self, mut see: impl FnMut(u64, &Record<'_>) -> Result<()>) -> Result<()> {
        let mut reader = self.open()?;
        let mut text = String::new();
        for number in 1.. {
            text.clear();
            let read = reader.read_line(&mut text);
            if read.map_err(Error::io(format!("cannot read line {number} of {}", self.path.display())))? == 0
            {
                break;
            }
            let line = text.trim();
            if !line.is_empty() {
                let record = self.fields.read(line).map_err(|detail| self.wrong(number, detail))?;
                see(number, &record)?;
            }
        }
        Ok(())
    }

    /// An error about a line.
    pub fn wrong(&self, line: u64, detail: String) -> Error {
        Error::Format { what: format!("line {line} of {}", self.path.display()), detail }
    }

    fn open(&self) -> Result<Box<dyn BufRead>> {
        let mut file = open(&self.path)?;
        let mut magic = [0; GZIP_MAGIC.len()];
        let compressed = file.read_exact(&mut magic).is_ok() && magic == GZIP_MAGIC;
        let file = open(&self.path)?;
        Ok(if compressed {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(BufReader::new(file))
        })
    }

    fn digest(&self) -> Result<String> {
        let mut file = open(&self.path)?;
        let mut context = Context::new(&SHA256);
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read =
                file.read(&mut chunk).map_err(Error::io(format!("cannot read {}", self.path.display())))?;
            if read == 0 {
                let mut digest = random::hex(context.finish().as_ref());
                digest.truncate(DIGEST_CHARS);
                return Ok(digest);
            }
            context.update(&chunk[..read]);
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(Error::io(format!("cannot open {}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::Parser;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        fields: Fields,
    }

    fn source(name: &str, content: &[u8]) -> Source {
        let path = std::env::temp_dir().join(format!("mp-replay-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Source { path, fields: Defaults::parse_from(["x"]).fields }
    }

    const LINES: &str = "{\"time\":\"2015-09-12T02:00:00Z\",\"channel\":\"#a\",\"user\":\"u\",\"namespace\":\"f\"}\n\n\
        {\"time\":\"2015-09-12T01:00:00Z\",\"channel\":\"b\",\"user\":\"u\",\"namespace\":\"f\"}\r\n\
        {\"time\":\"2015-09-12T03:00:00Z\",\"channel\":\"#a\",\"user\":\"v\",\"namespace\":\"g\"}";

    #[test]
    fn plain_and_compressed_files_hold_the_same() {
        let plain = source("plain", LINES.as_bytes());
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(LINES.as_bytes()).unwrap();
        let compressed = source("compressed", &gzip.finish().unwrap());
        let content = plain.scan().unwrap();
        assert_eq!(compressed.scan().unwrap().tenants, content.tenants);
        assert_eq!((content.events(), content.tenants.len()), (3, 2));
        assert_eq!(
            (content.first.to_string(), content.last.to_string()),
            ("2015-09-12T01:00:00Z".into(), "2015-09-12T03:00:00Z".into())
        );
        let a = &content.tenants[&slug("#a")];
        assert_eq!((a.events, a.users.len(), a.features["g"], a.display_name.as_str()), (2, 2, 1, "#a"));
        assert_eq!(content.id_of(3), format!("{}-3", content.digest));
        for source in [plain, compressed] {
            std::fs::remove_file(source.path).unwrap();
        }
    }

    #[test]
    fn a_wrong_line_is_named_before_anything_is_sent() {
        let wrong = source("wrong", format!("{LINES}\n{{}}\n").as_bytes());
        let error = wrong.scan().unwrap_err().to_string();
        assert!(error.contains("line 5") && error.contains("\"channel\" is missing"), "{error}");
        let empty = source("empty", b"\n");
        assert!(empty.scan().unwrap_err().to_string().contains("no event"));
        for source in [wrong, empty] {
            std::fs::remove_file(source.path).unwrap();
        }
    }

    /// The day lies beside the repository on the machines that build it; the repository carries none of it.
    #[test]
    fn a_real_day_is_read_whole() {
        let path = crate::Paths::discover()
            .unwrap()
            .root
            .join("../shared/data/wikiticker-2015-09-12-sampled.json.gz");
        if !path.exists() {
            return;
        }
        let content = Source { path, fields: Defaults::parse_from(["x"]).fields }.scan().unwrap();
        assert_eq!((content.events(), content.tenants.len()), (39_244, 51));
        assert_eq!(content.tenants.values().map(|tenant| tenant.users.len()).sum::<usize>(), 10_804);
        assert_eq!(content.tenants[&slug("#en.wikipedia")].events, 11_549);
        assert_eq!(content.last.to_string(), "2015-09-12T23:59:59.2Z");
    }
}
