//! The repository's text files, read once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Folders that hold nothing of ours.
const NOT_OURS: [&str; 5] = ["target", ".git", ".dev", "node_modules", "proptest-regressions"];
/// Endings of files that are looked at.
const TEXT: [&str; 8] = ["rs", "md", "yaml", "toml", "json", "sql", "tpl", "mod"];

/// A file, its path relative to the repository with `/` between folders.
#[derive(Debug, Clone)]
pub struct File {
    /// Path.
    pub path: String,
    /// Content.
    pub text: String,
}

/// The repository.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Where it lies.
    pub root: PathBuf,
    /// Its text files by path.
    pub files: Vec<File>,
}

impl Tree {
    /// Reads all text files of a folder.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self { root: root.to_path_buf(), files: Vec::new() };
        tree.add(root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    /// Files with this ending.
    pub fn ending<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.path.rsplit_once('.').is_some_and(|(_, end)| end == ending))
    }

    /// The text of a file; empty when it is not there.
    pub fn text(&self, path: &str) -> &str {
        self.files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
    }

    /// Whether there is a file or folder at this path.
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    fn add(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let failed = || Error::io(format!("cannot read {}", folder.display()));
        for entry in fs::read_dir(folder).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            // A link is not followed: it may leave the repository.
            let kind = entry.file_type().map_err(failed())?;
            if kind.is_dir() && !NOT_OURS.contains(&name.as_str()) {
                self.add(&entry.path(), &format!("{path}/"))?;
            }
            let is_text = name.rsplit_once('.').is_some_and(|(_, end)| TEXT.contains(&end));
            if kind.is_file() && (is_text || matches!(name.as_str(), "run" | "LICENSE" | "Dockerfile")) {
                // A file that somebody removes or that holds no text is none of these checks' business.
                if let Ok(text) = fs::read_to_string(entry.path()) {
                    self.files.push(File { path, text });
                }
            }
        }
        Ok(())
    }
}
