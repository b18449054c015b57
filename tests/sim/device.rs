//! A machine with an agent: identity, clock, buffer, shipping and inputs as shipped, on a simulated disk and network.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::clock::Clock;
use super::disk::{self, Image, SimFolder, SimShelf};
use super::input::Producer;
use super::net::{Net, SimDial};
use super::oracle::{Input, Oracle};
use super::plan::{DevicePlan, Transports};
use super::tier2::Tier;
use super::tier2::dial::TierDial;
use super::vfs;
use crate::clock::TimeKeeper;
use crate::config::node::Kind as NodeKind;
use crate::config::{ByteSize, Context, Field, Node as ConfigNode, Place};
use crate::control::Tap;
use crate::engine::device::{epochs, intake};
use crate::identity::Identity;
use crate::link::{Dial, Transport, TrustTime};
use crate::runtime::simulated::Node;
use crate::runtime::{Stop, Stopper, Task, boot_id, mono_now, rng, spawn, wall_now_us};
use crate::sink::centre::config::{Config, LinkMode};
use crate::sink::centre::{Agent, driver};
use crate::source::Outlet;
use crate::spool::{LocalSpool, Options, Spool, Store};

/// What the simulation hands to every machine.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) net: Rc<Net>,
    pub(super) oracle: Oracle,
    pub(super) now: Rc<Cell<u64>>,
    pub(super) producing: Rc<Cell<bool>>,
    /// In the second tier.
    pub(super) tier: Option<Tier>,
}

/// One machine.
pub(super) struct Machine {
    pub(super) index: usize,
    pub(super) name: Arc<str>,
    pub(super) plan: DevicePlan,
    pub(super) disk: u32,
    pub(super) clock: Clock,
    /// The oracle's numbers of its inputs.
    pub(super) inputs: Vec<usize>,
    pub(super) process: Option<Process>,
    /// What the disk was, for those who put it back.
    pub(super) images: Vec<(u64, Image)>,
    /// It is switched off for good.
    pub(super) retired: bool,
    /// Its buffer's log has rotted: nobody can say what the next start finds of it.
    pub(super) log_rots: bool,
    /// Starts so far, failed ones counted.
    pub(super) starts: u64,
    pub(super) quarantined: u64,
    seed: u64,
}

/// A running agent.
pub(super) struct Process {
    pub(super) node: Rc<Node>,
    pub(super) local: LocalSpool,
    pub(super) outlets: Vec<Outlet>,
    /// What each follower hands on next.
    pub(super) next: Vec<Rc<Cell<u64>>>,
    /// When the thread `sqlite` runs next.
    pub(super) due: Option<u64>,
    pub(super) busy_until: u64,
    /// Stopped in order.
    pub(super) stopped: Rc<Cell<bool>>,
    /// The way out ended by itself.
    pub(super) failed: Rc<RefCell<Option<String>>>,
    spool: Spool,
    producers: Vec<Task<()>>,
    way_out: Option<Task<()>>,
    out: Stopper,
    tier: Option<Tier>,
}

impl Machine {
    pub(super) fn new(index: usize, name: &str, plan: DevicePlan, seed: u64, all: &Shared) -> Self {
        let disk = index as u32 + 1;
        disk::Disk::make(disk, seed);
        all.net.add(plan.way.clone());
        if let Some(tier) = &all.tier {
            tier.udp.set_way(index, plan.way.clone());
        }
        let t = all.now.get();
        let clock = Clock::new(seed | 1, t, 4_000_000, plan.ppm, plan.wall_error_us);
        let name: Arc<str> = name.into();
        let inputs = plan.inputs.iter().map(|input| {
            let lane = &plan.lanes[input.lane];
            all.oracle.add(Input {
                machine: index,
                device: name.clone(),
                lane: lane.name.clone(),
                class: lane.class,
                policy: lane.policy.clone(),
                keys: input.keys,
                max_bytes: input.max_bytes,
                small_from: u64::MAX,
            })
        });
        let inputs = inputs.collect();
        Self {
            index,
            name,
            plan,
            disk,
            clock,
            inputs,
            process: None,
            images: Vec::new(),
            retired: false,
            log_rots: false,
            starts: 0,
            quarantined: 0,
            seed,
        }
    }

    fn options(&self) -> Options {
        let mut options = Options::new(format!("/sim/{}", self.disk), &self.name);
        options.lanes.clone_from(&self.plan.lanes);
        options.max_bytes = self.plan.max_bytes;
        options.reserve_bytes = 128 << 10;
        options.max_body_bytes = self.plan.max_body_bytes;
        options.memory_bytes = self.plan.memory_bytes;
        // As the engine has it, or as an input that gives up.
        options.block_wait = if self.seed.is_multiple_of(2) {
            Duration::from_secs(365 * 24 * 3600)
        } else {
            Duration::from_secs(1)
        };
        options.boot = boot_id();
        options.vfs = Some(vfs::NAME.to_owned());
        options
    }

    fn config(&self) -> Config {
        let place = Place::default();
        let address = ConfigNode { place, kind: NodeKind::Scalar { text: "centre".into(), plain: true } };
        let node = ConfigNode { place, kind: NodeKind::Map(vec![("address".to_owned(), place, address)]) };
        let mut config = Config::read(&node, &mut Context::default()).unwrap();
        config.transports.0 = match self.plan.transports {
            Transports::Both => vec![Transport::Quic, Transport::Tls],
            Transports::Quic => vec![Transport::Quic],
            Transports::Tls => vec![Transport::Tls],
        };
        config.window = self.plan.window;
        config.max_in_flight_bytes = ByteSize(self.plan.in_flight_bytes as u64);
        config.codec.0 = self.plan.codec;
        config.probe_interval = Duration::from_secs(5);
        config.backoff_max = Duration::from_secs(8);
        config.time_interval = Duration::from_secs(10);
        if self.plan.burst {
            config.link = LinkMode::Burst {
                every: Duration::from_secs(10),
                bytes: 20_000,
                urgent: vec!["alarm".to_owned()],
                linger: Duration::from_millis(500),
            };
        }
        config
    }

    /// Starts the agent. An error as a supervisor would see it.
    pub(super) fn start(&mut self, all: &Shared) -> Result<(), String> {
        self.starts += 1;
        let t = all.now.get();
        let node = Node::new(self.clock.boot, self.seed.wrapping_add(self.starts << 32));
        node.set_clocks(self.clock.mono(t), self.clock.wall_us(t));
        let started = {
            let _entered = node.enter();
            self.open(&node, all)
        };
        match started {
            Ok(process) => {
                self.process = Some(process);
                Ok(())
            }
            Err(e) => {
                node.kill();
                Err(e)
            }
        }
    }

    fn open(&mut self, node: &Rc<Node>, all: &Shared) -> Result<Process, String> {
        let identity = Identity::open_on(Box::new(SimShelf(self.disk)), &mut rng());
        let identity = Arc::new(Mutex::new(identity.map_err(|e| format!("identity: {e}"))?));
        let memory = identity.lock().unwrap_or_else(PoisonError::into_inner).memory().clone();
        let trust = TrustTime::unknown(memory.floor_s);
        let keeper = TimeKeeper::new(mono_now(), boot_id(), wall_now_us(), &memory.boots, trust.floor_s());
        let keeper = Rc::new(RefCell::new(keeper));
        let options = self.options();
        let max_row_bytes = options.max_row_bytes();
        let folder = Box::new(SimFolder(self.disk));
        let (store, opened) = Store::open_in(options, folder, epochs(identity.clone()), mono_now())
            .map_err(|e| format!("buffer: {e}"))?;
        self.quarantined += opened.quarantined.len() as u64;
        let (spool, local) = LocalSpool::new(store);
        let stamp = crate::clock::stamp(&keeper, mono_now);
        let (mut producers, mut outlets, mut next) = (Vec::new(), Vec::new(), Vec::new());
        for (n, (&input, plan)) in self.inputs.iter().zip(&self.plan.inputs).enumerate() {
            let source: Arc<str> = format!("input{n}").into();
            let (tx, intake) =
                intake::start(spool.clone(), source.clone(), max_row_bytes, Tap::default(), Rc::default());
            intake.detach();
            let lane = self.plan.lanes[plan.lane].name.clone();
            let positions = opened.positions_of(&source);
            let outlet = Outlet::new(source, lane, stamp.clone(), max_row_bytes, positions, tx);
            outlets.push(outlet.clone());
            next.push(Rc::new(Cell::new(0)));
            let producer = Producer {
                input,
                plan: plan.clone(),
                oracle: all.oracle.clone(),
                outlet,
                rng: rng(),
                now: all.now.clone(),
                producing: all.producing.clone(),
                next: next.last().cloned().unwrap_or_default(),
            };
            producers.push(spawn(producer.run()));
        }
        let dial = SimDial {
            net: all.net.clone(),
            device: self.index,
            trust: trust.clone(),
            certificate: certificate(&self.name),
            heard: Cell::new(0),
        };
        let dial: Rc<dyn Dial> = match &all.tier {
            Some(tier) => Rc::new(TierDial::new(tier, &self.name, dial, all.now.clone())),
            None => Rc::new(dial),
        };
        let agent = Agent {
            device: self.name.clone(),
            identity,
            keeper,
            trust,
            boot: boot_id(),
            max_stored_bytes: self.plan.max_body_bytes,
            data_dir: None,
        };
        let (out, stop_out) = Stop::new();
        let failed: Rc<RefCell<Option<String>>> = Rc::default();
        let (config, ships, ended) = (self.config(), spool.clone(), failed.clone());
        let way_out = spawn(async move {
            if let Err(e) = driver::run_over(dial, ships, &config, agent, stop_out).await {
                ended.replace(Some(e.to_string()));
            }
        });
        Ok(Process {
            node: node.clone(),
            local,
            outlets,
            next,
            due: Some(all.now.get()),
            busy_until: all.now.get(),
            stopped: Rc::default(),
            failed,
            spool,
            producers,
            way_out: Some(way_out),
            out,
            tier: all.tier.clone(),
        })
    }

    /// Asks the agent to stop in order.
    pub(super) fn stop(&mut self) {
        let Some(process) = &mut self.process else { return };
        let _entered = process.node.enter();
        // The engine's order: inputs, the way out, the buffer.
        process.producers.clear();
        process.out.stop();
        let (way_out, spool, stopped) =
            (process.way_out.take(), process.spool.clone(), process.stopped.clone());
        spawn(async move {
            if let Some(way_out) = way_out {
                way_out.await;
            }
            // What cannot be written now is a crash's business.
            spool.stop().await.unwrap_or_default();
            stopped.set(true);
        })
        .detach();
    }

    /// The process is gone; what it did not write is lost with it. The disk decides what a power cut leaves.
    pub(super) fn die(&mut self) {
        if let Some(process) = self.process.take() {
            disk::with(self.disk, |d| d.dead = true);
            if let Some(tier) = &process.tier {
                tier.udp.close_all(Some(self.index));
            }
            let Process { node, local, outlets, spool, producers, way_out, .. } = process;
            node.kill();
            let _entered = node.enter();
            drop((local, outlets, spool, producers, way_out));
        }
    }
}

/// A self-signed certificate that names a device; made once a process.
pub(super) fn certificate(name: &str) -> CertificateDer<'static> {
    static MADE: Mutex<Option<HashMap<String, CertificateDer<'static>>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let made = made.get_or_insert_with(HashMap::new);
    if let Some(known) = made.get(name) {
        return known.clone();
    }
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = rcgen::KeyPair::generate().unwrap();
    let der = params.self_signed(&key).unwrap().der().clone();
    made.insert(name.to_owned(), der.clone());
    der
}
