//! A file system that is full soon.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own; only root can make one.
#[derive(Debug)]
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    /// Why there is none, where this user may not mount.
    pub(crate) fn mount(at: &Path, size: &str) -> Result<Self, String> {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        let out = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "dts-test"]).arg(at).output();
        let out = out.map_err(|e| e.to_string())?;
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).trim().to_owned());
        }
        Ok(Self(at.to_owned()))
    }

    /// Mounts it anew, read-only or not. It must not be open for writing.
    pub(crate) fn remount(&self, read_only: bool) {
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        let done = Command::new("mount").args(["-o", how]).arg(&self.0).status().unwrap();
        assert!(done.success(), "{how}: {done}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}
