//! Which events a rule is about: feature patterns, users, and a CEL expression compiled once a snapshot.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use cel::common::ast::Expr;
use cel::parser::Expression;
use cel::{Context, Env, Program, Value};
use event::wire::UsageEvent;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cost::{self, Cost};
pub use crate::cost::{MAX_COST, MAX_ITEMS};
use crate::limit::Match;

/// Longest CEL expression.
pub const MAX_EXPRESSION_BYTES: usize = 2_048;

/// The functions of the language, built once.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A compiled [`Match`].
#[derive(Debug)]
pub struct Matcher {
    features: Vec<Pattern>,
    users: HashSet<String>,
    expression: Option<(Program, Cost)>,
}

/// What an expression may speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vocabulary {
    /// `event`.
    Event,
    /// `event` and `time`.
    EventAndTime,
}

/// Whether an event fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Yes,
    /// It does not, or the expression cannot be evaluated on it.
    No,
    /// The expression loops over data, and they hold more than [`MAX_ITEMS`] elements: they are not looked through.
    TooLarge,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

/// Why a match cannot be compiled; `field` is relative to the match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct InvalidMatch {
    /// `features[1]`, `expression`, …
    pub field: String,
    /// What is wrong.
    pub detail: String,
}

impl Vocabulary {
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Event => &["event"],
            Self::EventAndTime => &["event", "time"],
        }
    }
}

impl Matcher {
    /// Compiles the match of a limit.
    ///
    /// # Errors
    /// [`InvalidMatch`] naming the member.
    pub fn compile(declared: &Match) -> Result<Self, InvalidMatch> {
        Self::compile_for(declared, Vocabulary::Event)
    }

    /// Compiles a match whose expression may speak of `vocabulary`.
    ///
    /// # Errors
    /// [`InvalidMatch`] naming the member.
    pub fn compile_for(declared: &Match, vocabulary: Vocabulary) -> Result<Self, InvalidMatch> {
        let features = declared.features.iter().enumerate().map(|(i, text)| pattern(i, text));
        let expression = declared.expression.as_deref().map(|text| {
            program(text, vocabulary)
                .map_err(|detail| InvalidMatch { field: "expression".to_owned(), detail })
        });
        Ok(Self {
            features: features.collect::<Result<_, _>>()?,
            users: declared.users.iter().cloned().collect(),
            expression: expression.transpose()?,
        })
    }

    /// Steps that the expression takes at most, see [`MAX_COST`].
    pub fn cost(&self) -> u64 {
        self.expression.as_ref().map_or(0, |(_, cost)| cost.steps)
    }

    /// Whether `event` fits, for a match that does not speak of time; what is too large fits.
    pub fn matches(&self, event: &UsageEvent<'_>) -> bool {
        self.fit(&Subject::new(event)) != Fit::No
    }

    /// Whether an event fits.
    pub fn fit(&self, subject: &Subject<'_>) -> Fit {
        let event = subject.event;
        let feature = |pattern: &Pattern| match pattern {
            Pattern::Exact(text) => *text == event.feature,
            Pattern::Prefix(prefix) => event.feature.starts_with(prefix.as_str()),
        };
        let fits = (self.features.is_empty() || self.features.iter().any(feature))
            && (self.users.is_empty() || event.user.as_deref().is_some_and(|user| self.users.contains(user)));
        match &self.expression {
            _ if !fits => Fit::No,
            None => Fit::Yes,
            Some((program, cost)) => subject.holds(program, cost.loops),
        }
    }
}

fn pattern(i: usize, text: &str) -> Result<Pattern, InvalidMatch> {
    let stem = text.strip_suffix('*');
    if text.is_empty() || stem.unwrap_or(text).contains('*') {
        let detail = format!("{text:?} is not a feature: exact, or ending in one '*'");
        return Err(InvalidMatch { field: format!("features[{i}]"), detail });
    }
    Ok(stem.map_or_else(|| Pattern::Exact(text.to_owned()), |prefix| Pattern::Prefix(prefix.to_owned())))
}

fn program(text: &str, vocabulary: Vocabulary) -> Result<(Program, Cost), String> {
    if text.len() > MAX_EXPRESSION_BYTES {
        return Err(format!("is longer than {MAX_EXPRESSION_BYTES} bytes"));
    }
    let program = Program::compile(text).map_err(|error| format!("is not CEL: {error}"))?;
    let mut bound: HashSet<&str> = vocabulary.names().iter().copied().collect();
    bind(program.expression(), &mut bound);
    if let Some(name) = program.references().variables().into_iter().find(|name| !bound.contains(name)) {
        return Err(format!("refers to {name:?}: only {} is known", vocabulary.names().join(" and ")));
    }
    let cost = cost::estimate(program.expression()).map_err(str::to_owned)?;
    if cost.steps > MAX_COST {
        let steps = cost.steps;
        return Err(format!("may take {steps} steps, more than {MAX_COST}: loops over data multiply"));
    }
    Ok((program, cost))
}

/// Collects the names that macros such as `exists(x, …)` bind.
fn bind<'a>(expression: &'a Expression, bound: &mut HashSet<&'a str>) {
    if let Expr::Comprehension(all) = &expression.expr {
        bound.insert(&all.iter_var);
        bound.extend(all.iter_var2.as_deref());
    }
    cost::parts(expression).into_iter().for_each(|part| bind(part, bound));
}

/// An event as rules look at it; what expressions need is made once, and only if one asks.
pub struct Subject<'a> {
    event: &'a UsageEvent<'a>,
    moment: Option<(&'a TimeZone, i64)>,
    seen: OnceCell<Option<Seen>>,
}

/// The event and the time as expressions see them, and how many elements the data hold.
struct Seen {
    event: Value,
    time: Option<Value>,
    items: usize,
}

#[derive(Serialize)]
struct EventView<'a> {
    id: &'a str,
    source: Option<&'a str>,
    r#type: &'a str,
    subject: Option<&'a str>,
    data: &'a serde_json::Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimeView {
    hour: i8,
    minute: i8,
    day_of_week: i8,
    date: String,
}

impl<'a> Subject<'a> {
    /// An event at no particular time.
    pub fn new(event: &'a UsageEvent<'a>) -> Self {
        Self { event, moment: None, seen: OnceCell::new() }
    }

    /// An event received at `received_ms` (Unix milliseconds) by a tenant in `zone`.
    pub fn at(event: &'a UsageEvent<'a>, zone: &'a TimeZone, received_ms: i64) -> Self {
        Self { moment: Some((zone, received_ms)), ..Self::new(event) }
    }

    fn holds(&self, program: &Program, loops: bool) -> Fit {
        let Some(seen) = self.seen.get_or_init(|| self.see()) else { return Fit::No };
        if loops && seen.items > MAX_ITEMS {
            return Fit::TooLarge;
        }
        let mut context = Context::with_env(LANGUAGE.clone());
        context.add_variable_from_value("event", seen.event.clone());
        if let Some(time) = &seen.time {
            context.add_variable_from_value("time", time.clone());
        }
        if matches!(program.execute(&context), Ok(Value::Bool(true))) { Fit::Yes } else { Fit::No }
    }

    fn see(&self) -> Option<Seen> {
        let data: serde_json::Value = serde_json::from_str(self.event.data).unwrap_or_default();
        let view = EventView {
            id: &self.event.id,
            source: self.event.source.as_deref(),
            r#type: &self.event.feature,
            subject: self.event.user.as_deref(),
            data: &data,
        };
        let event = cel::to_value(view).ok()?;
        let time = self.moment.and_then(|(zone, now_ms)| {
            let local = jiff::Timestamp::from_millisecond(now_ms).ok()?.to_zoned(zone.clone());
            let day_of_week = local.weekday().to_monday_one_offset();
            let date = local.date().to_string();
            cel::to_value(TimeView { hour: local.hour(), minute: local.minute(), day_of_week, date }).ok()
        });
        Some(Seen { event, time, items: items(&data) })
    }
}

fn items(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(list) => list.len() + list.iter().map(items).sum::<usize>(),
        serde_json::Value::Object(map) => map.len() + map.values().map(items).sum::<usize>(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::wire::{Form, parse};

    fn matches(declared: &Match, json: &str) -> bool {
        Matcher::compile(declared).unwrap().matches(&parse(json, Form::Plain).unwrap())
    }

    #[test]
    fn features_match_exactly_or_by_prefix() {
        let declared = Match { features: vec!["report.export".into(), "ai.*".into()], ..Match::default() };
        for (feature, expected) in
            [("report.export", true), ("report.exports", false), ("ai.chat", true), ("ai", false)]
        {
            assert_eq!(
                matches(&declared, &format!(r#"{{"id":"1","type":"{feature}"}}"#)),
                expected,
                "{feature}"
            );
        }
        assert!(matches(&Match::default(), r#"{"id":"1","type":"anything"}"#));
    }

    #[test]
    fn users_match_exactly() {
        let declared = Match { users: vec!["ann".into()], ..Match::default() };
        assert!(matches(&declared, r#"{"id":"1","type":"t","subject":"ann"}"#));
        assert!(!matches(&declared, r#"{"id":"1","type":"t","subject":"bob"}"#));
        assert!(!matches(&declared, r#"{"id":"1","type":"t"}"#));
    }

    #[test]
    fn expressions_see_the_event_and_missing_members_do_not_match() {
        let declared = Match { expression: Some(r#"event.data.format == "pdf""#.into()), ..Match::default() };
        assert!(matches(&declared, r#"{"id":"1","type":"t","data":{"format":"pdf"}}"#));
        assert!(!matches(&declared, r#"{"id":"1","type":"t","data":{"format":"csv"}}"#));
        assert!(!matches(&declared, r#"{"id":"1","type":"t"}"#));
        let typed = Match {
            expression: Some(r#"event.type.startsWith("a") && event.data.n > 2"#.into()),
            ..Match::default()
        };
        assert!(matches(&typed, r#"{"id":"1","type":"ab","data":{"n":3}}"#));
        assert!(!matches(&typed, r#"{"id":"1","type":"ab","data":{"n":"x"}}"#));
        let listed =
            Match { expression: Some(r#"event.data.tags.exists(t, t == "x")"#.into()), ..Match::default() };
        assert!(
            matches(&listed, r#"{"id":"1","type":"ab","data":{"tags":["y","x"]}}"#),
            "macros bind names of their own"
        );
    }

    #[test]
    fn what_cannot_be_compiled_names_the_member() {
        let with = |expression: &str| Match { expression: Some(expression.into()), ..Match::default() };
        for bad in ["event.data.", "", "request.user == 'x'", "1 +"] {
            assert_eq!(Matcher::compile(&with(bad)).unwrap_err().field, "expression", "{bad}");
        }
        assert_eq!(
            Matcher::compile(&with("time.hour > 3")).unwrap_err().field,
            "expression",
            "limits know no time"
        );
        let nested = "event.data.a.exists(x, event.data.b.exists(y, x == y))";
        let error = Matcher::compile(&with(nested)).unwrap_err();
        assert!(error.field == "expression" && error.detail.contains("loops over data multiply"), "{error}");
        let features = Match { features: vec!["ok".into(), "a*b".into()], ..Match::default() };
        assert_eq!(Matcher::compile(&features).unwrap_err().field, "features[1]");
    }

    #[test]
    fn an_event_that_is_too_large_to_look_through_counts() {
        let declared =
            Match { expression: Some("event.data.tags.exists(t, t == 2)".into()), ..Match::default() };
        let json = |count: usize| {
            format!(r#"{{"id":"1","type":"t","data":{{"tags":[{}]}}}}"#, vec!["1"; count].join(","))
        };
        assert!(!matches(&declared, &json(200)));
        assert!(matches(&declared, &json(300)), "padding is no way around a limit");
    }
}
