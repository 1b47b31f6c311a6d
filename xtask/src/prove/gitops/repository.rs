//! A Git repository on this machine that holds the tenants of `examples/argocd`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::Job;
use crate::{Error, Result, run};

/// The folder that the examples sync.
const FOLDER: &str = "tenants";

/// The repository, and who commits to it.
pub struct Repository<'a> {
    job: &'a Job<'a>,
    dir: PathBuf,
}

impl<'a> Repository<'a> {
    /// Makes it, with one commit.
    ///
    /// # Errors
    /// Git's words.
    pub fn create(job: &'a Job<'a>, dir: PathBuf, tenants: &Path) -> Result<Self> {
        copy(tenants, &dir.join(FOLDER))?;
        let repository = Self { job, dir };
        repository.git(&["init", "--quiet", "--initial-branch=main"])?;
        repository.commit("tenants")?;
        Ok(repository)
    }

    /// Where it is fetched from.
    pub fn url(&self) -> String {
        format!("file://{}", self.dir.display())
    }

    /// Changes a file, and returns the commit.
    ///
    /// # Errors
    /// When `from` does not stand in it.
    pub fn edit(&self, file: &str, from: &str, to: &str) -> Result<String> {
        let path = self.path(file);
        let before = read(&path)?;
        if !before.contains(from) {
            let detail = format!("{from:?} does not stand there");
            return Err(Error::Format { what: path.display().to_string(), detail });
        }
        self.write(file, &before.replacen(from, to, 1))
    }

    /// Writes a file, and returns the commit.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &str, content: &str) -> Result<String> {
        let path = self.path(file);
        let written =
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, content));
        written.map_err(Error::io(format!("cannot write {}", path.display())))?;
        self.commit(file)
    }

    /// What a file holds.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read(&self, file: &str) -> Result<String> {
        read(&self.path(file))
    }

    /// Takes a file or a folder out, and returns the commit.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, name: &str) -> Result<String> {
        self.git(&["rm", "-r", "--quiet", &format!("{FOLDER}/{name}")])?;
        self.commit(&format!("without {name}"))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.join(FOLDER).join(file)
    }

    fn commit(&self, message: &str) -> Result<String> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", message])?;
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Git without the settings of whoever runs the proof.
    fn git(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .arg("-C")
            .arg(&self.dir);
        command.args(["-c", "user.name=Platform team", "-c", "user.email=platform@example.com"]).args(args);
        run::output(&mut command, "git", self.job.cancel)
    }
}

/// A text file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io(format!("cannot read {}", path.display())))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io(format!("cannot create {}", to.display())))?;
    for entry in fs::read_dir(from).map_err(Error::io(format!("cannot read {}", from.display())))? {
        let entry = entry.map_err(Error::io(format!("cannot read {}", from.display())))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(Error::io(format!("cannot copy {}", path.display())))?;
        }
    }
    Ok(())
}
