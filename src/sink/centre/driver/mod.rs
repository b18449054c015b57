//! The shell around the cores: dials, reads, writes, asks the spool, keeps time. One loop on the main thread; it
//! waits for events and timers only.
//!
//! ```text
//! link::Policy ─▶ dial · connect · adopt · drain · close      spool thread ◀─ jobs, in order ─┐
//!      ▲                     │                                     │                           │
//!      └── what happened ── driver ◀── events (bounded) ◀──────────┴── Session (a connection) ──┘
//! ```

mod links;
mod news;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_lite::FutureExt;

use crate::clock::TimeKeeper;
use crate::event::batch::ClockState;
use crate::identity::Identity;
use crate::link::policy::{self, Policy, PolicyMemory};
use crate::link::{Connection, Dial, FailKind, LinkError, Transport, TrustTime};
use crate::runtime::{Mono, Stop, Task, mono_now, rng, sleep_until, spawn, timeout};
use crate::sink::SinkError;
use crate::sink::centre::config::{Config, LinkMode};
use crate::sink::centre::conn::{Conn, Said};
use crate::sink::centre::seldom::Seldom;
use crate::sink::centre::session::{Action, Common, Input, Session};
use crate::sink::centre::spooling::{Answer, Jobs};
use crate::sink::centre::status::{self, Status};
use crate::spool::{Spool, SpoolError, Stats};

/// Events that wait for the driver; a reader that would add one more waits.
const MAX_EVENTS: usize = 64;
/// How often a used link is asked whether it still moves.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// For the answers of what is under way when dts stops.
const STOP_DRAIN: Duration = Duration::from_millis(400);
/// For that, the good-byes, and the spool's last word, together: a stop takes less than a second.
const STOP_WITHIN: Duration = Duration::from_millis(900);

/// Who this agent is, and what shipping shares with the rest of it.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Name of the device.
    pub device: Arc<str>,
    /// Id, epochs and what the link remembers over a restart.
    pub identity: Arc<Mutex<Identity>>,
    /// The time of this process; the stamps of the inputs come from it, too.
    pub keeper: Rc<RefCell<TimeKeeper>>,
    /// What TLS may believe of the time.
    pub trust: TrustTime,
    /// This boot ([`crate::runtime::boot_id`]).
    pub boot: u64,
    /// Largest body that the spool stores ([`crate::spool::Options::max_body_bytes`]).
    pub max_stored_bytes: usize,
    /// Folder for the last good addresses; `None` keeps none.
    pub data_dir: Option<PathBuf>,
}

/// What the loop waits for.
#[derive(Debug)]
enum Event {
    Dialed(u64, Result<Connection, LinkError>),
    Link(u64, Said),
    Spool(Answer),
    Network,
}

/// One attempt to be connected, from dialing to its end.
#[derive(Debug)]
struct Link {
    number: u64,
    transport: Transport,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Dropping the task abandons the attempt.
    Dialing { _task: Task<()> },
    /// Connected; CONNECT is sent when the policy says so.
    Dialed(Connection),
    /// With a session.
    Open(Box<(Conn, Session)>),
}

impl Link {
    fn session(&mut self) -> Option<&mut Session> {
        if let State::Open(open) = &mut self.state { Some(&mut open.1) } else { None }
    }

    fn conn(&mut self) -> Option<&mut Conn> {
        if let State::Open(open) = &mut self.state { Some(&mut open.0) } else { None }
    }
}

/// Ships `spool` until `stop`. Resolves within a second of it; what was not acknowledged by then stays in the spool.
/// An error only for what a person must change.
pub async fn run(spool: Spool, config: &Config, agent: Agent, stop: Stop) -> Result<(), SinkError> {
    let dialer = config
        .dialer(agent.trust.clone(), agent.data_dir.as_deref())
        .map_err(|e| SinkError::Fatal(format!("sink centre: {e}")))?;
    run_over(Rc::new(dialer), spool, config, agent, stop).await
}

/// As [`run`], by connections of `dialer`'s.
pub async fn run_over(
    dialer: Rc<dyn Dial>,
    spool: Spool,
    config: &Config,
    agent: Agent,
    stop: Stop,
) -> Result<(), SinkError> {
    let mut driver = Driver::new(dialer, spool, config, agent)?;
    let result = driver.ship(&stop).await;
    driver.end().await;
    result
}

struct Driver<'c> {
    config: &'c Config,
    agent: Agent,
    spool: Spool,
    common: Rc<Common>,
    rng: fastrand::Rng,
    policy: Policy,
    dialer: Rc<dyn Dial>,
    links: Vec<Link>,
    /// Number of the link that ships.
    active: Option<u64>,
    next_number: u64,
    connections: u64,
    jobs: Jobs,
    events: async_channel::Receiver<Event>,
    tell: async_channel::Sender<Event>,
    status: Status,
    /// What is known of the buffer, for the status.
    stats: Stats,
    asked_stats: bool,
    next_look: Mono,
    next_watch: Mono,
    spent_bytes: u64,
    /// Eighths of the data budget that are spent, as it was written down last.
    spent_eighths: u64,
    said: Seldom,
    remembered: Option<Mono>,
    clock: ClockState,
    closing: Vec<Task<()>>,
    _network: Task<()>,
}

impl<'c> Driver<'c> {
    fn new(dialer: Rc<dyn Dial>, spool: Spool, config: &'c Config, agent: Agent) -> Result<Self, SinkError> {
        let lanes: Vec<_> = spool.lanes().iter().map(|l| (l.name.clone(), l.weight)).collect();
        let (tell, events) = async_channel::bounded(MAX_EVENTS);
        let say = tell.clone();
        let names = lanes.iter().map(|(name, _)| name.clone()).collect();
        let jobs = Jobs::start(&spool, names, move |answer| {
            let say = say.clone();
            // If nobody listens any more nothing matters any more.
            async move { say.send(Event::Spool(answer)).await.unwrap_or_default() }
        });
        let dictionary = config.dictionary().map_err(|e| SinkError::Fatal(format!("sink centre: {e}")))?;
        let now = mono_now();
        let mut rng = rng();
        let (instance, memory) = {
            let identity = lock(&agent.identity);
            (identity.instance(), identity.memory().clone())
        };
        let memory = PolicyMemory {
            backoff_level: memory.backoff_level,
            budget_spent_bytes: memory.budget_spent_bytes,
            budget_left_s: memory.budget_left_s,
        };
        Ok(Self {
            common: Rc::new(Common {
                options: config.session_options(&agent, instance, dictionary),
                lanes,
                memory: RefCell::default(),
                keeper: agent.keeper.clone(),
            }),
            policy: Policy::new(config.policy_options(), memory, now, rng.fork()),
            _network: spawn(news::watch_network(dialer.clone(), tell.clone())),
            config,
            agent,
            spool,
            rng,
            dialer,
            links: Vec::new(),
            active: None,
            next_number: 0,
            connections: 0,
            jobs,
            events,
            tell,
            status: Status::default(),
            stats: Stats::default(),
            asked_stats: false,
            next_look: now,
            next_watch: now,
            spent_bytes: 0,
            spent_eighths: 0,
            said: Seldom::default(),
            remembered: None,
            clock: ClockState::Unknown,
            closing: Vec::new(),
        })
    }

    async fn ship(&mut self, stop: &Stop) -> Result<(), SinkError> {
        self.policy.handle(mono_now(), policy::Input::Start);
        while !stop.is_set() {
            self.turn(mono_now());
            match self.next_event(Some(stop)).await {
                Some(event) => self.on_event(event)?,
                None => self.on_time(mono_now()),
            }
            // What else is there already costs no wake-up.
            while let Ok(event) = self.events.try_recv() {
                self.on_event(event)?;
            }
        }
        Ok(())
    }

    /// Lets the link in use have its answers, says good-bye, and waits until the spool knows.
    async fn end(mut self) {
        let start = mono_now();
        let (until, deadline) = (start + STOP_DRAIN, start + STOP_WITHIN);
        self.policy.handle(mono_now(), policy::Input::Stop);
        loop {
            self.turn(mono_now());
            let now = mono_now();
            if self.policy.is_stopped() || now >= until {
                break;
            }
            match timeout(until.since(now), self.next_event(None)).await {
                Some(Some(event)) => {
                    if self.on_event(event).is_err() {
                        break;
                    }
                }
                Some(None) => self.on_time(mono_now()),
                None => break,
            }
        }
        // Whatever the policy still waits for ends now.
        for number in self.links.iter().map(|l| l.number).collect::<Vec<_>>() {
            self.hang_up(mono_now(), number);
        }
        self.remember(mono_now());
        self.spool.link_up(false);
        let closing = std::mem::take(&mut self.closing);
        let last_words = async {
            // They run side by side, each with a limit of its own.
            for task in closing {
                task.await;
            }
            self.jobs.finish().await;
        };
        timeout(deadline.since(mono_now()), last_words).await;
    }

    /// The next event, or `None` when it is time for something or `stop` is set.
    async fn next_event(&self, stop: Option<&Stop>) -> Option<Event> {
        let sessions = self.links.iter().filter_map(|link| match &link.state {
            State::Open(open) => open.1.poll_timeout(),
            _ => None,
        });
        let open = self.links.iter().any(|l| matches!(l.state, State::Open(_)));
        let own = [Some(self.next_look), self.policy.poll_timeout(), open.then_some(self.next_watch)];
        let wake = sessions.chain(own.into_iter().flatten()).min();
        let event = async { self.events.recv().await.ok() };
        let timer = async {
            match wake {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
            None
        };
        let stopped = async {
            match stop {
                Some(stop) => stop.wait().await,
                None => std::future::pending().await,
            }
            None
        };
        event.or(stopped).or(timer).await
    }

    /// Executes everything the cores want.
    fn turn(&mut self, now: Mono) {
        loop {
            let mut any = false;
            while let Some(action) = self.policy.poll_action() {
                self.obey(now, action);
                any = true;
            }
            for number in self.links.iter().map(|l| l.number).collect::<Vec<_>>() {
                any |= self.serve(now, number);
            }
            if !any {
                break;
            }
        }
        self.closing.retain(|task| !task.is_finished());
    }

    /// Executes the wishes of one session and writes what it has. Whether there was any.
    fn serve(&mut self, now: Mono, number: u64) -> bool {
        let mut any = false;
        while let Some(action) = self.link(number).and_then(Link::session).and_then(Session::poll_action) {
            any = true;
            if let Some(action) = self.jobs.take(number, action) {
                self.grant(now, number, action);
            }
        }
        let Some(link) = self.link(number) else { return any };
        if let State::Open(open) = &mut link.state {
            let (conn, session) = &mut **open;
            while conn.has_room() {
                let Some(bytes) = session.poll_transmit(now) else { break };
                conn.write(bytes);
                any = true;
            }
        }
        any
    }

    /// Executes a wish of a session that is not the spool's.
    fn grant(&mut self, now: Mono, number: u64, action: Action) {
        let Some(link) = self.links.iter_mut().find(|l| l.number == number) else { return };
        let transport = link.transport;
        match action {
            Action::Connected => self.connected(now, number, transport),
            Action::CheckChain { now_s } => {
                let checked = match link.conn() {
                    Some(conn) => conn.control.recheck(now_s).map_err(|e| e.to_string()),
                    None => Ok(()),
                };
                if let Some(session) = link.session() {
                    session.handle(now, Input::ChainChecked(checked));
                }
            }
            Action::TimeLearned => self.time_learned(now),
            Action::Idle => self.policy.handle(now, policy::Input::Backlog { bytes: 0 }),
            Action::Drained => self.policy.handle(now, policy::Input::Drained(transport)),
            Action::Closed(end) => self.closed(now, number, end),
            // The spool's were taken before.
            Action::Reconcile { .. } | Action::Read { .. } | Action::Ack { .. } | Action::SetAside { .. } => {
            }
        }
    }

    fn link(&mut self, number: u64) -> Option<&mut Link> {
        self.links.iter_mut().find(|l| l.number == number)
    }

    /// The link of a transport; the policy has one of each at a time.
    fn on(&mut self, transport: Transport) -> Option<&mut Link> {
        self.links.iter_mut().find(|l| l.transport == transport)
    }

    fn on_event(&mut self, event: Event) -> Result<(), SinkError> {
        let now = mono_now();
        match event {
            Event::Dialed(number, dialed) => self.dialed(now, number, dialed),
            Event::Link(number, said) => self.on_link(now, number, said),
            Event::Network => self.policy.handle(now, policy::Input::NetworkChanged),
            Event::Spool(Answer::Input(number, input)) => {
                if let Some(session) = self.link(number).and_then(Link::session) {
                    session.handle(now, input);
                }
            }
            Event::Spool(Answer::Changed) => {
                self.next_watch = self.next_watch.min(now + WATCH_EVERY);
                if let Some(session) = self.active.and_then(|n| self.link(n)).and_then(Link::session) {
                    session.handle(now, Input::Changed);
                }
                if matches!(self.config.link, LinkMode::Burst { .. }) {
                    self.ask_stats();
                }
            }
            Event::Spool(Answer::Stats(stats)) => self.on_stats(now, stats),
            // dts stops; the spool was first.
            Event::Spool(Answer::Over(SpoolError::Stopped)) => {}
            Event::Spool(Answer::Over(e)) => return Err(SinkError::Fatal(e.to_string())),
        }
        Ok(())
    }

    fn on_link(&mut self, now: Mono, number: u64, said: Said) {
        let Some(link) = self.link(number) else { return };
        let transport = link.transport;
        let State::Open(open) = &mut link.state else { return };
        let (conn, session) = &mut **open;
        match said {
            Said::Bytes(bytes) => {
                session.receive(now, &bytes);
                self.policy.handle(now, policy::Input::Progress(transport));
            }
            Said::Written(n) => conn.written(n),
            Said::Gone(why, kind) => {
                // What it said last may say why it went.
                self.serve(now, number);
                let Some(link) = self.link(number) else { return };
                let connected = link.session().is_some_and(|s| s.was_connected());
                self.drop_link(number, "connection lost");
                let key = format!("lost {} {}", transport.as_str(), kind.as_str());
                self.complain(now, &key, &format_args!("connection over {} lost: {why}", transport.as_str()));
                let input = if connected {
                    policy::Input::Lost(transport, FailKind::Lost)
                } else {
                    links::count_failure(transport, kind);
                    policy::Input::Failed(transport, kind)
                };
                self.policy.handle(now, input);
            }
        }
    }

    fn on_time(&mut self, now: Mono) {
        self.policy.handle_timeout(now);
        for link in &mut self.links {
            if let Some(session) = link.session() {
                session.handle_timeout(now);
            }
        }
        if now >= self.next_watch {
            self.watch(now);
        }
        if now >= self.next_look {
            self.next_look = now + status::LOOK_EVERY;
            self.ask_stats();
        }
    }
}

fn lock(identity: &Mutex<Identity>) -> MutexGuard<'_, Identity> {
    identity.lock().unwrap_or_else(PoisonError::into_inner)
}
