//! A value that stands in a file, read anew when the file is another one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Why a file's value could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub detail: String,
}

/// How a file's bytes become a value; an error says what is wrong with them.
type Parse<T> = fn(&[u8]) -> Result<T, String>;

/// The value of a file.
pub(crate) struct Kept<T> {
    path: PathBuf,
    parse: Parse<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    version: Version,
    /// When the file was last looked at; `None`: it is looked at next time, however soon.
    looked: Option<Instant>,
}

/// Tells one content of a file from the next without reading it: a mounted Secret changes by a link to another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    modified_s: i64,
    modified_ns: i64,
    bytes: u64,
}

impl<T> Kept<T> {
    /// Reads the file.
    pub fn read(path: &Path, parse: Parse<T>) -> Result<Self, FileError> {
        let (value, version) = read(path, parse)?;
        let state = State { value: Arc::new(value), version, looked: None };
        Ok(Self { path: path.to_owned(), parse, state: Mutex::new(state) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value; the file is looked at if that was last done longer ago than `every`. A file that is gone or makes no sense leaves
    /// the value that was read before: whoever replaces it may not be done yet.
    pub fn newest(&self, now: Instant, every: Duration) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.is_some_and(|looked| now.saturating_duration_since(looked) < every) {
            return state.value.clone();
        }
        state.looked = Some(now);
        if version(&self.path).is_ok_and(|version| version == state.version) {
            return state.value.clone();
        }
        match read(&self.path, self.parse) {
            Ok((value, version)) => {
                tracing::info!(file = %self.path.display(), "read anew: the file has changed");
                (state.value, state.version) = (Arc::new(value), version);
            }
            Err(error) => tracing::warn!(%error, "what was read before stays in use"),
        }
        state.value.clone()
    }

    /// Looks at the file the next time, however soon that is.
    pub fn doubt(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).looked = None;
    }
}

fn version(path: &Path) -> std::io::Result<Version> {
    let found = fs::metadata(path)?;
    Ok(Version {
        inode: found.ino(),
        modified_s: found.mtime(),
        modified_ns: found.mtime_nsec(),
        bytes: found.size(),
    })
}

fn read<T>(path: &Path, parse: Parse<T>) -> Result<(T, Version), FileError> {
    let wrong = |detail: String| FileError { path: path.to_owned(), detail };
    // The version first: a file that changes in between is read once more, not overlooked.
    let version = version(path).map_err(|error| wrong(error.to_string()))?;
    let bytes = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    Ok((parse(&bytes).map_err(wrong)?, version))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A file of this test's own.
    pub(crate) fn file(content: &str) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("credentials-{}-{number}", std::process::id()));
        fs::write(&path, content).unwrap();
        path
    }

    fn number(bytes: &[u8]) -> Result<u32, String> {
        std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or_else(|| "no number".into())
    }

    #[test]
    fn a_changed_file_is_read_when_its_time_has_come() {
        let path = file("1");
        let kept = Kept::read(&path, number).unwrap();
        let (begin, every) = (Instant::now(), Duration::from_secs(5));
        assert_eq!(*kept.newest(begin, every), 1);
        fs::write(&path, "22").unwrap();
        assert_eq!(*kept.newest(begin + Duration::from_secs(4), every), 1, "not yet");
        assert_eq!(*kept.newest(begin + Duration::from_secs(5), every), 22);
        fs::write(&path, "333").unwrap();
        kept.doubt();
        assert_eq!(*kept.newest(begin + Duration::from_secs(5), every), 333, "at once");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_of_the_same_size_behind_a_link_is_another_one() {
        let (first, second) = (file("1"), file("2"));
        let link = first.with_extension("link");
        std::os::unix::fs::symlink(&first, &link).unwrap();
        let kept = Kept::read(&link, number).unwrap();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&second, &link).unwrap();
        assert_eq!(*kept.newest(Instant::now(), Duration::ZERO), 2);
        [first, second, link].iter().for_each(|path| fs::remove_file(path).unwrap());
    }

    #[test]
    fn what_makes_no_sense_leaves_the_value_and_is_an_error_only_at_the_start() {
        let path = file("1");
        let kept = Kept::read(&path, number).unwrap();
        fs::write(&path, "one").unwrap();
        assert_eq!(*kept.newest(Instant::now(), Duration::ZERO), 1);
        let error = Kept::read(&path, number).err().unwrap().to_string();
        assert_eq!(error, format!("{}: no number", path.display()));
        fs::remove_file(&path).unwrap();
        assert_eq!(*kept.newest(Instant::now(), Duration::ZERO), 1, "gone");
        assert!(Kept::read(&path, number).is_err());
    }
}
