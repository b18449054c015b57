//! Real MySQL and MariaDB.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::script;
use crate::harness::{Dir, port};

/// A server of its own for one test; stopped at the end.
#[derive(Debug)]
pub(super) struct Mysql {
    pub(super) flavour: &'static str,
    pub(super) port: u16,
    dir: PathBuf,
}

impl Mysql {
    /// Starts an empty one with these options beside the usual.
    pub(super) fn start(dir: &Dir, flavour: &'static str, options: &[&str]) -> Self {
        let path = dir.join(flavour);
        std::fs::create_dir_all(&path).unwrap();
        Self::start_in(path, flavour, options)
    }

    /// As [`Self::start`], in a folder of its own.
    pub(super) fn start_in(path: PathBuf, flavour: &'static str, options: &[&str]) -> Self {
        let server = Self { flavour, port: port(), dir: path };
        server.again(options);
        server
    }

    /// Where its files are.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Stops it, and starts it with the same data.
    pub(super) fn restart(&mut self, options: &[&str]) {
        let stop = Command::new(script("mysql.sh")).arg("stop").arg(&self.dir).status();
        assert!(stop.unwrap().success());
        self.again(options);
    }

    fn again(&self, options: &[&str]) {
        let (flavour, path) = (self.flavour, &self.dir);
        let mut command = Command::new(script("mysql.sh"));
        command
            .args(["start", flavour])
            .arg(path)
            .arg(self.port.to_string())
            .args(options)
            .stdin(Stdio::null());
        // Not a pipe: the server would keep it open.
        let log = path.join("start.log");
        command.stdout(std::fs::File::create(&log).unwrap()).stderr(std::fs::File::create(&log).unwrap());
        let status = command.status().unwrap();
        assert!(status.success(), "{flavour}: {}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    /// Runs statements; the lines of what they show, fields separated by tabs.
    pub(super) fn sql(&self, sql: &str) -> Vec<String> {
        let mut command = Command::new(script("mysql.sh"));
        command.args(["client", self.flavour]).arg(&self.dir).args(["-N", "--default-character-set=utf8mb4"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let sql = sql.to_owned();
        let feed = std::thread::spawn(move || input.write_all(sql.as_bytes()));
        let output = child.wait_with_output().unwrap();
        feed.join().unwrap().ok();
        assert!(output.status.success(), "{}: {}", self.flavour, String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}

impl Drop for Mysql {
    fn drop(&mut self) {
        let stop = Command::new(script("mysql.sh")).arg("stop").arg(&self.dir).status();
        if !std::thread::panicking() {
            assert!(stop.unwrap().success());
        }
    }
}
