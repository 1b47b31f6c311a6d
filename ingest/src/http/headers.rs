//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11), for the limits that come nearest to refusing.
//!
//! ```text
//! RateLimit-Policy: "ns.acme.exports";q=50;w=86400,"plan.burst";q=500;w=1;mp-burst=1000
//! RateLimit: "ns.acme.exports";r=9;t=3600;mp-warn=80,"plan.burst";r=430;t=1
//! ```
//! Units are events, or what the limit sums. `r` is what this pod knew at its last ledger operation: advice, not a promise.
//! `mp-warn` is the highest percentage of the limit's `warnAt` that its use has reached.

use std::cmp::Ordering;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::quota::{Limited, Standing};

/// Most limits told of.
const MAX_ITEMS: usize = 4;
/// What one of them takes in a field, about.
const ITEM_BYTES: usize = 64;
/// Largest integer of a structured field (RFC 9651).
const MAX_INTEGER: u64 = 999_999_999_999_999;
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Adds both fields, unless the request met no limit. `limited` is the limit that refused an event first.
pub fn apply(headers: &mut HeaderMap, standings: &[Standing], limited: Option<&Limited>) {
    let items = nearest(standings, limited);
    if items.is_empty() {
        return;
    }
    let room = items.len() * ITEM_BYTES;
    let (mut policy, mut limit) = (String::with_capacity(room), String::with_capacity(room));
    for standing in items {
        let refused = limited.filter(|limited| limited.identity == standing.identity);
        policy_item(&mut policy, standing);
        limit_item(&mut limit, standing, refused);
    }
    for (name, text) in [(POLICY, policy), (LIMIT, limit)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
}

/// The limit that refused, then those of which the smallest part is left; of each limit the worst subject.
fn nearest<'a>(standings: &'a [Standing], limited: Option<&Limited>) -> Vec<&'a Standing> {
    let refused = |standing: &Standing| limited.is_some_and(|limited| limited.identity == standing.identity);
    let mut sorted: Vec<&Standing> = standings.iter().collect();
    sorted.sort_by(|a, b| refused(b).cmp(&refused(a)).then_with(|| by_part_left(a, b)));
    let mut items: Vec<&Standing> = Vec::new();
    for standing in sorted {
        let is_new = items.iter().all(|item| item.identity != standing.identity);
        if is_new && items.len() < MAX_ITEMS {
            items.push(standing);
        }
    }
    items
}

fn by_part_left(a: &Standing, b: &Standing) -> Ordering {
    let part = |of: &Standing, other: &Standing| u128::from(of.remaining) * u128::from(other.max.max(1));
    part(a, b).cmp(&part(b, a)).then_with(|| a.identity.cmp(&b.identity))
}

fn policy_item(out: &mut String, standing: &Standing) {
    name(out, &standing.identity);
    parameter(out, "q", standing.max);
    if let Some(length_s) = standing.length_s {
        parameter(out, "w", length_s);
    }
    if standing.burst > 0 {
        parameter(out, "mp-burst", standing.burst);
    }
}

fn limit_item(out: &mut String, standing: &Standing, refused: Option<&Limited>) {
    name(out, &standing.identity);
    parameter(out, "r", standing.remaining);
    // The draft wants `Retry-After` not to come before the end of the effective window, so a refusal names its own.
    let window_ms = refused.and_then(|limited| limited.retry_after_ms).or(standing.reset_ms);
    if let Some(window_ms) = window_ms {
        parameter(out, "t", window_ms.div_ceil(1_000));
    }
    if let Some(percent) = standing.warned_at {
        parameter(out, "mp-warn", u64::from(percent));
    }
}

/// A string of a structured field: printable ASCII, quotes and backslashes escaped.
fn name(out: &mut String, identity: &str) {
    out.push_str(if out.is_empty() { "\"" } else { ",\"" });
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if identity.bytes().all(is_plain) {
        out.push_str(identity);
    } else {
        for c in identity.chars().filter(|c| matches!(c, ' '..='~')) {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
    }
    out.push('"');
}

fn parameter(out: &mut String, key: &str, value: u64) {
    out.push(';');
    out.push_str(key);
    out.push('=');
    // Each answer has some dozen of them: without the machinery of `format!` they cost next to nothing.
    let (mut digits, mut at, mut rest) = ([0_u8; 20], 20, value.min(MAX_INTEGER));
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::window::Window;

    fn standing(identity: &str, max: u64, remaining: u64) -> Standing {
        Standing {
            limit: "l".into(),
            identity: identity.into(),
            max,
            burst: 0,
            window: Window::Day,
            length_s: Some(86_400),
            reset_ms: Some(3_599_001),
            remaining,
            elsewhere: 0,
            warned_at: None,
        }
    }

    fn fields(standings: &[Standing], limited: Option<&Limited>) -> (String, String) {
        let mut headers = HeaderMap::new();
        apply(&mut headers, standings, limited);
        let text =
            |name| headers.get(name).map_or("", |value: &HeaderValue| value.to_str().unwrap()).to_owned();
        (text(POLICY), text(LIMIT))
    }

    #[test]
    fn the_limits_that_come_nearest_to_refusing_stand_first() {
        let burst = Standing {
            burst: 1_000,
            length_s: Some(1),
            reset_ms: Some(20),
            ..standing("plan.burst", 500, 430)
        };
        let exports = Standing { warned_at: Some(80), ..standing("ns.acme.exports", 50, 9) };
        let (policy, limit) = fields(&[burst, exports], None);
        assert_eq!(policy, r#""ns.acme.exports";q=50;w=86400,"plan.burst";q=500;w=1;mp-burst=1000"#);
        assert_eq!(limit, r#""ns.acme.exports";r=9;t=3600;mp-warn=80,"plan.burst";r=430;t=1"#);
    }

    #[test]
    fn the_limit_that_refused_stands_first_with_its_own_window() {
        let limited = Limited {
            limit: "b".into(),
            identity: "plan.b".into(),
            max: 100,
            used: 60,
            units: 50,
            window: Window::Day,
            retry_after_ms: Some(1_000),
        };
        let (_, limit) = fields(&[standing("plan.a", 100, 1), standing("plan.b", 100, 40)], Some(&limited));
        assert_eq!(limit, r#""plan.b";r=40;t=1,"plan.a";r=1;t=3600"#);
    }

    #[test]
    fn a_limit_is_told_once_by_its_worst_subject_and_few_are_told() {
        let many: Vec<Standing> = (0..9).map(|n| standing(&format!("plan.{n}"), 100, 10 + n)).collect();
        let (policy, limit) = fields(&[many, vec![standing("plan.8", 100, 2)]].concat(), None);
        assert_eq!(policy.matches(";q=").count(), MAX_ITEMS);
        assert!(limit.starts_with(r#""plan.8";r=2;"#), "{limit}");
        assert_eq!(fields(&[], None), (String::new(), String::new()), "no limit, no field");
    }

    #[test]
    fn what_a_structured_field_cannot_hold_is_cut() {
        let total =
            Standing { length_s: None, reset_ms: None, ..standing("plan.\"x\\\u{e4}", u64::MAX, u64::MAX) };
        let (policy, limit) = fields(&[total], None);
        assert_eq!(policy, "\"plan.\\\"x\\\\\";q=999999999999999");
        assert_eq!(limit, "\"plan.\\\"x\\\\\";r=999999999999999");
    }
}
