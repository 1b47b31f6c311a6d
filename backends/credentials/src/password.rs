//! Passwords.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::file::{FileError, Kept};

/// How often a file is looked at while its password is taken.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A password; clones share what was read.
#[derive(Clone)]
pub struct Password(Source);

#[derive(Clone)]
enum Source {
    Text(Arc<str>),
    File(Arc<Kept<Arc<str>>>),
}

impl Password {
    /// One that never changes.
    pub fn fixed(text: &str) -> Self {
        Self(Source::Text(text.into()))
    }

    /// The one that a file holds, without the end of its line; it may be replaced at any time.
    ///
    /// # Errors
    /// When the file cannot be read now.
    pub fn from_file(path: &Path) -> Result<Self, FileError> {
        Ok(Self(Source::File(Arc::new(Kept::read(path, parse)?))))
    }

    /// What to show now. At most once in five seconds this looks at the file, and otherwise costs a lock.
    pub fn current(&self) -> Arc<str> {
        match &self.0 {
            Source::Text(text) => text.clone(),
            Source::File(file) => Arc::clone(&file.newest(Instant::now(), LOOK_EVERY)),
        }
    }

    /// The server did not take it: the file is looked at before it is shown again.
    pub fn refused(&self) {
        if let Source::File(file) = &self.0 {
            file.doubt();
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

fn parse(bytes: &[u8]) -> Result<Arc<str>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::file::tests::file;

    #[test]
    fn a_refused_password_is_read_anew_at_once() {
        let path = file("old\n");
        let password = Password::from_file(&path).unwrap();
        assert_eq!(&*password.current(), "old");
        fs::write(&path, " newer \r\n").unwrap();
        assert_eq!(&*password.current(), "old", "looked at a moment ago");
        password.clone().refused();
        assert_eq!(&*password.current(), " newer ");
        assert_eq!(format!("{password:?}"), "Password", "it never reaches a log");
        fs::remove_file(path).unwrap();
    }
}
