//! `dts demo`: the main job, before your eyes, with the worst days in it.
//!
//! A user of the same binary and configs that ship: it starts `dts run` for one centre and three agents, and three
//! applications that know nothing of dts. While they work it kills an agent and the centre, and swallows UDP for a
//! while. Then it compares every source with the centre's mirror. What it learned goes into one table.

mod compare;
mod configs;
mod metrics;
mod pki;
mod process;
mod relay;
mod report;
mod writers;

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use self::compare::Difference;
use self::process::Process;
use self::relay::Traffic;
use self::report::Screen;
use super::output::{Exit, Failure, print};
use super::parse::Parsed;
use super::table::{Command, Flag, JSON};
use crate::runtime::{self, Stop};

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "demo",
    about: "Show the main job: devices, a centre, faults, and nothing lost",
    detail: "Starts a centre and three agents as processes of their own, writes data, kills and cuts off, and at \
             the end compares every row. Needs no root and only loopback. Takes about a minute.",
    operand: None,
    flags: &[
        Flag::path(
            "dir",
            "DIR",
            "Where to work; kept (default: a temporary folder, kept only after a failure)",
        ),
        JSON,
    ],
    examples: &[("Watch it", "dts demo"), ("Look at its configs afterwards", "dts demo --dir /tmp/dts-demo")],
    exits: &[(0, "every row arrived"), (3, "a row was lost or differs")],
    main: |parsed| demo(parsed),
}];

fn demo(parsed: &Parsed) -> Result<(), Failure> {
    if let Some(kind) = std::env::var_os(process::WRITER) {
        return writers::run(&kind.to_string_lossy()).map_err(Failure::failed);
    }
    let json = parsed.is_set("json");
    let findings = run(parsed.path("dir"), json).map_err(Failure::failed)?;
    if json {
        print(&format!("{}\n", findings.json))?;
    }
    if findings.well { Ok(()) } else { Err(Failure::quiet(Exit::BadData)) }
}

/// What `dts demo` found, in the end.
struct Outcome {
    well: bool,
    json: serde_json::Value,
}

/// Names of the agents: one follows a database, one takes HTTP posts, one tails a log.
pub(super) const DEVICES: [&str; 3] = ["press-1", "room-2", "gate-3"];

/// How the run is cut up. Seconds.
const CALM: u64 = 5;
const AGENT_DOWN: u64 = 2;
const CENTRE_DOWN: u64 = 3;
/// Dead detection (5 s) and a race come before TCP carries anything.
const BLACK_HOLE_MAX: u64 = 25;
/// The probe of QUIC is set to 2 s in the demo's config, 30 s is the default.
const RETURN_MAX: u64 = 25;
/// After the writers stopped, everything must be at the centre.
const SETTLE_MAX: u64 = 20;

/// Addresses that the processes find each other at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    centre_quic: SocketAddr,
    centre_tls: SocketAddr,
    centre_http: SocketAddr,
    relay_quic: u16,
    relay_tls: u16,
    posts: SocketAddr,
}

/// What happened, for the report.
#[derive(Debug, Default)]
pub(super) struct Findings {
    made: Vec<(&'static str, u64)>,
    differences: Vec<(&'static str, Difference)>,
    duplicates: f64,
    latency: Vec<(f64, f64)>,
    fallback_s: Option<f64>,
    return_s: Option<f64>,
    seconds: f64,
}

/// Runs the demo in `dir` (a new temporary folder without it, removed at the end). Not well if a row was lost,
/// invented or changed, or if the link did not do what it promises.
fn run(dir: Option<PathBuf>, quiet: bool) -> Result<Outcome, String> {
    let temporary = dir.is_none();
    let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("dts-demo-{}", std::process::id())));
    let made = std::fs::create_dir_all(&dir).and_then(|()| std::fs::canonicalize(&dir));
    let dir = made.map_err(|error| format!("make {}: {error}", dir.display()))?;
    if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{} is not empty; name a folder that is", dir.display()));
    }
    let result = runtime::block_on(play(&dir, quiet));
    if temporary && result.as_ref().is_ok_and(|o| o.well) {
        std::fs::remove_dir_all(&dir).ok();
    } else {
        eprintln!("\nEverything is left in {} (configs, logs, databases).", dir.display());
    }
    result
}

async fn play(dir: &Path, quiet: bool) -> Result<Outcome, String> {
    let screen = Screen::new(quiet);
    let (stopper, stop) = Stop::new();
    let traffic = Rc::new(Traffic::default());
    let (centre_quic, centre_tls) = (free_udp()?, free_tcp()?);
    let relay = relay::start(centre_quic, centre_tls, traffic.clone(), stop.clone()).await;
    let (relay_quic, relay_tls) = relay.map_err(|error| format!("start the relay: {error}"))?;
    let addresses = Addresses {
        centre_quic,
        centre_tls,
        centre_http: free_tcp()?,
        relay_quic,
        relay_tls,
        posts: free_tcp()?,
    };
    let stage = Stage::build(dir, addresses)?;
    let stage = Rc::new(RefCell::new(stage));
    let watcher = runtime::spawn(watch(stage.clone(), stop.clone()));
    let started = runtime::mono_now();
    let played = acts(dir, &stage, addresses, &traffic, &screen).await;
    drop(stopper);
    watcher.await;
    let mut findings = played?;
    findings.seconds = runtime::mono_now().since(started).as_secs_f64();
    screen.clear();
    let stage = stage.borrow();
    if !quiet {
        report::table(&findings, &stage.agents, &traffic);
    }
    Ok(Outcome { well: report::verdict(&findings), json: report::json(&findings, &stage.agents, &traffic) })
}

/// All processes.
struct Stage {
    centre: Process,
    agents: Vec<Process>,
    writers: Vec<Process>,
}

impl Stage {
    /// Writes certificates and configs; starts nothing.
    fn build(dir: &Path, addresses: Addresses) -> Result<Self, String> {
        let app = dir.join("app");
        for folder in [&app, &dir.join("pki")] {
            std::fs::create_dir_all(folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
        }
        pki::write(&dir.join("pki"), &DEVICES)?;
        configs::write(dir, &app, addresses)?;
        let dts = |name: &'static str| {
            let config = dir.join(format!("{name}.yaml")).display().to_string();
            Process::new(name, dir, &["run", "--config", &config])
        };
        let writer = |name, kind: &str| Process::writer(name, dir, kind, &app, addresses.posts);
        Ok(Self {
            centre: dts("centre"),
            agents: DEVICES.into_iter().map(dts).collect(),
            writers: vec![
                writer("app-sqlite", "sqlite"),
                writer("app-http", "http"),
                writer("app-log", "log"),
            ],
        })
    }

    fn still_runs(&mut self) -> Result<(), String> {
        for process in [&mut self.centre].into_iter().chain(&mut self.agents).chain(&mut self.writers) {
            process.still_runs()?;
        }
        Ok(())
    }
}

/// Looks at memory and disk of the agents, since a process that is gone cannot be asked.
async fn watch(stage: Rc<RefCell<Stage>>, stop: Stop) {
    while stop.or(runtime::sleep(Duration::from_millis(250))).await.is_some() {
        for agent in &mut stage.borrow_mut().agents {
            agent.look();
        }
    }
}

async fn acts(
    dir: &Path,
    stage: &RefCell<Stage>,
    addresses: Addresses,
    traffic: &Traffic,
    screen: &Screen,
) -> Result<Findings, String> {
    let mut findings = Findings::default();
    let app = dir.join("app");
    let mut counts = MetricsOverLives::default();

    screen.act("one centre, three agents, three applications", 0.0);
    {
        let stage = &mut *stage.borrow_mut();
        stage.centre.start()?;
        for agent in &mut stage.agents {
            agent.start()?;
        }
        for writer in &mut stage.writers {
            writer.start()?;
        }
    }
    wait(stage, screen, CALM).await?;

    screen.act("agent 1 is killed (SIGKILL), its application goes on", 0.1);
    if let Some(agent) = stage.borrow_mut().agents.first_mut() {
        agent.kill();
    }
    wait(stage, screen, AGENT_DOWN).await?;
    if let Some(agent) = stage.borrow_mut().agents.first_mut() {
        agent.start()?;
    }
    screen.act("agent 1 is back; the application migrates its table (ALTER TABLE)", 0.2);
    std::fs::write(app.join("migrate"), "").map_err(|e| e.to_string())?;
    wait(stage, screen, CALM).await?;

    screen.act("the centre is killed (SIGKILL), the devices go on", 0.3);
    counts.before_kill(&metrics::fetch(addresses.centre_http).await?);
    stage.borrow_mut().centre.kill();
    wait(stage, screen, CENTRE_DOWN).await?;
    stage.borrow_mut().centre.start()?;
    screen.act("the centre is back, the devices catch up", 0.4);
    wait(stage, screen, CALM).await?;

    // An agent that met the restarting centre over TCP first is on its way back to QUIC.
    until(stage, screen, RETURN_MAX, || traffic.tcp_open.get() == 0).await?;
    screen.act("the network swallows UDP: QUIC is dead", 0.5);
    traffic.black_hole.set(true);
    let since = runtime::mono_now();
    let all_on_tcp = || traffic.tcp_open.get() as usize >= DEVICES.len();
    findings.fallback_s =
        until(stage, screen, BLACK_HOLE_MAX, all_on_tcp).await?.then(|| seconds_since(since));
    screen.act("the agents fell back to TLS over TCP", 0.65);
    wait(stage, screen, CALM).await?;

    screen.act("UDP passes again", 0.75);
    traffic.black_hole.set(false);
    let since = runtime::mono_now();
    let none_on_tcp = || traffic.tcp_open.get() == 0;
    findings.return_s = until(stage, screen, RETURN_MAX, none_on_tcp).await?.then(|| seconds_since(since));
    screen.act("the agents returned to QUIC by themselves", 0.85);
    wait(stage, screen, CALM).await?;

    screen.act("the applications stop; every source is compared with the mirror", 0.9);
    std::fs::write(app.join("stop"), "").map_err(|e| e.to_string())?;
    let mut writers = std::mem::take(&mut stage.borrow_mut().writers);
    for writer in &mut writers {
        writer.ended(Duration::from_secs(15)).await?;
    }
    for kind in ["sqlite", "http", "log"] {
        let path = app.join(format!("{kind}.made"));
        let made =
            std::fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
        findings.made.push((kind, made.parse().map_err(|_| format!("{} holds no number", path.display()))?));
    }
    let deadline = runtime::mono_now() + Duration::from_secs(SETTLE_MAX);
    loop {
        wait(stage, screen, 1).await?;
        findings.differences = differences(dir, &findings.made)?;
        if findings.differences.iter().all(|(_, d)| d.is_none()) || runtime::mono_now() > deadline {
            break;
        }
    }
    counts.at_the_end(&metrics::fetch(addresses.centre_http).await?);
    (findings.duplicates, findings.latency) = (counts.duplicates, counts.latency);
    let (mut agents, mut centre) = {
        let stage = &mut *stage.borrow_mut();
        let none = Process::new("none", dir, &[]);
        (std::mem::take(&mut stage.agents), std::mem::replace(&mut stage.centre, none))
    };
    for agent in &mut agents {
        agent.stop(Duration::from_secs(5)).await?;
    }
    centre.stop(Duration::from_secs(5)).await?;
    stage.borrow_mut().agents = agents;
    Ok(findings)
}

/// The centre's counters begin anew when it is killed.
#[derive(Default)]
struct MetricsOverLives {
    duplicates: f64,
    latency: Vec<(f64, f64)>,
}

impl MetricsOverLives {
    fn before_kill(&mut self, text: &str) {
        self.duplicates += metrics::sum(text, "dts_frames_duplicate_total");
        let latency = metrics::histogram(text, "dts_event_latency_seconds");
        if self.latency.is_empty() {
            self.latency = latency;
        } else {
            for ((_, n), (_, more)) in self.latency.iter_mut().zip(latency) {
                *n += more;
            }
        }
    }

    fn at_the_end(&mut self, text: &str) {
        self.before_kill(text);
    }
}

/// Compares every source with the mirror.
fn differences(dir: &Path, made: &[(&'static str, u64)]) -> Result<Vec<(&'static str, Difference)>, String> {
    let (app, mirror) = (dir.join("app/app.db"), dir.join("centre/mirror.db"));
    let count = |kind: &str| made.iter().find(|(k, _)| *k == kind).map_or(0, |(_, n)| *n);
    Ok(vec![
        ("table reading", compare::table(&app, &mirror, "reading", "id, sensor, value, note, unit")?),
        ("table setting", compare::table(&app, &mirror, "setting", "name, value")?),
        ("posts", compare::numbered(&mirror, "room/1", count("http"), "json_extract(payload, '$.n')")?),
        (
            "log lines",
            compare::numbered(
                &mirror,
                "%app.log%",
                count("log"),
                "substr(payload, 14, instr(payload, ' msg') - 14)",
            )?,
        ),
    ])
}

async fn wait(stage: &RefCell<Stage>, screen: &Screen, seconds: u64) -> Result<(), String> {
    until(stage, screen, seconds, || false).await.map(|_| ())
}

/// Waits until `done`, at most `seconds`; whether it was.
async fn until(
    stage: &RefCell<Stage>,
    screen: &Screen,
    seconds: u64,
    done: impl Fn() -> bool,
) -> Result<bool, String> {
    let deadline = runtime::mono_now() + Duration::from_secs(seconds);
    while runtime::mono_now() < deadline {
        if done() {
            return Ok(true);
        }
        stage.borrow_mut().still_runs()?;
        screen.tick();
        runtime::sleep(Duration::from_millis(100)).await;
    }
    Ok(done())
}

fn seconds_since(since: runtime::Mono) -> f64 {
    runtime::mono_now().since(since).as_secs_f64()
}

fn free_tcp() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    listener.and_then(|l| l.local_addr()).map_err(|error| format!("find a free port: {error}"))
}

fn free_udp() -> Result<SocketAddr, String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    socket.and_then(|s| s.local_addr()).map_err(|error| format!("find a free port: {error}"))
}
