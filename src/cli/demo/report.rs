//! What people see: a progress line while it runs, a table at the end.

use std::cell::Cell;
use std::io::{IsTerminal, Write};

use super::process::Process;
use super::relay::Traffic;
use super::{Findings, metrics};

const BAR: usize = 24;

/// The progress line. On a terminal a bar that is redrawn, else a line for each act.
pub(super) struct Screen {
    quiet: bool,
    terminal: bool,
    share: Cell<f64>,
    spin: Cell<usize>,
    act: Cell<&'static str>,
}

impl Screen {
    /// `quiet`: nothing is shown.
    pub(super) fn new(quiet: bool) -> Self {
        let terminal = !quiet && std::io::stdout().is_terminal();
        Self { quiet, terminal, share: Cell::new(0.0), spin: Cell::new(0), act: Cell::new("") }
    }

    /// Says what happens now.
    pub(super) fn act(&self, act: &'static str, share: f64) {
        self.share.set(share);
        self.act.set(act);
        if self.terminal {
            self.tick();
        } else if !self.quiet {
            println!("[{:3.0} %] {act}", share * 100.0);
        }
    }

    pub(super) fn tick(&self) {
        if !self.terminal {
            return;
        }
        self.spin.set(self.spin.get() + 1);
        let full = (self.share.get() * BAR as f64) as usize;
        let spin = ["-", "\\", "|", "/"][self.spin.get() % 4];
        print!("\r\x1b[K[{}{}{}] {}", "=".repeat(full), spin, " ".repeat(BAR - full), self.act.get());
        std::io::stdout().flush().ok();
    }

    pub(super) fn clear(&self) {
        if self.terminal {
            print!("\r\x1b[K");
        }
    }
}

/// Whether everything that is promised was seen.
pub(super) fn verdict(findings: &Findings) -> bool {
    let equal = findings.differences.iter().all(|(_, d)| d.is_none());
    let made = findings.made.iter().all(|(_, n)| *n > 0);
    equal && made && findings.fallback_s.is_some() && findings.return_s.is_some()
}

pub(super) fn table(findings: &Findings, agents: &[Process], traffic: &Traffic) {
    let made: u64 = findings.made.iter().map(|(_, n)| n).sum();
    println!(
        "\n{:<34}{:>10}{:>9}{:>10}{:>10}",
        "compared with the centre's mirror", "rows", "lost", "invented", "different"
    );
    for (name, d) in &findings.differences {
        println!("{name:<34}{:>10}{:>9}{:>10}{:>10}", d.rows, d.missing, d.invented, d.different);
        for example in &d.examples {
            println!("    {example}");
        }
    }
    let lost: u64 = findings.differences.iter().map(|(_, d)| d.missing).sum();
    println!();
    line("events made by the applications", &made.to_string());
    line("lost", &lost.to_string());
    line("frames resent and absorbed", &format!("{:.0}", findings.duplicates));
    let quantile = |share| metrics::quantile(&findings.latency, share);
    let shown = |share| match quantile(share) {
        Some(s) if s.is_finite() => format!("≤ {:.0} ms", s * 1000.0),
        Some(_) => "> 16 s".to_owned(),
        None => "–".to_owned(),
    };
    line(
        "change → durable at the centre, outages included",
        &format!("P50 {}, P95 {}, P99 {}", shown(0.5), shown(0.95), shown(0.99)),
    );
    let after = |s: Option<f64>| s.map_or_else(|| "NOT SEEN".to_owned(), |s| format!("after {s:.1} s"));
    line("UDP swallowed: all agents on TLS over TCP", &after(findings.fallback_s));
    line("UDP back: all agents on QUIC again", &after(findings.return_s));
    for agent in agents {
        line(
            &format!("peak memory of agent {}", agent.name),
            &format!("{:.1} MB", agent.peak_rss_bytes as f64 / 1e6),
        );
    }
    let events = made.max(1) as f64;
    let wire = (traffic.udp_bytes.get() + traffic.tcp_bytes.get()) as f64;
    let written: u64 = agents.iter().map(Process::written_bytes).sum();
    line(
        "bytes on the wire an event",
        &format!(
            "{:.0} (QUIC {} KB, TCP {} KB)",
            wire / events,
            traffic.udp_bytes.get() / 1000,
            traffic.tcp_bytes.get() / 1000
        ),
    );
    line("bytes written to disk by the agents an event", &format!("{:.0}", written as f64 / events));
    line("time", &format!("{:.0} s", findings.seconds));
    if verdict(findings) {
        println!(
            "\nNothing was lost. Next: `dts demo --dir /tmp/dts-demo` leaves configs, logs and databases to look at;"
        );
        println!("`dts check --config FILE`, `dts run --config FILE`, and README.md for your own device.");
    } else {
        println!("\nFAILED: what is promised was not seen.");
    }
}

fn line(what: &str, value: &str) {
    println!("{what:<54}{value}");
}

/// The same for programs.
pub(super) fn json(findings: &Findings, agents: &[Process], traffic: &Traffic) -> serde_json::Value {
    let quantile = |share| metrics::quantile(&findings.latency, share).filter(|s| s.is_finite());
    let sum =
        |part: fn(&super::Difference) -> u64| findings.differences.iter().map(|(_, d)| part(d)).sum::<u64>();
    serde_json::json!({
        "well": verdict(findings),
        "made": findings.made.iter().map(|(_, n)| n).sum::<u64>(),
        "lost": sum(|d| d.missing),
        "invented": sum(|d| d.invented),
        "different": sum(|d| d.different),
        "frames_absorbed": findings.duplicates,
        "latency_s": { "p50": quantile(0.5), "p95": quantile(0.95), "p99": quantile(0.99) },
        "fallback_s": findings.fallback_s,
        "return_s": findings.return_s,
        "agents": agents.iter().map(|a| serde_json::json!({
            "name": a.name, "peak_rss_bytes": a.peak_rss_bytes, "written_bytes": a.written_bytes(),
        })).collect::<Vec<_>>(),
        "wire_bytes": { "quic": traffic.udp_bytes.get(), "tcp": traffic.tcp_bytes.get() },
        "seconds": findings.seconds,
    })
}
