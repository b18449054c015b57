//! A mosquitto of one test.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Ended, run, script};
use crate::harness::*;

/// Four ports: plain, with a password, TLS, TLS with client certificates. Keeps sessions over a restart.
pub(super) struct Mosquitto {
    dir: PathBuf,
    pub(super) port: u16,
    pub(super) ca: PathBuf,
    /// The certificate of `device`, which the last port wants.
    pub(super) own: Files,
}

impl Mosquitto {
    pub(super) fn start(dir: &Dir, device: &str) -> Self {
        let at = dir.join("mosquitto");
        std::fs::create_dir_all(&at).unwrap();
        // Where the script looks for what it would make by openssl otherwise.
        let pki = Pki::new(dir, "mosquitto/tls");
        let own = pki.device_with("client", device, |_| {});
        let broker = Self { dir: at, port: ports(4), ca: pki.ca.clone(), own };
        broker.again();
        broker
    }

    /// Starts it after [`Self::stop`].
    pub(super) fn again(&self) {
        let mut start = Command::new(script("mosquitto.sh"));
        start.arg("start").arg(&self.dir).arg(self.port.to_string()).stdin(Stdio::null());
        let out = start.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Ends it in order, so that it writes down its sessions.
    pub(super) fn stop(&self) {
        let pid = std::fs::read_to_string(self.dir.join("pid")).unwrap();
        let pid = pid.trim().to_owned();
        let out = Command::new(script("mosquitto.sh")).arg("stop").arg(&self.dir).output().unwrap();
        assert!(out.status.success());
        until("the end of mosquitto", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Nobody may be there to reap it.
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
    }

    /// Publishes each line with QoS 1 by `mosquitto_pub`.
    pub(super) fn publish(&self, topic: &str, lines: &[String]) {
        let input: String = lines.iter().map(|l| format!("{l}\n")).collect();
        let port = self.port.to_string();
        let ended =
            run("mosquitto.sh", &["mosquitto_pub", "-p", &port, "-q", "1", "-t", topic, "-l"], &input);
        assert_eq!(ended.status, 0, "{}", ended.err);
    }

    /// A `mosquitto_sub` whose session outlives its connections; what it gets goes to its log, a line each.
    pub(super) fn subscribe(&self, dir: &Dir, topic: &str, format: &str) -> Process {
        let port = self.port.to_string();
        let args =
            ["run", "mosquitto_sub", "-p", &port, "-q", "1", "-c", "-i", "watch", "-t", topic, "-F", format];
        let mut watch = Process::new(dir, "watch", script("mosquitto.sh"), args);
        watch.start();
        // Its session is there when a message of ours arrives.
        let hello = topic.replace('#', "hello");
        until("the subscription", || {
            self.publish(&hello, &["hello".to_owned()]);
            pause(50);
            watch.log().contains("hello").then_some(())
        });
        watch
    }

    /// `mosquitto_pub` to a listener that is not this broker.
    pub(super) fn pub_to(args: &[&str], input: &str) -> Ended {
        let mut all = vec!["mosquitto_pub"];
        all.extend_from_slice(args);
        run("mosquitto.sh", &all, input)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It writes into its folder until its end.
        if self.dir.join("pid").exists() && !std::thread::panicking() {
            self.stop();
        } else {
            Command::new(script("mosquitto.sh")).arg("stop").arg(&self.dir).output().ok();
        }
    }
}
