//! What the documents say about the repository.

use std::collections::BTreeMap;

use super::tree::{File, Tree};
use crate::codegen::{self, reference};
use crate::{Error, Result};

/// Where decisions lie.
const DECISIONS: &str = "docs/adr/";
/// Most lines of a decision.
const DECISION_LINES_MAX: usize = 60;

/// Links that lead nowhere, and paths in code marks that name no file.
///
/// # Errors
/// None.
pub fn links(tree: &Tree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in tree.ending("md") {
        for target in targets(&file.text) {
            if !leads_somewhere(tree, file, target) {
                found.push(format!("{}: the link {target:?} leads nowhere", file.path));
            }
        }
        for path in code_marks(&file.text).filter(|mark| is_path(mark)) {
            if !tree.has(path) {
                found.push(format!("{}: there is no {path}", file.path));
            }
        }
    }
    Ok(found)
}

/// `](target)` outside of code blocks.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| {
        line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
    })
}

/// `` `text` `` outside of code blocks.
fn code_marks(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_block = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !in_block && !fence
    })
}

/// Whether a code mark is a path of one file of ours: not a pattern, not somebody else's.
fn is_path(mark: &str) -> bool {
    let ending = [".rs", ".md", ".yaml", ".json", ".toml"].iter().any(|ending| mark.ends_with(ending));
    ending
        && mark.contains('/')
        && !mark.contains(|c: char| "*<>{}$ ~".contains(c))
        && !mark.starts_with(['/', '.'])
}

fn leads_somewhere(tree: &Tree, file: &File, target: &str) -> bool {
    if target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { file.path.clone() } else { resolved(&file.path, path) };
    let has_anchor = |anchor: &str| prose(tree.text(&path)).filter_map(heading).any(|known| known == anchor);
    tree.has(&path) && anchor.is_none_or(has_anchor)
}

/// Whether a link from the repository's root leads to a file, and to one of its headings.
pub(super) fn exists(tree: &Tree, target: &str) -> bool {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    tree.files.iter().find(|file| file.path == path).is_some_and(|file| {
        anchor.is_empty() || prose(&file.text).filter_map(heading).any(|known| known == anchor)
    })
}

/// The path of a link, relative to the repository.
fn resolved(file: &str, link: &str) -> String {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchor of a heading.
fn heading(line: &str) -> Option<String> {
    let title = line.strip_prefix('#')?.trim_start_matches('#').trim().to_lowercase();
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect())
}

/// Decisions that are not numbered one after the other, titled by their number, and short.
///
/// # Errors
/// None.
pub fn decisions(tree: &Tree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let decisions = tree.files.iter().filter(|file| file.path.starts_with(DECISIONS));
    for (at, file) in decisions.enumerate() {
        let number = format!("{:04}", at + 1);
        if !file.path[DECISIONS.len()..].starts_with(&format!("{number}-")) {
            found.push(format!("{} should have number {number}", file.path));
        }
        if !file.text.starts_with(&format!("# {number} ")) {
            found.push(format!("{} should begin with `# {number} <title>`", file.path));
        }
        let lines = file.text.lines().count();
        if lines > DECISION_LINES_MAX {
            found.push(format!("{} has {lines} lines, more than {DECISION_LINES_MAX}", file.path));
        }
    }
    Ok(found)
}

/// Whether the reference of the custom resources is what their definitions say.
///
/// # Errors
/// When a definition is no YAML.
pub fn reference(tree: &Tree) -> Result<Vec<String>> {
    let files = tree.files.iter().filter_map(|file| {
        let name = file.path.strip_prefix("crds/yaml/")?;
        Some((name.to_owned(), file.text.clone()))
    });
    let text = reference::crds(&files.collect::<BTreeMap<_, _>>())?;
    let is_current = tree.text(codegen::CRDS_REFERENCE) == text;
    Ok(if is_current {
        vec![]
    } else {
        vec![format!("{}: run `cargo xtask codegen`", codegen::CRDS_REFERENCE)]
    })
}

/// The arguments of every `cargo xtask` command that a document shows, in code blocks and in code marks.
///
/// # Errors
/// When there is no such document.
pub fn commands(tree: &Tree, document: &str) -> Result<Vec<Vec<String>>> {
    let text = tree.text(document);
    if text.is_empty() {
        return Err(Error::Format {
            what: document.to_owned(),
            detail: "it is empty or not there".to_owned(),
        });
    }
    let lines = text.lines().map(str::trim).map(|line| line.strip_prefix("$ ").unwrap_or(line));
    let shown = lines.chain(code_marks(text)).filter_map(|line| line.strip_prefix("cargo xtask"));
    let words = |line: &str| {
        line.split_whitespace()
            .take_while(|word| !word.starts_with(['#', '|', '&']))
            .map(str::to_owned)
            .collect()
    };
    Ok(shown.map(words).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let file = |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: (*text).to_owned() };
        Tree { root: Path::new("/nowhere").to_path_buf(), files: files.iter().map(file).collect() }
    }

    #[test]
    fn links_are_found_and_resolved_from_their_document() {
        let text =
            "see [a](../x.md#one-two), [b](https://e.org)\n```\n[c](d)\n```\n`src/e.rs` `a/*.rs` `f.rs`";
        assert_eq!(targets(text).collect::<Vec<_>>(), ["../x.md#one-two", "https://e.org"]);
        assert_eq!(code_marks(text).filter(|mark| is_path(mark)).collect::<Vec<_>>(), ["src/e.rs"]);
        assert_eq!(resolved("docs/adr/1.md", "../x.md"), "docs/x.md");
        assert_eq!(resolved("README.md", "./docs/x.md"), "docs/x.md");
        assert_eq!(heading("## One, two!").as_deref(), Some("one-two"));
        assert_eq!(
            links(&tree(&[("a.md", "[x](y.md)")])).unwrap(),
            ["a.md: the link \"y.md\" leads nowhere"]
        );
    }

    #[test]
    fn decisions_out_of_order_or_too_long_are_found() {
        let long = "# 0002 Two\n".to_owned() + &"x\n".repeat(60);
        let found = decisions(&tree(&[
            ("docs/adr/0001-one.md", "# 0001 One\n"),
            ("docs/adr/0002-two.md", &long),
            ("docs/adr/0004-four.md", "# 0004 Four\n"),
        ]));
        let found = found.unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("61 lines") && found[1].contains("0003") && found[2].contains("0003"));
    }

    #[test]
    fn commands_are_read_from_blocks_and_marks() {
        let text = "run `cargo xtask up --detach` first\n```sh\n$ cargo xtask replay x.gz --check   # slow\ncargo build\n```";
        let found = commands(&tree(&[("README.md", text)]), "README.md").unwrap();
        assert_eq!(found, [vec!["replay", "x.gz", "--check"], vec!["up", "--detach"]]);
    }
}
