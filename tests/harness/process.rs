//! A process: started, stopped, killed, and what it wrote.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Dir, until};

/// Several lives of one program; its output is appended to `<name>.log`.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    program: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(String, String)>,
    log: PathBuf,
    /// Where this life's output begins in the log.
    begin: usize,
    child: Option<Child>,
}

impl Process {
    pub(crate) fn new<A: Into<OsString>>(
        dir: &Dir,
        name: &str,
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            envs: Vec::new(),
            log: dir.join(&format!("{name}.log")),
            begin: 0,
            child: None,
        }
    }

    /// The `dts` under test.
    pub(crate) fn dts(dir: &Dir, name: &str, args: &[&str]) -> Self {
        Self::new(dir, name, env!("CARGO_BIN_EXE_dts"), args)
    }

    /// In the environment of its next lives.
    pub(crate) fn env(&mut self, name: &str, value: &str) {
        self.envs.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        self.begin = log.metadata().unwrap().len() as usize;
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.envs.iter().map(|(k, v)| (k, v))).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn();
        self.child = Some(child.unwrap_or_else(|e| panic!("start {}: {e}", self.program.display())));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and its status.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), Signal::TERM).unwrap();
        self.ended()
    }

    /// SIGTERM; it must end well.
    pub(crate) fn stop(&mut self) {
        let status = self.terminate();
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = until(&format!("the end of {}", self.name), || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// What all its lives wrote.
    pub(crate) fn whole_log(&self) -> String {
        read(&self.log)
    }

    /// What this life wrote.
    pub(crate) fn log(&self) -> String {
        self.whole_log().get(self.begin..).unwrap_or_default().to_owned()
    }

    /// Waits until this life wrote `text`.
    pub(crate) fn says(&mut self, text: &str) {
        let name = self.name.clone();
        until(&format!("`{text}` in the log of {name}"), || {
            let said = self.log().contains(text);
            assert!(said || self.runs(), "{name} has ended without saying `{text}`");
            said.then_some(())
        });
    }

    /// Names of its threads, sorted.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        let mut names: Vec<_> = tasks.flatten().filter_map(name).map(|n| n.trim().to_owned()).collect();
        names.sort();
        names
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
