//! A centre and its agents: their configs, their ports, their processes.

use std::path::{Path, PathBuf};

use super::{Dir, Files, Pki, Process, get, port, until};

/// A `dts run` with a config.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) config: PathBuf,
    pub(crate) state: PathBuf,
    /// What its log says when it is ready.
    ready: Vec<String>,
}

impl Node {
    /// `yaml` goes behind the section `device`.
    pub(crate) fn new(dir: &Dir, name: &str, yaml: &str) -> Self {
        let state = dir.join(name);
        let config = dir.join(&format!("{name}.yaml"));
        let node = Self {
            process: Process::dts(dir, name, &["run", "--config", config.to_str().unwrap()]),
            config,
            state,
            ready: Vec::new(),
        };
        node.configure(name, yaml);
        node
    }

    /// Writes the config anew.
    pub(crate) fn configure(&self, device: &str, yaml: &str) {
        let head = format!("device:\n  name: {device}\n  state_dir: {}\n", self.state.display());
        std::fs::write(&self.config, format!("{head}{yaml}")).unwrap();
    }

    pub(crate) fn ready_when(mut self, said: &str) -> Self {
        self.ready.push(said.to_owned());
        self
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(&mut self) {
        self.process.start();
        for said in self.ready.clone() {
            self.process.says(&said);
        }
    }

    pub(crate) fn stop(&mut self) {
        self.process.stop();
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Runs another command of `dts` with this config; its exit status and standard output.
    pub(crate) fn ask(&self, args: &[&str]) -> (i32, String) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dts"));
        let out = command.args(args).arg("--config").arg(&self.config).output().unwrap();
        (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

/// Where a centre writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SinkKind {
    /// `mirror.db`
    Mirror,
    /// `out.ndjson`
    File,
}

/// A centre: QUIC, TLS and plain TCP, certificates or passwords.
#[derive(Debug)]
pub(crate) struct Centre {
    pub(crate) node: Node,
    pub(crate) quic: u16,
    pub(crate) tls: u16,
    pub(crate) plain: u16,
    pub(crate) http: u16,
    /// The mirror or the file.
    pub(crate) out: PathBuf,
    pub(crate) ca: PathBuf,
}

/// Made by `mosquitto_passwd`.
const PASSWORDS: &str = "\
box-7:$7$101$AAECAwQFBgcICQoL$lp0Cm29zl+CI/RXyXDKvLye7OxM3OuE6RMzgXTX/f3imS/pFh2Ur7yarLDpKRUKpB0tOj6l0UrRv41zqxmD4tg==
box-8:$7$1000$AAECAwQFBgcICQoL$0k2/yzSQu5lP3Qj7hmgIIwOOTqPChUh8fgd8t38BZTATRoz9MCJiPZXGKUQkfa5Fl7NhaDBK8wjSSg9NyDAQog==
";

/// The passwords of the two devices that have one.
pub(crate) fn password_of(device: &str) -> &'static str {
    match device {
        "box-7" => "correct horse",
        "box-8" => "other",
        _ => panic!("{device} has no password"),
    }
}

impl Centre {
    pub(crate) fn new(dir: &Dir, pki: &Pki, sink: SinkKind) -> Self {
        Self::with(dir, pki, sink, "")
    }

    /// `more` are further lines of the source's section, indented by two.
    pub(crate) fn with(dir: &Dir, pki: &Pki, sink: SinkKind, more: &str) -> Self {
        let out = dir.join(if sink == SinkKind::Mirror { "mirror.db" } else { "out.ndjson" });
        let kind = if sink == SinkKind::Mirror { "sqlite" } else { "file" };
        Self::to(dir, pki, out.clone(), more, &format!("sink:\n  type: {kind}\n  path: {}\n", out.display()))
    }

    /// With the section `sink` as it is given.
    pub(crate) fn to(dir: &Dir, pki: &Pki, out: PathBuf, more: &str, sink: &str) -> Self {
        let (quic, tls, plain, http) = (port(), port(), port(), port());
        let passwords = dir.write("passwords", PASSWORDS);
        let yaml = format!(
            "source:
  type: devices
  quic: 127.0.0.1:{quic}
  tls_tcp: 127.0.0.1:{tls}
  plain_tcp: 127.0.0.1:{plain}
  password_file: {passwords}
  tls:
    cert_file: {cert}
    key_file: {key}
    client_ca_file: {ca}
    client_auth: optional
{more}{sink}http:
  listen: 127.0.0.1:{http}
",
            passwords = passwords.display(),
            cert = pki.server.cert.display(),
            key = pki.server.key.display(),
            ca = pki.ca.display(),
        );
        let node = Node::new(dir, "centre", &yaml).ready_when("listening on");
        Self { node, quic, tls, plain, http, out, ca: pki.ca.clone() }
    }

    pub(crate) fn start(&mut self) {
        self.node.start();
    }

    /// The value of a metric, summed over its labels that contain `label`; 0 if it is not there.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        metric(self.http, name, label)
    }

    /// Waits until a metric reaches `least`.
    pub(crate) fn counts(&self, name: &str, label: &str, least: u64) {
        until(&format!("{name}{{{label}}} of {least}"), || (self.metric(name, label) >= least).then_some(()));
    }

    /// The section `sink` of an agent that ships to it, as device with certificate `own`.
    pub(crate) fn sink(&self, own: &Files) -> String {
        centre_sink(self.quic, self.tls, &self.ca, own)
    }
}

fn metric(http: u16, name: &str, label: &str) -> u64 {
    let Ok(answer) = get(http, "/metrics") else { return 0 };
    let of = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (metric, labels) = series.split_once('{').unwrap_or((series, ""));
        (metric == name && labels.contains(label)).then(|| value.parse::<f64>().ok())?
    };
    answer.body.lines().filter_map(of).sum::<f64>() as u64
}

fn centre_sink(quic: u16, tcp: u16, ca: &Path, own: &Files) -> String {
    format!(
        "sink:
  type: centre
  address: 127.0.0.1
  quic_port: {quic}
  tcp_port: {tcp}
  tls:
    ca_file: {}
    cert_file: {}
    key_file: {}
    server_name: localhost
  backoff_max: 1s
",
        ca.display(),
        own.cert.display(),
        own.key.display(),
    )
}

/// An agent with an HTTP input.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) node: Node,
    /// Where it takes posts.
    pub(crate) posts: u16,
    http: u16,
}

impl Agent {
    /// Ships as `name` to `centre`.
    pub(crate) fn new(dir: &Dir, pki: &Pki, name: &str, centre: &Centre) -> Self {
        let own = pki.device(name);
        Self::with(dir, name, &centre.sink(&own), "")
    }

    /// `sink` is that section, `more` are further sections, or further sources at its begin.
    pub(crate) fn with(dir: &Dir, name: &str, sink: &str, more: &str) -> Self {
        let (posts, http) = (port(), port());
        let source = format!("  - type: http\n    name: posts\n    listen: 127.0.0.1:{posts}\n");
        let yaml = format!("http:\n  listen: 127.0.0.1:{http}\nsources:\n{source}{more}{sink}");
        let node = Node::new(dir, name, &yaml).ready_when("listening on");
        Self { node, posts, http }
    }

    pub(crate) fn start(&mut self) {
        self.node.start();
    }

    /// As [`Centre::metric`].
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        metric(self.http, name, label)
    }

    /// Posts JSON; it must be taken.
    pub(crate) fn post(&self, topic: &str, json: &str) {
        let answer = super::post(self.posts, topic, json).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.body);
    }

    /// The numbers of its buffer.
    pub(crate) fn spool(&self) -> serde_json::Value {
        let (status, out) = self.node.ask(&["spool", "stats", "--json"]);
        assert_eq!(status, 0, "{out}");
        serde_json::from_str(&out).unwrap()
    }

    /// Rows that wait in its buffer.
    pub(crate) fn waiting(&self) -> u64 {
        let stats = self.spool();
        if let Some(rows) = stats["rows"].as_u64() {
            return rows;
        }
        let lanes = stats["lanes"].as_array().unwrap().iter();
        lanes.map(|l| l["rows"].as_u64().unwrap() + l["memory_rows"].as_u64().unwrap()).sum()
    }
}
