//! Which events a rule is about: feature patterns, users, and a CEL expression compiled once a snapshot.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use cel::common::ast::Expr;
use cel::parser::Expression;
use cel::{Context, Env, Program, Value};
use event::wire::UsageEvent;
use jiff::tz::TimeZone;

use crate::cost::{self, Cost};
pub use crate::cost::{MAX_COST, MAX_ITEMS};
use crate::limit::Match;
use crate::seen::Seen;

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
    if let Some((root, member)) = unknown_member(program.expression()) {
        let known = members(root).unwrap_or_default().join(", ");
        return Err(format!("{root} has no member {member:?}: it has {known}"));
    }
    let cost = cost::estimate(program.expression()).map_err(str::to_owned)?;
    if cost.steps > MAX_COST {
        let steps = cost.steps;
        return Err(format!("may take {steps} steps, more than {MAX_COST}: loops over data multiply"));
    }
    Ok((program, cost))
}

/// What may stand behind a name: nothing else ever has a value, so a rule that speaks of it would never fit.
fn members(root: &str) -> Option<&'static [&'static str]> {
    match root {
        "event" => Some(&["id", "source", "type", "subject", "data"]),
        "time" => Some(&["hour", "minute", "dayOfWeek", "date"]),
        _ => None,
    }
}

/// The first member of `event` or `time` that does not exist.
fn unknown_member(expression: &Expression) -> Option<(&str, &str)> {
    if let Expr::Select(select) = &expression.expr
        && let Expr::Ident(root) = &select.operand.expr
        && members(root).is_some_and(|known| !known.contains(&select.field.as_str()))
    {
        return Some((root, &select.field));
    }
    cost::parts(expression).into_iter().find_map(unknown_member)
}

/// Collects the names that macros such as `exists(x, …)` bind.
fn bind<'a>(expression: &'a Expression, bound: &mut HashSet<&'a str>) {
    if let Expr::Comprehension(all) = &expression.expr {
        bound.insert(&all.iter_var);
        bound.extend(all.iter_var2.as_deref());
    }
    cost::parts(expression).into_iter().for_each(|part| bind(part, bound));
}

/// An event as rules look at it; what expressions need is read once, and only if one asks.
pub struct Subject<'a> {
    event: &'a UsageEvent<'a>,
    seen: Seen<'a>,
}

impl<'a> Subject<'a> {
    /// An event at no particular time.
    pub fn new(event: &'a UsageEvent<'a>) -> Self {
        Self { event, seen: Seen::new(event, None) }
    }

    /// An event received at `received_ms` (Unix milliseconds) by a tenant in `zone`.
    pub fn at(event: &'a UsageEvent<'a>, zone: &'a TimeZone, received_ms: i64) -> Self {
        Self { event, seen: Seen::new(event, Some((zone, received_ms))) }
    }

    fn holds(&self, program: &Program, loops: bool) -> Fit {
        if loops && self.seen.items() > MAX_ITEMS {
            return Fit::TooLarge;
        }
        let mut context = Context::with_env(LANGUAGE.clone());
        context.set_variable_resolver(&self.seen);
        if matches!(program.execute(&context), Ok(Value::Bool(true))) { Fit::Yes } else { Fit::No }
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
        for bad in ["event.data.", "", "request.user == 'x'", "event.nosuch == 1", "has(event.nosuch)", "1 +"]
        {
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
