//! Tenant names from whatever a file calls its tenants.

use event::TenantName;
use event::names::TENANT_NAME_MAX;

use crate::random;

/// Characters of the hash that tells names apart which read alike.
const HASH_CHARS: usize = 10;
/// Marks the hash, so that a name that is kept as it is never looks like one that was made.
const MARK: &str = "-x";

/// A tenant name for a text. Different texts get different names: a text that is a tenant name already is kept; any other is
/// made readable, and a hash of the whole text is added.
pub fn slug(text: &str) -> TenantName {
    if let Ok(name) = text.parse::<TenantName>()
        && !looks_made(text)
    {
        return name;
    }
    let hash = &random::sha256_hex(text.as_bytes())[..HASH_CHARS];
    let readable = readable(text, TENANT_NAME_MAX - MARK.len() - HASH_CHARS);
    let made = if readable.is_empty() { format!("x{hash}") } else { format!("{readable}{MARK}{hash}") };
    // Lower-case letters, digits and single inner dashes, within the length: this is always a tenant name.
    made.parse().unwrap_or_else(|_| slug(hash))
}

fn looks_made(text: &str) -> bool {
    let is_hash = |tail: &str| tail.len() == HASH_CHARS && tail.bytes().all(|b| b.is_ascii_hexdigit());
    text.rsplit_once(MARK).is_some_and(|(_, tail)| is_hash(tail))
        || text.strip_prefix('x').is_some_and(is_hash)
}

/// Letters and digits of the text in lower case, a dash for whatever stands between them.
fn readable(text: &str, max: usize) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut out = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    out.truncate(max);
    out.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tenant_names_are_kept_and_others_stay_readable() {
        assert_eq!(slug("acme").as_str(), "acme");
        assert_eq!(slug("wayne-enterprises").as_str(), "wayne-enterprises");
        let wiki = slug("#en.wikipedia");
        assert!(wiki.as_str().starts_with("en-wikipedia-x"), "{wiki}");
    }

    #[test]
    fn texts_that_read_alike_get_different_names() {
        let long = "x".repeat(200);
        let texts =
            ["a b", "a-b", "A-B", "a.b", "#a b", " a b", "a  b", "日本", "日本語", "", "-", "é", "😀", &long];
        let names: BTreeSet<_> = texts.iter().map(|text| slug(text)).collect();
        assert_eq!(names.len(), texts.len(), "{names:?}");
    }

    #[test]
    fn a_text_that_looks_like_a_made_name_does_not_meet_it() {
        for text in ["a b", "日本", "x", "X.y"] {
            let made = slug(text).as_str().to_owned();
            assert!(
                text == "x" || slug(&made).as_str() != made,
                "{made} is not kept for another tenant of that name"
            );
        }
    }

    #[test]
    fn databases_of_made_names_differ_too() {
        let names = ["a.b", "a_b", "a-b"].map(|text| slug(text).database());
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 3, "{names:?}");
    }
}
