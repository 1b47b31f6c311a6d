//! The reasons that conditions give, and the page that says what to do about each.

use std::collections::BTreeSet;

use super::tree::Tree;
use crate::Result;

const PAGE: &str = "docs/reference/conditions.md";
/// Where reasons are given: the first text that follows is one.
const GIVEN: [&str; 5] = ["Why::new(", "undecided(", "missing(", "incompatible(", ".yes("];
/// Reasons that are put together from a system's name and one of these.
const OF_SYSTEMS: [&str; 3] = ["Unavailable", "Denied", "Failed"];

/// Reasons that the operator gives and the page does not explain, and the other way round.
///
/// # Errors
/// None.
pub fn check(tree: &Tree) -> Result<Vec<String>> {
    let sources = tree
        .ending("rs")
        .filter(|file| file.path.starts_with("operator/src/") && !file.path.ends_with("_tests.rs"))
        .map(|file| file.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default());
    let (mut given, mut literals) = (BTreeSet::new(), BTreeSet::new());
    for source in sources {
        given.extend(GIVEN.iter().flat_map(|how| source.split(how).skip(1)).filter_map(first_text));
        literals.extend(source.split('"').filter(|text| is_reason(text)));
    }
    let explained: BTreeSet<&str> = explained(tree.text(PAGE)).collect();
    let unexplained = given.iter().filter(|reason| !explained.contains(*reason));
    let composed = |reason: &str| OF_SYSTEMS.iter().any(|end| reason.ends_with(end));
    let stale = explained.iter().filter(|reason| !literals.contains(*reason) && !composed(reason));
    let missing = unexplained.map(|reason| format!("{PAGE} does not explain {reason}"));
    Ok(missing.chain(stale.map(|reason| format!("{PAGE} explains {reason}, which nobody gives"))).collect())
}

/// The text that is the first or second argument.
fn first_text(arguments: &str) -> Option<&str> {
    let (before, rest) = arguments.split_once('"')?;
    let is_argument = before.chars().all(|c| c.is_whitespace() || c.is_ascii_uppercase() || "_,".contains(c));
    let (text, _) = rest.split_once('"')?;
    (is_argument && is_reason(text)).then_some(text)
}

fn is_reason(text: &str) -> bool {
    text.len() > 2
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_alphabetic())
}

/// The reasons of the page: what is marked in the first column of its tables.
fn explained(page: &str) -> impl Iterator<Item = &str> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    rows.flat_map(|column| column.split(['`', ',', ' '])).filter(|text| is_reason(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_found_where_they_are_given_and_explained() {
        assert_eq!(first_text("\n   \"NoPods\", message)"), Some("NoPods"));
        assert_eq!(first_text("COUNTS_RECONCILED, \"Reconciled\", message)"), Some("Reconciled"));
        assert_eq!(first_text("reason, \"no room\")"), None);
        let page = "| reason |\n|---|\n| `A1`, `NoPods`, `Other` | Enforced | `Not` |\n";
        assert_eq!(explained(page).collect::<Vec<_>>(), ["NoPods", "Other"]);
    }
}
