//! Other people's software at either end: mosquitto, paho-mqtt, aioquic, MySQL, MariaDB, and mochi-mqtt on quic-go
//! where there is a Go. Apache Kafka is here too; the tests of the sink `kafka` use it. `make servers` installs it, privately.
//! Where it is missing these tests say so and pass, unless `DTS_REQUIRE_SERVERS=1` makes that a failure.

mod broker;
mod charset;
mod clients;
mod kafka;
mod mosquitto;
mod mysql;
mod mysql_live;
mod mysql_snapshot;
mod quic;
mod random_rows;
mod upstream;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A script of this folder.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(name)
}

/// Whether `name` is installed.
fn is_installed(name: &str) -> bool {
    let cache = std::env::var_os("DTS_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"))
            .join("dts")
    });
    cache.join("servers").join(name).join(".done").exists()
}

/// Whether `name` is installed. If not, says that this test is skipped, or fails.
fn require(name: &str) -> bool {
    if is_installed(name) {
        return true;
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let why = format!("{test}: {name} is not installed; `make servers` does that");
    assert!(std::env::var_os("DTS_REQUIRE_SERVERS").is_none_or(|v| v != "1"), "{why}");
    // Past the capture of the test's output.
    writeln!(std::io::stderr(), "skipped: {why}").ok();
    false
}

/// What a client ended with.
#[derive(Debug)]
struct Ended {
    status: i32,
    out: String,
    err: String,
}

/// Runs a script of this folder with standard input to its end.
fn run(name: &str, args: &[&str], input: &str) -> Ended {
    let mut command = Command::new(script(name));
    command.arg("run").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who ends before it has read all of it has its reason.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let out = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { status: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
}

/// Runs a Python script of this folder; what it prints is one JSON value.
fn python(name: &str, args: &serde_json::Value) -> serde_json::Value {
    let file = script(name);
    let ended = run("python.sh", &[file.to_str().unwrap(), &args.to_string()], "");
    assert_eq!(ended.status, 0, "{name}: {}", ended.err);
    serde_json::from_str(&ended.out).unwrap_or_else(|e| panic!("{name}: {e}: {}{}", ended.out, ended.err))
}
