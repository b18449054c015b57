//! A real Apache Kafka, and the binary that ships writing to it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{require, script};
use crate::harness::*;

/// A broker of its own for one test; stopped at the end. Topics appear when they are written to.
#[derive(Debug)]
pub(super) struct Kafka {
    dir: PathBuf,
    pub(super) port: u16,
}

impl Kafka {
    /// Starts an empty one with these settings (`name=value`) beside the usual.
    pub(super) fn start(dir: &Dir, settings: &[&str]) -> Self {
        let broker = Self { dir: dir.join("kafka"), port: ports(2) };
        std::fs::create_dir_all(&broker.dir).unwrap();
        broker.again(settings);
        broker
    }

    /// Starts it after [`Self::stop`] or [`Self::kill`].
    pub(super) fn again(&self, settings: &[&str]) {
        let mut command = Command::new(script("kafka.sh"));
        command.arg("start").arg(&self.dir).arg(self.port.to_string()).args(settings).stdin(Stdio::null());
        // Not a pipe: the broker would keep it open.
        let log = self.dir.join("start.log");
        command.stdout(std::fs::File::create(&log).unwrap()).stderr(std::fs::File::create(&log).unwrap());
        let status = command.status().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    pub(super) fn stop(&self) {
        assert!(Command::new(script("kafka.sh")).arg("stop").arg(&self.dir).status().unwrap().success());
    }

    /// SIGKILL.
    pub(super) fn kill(&self) {
        assert!(Command::new(script("kafka.sh")).arg("kill").arg(&self.dir).status().unwrap().success());
    }

    /// The first `count` messages of a topic by Kafka's own consumer: key, a tab, value.
    pub(super) fn read(&self, topic: &str, count: usize) -> Vec<String> {
        let output = Command::new(script("kafka.sh"))
            .args(["cli", "console-consumer", "--bootstrap-server", &format!("127.0.0.1:{}", self.port)])
            .args(["--topic", topic, "--from-beginning", "--max-messages", &count.to_string()])
            .args(["--timeout-ms", "60000", "--formatter-property", "print.key=true"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        Command::new(script("kafka.sh")).arg("kill").arg(&self.dir).status().ok();
    }
}

#[test]
fn lines_of_a_file_pass_an_outage_of_the_broker() {
    if !require("kafka") {
        return;
    }
    let dir = Dir::new("kafka");
    let broker = Kafka::start(&dir, &[]);
    let log = dir.write("app.log", "line 0\n");
    let config = dir.write(
        "dts.yaml",
        format!(
            "source: {{type: file, paths: [\"{}\"]}}\nbuffer: {{path: \"{}\"}}\nsink:\n  type: kafka\n  brokers: [\"127.0.0.1:{}\"]\n  \
             topic_template: lines\n",
            log.display(),
            dir.join("buffer").display(),
            broker.port
        ),
    );
    let mut dts = Process::dts(&dir, "dts", &["run", "--config", config.to_str().unwrap()]);
    dts.start();
    assert!(broker.read("lines", 1)[0].contains("line 0"));
    broker.kill();
    let mut file = std::fs::File::options().append(true).open(&log).unwrap();
    for n in 1..100 {
        writeln!(file, "line {n}").unwrap();
    }
    until("the sink's word that nobody is there", || {
        dts.log().contains("no broker can be reached").then_some(())
    });
    broker.again(&[]);
    let lines = broker.read("lines", 100);
    for (n, line) in lines.iter().enumerate() {
        assert!(line.contains(&format!("\"line {n}\"")), "{n}: {line}");
    }
    dts.kill();
    broker.stop();
}
