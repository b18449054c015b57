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
    dir: PathBuf,
}

impl Mysql {
    /// Starts an empty one with these options beside the usual.
    pub(super) fn start(dir: &Dir, flavour: &'static str, options: &[&str]) -> Self {
        let path = dir.join(flavour);
        std::fs::create_dir_all(&path).unwrap();
        let mut command = Command::new(script("mysql.sh"));
        command
            .args(["start", flavour])
            .arg(&path)
            .arg(port().to_string())
            .args(options)
            .stdin(Stdio::null());
        // Not a pipe: the server would keep it open.
        let log = path.join("start.log");
        command.stdout(std::fs::File::create(&log).unwrap()).stderr(std::fs::File::create(&log).unwrap());
        let status = command.status().unwrap();
        assert!(status.success(), "{flavour}: {}", std::fs::read_to_string(&log).unwrap_or_default());
        Self { flavour, dir: path }
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
