//! The event as applications send it: CloudEvents 1.0 (<https://github.com/cloudevents/spec>) or the same
//! attributes as plain JSON.
//!
//! A request is first [`split`] into events without looking inside them, then each is [`parse`]d by itself, so one
//! bad event is one rejected item and never a failed request.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::decimal::Decimal;
use crate::text::{self, Unfit};

/// Most events in one request.
pub const MAX_EVENTS: usize = 1_000;
/// Largest request body, after decompression.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Largest single event.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
const MAX_ID_BYTES: usize = 256;
const MAX_SOURCE_BYTES: usize = 512;
const MAX_TYPE_BYTES: usize = 128;
const MAX_SUBJECT_BYTES: usize = 512;

/// How a request carries its events (the `Content-Type` and the presence of `ce-` headers decide).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `application/json`: one object or an array of them; `specversion` may be left out.
    Plain,
    /// `application/cloudevents+json`: one event.
    Structured,
    /// `application/cloudevents-batch+json`: an array of events.
    Batch,
}

/// One usage event, borrowed from the request body where it can be.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageEvent<'a> {
    /// Unique within (tenant, source); repeats are the same event.
    pub id: Cow<'a, str>,
    /// Where the event was produced; `None` means the API key's id.
    pub source: Option<Cow<'a, str>>,
    /// The feature that was used (CloudEvents `type`).
    pub feature: Cow<'a, str>,
    /// The user (CloudEvents `subject`).
    pub user: Option<Cow<'a, str>>,
    /// Unix milliseconds; `None` means the time of receipt.
    pub time_ms: Option<i64>,
    /// `data.value`, zero when absent.
    pub value: Decimal,
    /// `data.latencyMs`.
    pub latency_ms: Option<u32>,
    /// The whole `data` object as sent (`{}` when absent).
    pub data: &'a str,
    attributes: Vec<(Cow<'a, str>, &'a str)>,
}

impl UsageEvent<'_> {
    /// The JSON text of `data.<field>`.
    pub fn attribute(&self, field: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == field).map(|(_, json)| *json)
    }
}

/// Why one event is refused. `code` is stable and documented, `field` is the path of what to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct Invalid {
    /// Machine-readable reason.
    pub code: &'static str,
    /// JSON path of the offending member.
    pub field: String,
    /// What is wrong with it, for people.
    pub detail: String,
}

impl Invalid {
    /// An error about `field`.
    pub fn new(code: &'static str, field: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self { code, field: field.into(), detail: detail.to_string() }
    }
}

/// Why a whole request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON, or not of the form that the content type promises.
    #[error("the body is not {expected}: {detail}")]
    Malformed {
        /// What the content type promises.
        expected: &'static str,
        /// The parser's message with line and column.
        detail: String,
    },
    /// An array without events.
    #[error("the batch is empty: send at least one event")]
    Empty,
    /// More than [`MAX_EVENTS`].
    #[error("the batch holds more than {MAX_EVENTS} events")]
    TooMany,
}

/// Splits a request body into the JSON texts of its events.
///
/// # Errors
/// [`BodyError`] when the body as a whole cannot be read.
pub fn split(body: &[u8], form: Form) -> Result<Vec<&str>, BodyError> {
    let expected = match form {
        Form::Plain => "a JSON object or an array of JSON objects",
        Form::Structured => "one CloudEvent (application/cloudevents+json)",
        Form::Batch => "an array of CloudEvents (application/cloudevents-batch+json)",
    };
    let malformed = |detail: String| BodyError::Malformed { expected, detail };
    let body = std::str::from_utf8(body).map_err(|error| malformed(error.to_string()))?;
    let is_array = body.trim_start().starts_with('[');
    match (form, is_array) {
        (Form::Plain | Form::Batch, true) => {}
        (Form::Plain | Form::Structured, false) => {
            let one: &RawValue = serde_json::from_str(body).map_err(|error| malformed(error.to_string()))?;
            return Ok(vec![one.get()]);
        }
        (Form::Structured, true) => return Err(malformed("it is an array".to_owned())),
        (Form::Batch, false) => return Err(malformed("it is not an array".to_owned())),
    }
    let Items(items) = serde_json::from_str(body).map_err(|error| malformed(error.to_string()))?;
    match items.len() {
        0 => Err(BodyError::Empty),
        n if n > MAX_EVENTS => Err(BodyError::TooMany),
        _ => Ok(items),
    }
}

/// An array's items; stops keeping them one past the limit, so a body of a million `0`s stays cheap.
struct Items<'a>(Vec<&'a str>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;
        impl<'de> Visitor<'de> for ItemsVisitor {
            type Value = Vec<&'de str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of events")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<&RawValue>()? {
                    if items.len() <= MAX_EVENTS {
                        items.push(item.get());
                    }
                }
                Ok(items)
            }
        }
        d.deserialize_seq(ItemsVisitor).map(Items)
    }
}

/// Reads one event.
///
/// # Errors
/// [`Invalid`] naming the first member that is wrong.
pub fn parse(json: &str, form: Form) -> Result<UsageEvent<'_>, Invalid> {
    if json.len() > MAX_EVENT_BYTES {
        return Err(Invalid::new(
            "event_too_large",
            "",
            format_args!("the event is larger than {MAX_EVENT_BYTES} bytes"),
        ));
    }
    text::check(json).map_err(|unfit| match unfit {
        Unfit::Depth => Invalid::new(
            "too_deep",
            "",
            format_args!("the event nests deeper than {} levels", text::MAX_DEPTH),
        ),
        Unfit::NulCharacter => Invalid::new("nul_character", "", "the event holds a NUL character (\\u0000)"),
        Unfit::LoneSurrogate => {
            Invalid::new("lone_surrogate", "", "the event holds half of a surrogate pair")
        }
    })?;
    let members = members(json).map_err(|error| match error {
        MembersError::NotAnObject => Invalid::new("not_an_object", "", "the event is not a JSON object"),
        MembersError::Duplicate(name) => Invalid::new("duplicate_member", name, "stands twice in the event"),
    })?;
    from_members(members, form)
}

/// Reads one event in CloudEvents binary mode: attributes from `ce-` headers (percent-decoded), `data` from the body.
///
/// # Errors
/// [`Invalid`] naming the first header or member that is wrong.
pub fn parse_binary<'a>(
    attributes: impl IntoIterator<Item = (String, String)>,
    body: &'a [u8],
) -> Result<UsageEvent<'a>, Invalid> {
    let data =
        std::str::from_utf8(body).map_err(|error| Invalid::new("malformed_json", "data", error))?.trim();
    let mut draft = Draft { spec_version: false, ..Draft::default() };
    for (name, value) in attributes {
        draft.attribute(&name, Cow::Owned(value))?;
    }
    if !data.is_empty() {
        if data.len() > MAX_EVENT_BYTES {
            return Err(Invalid::new(
                "event_too_large",
                "data",
                format_args!("is larger than {MAX_EVENT_BYTES} bytes"),
            ));
        }
        serde_json::from_str::<&RawValue>(data)
            .map_err(|error| Invalid::new("malformed_json", "data", error))?;
        text::check(data)
            .map_err(|_| Invalid::new("unfit_text", "data", "nests too deep or holds unfit characters"))?;
        draft.data = Some(data);
    }
    draft.finish(Form::Structured)
}

fn from_members<'a>(members: Vec<(Cow<'a, str>, &'a str)>, form: Form) -> Result<UsageEvent<'a>, Invalid> {
    let mut draft = Draft::default();
    let is_cloud_event = form != Form::Plain || members.iter().any(|(name, _)| name == "specversion");
    for (name, json) in members {
        match name.as_ref() {
            "data" => draft.data = Some(json),
            "data_base64" => {
                return Err(Invalid::new(
                    "unsupported",
                    "data_base64",
                    "binary data is not supported: send data as JSON",
                ));
            }
            "id" | "source" | "type" | "subject" | "time" | "specversion" | "datacontenttype" => {
                if json == "null" {
                    continue;
                }
                draft.attribute(
                    &name,
                    string(json).ok_or_else(|| Invalid::new("not_a_string", &*name, "is not a string"))?,
                )?;
            }
            // CloudEvents allows extension attributes; in plain JSON an unknown member is a typo that would lose data.
            _ if is_cloud_event => {}
            _ => {
                let detail = "is not a member of an event: free attributes belong into data";
                return Err(Invalid::new("unknown_member", name.into_owned(), detail));
            }
        }
    }
    draft.finish(if is_cloud_event { Form::Structured } else { Form::Plain })
}

#[derive(Default)]
struct Draft<'a> {
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    feature: Option<Cow<'a, str>>,
    user: Option<Cow<'a, str>>,
    time_ms: Option<i64>,
    spec_version: bool,
    data: Option<&'a str>,
}

impl<'a> Draft<'a> {
    fn attribute(&mut self, name: &str, value: Cow<'a, str>) -> Result<(), Invalid> {
        match name {
            "id" => self.id = Some(bounded(name, value, MAX_ID_BYTES)?),
            "source" => self.source = Some(bounded(name, value, MAX_SOURCE_BYTES)?),
            "type" => self.feature = Some(bounded(name, value, MAX_TYPE_BYTES)?),
            "subject" => self.user = Some(bounded(name, value, MAX_SUBJECT_BYTES)?),
            "time" => {
                let time: jiff::Timestamp = value.parse().map_err(|_| {
                    Invalid::new(
                        "bad_time",
                        name,
                        "is not an RFC 3339 time with an offset, such as 2026-01-31T09:30:00Z",
                    )
                })?;
                self.time_ms = Some(time.as_millisecond());
            }
            "specversion" if value == "1.0" => self.spec_version = true,
            "specversion" => return Err(Invalid::new("unsupported", name, "must be \"1.0\"")),
            "datacontenttype" if !is_json_type(&value) => {
                return Err(Invalid::new("unsupported", name, "must be application/json"));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, form: Form) -> Result<UsageEvent<'a>, Invalid> {
        let missing = |field: &str| Invalid::new("missing", field, "is required");
        if form != Form::Plain && !self.spec_version {
            return Err(missing("specversion"));
        }
        let data = match self.data {
            None | Some("null") => "{}",
            Some(data) => data,
        };
        let attributes = members(data).map_err(|error| match error {
            MembersError::NotAnObject => Invalid::new("not_an_object", "data", "is not a JSON object"),
            MembersError::Duplicate(name) => {
                Invalid::new("duplicate_member", format!("data.{name}"), "stands twice")
            }
        })?;
        let attribute =
            |field: &str| attributes.iter().find(|(name, _)| name == field).map(|(_, json)| *json);
        let value = attribute("value").map_or(Ok(Decimal::default()), |json| {
            Decimal::parse(json).map_err(|error| Invalid::new("bad_number", "data.value", error))
        })?;
        let latency_ms = attribute("latencyMs")
            .map(|json| {
                // Fractions of a millisecond are dropped; browsers measure them.
                let latency = Decimal::parse(json)
                    .map_err(|error| Invalid::new("bad_number", "data.latencyMs", error))?;
                u32::try_from(latency.millionths() / 1_000_000)
                    .ok()
                    .filter(|_| latency.millionths() >= 0)
                    .ok_or_else(|| {
                        Invalid::new("bad_number", "data.latencyMs", "must lie between 0 and 4294967295")
                    })
            })
            .transpose()?;
        Ok(UsageEvent {
            id: self.id.ok_or_else(|| missing("id"))?,
            source: self.source,
            feature: self.feature.ok_or_else(|| missing("type"))?,
            user: self.user,
            time_ms: self.time_ms,
            value,
            latency_ms,
            data,
            attributes,
        })
    }
}

/// Whether a media type is JSON (parameters are ignored).
pub fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
}

fn bounded<'a>(field: &str, value: Cow<'a, str>, max: usize) -> Result<Cow<'a, str>, Invalid> {
    if value.is_empty() {
        return Err(Invalid::new("empty", field, "is empty"));
    }
    if value.len() > max {
        return Err(Invalid::new("too_long", field, format_args!("is longer than {max} bytes")));
    }
    if value.chars().any(char::is_control) {
        return Err(Invalid::new("control_character", field, "holds a control character"));
    }
    Ok(value)
}

fn string(json: &str) -> Option<Cow<'_, str>> {
    // Without escapes the text between the quotes is the string.
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if !inner.contains('\\') => Some(Cow::Borrowed(inner)),
        _ => serde_json::from_str::<String>(json).ok().map(Cow::Owned),
    }
}

enum MembersError {
    NotAnObject,
    Duplicate(String),
}

/// The members of a JSON object in order, their values as text.
fn members(json: &str) -> Result<Vec<(Cow<'_, str>, &str)>, MembersError> {
    struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);
    impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            struct MembersVisitor;
            impl<'de> Visitor<'de> for MembersVisitor {
                type Value = Vec<(Cow<'de, str>, &'de str)>;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut members = Vec::with_capacity(8);
                    while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                        members.push((name.0, value.get()));
                    }
                    Ok(members)
                }
            }
            d.deserialize_map(MembersVisitor).map(Members)
        }
    }
    let Members(members) = serde_json::from_str(json).map_err(|_| MembersError::NotAnObject)?;
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(MembersError::Duplicate(pair[0].to_owned())),
        None => Ok(members),
    }
}

/// A member name, borrowed unless it holds escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(name))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(name.to_owned()))
            }
        }
        d.deserialize_str(NameVisitor).map(Name)
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
