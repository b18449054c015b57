//! What the policy wants of the links, and how they end.

use std::time::Duration;

use super::{Driver, Event, Link, State};
use crate::link::policy;
use crate::link::{Connection, FailKind, LinkError, Transport};
use crate::planted::{self, Bug};
use crate::runtime::{Mono, mono_now, spawn};
use crate::sink::centre::conn::Conn;
use crate::sink::centre::seldom::more;
use crate::sink::centre::session::{End, Input, Session, Trust};
use crate::telemetry::{count, gauge};

impl Driver<'_> {
    /// Executes a wish of the policy.
    pub(super) fn obey(&mut self, now: Mono, action: policy::Action) {
        log::debug!("link: {action:?}");
        match action {
            policy::Action::Dial(transport) => self.dial(transport),
            policy::Action::Connect(transport) => self.connect(now, transport),
            policy::Action::Adopt(transport) => self.adopt(now, transport),
            policy::Action::Drain(transport) => {
                // The policy has its own, shorter patience.
                let until = now + Duration::from_secs(60);
                if let Some(session) = self.on(transport).and_then(Link::session) {
                    session.handle(now, Input::Drain(until));
                }
            }
            policy::Action::Abandon(transport) | policy::Action::Close(transport) => {
                if let Some(number) = self.on(transport).map(|l| l.number) {
                    self.hang_up(now, number);
                }
            }
            policy::Action::Rebind(_) if planted::on(Bug::ForgetRebind) => {}
            policy::Action::Rebind(transport) => {
                let rebound = self.on(transport).and_then(Link::conn).map(|conn| conn.control.rebind());
                if let Some(Err(e)) = rebound {
                    log::debug!("the network changed and {} cannot follow: {e}", transport.as_str());
                    if let Some(number) = self.on(transport).map(|l| l.number) {
                        self.drop_link(number, "network changed");
                        self.policy.handle(now, policy::Input::Lost(transport, FailKind::Unreachable));
                    }
                }
            }
        }
    }

    pub(super) fn dial(&mut self, transport: Transport) {
        self.next_number += 1;
        let number = self.next_number;
        let (dialer, tell) = (self.dialer.clone(), self.tell.clone());
        dialer.set_keep_alive(self.policy.keep_alive());
        let task = spawn(async move {
            let dialed = dialer.dial(transport).await;
            tell.send(Event::Dialed(number, dialed)).await.unwrap_or_default();
        });
        self.links.push(Link { number, transport, state: State::Dialing { _task: task } });
    }

    pub(super) fn dialed(&mut self, now: Mono, number: u64, dialed: Result<Connection, LinkError>) {
        let Some(link) = self.link(number) else { return };
        let transport = link.transport;
        match dialed {
            Ok(connection) => {
                link.state = State::Dialed(connection);
                self.policy.handle(now, policy::Input::Dialed(transport));
            }
            Err(e) => {
                self.drop_link(number, "not connected");
                let kind = e.kind();
                let key = format!("dial {} {}", transport.as_str(), kind.as_str());
                self.complain(now, &key, &format_args!("{}: {e}", transport.as_str()));
                count_failure(transport, kind);
                self.policy.handle(now, policy::Input::Failed(transport, kind));
            }
        }
    }

    /// Starts a session on a dialed connection: CONNECT.
    pub(super) fn connect(&mut self, now: Mono, transport: Transport) {
        let Some(at) = self.links.iter().position(|l| l.transport == transport) else { return };
        let Link { number, state, .. } = self.links.swap_remove(at);
        let State::Dialed(connection) = state else { return };
        // A chain that was accepted without knowing the time is checked again before any data.
        let trust = if self.agent.trust.now_s().is_some() { Trust::Verified } else { Trust::AfterTime };
        let session = self.config.credentials(&self.agent.device).and_then(|credentials| {
            Session::new(self.common.clone(), credentials, trust, self.rng.fork(), now)
                .map_err(|e| format!("CONNECT cannot be written: {}", e.message))
        });
        let session = match session {
            Ok(session) => session,
            Err(e) => {
                self.complain(now, "connect", &e);
                return self.policy.handle(now, policy::Input::Failed(transport, FailKind::Local));
            }
        };
        let tell = self.tell.clone();
        let conn = Conn::start(connection, move |said| {
            let tell = tell.clone();
            async move { tell.send(Event::Link(number, said)).await.unwrap_or_default() }
        });
        self.links.push(Link { number, transport, state: State::Open(Box::new((conn, session))) });
    }

    pub(super) fn connected(&mut self, now: Mono, number: u64, transport: Transport) {
        self.connections += 1;
        count("dts_ship_connections_total", &[("transport", transport.as_str())], 1);
        let session = self.link(number).and_then(Link::session).and_then(|s| s.server().session);
        let session = session.map(|n| format!(", session {n}")).unwrap_or_default();
        if let Some(unsaid) = self.said.say(now, &format!("connected {}", transport.as_str())) {
            let unsaid = more(unsaid);
            log::info!("connected to {} over {}{session}{unsaid}", self.config.address, transport.as_str());
        }
        self.policy.handle(now, policy::Input::Connected(transport));
    }

    /// Ships by this link from now on, or again after a drain that led nowhere.
    pub(super) fn adopt(&mut self, now: Mono, transport: Transport) {
        let Some(link) = self.on(transport) else { return };
        let number = link.number;
        let again = self.active == Some(number);
        if !again {
            self.jobs.begin(number);
            self.active = Some(number);
        }
        if let Some(session) = self.on(transport).and_then(Link::session) {
            session.handle(now, if again { Input::Resume } else { Input::Adopt });
        }
        self.spool.link_up(true);
        for t in [Transport::Quic, Transport::Tls, Transport::Tcp] {
            gauge("dts_link_up", &[("transport", t.as_str())], f64::from(u8::from(t == transport)));
        }
        self.next_look = now;
    }

    /// Ends a link by our own wish: DISCONNECT if there is a session.
    pub(super) fn hang_up(&mut self, now: Mono, number: u64) {
        let Some(link) = self.link(number) else { return };
        if let Some(session) = link.session() {
            session.handle(now, Input::Disconnect);
            self.serve(now, number);
        }
        self.drop_link(number, "closed by the device");
    }

    /// A session is over. Its last bytes are still to be delivered.
    pub(super) fn closed(&mut self, now: Mono, number: u64, end: End) {
        let Some(link) = self.link(number) else { return };
        let transport = link.transport;
        let connected = link.session().is_some_and(|s| s.was_connected());
        self.drop_link(number, "session over");
        let (kind, retry_after) = match &end {
            // The policy knows.
            End::Stopped => return,
            End::Refused { reason, retry_after, .. } | End::Kicked { reason, retry_after, .. } => {
                let kind = if *reason == 0x8e { FailKind::TakenOver } else { FailKind::Lost };
                (kind, retry_after.filter(|_| *reason == 0x89))
            }
            End::Conflict { .. } => (FailKind::TakenOver, None),
            End::Silent => (FailKind::Stalled, None),
            End::Chain(_) => (FailKind::Tls, None),
            End::Protocol(_) | End::NotACentre | End::NoTime | End::Denied(_) => (FailKind::Lost, None),
        };
        count("dts_ship_sessions_ended_total", &[("reason", end.label())], 1);
        // Our own newer connection took the session: no news.
        let own = kind == FailKind::TakenOver && self.links.iter().any(|l| matches!(l.state, State::Open(_)));
        if !own {
            self.complain(now, end.label(), &end);
        }
        let input = match retry_after {
            Some(retry_after) => policy::Input::Busy { retry_after },
            None if connected => policy::Input::Lost(transport, kind),
            None => policy::Input::Failed(transport, kind),
        };
        self.policy.handle(now, input);
    }

    /// Forgets a link. What was written before is delivered.
    pub(super) fn drop_link(&mut self, number: u64, reason: &'static str) {
        let Some(at) = self.links.iter().position(|l| l.number == number) else { return };
        let Link { state, transport, .. } = self.links.swap_remove(at);
        if self.active == Some(number) {
            self.active = None;
            self.jobs.pause();
            self.spool.link_up(false);
            gauge("dts_link_up", &[("transport", transport.as_str())], 0.0);
        }
        match state {
            State::Dialing { .. } => {}
            State::Dialed(connection) => connection.control.close(reason),
            State::Open(open) => {
                let (mut conn, mut session) = *open;
                self.spent_bytes = self.spent_bytes.saturating_add(conn.new_wire_bytes());
                let now = mono_now();
                while let Some(bytes) = session.poll_transmit(now) {
                    conn.write(bytes);
                }
                self.closing.push(spawn(conn.close(reason)));
            }
        }
    }
}

/// Counts an attempt that did not get as far as a session.
pub(super) fn count_failure(transport: Transport, kind: FailKind) {
    let labels = [("transport", transport.as_str()), ("reason", kind.as_str())];
    count("dts_ship_dial_failures_total", &labels, 1);
}
