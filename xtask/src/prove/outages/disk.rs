//! A disk that is full: NATS's store on a small file system of its own, and a file that takes what is left.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// A mounted file system in memory; dropping it unmounts it.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one of this size.
    ///
    /// # Errors
    /// When this user or this machine may not.
    pub fn mount(at: &Path, mebibytes: u32) -> Result<Self> {
        fs::create_dir_all(at).map_err(Error::io(format!("cannot create {}", at.display())))?;
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", &size, "meterplane-proof"]).arg(at);
        let mounted = mount.stdin(Stdio::null()).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self(at.into())),
            Ok(output) => Err(Error::Program {
                program: "mount -t tmpfs".into(),
                detail: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            }),
            Err(source) => Err(Error::io("cannot run mount")(source)),
        }
    }

    /// Unmounts what a proof that was killed left there.
    pub fn clear(at: &Path) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        if mounts.lines().any(|line| line.split(' ').nth(1) == at.to_str()) {
            drop(Self(at.into()));
        }
    }

    /// Takes all that is left; what it took is free again once the filler is dropped.
    ///
    /// # Errors
    /// When not even a file can be made.
    pub fn fill(&self) -> Result<Filler> {
        let path = self.0.join("filler");
        let failed = || Error::io(format!("cannot write {}", path.display()));
        let mut file = File::create(&path).map_err(failed())?;
        let mut chunk = vec![0_u8; 1024 * 1024];
        // Whole mebibytes first, then what is left of the last one.
        while !chunk.is_empty() {
            if file.write_all(&chunk).is_err() {
                chunk.truncate(chunk.len() / 2);
            }
        }
        Ok(Filler(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is just ending may have a file open.
        drop(Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status());
    }
}

/// What fills a disk.
#[derive(Debug)]
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}
