//! The policy on a virtual clock.

use std::time::Duration;

use super::*;
use crate::link::Transport::{Quic, Tls};
use crate::runtime::Mono;

use super::Action::{Abandon, Adopt, Close, Connect, Dial, Drain, Rebind};
use super::Input::{Connected, Dialed, Drained, Failed, Lost, NetworkChanged, Progress, Quiet, Start, Stop};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A policy and its clock.
struct Bench {
    now: Mono,
    policy: Policy,
}

impl Bench {
    fn new(options: PolicyOptions) -> Self {
        Self::remembering(options, PolicyMemory::default(), 1)
    }

    fn remembering(options: PolicyOptions, memory: PolicyMemory, seed: u64) -> Self {
        let now = Mono(1_000_000_000);
        Self { now, policy: Policy::new(options, memory, now, fastrand::Rng::with_seed(seed)) }
    }

    fn tell(&mut self, input: Input) -> Vec<Action> {
        self.policy.handle(self.now, input);
        self.actions()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.policy.poll_action()).collect()
    }

    /// Lets time pass, timer by timer; returns what was done and when, counted from the start of it.
    fn pass(&mut self, span: Duration) -> Vec<(Duration, Action)> {
        let (start, end) = (self.now, self.now + span);
        let mut done = Vec::new();
        while let Some(at) = self.policy.poll_timeout().filter(|at| *at <= end) {
            assert!(at >= self.now, "a timer in the past");
            self.now = self.now.max(at);
            self.policy.handle_timeout(self.now);
            done.extend(self.actions().into_iter().map(|a| (self.now.since(start), a)));
            assert!(self.policy.poll_timeout().is_none_or(|next| next > self.now), "a timer that stays due");
        }
        self.now = end;
        done
    }

    /// The time until the policy does something, at most `span`; it must be exactly `want`.
    fn until(&mut self, want: &[Action], span: Duration) -> Duration {
        let start = self.now;
        loop {
            let Some(at) = self.policy.poll_timeout() else { panic!("no timer, wanted {want:?}") };
            assert!(at.since(start) <= span, "nothing within {span:?}, wanted {want:?}");
            self.now = at;
            self.policy.handle_timeout(at);
            let actions = self.actions();
            if !actions.is_empty() {
                assert_eq!(actions, want);
                return at.since(start);
            }
        }
    }

    fn up(&mut self, t: Transport) {
        self.tell(Start);
        if t == Tls {
            self.tell(Failed(Quic, FailKind::Timeout));
        }
        self.tell(Dialed(t));
        assert_eq!(self.tell(Connected(t)), [Adopt(t)]);
    }
}

fn standard() -> Bench {
    Bench::new(PolicyOptions::default())
}

#[test]
fn quic_alone_if_it_answers_in_time() {
    let mut b = standard();
    assert_eq!(b.tell(Start), [Dial(Quic)]);
    assert!(b.pass(ms(900)).is_empty());
    assert_eq!(b.tell(Dialed(Quic)), [Connect(Quic)]);
    assert_eq!(b.tell(Connected(Quic)), [Adopt(Quic)]);
    assert!(b.pass(s(3600)).is_empty());
    assert_eq!(b.policy.adopted(), Some(Quic));
}

#[test]
fn tcp_joins_after_the_race_delay_and_the_first_connack_wins() {
    let mut b = standard();
    b.tell(Start);
    assert_eq!(b.pass(s(2)), [(s(1), Dial(Tls))]);
    // TCP is first. QUIC's handshake comes too, but only one CONNECT is out at a time.
    assert_eq!(b.tell(Dialed(Tls)), [Connect(Tls)]);
    assert_eq!(b.tell(Dialed(Quic)), []);
    assert_eq!(b.tell(Connected(Tls)), [Abandon(Quic), Adopt(Tls)]);
}

#[test]
fn a_connect_without_answer_yields_to_the_other_transport() {
    let mut b = standard();
    b.tell(Start);
    b.pass(s(1));
    b.tell(Dialed(Quic));
    b.tell(Dialed(Tls));
    assert_eq!(b.pass(s(10)), [(s(3), Abandon(Quic)), (s(3), Connect(Tls))]);
    // A late word of QUIC is nobody's.
    assert_eq!(b.tell(Connected(Quic)), []);
    assert_eq!(b.tell(Connected(Tls)), [Adopt(Tls)]);
}

#[test]
fn a_failed_quic_brings_tcp_at_once_and_together_next_time() {
    let mut b = standard();
    b.tell(Start);
    assert_eq!(b.tell(Failed(Quic, FailKind::Refused)), [Dial(Tls)]);
    assert_eq!(b.tell(Failed(Tls, FailKind::Refused)), []);
    b.until(&[Dial(Quic), Dial(Tls)], s(2));
    // On another network QUIC gets its head start again.
    assert_eq!(b.tell(NetworkChanged), [Abandon(Quic), Abandon(Tls), Dial(Quic)]);
}

#[test]
fn a_way_too_narrow_for_quic_is_remembered_for_this_network() {
    let mut b = standard();
    assert_eq!(b.tell(Start), [Dial(Quic)]);
    // Nothing was sent, nothing is waited for.
    assert_eq!(b.tell(Failed(Quic, FailKind::PathMtu)), [Dial(Tls)]);
    b.tell(Dialed(Tls));
    assert_eq!(b.tell(Connected(Tls)), [Adopt(Tls)]);
    b.pass(s(29));
    b.tell(Lost(Tls, FailKind::Lost));
    b.until(&[Dial(Tls)], s(2));
    assert_eq!(b.pass(ms(1000)), [(ms(1000), Dial(Quic))], "TCP has the head start here");
    assert_eq!(b.tell(Failed(Quic, FailKind::PathMtu)), []);
    b.tell(Dialed(Tls));
    b.tell(Connected(Tls));
    // A wider way is found by a probe, and on another network nothing is known.
    b.until(&[Dial(Quic)], s(30));
    b.tell(Dialed(Quic));
    b.tell(Drained(Tls));
    assert!(b.tell(Connected(Quic)).contains(&Adopt(Quic)));
    b.pass(s(40));
    b.tell(Lost(Quic, FailKind::Lost));
    b.until(&[Dial(Quic)], s(2));
    b.tell(Failed(Quic, FailKind::PathMtu));
    assert!(b.tell(NetworkChanged).contains(&Dial(Quic)));
}

#[test]
fn quic_that_had_no_answer_while_tcp_came_through_is_raced_at_once_next_time() {
    let mut b = standard();
    assert_eq!(b.tell(Start), [Dial(Quic)]);
    assert_eq!(b.pass(s(1)), [(s(1), Dial(Tls))]);
    b.tell(Dialed(Tls));
    assert_eq!(b.tell(Connected(Tls)), [Abandon(Quic), Adopt(Tls)]);
    b.pass(s(29));
    b.tell(Lost(Tls, FailKind::Lost));
    b.until(&[Dial(Quic), Dial(Tls)], s(2));
}

#[test]
fn on_tcp_quic_is_probed_from_30_s_doubling_to_15_min() {
    let mut b = standard();
    b.up(Tls);
    for pause in [30, 60, 120, 240, 480, 900, 900, 900] {
        assert_eq!(b.until(&[Dial(Quic)], s(1000)), s(pause));
        assert_eq!(b.tell(Failed(Quic, FailKind::Timeout)), []);
        assert_eq!(b.policy.adopted(), Some(Tls));
    }
    // A changed network is worth a try at once.
    assert_eq!(b.tell(NetworkChanged), [Rebind(Tls)]);
    assert_eq!(b.until(&[Dial(Quic)], s(2)), s(1));
}

#[test]
fn the_way_back_to_quic_drains_tcp_first() {
    let mut b = standard();
    b.up(Tls);
    b.until(&[Dial(Quic)], s(60));
    assert_eq!(b.tell(Dialed(Quic)), [Drain(Tls)]);
    assert_eq!(b.tell(Drained(Tls)), [Connect(Quic)]);
    // The server ends the old session for the new one: no error, no new dial.
    assert_eq!(b.tell(Lost(Tls, FailKind::TakenOver)), []);
    assert_eq!(b.tell(Connected(Quic)), [Adopt(Quic)]);
    assert!(b.pass(s(3600)).is_empty());

    let mut b = standard();
    b.up(Tls);
    b.until(&[Dial(Quic)], s(60));
    b.tell(Dialed(Quic));
    b.tell(Drained(Tls));
    assert_eq!(b.tell(Connected(Quic)), [Close(Tls), Adopt(Quic)]);
}

#[test]
fn a_probe_that_fails_late_leaves_tcp_in_use() {
    // After the handshake, while TCP drains.
    let mut b = standard();
    b.up(Tls);
    b.until(&[Dial(Quic)], s(60));
    b.tell(Dialed(Quic));
    assert_eq!(b.tell(Failed(Quic, FailKind::Lost)), [Adopt(Tls)]);
    assert_eq!(b.tell(Drained(Tls)), [], "a late word");
    // After TCP is drained: CONNECT has no answer.
    b.until(&[Dial(Quic)], s(100));
    b.tell(Dialed(Quic));
    b.tell(Drained(Tls));
    assert_eq!(b.pass(s(15)), [(s(15), Abandon(Quic)), (s(15), Adopt(Tls))]);
    // A drain that never ends is cut, and the switch goes on.
    b.until(&[Dial(Quic)], s(200));
    assert_eq!(b.tell(Dialed(Quic)), [Drain(Tls)]);
    assert_eq!(b.until(&[Connect(Quic)], s(20)), s(10));
    // TCP dies in the middle of it: QUIC goes on alone.
    assert_eq!(b.tell(Lost(Tls, FailKind::Lost)), []);
    assert_eq!(b.tell(Connected(Quic)), [Adopt(Quic)]);
}

#[test]
fn a_server_that_was_connected_without_being_told_is_taken_as_well() {
    let mut b = standard();
    b.up(Tls);
    b.until(&[Dial(Quic)], s(60));
    assert_eq!(b.tell(Connected(Quic)), [Drain(Tls)]);
    assert_eq!(b.tell(Drained(Tls)), [Close(Tls), Adopt(Quic)]);
}

#[test]
fn quic_that_stalls_is_dead_and_both_are_tried_at_once() {
    let mut b = standard();
    b.up(Quic);
    b.pass(s(100));
    b.tell(Progress(Quic));
    assert_eq!(b.tell(Quiet(Quic)), [Close(Quic), Dial(Quic), Dial(Tls)]);
    assert_eq!(b.policy.adopted(), None);
}

#[test]
fn quic_that_dies_young_twice_lets_tcp_go_first() {
    let mut b = standard();
    b.up(Quic);
    b.pass(s(10));
    assert_eq!(b.tell(Quiet(Quic)), [Close(Quic), Dial(Quic), Dial(Tls)]);
    b.tell(Dialed(Quic));
    assert_eq!(b.tell(Connected(Quic)), [Abandon(Tls), Adopt(Quic)]);
    b.pass(s(10));
    assert_eq!(b.tell(Quiet(Quic)), [Close(Quic), Dial(Tls)]);
    // QUIC is the second contender now.
    assert_eq!(b.pass(s(1)), [(s(1), Dial(Quic))]);
}

#[test]
fn rebind_keeps_the_connection_and_a_lost_family_reconnects_at_once() {
    let mut b = standard();
    b.up(Quic);
    assert_eq!(b.tell(NetworkChanged), [Rebind(Quic)]);
    assert_eq!(b.policy.adopted(), Some(Quic));
    assert_eq!(b.tell(Lost(Quic, FailKind::Unreachable)), [Dial(Quic)]);
}

#[test]
fn the_back_off_grows_to_its_cap_is_remembered_and_ends() {
    let options = PolicyOptions { backoff_max: s(60), quic: false, ..PolicyOptions::default() };
    let mut longest = Duration::ZERO;
    for seed in 0..50 {
        let mut b = Bench::remembering(options, PolicyMemory::default(), seed);
        b.tell(Start);
        for attempt in 1..20u32 {
            b.tell(Failed(Tls, FailKind::Refused));
            let ceiling = s(1 << attempt.min(10)).min(s(60));
            longest = longest.max(b.until(&[Dial(Tls)], ceiling));
        }
        let memory = b.policy.memory(b.now);
        assert_eq!(memory.backoff_level, 19);
        // After a restart the pause goes on where it was.
        let mut again = Bench::remembering(options, memory, seed);
        assert_eq!(again.tell(Start), []);
        again.until(&[Dial(Tls)], s(60));
        again.tell(Dialed(Tls));
        again.tell(Connected(Tls));
        again.pass(s(31));
        again.tell(Progress(Tls));
        assert_eq!(again.policy.memory(again.now).backoff_level, 0);
        assert_eq!(again.tell(Lost(Tls, FailKind::Lost)), []);
        again.until(&[Dial(Tls)], s(1));
    }
    assert!(longest > s(50), "full jitter reaches up to the cap: {longest:?}");
    let huge = PolicyOptions { backoff_max: s(1_000_000), quic: false, ..PolicyOptions::default() };
    let memory = PolicyMemory { backoff_level: 255, ..PolicyMemory::default() };
    for seed in 0..200 {
        let mut b = Bench::remembering(huge, memory, seed);
        b.tell(Start);
        b.until(&[Dial(Tls)], s(3600));
    }
}

#[test]
fn a_connection_that_dies_young_does_not_reset_the_back_off() {
    let mut b = Bench::new(PolicyOptions { quic: false, ..PolicyOptions::default() });
    b.up(Tls);
    for level in 1..6 {
        b.pass(s(5));
        assert_eq!(b.tell(Lost(Tls, FailKind::Lost)), []);
        assert_eq!(b.policy.memory(b.now).backoff_level, level);
        b.until(&[Dial(Tls)], s(1 << level));
        b.tell(Dialed(Tls));
        b.tell(Connected(Tls));
    }
}

#[test]
fn server_busy_is_obeyed_whatever_happens() {
    for seed in 0..50 {
        let mut b = Bench::remembering(PolicyOptions::default(), PolicyMemory::default(), seed);
        b.tell(Start);
        b.tell(Dialed(Quic));
        assert_eq!(b.tell(Input::Busy { retry_after: s(100) }), [Abandon(Quic)]);
        assert_eq!(b.tell(NetworkChanged), []);
        assert_eq!(b.tell(Input::Urgent), []);
        let pause = b.until(&[Dial(Quic)], s(125));
        assert!(pause >= s(100), "{pause:?}");
        b.tell(Dialed(Quic));
        b.tell(Connected(Quic));
        assert_eq!(b.tell(Input::Busy { retry_after: s(1_000_000) }), [Close(Quic)]);
        b.until(&[Dial(Quic)], s(4500));
    }
}

#[test]
fn a_busy_answer_to_a_probe_keeps_the_connection_that_works() {
    let mut b = standard();
    b.up(Tls);
    b.until(&[Dial(Quic)], s(60));
    b.tell(Dialed(Quic));
    b.tell(Drained(Tls));
    assert_eq!(b.tell(Input::Busy { retry_after: s(300) }), [Abandon(Quic), Adopt(Tls)]);
    assert!(b.until(&[Dial(Quic)], s(400)) >= s(300));
}

#[test]
fn a_takeover_by_somebody_else_is_not_contested() {
    let mut b = standard();
    b.up(Quic);
    assert_eq!(b.tell(Lost(Quic, FailKind::TakenOver)), []);
    assert!(b.until(&[Dial(Quic)], s(60)) >= s(30));
}

#[test]
fn silence_that_kills_quic_shortens_the_keep_alive_on_this_network() {
    let mut b = standard();
    assert_eq!(b.policy.keep_alive(), s(25));
    b.up(Quic);
    b.tell(Progress(Quic));
    b.pass(s(30));
    b.tell(Quiet(Quic));
    assert_eq!(b.policy.keep_alive(), ms(12_500));
    for _ in 0..9 {
        b.tell(Failed(Tls, FailKind::Refused));
        b.tell(Dialed(Quic));
        b.tell(Connected(Quic));
        b.pass(s(70));
        b.tell(Quiet(Quic));
    }
    assert_eq!(b.policy.keep_alive(), s(5));
    b.tell(NetworkChanged);
    assert_eq!(b.policy.keep_alive(), s(25));
    // Death amid traffic says nothing about silence.
    b.tell(Dialed(Quic));
    b.tell(Connected(Quic));
    b.pass(s(100));
    b.tell(Progress(Quic));
    b.pass(s(6));
    b.tell(Quiet(Quic));
    assert_eq!(b.policy.keep_alive(), s(25));
}

fn burst() -> Bench {
    let mode = Mode::Burst { every: s(900), size_bytes: 1000, linger: s(2) };
    Bench::new(PolicyOptions { mode, ..PolicyOptions::default() })
}

#[test]
fn a_burst_connects_delivers_and_rests() {
    let mut b = burst();
    assert_eq!(b.tell(Start), [Dial(Quic)], "the first start wants the time and the watermark");
    b.tell(Input::Backlog { bytes: 5000 });
    b.tell(Dialed(Quic));
    b.tell(Connected(Quic));
    assert!(b.pass(s(100)).is_empty(), "as long as there is something to send");
    b.tell(Input::Backlog { bytes: 0 });
    b.tell(Input::Backlog { bytes: 0 });
    assert_eq!(b.until(&[Drain(Quic)], s(10)), s(2));
    assert_eq!(b.tell(Drained(Quic)), [Close(Quic)]);
    assert_eq!(b.policy.resting_until(), Some(b.now + s(900)));
    // By time.
    assert_eq!(b.until(&[Dial(Quic)], s(1000)), s(900));
    b.tell(Dialed(Quic));
    b.tell(Connected(Quic));
    assert_eq!(b.until(&[Drain(Quic)], s(10)), s(2));
    b.tell(Drained(Quic));
    // By size.
    assert_eq!(b.tell(Input::Backlog { bytes: 999 }), []);
    assert_eq!(b.tell(Input::Backlog { bytes: 1000 }), [Dial(Quic)]);
    b.tell(Dialed(Quic));
    b.tell(Connected(Quic));
    b.tell(Input::Backlog { bytes: 0 });
    b.until(&[Drain(Quic)], s(10));
    b.tell(Drained(Quic));
    // By an urgent lane.
    assert_eq!(b.tell(Input::Urgent), [Dial(Quic)]);
    // No probes of QUIC in a burst on TCP.
    b.tell(Failed(Quic, FailKind::Timeout));
    b.tell(Dialed(Tls));
    b.tell(Input::Backlog { bytes: 5 });
    b.tell(Connected(Tls));
    assert!(b.pass(s(800)).is_empty());
}

#[test]
fn an_alarm_does_not_wait_for_a_long_back_off() {
    let options = PolicyOptions { backoff_max: s(3600), ..PolicyOptions::default() };
    let memory = PolicyMemory { backoff_level: 20, ..PolicyMemory::default() };
    for seed in 0..100 {
        let mut b = Bench::remembering(options, memory, seed);
        b.tell(Start);
        b.tell(Input::Urgent);
        b.until(&[Dial(Quic)], s(32));
    }
}

#[test]
fn a_budget_ends_the_day_and_is_remembered() {
    let options = PolicyOptions { data_budget_bytes: Some(1000), ..PolicyOptions::default() };
    let mut b = Bench::new(options);
    b.up(Quic);
    assert_eq!(b.tell(Input::Spent { bytes: 600 }), []);
    b.pass(s(3600));
    assert_eq!(b.tell(Input::Spent { bytes: 400 }), [Drain(Quic)]);
    assert_eq!(b.tell(Drained(Quic)), [Close(Quic)]);
    assert_eq!(b.tell(Input::Urgent), []);
    assert_eq!(b.tell(NetworkChanged), []);
    let memory = b.policy.memory(b.now);
    assert_eq!((memory.budget_spent_bytes, memory.budget_left_s), (1000, 86_400 - 3600));
    assert_eq!(b.until(&[Dial(Quic)], s(90_000)), s(86_400 - 3600));

    let mut again = Bench::remembering(options, memory, 1);
    assert_eq!(again.tell(Start), []);
    assert_eq!(again.until(&[Dial(Quic)], s(90_000)), s(86_400 - 3600));
}

#[test]
fn a_stop_does_not_end_the_budget_s_day() {
    let mut b = Bench::new(PolicyOptions { data_budget_bytes: Some(1000), ..PolicyOptions::default() });
    b.up(Quic);
    b.tell(Input::Spent { bytes: 1000 });
    b.pass(s(3600));
    b.tell(Stop);
    let memory = b.policy.memory(b.now);
    assert_eq!((memory.budget_spent_bytes, memory.budget_left_s), (1000, 23 * 3600));
}

#[test]
fn stop_drains_within_half_a_second_from_every_state() {
    let mut b = standard();
    b.up(Quic);
    assert_eq!(b.tell(Stop), [Drain(Quic)]);
    assert_eq!(b.pass(s(1)), [(ms(500), Close(Quic))]);
    assert!(b.policy.is_stopped());

    let mut b = standard();
    b.tell(Start);
    b.pass(s(1));
    b.tell(Dialed(Tls));
    assert_eq!(b.tell(Stop), [Abandon(Quic), Abandon(Tls)]);
    assert!(b.policy.is_stopped());

    let mut b = standard();
    b.up(Tls);
    b.until(&[Dial(Quic)], s(60));
    b.tell(Dialed(Quic));
    assert_eq!(b.tell(Stop), [Abandon(Quic)]);
    assert_eq!(b.tell(Drained(Tls)), [Close(Tls)]);
    assert!(b.policy.is_stopped());
    assert_eq!(b.tell(Start), []);
    assert_eq!(b.policy.poll_timeout(), None);
}

#[test]
fn one_transport_alone_works() {
    let mut b = Bench::new(PolicyOptions { tcp: None, ..PolicyOptions::default() });
    assert_eq!(b.tell(Start), [Dial(Quic)]);
    assert!(b.pass(s(10)).is_empty());
    b.tell(Failed(Quic, FailKind::Timeout));
    b.until(&[Dial(Quic)], s(2));
    let mut b =
        Bench::new(PolicyOptions { quic: false, tcp: Some(Transport::Tcp), ..PolicyOptions::default() });
    assert_eq!(b.tell(Start), [Dial(Transport::Tcp)]);
    b.tell(Dialed(Transport::Tcp));
    assert_eq!(b.tell(Connected(Transport::Tcp)), [Adopt(Transport::Tcp)]);
    assert!(b.pass(s(3600)).is_empty(), "nothing to probe");
}

/// What a shell has, as it follows the actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    Nothing,
    Dialing,
    Dialed,
    Connecting,
    Up,
}

/// A shell and a world that does anything that a world may do.
struct World {
    bench: Bench,
    has: [Has; 2],
    /// Where frames go.
    sends_on: Option<Transport>,
    draining: Option<Transport>,
    busy_until: Mono,
    adoptions: u32,
    options: PolicyOptions,
}

impl World {
    fn at(t: Transport) -> usize {
        usize::from(t == Tls)
    }

    fn follow(&mut self, actions: Vec<Action>) {
        for action in actions {
            let t = match action {
                Dial(t) | Connect(t) | Abandon(t) | Adopt(t) | Drain(t) | Close(t) | Rebind(t) => t,
            };
            let i = Self::at(t);
            let has = self.has[i];
            match action {
                Dial(_) => {
                    assert_eq!(has, Has::Nothing, "dialed twice");
                    assert!(self.bench.now >= self.busy_until, "dialed although the server is busy");
                    self.has[i] = Has::Dialing;
                }
                Connect(_) => {
                    assert_eq!(has, Has::Dialed);
                    assert_ne!(self.has[1 - i], Has::Connecting, "two CONNECTs under way");
                    assert_eq!(self.sends_on, None, "CONNECT while the old one still sends");
                    self.has[i] = Has::Connecting;
                }
                Adopt(_) => {
                    assert_eq!(has, Has::Up);
                    assert_eq!(self.sends_on, None, "two adopted");
                    (self.sends_on, self.draining) = (Some(t), None);
                    self.adoptions += 1;
                }
                Drain(_) => {
                    assert_eq!(self.sends_on, Some(t));
                    (self.sends_on, self.draining) = (None, Some(t));
                }
                Rebind(_) => assert_eq!(has, Has::Up),
                Abandon(_) => {
                    assert!(matches!(has, Has::Dialing | Has::Dialed | Has::Connecting));
                    self.gone(t);
                }
                Close(_) => {
                    assert_eq!(has, Has::Up);
                    self.gone(t);
                }
            }
        }
    }

    fn gone(&mut self, t: Transport) {
        self.has[Self::at(t)] = Has::Nothing;
        self.sends_on = self.sends_on.filter(|s| *s != t);
        self.draining = self.draining.filter(|s| *s != t);
    }

    fn tell(&mut self, input: Input) {
        match input {
            Failed(t, _) | Lost(t, _) => self.gone(t),
            Dialed(t) => self.has[Self::at(t)] = Has::Dialed,
            Connected(t) => self.has[Self::at(t)] = Has::Up,
            Drained(_) => self.draining = None,
            _ => {}
        }
        let actions = self.bench.tell(input);
        self.follow(actions);
        self.check();
    }

    fn check(&self) {
        let now = self.bench.now;
        let policy = &self.bench.policy;
        let timer = policy.poll_timeout();
        let something = self.has.iter().any(|h| *h != Has::Nothing);
        if !policy.is_stopped() {
            assert!(something || timer.is_some(), "nothing will ever happen: {policy:?}");
        }
        // Something that waits for the other side has a timer, unless it is in use.
        if something && self.sends_on.is_none() {
            assert!(timer.is_some(), "hangs: {policy:?}");
        }
        if let Some(at) = timer {
            let furthest = if self.options.data_budget_bytes.is_some() { s(86_400) } else { s(4500) };
            assert!(at <= now + furthest, "a timer too far away");
        }
    }

    fn step(&mut self, rng: &mut fastrand::Rng) {
        let t = if rng.bool() { Quic } else { Tls };
        let kinds =
            [FailKind::Lost, FailKind::Stalled, FailKind::TakenOver, FailKind::Unreachable, FailKind::Tls];
        let kind = kinds[rng.usize(..kinds.len())];
        match (rng.u8(..16), self.has[Self::at(t)]) {
            (0..=4, _) => {
                let actions = {
                    let most = if rng.bool() { 2_000 } else { 200_000 };
                    self.bench.pass(ms(rng.u64(1..most)))
                };
                self.follow(actions.into_iter().map(|(_, a)| a).collect());
                self.check();
            }
            (5..=8, Has::Dialing) => self.tell(Dialed(t)),
            (5..=8, Has::Connecting) => self.tell(Connected(t)),
            (5..=8, Has::Up) if self.draining == Some(t) => self.tell(Drained(t)),
            (9, Has::Dialing | Has::Dialed | Has::Connecting) => self.tell(Failed(t, kind)),
            (9, Has::Up) => self.tell(Lost(t, kind)),
            (10, Has::Up) => self.tell(Quiet(t)),
            (11, _) => self.tell(NetworkChanged),
            (12, Has::Connecting | Has::Up) if rng.bool() => {
                let longest = if rng.bool() { 60 } else { 5000 };
                let retry_after = s(rng.u64(0..longest));
                let probed = self.sends_on.or(self.draining).is_some() || self.has.contains(&Has::Up);
                self.bench.policy.handle(self.bench.now, Input::Busy { retry_after });
                let actions = self.bench.actions();
                self.follow(actions);
                if !probed || self.has == [Has::Nothing; 2] {
                    self.busy_until = self.bench.now + retry_after.min(s(3600));
                }
                self.check();
            }
            (13, _) => self.tell(Input::Backlog { bytes: rng.u64(0..3) * 700 }),
            (14, _) => self.tell(Input::Urgent),
            (15, _) if self.has.contains(&Has::Up) => self.tell(Input::Spent { bytes: rng.u64(..200) }),
            (5, _) => self.tell(Progress(t)),
            _ => {}
        }
    }
}

fn walk(seed: u64) -> u32 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mode = if rng.bool() {
        Mode::Always
    } else {
        Mode::Burst { every: s(rng.u64(1..2000)), size_bytes: 1000, linger: s(rng.u64(..5)) }
    };
    let options = PolicyOptions {
        mode,
        backoff_max: s(rng.u64(1..7200)),
        data_budget_bytes: (rng.u8(..8) == 0).then_some(5000),
        ..PolicyOptions::default()
    };
    let memory = PolicyMemory { backoff_level: rng.u8(..25), ..PolicyMemory::default() };
    let bench = Bench::remembering(options, memory, rng.u64(..));
    let (has, busy_until) = ([Has::Nothing; 2], Mono(0));
    let mut w = World { bench, has, sends_on: None, draining: None, busy_until, adoptions: 0, options };
    w.tell(Start);
    for _ in 0..400 {
        w.step(&mut rng);
    }
    // The world is well again: within the longest pause there is a connection.
    let mut rounds = 0;
    let before = w.adoptions;
    w.tell(Input::Backlog { bytes: 5000 });
    while w.sends_on.is_none() && w.adoptions == before {
        rounds += 1;
        assert!(rounds < 500, "seed {seed}: never connects again: {:?}", w.bench.policy);
        for t in [Quic, Tls] {
            match w.has[World::at(t)] {
                Has::Dialing => w.tell(Dialed(t)),
                Has::Connecting => w.tell(Connected(t)),
                Has::Up if w.draining == Some(t) => w.tell(Drained(t)),
                _ => {}
            }
        }
        // While something is asked it is answered soon; else the next timer is waited for.
        let idle = w.has == [Has::Nothing; 2];
        let next = w.bench.policy.poll_timeout().filter(|_| idle);
        let span = next.map_or(ms(100), |at| at.since(w.bench.now));
        let actions = w.bench.pass(span);
        w.follow(actions.into_iter().map(|(_, a)| a).collect());
    }
    w.tell(Stop);
    let actions = w.bench.pass(ms(500));
    w.follow(actions.into_iter().map(|(_, a)| a).collect());
    assert!(w.bench.policy.is_stopped());
    assert_eq!(w.has, [Has::Nothing; 2], "seed {seed}");
    w.adoptions
}

#[test]
fn a_random_world_never_breaks_the_invariants() {
    let adoptions: u32 = (0..3000).map(walk).sum();
    // The walk is not idle.
    assert!(adoptions > 10_000, "{adoptions}");
}
