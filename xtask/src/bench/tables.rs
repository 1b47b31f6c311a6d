//! Where a bench keeps ClickHouse's tables, and how it says on what it ran.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A folder of their own; without one they lie beside everything else.
#[derive(Debug, Default)]
pub(super) struct Tables(Option<PathBuf>);

impl Tables {
    /// Below `folder`.
    pub fn new(folder: Option<&Path>) -> Self {
        Self(folder.map(|folder| folder.join("meterplane-bench")))
    }

    /// The folder, emptied.
    pub fn emptied(&self) -> Result<Option<PathBuf>> {
        let Some(dir) = &self.0 else { return Ok(None) };
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(Error::io(format!("cannot remove {}", dir.display())))?;
        }
        fs::create_dir_all(dir).map_err(Error::io(format!("cannot create {}", dir.display())))?;
        Ok(Some(dir.clone()))
    }

    /// The machine, and the disks.
    pub fn machine(&self, data: &Path) -> String {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let tables = self.0.as_ref().map_or_else(String::new, |dir| format!(", tables in {}", dir.display()));
        format!("{cores} cores, data in {}{tables}", data.display())
    }
}
