//! The processes of the demo: `dts run` and the writers, and what the kernel knows of them.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::runtime;

/// Set for a writer: which one this process is to be. See [`super::writers`].
pub(super) const WRITER: &str = "DTS_DEMO_WRITER";
/// Set for a writer: its folder.
pub(super) const FOLDER: &str = "DTS_DEMO_FOLDER";
/// Set for a writer: where the HTTP poster posts.
pub(super) const ADDRESS: &str = "DTS_DEMO_ADDRESS";

/// One role: started, killed and started again; what each life used is added up.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: &'static str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    child: Option<Child>,
    /// Greatest of all lives.
    pub(super) peak_rss_bytes: u64,
    /// Of all lives but this one.
    written_before: u64,
    /// Of this life, when last looked at.
    written: u64,
}

impl Process {
    /// Not started yet. Its output goes to `dir/<name>.log`.
    pub(super) fn new(name: &'static str, dir: &Path, arguments: &[&str]) -> Self {
        Self {
            name,
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
            environment: Vec::new(),
            log: dir.join(format!("{name}.log")),
            child: None,
            peak_rss_bytes: 0,
            written_before: 0,
            written: 0,
        }
    }

    /// An application; see [`super::writers`].
    pub(super) fn writer(name: &'static str, dir: &Path, kind: &str, app: &Path, posts: SocketAddr) -> Self {
        let mut process = Self::new(name, dir, &["demo"]);
        process.environment = vec![
            (WRITER, kind.to_owned()),
            (FOLDER, app.display().to_string()),
            (ADDRESS, posts.to_string()),
        ];
        process
    }

    /// Starts it: this very program with its arguments.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let fail = |error: std::io::Error| format!("start {}: {error}", self.name);
        let program = std::env::current_exe().map_err(fail)?;
        let log = File::options().create(true).append(true).open(&self.log).map_err(fail)?;
        let also = log.try_clone().map_err(fail)?;
        let mut command = Command::new(program);
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log).stderr(also);
        self.child = Some(command.spawn().map_err(fail)?);
        Ok(())
    }

    /// SIGKILL: what a power cut is to a process.
    pub(super) fn kill(&mut self) {
        self.look();
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        self.written_before += std::mem::take(&mut self.written);
    }

    /// SIGTERM, and an error if it does not end well within `limit`.
    pub(super) async fn stop(&mut self, limit: Duration) -> Result<(), String> {
        self.look();
        let Some(child) = &mut self.child else { return Ok(()) };
        rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM)
            .ok();
        self.ended(limit).await
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self, limit: Duration) -> Result<(), String> {
        let deadline = runtime::mono_now() + limit;
        while let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => self.child = None,
                Ok(Some(status)) => {
                    return Err(format!("{} ended with {status}; see {}", self.name, self.log.display()));
                }
                _ if runtime::mono_now() > deadline => {
                    return Err(format!("{} does not end; see {}", self.name, self.log.display()));
                }
                _ => runtime::sleep(Duration::from_millis(20)).await,
            }
            self.look();
        }
        Ok(())
    }

    /// An error if it ended although nobody asked it to.
    pub(super) fn still_runs(&mut self) -> Result<(), String> {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => {
                Err(format!("{} ended with {status}; see {}", self.name, self.log.display()))
            }
            _ => Ok(()),
        }
    }

    /// Reads what the kernel knows of it now.
    pub(super) fn look(&mut self) {
        let Some(child) = &self.child else { return };
        let read =
            |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap_or_default();
        let number = |text: &str, name: &str| -> Option<u64> {
            let line = text.lines().find(|l| l.starts_with(name))?;
            line[name.len()..].trim().trim_end_matches(" kB").parse().ok()
        };
        if let Some(kib) = number(&read("status"), "VmHWM:") {
            self.peak_rss_bytes = self.peak_rss_bytes.max(kib * 1024);
        }
        if let Some(bytes) = number(&read("io"), "write_bytes:") {
            self.written = bytes;
        }
    }

    /// Bytes that all its lives sent to the disk.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written_before + self.written
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
