//! `cargo xtask tidy`: what this repository promises about itself, checked. Each check is a test as well, so that it cannot be
//! forgotten; none of them needs anything that runs.

pub mod arrows;
pub mod charts;
pub mod docs;
pub mod examples;
pub mod manifests;
pub mod reasons;
pub mod source;
pub mod tree;

use std::process::ExitCode;

use self::tree::Tree;
use crate::{Paths, Result};

/// Finds what is wrong, a sentence each.
type Check = fn(&Tree) -> Result<Vec<String>>;

/// The checks by name.
pub const CHECKS: [(&str, Check); 15] = [
    ("crates depend on each other as ARCHITECTURE.md draws it", arrows::check),
    ("manifests share lints and licence", manifests::check),
    ("files and functions fit a screen", source::lengths),
    ("nothing is left for later", source::leftovers),
    ("no path of one machine is written down", source::machine_paths),
    ("links and paths in the docs lead somewhere", docs::links),
    ("decisions are numbered and short", docs::decisions),
    ("the reference of the resources is generated from them", docs::reference),
    ("the reasons of conditions are explained", reasons::check),
    ("examples hold known kinds and fields", examples::check),
    ("the licence is Apache-2.0", manifests::licence),
    ("alerts and panels read metrics that there are", charts::metrics),
    ("alerts have runbooks", charts::runbooks),
    ("the chart ships the generated resource types", charts::definitions),
    ("the image holds every program", charts::image),
];

/// Runs every check and prints what it finds.
///
/// # Errors
/// When the repository cannot be read.
pub fn run() -> Result<ExitCode> {
    let tree = Tree::read(&Paths::discover()?.root)?;
    let mut found = 0;
    for (name, check) in CHECKS {
        for sentence in check(&tree)? {
            println!("{name}: {sentence}");
            found += 1;
        }
    }
    println!("{} checks, {found} findings", CHECKS.len());
    Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_its_promises() {
        let tree = Tree::read(&Paths::discover().unwrap().root).unwrap();
        let mut found = Vec::new();
        for (name, check) in CHECKS {
            found.extend(check(&tree).unwrap().into_iter().map(|sentence| format!("{name}: {sentence}")));
        }
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}
