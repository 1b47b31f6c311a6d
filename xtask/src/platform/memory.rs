//! Memory of a part, as the kernel counts it.

use super::Platform;
use crate::{Error, Result};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// What it has now.
    Resident,
    /// The most that it ever had.
    Highest,
}

impl Platform {
    /// Memory of a running part, MiB.
    ///
    /// # Errors
    /// [`Error::UnknownPart`] when it does not run.
    pub fn memory_mib(&self, name: &str, what: Memory) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid(name)?);
        let text = std::fs::read_to_string(&path).map_err(Error::io(format!("cannot read {path}")))?;
        read(&text, what)
            .ok_or_else(|| Error::Format { what: path, detail: format!("it names no {what:?} memory") })
    }
}

fn read(status: &str, what: Memory) -> Option<u64> {
    let field = match what {
        Memory::Resident => "VmRSS:",
        Memory::Highest => "VmHWM:",
    };
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_and_the_highest_are_told_apart() {
        let status = "Name:\tsink\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n";
        assert_eq!((read(status, Memory::Resident), read(status, Memory::Highest)), (Some(100), Some(200)));
        assert_eq!(read("Name:\tsink\n", Memory::Resident), None);
    }
}
