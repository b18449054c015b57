//! Hostile and odd peers against a real centre, beside a device that behaves well: `docs/hostile-peers.md` has a row for
//! every case here, and [`the_table_and_the_cases_agree`] holds them together.
//!
//! After each case the metric of its row has moved and the good device's events still arrive. How much slower they were
//! meanwhile is printed and not asserted: times belong in bench/.

mod certificates;
mod mqtt;
mod quic;
mod slow;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::*;

/// A centre, and a device that posts all the time over QUIC and TLS/TCP as it likes.
struct Lab {
    centre: Centre,
    agent: Agent,
    pki: Pki,
    stop: Arc<AtomicBool>,
    posting: Option<JoinHandle<u64>>,
    /// Rows a second that arrive when nobody disturbs.
    rate: f64,
    group: &'static str,
    _dir: Dir,
}

impl Lab {
    /// `more` are lines of the centre's section `source`, indented by two.
    fn new(group: &'static str, more: &str) -> Self {
        let dir = Dir::new(group);
        let pki = Pki::new(&dir, "ca");
        let mut centre = Centre::with(&dir, &pki, SinkKind::File, more);
        centre.start();
        let mut agent = Agent::with(&dir, "good", &centre.sink(&pki.device("good")), "");
        agent.start();
        let stop = Arc::new(AtomicBool::new(false));
        let (posts, ended) = (agent.posts, stop.clone());
        let posting = std::thread::spawn(move || {
            let mut n = 0;
            while !ended.load(Relaxed) {
                // It is refused while it starts only.
                n += u64::from(post(posts, "t", &n.to_string()).is_ok_and(|a| a.status == 202));
            }
            n
        });
        let mut lab = Self { centre, agent, pki, stop, posting: Some(posting), rate: 0.0, group, _dir: dir };
        lab.served(50);
        let (begin, rows) = (Instant::now(), lab.arrived());
        pause(700);
        lab.rate = (lab.arrived() - rows) as f64 / begin.elapsed().as_secs_f64();
        lab
    }

    /// The good device's rows that are durable at the centre.
    fn arrived(&self) -> u64 {
        self.agent.metric("dts_ship_rows_acked_total", "")
    }

    /// The next `rows` of the good device arrive.
    fn served(&mut self, rows: u64) {
        let begin = self.arrived();
        until("the good device's events", || (self.arrived() >= begin + rows).then_some(()));
    }

    /// One row of the table. `metric` is its name and a part of its labels.
    fn case<T>(&mut self, name: &str, metric: (&str, &str), act: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.centre.metric(metric.0, metric.1);
        let (begin, rows) = (Instant::now(), self.arrived());
        let done = act(self);
        until(&format!("{metric:?} of `{name}`"), || {
            (self.centre.metric(metric.0, metric.1) > before).then_some(())
        });
        // A little longer, where it was over in no time.
        if begin.elapsed() < Duration::from_millis(300) {
            pause(300);
        }
        let rate = (self.arrived() - rows) as f64 / begin.elapsed().as_secs_f64();
        self.served(20);
        assert!(self.centre.node.process.runs(), "{name}");
        let counted = self.centre.metric(metric.0, metric.1) - before;
        let (group, slower, rss) = (self.group, self.rate / rate.max(0.001), self.rss_kib());
        println!(
            "{group}: {name}: {}{{{}}} +{counted}, slower by {slower:.2}, {rss} KiB",
            metric.0, metric.1
        );
        done
    }

    /// Resident memory of the centre.
    fn rss_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.centre.node.process.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What the good device sent is there once and in order, and nothing else is.
    fn finish(mut self) {
        self.stop.store(true, Relaxed);
        let posted = self.posting.take().unwrap().join().unwrap();
        until("an empty buffer", || (self.agent.waiting() == 0).then_some(()));
        let own = events(&self.centre.out).into_iter().filter(|e| e["source"] == "good" || e["topic"] == "t");
        assert_eq!(own.count() as u64, posted);
        assert_eq!(self.agent.metric("dts_ship_frames_resent_total", ""), 0, "it was never interrupted");
        self.agent.node.stop();
        self.centre.node.stop();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(posting) = self.posting.take() {
            posting.join().ok();
        }
    }
}

#[test]
fn the_table_and_the_cases_agree() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = include_str!("../../docs/hostile-peers.md");
    let names = std::fs::read_to_string(root.join("src/telemetry/names.rs")).unwrap();
    let mut code = String::new();
    for file in ["certificates.rs", "mqtt.rs", "quic.rs", "slow.rs"] {
        code.push_str(&std::fs::read_to_string(root.join("tests/hostile").join(file)).unwrap());
    }
    // A case's name is the first string behind `case(`, or the first of a row of CASES.
    let after = |mark: &str| -> BTreeSet<String> {
        let rows = code.split(mark).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
        rows.filter_map(|rest| rest.split('"').next().map(str::to_owned)).collect()
    };
    let cases: BTreeSet<String> = after(".case(").union(&after("row(")).cloned().collect();
    assert!(cases.len() > 20, "{cases:?}");
    let mut rows = BTreeSet::new();
    for row in
        table.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| case") && !l.starts_with("|--"))
    {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [case, happens, metric] = cells[..] else { panic!("three cells: {row}") };
        assert!(happens.len() > 10, "{row}");
        let name = metric.trim_matches('`').split('{').next().unwrap();
        assert!(names.contains(&format!("\"{name}\"")), "no metric {name}: {row}");
        let label = metric.split('"').nth(1).unwrap_or_default();
        assert!(code.contains(name) && code.contains(label), "{metric} is not what the case looks at: {row}");
        assert!(rows.insert(case.to_owned()), "twice: {case}");
    }
    assert_eq!(rows, cases, "docs/hostile-peers.md and tests/hostile differ");
}
