//! From a line of somebody's file to a usage event.

use std::collections::BTreeMap;

use event::wire::{self, Form};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;

/// Source of every replayed event: with the id it identifies the event within its tenant.
pub const SOURCE: &str = "replay";

/// Which field of a line means what.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Fields {
    /// Field that names the tenant.
    #[arg(long = "tenant-field", value_name = "FIELD", default_value = "channel")]
    pub tenant: String,
    /// Field that names the user; a line without it has none.
    #[arg(long = "user-field", value_name = "FIELD", default_value = "user")]
    pub user: String,
    /// Field that names the feature.
    #[arg(long = "feature-field", value_name = "FIELD", default_value = "namespace")]
    pub feature: String,
    /// Field whose number becomes `data.value`; a line without it counts as 0.
    #[arg(long = "value-field", value_name = "FIELD", default_value = "added")]
    pub value: String,
    /// Field that holds the time: RFC 3339, or Unix milliseconds.
    #[arg(long = "time-field", value_name = "FIELD", default_value = "time")]
    pub time: String,
    /// Field that holds the id; without it, the id is the file's digest and the number of the line.
    #[arg(long = "id-field", value_name = "FIELD")]
    pub id: Option<String>,
}

/// What a line says.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// The tenant as the file calls it.
    pub tenant: String,
    /// The user, if any.
    pub user: Option<String>,
    /// The feature.
    pub feature: String,
    /// When it happened.
    pub time: Timestamp,
    id: Option<String>,
    data: BTreeMap<String, &'a RawValue>,
}

/// The event as it is posted.
#[derive(Serialize)]
struct Posted<'a> {
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    feature: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    time: Timestamp,
    data: &'a BTreeMap<String, &'a RawValue>,
}

impl Fields {
    /// Reads a line: the named fields get their meaning, all others become attributes as they are.
    ///
    /// # Errors
    /// What is wrong with the line, for people.
    pub fn read<'a>(&self, line: &'a str) -> Result<Record<'a>, String> {
        let mut data: BTreeMap<String, &RawValue> =
            serde_json::from_str(line).map_err(|error| format!("it is not a JSON object: {error}"))?;
        let mut text = |field: &str| match data.remove(field) {
            None => Ok(None),
            Some(raw) if raw.get() == "null" => Ok(None),
            Some(raw) => {
                text(raw).map(Some).ok_or_else(|| format!("field {field:?} is neither text nor a number"))
            }
        };
        let required = |field: &str, value: Option<String>| {
            value.ok_or_else(|| format!("field {field:?} is missing: name the right one with --tenant-field, --user-field, --feature-field, … (see --help)"))
        };
        let id = self.id.as_deref().map(&mut text).transpose()?.flatten();
        let tenant = required(&self.tenant, text(&self.tenant)?)?;
        let user = text(&self.user)?;
        let feature = required(&self.feature, text(&self.feature)?)?;
        let time = required(&self.time, text(&self.time)?)?;
        let time = moment(&time).ok_or_else(|| format!("field {:?} is not a time: {time:?}", self.time))?;
        if tenant.is_empty() {
            return Err(format!("field {:?} is empty", self.tenant));
        }
        if let Some(value) = data.remove(&self.value).filter(|raw| raw.get() != "null")
            && data.insert("value".to_owned(), value).is_some()
        {
            let field = &self.value;
            return Err(format!("it has a field \"value\" besides {field:?}, which is to become data.value"));
        }
        Ok(Record { tenant, user, feature, time, id, data })
    }
}

impl Record<'_> {
    /// The event as JSON, `shift` later than it happened. `fallback_id` identifies lines that have no id of their own.
    ///
    /// # Errors
    /// Why ingest would refuse it, for people.
    pub fn event(&self, fallback_id: &str, shift: SignedDuration) -> Result<String, String> {
        let time = self.time.checked_add(shift).map_err(|error| error.to_string())?;
        let posted = Posted {
            id: self.id.as_deref().unwrap_or(fallback_id),
            source: SOURCE,
            feature: &self.feature,
            subject: self.user.as_deref(),
            time,
            data: &self.data,
        };
        let json = serde_json::to_string(&posted).map_err(|error| error.to_string())?;
        wire::parse(&json, Form::Plain).map_err(|invalid| invalid.to_string())?;
        Ok(json)
    }
}

/// Text, or a number as it is written.
fn text(raw: &RawValue) -> Option<String> {
    let json = raw.get();
    if json.starts_with('"') {
        return serde_json::from_str(json).ok();
    }
    json.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then(|| json.to_owned())
}

fn moment(text: &str) -> Option<Timestamp> {
    let milliseconds = || Timestamp::from_millisecond(text.parse().ok()?).ok();
    text.parse().ok().or_else(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let name = str::to_owned;
        Fields {
            tenant: name("channel"),
            user: name("user"),
            feature: name("namespace"),
            value: name("added"),
            time: name("time"),
            id: None,
        }
    }

    const LINE: &str = r##"{"time":"2015-09-12T00:46:58.771Z","channel":"#en.wikipedia","user":"Ünï \"x\" 😀",
        "namespace":"User talk","added":36.50,"cityName":null,"page":"A\tB","big":12345678901234567890}"##;

    #[test]
    fn a_line_becomes_an_event_and_nothing_is_lost() {
        let record = fields().read(LINE).unwrap();
        assert_eq!(record.tenant, "#en.wikipedia");
        let json = record.event("d-7", SignedDuration::from_secs(10)).unwrap();
        let event = wire::parse(&json, Form::Plain).unwrap();
        assert_eq!((event.id.as_ref(), event.source.as_deref()), ("d-7", Some("replay")));
        assert_eq!((event.feature.as_ref(), event.user.as_deref()), ("User talk", Some("Ünï \"x\" 😀")));
        assert_eq!(event.time_ms, Some(1_442_018_828_771), "ten seconds later");
        assert_eq!(event.value.millionths(), 36_500_000);
        assert_eq!(event.attribute("big"), Some("12345678901234567890"), "numbers stay as they are written");
        assert_eq!(event.attribute("cityName"), Some("null"));
        assert_eq!(event.attribute("added"), None, "it is data.value");
    }

    #[test]
    fn ids_and_times_may_be_numbers() {
        let with_id = Fields { id: Some("n".to_owned()), ..fields() };
        let record = with_id.read(r#"{"n":42,"channel":"a","namespace":"f","time":1442018828771}"#).unwrap();
        let json = record.event("unused", SignedDuration::ZERO).unwrap();
        let event = wire::parse(&json, Form::Plain).unwrap();
        assert_eq!((event.id.as_ref(), event.user, event.time_ms), ("42", None, Some(1_442_018_828_771)));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let cases = [
            ("[]", "not a JSON object"),
            ("", "not a JSON object"),
            (r#"{"namespace":"f","time":1}"#, "field \"channel\" is missing"),
            (r#"{"channel":"","namespace":"f","time":1}"#, "\"channel\" is empty"),
            (r#"{"channel":"a","time":1}"#, "field \"namespace\" is missing"),
            (r#"{"channel":"a","namespace":["f"],"time":1}"#, "neither text nor a number"),
            (r#"{"channel":"a","namespace":"f","time":"noon"}"#, "not a time"),
            (r#"{"channel":"a","namespace":"f","time":1,"added":1,"value":2}"#, "besides \"added\""),
        ];
        for (line, expected) in cases {
            let error = fields().read(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let unfit = fields().read(r#"{"channel":"a","namespace":"f","time":1,"added":"many"}"#).unwrap();
        assert!(unfit.event("i", SignedDuration::ZERO).unwrap_err().contains("data.value"));
    }
}
