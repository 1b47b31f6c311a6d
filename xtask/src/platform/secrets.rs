//! `.dev/credentials/`: passwords, tokens and keys of one platform, readable by its owner only.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The folder.
#[derive(Debug, Clone)]
pub struct Secrets(PathBuf);

impl Secrets {
    /// Opens the folder, creating it if needed.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open(dir: &Path) -> Result<Self> {
        let folder = dir.join("credentials");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(Error::io(format!("cannot create {}", folder.display())))?;
        Ok(Self(folder))
    }

    /// Where the secret of this name lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The secret of this name, if it was made.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn find(&self, name: &str) -> Result<Option<String>> {
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("cannot read {}", path.display()))(error)),
        }
    }

    /// The secret of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, name: &str) -> Result<String> {
        self.find(name)?.ok_or_else(|| Error::Missing {
            what: format!("the credential {}", self.path(name).display()),
            remedy: "it is made by `cargo xtask up`".into(),
        })
    }

    /// Keeps a secret under this name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, name: &str, secret: &str) -> Result<()> {
        write(&self.path(name), secret)
    }

    /// The secret of this name, made now if it was not before.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub fn get_or(&self, name: &str, make: impl FnOnce() -> Result<String>) -> Result<String> {
        if let Some(secret) = self.find(name)? {
            return Ok(secret);
        }
        let secret = make()?;
        self.put(name, &secret)?;
        Ok(secret)
    }
}

/// Writes a file that only its owner may read. Readers see the old content or the new one, never a part.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(Error::io(format!("cannot write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_are_their_owners() {
        let dir = std::env::temp_dir().join(format!("mp-secrets-{}", std::process::id()));
        let secrets = Secrets::open(&dir).unwrap();
        assert!(secrets.get("a").is_err());
        assert_eq!(secrets.get_or("a", || Ok("1".into())).unwrap(), "1");
        assert_eq!(secrets.get_or("a", || Ok("2".into())).unwrap(), "1");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&secrets.path("a")), 0o600);
        assert_eq!(mode(&dir.join("credentials")), 0o700);
        fs::remove_dir_all(&dir).unwrap();
    }
}
