//! The centre: listener without sockets, pipeline and sink as shipped, on a simulated disk.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::disk;
use super::net::{Accept, Net};
use super::oracle::Oracle;
use super::plan::CentrePlan;
use super::sink::{PlainSink, SimMarks, SqliteSink};
use super::tier2::Tier;
use super::tier2::udp::{CENTRE, PORT};
use crate::clock::Stamp;
use crate::config::node::Kind as NodeKind;
use crate::config::{ByteSize, Context, Field, Node as ConfigNode, Place};
use crate::control::Tap;
use crate::link::quic;
use crate::link::tls::{self, Reloading};
use crate::pipeline::core::Limits;
use crate::pipeline::run::KeepMarks;
use crate::pipeline::{self, NamedSink};
use crate::runtime::simulated::Node;
use crate::runtime::{Stop, Stopper, Task, mono_now, spawn, wall_now_us};
use crate::sink::{Mark, Sink};
use crate::source::devices::config::Config;
use crate::source::devices::listener::{self, Shared};
use crate::source::{Outlet, Submission};

/// The centre's disk.
pub(super) const DISK: u32 = 0;
const MAX_ROW_BYTES: usize = 64 << 20;
const NAME: &str = "sink";

/// The centre's machine.
pub(super) struct Centre {
    pub(super) plan: CentrePlan,
    pub(super) clock: Clock,
    pub(super) process: Option<Process>,
    pub(super) starts: u64,
    /// What the disk was, for those who put it back.
    pub(super) images: Vec<(u64, disk::Image)>,
    seed: u64,
}

/// A running centre.
pub(super) struct Process {
    pub(super) node: Rc<Node>,
    pub(super) shared: Rc<Shared>,
    pub(super) stopped: Rc<Cell<bool>>,
    /// The pipeline ended by itself.
    pub(super) failed: Rc<RefCell<Option<String>>>,
    stop: Stopper,
    _alive: Stopper,
    tier: Option<Tier>,
}

impl Centre {
    pub(super) fn new(plan: CentrePlan, seed: u64) -> Self {
        disk::Disk::make(DISK, seed ^ 0xce);
        Self {
            plan,
            clock: Clock::new(1, 0, 9_000_000, 0, 0),
            process: None,
            starts: 0,
            images: Vec::new(),
            seed,
        }
    }

    fn config(&self) -> Config {
        let node = ConfigNode { place: Place::default(), kind: NodeKind::Map(Vec::new()) };
        let mut config = Config::read(&node, &mut Context::default()).unwrap();
        config.receive_maximum = self.plan.receive_maximum;
        config.connection_bytes = ByteSize(self.plan.connection_bytes);
        config.total_bytes = ByteSize(self.plan.total_bytes);
        config.max_body_bytes = ByteSize(self.plan.max_body_bytes);
        config.max_packet_bytes = ByteSize(self.plan.max_packet_bytes);
        config.retry_after = Duration::from_secs(1);
        config
    }

    pub(super) fn start(
        &mut self,
        t: u64,
        net: &Rc<Net>,
        oracle: &Oracle,
        tier: Option<&Tier>,
    ) -> Result<(), String> {
        self.starts += 1;
        let node = Node::new(self.clock.boot, self.seed.wrapping_add(self.starts << 40));
        node.set_clocks(self.clock.mono(t), self.clock.wall_us(t));
        let started = {
            let _entered = node.enter();
            self.open(&node, oracle, tier)
        };
        match started {
            Ok(process) => {
                net.set_centre(true);
                self.process = Some(process);
                Ok(())
            }
            Err(e) => {
                node.kill();
                Err(e)
            }
        }
    }

    fn open(&self, node: &Rc<Node>, oracle: &Oracle, tier: Option<&Tier>) -> Result<Process, String> {
        let plan = &self.plan;
        let (sink, keep, marks): (Box<dyn Sink>, Option<Rc<dyn KeepMarks>>, Vec<Mark>) = if plan.plain {
            let (keep, stored) = SimMarks::open(DISK, oracle.clone()).map_err(|e| format!("marks: {e}"))?;
            let marks: Vec<Mark> = stored.into_iter().map(|(_, mark)| mark).collect();
            oracle.marks_are(&marks);
            let sink = PlainSink { disk: DISK, write_us: plan.write_us, oracle: oracle.clone() };
            (Box::new(sink), Some(Rc::new(keep)), marks)
        } else {
            let sink =
                SqliteSink::open(DISK, plan.log, plan.write_us, oracle.clone()).map_err(|e| e.to_string())?;
            let marks = sink.marks_now().map_err(|e| e.to_string())?;
            (Box::new(sink), None, marks)
        };
        let (tx, submissions) = async_channel::bounded::<Submission>(64);
        let stamp = Stamp::new(|| ((wall_now_us() / 1000).max(0) as u64) << 16);
        let shared_marks: Arc<[Mark]> = marks.clone().into();
        let outlet = Outlet::new("devices".into(), "".into(), stamp, MAX_ROW_BYTES, Arc::new([]), tx);
        let outlet = outlet.with_marks(shared_marks);
        let (_alive, ended) = Stop::new();
        let shared = listener::share(&self.config(), &outlet, Vec::new(), None, ended);
        let (stop, stopping) = Stop::new();
        let listening = tier.map(|tier| listen(&self.config(), shared.clone(), tier)).transpose()?;
        let feeder = spawn(shared.clone().feed(outlet));
        let sinks = vec![NamedSink { name: NAME.to_owned(), sink, marks, claims: None }];
        let run =
            pipeline::run(sinks, keep, Limits::default(), submissions, Tap::default(), stopping.clone());
        let failed: Rc<RefCell<Option<String>>> = Rc::default();
        let stopped: Rc<Cell<bool>> = Rc::default();
        let ended = failed.clone();
        let pipeline = spawn(async move {
            if let Err(e) = run.await {
                ended.replace(Some(e.to_string()));
            }
        });
        let (floor, done) = (shared.clone(), stopped.clone());
        spawn(async move {
            stopping.wait().await;
            // As the listener's own end: nothing new comes, what was taken is answered, then the connections go.
            drop(listening);
            floor.stop(Duration::from_millis(700)).await;
            drop(feeder);
            pipeline.await;
            done.set(true);
        })
        .detach();
        Ok(Process { node: node.clone(), shared, stopped, failed, stop, _alive, tier: tier.cloned() })
    }

    /// A connection comes in.
    pub(super) fn accept(&self, accept: Accept) {
        let Some(process) = &self.process else { return };
        let _entered = process.node.enter();
        let Accept { connection } = accept;
        let address = connection.remote;
        let admitted = process.shared.admission.borrow_mut().enter(mono_now(), address.ip());
        // Who is not admitted is dropped.
        if let Ok(place) = admitted {
            let connected = Box::pin(async move { Ok(connection) });
            spawn(listener::connect(process.shared.clone(), address, place, connected)).detach();
        }
    }

    pub(super) fn stop(&self) {
        if let Some(process) = &self.process {
            process.stop.stop();
        }
    }

    /// The process is gone.
    pub(super) fn die(&mut self, net: &Net) {
        net.set_centre(false);
        if let Some(process) = self.process.take() {
            disk::with(DISK, |d| d.dead = true);
            if let Some(tier) = &process.tier {
                tier.udp.close_all(None);
            }
            let Process { node, shared, stop, _alive, .. } = process;
            node.kill();
            let _entered = node.enter();
            drop((shared, stop, _alive));
        }
    }
}

/// The listener's QUIC, as shipped.
fn listen(config: &Config, shared: Rc<Shared>, tier: &Tier) -> Result<Task<()>, String> {
    // The null session does not look at it.
    let unused = Reloading::new(Vec::new(), || {
        let builder = rustls::ServerConfig::builder_with_provider(tls::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Ok(Arc::new(builder.with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()))))
    });
    let unused = unused.map_err(|e| e.to_string())?;
    let limits = listener::limits(config);
    let net = tier.net(None, &"centre".into());
    let endpoint = quic::server_endpoint(&net, (CENTRE, PORT).into(), unused.current(), &limits);
    let endpoint = endpoint.map_err(|e| e.to_string())?;
    Ok(spawn(listener::accept_quic(shared, endpoint, Rc::new(unused), limits)))
}
