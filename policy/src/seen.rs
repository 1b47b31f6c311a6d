//! The event as CEL expressions see it: members are read when an expression names them, not before.
//!
//! The interpreter asks for the longest name first (`event.data.format`), so a comparison with one member of `data` reads that member
//! and nothing else. Only an expression that speaks of `event` or `event.data` as a whole has all of it converted, once an event.

use std::borrow::Cow;
use std::sync::OnceLock;

use cel::Value;
use cel::common::types::{CelNull, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use event::wire::UsageEvent;
use jiff::tz::TimeZone;
use serde::Serialize;

/// An event under the name `event`, and the time of its receipt under the name `time`.
pub struct Seen<'a> {
    event: &'a UsageEvent<'a>,
    moment: Option<(&'a TimeZone, i64)>,
    whole: OnceLock<Option<Box<dyn Val>>>,
    data: OnceLock<Option<Box<dyn Val>>>,
    time: OnceLock<Option<Box<dyn Val>>>,
    items: OnceLock<usize>,
}

#[derive(Serialize)]
struct EventView<'a> {
    id: &'a str,
    source: Option<&'a str>,
    r#type: &'a str,
    subject: Option<&'a str>,
    data: serde_json::Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimeView {
    hour: i8,
    minute: i8,
    day_of_week: i8,
    date: String,
}

impl<'a> Seen<'a> {
    /// Reads nothing yet. `moment` is a zone and a time in Unix milliseconds.
    pub fn new(event: &'a UsageEvent<'a>, moment: Option<(&'a TimeZone, i64)>) -> Self {
        let (whole, data, time, items) = (OnceLock::new(), OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { event, moment, whole, data, time, items }
    }

    /// How many list elements and members the data hold, at any depth.
    pub fn items(&self) -> usize {
        *self.items.get_or_init(|| {
            items(&serde_json::from_str::<serde_json::Value>(self.event.data).unwrap_or_default())
        })
    }

    fn time(&self) -> Option<&dyn Val> {
        let view = || {
            let (zone, now_ms) = self.moment?;
            let local = jiff::Timestamp::from_millisecond(now_ms).ok()?.to_zoned(zone.clone());
            let day_of_week = local.weekday().to_monday_one_offset();
            let date = local.date().to_string();
            value(TimeView { hour: local.hour(), minute: local.minute(), day_of_week, date })
        };
        self.time.get_or_init(view).as_deref()
    }

    fn whole(&self) -> Option<&dyn Val> {
        let view = || EventView {
            id: &self.event.id,
            source: self.event.source.as_deref(),
            r#type: &self.event.feature,
            subject: self.event.user.as_deref(),
            data: serde_json::from_str(self.event.data).unwrap_or_default(),
        };
        self.whole.get_or_init(|| value(view())).as_deref()
    }

    fn data(&self) -> Option<&dyn Val> {
        let json = || serde_json::from_str::<serde_json::Value>(self.event.data).unwrap_or_default();
        self.data.get_or_init(|| value(json())).as_deref()
    }

    /// `event.data.<field>`; `None` sends the interpreter on to `event.data`.
    fn attribute(&self, field: &str) -> Option<CowVal<'_, '_>> {
        // `event.data.a.b` is b of a: a member that is called "a.b" is reached by index only.
        if field.contains('.') {
            return None;
        }
        let json = self.event.attribute(field)?;
        if json.starts_with('"') {
            return Some(match plain(json) {
                Some(text) => CowVal::owned(CelString::from(text)),
                None => CowVal::owned(CelString::from(serde_json::from_str::<String>(json).ok()?)),
            });
        }
        value(serde_json::from_str::<serde_json::Value>(json).ok()?).map(CowVal::from)
    }
}

impl VariableResolver for Seen<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let text = |text: &'b str| Some(CowVal::owned(CelString::from(text)));
        let optional = |text: &'b Option<Cow<'_, str>>| {
            Some(match text {
                Some(text) => CowVal::owned(CelString::from(text.as_ref())),
                None => CowVal::owned(CelNull),
            })
        };
        match name {
            "time" => self.time().map(CowVal::Borrowed),
            "event" => self.whole().map(CowVal::Borrowed),
            "event.id" => text(&self.event.id),
            "event.type" => text(&self.event.feature),
            "event.source" => optional(&self.event.source),
            "event.subject" => optional(&self.event.user),
            "event.data" => self.data().map(CowVal::Borrowed),
            _ => self.attribute(name.strip_prefix("event.data.")?),
        }
    }
}

/// What stands between the quotes of a JSON string without escapes.
fn plain(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

fn items(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(list) => list.len() + list.iter().map(items).sum::<usize>(),
        serde_json::Value::Object(map) => map.len() + map.values().map(items).sum::<usize>(),
        _ => 0,
    }
}

fn value(of: impl Serialize) -> Option<Box<dyn Val>> {
    let value: Value = cel::to_value(of).ok()?;
    value.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cel::{Context, Program};
    use event::wire::{Form, parse};

    const EVENT: &str = r#"{"id":"1","type":"report.export","subject":"ann","data":{
        "format":"pdf","quoted":"a\"b","n":3,"minus":-3,"half":0.5,"large":18446744073709551615,"yes":true,"nothing":null,
        "tags":["x","y"],"document":{"id":"d","deep":{"n":1}},"a.b":1,"value":2}}"#;

    #[test]
    fn reading_members_one_by_one_gives_what_converting_all_of_them_gives() {
        for expression in [
            "event.data.format",
            "event.data.quoted == 'a\"b'",
            "event.data.n > 2",
            "event.data.n + 1u",
            "event.data.minus + 1",
            "event.data.half * 2.0",
            "event.data.large",
            "event.data.yes",
            "event.data.nothing == null",
            "event.data.tags.exists(t, t == 'y')",
            "event.data.tags[1]",
            "event.data.document.id",
            "event.data.document.deep.n",
            "event.data.document.missing",
            "event.data.missing",
            "event.data.a.b",
            "event.data['a.b']",
            "event['data'].n",
            "has(event.data.format) && !has(event.data.missing)",
            "has(event.data.document.id)",
            "'format' in event.data",
            "size(event.data)",
            "event.data.map(k, k).size()",
            "event.id + event.type + event.subject",
            "event.source == null",
            "event.unknown",
            "size(event)",
            "event.type.startsWith('report.') && event.data.format in ['pdf', 'csv']",
        ] {
            let event = parse(EVENT, Form::Plain).unwrap();
            let seen = Seen::new(&event, None);
            let (mut lazy, mut eager) = (Context::default(), Context::default());
            lazy.set_variable_resolver(&seen);
            let whole: serde_json::Value = serde_json::from_str(EVENT).unwrap();
            eager
                .add_variable(
                    "event",
                    EventView {
                        id: "1",
                        source: None,
                        r#type: "report.export",
                        subject: Some("ann"),
                        data: whole["data"].clone(),
                    },
                )
                .unwrap();
            let program = Program::compile(expression).unwrap();
            match (program.execute(&lazy), program.execute(&eager)) {
                (Err(_), Err(_)) => {}
                (lazy, eager) => assert_eq!(lazy, eager, "{expression}"),
            }
        }
    }
}
