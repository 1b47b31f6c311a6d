//! How code is written: short files, short functions, nothing left for later.

use super::tree::Tree;
use crate::Result;

/// Most lines of a file.
const FILE_LINES_MAX: usize = 500;
/// Most lines of a function.
const FUNCTION_LINES_MAX: usize = 70;
/// Marks of things left for later, put together here so that this file holds none.
const LEFTOVERS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];
/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Use", "rs/")];

/// Files and functions that are too long.
///
/// # Errors
/// None.
pub fn lengths(tree: &Tree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in tree.ending("rs") {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("{} has {lines} lines, more than {FILE_LINES_MAX}: split it", file.path));
        }
        for (line, lines) in
            functions(&file.text).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX)
        {
            found.push(format!(
                "{}:{line} is a function of {lines} lines, more than {FUNCTION_LINES_MAX}",
                file.path
            ));
        }
    }
    Ok(found)
}

/// Marks of unfinished work.
///
/// # Errors
/// None.
pub fn leftovers(tree: &Tree) -> Result<Vec<String>> {
    Ok(occurrences(tree, &LEFTOVERS))
}

/// Paths of one machine.
///
/// # Errors
/// None.
pub fn machine_paths(tree: &Tree) -> Result<Vec<String>> {
    Ok(occurrences(tree, &MACHINE_PATHS))
}

fn occurrences(tree: &Tree, needles: &[&str]) -> Vec<String> {
    let lines =
        tree.files.iter().flat_map(|file| file.text.lines().enumerate().map(move |line| (file, line)));
    let found = lines.filter_map(|(file, (at, line))| {
        let needle = needles.iter().find(|needle| line.contains(**needle))?;
        Some(format!("{}:{} holds {needle:?}", file.path, at + 1))
    });
    found.collect()
}

/// The first line (from 1) and the number of lines of every function that has a body. A test is not one: its table of cases may be
/// as long as the cases are many.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let code = without_literals(text);
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    let is_test = |at: usize| at > 0 && lines[at - 1].trim().ends_with("test]");
    for (at, _) in lines.iter().enumerate().filter(|(at, line)| begins_function(line) && !is_test(*at)) {
        let mut depth = 0_i32;
        for (length, line) in lines[at..].iter().enumerate() {
            let opened = line.matches('{').count() as i32;
            depth += opened - line.matches('}').count() as i32;
            if depth == 0 && (opened > 0 || line.trim() == "}") {
                found.push((at + 1, length + 1));
                break;
            }
            if depth == 0 && line.trim_end().ends_with(';') {
                // A declaration without a body.
                break;
            }
        }
    }
    found
}

fn begins_function(line: &str) -> bool {
    let line = line.trim_start();
    let private =
        line.strip_prefix("pub(").and_then(|rest| rest.split_once(')')).map_or(line, |(_, rest)| rest);
    let qualifier = |word: &str| matches!(word, "pub" | "const" | "async" | "unsafe" | "default" | "extern");
    private.split_whitespace().find(|word| !qualifier(word)) == Some("fn")
}

/// The text with comments, strings and characters blanked, line by line in place.
fn without_literals(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        let length = literal(rest, out.chars().next_back()).unwrap_or(0);
        if length > 0 {
            out.extend(rest[..length].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[length..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Length of the comment or literal that the text begins with.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |end| end + 2));
    }
    let after_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if let Some(raw) = text.strip_prefix('r').filter(|_| !after_word || before == Some('b')) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if let Some(body) = raw[hashes..].strip_prefix('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let begun = text.len() - body.len();
            return Some(body.find(&close).map_or(text.len(), |end| begun + end + close.len()));
        }
    }
    if text.starts_with('"') {
        return Some(closing(text, '"'));
    }
    // `'a` is a lifetime, `'a'` and `'\n'` are characters.
    let mut characters = text.strip_prefix('\'')?.chars();
    let first = characters.next()?;
    (first == '\\' || characters.next() == Some('\'')).then(|| closing(text, '\''))
}

/// Length of a literal up to and with its closing quote.
fn closing(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_their_name_to_their_last_brace() {
        let text = "pub(in crate::a) async fn one(\n    a: u8,\n) -> u8 {\n    if a > 0 {\n        1\n    } else { 2 }\n}\n\n\
            trait T {\n    fn declared(&self) -> [u8; 2];\n    fn two() {}\n}\nconst fn three() {\n}\n#[test]\nfn four() {\n}\n";
        assert_eq!(functions(text), [(1, 7), (11, 1), (13, 2)]);
    }

    #[test]
    fn braces_in_literals_and_comments_do_not_count() {
        let text = "fn a<'x>(s: &'x str) {\n    // }\n    let b = \"}\\\"}\";\n    let c = ('}', '\\'', b'{');\n    \
            let d = r#\"}\n}\"#;\n    /* } */\n}\nfn e() {}\n";
        assert_eq!(functions(text), [(1, 8), (9, 1)]);
    }

    #[test]
    fn raw_strings_begin_a_word() {
        assert_eq!(without_literals("for\"x\""), "for   ");
        assert_eq!(without_literals("let r = br\"{\";").trim_end(), "let r = b    ;");
    }
}
