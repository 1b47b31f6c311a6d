//! Which events a limit counts: feature patterns, users, and a CEL expression compiled once a snapshot.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr};
use cel::parser::Expression;
use cel::{Context, Env, Program, Value};
use event::wire::UsageEvent;

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
    expression: Option<Program>,
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

impl Matcher {
    /// Compiles a match.
    ///
    /// # Errors
    /// [`InvalidMatch`] naming the member.
    pub fn compile(declared: &Match) -> Result<Self, InvalidMatch> {
        let features = declared.features.iter().enumerate().map(|(i, text)| pattern(i, text));
        let expression = declared.expression.as_deref().map(|text| {
            let invalid = |detail: String| InvalidMatch { field: "expression".to_owned(), detail };
            if text.len() > MAX_EXPRESSION_BYTES {
                return Err(invalid(format!("is longer than {MAX_EXPRESSION_BYTES} bytes")));
            }
            let program = Program::compile(text).map_err(|error| invalid(format!("is not CEL: {error}")))?;
            let mut bound = HashSet::from(["event"]);
            bind(program.expression(), &mut bound);
            match program.references().variables().into_iter().find(|name| !bound.contains(name)) {
                Some(name) => Err(invalid(format!("refers to {name:?}: only event is known"))),
                None => Ok(program),
            }
        });
        Ok(Self {
            features: features.collect::<Result<_, _>>()?,
            users: declared.users.iter().cloned().collect(),
            expression: expression.transpose()?,
        })
    }

    /// Whether the limit counts `event`.
    pub fn matches(&self, event: &UsageEvent<'_>) -> bool {
        self.matches_seen(event, &Seen::new(event))
    }

    /// As [`Matcher::matches`], for an event that several rules look at.
    pub fn matches_seen(&self, event: &UsageEvent<'_>, seen: &Seen<'_>) -> bool {
        let feature = |pattern: &Pattern| match pattern {
            Pattern::Exact(text) => *text == event.feature,
            Pattern::Prefix(prefix) => event.feature.starts_with(prefix.as_str()),
        };
        (self.features.is_empty() || self.features.iter().any(feature))
            && (self.users.is_empty() || event.user.as_deref().is_some_and(|user| self.users.contains(user)))
            && self.expression.as_ref().is_none_or(|program| holds(program, seen))
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

/// Collects the names that macros such as `exists(x, …)` bind.
fn bind<'a>(expression: &'a Expression, bound: &mut HashSet<&'a str>) {
    match &expression.expr {
        Expr::Call(call) => {
            for part in call.target.as_deref().into_iter().chain(&call.args) {
                bind(part, bound);
            }
        }
        Expr::Select(select) => bind(&select.operand, bound),
        Expr::List(list) => list.elements.iter().for_each(|element| bind(element, bound)),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    bind(&entry.key, bound);
                    bind(&entry.value, bound);
                }
            }
        }
        Expr::Comprehension(all) => {
            bound.insert(&all.iter_var);
            bound.extend(all.iter_var2.as_deref());
            for part in [&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result] {
                bind(part, bound);
            }
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => {}
    }
}

fn holds(program: &Program, seen: &Seen<'_>) -> bool {
    let mut context = Context::with_env(LANGUAGE.clone());
    context.set_variable_resolver(seen);
    matches!(program.execute(&context), Ok(Value::Bool(true)))
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
        let features = Match { features: vec!["ok".into(), "a*b".into()], ..Match::default() };
        assert_eq!(Matcher::compile(&features).unwrap_err().field, "features[1]");
    }
}
