//! What an expression costs at most, estimated without an event: bounded, so that matching is bounded in a pod.
//!
//! A step is one node evaluated once. Loops over data count [`MAX_ITEMS`] rounds, and an event that holds more is not
//! looked through (see [`crate::matching::Fit::TooLarge`]), so the estimate is a bound.

use cel::common::ast::{EntryExpr, Expr, LiteralValue};
use cel::parser::Expression;

/// Most list elements and map members of an event's data that loops of an expression go through.
pub const MAX_ITEMS: usize = 256;
/// Most steps of one expression.
pub const MAX_COST: u64 = 50_000;
/// Steps of a pattern match: the pattern is compiled with each.
const PATTERN_STEPS: u64 = 2_000;
/// Steps of a function over a text, which is as long as an event may be.
const TEXT_STEPS: u64 = 20;
/// Longest pattern, bytes.
const MAX_PATTERN_BYTES: usize = 128;
const TEXT_FUNCTIONS: [&str; 4] = ["contains", "startsWith", "endsWith", "@in"];
const ADD: &str = "_+_";

/// The estimate of one expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Steps, at most.
    pub steps: u64,
    /// Whether it loops over something that an event brings.
    pub loops: bool,
}

/// Estimates an expression.
///
/// # Errors
/// What cannot be bounded, for people.
pub fn estimate(expression: &Expression) -> Result<Cost, &'static str> {
    // Lists can be joined: every sum may hold everything once more.
    let mut estimator = Estimator { rounds: MAX_ITEMS as u64, loops: false };
    estimator.rounds = estimator.rounds.saturating_mul(1 + sums(expression));
    let steps = estimator.steps(expression)?;
    Ok(Cost { steps, loops: estimator.loops })
}

struct Estimator {
    rounds: u64,
    loops: bool,
}

impl Estimator {
    fn steps(&mut self, expression: &Expression) -> Result<u64, &'static str> {
        let own = match &expression.expr {
            Expr::Call(call) => call_steps(&call.func_name, &call.args)?,
            Expr::Comprehension(all) => {
                let rounds = match &all.iter_range.expr {
                    Expr::List(list) => list.elements.len() as u64,
                    _ => {
                        self.loops = true;
                        self.rounds
                    }
                };
                let round = self.steps(&all.loop_cond)?.saturating_add(self.steps(&all.loop_step)?);
                let mut once = rounds.saturating_mul(round);
                for part in [&all.iter_range, &all.accu_init, &all.result] {
                    once = once.saturating_add(self.steps(part)?);
                }
                return Ok(once.saturating_add(1));
            }
            _ => 1,
        };
        let mut parts = parts(expression).into_iter().map(|part| self.steps(part));
        parts.try_fold(own, |sum, steps| Ok(sum.saturating_add(steps?)))
    }
}

fn call_steps(function: &str, arguments: &[Expression]) -> Result<u64, &'static str> {
    if function != "matches" {
        return Ok(if TEXT_FUNCTIONS.contains(&function) { TEXT_STEPS } else { 1 });
    }
    let bounded = |text: &str| text.len() <= MAX_PATTERN_BYTES && !text.contains('{');
    match arguments.last().map(|argument| &argument.expr) {
        Some(Expr::Literal(LiteralValue::String(text))) if bounded(text.inner()) => Ok(PATTERN_STEPS),
        _ => Err("matches() needs a literal pattern of at most 128 bytes without '{'"),
    }
}

/// Sums that people wrote; the one that a macro adds to each loop only collects its rounds.
fn sums(expression: &Expression) -> u64 {
    let own = u64::from(matches!(&expression.expr, Expr::Call(call) if call.func_name == ADD));
    if let Expr::Comprehension(all) = &expression.expr {
        let step = sums(&all.loop_step);
        let collects = matches!(&all.loop_step.expr, Expr::Call(call) if call.func_name == ADD);
        let rest = [&all.iter_range, &all.accu_init, &all.loop_cond, &all.result];
        return step - u64::from(collects) + rest.into_iter().map(sums).sum::<u64>();
    }
    parts(expression).into_iter().map(sums).sum::<u64>() + own
}

/// The expressions that stand directly below one; a loop's own parts are not told apart here.
pub(crate) fn parts(expression: &Expression) -> Vec<&Expression> {
    match &expression.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Struct(of) => of.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Comprehension(all) => {
            vec![&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result]
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => vec![],
    }
}

fn of_entry(entry: &EntryExpr) -> Vec<&Expression> {
    match entry {
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        EntryExpr::StructField(field) => vec![&field.value],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Cost, &'static str> {
        estimate(cel::Program::compile(text).unwrap().expression())
    }

    #[test]
    fn loops_over_data_multiply_and_loops_over_literals_count_what_they_hold() {
        let plain = of("event.data.format == 'pdf'").unwrap();
        assert!(plain.steps < 10 && !plain.loops);
        let literal = of("['a', 'b'].exists(x, event.type == x)").unwrap();
        assert!(literal.steps < 50 && !literal.loops, "{literal:?}");
        let once = of("event.data.tags.exists(t, t == 'x')").unwrap();
        assert!(once.loops && once.steps > MAX_ITEMS as u64 && once.steps < MAX_COST, "{once:?}");
        let nested = of("event.data.a.exists(x, event.data.b.exists(y, x == y))").unwrap();
        assert!(nested.steps > once.steps * 200 && nested.steps > MAX_COST, "{nested:?}");
        let deep = format!("{}true{}", "event.data.a.all(x, ".repeat(12), ")".repeat(12));
        assert_eq!(of(&deep).unwrap().steps, u64::MAX, "saturates, never wraps");
    }

    #[test]
    fn joined_lists_count_as_often_as_they_are_joined() {
        let one = of("event.data.a.all(x, true)").unwrap().steps;
        let joined = of("(event.data.a + event.data.a + event.data.a).all(x, true)").unwrap().steps;
        assert!(joined >= 2 * one, "{joined} {one}");
        assert!(
            of("event.data.a.map(x, x).size() > 1").unwrap().steps < MAX_COST,
            "a macro's own sum is none"
        );
    }

    #[test]
    fn patterns_are_literal_and_short() {
        assert!(of("event.type.matches('^a.*b$')").unwrap().steps >= PATTERN_STEPS);
        for bad in [
            "event.type.matches(event.data.p)",
            "event.type.matches('a{1000}')",
            "matches(event.type, event.id)",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(of("event.data.a.exists(x, x.matches('y'))").unwrap().steps > MAX_COST);
    }
}
