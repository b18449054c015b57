//! CONNECT: who is it, may it stay, what is it told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::mqtt::{ConnAck, Connect, UserProperties, Version, reason};
use crate::runtime::Mono;
use crate::source::devices::admit::{Place, retry_after_ms};
use crate::source::devices::auth::{ClientId, Denied, DeviceName, Identity};
use crate::source::devices::fence::{Kind, TAKEOVER_EVERY, Verdict};
use crate::source::devices::frames::Frames;
use crate::source::devices::hub::{Hub, Mail};
use crate::source::devices::messages::Messages;
use crate::telemetry::count;

use super::publish::may_publish;
use super::{Check, Entering, Now, Open, Session, State};

impl Session {
    pub(super) fn on_connect(&mut self, now: Now, connect: Box<Connect>, hub: &mut Hub) {
        if self.place == Place::Lobby {
            return self.busy("full", hub.options.retry_after, Vec::new(), hub);
        }
        match self.peer.certificate.clone() {
            Some(Ok(device)) => self.let_in(now, &connect, Identity { device, until_us: None }, hub),
            Some(Err(denied)) => self.deny(now.mono, denied, hub),
            None => {
                let user = connect.username.clone();
                let password = connect.password.as_ref().map(|p| p.to_vec().into());
                self.check = Some(Check { user, password });
                self.state = State::Checking(Box::new(Connect { password: None, ..*connect }));
            }
        }
    }

    pub(super) fn let_in(&mut self, now: Now, connect: &Connect, identity: Identity, hub: &mut Hub) {
        let device = identity.device;
        let mut assigned = None;
        let client = if connect.client_id.is_empty() {
            let instance = format!("{:012x}", hub.rng.u64(..) >> 16);
            assigned = Some(format!("{device}:{instance}"));
            Ok(ClientId { instance: instance.into() })
        } else {
            ClientId::of(&device, &connect.client_id)
        };
        let client = match client {
            Ok(client) => client,
            Err(denied) => return self.deny(now.mono, denied, hub),
        };
        if let Some(will) = &connect.will
            && !may_publish(&device, &will.topic)
        {
            hub.log.warn(now.mono, "will", Some(device.shared()), || {
                format!("device {device}: its will is on a topic that it may not publish to")
            });
            count("dts_connects_refused_total", &[("reason", "will")], 1);
            return self.refuse(reason::NOT_AUTHORIZED, Vec::new());
        }
        let asks = connect.user.iter().any(|(k, v)| k == "dts" && v == "1");
        let instance = client.agent().filter(|_| asks);
        let kind = instance.map_or_else(|| Kind::Plain(client.instance.clone()), Kind::Agent);
        match hub.fence.enter(now.mono, device.shared(), self.id, kind) {
            Verdict::Welcome { evict, conflict } => {
                for other in evict {
                    count("dts_takeovers_total", &[], 1);
                    hub.post(other, Mail::TakenOver { conflict: conflict.and(instance) });
                }
                if let Some(other) = conflict {
                    conflicted(now.mono, &device, instance.unwrap_or_default(), other, hub);
                }
            }
            Verdict::Conflict { other, retry_after } => {
                conflicted(now.mono, &device, instance.unwrap_or_default(), other, hub);
                let user = vec![("dts-conflict".to_owned(), format!("{other:016x}"))];
                return self.busy("conflict", retry_after.min(TAKEOVER_EVERY), user, hub);
            }
            Verdict::Full => {
                hub.log.warn(now.mono, "device_full", Some(device.shared()), || {
                    format!("device {device} has too many connections (max_connections_per_device)")
                });
                return self.busy("device_full", hub.options.retry_after, Vec::new(), hub);
            }
        }
        let entering =
            Entering { device, version: connect.version, assigned, asks, until_us: identity.until_us };
        if hub.options.claims_sessions && instance.is_some() {
            self.claim = Some(entering.device.shared().clone());
            self.state = State::Claiming(Box::new(entering));
            return;
        }
        let session = hub.watermarks.next_session(entering.device.shared());
        self.open(now, entering, session, hub);
    }

    /// Says welcome.
    pub(super) fn open(&mut self, now: Now, entering: Entering, session: u64, hub: &mut Hub) {
        let Entering { device, version, assigned, asks, until_us } = entering;
        let wall_s = u32::try_from(now.wall_us.max(0) / 1_000_000).unwrap_or(u32::MAX);
        let left = until_us.map(|until| u64::try_from(until - now.wall_us).unwrap_or(0));
        let open = Open {
            version,
            frames: Frames::new(device.clone(), session),
            messages: Messages::new(
                hub.options.source.clone(),
                device.shared().clone(),
                wall_s,
                hub.rng.u32(..),
            ),
            filters: Vec::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            until: left.map(|us| now.mono + Duration::from_micros(us)),
            untold: false,
            tell_from: now.mono,
            device,
        };
        let user = if asks { welcome(open.device.shared(), session, now, hub) } else { Vec::new() };
        log::debug!("device {}: session {session} by {}", open.device, self.peer.transport);
        let version = if version == Version::V5 { "5.0" } else { "3.1.1" };
        count("dts_connects_total", &[("transport", self.peer.transport), ("version", version)], 1);
        self.state = State::Open(Box::new(open));
        self.server.accept(ConnAck { assigned_client_id: assigned, user, ..ConnAck::default() });
    }

    pub(super) fn deny(&mut self, now: Mono, denied: Denied, hub: &mut Hub) {
        count("dts_connects_refused_total", &[("reason", denied.label())], 1);
        let address = self.peer.address.ip();
        hub.log.warn(now, denied.label(), None, || format!("a client at {address} was refused: {denied}"));
        self.refuse(denied.reason(), Vec::new());
    }

    pub(super) fn busy(
        &mut self,
        label: &'static str,
        wait: Duration,
        mut user: UserProperties,
        hub: &mut Hub,
    ) {
        count("dts_connects_refused_total", &[("reason", label)], 1);
        let wait = retry_after_ms(wait, &mut hub.rng);
        user.push(("retry_after_ms".to_owned(), wait.to_string()));
        self.refuse(reason::SERVER_BUSY, user);
    }

    pub(super) fn refuse(&mut self, reason: u8, user: UserProperties) {
        self.server.refuse(ConnAck { reason, user, ..ConnAck::default() });
        self.state = State::Closed;
    }
}

/// The properties of CONNACK that make this a dts centre.
fn welcome(device: &Arc<str>, session: u64, now: Now, hub: &Hub) -> UserProperties {
    let one = |name: &str, value: String| (name.to_owned(), value);
    let mut user = vec![
        one("dts", "1".to_owned()),
        one("dts-epoch", hub.watermarks.greatest_epoch_number(device).to_string()),
        one("dts-time", now.wall_us.to_string()),
        one("dts-max-body", hub.options.max_body_bytes.to_string()),
        one("dts-session", session.to_string()),
    ];
    user.extend(hub.options.dictionaries.iter().map(|d| one("dts-dict", d.id().to_string())));
    user.extend(hub.watermarks.marks(device).iter().map(|mark| {
        one("dts-mark", format!("{}/{:016x}/{}/{:08x}", mark.lane, mark.epoch, mark.seq, mark.crc))
    }));
    user
}

fn conflicted(now: Mono, device: &DeviceName, new: u64, old: u64, hub: &mut Hub) {
    count("dts_identity_conflicts_total", &[], 1);
    hub.log.warn(now, "conflict", Some(device.shared()), || {
        format!(
            "two installations are live under the name {device}: {old:016x} and {new:016x}. Give one of them another name \
             and certificate; until then they take turns, and data of both is kept apart by epoch"
        )
    });
}
