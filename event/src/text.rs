//! One pass over an event's JSON text for what a syntax check lets through.

/// Deepest nesting of arrays and objects in an event.
pub(crate) const MAX_DEPTH: usize = 32;

/// What a syntactically valid JSON text may still hold that nothing behind us would store faithfully.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    Depth,
    NulCharacter,
    LoneSurrogate,
}

/// Looks through valid JSON text; allocation-free, linear.
pub(crate) fn check(json: &str) -> Result<(), Unfit> {
    let bytes = json.as_bytes();
    let (mut depth, mut in_string, mut i) = (0usize, false, 0usize);
    while i < bytes.len() {
        match bytes[i] {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                if bytes.get(i + 1) == Some(&b'u') {
                    match unit(bytes, i) {
                        0 => return Err(Unfit::NulCharacter),
                        0xD800..=0xDBFF if matches!(unit(bytes, i + 6), 0xDC00..=0xDFFF) => i += 6,
                        0xD800..=0xDFFF => return Err(Unfit::LoneSurrogate),
                        _ => {}
                    }
                    i += 5;
                } else {
                    i += 1;
                }
            }
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Unfit::Depth);
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        i += 1;
    }
    Ok(())
}

/// The UTF-16 unit of an escape `\uXXXX` at `at`; 1 (harmless) where there is none.
fn unit(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 6) {
        Some([b'\\', b'u', hex @ ..]) => {
            std::str::from_utf8(hex).ok().and_then(|hex| u16::from_str_radix(hex, 16).ok()).unwrap_or(1)
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_stored_is_found() {
        assert_eq!(check(r#"{"a":"x\u0041\n\\u0000 \ud83d\ude00","b":["[[["]}"#), Ok(()));
        assert_eq!(check(r#"{"a":"x\u0000"}"#), Err(Unfit::NulCharacter));
        assert_eq!(check(r#"{"a":"\ud83d"}"#), Err(Unfit::LoneSurrogate));
        assert_eq!(check(r#"{"a":"\ud83d\u0041"}"#), Err(Unfit::LoneSurrogate));
        assert_eq!(check(r#"{"a":"\ude00\ud83d"}"#), Err(Unfit::LoneSurrogate));
        assert_eq!(check(&"[".repeat(33)), Err(Unfit::Depth));
        assert_eq!(check(&"[".repeat(32)), Ok(()));
    }
}
